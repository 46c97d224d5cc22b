"""fp8 checkpoints: what they decode to, held to Transformers where it can, and which are refused."""

from functools import partial

import ml_dtypes
import numpy as np
import pytest
from candidate_folders import Q_PROJ, write_candidate

from pytest_quantbench.checkpoints.formats import open_candidate
from pytest_quantbench.errors import ModelError, WeightError

RANDOM = np.random.default_rng(2)
E4M3, E8M0 = ml_dtypes.float8_e4m3fn, ml_dtypes.float8_e8m0fnu
PLAIN = {"model.norm.weight": np.ones(8, np.float32), "lm_head.weight": np.ones((4, 8), np.float16)}
BLOCKS = {"quant_method": "fp8", "weight_block_size": [128, 128], "activation_scheme": "dynamic"}
WHOLE = {"quant_method": "fp8", "activation_scheme": "static"}
ROWS = {"quant_method": "fbgemm_fp8", "activation_scale_ub": 1200.0}


def weight(shape):
    return RANDOM.normal(scale=30, size=shape).astype(E4M3)


def open_parts(directory, said, parts, beside=PLAIN):
    tensors = {f"{Q_PROJ}.{part}": array for part, array in parts.items()} | beside
    return open_candidate(write_candidate(directory, tensors, said))


@pytest.fixture
def opened(tmp_path):
    return partial(open_parts, tmp_path)


def decoded(holding):
    held = holding.tensor(f"{Q_PROJ}.weight")
    return held.codec.decode(held.read())


def uniform(*shape, dtype=np.float32):
    return RANDOM.uniform(0.001, 0.002, shape).astype(dtype)


def test_blocks_also_those_that_the_matrix_does_not_fill(opened):
    codes, scales = weight((200, 300)), uniform(2, 3)
    dense = decoded(opened(BLOCKS, {"weight": codes, "weight_scale_inv": scales}))
    for row, column in [(0, 0), (127, 127), (128, 127), (127, 128), (199, 299), (130, 257)]:
        assert dense[row, column] == np.float32(codes[row, column]) * scales[row // 128, column // 128]
    np.testing.assert_array_equal(
        dense, codes.astype(np.float32) * np.kron(scales, np.ones((128, 128), np.float32))[:200, :300]
    )


@pytest.mark.parametrize("dtype", [np.float32, ml_dtypes.bfloat16, np.float16, E8M0, np.uint8])
@pytest.mark.parametrize(
    ("said", "part", "shape"),
    [
        (WHOLE, "weight_scale_inv", ()),
        (WHOLE, "weight_scale", (1,)),
        (ROWS, "weight_scale", (32, 1)),
        (BLOCKS | {"weight_block_size": [16, 16]}, "weight_scale_inv", (2, 3)),
    ],
)
def test_scales_of_every_shape_and_type(opened, said, part, shape, dtype):
    codes, scales = weight((32, 48)), uniform(*shape)
    if dtype in (E8M0, np.uint8):  # the exponent, 127 more
        stored = RANDOM.integers(110, 130, shape).astype(np.uint8)
        scales, stored = np.exp2(stored.astype(np.float32) - 127), stored.view(dtype)
    else:
        stored = scales.astype(dtype)
        scales = stored.astype(np.float32)
    holding = opened(said, {"weight": codes, part: stored, "input_scale": np.ones(1, np.float32)})
    held = holding.tensor(f"{Q_PROJ}.weight")
    wide = np.kron(scales, np.ones((16, 16), np.float32)) if shape == (2, 3) else scales
    np.testing.assert_array_equal(decoded(holding), codes.astype(np.float32) * wide)
    assert held.stored_bytes == codes.nbytes + stored.nbytes + 4
    assert held.note == "inputs not rounded, as the file's scheme asks"
    assert not held.codec.has_input_rule
    assert holding.left_over(["model.norm.weight", f"{Q_PROJ}.weight"]) == ["lm_head.weight"]
    assert {tensor.name for tensor in holding.stored()} == {*PLAIN, f"{Q_PROJ}.weight"}


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_what_transformers_dequantizes(opened, dtype):
    torch = pytest.importorskip("torch")
    fp8 = pytest.importorskip("transformers.integrations.finegrained_fp8")
    if not hasattr(fp8, "Fp8Dequantize"):
        pytest.skip("this version of Transformers dequantizes elsewhere")
    codes, scales = weight((256, 384)), uniform(2, 3)
    dense = decoded(opened(BLOCKS, {"weight": codes, "weight_scale_inv": scales}))
    stored = torch.from_numpy(codes.view(np.uint8)).view(torch.float8_e4m3fn)
    step = fp8.Fp8Dequantize(None)
    theirs = step._dequantize_one(stored, torch.from_numpy(scales), output_dtype=getattr(torch, dtype))
    assert torch.equal(torch.from_numpy(dense).to(theirs.dtype), theirs)


def test_the_caches_scales_are_not_left_over_where_the_config_speaks_of_them(opened):
    parts = {"weight": weight((8, 8)), "weight_scale": uniform(1)}
    beside = {"model.layers.0.self_attn.k_scale": uniform(1)}
    for said, left in ((WHOLE | {"kv_cache_scheme": "static"}, []), (WHOLE, list(beside))):
        assert opened(said, parts, beside).left_over([f"{Q_PROJ}.weight"]) == left


def parts(**changes):
    return {"weight": weight((32, 48)), "weight_scale_inv": uniform(1, 1)} | changes


NO_SCALE = {"weight": weight((32, 48))}
REFUSED = {
    "no scale": (BLOCKS, NO_SCALE, "lacks '.*q_proj.weight_scale'"),
    "another grid": (BLOCKS, parts(weight_scale_inv=uniform(2, 1)), r"rs: .*has shape \(2, 1\), and .*128"),
    "no grid": (WHOLE, parts(weight_scale_inv=uniform(2, 3)), "weight_block_size = None for a matrix of"),
    "scales of whole numbers": (BLOCKS, parts(weight_scale_inv=np.ones((1, 1), np.int32)), "is I32 of shape"),
    "E5M2": (BLOCKS, parts(weight=np.ones((32, 48), ml_dtypes.float8_e5m2)), "is F8_E5M2 of .* F8_E4M3 is needed"),
    "16 bits with a scale": (BLOCKS, parts(weight=np.ones((32, 48), np.float16)), "is F16 of .* F8_E4M3 is needed"),
    "nothing": (BLOCKS, parts(weight=weight((0, 48))), "of shape .*0, 48.* is no matrix"),
    "a stack": (BLOCKS, parts(weight=weight((2, 4, 8))), "is no matrix"),
    "four bits": (BLOCKS | {"expert_dtype": "fp4"}, parts(), "expert_dtype = 'fp4', not fp8"),
    "none of it": (BLOCKS, {"weight": np.ones((2, 3), np.float16)}, "in fp8, and no tensor of it is"),
    **{
        f"a block of {value!r}": (BLOCKS | {"weight_block_size": value}, parts(), "weight_block_size = ")
        for value in ("128", [128], [128, -1], [0, 0], [1.5, 2], [2**40, 1], [True, True], {"a": 1}, [[1], [2]])
    },
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_does_not_fit_together_is_refused(opened, name):
    said, found, message = REFUSED[name]
    with pytest.raises(ModelError, match=message):
        opened(said, found)


@pytest.mark.parametrize(
    "wrong", [{"weight_scale_inv": np.array([[np.nan]], np.float32)}, {"weight": np.full((32, 48), np.nan, E4M3)}]
)
def test_values_that_are_not_finite_are_told_when_they_are_read(opened, wrong):
    held = opened(BLOCKS, parts(**wrong)).tensor(f"{Q_PROJ}.weight")
    with pytest.raises(WeightError, match=rf"model\.safetensors: '.*{next(iter(wrong))}' holds NaN or infinity"):
        held.read()
