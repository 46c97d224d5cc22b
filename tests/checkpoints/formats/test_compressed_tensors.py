"""compressed-tensors checkpoints from an independent packer: what they decode to."""

from functools import partial

import ml_dtypes
import numpy as np
import pytest
from candidate_folders import Q_PROJ, bit_stream, write_candidate
from compressed_files import PER_TOKEN, PLAIN, RANDOM, STATIC, WEIGHTS, int8, open_parts, packed, quantization

from pytest_quantbench.checkpoints.formats import open_candidate
from pytest_quantbench.checkpoints.formats.compressed_tensors import CompressedTensors
from pytest_quantbench.errors import ModelError
from pytest_quantbench.quantizers import Fixed, PerToken

UP_PROJ = "model.layers.0.mlp.up_proj"
BY_ROW = {"num_bits": 8, "strategy": "channel"}


@pytest.fixture
def opened(tmp_path):
    """The holding of a module's parts, beside tensors that are not quantized."""
    return partial(open_parts, tmp_path)


def decoded(holding, path=Q_PROJ):
    held = holding.tensor(f"{path}.weight")
    return held.codec.decode(held.read())


def slow(codes, scales, zeros, group):
    """Weight by weight."""
    rows, columns = codes.shape
    return np.array(
        [
            [np.float32(codes[r, c] - zeros[r, c // group]) * np.float32(scales[r, c // group]) for c in range(columns)]
            for r in range(rows)
        ]
    )


def test_bytes_that_are_known(opened):
    # 0x76543210: the first code is the lowest four bits, and code 8 is zero
    parts = {
        "weight_packed": np.array([[0x76543210, -1]], np.int32),
        "weight_scale": np.array([[0.5, 2.0]], np.float32),
        "weight_shape": np.array([1, 16], np.int64),
    }
    holding = opened(parts, quantization(WEIGHTS | {"group_size": 8}))
    assert decoded(holding).tolist() == [[-4, -3.5, -3, -2.5, -2, -1.5, -1, -0.5] + [14] * 8]


@pytest.mark.parametrize("bits", range(1, 9))
def test_codes_of_every_width(opened, bits):
    codes, scales, parts = packed(bits)
    holding = opened(parts, quantization(WEIGHTS | {"num_bits": bits}))
    np.testing.assert_array_equal(
        decoded(holding), slow(codes, scales, np.full(scales.shape, 2 ** (bits - 1)), 32), strict=True
    )
    held = holding.tensor(f"{Q_PROJ}.weight")
    assert held.stored_bytes == sum(array.nbytes for array in parts.values())
    assert held.parameters == {"bits": bits, "strategy": "group", "group_size": 32}


@pytest.mark.parametrize("is_packed", [True, False])
@pytest.mark.parametrize("bits", [3, 4, 8])
def test_zero_points_are_packed_along_the_rows_or_were_not(opened, bits, is_packed):
    codes, scales, parts = packed(bits, (40, 64))
    zeros = RANDOM.integers(0, 2**bits, scales.shape)
    stored = bit_stream(zeros.T, bits).T.view(np.int32) if is_packed else (zeros - 2 ** (bits - 1)).astype(np.int8)
    said = quantization(WEIGHTS | {"num_bits": bits, "symmetric": False})
    np.testing.assert_array_equal(
        decoded(opened(parts | {"weight_zero_point": stored}, said)), slow(codes, scales, zeros, 32), strict=True
    )


@pytest.mark.parametrize("bits", [3, 5, 6, 7])
def test_older_versions_left_the_rest_of_a_word_empty(opened, bits):
    codes, scales, parts = packed(bits)
    zeros = RANDOM.integers(0, 2**bits, scales.shape)
    of_word = 32 // bits

    def loose(rows):
        padded = np.pad(rows, ((0, 0), (0, -rows.shape[1] % of_word)))
        words = [[bit_stream([part], bits)[0, 0] for part in np.split(row, len(row) // of_word)] for row in padded]
        return np.array(words, np.uint32).view(np.int32)

    parts |= {"weight_packed": loose(codes), "weight_zero_point": loose(zeros.T).T}
    holding = opened(parts, quantization(WEIGHTS | {"num_bits": bits, "symmetric": False}))
    np.testing.assert_array_equal(decoded(holding), slow(codes, scales, zeros, 32), strict=True)


def test_rows_that_both_ways_of_packing_give_as_many_words(opened):
    _, _, parts = packed(3, (8, 33), 33)
    with pytest.raises(ModelError, match="rows of 33 codes of 3 bits, which old and new versions pack differently"):
        opened(parts, quantization({"num_bits": 3, "strategy": "channel"}))


def test_columns_in_another_order_have_their_groups_by_number(opened):
    codes, scales, parts = packed()
    order = RANDOM.permutation(np.repeat([0, 1], 32)).astype(np.int32)
    dense = decoded(opened(parts | {"weight_g_idx": order}))
    np.testing.assert_array_equal(dense, (codes - 8).astype(np.float32) * scales[:, order])
    unused = decoded(opened(parts | {"weight_g_idx": np.full(64, -1, np.int32)}))
    np.testing.assert_array_equal(unused, slow(codes, scales, np.full(scales.shape, 8), 32))


@pytest.mark.parametrize("wrong", [[2] * 64, [-1] + [0] * 63, [0] * 64])
def test_an_order_that_does_not_fill_the_groups(opened, wrong):
    held = opened(packed()[2] | {"weight_g_idx": np.array(wrong, np.int32)}).tensor(f"{Q_PROJ}.weight")
    with pytest.raises(ModelError, match=r"model\.safetensors: '.*q_proj' has a weight_g_idx that does not fill 2 gr"):
        held.read()


def test_an_older_key_and_blocks_as_text(opened):
    said = quantization(
        {"num_bits": 8, "type": "float", "strategy": "block", "block_structure": "32x16"}, "naive-quantized"
    )
    del said["quant_method"]
    codes = RANDOM.normal(size=(48, 64)).astype(ml_dtypes.float8_e4m3fn)
    scales = RANDOM.uniform(0.01, 0.02, (2, 4)).astype(ml_dtypes.bfloat16)
    holding = opened({"weight": codes, "weight_scale": scales}, said, key="compression_config")
    wide = np.repeat(np.repeat(scales.astype(np.float32), 32, 0), 16, 1)[:48]
    np.testing.assert_array_equal(decoded(holding), codes.astype(np.float32) * wide)
    assert holding.claims().config == {"model_type": "llama", "hidden_size": 64, "vocab_size": 32}


def test_several_formats_in_one_model_names_before_expressions_before_classes(tmp_path):
    float8 = {"num_bits": 8, "type": "float", "strategy": "channel"}
    groups = {
        "a": {"targets": ["Linear"], "weights": WEIGHTS, "format": "pack-quantized"},
        "b": {"targets": [r"re:.*\.mlp\..*"], "weights": float8, "format": "float-quantized"},
        "c": {"targets": [UP_PROJ], "weights": WEIGHTS | {"num_bits": 2}, "format": "pack-quantized"},
    }  # fmt: skip
    said = {"quant_method": "compressed-tensors", "config_groups": groups, "format": "mixed-precision", "ignore": []}
    modules = {
        Q_PROJ: packed()[2],
        "model.layers.0.mlp.down_proj": {
            "weight": np.ones((8, 8), ml_dtypes.float8_e4m3fn),
            "weight_scale": np.ones((8, 1), np.float32),
        },
        UP_PROJ: packed(2)[2],
    }
    tensors = {f"{path}.{part}": array for path, parts in modules.items() for part, array in parts.items()}
    holding = open_candidate(write_candidate(tmp_path, tensors, said))
    found = {tensor.name: (tensor.kind, tensor.parameters["bits"]) for tensor in holding.stored()}
    assert found == {
        f"{Q_PROJ}.weight": ("pack-quantized", 4),
        "model.layers.0.mlp.down_proj.weight": ("float-quantized", 8),
        f"{UP_PROJ}.weight": ("pack-quantized", 2),
    }


def test_inputs_in_integers_token_by_token_are_rounded_here_too(opened):
    said = quantization(BY_ROW, "int-quantized", inputs=PER_TOKEN)
    held = opened(int8(), said).tensor(f"{Q_PROJ}.weight")
    assert held.codec.has_input_rule
    assert held.codec.layer(held.read()).input_rule == PerToken(bits=8)
    assert held.note == ""


@pytest.mark.parametrize(("zero", "ours"), [(None, 128), (-28, 100)])
def test_inputs_on_one_grid(opened, zero, ours):
    parts = int8() | {"input_scale": np.array([0.25], np.float32)}
    parts |= {} if zero is None else {"input_zero_point": np.array([zero], np.int8)}
    said = quantization(BY_ROW, "int-quantized", inputs=STATIC | {"symmetric": zero is None})
    held = opened(parts, said).tensor(f"{Q_PROJ}.weight")
    rule = held.codec.layer(held.read()).input_rule
    assert rule == Fixed(step=0.25, zero=ours, bits=8)
    inputs = RANDOM.normal(scale=20, size=(3, 64)).astype(np.float32)
    codes = np.clip(np.rint(inputs / np.float32(0.25)) + (zero or 0), -128, 127)  # as the package has it
    np.testing.assert_array_equal(rule.rounded(inputs), (codes - (zero or 0)) * np.float32(0.25))


def test_what_is_not_rounded_here_is_said_and_the_caches_scales_are_not_left_over(opened):
    float8 = {"num_bits": 8, "type": "float", "strategy": "token", "dynamic": True}
    said = quantization(inputs=float8, kv_cache_scheme={"num_bits": 8, "type": "float"})
    path, cache = "model.layers.0.self_attn.k_proj", "model.layers.0.self_attn.k_scale"
    holding = opened(packed()[2], said, path=path, beside=PLAIN | {cache: np.ones(1, np.float32)})
    held = holding.tensor(f"{path}.weight")
    assert not held.codec.has_input_rule
    assert held.note == ("inputs and the cache of keys and values not rounded, as the file's scheme asks")
    assert holding.left_over(["lm_head.weight", f"{path}.weight"]) == []


def test_parts_belong_to_their_matrix_and_others_are_left_over(opened):
    beside = PLAIN | {"model.extra": np.ones(3, np.float32), f"{Q_PROJ}.bias": np.ones(48, np.float32)}
    holding = opened(packed()[2], beside=beside)
    assert holding.left_over(["lm_head.weight", f"{Q_PROJ}.weight", f"{Q_PROJ}.bias"]) == ["model.extra"]
    assert holding.left_over(["lm_head.weight", f"{Q_PROJ}.bias", "model.extra"]) == [
        f"{Q_PROJ}.{part}" for part in ("weight_packed", "weight_scale", "weight_shape")
    ]
    assert holding.tensor("model.layers.1.mlp.up_proj.weight") is None


def test_who_it_is(tmp_path):
    form = CompressedTensors()
    for said in (quantization(), {"config_groups": {}}):
        assert form.recognizes(write_candidate(tmp_path, PLAIN, said))
    for said in (None, {"quant_method": "gptq", "bits": 4}, {"bits": 4, "group_size": 64}):
        assert not form.recognizes(write_candidate(tmp_path, PLAIN, said))
