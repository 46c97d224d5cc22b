"""GPTQ checkpoints against a packer written from the layout's description, AutoGPTQ's own, and known words."""

import importlib.util
from pathlib import Path
from types import SimpleNamespace

import ml_dtypes
import numpy as np
import pytest
from checkpoints.formats.hub_checkpoints import NORM, PATH, as_int32, decoded, held, under, write
from checkpoints.formats.pack_gptq import CONFIG, drawn, exact, pack
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_quantbench.checkpoints.formats import open_candidate
from pytest_quantbench.checkpoints.formats.gptq import Gptq
from pytest_quantbench.errors import ModelError, WeightError
from pytest_quantbench.quantizers.numerics import affine_rounding


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
@pytest.mark.parametrize("form", ["gptq", "gptq_v2"])
@pytest.mark.parametrize("kind", [np.float16, ml_dtypes.bfloat16])
def test_decodes_what_was_packed(tmp_path, bits, form, kind):
    parts = drawn(outs=32, bits=bits, kind=kind)
    stored = under(PATH, pack(*parts, bits, less_one=form == "gptq"))
    write(tmp_path, stored, {**CONFIG, "bits": bits, "checkpoint_format": form})
    tensor = held(tmp_path)
    assert np.array_equal(decoded(tmp_path), exact(*parts))
    assert (tensor.shape, tensor.kind) == ((32, 64), "gptq")
    assert tensor.stored_bytes == sum(array.nbytes for array in stored.values())
    assert tensor.parameters == {"bits": bits, "group_size": 32}


def test_known_words():
    """Eight codes from 0 to 7 make 0x76543210; zero points 1 and 2 are stored as 0 and 1."""
    arrays = {
        "qweight": as_int32([[0x76543210, 0xFEDCBA98]]),
        "qzeros": as_int32([[0x10]]),
        "scales": np.array([[0.5, 0.25]], np.float16),
    }
    dense = Gptq(bits=4, group=8, in_features=8, less_one=True).decode(arrays)
    assert dense[0].tolist() == [-0.5, 0, 0.5, 1, 1.5, 2, 2.5, 3]
    assert dense[1].tolist() == [1.5, 1.75, 2, 2.25, 2.5, 2.75, 3, 3.25]


def test_three_bits_lie_across_the_ends_of_words():
    """Of 32 codes, 10 and 21 do: 7 at place 10 is the highest two bits of the first word and the lowest of the next."""
    arrays = {
        "qweight": as_int32([[0xC0000000], [0x80000001], [0x00000003]]),
        "qzeros": as_int32([[0, 0, 0]]),
        "scales": np.ones((1, 1), np.float16),
    }
    dense = Gptq(bits=3, group=32, in_features=32, less_one=False).decode(arrays)
    assert dense[0].tolist() == [7 if place in (10, 21) else 0 for place in range(32)]


def test_act_order_takes_each_columns_group(tmp_path):
    codes, scales, zeros, group_of = drawn()
    group_of = np.random.default_rng(1).permutation(group_of)
    write(tmp_path, under(PATH, pack(codes, scales, zeros, group_of, 4)), {**CONFIG, "desc_act": True})
    tensor = held(tmp_path)
    assert np.array_equal(decoded(tmp_path), exact(codes, scales, zeros, group_of))
    assert tensor.codec.layer(tensor.read()) is None
    assert tensor.codec.note(tensor.shape, tensor.read()) == "groups in the order of activations"


def test_an_order_of_activations_that_is_not_told_is_refused(tmp_path):
    stored = pack(*drawn(), 4)
    del stored["g_idx"]
    write(tmp_path, under(PATH, stored), {**CONFIG, "desc_act": True})
    with pytest.raises(ModelError, match=rf"lacks {PATH}\.g_idx.*desc_act = true"):
        held(tmp_path)
    whole = pack(*drawn(groups=1), 4)
    del whole["g_idx"]
    write(tmp_path, under(PATH, whole), {**CONFIG, "desc_act": True, "group_size": -1})
    assert np.array_equal(decoded(tmp_path), exact(*drawn(groups=1)))  # one group has no order


def test_groups_are_in_order_without_an_index(tmp_path):
    parts = drawn()
    stored = pack(*parts, 4)
    del stored["g_idx"]
    write(tmp_path, under(PATH, stored), CONFIG)
    assert np.array_equal(decoded(tmp_path), exact(*parts))
    assert not held(tmp_path).codec.note((16, 64), held(tmp_path).read())


def test_the_last_group_may_be_shorter(tmp_path):
    codes, scales, zeros, _ = drawn(ins=72, groups=3)
    group_of = np.arange(72) // 32
    write(tmp_path, under(PATH, pack(codes, scales, zeros, group_of, 4)), CONFIG)
    tensor = held(tmp_path)
    assert np.array_equal(decoded(tmp_path), exact(codes, scales, zeros, group_of))
    assert tensor.codec.layer(tensor.read()) is None


@given(
    bits=st.sampled_from([2, 3, 4, 8]),
    outs=st.integers(1, 40),
    groups=st.integers(1, 4),
    size=st.integers(1, 24),
    seed=st.integers(0, 2**32 - 1),
    shuffled=st.booleans(),
)
@settings(max_examples=60)
def test_any_size_and_order(bits, outs, groups, size, seed, shuffled):
    outs, size = (32 * (outs % 3 + 1), 32 * (size % 3 + 1)) if bits == 3 else (outs, size)
    codes, scales, zeros, group_of = drawn(outs, groups * size, bits, groups, seed=seed)
    group_of = np.random.default_rng(seed).permutation(group_of) if shuffled else group_of
    codec = Gptq(bits=bits, group=size, in_features=groups * size, less_one=True)
    dense = codec.decode(pack(codes, scales, zeros, group_of, bits))
    assert np.array_equal(dense, exact(codes, scales, zeros, group_of))


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
@pytest.mark.parametrize(("group", "kept"), [(32, 32), (64, 64), (128, 128), (256, 128), (96, 32), (-1, 128)])
@pytest.mark.parametrize("middle", [True, False])
def test_mlx_runs_the_same_matrix(tmp_path, bits, group, kept, middle):
    """`middle`: zero points are powers of two, with which 16 bits hold the biases."""
    ins = 768
    codes, scales, zeros, group_of = drawn(32, ins, bits, 1 if group == -1 else ins // group)
    zeros = np.full_like(zeros, 2 ** (bits - 1)) if middle else zeros
    stored = under(PATH, pack(codes, scales, zeros, group_of, bits))
    tensor = held(write(tmp_path, stored, {**CONFIG, "bits": bits, "group_size": group}))
    grid = tensor.codec.layer(tensor.read()).grid
    assert (grid.group, grid.bits, grid.in_features) == (kept, bits, ins)
    assert grid.scales.dtype == grid.biases.dtype == (np.float16 if middle else np.float32)
    dense = affine_rounding.decoded(grid.codes.view(np.uint8), grid.scales, grid.biases, bits)
    assert np.array_equal(dense, tensor.codec.decode(tensor.read()))


def test_no_kernel_takes_groups_of_16_nor_scales_of_32_bits():
    for parts, size in ((drawn(groups=4), 16), (drawn(kind=np.float32), 32)):
        codec = Gptq(bits=4, group=size, in_features=64, less_one=True)
        assert codec.layer(pack(*parts, 4)) is None


def test_zero_points_of_zero_are_read_as_their_maker_wrote_them(tmp_path):
    """AutoGPTQ's kernels add one to each code; GPTQModel subtracted from whole words, and adds to them again."""
    codes, scales, zeros, group_of = drawn(least_zero=0)
    zeros[::3] = 0
    stored = pack(codes, scales, zeros, group_of, 4)
    write(tmp_path / "codes", under(PATH, stored), CONFIG)
    assert np.array_equal(decoded(tmp_path / "codes"), exact(codes, scales, zeros, group_of))
    whole = pack(codes, scales, zeros, group_of, 4, less_one=False)["qzeros"].view(np.uint32)
    stored["qzeros"] = (whole - np.uint32(0x11111111)).view(np.int32)
    config = {**CONFIG, "meta": {"quantizer": ["gptqmodel:2.0.0"]}}
    write(tmp_path / "words", under(PATH, stored), config)
    assert np.array_equal(decoded(tmp_path / "words"), exact(codes, scales, zeros, group_of))


def test_single_modules_have_bits_and_groups_of_their_own(tmp_path):
    """`dynamic` says which there are; the shapes say whose they are."""
    narrow, wide = drawn(), drawn(bits=8, groups=4)
    stored = under("model.a", pack(*narrow, 4)) | under("model.b", pack(*wide, 8))
    rules = {r"+:.*\.b": {"bits": 8, "group_size": 16}, r"-:.*lm_head": {}, "(a+)+$": {"sym": True}}
    write(tmp_path, stored, {**CONFIG, "dynamic": rules})
    assert np.array_equal(decoded(tmp_path, "model.a"), exact(*narrow))
    assert np.array_equal(decoded(tmp_path, "model.b"), exact(*wide))
    assert held(tmp_path, "model.b").parameters == {"bits": 8, "group_size": 16}
    with pytest.raises(ModelError, match=r"model\.b\.qweight"):
        open_candidate(write(tmp_path, stored, CONFIG))


def test_the_rest_is_as_it_is(tmp_path):
    head = np.ones((4, 64), np.float16)
    others = {"lm_head.weight": head, f"{PATH}.bias": np.zeros(16, np.float16)}
    holding = open_candidate(write(tmp_path, under(PATH, pack(*drawn(), 4)) | others, CONFIG))
    assert holding.tensor("lm_head.weight").codec is None
    assert np.array_equal(holding.tensor("lm_head.weight").read()["weight"], head)
    assert holding.tensor(f"{PATH}.qweight") is None
    assert {tensor.name for tensor in holding.stored()} == {f"{PATH}.weight", NORM, *others}
    assert holding.left_over([f"{PATH}.weight", NORM]) == ["lm_head.weight", f"{PATH}.bias"]
    assert "quantization_config" not in holding.claims().config


def test_older_ones_have_a_config_of_their_own(tmp_path):
    parts = drawn()
    write(tmp_path, under(PATH, pack(*parts, 4)), None)
    (tmp_path / "quantize_config.json").write_text('{"bits": 4, "group_size": 32, "desc_act": false}')
    assert np.array_equal(decoded(tmp_path), exact(*parts))


REFUSED = {
    "bits": ({"bits": 5}, {}, "bits = 5"),
    "bits as text": ({"bits": "4"}, {}, "bits = '4'"),
    "other bits than stored": ({"bits": 8}, {}, r"no matrix of 8 bits"),
    "other groups than stored": ({"group_size": 64}, {}, r"groups of 64"),
    "no group": ({"group_size": 0}, {}, "group_size = 0"),
    "marlin": ({"checkpoint_format": "marlin"}, {}, "checkpoint_format = 'marlin'.*gptq, gptq_v2"),
    "marlin, flagged": ({"is_marlin_format": True}, {}, "marlin"),
    "planar": ({"checkpoint_format": "gptq_p"}, {}, "gptq_p"),
    "other words": ({}, {"qweight": np.zeros((7, 16), np.int32)}, r"up_proj\.qweight"),
    "not words": ({}, {"qweight": np.zeros((8, 16), np.int64)}, r"up_proj\.qweight.*I64"),
    "three dimensions": ({}, {"qweight": np.zeros((8, 16, 1), np.int32)}, "no matrix's"),
    "nothing": ({}, {"qweight": np.zeros((0, 16), np.int32)}, "no matrix's"),
    "awq's order": ({}, {"qweight": np.zeros((64, 2), np.int32)}, r"up_proj\.qweight"),
    "zero points": ({}, {"qzeros": np.zeros((2, 3), np.int32)}, r"qzeros \(2, 3\)"),
    "short index": ({}, {"g_idx": np.zeros(56, np.int32)}, r"g_idx \(56,\)"),
    "index of two dimensions": ({}, {"g_idx": np.zeros((8, 8), np.int32)}, r"g_idx \(8, 8\)"),
    "no scales": ({}, {"scales": None}, r"lacks .*up_proj\.scales"),
    "no zero points": ({}, {"qzeros": None}, r"lacks .*up_proj\.qzeros"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused_when_opened(tmp_path, case):
    config, parts, message = REFUSED[case]
    stored = {**pack(*drawn(), 4), **parts}
    stored = {part: array for part, array in stored.items() if array is not None}
    write(tmp_path, under(PATH, stored), {**CONFIG, **config})
    with pytest.raises(ModelError, match=message) as caught:
        open_candidate(tmp_path)
    assert str(tmp_path) in str(caught.value)


@pytest.mark.parametrize("group", [-1, 2, 2**31 - 1])
def test_an_index_out_of_range_is_refused_when_read(tmp_path, group):
    stored = pack(*drawn(), 4)
    stored["g_idx"][5] = group
    write(tmp_path, under(PATH, stored), CONFIG)
    with pytest.raises(ModelError, match=rf"model\.safetensors: {PATH}\.g_idx names groups from .*{group}"):
        held(tmp_path).read()


@pytest.mark.parametrize("bits", [0x7F80, 0x7FC0, 0x7F81], ids=["infinity", "NaN", "a NaN that signals"])
def test_scales_that_are_not_finite_are_refused_when_read(tmp_path, bits):
    stored = {part: np.array(array) for part, array in pack(*drawn(kind=ml_dtypes.bfloat16), 4).items()}
    stored["scales"].view(np.uint16)[1, 2] = bits
    write(tmp_path, under(PATH, stored), CONFIG)
    with pytest.raises(WeightError, match=r"model\.safetensors: .*up_proj\.scales' holds NaN"):
        held(tmp_path).read()


def test_a_config_that_claims_what_no_tensor_holds(tmp_path):
    write(tmp_path, {f"{PATH}.weight": np.ones((4, 4), np.float16)}, CONFIG)
    with pytest.raises(ModelError, match=r"claims gptq .* none of its tensors"):
        open_candidate(tmp_path)


def test_a_matrix_that_is_there_twice(tmp_path):
    twice = {f"{PATH}.weight": np.ones((16, 64), np.float16)}
    write(tmp_path, under(PATH, pack(*drawn(), 4)) | twice, CONFIG)
    with pytest.raises(ModelError, match=r"up_proj\.weight is there in 16 bits, and packed as well"):
        open_candidate(tmp_path)


def maker():
    """AutoGPTQ's QuantLinear from its own file: the package itself wants an older Transformers than is here."""
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    found = importlib.util.find_spec("auto_gptq")
    if found is None or found.origin is None:
        pytest.skip("AutoGPTQ is not installed")
    file = Path(found.origin).parent / "nn_modules/qlinear/qlinear_cuda.py"
    spec = importlib.util.spec_from_file_location("autogptq_qlinear_cuda", file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.QuantLinear


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
@pytest.mark.parametrize("shuffled", [False, True])
def test_autogptq_packs_and_computes_the_same(bits, shuffled):
    """Its matrix is what it makes of unit vectors, in float32 here; it packs the very words that our packer does."""
    import torch

    codes, scales, zeros, group_of = drawn(32, 64, bits, 2)
    group_of = np.random.default_rng(2).permutation(group_of) if shuffled else group_of
    linear = torch.nn.Linear(64, 32, bias=False)
    linear.weight.data = torch.from_numpy(exact(codes, scales, zeros, group_of).astype(np.float32))
    layer = maker()(bits, 32, 64, 32, False, weight_dtype=torch.float32)
    given = [torch.from_numpy(each.astype(np.float32)) for each in (scales, zeros)]
    layer.pack(linear, *given, torch.from_numpy(group_of.astype(np.int32)))
    arrays = {part: getattr(layer, part).numpy() for part in ("qweight", "qzeros", "scales", "g_idx")}
    for part, ours in pack(codes, scales, zeros, group_of, bits).items():
        assert np.array_equal(arrays[part], ours), part
    dense = Gptq(bits=bits, group=32, in_features=64, less_one=True).decode(arrays)
    assert np.array_equal(dense, layer(torch.eye(64)).numpy().T)


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
@pytest.mark.parametrize("form", ["gptq", "gptq_v2"])
def test_gptqmodel_packs_and_decodes_the_same(tmp_path, bits, form):
    """With zero points of 0 among the others, and in float32, as its own 16 bits would round."""
    torch = pytest.importorskip("torch")
    linears = pytest.importorskip("gptqmodel.nn_modules.qlinear.torch")
    model = pytest.importorskip("gptqmodel.utils.model")
    codes, scales, zeros, group_of = drawn(32, 64, bits, 2, least_zero=0)
    linear = torch.nn.Linear(64, 32, bias=False)
    linear.weight.data = torch.from_numpy(exact(codes, scales, zeros, group_of).astype(np.float32))
    layer = linears.TorchLinear(
        bits=bits, group_size=32, sym=False, desc_act=False, in_features=64, out_features=32, bias=False
    ).eval()
    given = [torch.from_numpy(each.astype(np.float32)) for each in (scales, zeros)]
    layer.pack_original(linear, *given, torch.from_numpy(group_of.astype(np.int32)))
    stored = {part: array.numpy().copy() for part, array in layer.state_dict().items()}
    layer.scales = layer.scales.float()
    theirs = layer.dequantize_weight().numpy().T
    if form == "gptq":
        model.convert_gptq_v2_to_v1_format_module(layer, SimpleNamespace(bits=bits, pack_dtype=torch.int32))
        stored["qzeros"] = layer.qzeros.numpy()
    settings = {"bits": bits, "checkpoint_format": form, "meta": {"quantizer": ["gptqmodel:7.7.0"]}}
    write(tmp_path, under(PATH, stored), {**CONFIG, **settings})
    assert np.array_equal(theirs, exact(codes, scales, zeros, group_of))
    assert np.array_equal(decoded(tmp_path), theirs)
