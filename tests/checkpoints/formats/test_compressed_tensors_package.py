"""Files that the compressed-tensors package compressed, decoded here: to the last bit as the package does it."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_quantbench.checkpoints.formats import open_candidate
from pytest_quantbench.checkpoints.formats.compressed_schemes import Targets

torch = pytest.importorskip("torch")
pytest.importorskip("compressed_tensors")

from compressed_tensors.compressors import BaseCompressor  # noqa: E402
from compressed_tensors.quantization import QuantizationArgs, QuantizationConfig, QuantizationScheme  # noqa: E402
from compressed_tensors.quantization.utils import calculate_qparams  # noqa: E402
from compressed_tensors.utils.match import match_named_modules, match_targets  # noqa: E402
from safetensors.torch import save_file  # noqa: E402

PATH = "model.layers.0.self_attn.q_proj"
NV = {"num_bits": 4, "type": "float", "strategy": "tensor_group", "group_size": 16, "scale_dtype": torch.float8_e4m3fn}
MX = {"type": "float", "strategy": "group", "group_size": 32, "scale_dtype": torch.uint8}
ZEROS, BLOCKS = {"symmetric": False}, {"strategy": "block", "block_structure": [32, 96]}
GROUP, CHANNEL = {"strategy": "group", "group_size": 32}, {"strategy": "channel"}
CASES = {
    **{f"pack {bits}": ("pack-quantized", {"num_bits": bits} | GROUP) for bits in range(2, 9)},
    **{f"pack {bits} asymmetric": ("pack-quantized", {"num_bits": bits} | ZEROS | GROUP) for bits in (3, 4, 8)},
    "pack 4 by 128": ("pack-quantized", {"num_bits": 4, "strategy": "group", "group_size": 128}),
    "pack 4 by row": ("pack-quantized", {"num_bits": 4} | CHANNEL),
    "pack 8 by row, asymmetric": ("pack-quantized", {"num_bits": 8} | ZEROS | CHANNEL),
    "pack 4 of one scale": ("pack-quantized", {"num_bits": 4, "strategy": "tensor"}),
    "pack 4 of blocks": ("pack-quantized", {"num_bits": 4, "strategy": "block", "block_structure": [16, 64]}),
    "int 8 by row": ("int-quantized", {"num_bits": 8} | CHANNEL),
    "int 8 asymmetric": ("int-quantized", {"num_bits": 8} | ZEROS | CHANNEL),
    "naive 4": ("naive-quantized", {"num_bits": 4} | GROUP),
    "fp8 of one scale": ("float-quantized", {"num_bits": 8, "type": "float", "strategy": "tensor"}),
    "fp8 by row": ("float-quantized", {"num_bits": 8, "type": "float"} | CHANNEL),
    "fp8 of blocks": ("float-quantized", {"num_bits": 8, "type": "float"} | BLOCKS),
    "fp8 naive": ("naive-quantized", {"num_bits": 8, "type": "float"} | CHANNEL),
    "nvfp4": ("nvfp4-pack-quantized", NV),
    "mxfp4": ("mxfp4-pack-quantized", {"num_bits": 4} | MX),
    "mxfp6": ("mxfp6-pack-quantized", {"num_bits": 6} | MX),
    "mxfp8": ("mxfp8-quantized", {"num_bits": 8} | MX),
}  # fmt: skip


def blocks(weight, args):
    """(block rows, block columns, all that share a scale): the largest and the smallest are taken of the last."""
    rows, columns = weight.shape
    height, width = {
        "tensor": (rows, columns),
        "channel": (1, columns),
        "block": tuple(args.block_structure or ()),
    }.get(args.strategy, (1, args.group_size))
    padded = torch.nn.functional.pad(weight, (0, -columns % width, 0, -rows % height))
    parts = padded.reshape(padded.shape[0] // height, height, padded.shape[1] // width, width)
    return parts.transpose(1, 2).flatten(2)


def compressed(form, options, dtype, shape=(48, 256)):
    """The package's scheme, and the tensors that it makes of a random matrix."""
    args = QuantizationArgs(**options)
    scheme = QuantizationScheme(targets=["Linear"], weights=args, format=form)
    weight = (torch.randn(shape, generator=torch.Generator().manual_seed(3)) * 0.05).to(dtype)
    shared = blocks(weight, args)
    tensors = {"weight": weight}
    if args.strategy == "tensor_group":
        tensors["weight_global_scale"] = torch.tensor([448.0 * 6 / weight.abs().max().item()])
    scales, zeros = calculate_qparams(shared.amin(2), shared.amax(2), args, tensors.get("weight_global_scale"))
    tensors |= {"weight_scale": scales.to(dtype), "weight_zero_point": zeros.to(torch.int8)}
    if args.strategy == "tensor":
        tensors = {name: array.reshape(1) if name != "weight" else array for name, array in tensors.items()}
    return scheme, BaseCompressor.get_value_from_registry(form).compress(tensors, scheme)


@pytest.fixture
def opened(tmp_path):
    """The holding of such tensors, beside a config that the package writes."""

    def write(scheme, tensors):
        config = QuantizationConfig(config_groups={"group_0": scheme}, format=scheme.format, ignore=["lm_head"])
        named = {f"{PATH}.{name}": array.contiguous() for name, array in tensors.items()}
        save_file(named | {"lm_head.weight": torch.ones(8, 8)}, tmp_path / "model.safetensors")
        said = json.loads(config.model_dump_json())
        (tmp_path / "config.json").write_text(json.dumps({"model_type": "llama", "quantization_config": said}))
        return open_candidate(tmp_path)

    return write


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("name", CASES)
def test_what_the_package_decompresses(opened, name, dtype):
    form, options = CASES[name]
    scheme, tensors = compressed(form, options, getattr(torch, dtype))
    held = opened(scheme, tensors).tensor(f"{PATH}.weight")
    dense = held.codec.decode(held.read())
    assert (held.shape, held.kind, dense.dtype) == ((48, 256), form, np.float32)
    theirs = BaseCompressor.get_value_from_registry(form).decompress(tensors, scheme)["weight"]
    ours = torch.from_numpy(dense).to(theirs.dtype)
    assert torch.equal(ours, theirs)
    assert dense.std() == pytest.approx(0.05, rel=0.2)


@pytest.mark.parametrize("shape", [(40, 200), (3, 61), (1, 133)])
@pytest.mark.parametrize("bits", range(2, 9))
def test_rows_that_do_not_fill_whole_words(opened, bits, shape):
    for symmetric in (True, False):
        options = {"num_bits": bits, "symmetric": symmetric} | CHANNEL
        scheme, tensors = compressed("pack-quantized", options, torch.float32, shape)
        held = opened(scheme, tensors).tensor(f"{PATH}.weight")
        theirs = BaseCompressor.get_value_from_registry("pack-quantized").decompress(tensors, scheme)["weight"]
        assert torch.equal(torch.from_numpy(held.codec.decode(held.read())), theirs)


@pytest.mark.parametrize("name", CASES)
def test_what_is_not_compressed_is_as_it_was_and_nothing_is_left_over(opened, name):
    holding = opened(*compressed(*CASES[name], torch.bfloat16))
    assert {tensor.name for tensor in holding.stored()} == {"lm_head.weight", f"{PATH}.weight"}
    assert holding.left_over(["lm_head.weight", f"{PATH}.weight"]) == []
    assert holding.tensor("lm_head.weight").read()["weight"].tolist() == np.ones((8, 8)).tolist()


class Targeted:
    """What is asked for modules' names and classes."""

    def __init__(self, paths):
        self.paths = {path: torch.nn.Linear(1, 1) for path in paths}

    def named_modules(self):
        return iter(self.paths.items())


PATHS = ["model.layers.0.self_attn.q_proj", "model.layers.1.mlp.up_proj", "model.layers.10.mlp.up_proj", "lm_head"]
TARGETS = [
    "Linear",
    "lm_head",
    "re:.*mlp.*",
    "re:.*up_proj$",
    "re:model.layers.1[.]",
    "model.layers.10.mlp.up_proj",
    "re:up",
]


@settings(max_examples=200)
@given(
    groups=st.lists(st.lists(st.sampled_from(TARGETS), min_size=1, max_size=3), min_size=1, max_size=3),
    ignore=st.lists(st.sampled_from(TARGETS[1:]), max_size=2),
)
def test_the_package_finds_the_same_group_of_each_module(groups, ignore):
    schemes = {f"group_{number}": QuantizationScheme(targets=targets) for number, targets in enumerate(groups)}
    by_target = {target: name for name, scheme in schemes.items() for target in scheme.targets}
    matched = dict(match_named_modules(Targeted(PATHS), list(by_target), ignore))
    ours, left_alone = Targets(groups), Targets([ignore])
    for path in PATHS:
        found = None if left_alone.group_of(path) is not None else ours.group_of(path)
        theirs = match_targets(path, torch.nn.Linear(1, 1), list(by_target)) if path in matched else []
        assert (None if found is None else f"group_{found}") == (by_target[theirs[0]] if theirs else None)
