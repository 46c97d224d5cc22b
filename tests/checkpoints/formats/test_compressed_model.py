"""A whole model that the compressed-tensors package compressed and Transformers saved: names, config and weights."""

import contextlib
import io
import json

import pytest
from candidate_folders import CONFIG
from compressed_files import PER_TOKEN

from pytest_quantbench.checkpoints.formats import open_candidate
from pytest_quantbench.checkpoints.formats.protocol import bits_per_weight

torch = pytest.importorskip("torch")
pytest.importorskip("compressed_tensors")
transformers = pytest.importorskip("transformers")

from compressed_tensors.compressors import ModelCompressor  # noqa: E402
from compressed_tensors.quantization import (  # noqa: E402
    QuantizationArgs,
    QuantizationConfig,
    QuantizationScheme,
    apply_quantization_config,
)
from compressed_tensors.quantization.utils import calculate_qparams  # noqa: E402

CHANNEL = {"num_bits": 8, "strategy": "channel"}
GROUPS = {
    "attention": QuantizationScheme(
        targets=["re:.*self_attn.*"],
        weights=QuantizationArgs(num_bits=4, symmetric=False, strategy="group", group_size=32),
    ),
    "up": QuantizationScheme(
        targets=["re:.*up_proj$"], weights=QuantizationArgs(**CHANNEL), input_activations=QuantizationArgs(**PER_TOKEN)
    ),
    "others": QuantizationScheme(targets=["Linear"], weights=QuantizationArgs(type="float", **CHANNEL)),
}


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """The decompressed model, its names before it was compressed, and its folder."""
    directory = tmp_path_factory.mktemp("saved")
    sizes = {"intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2}
    config = transformers.LlamaConfig(**CONFIG | sizes | {"tie_word_embeddings": False})
    torch.manual_seed(0)
    model = transformers.LlamaForCausalLM(config).to(torch.bfloat16)
    names = list(model.state_dict())
    with contextlib.redirect_stderr(io.StringIO()):  # progress
        apply_quantization_config(model, QuantizationConfig(config_groups=GROUPS, ignore=["lm_head"]))
        for module in quantized(model).values():
            args, weight = module.quantization_scheme.weights, module.weight.data
            groups = weight.unflatten(-1, (-1, args.group_size or weight.shape[-1]))
            scales, zeros = calculate_qparams(groups.amin(-1), groups.amax(-1), args)
            module.weight_scale.data.copy_(scales)
            module.weight_zero_point.data.copy_(zeros)
        compressor = ModelCompressor.from_pretrained_model(model)
        compressor.compress_model(model)
        model.save_pretrained(directory)
        compressor.update_config(directory)
        compressor.decompress_model(model)
    return model, names, directory


def quantized(model):
    """The quantized modules by their paths."""
    return {path: module for path, module in model.named_modules() if hasattr(module, "quantization_scheme")}


def test_every_tensor_is_there_under_its_name_and_no_other(saved):
    _, names, directory = saved
    holding = open_candidate(directory)
    assert sorted(tensor.name for tensor in holding.stored()) == sorted(names)
    assert holding.left_over(names) == []
    assert json.loads((directory / "config.json").read_text())["quantization_config"]["format"] == "mixed-precision"
    kinds = {tensor.name.rsplit(".", 2)[-2]: tensor.kind for tensor in holding.stored() if "layers.1" in tensor.name}
    assert kinds["q_proj"] == kinds["o_proj"] == "pack-quantized"
    assert (kinds["up_proj"], kinds["down_proj"], kinds["input_layernorm"]) == (
        "int-quantized",
        "naive-quantized",
        "BF16",
    )
    assert 4.5 < bits_per_weight(holding.stored()) < 8.5


def test_every_matrix_is_what_the_package_makes_of_it(saved):
    model, _, directory = saved
    holding, ruled = open_candidate(directory), 0
    for path, module in quantized(model).items():
        held = holding.tensor(f"{path}.weight")
        dense = torch.from_numpy(held.codec.decode(held.read()))
        assert torch.equal(dense.to(torch.bfloat16), module.weight.data)
        ruled += held.codec.has_input_rule
    assert ruled == 2
