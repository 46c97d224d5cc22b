"""What a record lacks to be published: nothing of a complete one, and a sentence for each thing that is taken away."""

import dataclasses
import shlex

import generated_suite
import pytest

from pytest_quantbench.cli.main import main
from pytest_quantbench.engines.accelerator import Accelerator
from pytest_quantbench.judge.verdict import Look
from pytest_quantbench.record.candidate_schema import CandidateFile
from pytest_quantbench.record.completeness import command, missing
from pytest_quantbench.record.publication_schema import Cost

GPU = Accelerator(name="A GPU", driver="1", memory_gb=80.0, clock_mhz=1.0, most_clock_mhz=2.0, memory_clock_mhz=3.0)
COST = Cost(price_per_hour=2.0, currency="EUR", per_million_tokens=None, compression=0.1)


@pytest.fixture(scope="module")
def generated():
    return generated_suite.records(1, ("int4-gptq", "int4"))


def completed(record):
    """With all that a publication asks for."""
    looks = (look(last=False),)
    return dataclasses.replace(
        record,
        accelerator=GPU,
        cost=COST,
        recipe_parameters={"gptq.bits": "4"},
        throughput=dataclasses.replace(record.throughput, process_peak_gb=1.0, process_peak_since="measure"),
        verdicts=tuple(dataclasses.replace(verdict, looks=looks) for verdict in record.verdicts),
    )


def look(last):
    return Look(items=1, fraction=1.0, alpha=0.05, estimate=0.0, low=0.0, high=0.0, outcome="pass", last=last)


@pytest.fixture
def reference(generated):
    return completed(generated[0])


@pytest.fixture
def cell(generated):
    return completed(generated[1])


def without(record, **parts):
    """The record with fields of its parts changed: `part__field=value`, or a part itself."""
    for name, value in parts.items():
        part, _, field = name.partition("__")
        changed = dataclasses.replace(getattr(record, part), **{field: value}) if field else value
        record = dataclasses.replace(record, **{part: changed})
    return record


def test_a_complete_record_lacks_nothing(reference, cell):
    assert missing(reference) == []
    assert missing(cell) == []


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"facts": None}, "Parameters and architecture"),
        ({"facts__architecture": ""}, "The architecture"),
        ({"revision": None}, "`--model OWNER/NAME`"),
        ({"weights_sha256": None}, "-m 't2 or t3' "),
        ({"recipe_parameters": {}}, "parameters of the quantizers"),
        ({"compression__calibration": None}, "The calibration text, without which gptq encoded"),
        ({"throughput__runs": 1}, "`--runs 3`"),
        ({"throughput__gap_sec": {}}, "Times between tokens"),
        ({"throughput__process_peak_gb": None}, "memory of the process"),
        ({"throughput__ratio_suppressed": "the machine slept"}, "The speed ratio, since the machine slept"),
        ({"perplexity": None}, "The figures of perplexity: "),
        ({"accuracy": None}, "-m t3 "),
        ({"weights": None}, "-m weights "),
        ({"machine__versions": {}}, "versions of the software"),
        ({"accelerator": None}, "`nvidia-smi` can be run"),
        ({"accelerator__clock_mhz": None, "accelerator__driver": None}, "accelerator's driver and clocks"),
        ({"cost": None}, "`--price-per-hour X`"),
    ],
)
def test_what_is_taken_away_is_told_by_one_sentence_with_the_way_out(changes, told, cell):
    (sentence,) = missing(without(cell, **changes))
    assert told in sentence
    assert sentence.endswith(".")
    assert "`" in sentence


def test_a_check_that_could_not_go_on_is_told_and_one_of_a_whole_text_is_not(cell):
    once = without(
        cell,
        verdicts=tuple(dataclasses.replace(verdict, looks=(look(last=True),)) for verdict in cell.verdicts),
    )
    found = missing(once)
    assert [sentence.split(":")[0] for sentence in found] == [
        "More than one look at the perplexity delta vs BF16",
        "More than one look at the accuracy drop",
    ]
    assert all("`--fixed`" in sentence for sentence in found)
    whole = without(once, perplexity__windows=9, perplexity__text_windows=9)
    assert len(missing(whole)) == 1
    unjudged = without(once, verdicts=tuple(dataclasses.replace(v, limit=None) for v in once.verdicts))
    assert missing(unjudged) == []


def test_t1_that_was_not_judged_is_told_with_the_reason(cell):
    def told(**changes):
        speeds = [dataclasses.replace(v, **changes) if v.metric == "throughput_ratio" else v for v in cell.verdicts]
        return missing(without(cell, verdicts=tuple(speeds)))

    (sentence,) = told(outcome="informational", not_judged="bound by overhead")
    assert "(it was not judged: bound by overhead)" in sentence
    (unlimited,) = told(outcome="informational")
    assert "`--min-speedup X`" in unlimited
    assert told(outcome="fail") == []


def test_a_reference_lacks_its_noise_floor_and_no_verdict(reference):
    (sentence,) = missing(without(reference, noise_floor=None))
    assert sentence.startswith("The noise floor: `quantbench run")
    (partly,) = missing(without(reference, noise_floor__drop_points=None))
    assert partly == sentence
    bare = without(reference, recipe_parameters={}, verdicts=(), weights=None, compression__calibration=None)
    assert missing(bare) == []


def test_a_cpu_has_no_accelerator_and_macos_tells_no_clocks(cell):
    assert missing(without(cell, machine__backend="cpu", accelerator=None)) == []
    metal = without(cell, machine__backend="metal", accelerator=Accelerator(name="Apple M3"))
    assert missing(metal) == []
    (sentence,) = missing(without(metal, accelerator=None))
    assert "`system_profiler` can be run" in sentence


def test_a_record_of_nothing_lacks_everything_once(cell):
    parts = ("throughput", "perplexity", "accuracy", "weights", "compression", "facts", "machine", "accelerator")
    bare = without(cell, **dict.fromkeys(parts), verdicts=(), weights_sha256=None, cost=None, revision=None)
    found = missing(bare)
    assert len(found) == len(set(found)) == 10


def test_commands_name_what_the_catalogue_does_not_have(cell):
    assert command(cell, "t1") == f"`quantbench run -k {cell.model_id}-int4-gptq -m t1 --recipe int4-gptq`"
    own = without(cell, model_id="my model", source="/some where/model", recipe="int4")
    words = shlex.split(command(own).strip("`"))
    assert words == ["quantbench", "run", "-k", "my model-int4", "--model", "/some where/model"]
    theirs = without(cell, recipe="theirs", candidate=candidate())
    assert "--candidate theirs=file.gguf" in command(theirs)
    assert "--recipe" not in command(theirs)
    assert missing(without(theirs, recipe_parameters={}, compression__calibration=None)) == []


def candidate():
    return CandidateFile(
        name="theirs",
        source="file.gguf",
        format="gguf",
        files={},
        stored_bits_per_weight=4.5,
        base_model=None,
        own_config=False,
        compared_tokens=None,
        median_cosine=1.0,
        least_cosine=1.0,
        least_cosine_tensor="a",
        differences=(),
    )


def test_a_method_that_is_not_installed_here_is_not_asked_for_its_text(cell):
    gone = without(cell, recipe="int4-nowhere.to.be:Found", compression__calibration=None)
    assert missing(gone) == []


def test_the_command_line_prints_it_cell_by_cell_and_says_so_by_its_exit_code(cell, reference, tmp_path, capsys):
    generated_suite.write(tmp_path, [(cell, {}), (reference, {})])
    assert main(["report", str(tmp_path), "--complete"]) == 0
    name = cell.model_id
    assert capsys.readouterr().out.splitlines() == [f"{name}-bf16: complete", f"{name}-int4-gptq: complete"]
    generated_suite.write(tmp_path, [(without(cell, facts=None, machine__os="another"), {})])
    before = {path.name for path in tmp_path.iterdir()}
    assert main(["report", str(tmp_path), "--complete"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[1] == f"{name}-int4-gptq: lacks 1"
    assert lines[2].startswith("Parameters and architecture of the model: `quantbench run")
    assert {path.name for path in tmp_path.iterdir()} == before  # nothing is written
