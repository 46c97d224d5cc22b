import json
from contextlib import ExitStack
from types import SimpleNamespace

import pytest
from gates import BENCHES, GATE
from mlx_models import as_mlx

from pytest_quantbench.errors import ModelError, QuantbenchError
from pytest_quantbench.plugin import candidates

LISTED = ("--collect-only", "-q")


def cells(result):
    """The ids that a listing has, in its order."""
    return [line.partition("[")[2].rstrip("]") for line in result.outlines if "::" in line]


@pytest.fixture
def original(small_model):
    """A small random model, which candidates are made of."""
    return small_model()


@pytest.fixture
def q4(original, tmp_path):
    return as_mlx(original, tmp_path / "q4", bits=4)


@pytest.fixture
def q8(original, tmp_path):
    return as_mlx(original, tmp_path / "q8", bits=8)


def test_a_session_is_over_one_model_its_candidates_and_the_recipes_that_are_named(suite, original, q4, q8):
    given = ("--model", str(original), "--candidate", str(q8), "--candidate", f"four={q4}")
    names = ["bf16", "q8", "four"]
    assert cells(suite(GATE, *given, *LISTED)) == [f"{original.name}-{name}" for name in names]
    more = ("--recipe", "int4-rtn", "--recipe", "int2")
    assert cells(suite(GATE, *given, *more, *LISTED)) == [
        f"{original.name}-{name}" for name in [*names, "int4-rtn", "int2"]
    ]
    for choice in (("-k", "four"), ("-m", "int4")):
        assert cells(suite(GATE, *given, *choice, *LISTED)) == [f"{original.name}-four"]
    assert cells(suite(GATE, *given, "-m", "int8", *LISTED)) == [f"{original.name}-q8"]


def test_the_header_says_what_each_is_and_what_it_is_judged_as(suite, original, q4, q8):
    given = ("--model", str(original), "--candidate", str(q4), "--candidate", str(q8), "--collect-only")
    result = suite(GATE, *given)
    result.stdout.fnmatch_lines(
        [
            "quantbench: candidate q4: MLX, 4.50 bits per weight in its layers: judged as int4",
            "quantbench: candidate q8: MLX, 8.50 bits per weight in its layers: measured, without a limit, as int8",
        ]
    )
    result = suite(GATE, *given, "--max-ppl-delta", "0.5")
    result.stdout.fnmatch_lines(["quantbench: candidate q8: MLX, 8.50 bits per weight in its layers: judged as int8"])


def test_models_of_the_catalogue_are_named_as_there(suite, q4):
    listed = cells(suite(GATE, "--model", "Tiny", "--candidate", str(q4), *LISTED))
    assert listed == ["Tiny-bf16", "Tiny-q4"]


def test_the_catalogue_is_no_obstacle_for_an_original_that_is_called_like_one_of_it(suite, small_model, q4):
    mine = small_model(seed=1)
    mine = mine.rename(mine.parent / "Tiny")
    assert cells(suite(GATE, "--model", str(mine), "--candidate", str(q4), *LISTED)) == ["Tiny-bf16", "Tiny-q4"]


@pytest.mark.parametrize(
    ("models", "told"),
    [
        ((), "Give the original that q4 was made from with --qb-model PATH_OR_HUB_ID."),
        (("Tiny", "phi-4"), "there are 2: Tiny, phi-4. Give one --qb-model, and run again for others."),
        (("nowhere",), "--qb-model 'nowhere' is neither an existing directory nor a Hub id"),
        (("/nowhere",), "--qb-model /nowhere: there is no such directory."),
    ],
)
def test_an_original_is_asked_for(suite, q4, models, told, monkeypatch):
    monkeypatch.delenv("PYTEST_PLUGINS")
    named = [word for model in models for word in ("--qb-model", model)]
    result = suite(GATE, "--qb-candidate", str(q4), *named)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert told in result.stderr.str()


def test_the_original_that_files_name_is_proposed(suite, q4):
    (q4 / "README.md").write_text("---\nbase_model:\n- someone/thing-1B\n---\nA model.\n")
    result = suite(GATE, "--candidate", str(q4))
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert "Give the original with --model someone/thing-1B: q4 names it as its base model." in result.stderr.str()


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("/nowhere/q4.gguf", "/nowhere/q4.gguf: there is no such file or directory."),
        ("q4=", "--candidate q4=: give NAME=SOURCE"),
        ("int4={q4}", "A candidate cannot be called int4, which a recipe is. Name it with --candidate NAME={q4}."),
        ("bf16-mine={q4}", "A candidate cannot be called bf16-mine, which a recipe is."),
        (".", "is in no format that is read here. These are: "),
    ],
)
def test_what_is_no_candidate_is_a_usage_error(suite, original, q4, source, told):
    result = suite(GATE, "--model", str(original), "--candidate", source.format(q4=q4))
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert told.format(q4=q4) in result.stderr.str()


def test_two_of_one_name_are_told_apart_by_whoever_gives_them(suite, original, q4, tmp_path):
    other = as_mlx(original, tmp_path / "other" / "Q4", bits=2)
    result = suite(GATE, "--model", str(original), "--candidate", str(q4), "--candidate", str(other))
    assert f"Two candidates are called Q4, {q4} and {other}. Name one of them with" in result.stderr.str()
    given = ("--model", str(original), "--candidate", str(q4), "--candidate", f"mine={other}")
    assert cells(suite(GATE, *given, *LISTED))[1:] == [f"{original.name}-q4", f"{original.name}-mine"]


def test_a_candidate_is_judged_whatever_a_disk_plan_has_room_for(suite, original, q8):
    given = ("--model", str(original), "--candidate", str(q8), "--recipe", "int8", "--disk-plan", "C", *LISTED)
    assert cells(suite(GATE, *given)) == [f"{original.name}-bf16", f"{original.name}-q8"]


def test_the_suite_of_the_package_leaves_methods_alone(suite, original, q4):
    given = ("--model", str(original), "--candidate", str(q4), *LISTED)
    result = suite("", str(BENCHES), *given)
    items = [line for line in result.outlines if "::" in line]
    assert any("test_perplexity[" in line and line.endswith("-q4]") for line in items)
    assert any("test_models_meeting_all_criteria[q4]" in line for line in items)
    assert not [line for line in items if "test_codec" in line]
    assert [line for line in suite("", str(BENCHES), *LISTED).outlines if "test_codec" in line]


def test_a_marker_names_candidates_too(suite, original, q4):
    source = GATE.replace("@pytest.mark.size", "@pytest.mark.quantbench(recipes=['q4', 'int3'])")
    listed = cells(suite(source, "--model", str(original), "--candidate", str(q4), *LISTED))
    assert listed == [f"{original.name}-q4", f"{original.name}-int3"]


def test_a_name_of_nothing_printable_is_asked_for(original, tmp_path):
    with pytest.raises(QuantbenchError, match=r"cannot be called ''.*Name it with --candidate NAME="):
        candidates.open_all(
            [(None, str(as_mlx(original, tmp_path / "模型", bits=4)))], offline=True, working=ExitStack()
        )


def test_bits_are_those_of_decoder_layers(original, tmp_path):
    """Embeddings and head of 8 bits make no int8 of 4 bits in every layer, and the other way round."""
    mixed = as_mlx(original, tmp_path / "mixed", bits=4, others={"embed_tokens": 8, "lm_head": 8})
    (found,) = candidates.open_all([(None, str(mixed))], offline=True, working=ExitStack())
    assert (found.recipe.level, found.bits_per_weight) == ("int4", 4.5)


def test_a_damaged_candidate_is_refused_at_once(original, q4):
    config = json.loads((q4 / "config.json").read_text())
    config["quantization"]["bits"] = 7
    (q4 / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match=r"config\.json says .*7.* of .*MLX has affine"):
        candidates.open_all([(None, str(q4))], offline=True, working=ExitStack())


def test_limits_for_a_name_that_no_candidate_has_are_told(suite, pytester, original, q4):
    pytester.makepyprojecttoml("[tool.quantbench.candidates.q5]\nperplexity_delta = 0.1")
    result = suite(GATE, "--model", str(original), "--candidate", str(q4), "--collect-only")
    result.stdout.fnmatch_lines(["quantbench: [[]tool.quantbench.candidates.q5[]] is of none of them"])


def test_an_original_is_told_by_where_it_was_asked_for():
    holding = SimpleNamespace(claims=lambda: SimpleNamespace(base_model=None))
    each = SimpleNamespace(holding=holding, path=SimpleNamespace(name="q4.gguf"))
    with pytest.raises(QuantbenchError, match=r"that q4\.gguf was made from with --reference PATH_OR_HUB_ID"):
        candidates.reference_of([each], [], "--reference")


def test_limits_come_from_the_table_and_options_overrule_it(suite, pytester, original, q4):
    pytester.makepyprojecttoml("""
        [tool.quantbench.criteria.int4]
        perplexity_delta = 0.1
        accuracy_drop_points = 0.2
        [tool.quantbench.candidates]
        accuracy_drop_points = 0.3
        [tool.quantbench.candidates.q4]
        size_reduction_percent = 99.0
    """)
    source = """
        def test_limits(cell):
            metrics = ("perplexity_delta", "accuracy_drop_points", "size_reduction_percent")
            print("LIMITS", *map(cell.limit, metrics))
    """
    given = ("--model", str(original), "--candidate", str(q4), "--recipe", "int4", "-k", "int4 or q4", "-s")
    result = suite(source, *given)
    assert [line.partition("LIMITS ")[2] for line in result.outlines if "LIMITS" in line] == [
        "0.1 0.3 99.0",
        "0.1 0.2 70.0",
    ]
    result = suite(source, *given, "--max-ppl-delta", "0.5", "--max-accuracy-drop", "2")
    assert [line.partition("LIMITS ")[2] for line in result.outlines if "LIMITS" in line] == [
        "0.5 2.0 99.0",
        "0.5 2.0 70.0",
    ]


@pytest.mark.slow
def test_workers_of_xdist_have_the_same_candidates(pytester, original, q4):
    pytester.makepyfile(GATE)
    given = ("--model", str(original), "--candidate", f"mine={q4}", "-n", "2", "--dist", "loadgroup", "-W", "ignore")
    result = pytester.runpytest_subprocess(*given, "-p", "no:cacheprovider", "-v")
    result.stdout.fnmatch_lines(
        [
            "quantbench: candidate mine: MLX, 4.50 bits per weight in its layers: judged as int4",
            f"*PASSED*test_size[[]{original.name}-mine[]]*",
            f"{original.name}-mine is undecided: it meets the one criterion that was judged (size).",
        ]
    )
    assert result.parseoutcomes()["passed"] == 2


def test_a_session_judges_a_candidate_and_writes_its_record(suite, pytester, original, q4):
    given = ("--model", str(original), "--candidate", str(q4), "-k", "q4", "--results", "out")
    suite(GATE, *given).assert_outcomes(passed=1)
    record = json.loads((pytester.path / "out" / f"{original.name}_candidate_q4.json").read_text())
    assert (record["recipe"], record["level"], record["verdicts"][0]["limit"]) == ("q4", "int4", 70.0)
    assert 4.5 <= record["compression"]["bits_per_weight"] < 4.7
