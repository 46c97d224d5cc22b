"""compressed-tensors checkpoints whose parts do not fit together, or are in what is not read: refused, by name."""

import ml_dtypes
import numpy as np
import pytest
from candidate_folders import Q_PROJ
from compressed_files import STATIC, WEIGHTS, int8, open_parts, packed, quantization

from pytest_quantbench.errors import ModelError

THIRDS = np.ones((48, 3), np.float32)


def changed(**parts):
    """The parts of a packed matrix, some of them others or, as None, gone."""
    return {name: array for name, array in (packed()[2] | parts).items() if array is not None}


# By what is wrong: parts, config, and what is said.
REFUSED = {
    "no scale": (changed(weight_scale=None), quantization(), "lacks '.*weight_scale'"),
    "no shape": (changed(weight_shape=None), quantization(), "is I32 of shape .* and I8 or F8_E4M3 or U8"),
    "scales of another group": (changed(weight_scale=THIRDS), quantization(), r"\(48, 2\) is needed"),
    "scales of whole numbers": (changed(weight_scale=np.ones((48, 2), np.int32)), quantization(), "F16 or BF16 or F32"),
    "a shape of three": (changed(weight_shape=np.ones(3, np.int64)), quantization(), r"I64 or I32 of shape \(2,\)"),
    "no rows": (changed(weight_shape=np.array([0, 64])), quantization(), r"is \[0, 64\], which is no shape"),
    "a huge shape": (changed(weight_shape=np.array([48, 2**60])), quantization(), "weight_packed of shape"),
    "another width": (packed(8)[2], quantization(), r"weight_packed of shape \(48, 16\), and \(48, 8\) is needed"),
    "no zero point": (packed()[2], quantization(WEIGHTS | {"symmetric": False}), "lacks its weight_zero_point"),
    "half a zero point": (
        changed(weight_zero_point=np.ones((3, 2), np.int32)), quantization(), "weight_zero_point of shape"
    ),
    "a group that does not divide": (packed()[2], quantization(WEIGHTS | {"group_size": 48}), "cannot have the stra"),
    "nothing": (int8((0, 64)), quantization({"strategy": "channel"}, "int-quantized"), r"\(0, 64\) is no matrix"),
    "no block": (packed()[2], quantization(WEIGHTS | {"strategy": "block"}), "block_structure = None"),
    "16 bits to be rounded": (
        {"weight": np.ones((48, 64), np.float16), "weight_scale": np.ones((48, 2), np.float16)},
        quantization(form="dense"), "to be rounded when the model runs",
    ),
    "nothing compressed": ({"weight": np.ones((48, 64), np.float16)}, quantization(), "no tensor of it is"),
    "an ignored one": (packed()[2], quantization() | {"ignore": ["re:.*q_proj"]}, "is not quantized, and its"),
    "no target": (packed()[2], quantization(targets=["re:.*mlp.*"]), "does not say how .*q_proj.* targets are 're:"),
    "another format": (packed()[2], quantization(form="marlin-24"), "'marlin-24'.*Those that are read: pack-"),
    "sparse": (
        packed()[2],
        quantization() | {"sparsity_config": {"format": "sparse-24-bitmask"}},
        "sparse, as 'sparse-24-bitmask'. Formats that are read: pack-quantized",
    ),
    "rotated": (packed()[2], quantization() | {"transform_config": {"config_groups": {"u": {}}}}, "transform_config"),
    "floats that are packed": (packed()[2], quantization(WEIGHTS | {"type": "float"}), "which pack-quantized cannot"),
    "no weights": (packed()[2], quantization(None), "says nothing of"),
    "no grid of inputs": (
        int8(), quantization({"strategy": "channel"}, "int-quantized", inputs=STATIC), "lacks '.*input_scale'"
    ),
    "a group with 16 of floats": (
        packed()[2],
        quantization({"num_bits": 4, "type": "float", "strategy": "group", "group_size": 64}, "mxfp4-pack-quantized"),
        "groups of 64 of .*, which mxfp4-pack-quantized cannot hold",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_does_not_fit_together_is_refused(tmp_path, name):
    parts, said, message = REFUSED[name]
    with pytest.raises(ModelError, match=message):
        open_parts(tmp_path, parts, said)


def test_a_global_scale_of_zero(tmp_path):
    parts = {
        "weight_packed": np.zeros((16, 32), np.uint8),
        "weight_scale": np.ones((16, 4), ml_dtypes.float8_e4m3fn),
        "weight_global_scale": np.zeros(1, np.float32),
    }
    weights = {"num_bits": 4, "type": "float", "strategy": "tensor_group", "group_size": 16}
    held = open_parts(tmp_path, parts, quantization(weights, "nvfp4-pack-quantized")).tensor(f"{Q_PROJ}.weight")
    with pytest.raises(ModelError, match=r"model\.safetensors: .*has a weight_global_scale of 0\.0"):
        held.read()
