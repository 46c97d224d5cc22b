"""Models that mlx-lm quantized and saved, decoded here: to the last bit as MLX dequantizes them in float32."""

import json

import ml_dtypes
import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
from candidate_folders import write_candidate
from mlx_lm.convert import convert, mixed_quant_predicate_builder
from mlx_lm.models.switch_layers import QuantizedSwitchLinear
from mlx_lm.utils import quantize_model, save_config, save_model
from small_models import CONFIGS, HEADS

from pytest_quantbench.catalog.models import TINY_DIRECTORY
from pytest_quantbench.checkpoints.formats import open_candidate
from pytest_quantbench.checkpoints.formats.mlx import Mlx
from pytest_quantbench.engines.mlx.layers import decoded, module
from pytest_quantbench.engines.mlx.skeleton import skeleton
from pytest_quantbench.errors import ModelError, WeightError
from pytest_quantbench.quantizers.encoding import Encoding

QUANTIZED = (nn.QuantizedLinear, nn.QuantizedEmbedding, QuantizedSwitchLinear)


@pytest.fixture
def converted(tmp_path):
    """A random model as mlx-lm quantizes it, and its folder as mlx-lm saves it."""

    def make(architecture="llama", *, dtype=mx.bfloat16, hidden_size=128, **options):
        config = CONFIGS[architecture] | {"hidden_size": hidden_size, "intermediate_size": 256, "num_hidden_layers": 8}
        if architecture == "qwen3_moe":
            config |= {"moe_intermediate_size": 64, "num_hidden_layers": 3}
        mx.random.seed(1)
        model = skeleton(config, HEADS)
        model.set_dtype(dtype)
        recipe = options.pop("recipe", None)
        if recipe is not None:
            options["quant_predicate"] = mixed_quant_predicate_builder(recipe, model, options["group_size"])
        model, said = quantize_model(model, dict(config), **{"group_size": None, "bits": None} | options)
        save_model(tmp_path, model)
        save_config(said, tmp_path / "config.json")
        return model, tmp_path

    return make


def dequantized(layer):
    """What MLX makes of a layer's matrix, in float32."""
    scales, biases = layer.scales, layer.get("biases")
    if layer.mode == "affine":
        scales, biases = scales.astype(mx.float32), biases.astype(mx.float32)
    kind = {"group_size": layer.group_size, "bits": layer.bits, "mode": layer.mode, "dtype": mx.float32}
    if layer.get("global_scale") is None:
        return np.array(mx.dequantize(layer.weight, scales, biases, **kind))
    each = zip(layer.weight, scales, layer.global_scale, strict=True)
    return np.stack([np.array(mx.dequantize(w, s, global_scale=g, **kind)) for w, s, g in each])


def check(model, directory):
    """Every tensor of the folder is that of the model; how many of each kind there are."""
    holding, found = open_candidate(directory), []
    layers = {path: layer for path, layer in model.named_modules() if isinstance(layer, QUANTIZED)}
    for path, layer in layers.items():
        held = holding.tensor(f"{path}.weight")
        theirs = dequantized(layer)
        ours = Encoding(codec=held.codec, arrays=held.read(), shape=held.shape).dense()
        assert (held.shape, held.name) == (theirs.shape, f"{path}.weight")
        np.testing.assert_array_equal(ours, theirs)
        found.append((held.kind, held.parameters["bits"], held.parameters["group_size"]))
        parts = [layer[name] for name in ("weight", "scales", "biases", "global_scale") if layer.get(name) is not None]
        assert held.stored_bytes == sum(part.nbytes for part in parts)
    names = [tensor.name for tensor in holding.stored()]
    plain = [name for name in names if name.removesuffix(".weight") not in layers]
    assert all(holding.tensor(name).codec is None for name in plain)
    assert holding.left_over(names) == []
    assert holding.left_over(names[1:]) == names[:1]
    return {kind: found.count(kind) for kind in found}, plain


@pytest.mark.parametrize("dtype", [mx.bfloat16, mx.float16, mx.float32])
@pytest.mark.parametrize("bits", [2, 3, 4, 5, 6, 8])
def test_affine_of_every_width(converted, bits, dtype):
    kinds, plain = check(*converted(bits=bits, group_size=64, dtype=dtype))
    assert kinds == {("mlx affine", bits, 64): 2 + 8 * 7}
    assert len(plain) == 2 * 8 + 1


@pytest.mark.parametrize("group", [32, 64, 128])
def test_affine_of_every_group(converted, group):
    assert check(*converted(bits=4, group_size=group))[0] == {("mlx affine", 4, group): 58}


@pytest.mark.parametrize(("mode", "bits", "group"), [("mxfp4", 4, 32), ("mxfp8", 8, 32), ("nvfp4", 4, 16)])
def test_floating_modes(converted, mode, bits, group):
    assert check(*converted(mode=mode))[0] == {(f"mlx {mode}", bits, group): 58}


@pytest.mark.parametrize(
    ("recipe", "low", "high"), [("mixed_2_6", 2, 6), ("mixed_3_4", 3, 4), ("mixed_3_6", 3, 6), ("mixed_4_6", 4, 6)]
)
def test_recipes_of_several_widths(converted, recipe, low, high):
    kinds, _ = check(*converted(recipe=recipe, group_size=64, bits=4))
    assert kinds == {("mlx affine", low, 64): 58 - 9, ("mlx affine", high, 64): 9}


def test_layers_that_are_left_alone_and_modes_that_differ(converted):
    entries = {
        "model.embed_tokens": False,
        "lm_head": {"mode": "mxfp8", "group_size": 32, "bits": 8},
        "model.layers.1.mlp.up_proj": {"bits": 8, "group_size": 32},
    }
    model, directory = converted(bits=4, group_size=64, quant_predicate=lambda path, _: entries.get(path, True))
    said = json.loads((directory / "config.json").read_text())
    said["quantization"]["model.embed_tokens"] = False  # as some write it, others leave it out
    (directory / "config.json").write_text(json.dumps(said))
    kinds, plain = check(model, directory)
    assert kinds == {("mlx affine", 4, 64): 55, ("mlx mxfp8", 8, 32): 1, ("mlx affine", 8, 32): 1}
    assert "model.embed_tokens.weight" in plain


@pytest.mark.parametrize("options", [{"bits": 3, "group_size": 32}, {"mode": "mxfp4"}, {"mode": "nvfp4"}])
def test_experts_are_stacks(converted, options):
    model, directory = converted("qwen3_moe", **options)
    check(model, directory)
    held = open_candidate(directory).tensor("model.layers.0.mlp.switch_mlp.up_proj.weight")
    assert held.shape == (4, 64, 128)


def test_experts_with_a_scale_of_their_own(converted):
    model, directory = converted("qwen3_moe", mode="nvfp4", global_scale=True)
    check(model, directory)
    held = open_candidate(directory).tensor("model.layers.0.mlp.switch_mlp.up_proj.weight")
    encoding = Encoding(codec=held.codec, arrays=held.read(), shape=held.shape)
    assert encoding.arrays["global_scale"].shape == (4,)
    for layer, dense in zip(encoding.layers(), encoding.dense(), strict=True):
        np.testing.assert_allclose(np.array(decoded(layer)), dense, rtol=3e-7)


@pytest.mark.parametrize("key", ["quantization", "quantization_config"])
def test_the_embedded_model_as_older_versions_saved_it(tmp_path, key):
    convert(str(TINY_DIRECTORY), str(tmp_path / "mlx"), quantize=True, q_bits=4, q_group_size=32)
    directory = tmp_path / "mlx"
    said = json.loads((directory / "config.json").read_text())
    assert said["quantization"] == said["quantization_config"]
    del said[key], said["quantization" if key != "quantization" else "quantization_config"]["mode"]
    (directory / "config.json").write_text(json.dumps(said))
    holding = open_candidate(directory)
    assert {tensor.kind for tensor in holding.stored()} == {"mlx affine", "BF16"}
    assert holding.claims().config.keys().isdisjoint({"quantization", "quantization_config"})
    held = holding.tensor("model.layers.0.self_attn.q_proj.weight")
    original = open_candidate(TINY_DIRECTORY).tensor(held.name).read()["weight"].astype(np.float32)
    assert np.abs(held.codec.decode(held.read()) - original).max() < np.abs(original).max() / 8


@pytest.mark.parametrize("options", [{"bits": 3, "group_size": 32}, {"bits": 8, "group_size": 128}, {"mode": "mxfp8"}])
def test_a_layer_runs_as_mlx_runs_it(converted, options):
    model, directory = converted(dtype=mx.float32, **options)
    held = open_candidate(directory).tensor("lm_head.weight")
    inputs = mx.random.normal((3, 128))
    arrays = held.read()
    ours = module(held.codec.layer(arrays), lambda: held.codec.decode(arrays))(inputs)
    np.testing.assert_array_equal(np.array(ours), np.array(model.lm_head(inputs)))


def parts(bits=4, group=64, shape=(8, 128), **changes):
    """A quantized matrix as MLX stores it."""
    weight, scales, biases = mx.quantize(mx.random.normal(shape), group, bits)
    found = {"weight": np.array(weight), "scales": np.array(scales), "biases": np.array(biases)} | changes
    return {f"a.b.{name}": array for name, array in found.items() if array is not None}


USUAL = {"group_size": 64, "bits": 4}
REFUSED = {
    "other bits": (parts(bits=8), USUAL, r"model\.safetensors: a\.b\.scales|'a\.b\.scales' is F32 of shape \(8, 2\)"),
    "another group": (parts(), USUAL | {"group_size": 32}, r"'a\.b\.scales' is F32 of .* of shape \(8, 4\) is needed"),
    "rows that no group fills": (parts(), USUAL | {"group_size": 96}, "holds no rows of 4 bits in groups of 96"),
    "no biases": (parts(biases=None), USUAL, r"lacks 'a\.b\.biases'"),
    "signed codes": (parts(weight=np.ones((8, 16), np.int32)), USUAL, "is I32 of shape"),
    "no matrix": (parts(weight=np.ones(16, np.uint32)), USUAL, "holds no rows"),
    "nothing": (parts(weight=np.ones((8, 0), np.uint32)), USUAL, "holds no rows"),
    "scales of eight bits": (parts(scales=np.ones((8, 2), np.uint8)), USUAL, "is U8 of shape"),
    "a floating mode with affine scales": (parts(), USUAL | {"mode": "mxfp4", "group_size": 32}, "and U8 of shape"),
    "left alone, with scales": (parts(), USUAL | {"a.b": False}, r"says False of a\.b, which has scales"),
    **{
        f"{said}": (parts(), USUAL | said, r"config\.json says .* of a\.b, which has scales. MLX has affine of")
        for said in (
            {"bits": 7}, {"bits": "4"}, {"bits": [4]}, {"bits": True}, {"bits": 4.5}, {"bits": -4}, {"bits": None},
            {"group_size": 0}, {"group_size": "64"}, {"group_size": -64}, {"group_size": [64]}, {"group_size": 2.5},
            {"mode": "mxfp5"}, {"mode": ["affine"]}, {"mode": 4}, {"mode": None}, {"mode": "nvfp4"}, {"a.b": "no"},
            {"a.b": [4]}, {"a.b": {"bits": 9}}, {"a.b": {"mode": {}}}, {"bits": 10**30},
        )
    },
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_does_not_fit_together_is_refused(tmp_path, name):
    tensors, said, message = REFUSED[name]
    with pytest.raises(ModelError, match=message):
        open_candidate(write_candidate(tmp_path, tensors, said, key="quantization"))


def test_extra_parts_are_left_over(tmp_path):
    extra = {"a.c.scales": np.ones(2, np.float16), "a.b.global_scale": np.ones((), np.float32)}
    holding = open_candidate(write_candidate(tmp_path, parts() | extra, USUAL, key="quantization"))
    assert holding.left_over(["a.b.weight"]) == sorted(extra)


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("part", ["scales", "biases"])
def test_scales_that_are_no_numbers_are_told_when_they_are_read(tmp_path, part, value):
    wrong = {part: np.full((8, 2), value, ml_dtypes.bfloat16)}
    holding = open_candidate(write_candidate(tmp_path, parts(**wrong), USUAL, key="quantization"))
    with pytest.raises(WeightError, match=rf"model\.safetensors: 'a\.b\.{part}' holds NaN or infinity"):
        holding.tensor("a.b.weight").read()


def test_a_group_without_kernels_runs_decoded(tmp_path):
    tensors = {
        "a.b.weight": np.full((4, 4), 0x76543210, np.uint32),
        "a.b.scales": np.ones((4, 2), np.float32),
        "a.b.biases": np.zeros((4, 2), np.float32),
    }
    said = {"group_size": 16, "bits": 4}
    held = open_candidate(write_candidate(tmp_path, tensors, said, key="quantization")).tensor("a.b.weight")
    arrays = held.read()
    assert held.codec.layer(arrays) is None
    assert held.codec.decode(arrays).tolist() == [list(range(8)) * 4] * 4


def test_who_it_is(tmp_path):
    for said in ({"group_size": 64, "bits": 4}, {"group_size": 32, "bits": 4, "mode": "mxfp4"}):
        assert Mlx().recognizes(write_candidate(tmp_path, parts(), said, key="quantization"))
    for said in (None, USUAL | {"quant_method": "gptq"}, {"bits": 4}):
        assert not Mlx().recognizes(write_candidate(tmp_path, parts(), said))
