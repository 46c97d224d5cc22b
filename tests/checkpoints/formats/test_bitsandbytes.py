"""bitsandbytes checkpoints against bitsandbytes itself, a decoder written from the layout, and known bytes."""

import math

import ml_dtypes
import numpy as np
import pytest
from checkpoints.formats.hub_checkpoints import PATH, decoded, held, write
from checkpoints.formats.pack_bitsandbytes import EIGHT, FOUR, STATE, as_bytes, changed_state, drawn, slow, under
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_quantbench.checkpoints.formats import open_candidate
from pytest_quantbench.checkpoints.formats.bitsandbytes import NUMBERS, EightBit, FourBit
from pytest_quantbench.errors import ModelError, WeightError


@pytest.mark.parametrize("kind", ["nf4", "fp4"])
@pytest.mark.parametrize("nested", [0, 32])
def test_decodes_what_was_packed(tmp_path, kind, nested):
    parts = drawn((96, 40), kind=kind, nested=nested)
    write(tmp_path, under(parts), FOUR)
    tensor = held(tmp_path)
    assert np.array_equal(decoded(tmp_path), slow(parts))
    assert (tensor.shape, tensor.kind) == ((96, 40), "bitsandbytes 4-bit")
    assert tensor.stored_bytes == sum(array.nbytes for array in parts.values())
    assert tensor.parameters == {"type": kind, "block": 64, "nested_block": nested}
    assert tensor.codec.layer(tensor.read()) is None


@given(
    shape=st.tuples(st.integers(1, 12), st.integers(1, 60)),
    block=st.sampled_from([32, 64, 128, 4096]),
    kind=st.sampled_from(["nf4", "fp4"]),
    nested=st.booleans(),
    seed=st.integers(0, 2**32 - 1),
)
@settings(max_examples=40)
def test_any_size(shape, block, kind, nested, seed):
    """Of an odd count, the last byte is half full; the last block is as long as what is left."""
    parts = drawn(shape, block, kind, nested=32 if nested else 0, seed=seed)
    codec = FourBit(
        numbers=kind, shape=shape, block=block, nested_block=32 if nested else 0, nested_offset=0.0625 if nested else 0
    )
    arrays = {name.removeprefix("weight."): array for name, array in parts.items()}
    assert np.array_equal(codec.decode(arrays), slow(parts))


def test_known_bytes():
    """0x0F is the smallest number and the largest, 0x7E zero and the second largest."""
    arrays = {"weight": np.array([[0x0F], [0x7E]], np.uint8), "absmax": np.array([2], np.float32)}
    dense = FourBit(numbers="nf4", shape=(2, 2), block=64).decode(arrays)
    assert dense.tolist() == [[-2, 2], [0, 2 * float(np.float32(0.7229568362236023))]]
    dense = FourBit(numbers="fp4", shape=(1, 4), block=64).decode(
        {**arrays, "weight": np.array([0x3B, 0x59], np.uint8)}
    )
    assert np.allclose(dense, [[2, -2, 1, -2 / 16 / 12]], rtol=1e-7)


def test_codes_may_be_shown_as_floats(tmp_path):
    """Whatever numbers their bits would be: all ones are NaN."""
    parts = drawn()
    parts["weight"][:8] = 0xFF
    shown = {**parts, "weight": parts["weight"].reshape(-1).view(ml_dtypes.bfloat16)[:, None]}
    write(tmp_path, under(shown), FOUR)
    assert np.array_equal(decoded(tmp_path), slow(parts))


@pytest.mark.parametrize("marked", [True, False])
def test_eight_bits(tmp_path, marked):
    rng = np.random.default_rng(0)
    codes, largest = rng.integers(-127, 128, (6, 10)).astype(np.int8), rng.uniform(0.1, 1, 6).astype(np.float32)
    parts = {"weight": codes, "SCB": largest} | ({"weight_format": np.array(0, np.uint8)} if marked else {})
    write(tmp_path, under(parts), EIGHT)
    tensor = held(tmp_path)
    assert np.allclose(decoded(tmp_path), codes * largest[:, None].astype(np.float64) / 127, rtol=3e-7)
    assert tensor.stored_bytes == 60 + 24 + marked
    assert tensor.note == "inputs not rounded to 8 bits, as LLM.int8 does but for outliers"
    assert tensor.codec.layer(tensor.read()) is None


def test_older_configs_name_no_method(tmp_path):
    parts = drawn()
    write(tmp_path, under(parts), {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4"})
    assert np.array_equal(decoded(tmp_path), slow(parts))


REFUSED = {
    "another shape": (changed_state(shape=[12, 41]), r"up_proj\.weight' has not the bytes .*\(12, 41\)"),
    "an immense shape": (changed_state(shape=[2**60, 2**60]), "has not the bytes"),
    "no matrix": (changed_state(shape=[480]), "says the shape"),
    "a shape of text": (changed_state(shape=["12", 40]), "says the shape"),
    "no numbers": (changed_state(quant_type="af4"), "no quant_type of fp4, nf4"),
    "other numbers than named": (changed_state(quant_type="fp4"), "no quant_type of fp4, nf4"),
    "a list": (changed_state(quant_type=["nf4"]), "no quant_type of fp4, nf4"),
    "other blocks": (changed_state(blocksize=32), r"up_proj\.weight\.absmax' is U8 of shape \(8,\)"),
    "no block": (changed_state(blocksize=0), "says blocks of 0"),
    "an immense block": (changed_state(nested_blocksize=2**40), "blocks of 64 and 1099511627776"),
    "offset": (changed_state(nested_offset=math.nan), "nested_offset nan"),
    "a long offset": (changed_state(nested_offset=10**400), "nested_offset 1000"),
    "not JSON": ({STATE.format("nf4"): np.full(9, 0xFF, np.uint8)}, "is no JSON"),
    "deep JSON": ({STATE.format("nf4"): np.frombuffer(b"[" * 9000, np.uint8)}, "is no JSON"),
    "no table": ({STATE.format("nf4"): as_bytes([1])}, "no quant_type"),
    "long": ({STATE.format("nf4"): np.zeros(20_000, np.uint8)}, "is longer than 10000 bytes"),
    "no scales": ({"weight.absmax": None}, r"lacks .*up_proj\.weight\.absmax"),
    "no nested scales": ({"weight.nested_absmax": None}, r"lacks .*nested_absmax"),
    "scales that are no codes": ({"weight.absmax": np.ones(8, np.float32)}, r"absmax' is F32"),
    "no codes": ({"weight": None}, r"lacks .*up_proj\.weight"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused_when_opened(tmp_path, case):
    change, message = REFUSED[case]
    parts = {name: array for name, array in {**drawn(nested=32), **change}.items() if array is not None}
    write(tmp_path, under(parts), FOUR)
    with pytest.raises(ModelError, match=message) as caught:
        open_candidate(tmp_path)
    assert str(tmp_path) in str(caught.value)


@pytest.mark.parametrize("part", ["weight.absmax", "weight.quant_map"])
def test_numbers_that_are_not_finite_are_refused_when_read(tmp_path, part):
    parts = drawn()
    parts[part] = np.full_like(parts[part], np.nan)
    write(tmp_path, under(parts), FOUR)
    with pytest.raises(WeightError, match=rf"model\.safetensors: .*{part}' holds NaN"):
        held(tmp_path).read()


def test_other_numbers_than_its_type_has_are_refused_when_read(tmp_path):
    write(tmp_path, under(drawn() | {"weight.quant_map": NUMBERS["fp4"]}), FOUR)
    with pytest.raises(ModelError, match=r"weight\.quant_map' has not the numbers of nf4"):
        held(tmp_path).read()


def test_refused_of_eight_bits(tmp_path):
    parts = {"weight": np.ones((6, 10), np.int8), "SCB": np.ones(6, np.float32), "weight_format": np.array(1, np.uint8)}
    write(tmp_path / "layout", under(parts), EIGHT)
    with pytest.raises(ModelError, match=r"weight_format' says another layout than by rows"):
        held(tmp_path / "layout").read()
    with pytest.raises(ModelError, match=r"SCB' is F32 of shape \(6,\), and F32 of shape \(5,\)"):
        open_candidate(write(tmp_path / "rows", under({**parts, "weight": np.ones((5, 10), np.int8)}), EIGHT))
    with pytest.raises(ModelError, match="says 4 bits, and the tensors are packed in 8"):
        open_candidate(write(tmp_path / "claim", under(parts), FOUR))
    with pytest.raises(ModelError, match="claims bitsandbytes"):
        open_candidate(write(tmp_path / "nothing", {f"{PATH}.weight": np.ones((5, 10), np.float16)}, EIGHT))


@pytest.mark.parametrize("kind", ["nf4", "fp4"])
@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("shape", [(64, 128), (7, 33)])
@pytest.mark.parametrize("block", [64, 128])
def test_bitsandbytes_packs_and_decodes_the_same(tmp_path, kind, nested, shape, block):
    """Of rows that blocks do not divide, odd ones, for which it has no kernel of its own on a CPU: the one for even
    rows takes other blocks' scales in release 0.50.
    """
    torch = pytest.importorskip("torch")
    functional = pytest.importorskip("bitsandbytes").functional
    weight = torch.from_numpy(np.random.default_rng(0).standard_normal(shape).astype(np.float32))
    codes, state = functional.quantize_4bit(weight, blocksize=block, compress_statistics=nested, quant_type=kind)
    parts = {f"weight.{name}": array.numpy() for name, array in state.as_dict(packed=True).items()}
    write(tmp_path, under({"weight": codes.numpy(), **parts}), FOUR)
    assert np.array_equal(decoded(tmp_path), functional.dequantize_4bit(codes, state).numpy())


def test_bitsandbytes_rounds_rows_to_the_same_eight_bits():
    torch = pytest.importorskip("torch")
    functional = pytest.importorskip("bitsandbytes").functional
    weight = torch.from_numpy(np.random.default_rng(0).standard_normal((24, 40)).astype(np.float32))
    codes, largest, _ = functional.int8_vectorwise_quant(weight)
    dense = EightBit().decode({"weight": codes.numpy(), "SCB": largest.numpy()})
    assert np.array_equal(dense, functional.int8_vectorwise_dequant(codes, largest).numpy())
