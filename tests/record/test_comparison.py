"""What of two records is paired with what, on records with raw samples that hang together."""

from dataclasses import replace

import numpy as np
import pytest
from generated_suite import MACHINE, cells

from pytest_quantbench.errors import UnknownNameError
from pytest_quantbench.judge.change import settle
from pytest_quantbench.record import comparison, pairing, text_comparison
from pytest_quantbench.record.pairing import Measured
from pytest_quantbench.record.raw import as_bytes
from pytest_quantbench.record.schema import NoiseFloor
from pytest_quantbench.stats import series
from pytest_quantbench.stats.proportions import flips

FLOOR = NoiseFloor(perplexity_points=0.004, kl_nats=1e-4, drop_points=0.0, flipped_points=0.5)


@pytest.fixture(scope="module")
def suite():
    """Of one model: bf16, int8 and int4, by recipe."""
    found = cells(models=1, recipes=("int8", "int4"))
    return {record.recipe: Measured(record=record, arrays=dict(arrays)) for record, arrays in found}


@pytest.fixture
def base(suite):
    return suite["int4"]


def changed(each, arrays=None, **fields):
    """The same cell with other fields, or other samples."""
    return Measured(record=replace(each.record, **fields), arrays={**each.arrays, **(arrays or {})})


def pair(base, new, metric, of="", **more):
    (found,) = [each for each in comparison.pairs(base, new, **more) if (each.metric, each.of) == (metric, of)]
    return found


def test_the_same_samples_are_identical_in_every_figure(base):
    found = settle(comparison.pairs(base, base, FLOOR))
    assert {change.word for change in found} == {"identical"}
    assert {change.metric for change in found} == {"size", "perplexity", "kl", "accuracy", "throughput"}
    assert all(change.low == change.high == change.estimate for change in found)


def test_losses_are_paired_token_by_token(base, suite):
    new = changed(base, suite["int8"].arrays)
    found = pair(base, new, "perplexity")
    before, after = base.arrays["perplexity/nll_nats"], new.arrays["perplexity/nll_nats"]
    expected, _ = series.perplexity_delta(before, after)
    assert found.estimate.interval() == expected.interval()
    assert (found.base, found.new) == (series.perplexity(before), series.perplexity(after))
    assert found.items == len(before)


def test_only_the_first_tokens_that_both_have_are_compared(base):
    more = changed(base, {name: each[:1000] for name, each in base.arrays.items() if name.startswith("perplexity/")})
    assert pair(base, more, "perplexity").identical
    assert pair(more, base, "perplexity").items == 1000


def windowed(each, begins, counts, values):
    names = ("perplexity/window_begins", "perplexity/window_counts", "perplexity/nll_nats")
    arrays = dict(zip(names, map(np.asarray, (begins, counts, values)), strict=True))
    text = replace(each.record.perplexity, text_windows=50, block_tokens=2)
    kept = {name: array for name, array in each.arrays.items() if not name.startswith("perplexity/")}
    return Measured(record=replace(each.record, perplexity=text), arrays=kept | arrays)


def test_windows_are_matched_by_where_they_begin_whatever_their_order(base):
    one = windowed(base, [40, 0, 20, 60], [2, 2, 2, 2], np.float32([1, 2, 3, 4, 5, 6, 7, 8]))
    two = windowed(base, [60, 10, 40, 0], [2, 2, 2, 2], np.float32([70, 80, 0, 0, 10, 20, 30, 40]))
    found = pairing.common_tokens(one, two, "perplexity", (one.record.perplexity, two.record.perplexity))
    assert one.arrays["perplexity/nll_nats"][found.base].tolist() == [1, 2, 3, 4, 7, 8]
    assert two.arrays["perplexity/nll_nats"][found.new].tolist() == [10, 20, 30, 40, 70, 80]
    assert (found.drawn.population, found.drawn.begins.tolist()) == (50, [40, 0, 60])


def test_windows_of_which_none_is_shared_or_of_other_lengths_are_not_compared(base):
    one, two = (windowed(base, begins, [2, 2], np.float32([1, 2, 3, 4])) for begins in ([0, 2], [4, 6]))
    assert "no window of the text in common" in pair(one, two, "perplexity").why
    longer = windowed(base, [0, 2], [3, 3], np.float32([1, 2, 3, 4, 5, 6]))
    assert "no window of the text in common" in pair(one, longer, "perplexity").why


def test_questions_are_paired_by_their_prompts_in_whatever_order(base):
    turned = {
        name: each[::-1]
        for name, each in base.arrays.items()
        if name.startswith("accuracy/arc_easy/") and name.rpartition("/")[2] in ("ids", "hashes", "correct", "texts")
    }
    wrong = changed(base, turned)
    right = base.arrays["accuracy/arc_easy/correct"]
    assert pair(base, wrong, "accuracy", "arc_easy").estimate == flips(right, right)
    fewer = {name: each[:50] for name, each in turned.items()}
    assert pair(base, changed(base, fewer), "accuracy", "arc_easy").items == 50


def test_questions_of_one_source_widen_the_interval(base):
    right = base.arrays["accuracy/arc_easy/correct"]
    lost = right.copy()
    lost[:20] = False
    sources = {"accuracy/arc_easy/clusters": np.array([f"s{place // 20}" for place in range(len(right))])}
    new = changed(base, {"accuracy/arc_easy/correct": lost})
    alone = pair(base, new, "accuracy", "arc_easy").estimate
    together = pair(changed(base, sources), changed(new, sources), "accuracy", "arc_easy").estimate
    assert together.design_effect > 3
    assert alone.design_effect == 1


def test_a_record_that_does_not_tell_its_sources_is_not_compared(base):
    tasks = {name: replace(task, clusters=10) for name, task in base.record.accuracy.tasks.items()}
    old = changed(base, accuracy=replace(base.record.accuracy, tasks=tasks))
    old.arrays.pop("accuracy/arc_easy/clusters", None)
    assert pair(old, base, "accuracy", "arc_easy").why == comparison.NO_SOURCES


def test_other_versions_of_an_engine_are_compared(base):
    newer = changed(base, machine=replace(MACHINE, versions={"mlx": "99"}))
    assert pairing.other_engine(base.record, newer.record) == pairing.other_reading(base.record, newer.record) == ""


def with_protocol(each, **fields):
    return replace(each.record.perplexity, protocol_sha256="other", **fields)


@pytest.mark.parametrize(
    ("fields", "metric", "told"),
    [
        ({"source_sha256": "bb"}, "size", "different originals (weights aa and bb)"),
        ({"source_sha256": "bb"}, "perplexity", "different originals"),
        ({"seed": 1}, "perplexity", "by the seeds 0 and 1: run one of them again with --sample-seed"),
        ({"seed": 1}, "accuracy", "by the seeds 0 and 1"),
        ({"machine": replace(MACHINE, backend="metal")}, "perplexity", "engines (MLX on cuda, and MLX on metal)"),
        ({"machine": replace(MACHINE, backend="metal")}, "throughput", "different engines"),
        (
            {"machine": replace(MACHINE, engine="torch", versions={"torch": "2.13.0"})},
            "accuracy",
            "(MLX on cuda, and PyTorch on cuda): run one again as the other, with --engine mlx --activations float32.",
        ),
        (
            {"machine": replace(MACHINE, engine="torch", activations="bfloat16")},
            "throughput",
            "different engines (MLX on cuda, and PyTorch on cuda with bfloat16 activations)",
        ),
        (
            {"machine": replace(MACHINE, activations="bfloat16")},
            "perplexity",
            "(MLX on cuda, and MLX on cuda with bfloat16 activations): run one again as the other, with --engine mlx",
        ),
        ({"machine": replace(MACHINE, engine="own")}, "perplexity", "different engines (MLX on cuda, and own on cuda)"),
        ({"machine": replace(MACHINE, chip="B Chip")}, "throughput", "different chips (A Chip, B Chip)"),
        ({"machine": replace(MACHINE, threads=4)}, "throughput", "different numbers of threads (None, 4)"),
        ({"machine": replace(MACHINE, device="L4")}, "throughput", "different accelerators (, L4)"),
        ({"machine": replace(MACHINE, cores=4)}, "throughput", "different numbers of cores (8, 4)"),
        ({"machine": None}, "perplexity", "does not say what it ran on"),
        ({"accuracy": None}, "accuracy", pairing.MISSING),
        ({"perplexity": None}, "perplexity", pairing.MISSING),
        ({"throughput": None}, "throughput", pairing.MISSING),
    ],
)
def test_what_may_not_be_compared_is_not_and_a_sentence_says_why(base, fields, metric, told):
    found = [each for each in comparison.pairs(base, changed(base, **fields)) if each.metric == metric]
    assert found
    for each in found:
        if not each.identical:
            assert told in each.why
    assert not any(each.counts for each in found)


def test_what_another_machine_changes_keeps_losses_and_answers_comparable(base):
    elsewhere = changed(base, machine=replace(MACHINE, chip="B Chip", os="Linux 7", versions={"python": "3.13"}))
    assert pair(base, elsewhere, "perplexity").identical
    assert pair(base, elsewhere, "accuracy", "arc_easy").identical


def test_texts_and_protocols_that_differ_are_told_apart(base):
    text = with_protocol(base, corpus="c4", corpus_sha256="x")
    assert "different texts (wikitext2, c4)" in pair(base, changed(base, perplexity=text), "perplexity").why
    other = with_protocol(base, protocol="windows of 9")
    assert "read the text otherwise (p; windows of 9)" in pair(base, changed(base, perplexity=other), "perplexity").why


def test_a_text_is_matched_by_its_content_whichever_of_them_is_read_first(base):
    """Of two texts, the second of one run is the first of the other."""
    text, rng = base.record.perplexity, np.random.default_rng(2)
    second = replace(text, corpus="plain", corpus_sha256="p", protocol_sha256="of plain")
    losses = {name: each for name, each in base.arrays.items() if name.startswith("perplexity/")}
    plain = {name: rng.permutation(each) for name, each in losses.items()}

    def beside(name, arrays):
        return {f"perplexity/{name}/{key.rpartition('/')[2]}": each for key, each in arrays.items()}

    one = changed(base, beside("plain", plain), perplexities={"plain": second})
    worse = {**losses, "perplexity/nll_nats": losses["perplexity/nll_nats"] * np.float32(1.2)}
    other = changed(base, plain | beside("wikitext2", worse), perplexity=second, perplexities={"wikitext2": text})
    found = settle([each for each in comparison.pairs(one, other) if each.metric in ("perplexity", "kl")])
    assert {(each.metric, each.of): each.word for each in found} == {
        ("perplexity", "wikitext2"): "regression",
        ("kl", "wikitext2"): "identical",
        ("perplexity", "plain"): "identical",
        ("kl", "plain"): "identical",
    }


def test_versions_of_a_task_and_other_prompts_are_not_compared(base):
    tasks = {name: replace(task, version="2") for name, task in base.record.accuracy.tasks.items()}
    newer = changed(base, accuracy=replace(base.record.accuracy, tasks=tasks))
    assert "of versions 1 and 2 of the task" in pair(base, newer, "accuracy", "arc_easy").why
    prompts = {"accuracy/arc_easy/hashes": np.array(["other"] * 200)}
    assert "no question in common" in pair(base, changed(base, prompts), "accuracy", "arc_easy").why


def test_lost_samples_are_named(base):
    bare = Measured(record=base.record, arrays={})
    found = comparison.pairs(base, bare)
    assert all("raw samples of" in each.why for each in found if each.metric in ("perplexity", "accuracy"))
    assert pair(base, bare, "size").identical


def faster(each, factor, probes=(100.0, 100.0)):
    rates = each.arrays["throughput/tokens_per_second"] * factor
    return changed(each, {"throughput/tokens_per_second": rates, "throughput/probes_per_second": np.array(probes)})


def test_rates_are_compared_by_prompt_where_the_machine_was_as_fast(base):
    rng = np.random.default_rng(0)
    before = faster(base, 1.0)
    slower = faster(base, 0.8 * rng.normal(1, 0.01, len(base.arrays["throughput/prompt"])))
    (change,) = settle([pair(before, slower, "throughput")])
    assert change.word == "regression"
    assert change.estimate == pytest.approx(0.8, rel=0.02)
    drifted = pair(before, faster(base, 0.8, probes=(100, 110)), "throughput")
    assert "the machine's own speed changed by 10%" in drifted.why
    unknown = changed(base, {"throughput/tokens_per_second": base.arrays["throughput/tokens_per_second"] * 2})
    unknown.arrays.pop("throughput/probes_per_second", None)
    assert "does not tell how fast the machine itself was" in pair(before, unknown, "throughput").why


def test_rates_of_kernels_that_nobody_deploys_are_told_and_not_judged(base):
    machine = replace(MACHINE, judges_speed=False)
    one, two = (changed(faster(base, np.linspace(f, f + 0.1, 15)), machine=machine) for f in (1.0, 0.5))
    (change,) = settle([pair(one, two, "throughput")])
    assert change.word == "not judged"
    assert "on kernels that nobody deploys" in change.sentence


def test_runs_of_other_lengths_are_not_compared(base):
    shorter = faster(base, 1.1)
    shorter.arrays["throughput/latencies_seconds"] = shorter.arrays["throughput/latencies_seconds"][:, :9]
    assert "wrote 100 and 10 tokens" in pair(faster(base, 1.0), shorter, "throughput").why


def test_runs_of_other_prompts_are_not_compared(base):
    """Of as many tokens, and as many of them: a prompt's number says nothing of what it asks."""
    one, two, unknown = faster(base, 1.0), faster(base, 1.1), faster(base, 1.1)
    one.arrays["throughput/prompts"] = as_bytes(["short"] * 5)
    two.arrays["throughput/prompts"] = as_bytes(["a very long one"] * 5)
    found = pair(one, two, "throughput")
    assert found.why.startswith("they went on from different prompts")
    assert found.estimate is None
    two.arrays["throughput/prompts"] = one.arrays["throughput/prompts"]
    unknown.arrays.pop("throughput/prompts", None)
    assert not any("prompts:" in pair(one, other, "throughput").why for other in (two, unknown))


@pytest.mark.parametrize(
    ("name", "seen", "told"),
    [
        ("read_bytes_per_second", [10e9] * 8 + [6e9] * 8, "memory was read at 6 to 10 GB/s meanwhile"),
        ("processors_had", [0.5] * 15, "only 50% of the processors' time that its threads ask for was to be had"),
        ("cpu_share", [0.99, 0.99, 0.5] * 5, "of the processors' time that is usual for them"),
    ],
)
def test_what_else_the_machine_did_leaves_rates_uncompared_as_in_t1(base, name, seen, told):
    quiet = changed(faster(base, np.linspace(1.0, 1.02, 15)), {f"throughput/{name}": np.array([seen[0]] * len(seen))})
    quiet.arrays["throughput/processors_had"] = np.ones(15)
    loaded = changed(faster(base, np.linspace(0.8, 0.82, 15)), {f"throughput/{name}": np.array(seen)})
    for one, two in ((quiet, loaded), (loaded, quiet)):
        assert told in pair(one, two, "throughput").why
    assert pair(quiet, faster(quiet, np.linspace(0.8, 0.82, 15)), "throughput").why == ""


def test_a_worsening_that_is_allowed_is_none_and_a_wrong_name_lists_the_figures(base, suite):
    new = changed(base, {"perplexity/nll_nats": base.arrays["perplexity/nll_nats"] * np.float32(1.1)})
    assert settle([pair(base, new, "perplexity")])[0].word == "regression"
    allowed = pair(base, new, "perplexity", allowed={"perplexity": 1000.0})
    assert settle([allowed])[0].word == "no difference can be told"
    slower = faster(base, np.linspace(0.80, 0.82, 15))
    assert pair(faster(base, 1.0), slower, "throughput", allowed={"throughput": 30.0}).floor == pytest.approx(0.3)
    with pytest.raises(UnknownNameError, match=r"Unknown figure to allow 'ppl'. Choose from: accuracy, kl"):
        comparison.pairs(base, new, allowed={"ppl": 1.0})


def test_a_perplexity_that_overflows_is_a_regression(base):
    new = changed(base, {"perplexity/nll_nats": base.arrays["perplexity/nll_nats"] + np.float32(2000)})
    (change,) = settle([pair(base, new, "perplexity")])
    assert change.word == "regression"


def test_too_few_tokens_tell_nothing(base):
    few = {name: each[:80] for name, each in base.arrays.items() if name.startswith("perplexity/")}
    one, two = changed(base, few), changed(base, {**few, "perplexity/nll_nats": few["perplexity/nll_nats"] + 1})
    assert pair(one, two, "perplexity").why == text_comparison.TOO_FEW


@pytest.mark.parametrize(
    ("factor", "word"), [(1 + 1e-9, "no difference can be told"), (1.0001, "regression"), (0.999, "better")]
)
def test_a_byte_more_is_no_regression(base, factor, word):
    size = base.record.compression
    new = changed(base, compression=replace(size, compressed_gb=factor * size.compressed_gb))
    (change,) = settle([pair(base, new, "size")])
    assert change.word == word
    assert "noise floor" not in change.sentence


def test_a_floor_that_was_not_measured_is_not_called_one(base):
    new = changed(base, {"perplexity/nll_nats": base.arrays["perplexity/nll_nats"] * np.float32(1.1)})
    for noise, told in ((FLOOR, "beyond the noise floor of"), (None, "(no noise floor was measured)")):
        (change,) = settle([pair(base, new, "perplexity", noise=noise)])
        assert told in change.sentence
