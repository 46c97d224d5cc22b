"""AWQ checkpoints against packers written from the layouts' description, AutoAWQ's own code, and known words."""

import json
import warnings

import numpy as np
import pytest
from checkpoints.formats.hub_checkpoints import PATH, as_int32, decoded, held, under, write
from checkpoints.formats.pack_awq import CONFIG, drawn, exact, gemm, gemv
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_quantbench.checkpoints.formats import open_candidate
from pytest_quantbench.checkpoints.formats.awq import AwqGemm, AwqGemv
from pytest_quantbench.errors import ModelError, WeightError
from pytest_quantbench.quantizers.numerics import affine_rounding


@pytest.mark.parametrize("pack", [gemm, gemv])
def test_decodes_what_was_packed(tmp_path, pack):
    parts = drawn()
    stored = under(PATH, pack(*parts))
    write(tmp_path, stored, {**CONFIG, "version": pack.__name__})
    tensor = held(tmp_path)
    assert np.array_equal(decoded(tmp_path), exact(*parts))
    assert (tensor.shape, tensor.kind) == ((16, 64), f"awq {pack.__name__}")
    assert tensor.stored_bytes == sum(array.nbytes for array in stored.values())
    assert tensor.parameters == {"bits": 4, "group_size": 32}


def test_known_words():
    """0x76543210 in one row holds columns 0, 4, 1, 5, 2, 6, 3, 7 of it: what lies at nibble 1 is column 2."""
    arrays = {
        "qweight": as_int32([[0x76543210]]),
        "qzeros": as_int32([[0x00000010]]),
        "scales": np.array([[1, 1, 2, 1, 1, 1, 1, 1]], np.float16),
    }
    assert AwqGemm().decode(arrays)[:, 0].tolist() == [0, 4, 0, 5, 2, 6, 3, 7]
    arrays["scales"][0, 3] = 0.5
    assert AwqGemm().decode(arrays)[:, 0].tolist() == [0, 4, 0, 2.5, 2, 6, 3, 7]


def test_known_words_of_gemv():
    arrays = {
        "qweight": as_int32([[0x76543210]]),
        "qzeros": as_int32([[0x32]]),
        "scales": np.array([[1, 2, 9, 9, 9, 9, 9, 9]], np.float16),
    }
    assert AwqGemv(groups=2).decode(arrays)[0].tolist() == [-2, -1, 0, 1, 2, 4, 6, 8]


@given(st.integers(1, 4), st.integers(1, 4), st.integers(1, 24), st.integers(0, 2**32 - 1))
@settings(max_examples=40)
def test_any_size(eighth, groups, size, seed):
    parts = drawn(8 * eighth, groups * size, groups, seed=seed)
    assert np.array_equal(AwqGemm().decode(gemm(*parts)), exact(*parts))
    parts = drawn(eighth, 8 * groups * size, groups, seed=seed)
    assert np.array_equal(AwqGemv(groups=groups).decode(gemv(*parts, words=2)), exact(*parts))


@pytest.mark.parametrize("pack", [gemm, gemv])
@pytest.mark.parametrize(("group", "kept"), [(32, 32), (64, 64), (128, 128), (-1, 128)])
def test_mlx_runs_the_same_matrix(tmp_path, pack, group, kept):
    parts = drawn(16, 256, 1 if group == -1 else 256 // group)
    write(tmp_path, under(PATH, pack(*parts)), {**CONFIG, "version": pack.__name__, "group_size": group})
    tensor = held(tmp_path)
    grid = tensor.codec.layer(tensor.read()).grid
    assert (grid.group, grid.bits, grid.in_features, grid.scales.dtype) == (kept, 4, 256, np.float32)
    dense = affine_rounding.decoded(grid.codes.view(np.uint8), grid.scales, grid.biases, 4)
    assert np.array_equal(dense, tensor.codec.decode(tensor.read()))


def test_no_kernel_takes_groups_of_16_nor_rows_that_do_not_fill_their_words():
    assert AwqGemm().layer(gemm(*drawn(groups=4))) is None
    assert AwqGemm().layer(gemm(*drawn(ins=36, groups=1))) is None


def test_the_settings_of_older_ones(tmp_path):
    parts = drawn()
    write(tmp_path, under(PATH, gemm(*parts)), None)
    (tmp_path / "quant_config.json").write_text(json.dumps({"w_bit": 4, "q_group_size": 32, "version": "GEMM"}))
    assert np.array_equal(decoded(tmp_path), exact(*parts))


def test_modules_that_were_left_alone(tmp_path):
    left = {"model.layers.0.mlp.gate.weight": np.ones((4, 64), np.float16)}
    config = {**CONFIG, "modules_to_not_convert": ["gate"]}
    holding = open_candidate(write(tmp_path, under(PATH, gemm(*drawn())) | left, config))
    assert holding.tensor("model.layers.0.mlp.gate.weight").codec is None


REFUSED = {
    "bits": ({"bits": 8}, {}, "bits = 8"),
    "version": ({"version": "gemv_fast"}, {}, "version = 'gemv_fast'.*gemm, gemv"),
    "no version": ({"version": ["gemm"]}, {}, "version = "),
    "another version than stored": ({"version": "gemv"}, {}, r"up_proj\.qweight"),
    "group": ({"group_size": None}, {}, "group_size = None"),
    "another group than stored": ({"group_size": 16}, {}, r"qzeros \(2, 2\)"),
    "a group larger than the row": ({"group_size": 128}, {}, r"up_proj\.qweight"),
    "gptq's order": ({}, {"qweight": np.zeros((8, 16), np.int32)}, r"up_proj\.qweight"),
    "scales": ({}, {"scales": np.zeros((2, 15), np.float16)}, r"scales \(2, 15\)"),
    "not words": ({}, {"qzeros": np.zeros((2, 2), np.int16)}, r"up_proj\.qzeros.*I16"),
    "no zero points": ({}, {"qzeros": None}, r"lacks .*up_proj\.qzeros"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused_when_opened(tmp_path, case):
    config, parts, message = REFUSED[case]
    stored = {part: array for part, array in {**gemm(*drawn()), **parts}.items() if array is not None}
    write(tmp_path, under(PATH, stored), {**CONFIG, **config})
    with pytest.raises(ModelError, match=message) as caught:
        open_candidate(tmp_path)
    assert str(tmp_path) in str(caught.value)


def test_scales_that_are_not_finite_are_refused_when_read(tmp_path):
    stored = {part: np.array(array) for part, array in gemm(*drawn()).items()}
    stored["scales"][1, 2] = np.nan
    write(tmp_path, under(PATH, stored), CONFIG)
    with pytest.raises(WeightError, match=r"model\.safetensors: .*up_proj\.scales' holds NaN"):
        held(tmp_path).read()


def maker(version):
    """AutoAWQ's layer of a version; the package warns that it is no longer kept up."""
    pytest.importorskip("torch")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return getattr(
            pytest.importorskip(f"awq.modules.linear.{version}", exc_type=ImportError), f"WQLinear_{version.upper()}"
        )


@pytest.mark.parametrize("pack", [gemm, gemv])
def test_autoawq_packs_the_same_words(pack):
    import torch

    codes, scales, zeros = drawn(32, 256, 2)
    linear = torch.nn.Linear(256, 32, bias=False)
    linear.weight.data = torch.from_numpy(exact(codes, scales, zeros).astype(np.float32))
    given = [torch.from_numpy(each if pack is gemv else np.ascontiguousarray(each.T)) for each in (scales, zeros)]
    layer = maker(pack.__name__).from_linear(linear, 4, 128, False, *given)
    for part, ours in pack(codes, scales, zeros).items():
        assert np.array_equal(getattr(layer, part).numpy(), ours), part


def test_autoawq_unpacks_the_same_matrix():
    """In float32, as its own 16 bits would round."""
    import torch

    maker("gemm")
    from awq.utils.packing_utils import dequantize_gemm

    arrays = gemm(*drawn(16, 256, 2, kind=np.float32))
    words = [torch.from_numpy(np.ascontiguousarray(arrays[part])) for part in ("qweight", "qzeros", "scales")]
    assert np.array_equal(AwqGemm().decode(arrays), dequantize_gemm(*words, 4, 128).numpy().T)
