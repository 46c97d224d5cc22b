"""A record of what was measured: its parts, what each is compared with, and null for the rest."""

import dataclasses
from types import SimpleNamespace

import pytest
from builders import make_losses, make_throughput

from pytest_quantbench.catalog.models import MODELS
from pytest_quantbench.catalog.recipes import recipe
from pytest_quantbench.compress.assignment import Tensor
from pytest_quantbench.engines.accelerator import Accelerator
from pytest_quantbench.errors import ComparisonError
from pytest_quantbench.measures.samples import IntegritySamples
from pytest_quantbench.record.assembly import evaluated_weights, summarize

TENSOR = Tensor(name="w", shape=(8, 8), part="inner", quantizer="rtn", arrays=("w",), stored_bytes=32)
MANIFEST = SimpleNamespace(
    tensors=(TENSOR,),
    bf16_bytes=128,
    stored_bytes=32,
    seconds=1.0,
    source_dtype="bfloat16",
    key="artifact",
    opens_in_mlx_lm=True,
    calibration={},
)


def assembled(samples, reference, **more):
    return summarize(
        MODELS["Tiny"],
        recipe("int4"),
        SimpleNamespace(revision=None, sha256="source", config={"model_type": "odd", "n_layer": 3}),
        MANIFEST,
        samples=samples,
        reference=reference,
        verdicts=(),
        weights_sha256=None,
        calibration_ppl=None,
        noise_floor=None,
        around_texts=lambda: {"prefix": ("<s>",)},
        machine=None,
        accelerator=Accelerator(name="idle"),
        seed=3,
        session="s",
        **more,
    )


def test_what_was_not_measured_is_null():
    record = assembled({}, {})
    assert (record.model_id, record.level, record.bits, record.source, record.seed) == (
        "Tiny",
        "int4",
        4,
        "embedded",
        3,
    )
    assert record.compression.ratio == 0.25
    parts = ("perplexity", "accuracy", "throughput", "weights", "integrity", "coherence", "tokenizer")
    assert [getattr(record, part) for part in parts] == [None] * len(parts)


def test_a_record_tells_the_command_where_there_was_one():
    assert assembled({}, {}, command="pytest benches -k Tiny").commands == ("pytest benches -k Tiny",)
    assert assembled({}, {}).commands == ()


def test_losses_are_compared_with_as_many_of_the_reference():
    """It may have been read further for another cell."""
    mine, before = make_losses([1.5] * 128), make_losses([1.0] * 128 + [9.0] * 64)
    record = assembled({"perplexity": mine}, {"perplexity": before})
    assert record.perplexity.bf16_ppl == pytest.approx(2.718281828)
    assert record.perplexity.delta == pytest.approx(4.481689070 - 2.718281828)
    assert record.tokenizer == {"prefix": ("<s>",)}
    assert assembled({"perplexity": mine}, None).perplexity.delta is None


def test_the_reference_is_its_own_measure_of_coherence():
    runs = make_throughput([[2.0], [4.0]])
    assert assembled({"throughput": runs}, None).coherence.only_here == 0
    alone = assembled({"throughput": runs}, {}).coherence
    assert (alone.prompts, alone.only_here) == (2, None)  # nothing to compare with


def test_findings_stand_there_though_nothing_was_read():
    record = assembled({"integrity": IntegritySamples(tensors=1, problems=("odd",))}, {})
    assert (record.integrity, record.tokenizer) == (("odd",), None)


def test_t2_and_t3_are_of_one_and_the_same_model():
    losses = make_losses([1.0])
    other = SimpleNamespace(weights_sha256="other")
    assert evaluated_weights("Tiny-int4", {}) is None
    assert evaluated_weights("Tiny-int4", {"perplexity": losses, "weights": other}) == "w"
    with pytest.raises(ComparisonError, match="Tiny-int4: T2 and T3 evaluated different weights"):
        evaluated_weights("Tiny-int4", {"perplexity": losses, "accuracy": other})
    same = dataclasses.replace(losses, corpus="another text")
    assert evaluated_weights("Tiny-int4", {"perplexity": losses, "accuracy": same}) == "w"


def test_the_accelerator_is_as_it_was_at_work_where_t1_saw_it():
    assert assembled({}, {}).accelerator.name == "idle"
    runs = make_throughput([[2.0], [4.0]])
    assert assembled({"throughput": runs}, None).accelerator.name == "idle"
    at_work = dataclasses.replace(runs, accelerator=Accelerator(name="at work"))
    assert assembled({"throughput": at_work}, None).accelerator.name == "at work"


def test_model_and_recipe_are_told():
    record = assembled({}, {})
    assert (record.facts.parameters, record.facts.architecture, record.facts.layers) == (64, "odd", 3)
    assert record.recipe_parameters["outer.rtn.bits"] == "4"
