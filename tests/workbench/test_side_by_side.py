"""Quantizers side by side: figures against slow computations, the files, and the detector of uncounted bits."""

from dataclasses import dataclass
from typing import ClassVar

import ml_dtypes
import msgspec
import numpy as np
import pytest

from pytest_quantbench.catalog.models import TINY_DIRECTORY
from pytest_quantbench.errors import ComparisonError, RecordError, UnknownNameError
from pytest_quantbench.quantizers import Quantizer
from pytest_quantbench.quantizers.rtn import Rtn
from pytest_quantbench.workbench import codec_report, matrices, side_by_side

GAUSS, STUDENT, CORRELATED = matrices.synthetic((64,))


def test_figures_are_those_of_a_slow_computation():
    row = side_by_side.compare("rtn", 4, Rtn(bits=4), CORRELATED)
    original = CORRELATED.weight.astype(ml_dtypes.bfloat16).astype(np.float64)
    arrays = Rtn(bits=4).encode(CORRELATED.weight.astype(ml_dtypes.bfloat16), None, 0)
    error = np.array(Rtn(bits=4).decode(arrays)) - original
    hessian = CORRELATED.statistics.hessian
    assert row.bits_per_weight == 4.5
    assert row.snr_db == pytest.approx(10 * np.log10((original**2).sum() / (error**2).sum()), abs=1e-3)
    ratio = np.trace(original @ hessian @ original.T) / np.trace(error @ hessian @ error.T)
    assert row.output_snr_db == pytest.approx(10 * np.log10(ratio), abs=1e-3)
    assert row.relative_output_error == pytest.approx(ratio**-0.5, rel=1e-3)
    assert row.largest_error == pytest.approx(np.abs(error).max())
    assert row.gap_db == pytest.approx(6.0206 * 4.5 - row.snr_db, abs=1e-3)
    assert row.smallest_row_cosine <= row.cosine
    assert row.peak_bytes > 0
    assert row.output_snr_db < row.bound_db


@dataclass(frozen=True, slots=True, kw_only=True)
class Cheat(Quantizer):
    """Keeps the matrix outside of what it stores."""

    bits: int
    name: ClassVar[str] = "cheat"
    version: ClassVar[int] = 1
    calibration: ClassVar[str] = "none"

    def encode(self, weight, statistics, seed):
        KEPT.append(weight)
        return {"codes": np.zeros((8,), np.uint8)}

    def decode(self, arrays):
        return KEPT[-1].astype(np.float32) * np.float32(1.001)


KEPT: list[np.ndarray] = []


def test_a_method_above_the_bound_is_an_error_in_the_counting():
    with pytest.raises(ComparisonError, match=r"cheat at 2 bits on Gaussian 64².*decoding needs is not counted"):
        side_by_side.compare("cheat", 2, Cheat(bits=2), GAUSS)


def test_every_method_is_made_at_every_width_that_it_has():
    found = {(name, width) for name, width, _ in side_by_side.methods()}
    assert {("rtn", width) for width in (2, 3, 4, 5, 6, 8)} <= found
    assert not {name for name, _ in found} & {"identity"}
    with pytest.raises(UnknownNameError, match="Unknown quantizer 'gqtp'"):
        list(side_by_side.methods(["gqtp"]))


def test_the_files_hold_every_figure(tmp_path):
    figures = [side_by_side.compare("rtn", bits, Rtn(bits=bits), case) for bits in (2, 4) for case in (GAUSS, STUDENT)]
    written = codec_report.save(figures, tmp_path)
    assert [path.name for path in written] == ["codecs.json", "codecs.md", "codecs.svg"]
    assert codec_report.read(written[0]) == figures
    text = written[1].read_text()
    assert text.count("| rtn 4 | 4.500 |") == 2
    assert "published QuIP#* | 3.00 | 6.8 | 11.3" in text
    assert "Student" in written[2].read_text()


def test_a_file_that_is_something_else_is_refused(tmp_path):
    (tmp_path / "codecs.json").write_bytes(msgspec.json.encode({"no": "figures"}))
    with pytest.raises(RecordError, match="is not a file of codec figures"):
        codec_report.read(tmp_path / "codecs.json")


@pytest.mark.slow
def test_matrices_of_a_model_come_with_their_inputs():
    found = list(side_by_side.model_cases(TINY_DIRECTORY, "tiny-train", sequences=2))
    assert len(found) == 4 * 7
    down = next(case for case in found if case.name.endswith("layers.2.mlp.down_proj"))
    assert down.weight.shape == (256, 768)
    assert down.statistics.hessian.shape == (768, 768)


@pytest.mark.slow
def test_a_matrix_whose_layer_has_a_bias_is_one_too(small_model):
    found = [case.name for case in side_by_side.model_cases(small_model("qwen2"), "tiny-train", sequences=2)]
    assert len(found) == 3 * 7


@pytest.mark.slow
def test_every_expert_of_a_model_is_a_matrix(small_model):
    found = {case.name: case for case in side_by_side.model_cases(small_model("mixtral"), "tiny-train", sequences=2)}
    assert len(found) == 3 * (4 + 4 * 3)  # attention, and three for each expert; no router
    case = found["model.layers.2.block_sparse_moe.switch_mlp.down_proj[3]"]
    assert case.weight.shape == (64, 128)
    assert case.statistics.hessian.shape == (128, 128)
