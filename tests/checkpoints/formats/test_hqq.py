"""HQQ checkpoints against hqq itself, a packer written from the layout's description, and known bytes."""

import math

import ml_dtypes
import numpy as np
import pytest
from checkpoints.formats.hub_checkpoints import NORM, PATH, decoded, held, under, write
from checkpoints.formats.pack_hqq import PACKINGS, config, drawn, near, pack
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_quantbench.checkpoints.formats import open_candidate
from pytest_quantbench.checkpoints.formats.hqq import Hqq
from pytest_quantbench.errors import ModelError, WeightError
from pytest_quantbench.quantizers.numerics import affine_rounding


@pytest.mark.parametrize("packing", PACKINGS)
@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("kind", [np.float16, ml_dtypes.bfloat16])
def test_decodes_what_was_packed(tmp_path, packing, axis, kind):
    parts, bits = drawn(packing=packing, axis=axis, kind=kind), PACKINGS[packing][1]
    stored = pack(parts, packing, (16, 64), 32, axis)
    write(tmp_path, under(PATH, stored), config(bits))
    tensor = held(tmp_path)
    assert np.allclose(decoded(tmp_path), near(parts, (16, 64)), rtol=3e-7, atol=0)
    assert (tensor.shape, tensor.kind) == ((16, 64), "hqq")
    assert tensor.stored_bytes == sum(array.nbytes for array in stored.values())
    assert tensor.parameters == {"bits": bits, "group_size": 32, "axis": axis}


def test_known_bytes():
    """The first half of the rows lies in the high halves of the bytes."""
    arrays = {
        "W_q": np.array([[0x12, 0x34]], np.uint8),
        "scale": np.array([[0.5], [2]], np.float16),
        "zero": np.array([[0.5], [1.25]], np.float16),
    }
    dense = Hqq(packing="4bit_u8", shape=(1, 4), group=2, axis=1).decode(arrays)
    assert dense.tolist() == [[0.25, 1.25, 1.5, 5.5]]
    arrays = {**arrays, "scale": np.array([[0.5, 2]], np.float16), "zero": np.array([[0.5, 1.25]], np.float16)}
    dense = Hqq(packing="4bit_u8", shape=(1, 4), group=2, axis=0).decode(arrays)
    assert dense.tolist() == [[0.25, 3.5, 0.75, 5.5]]


@given(
    packing=st.sampled_from(sorted(PACKINGS)),
    axis=st.sampled_from([0, 1]),
    outs=st.integers(1, 12),
    ins=st.integers(1, 40),
    share=st.integers(1, 480),
    seed=st.integers(0, 2**32 - 1),
)
@settings(max_examples=60)
def test_any_size(packing, axis, outs, ins, share, seed):
    """Groups of any size that divides the matrix, and rows that do not fill the last slab."""
    group = math.gcd(outs * ins, share)
    parts = drawn((outs, ins), packing, group, axis, seed=seed)
    codec = Hqq(packing=packing, shape=(outs, ins), group=group, axis=axis)
    dense = codec.decode(pack(parts, packing, (outs, ins), group, axis))
    assert np.allclose(dense, near(parts, (outs, ins)), rtol=3e-7, atol=0)


def test_codes_may_be_shown_as_floats(tmp_path):
    """Whatever numbers their bits would be: all ones are NaN."""
    codes, scales, zeros = drawn()
    codes[:, :4] = 15
    stored = pack((codes, scales, zeros), "4bit_u8", (16, 64), 32, 1)
    stored["W_q"] = stored["W_q"].view(np.float16)
    write(tmp_path, under(PATH, stored), config())
    assert np.allclose(decoded(tmp_path), near((codes, scales, zeros), (16, 64)), rtol=3e-7, atol=0)


@pytest.mark.parametrize("packing", ["8bit_u8", "4bit_u8", "3bit_32", "2bit_u8"])
@pytest.mark.parametrize(("group", "kept"), [(32, 32), (64, 64), (128, 128), (256, 128)])
def test_mlx_runs_the_same_matrix(packing, group, kept):
    parts, bits = drawn((16, 256), packing, group), PACKINGS[packing][1]
    codec = Hqq(packing=packing, shape=(16, 256), group=group, axis=1)
    arrays = pack(parts, packing, (16, 256), group, 1)
    grid = codec.layer(arrays).grid
    assert (grid.group, grid.bits, grid.in_features) == (kept, bits, 256)
    dense = affine_rounding.decoded(grid.codes.view(np.uint8), grid.scales, grid.biases, bits)
    assert np.array_equal(dense, codec.decode(arrays))


def test_what_no_kernel_runs():
    """The other axis, one bit, groups across the ends of rows or of another size, and zero points so fine that bias
    and product would be rounded apart.
    """
    for packing, group, axis in (("4bit_u8", 32, 0), ("1bit_u8", 32, 1), ("4bit_u8", 128, 1), ("4bit_u8", 16, 1)):
        codec = Hqq(packing=packing, shape=(16, 64), group=group, axis=axis)
        assert codec.layer(pack(drawn((16, 64), packing, group, axis), packing, (16, 64), group, axis)) is None
    codec, (codes, scales, zeros) = Hqq(packing="4bit_u8", shape=(16, 64), group=32, axis=1), drawn()
    assert codec.layer(pack((codes, scales, zeros), "4bit_u8", (16, 64), 32, 1)) is not None
    zeros[3] = 1.001 * 2**-14
    assert codec.layer(pack((codes, scales, zeros), "4bit_u8", (16, 64), 32, 1)) is None
    wide = drawn(kind=np.float32)
    assert codec.layer(pack(wide, "4bit_u8", (16, 64), 32, 1)) is None


def test_bits_of_single_layers_and_bits_that_are_no_whole_number(tmp_path):
    parts = drawn(packing="2bit_u8")
    stored = pack(parts, "2bit_u8", (16, 64), 32, 1, bits=1.58)
    write(tmp_path, under(PATH, stored), config(1.58, layer="mlp.up_proj"))
    assert held(tmp_path).parameters["bits"] == 1.58
    with pytest.raises(ModelError, match=r"nbits = \[4\].*up_proj\.nbits has, which is 1\.58"):
        open_candidate(write(tmp_path, under(PATH, stored), config(4)))


REFUSED = {
    "packing": ({"packing": np.frombuffer(b"5bit_u8", np.uint8)}, "packing = '5bit_u8.*4bit_u8"),
    "more bits than packed": ({"nbits": np.array(8, np.int32)}, "4bit_u8 for 8 bits"),
    "no text": ({"packing": np.full(3, 0xFF, np.uint8)}, "packing = "),
    "another shape": ({"shape": np.array([16, 65])}, r"W_q of shape \(16, 32\) is no matrix \(16, 65\)"),
    "an immense shape": ({"shape": np.array([2**60, 2**60])}, "is no matrix"),
    "a shape of one": ({"shape": np.array([1024])}, "is no matrix"),
    "below zero": ({"shape": np.array([-16, -64])}, "is no matrix"),
    "axis": ({"axis": np.array(2, np.int32)}, "along axis 2"),
    "group": ({"group_size": np.array(0, np.int32)}, "groups of 0"),
    "another group": (
        {"group_size": np.array(64, np.int32)},
        r"W_q of shape \(16, 32\) is no matrix \(16, 64\) in groups of 64",
    ),
    "words on their side": ({"W_q": np.zeros((32, 16), np.uint8)}, r"W_q of shape \(32, 16\) is no matrix"),
    "words in a row": ({"W_q": np.zeros(512, np.uint8)}, "is no matrix"),
    "words": ({"W_q": np.zeros((16, 31), np.uint8)}, "is no matrix"),
    "words of another type": ({"W_q": np.zeros((16, 32), np.int8)}, r"W_q' is I8"),
    "scales": ({"scale": np.ones((31, 1), np.float16)}, r"scale' is F16 of shape \(31, 1\)"),
    "zero points": ({"zero": np.ones((1, 32), np.float16)}, r"zero' is F16 of shape \(1, 32\)"),
    "a long number": ({"axis": np.ones(101, np.int32)}, r"axis has shape \(101,\)"),
    "no number": ({"axis": np.ones(0, np.int32)}, r"axis has shape \(0,\)"),
    "no zero points": ({"zero": None}, r"lacks .*up_proj\.zero"),
    "no packing": ({"packing": None}, r"lacks .*up_proj\.packing"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused_when_opened(tmp_path, case):
    change, message = REFUSED[case]
    stored = {**pack(drawn(), "4bit_u8", (16, 64), 32, 1), **change}
    write(tmp_path, under(PATH, {part: array for part, array in stored.items() if array is not None}), config())
    with pytest.raises(ModelError, match=message) as caught:
        open_candidate(tmp_path)
    assert str(tmp_path) in str(caught.value)


def test_scales_that_are_not_finite_are_refused_when_read(tmp_path):
    stored = pack(drawn(), "4bit_u8", (16, 64), 32, 1)
    stored["zero"][3] = np.inf
    write(tmp_path, under(PATH, stored), config())
    with pytest.raises(WeightError, match=r"model\.safetensors: .*up_proj\.zero' holds NaN or infinity"):
        held(tmp_path).read()


def test_a_pickle_is_not_opened(tmp_path):
    (tmp_path / "qmodel.pt").write_bytes(b"cos\nsystem\n(S'touch opened'\ntR.")
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ModelError, match=r"qmodel\.pt, a pickle, which can run code and is not opened"):
        open_candidate(tmp_path)


@pytest.mark.parametrize("bits", [8, 6, 5, 4, 3, 2, 1.58, 1])
@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("viewed", [False, True])
def test_hqq_packs_and_decodes_the_same(tmp_path, bits, axis, viewed):
    """In float32, as its own 16 bits would round."""
    torch = pytest.importorskip("torch")
    hqq = pytest.importorskip("hqq.core.quantize")
    linear = torch.nn.Linear(128, 40, bias=True)
    linear.weight.data = torch.from_numpy(np.random.default_rng(0).standard_normal((40, 128)).astype(np.float32))
    recipe = hqq.BaseQuantizeConfig(nbits=bits, group_size=64, axis=axis, view_as_float=viewed)
    layer = hqq.HQQLinear(linear, recipe, compute_dtype=torch.float32, device="cpu")
    stored = {part: array.detach().numpy() for part, array in layer.state_dict().items()}
    write(tmp_path, under(PATH, stored), config(bits))
    assert np.array_equal(decoded(tmp_path), layer.dequantize().numpy())
    holding = open_candidate(tmp_path)
    assert {tensor.name for tensor in holding.stored()} == {f"{PATH}.weight", f"{PATH}.bias", NORM}
    bias = stored["bias"].nbytes
    assert holding.tensor(f"{PATH}.weight").stored_bytes == sum(array.nbytes for array in stored.values()) - bias
