"""What an observer shows: the inputs of each matrix once, of experts each one's own, before any rule is applied."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from walked_models import Numbers, walk_of

from pytest_quantbench.quantizers import Fixed

pytestmark = pytest.mark.model
EXPERTS, CHOSEN = 4, 2
TOKENS = np.random.default_rng(0).integers(0, 2048, (2, 9))


class Noted:
    """Inputs that write down what they are told."""

    def __init__(self):
        self.shared, self.rows, self.squares, self.experts = {}, {}, {}, {}

    def share(self, path, owner):
        self.shared[path] = owner

    def add(self, path, rows, square):
        self.rows.setdefault(path, []).append(rows)
        self.squares[path] = square(rows)

    def add_routed(self, path, rows, by_expert, square):
        self.rows.setdefault(path, []).append(rows)
        self.experts[path] = {expert: own.copy() for expert, own in by_expert}


def observed(weights, layer=1):
    walk, noted = walk_of("torch", weights), Noted()
    walk.begin([TOKENS])
    for index in range(layer):
        walk.advance(index)
    walk.observe(layer, noted)
    state = walk._states[0][0].numpy()
    walk.advance(layer)
    return noted, state.reshape(-1, state.shape[-1])


def normed(weights, state, name):
    return state / np.sqrt((state**2).mean(-1, keepdims=True) + 1e-5) * weights.parameters[name]


def test_layers_that_are_called_with_one_tensor_share_it():
    weights = Numbers("torch")
    noted, state = observed(weights)
    prefix = "model.layers.1."
    assert noted.shared == {
        f"{prefix}self_attn.k_proj": f"{prefix}self_attn.q_proj",
        f"{prefix}self_attn.v_proj": f"{prefix}self_attn.q_proj",
        f"{prefix}mlp.up_proj": f"{prefix}mlp.gate_proj",
    }
    assert set(noted.rows) == {
        f"{prefix}{path}" for path in ("self_attn.q_proj", "self_attn.o_proj", "mlp.gate_proj", "mlp.down_proj")
    }
    (rows,) = noted.rows[f"{prefix}self_attn.q_proj"]
    np.testing.assert_allclose(rows, normed(weights, state, f"{prefix}input_layernorm.weight"), atol=1e-5)
    square = noted.squares[f"{prefix}self_attn.q_proj"]
    np.testing.assert_allclose(square, rows.astype(np.float64).T @ rows, rtol=1e-5, atol=1e-4)


def test_inputs_are_shown_as_they_are_before_their_rule():
    plain, ruled = Numbers("torch"), Numbers("torch")
    ruled.inputs = lambda name: Fixed(step=1e9, zero=0, bits=8) if "layers.1.self_attn.q" in name else None
    path = "model.layers.1.self_attn.q_proj"
    found = [observed(weights)[0].rows[path][0] for weights in (plain, ruled)]
    np.testing.assert_array_equal(*found)


def test_an_expert_is_shown_the_rows_that_were_sent_to_it():
    """As the module's own router says; its second matrix gets what the first one's outputs are made to."""
    weights = Numbers("torch", "mixtral")
    noted, _ = observed(weights)
    prefix = "model.layers.1.mlp."
    routed = noted.experts[f"{prefix}experts.gate_up_proj"]
    assert sum(len(rows) for rows in routed.values()) == CHOSEN * TOKENS.size
    router = weights.parameters[f"{prefix}gate.weight"]
    for expert, rows in routed.items():
        best = np.argsort(-(rows @ router.T), axis=-1)[:, :CHOSEN]
        assert (best == expert).any(-1).all()
        product = rows @ weights.parameters[f"{prefix}experts.gate_up_proj"][expert].T
        gate, up = np.split(product, 2, axis=-1)
        second = noted.experts[f"{prefix}experts.down_proj"][expert]
        np.testing.assert_allclose(second, gate / (1 + np.exp(-gate)) * up, atol=1e-4)
