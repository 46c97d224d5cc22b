"""Mixtures of experts: which rows go where, the numpy twin against MLX, and what is a router."""

import itertools

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
from builders import open_model
from hypothesis import given
from hypothesis import strategies as st
from mlx.utils import tree_flatten, tree_unflatten
from mlx_lm.models.switch_layers import SwitchGLU, SwitchLinear
from small_models import CONFIGS, HEADS, MIXTURES

from pytest_quantbench.catalog.recipes import recipe
from pytest_quantbench.compress.assignment import plan
from pytest_quantbench.compress.pipeline import compress
from pytest_quantbench.engines.mlx.experts import Routed, routers
from pytest_quantbench.engines.mlx.host_products import HostExperts, on_host
from pytest_quantbench.engines.mlx.layers import rounding, ruled
from pytest_quantbench.engines.mlx.skeleton import decoder_layers, skeleton
from pytest_quantbench.engines.mlx.walk import Walk
from pytest_quantbench.errors import ModelError
from pytest_quantbench.quantizers import PerToken
from pytest_quantbench.quantizers.encoding import named, parsed

WITH_EXPERTS = ("mixtral", "qwen3_moe", *MIXTURES)


def test_a_name_says_which_expert_is_meant():
    assert parsed(named("model.layers.0.mlp.up_proj", 12)) == ("model.layers.0.mlp.up_proj", 12)
    assert parsed("model.layers.0.mlp.up_proj") == ("model.layers.0.mlp.up_proj", None)


sizes = st.integers(1, 3)


@given(sizes, sizes, sizes, st.booleans(), st.integers(0, 2**32 - 1))
def test_every_row_goes_to_its_expert_once(batch, length, chosen, shared, seed):
    """Against a loop over the broadcast indices; `shared`: a token's experts all get the same row."""
    rng = np.random.default_rng(seed)
    x = mx.array(rng.normal(size=(batch, length, 1 if shared else chosen, 2, 4)).astype(np.float32))
    indices = rng.integers(0, 3, (batch, length, chosen))
    expected = np.broadcast_to(np.array(x), (batch, length, chosen, 2, 4)).reshape(-1, 2, 4)
    routed, seen = Routed(x, mx.array(indices)), []
    for expert, part in routed:
        np.testing.assert_array_equal(indices.ravel()[routed.order[part]], expert)
        blocks = np.array(x).reshape(-1, 2, 4)[routed.sources[part]]
        np.testing.assert_array_equal(blocks, expected[routed.order[part]])
        seen += [*routed.order[part]]
    assert sorted(seen) == list(range(indices.size))
    assert routed.shape == indices.shape


def layer_of_experts(bias, seed=0, experts=5, out=24, columns=16):
    mx.random.seed(seed)
    layer = SwitchLinear(columns, out, experts, bias=bias)
    if bias:
        layer.bias = mx.random.normal((experts, out))
    return layer


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize(("x_shape", "indices_shape"), [((2, 7, 1, 1, 16), (2, 7, 3)), ((2, 7, 3, 1, 16), (2, 7, 3))])
def test_the_numpy_twin_multiplies_as_mlx_does(bias, x_shape, indices_shape):
    layer = layer_of_experts(bias)
    twin = on_host(layer)
    assert isinstance(twin, HostExperts)
    x = mx.random.normal(x_shape)
    indices = mx.random.randint(0, 4, indices_shape)  # the last expert gets nothing
    expected, found = layer(x, indices), twin(x, indices)
    assert found.shape == expected.shape
    assert mx.abs(found - expected).max() < 1e-5
    order = mx.argsort(indices.flatten())  # as mlx-lm calls it for many tokens
    rows = mx.broadcast_to(x, (*indices_shape, 1, 16)).reshape(-1, 1, 16)[order]
    expected = layer(rows, indices.flatten()[order], sorted_indices=True)
    assert mx.abs(twin(rows, indices.flatten()[order], sorted_indices=True) - expected).max() < 1e-5


@pytest.mark.parametrize("tokens", [3, 60])
def test_a_whole_network_of_experts_runs_in_numpy(tokens):
    """With few tokens mlx-lm does not sort them by expert, with 64 and more it does."""
    mx.random.seed(1)
    network = SwitchGLU(32, 48, 4)
    x, indices = mx.random.normal((1, tokens, 32)), mx.random.randint(0, 4, (1, tokens, 2))
    expected = network(x, indices)
    mx.eval(expected)
    leaves = tree_flatten(network.leaf_modules(), is_leaf=nn.Module.is_module)
    network.update_modules(tree_unflatten([(path, twin) for path, leaf in leaves if (twin := on_host(leaf))]))
    assert mx.abs(network(x, indices) - expected).max() < 1e-5


def test_every_expert_has_its_own_rule_for_its_inputs():
    layer = layer_of_experts(bias=True)
    rules = tuple(PerToken(bits=bits) for bits in (2, 3, 4, 6, 8))
    for twin in (layer, on_host(layer)):
        x, indices = mx.random.normal((4, 6, 1, 1, 16)), mx.random.randint(0, 5, (4, 6, 2))
        by_rule = mx.stack([rounding(rule)(mx.broadcast_to(x, (4, 6, 2, 1, 16))) for rule in rules])
        ruled_inputs = mx.take_along_axis(by_rule, indices[None, ..., None, None], axis=0)[0]
        assert mx.abs(ruled(rules, twin)(x, indices) - layer(ruled_inputs, indices)).max() < 1e-5


@pytest.mark.parametrize("architecture", WITH_EXPERTS)
def test_experts_are_encoded_and_what_chooses_them_is_not(small_model, architecture):
    items = plan(open_model(small_model(architecture)), recipe("int4"))
    stacks = [item for item in items if item.experts]
    assert stacks
    assert {item.part for item in stacks} == {"inner"}
    assert {item.experts for item in stacks} == {4}
    routing = [item for item in items if item.reason == "router of 4 experts"]
    assert len(routing) == len(stacks) // 3
    assert all(item.part == "kept" and item.shape == (4, 64) for item in routing)
    gates = [item.name for item in items if item.reason == "gate of a shared expert"]
    assert len(gates) == (3 if architecture == "qwen2_moe" else 0)
    encoded = {item.name.rpartition(".")[0].rpartition(".")[2] for item in items if item.codec}
    assert {"o_proj", "down_proj", "gate_proj", "up_proj"} <= encoded


class _Attention(nn.Module):
    def __init__(self, keys):
        super().__init__()
        self.k_proj = nn.Linear(16, keys)


class _Router(nn.Module):
    def __init__(self, experts):
        super().__init__()
        self.proj = nn.Linear(16, experts)
        self.scale = mx.ones((16,))


class _Layer(nn.Module):
    """As Gemma 4 has it: the router stands beside the module around the experts, and keys may have as many rows."""

    def __init__(self, experts, keys):
        super().__init__()
        self.self_attn = _Attention(keys)
        self.router = _Router(experts)
        self.experts = nn.Module()
        self.experts.switch_glu = SwitchGLU(16, 16, experts)


@pytest.mark.parametrize("keys", [8, 32])
def test_a_router_further_away_is_found_and_keys_are_not_taken_for_one(keys):
    model = nn.Module()
    model.layers = [_Layer(8, keys), _Layer(8, keys)]
    assert routers(model, "layers") == {"layers.0.router.proj": 8, "layers.1.router.proj": 8}


@pytest.mark.parametrize("architecture", ["llama", "qwen2", "gemma3_text", "phi3"])
def test_a_model_without_experts_has_no_router(architecture):
    model = skeleton(CONFIGS[architecture], HEADS)
    assert routers(model, decoder_layers(model)[0]) == {}


def test_many_experts_biases_and_routers_are_kept_and_other_stacks_refused_by_name(small_model):
    """A bias for each of 128 experts is as large as a matrix, and is none; nor is a router of 128 experts refused."""
    items = plan(open_model(small_model("gpt_oss", num_local_experts=128)), recipe("int4"))
    kept = {item.name: item.reason for item in items if item.part == "kept"}
    assert kept["model.layers.0.mlp.experts.down_proj.bias"] == "bias of SwitchLinear, 8192 values"
    items = plan(open_model(small_model("deepseek_v2", n_routed_experts=128)), recipe("int4"))
    assert {item.name: item.reason for item in items}["model.layers.1.mlp.gate.weight"] == "router of 128 experts"
    with pytest.raises(ModelError, match=r"self_attn\.embed_q\.weight .* is in a MultiLinear, which no quantizer here"):
        plan(open_model(small_model("deepseek_v3")), recipe("int4"))


def hub_names(weights, block, form):
    """The tensors of a checkpoint as the Hub has them: an expert's matrices each under a name of its own."""
    apart = {}
    for name, array in weights.items():
        if ".switch_mlp." not in name:
            apart[name] = array
            continue
        before, _, projection = name.removesuffix(".weight").partition(f"{block}.switch_mlp.")
        for expert, matrix in enumerate(array):
            apart[f"{before}{block}.experts.{expert}.{form.get(projection, projection)}.weight"] = matrix
    return apart


MIXTRAL = {"gate_proj": "w1", "down_proj": "w2", "up_proj": "w3"}


def separated(directory, block, form):
    """Rewrite a model directory as the Hub would have it."""
    file = directory / "model.safetensors"
    weights = mx.load(str(file))
    mx.eval(weights)
    file.unlink()
    mx.save_safetensors(str(file), hub_names(weights, block, form))
    return weights


@pytest.mark.parametrize(
    ("architecture", "block", "form"),
    [
        ("mixtral", "block_sparse_moe", MIXTRAL),
        ("qwen2_moe", "mlp", {}),
        ("qwen3_moe", "mlp", {}),
        ("deepseek_v2", "mlp", {}),
    ],
)
def test_the_hubs_separate_experts_are_read_as_stacks(small_model, architecture, block, form):
    directory = small_model(architecture)
    before = separated(directory, block, form)
    apart = open_model(directory)
    assert sorted(apart.names) == sorted(before)
    for name, again in itertools.product(before, range(2)):  # twice, for a tensor is not kept after it was read
        assert mx.array_equal(apart.tensor(name), before[name]), (name, again)


def test_one_layers_experts_are_in_memory_at_a_time(small_model, tmp_path):
    """Reading, encoding and walking, from experts that are stored apart and stacked as they are read."""
    sizes = {"hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 8, "num_local_experts": 8}
    directory = small_model("mixtral", vocab_size=64, **sizes)
    weights = separated(directory, "block_sparse_moe", MIXTRAL)
    whole, layer = sum(array.nbytes for array in weights.values()), 3 * 8 * 128 * 256
    del weights
    mx.clear_cache()
    before = mx.get_active_memory()
    mx.reset_peak_memory()
    artifact = compress(open_model(directory), recipe("int4-rtn"), 0, tmp_path / "cache")
    assert mx.get_peak_memory() - before < whole / 3
    mx.reset_peak_memory()
    Walk(artifact, host=True).run([mx.zeros((1, 2), mx.int32)], "")
    assert mx.get_peak_memory() - before < 2 * 4 * layer  # float32, and what it is decoded from
