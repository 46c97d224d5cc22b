"""The arrays beside a record: by the names that readers of the npz know, and of a new measure by its fields."""

import io
import math
from dataclasses import dataclass, replace

import numpy as np
import pytest
from builders import make_losses, make_record, make_task, make_throughput
from numpy.typing import NDArray

from pytest_quantbench.catalog.corpora import PROMPTS
from pytest_quantbench.measures.samples import AccuracySamples, IntegritySamples, TensorError, WeightSamples
from pytest_quantbench.record import folder
from pytest_quantbench.record.raw import as_bytes, raw, texts_of
from pytest_quantbench.record.schema import Weights


@dataclass(frozen=True, slots=True, kw_only=True)
class Own:
    """Samples of a measure that nobody knows here."""

    names: tuple[str, ...]
    zeros: NDArray[np.int64]


def test_every_measure_has_its_part_of_the_names():
    found = raw(
        {
            "perplexity": make_losses([1.0, 2.0], beside={"(head)": make_losses([3.0])}),
            "throughput": make_throughput([[2.0], [4.0]]),
            "own": Own(names=("a",), zeros=np.array([7])),
        }
    )
    assert found["perplexity/nll_nats"].tolist() == [1.0, 2.0]
    assert found["perplexity/(head)/nll_nats"].tolist() == [3.0]
    assert found["throughput/tokens_per_second"].tolist() == [2.0, 4.0]
    assert found["own/zeros"].tolist() == [7]
    assert {name.partition("/")[0] for name in found} == {"perplexity", "throughput", "own"}


def test_what_holds_no_arrays_or_is_judged_by_nothing_adds_none():
    assert raw({"integrity": IntegritySamples(tensors=3, problems=()), "calibration_text": make_losses([1.0])}) == {}


def stored(arrays):
    """The arrays as an npz without pickle gives them back, and its size in bytes."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    with np.load(io.BytesIO(buffer.getvalue()), allow_pickle=False) as found:
        return dict(found), len(buffer.getvalue())


def weights_of(*snr_db):
    tensor = TensorError(
        name="", quantizer="rtn", weights=4, bits_per_weight=4.5, snr_db=0.0, cosine=0.9, largest_error=0.1, note=""
    )
    return WeightSamples(tensors=tuple(replace(tensor, name=f"layer.{i}", snr_db=db) for i, db in enumerate(snr_db)))


def test_every_matrix_stands_with_its_name_beside_its_figures():
    found, _ = stored(raw({"weights": weights_of(21.5, math.inf, 7.0)}))
    assert texts_of(found["weights/names"]) == ["layer.0", "layer.1", "layer.2"]
    assert texts_of(found["weights/quantizer"]) == ["rtn"] * 3
    assert found["weights/snr_db"].tolist() == [21.5, math.inf, 7.0]
    for name, value in {"cosine": 0.9, "bits_per_weight": 4.5, "largest_error": 0.1}.items():
        assert found[f"weights/{name}"].tolist() == [value] * 3


def test_weights_of_no_matrix_can_be_stored():
    found, _ = stored(raw({"weights": weights_of()}))
    assert texts_of(found["weights/names"]) == []
    assert found["weights/snr_db"].shape == (0,)


def test_what_t1_wrote_is_kept_with_its_prompts():
    written = ["Once", "Zwölf große Boote \n\U0001f6a2", "\udcff half a character"]
    speeds = make_throughput([[2.0], [3.0], [4.0]])
    runs = tuple(replace(run, text=text) for run, text in zip(speeds.runs, written, strict=True))
    found, _ = stored(raw({"throughput": replace(speeds, runs=runs, reference_runs=runs[:1])}))
    assert texts_of(found["throughput/texts"]) == written
    assert texts_of(found["throughput/reference_texts"]) == ["Once"]
    prompts = texts_of(found["throughput/prompts"])
    assert prompts == list(PROMPTS)
    assert found["throughput/prompt"].max() < len(prompts)
    alone, _ = stored(raw({"throughput": speeds}))
    assert texts_of(alone["throughput/reference_texts"]) == []


@pytest.mark.parametrize("texts", [[], [""], ["a", "", "ß" * 3], [["one", "two"], []]])
def test_texts_come_back_as_they_were(texts):
    array = as_bytes(texts)
    assert array.dtype == np.uint8
    assert texts_of(stored({"a": array})[0]["a"]) == texts


def test_one_long_text_among_many_does_not_make_all_of_them_long():
    texts = ["x" * 100_000, *(f"question {i}" for i in range(10_000))]
    array = as_bytes(texts)
    assert array.nbytes < 400_000  # numpy's own array of texts takes 4 GB
    assert stored({"a": array})[1] < 50_000


def test_texts_of_a_part_that_a_later_session_did_not_measure_are_kept(tmp_path):
    figures = Weights(median_snr_db=1.0, worst_snr_db=1.0, worst_tensor="a", mean_cosine=1.0, largest_error=0.0)
    folder.save(make_record(weights=figures), raw({"weights": weights_of(5.0)}), tmp_path)
    folder.save(make_record(), raw({"throughput": make_throughput([[2.0]])}), tmp_path)
    (record,) = folder.read_all(tmp_path)
    found = folder.read_arrays(record, tmp_path)
    assert texts_of(found["weights/names"]) == ["layer.0"]
    assert texts_of(found["throughput/texts"]) == [""]


def test_questions_stand_with_their_options():
    task = make_task([True, False, True])
    task = replace(task, questions=("One?", "Zwei?", "Drei?"), options=(("a", "b"), ("c",), ()))
    answers = AccuracySamples(
        tasks={"own": task}, available={"own": 3}, cut_contexts=0, weights_sha256="w", seconds=1.0
    )
    found, _ = stored(raw({"accuracy": answers}))
    assert texts_of(found["accuracy/own/questions"]) == ["One?", "Zwei?", "Drei?"]
    assert texts_of(found["accuracy/own/options"]) == [["a", "b"], ["c"], []]
    assert texts_of(found["accuracy/own/ids"]) == ["0", "1", "2"]
