"""A walk of Transformers' models, tried in small: what is right is walked, what is not is named."""

import json

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from transformers_models import SMALL, save

from pytest_quantbench import engines
from pytest_quantbench.engines.torch.skeleton import shapes, skeleton
from pytest_quantbench.engines.torch.small_twin import Twin, kinds
from pytest_quantbench.engines.torch.walk import Walk
from pytest_quantbench.engines.torch.walk_trial import prove
from pytest_quantbench.engines.walk_proof import Anatomy

LLAMA = SMALL["llama-defaults"][1] | {"model_type": "llama"}
CPU = torch.device("cpu")
FEW = ("llama-llama3", "gemma2", "gemma3_text-tied", "mixtral", "gpt2")
MORE = {  # with what T3 may do
    "gpt_oss": (
        "any",
        LLAMA | {"num_local_experts": 4, "num_experts_per_tok": 2, "head_dim": 16, "sliding_window": 8},
    ),
    "bloom": ("even", {"hidden_size": 64, "n_layer": 3, "n_head": 4}),
    "mamba": ("none", {"hidden_size": 64, "state_size": 8, "num_hidden_layers": 3}),
}


def config_of(directory, name):
    save(directory, SMALL[name], np.array([[3, 4, 5]]))
    return json.loads((directory / "config.json").read_text())


def tried(config, walk=Walk):
    return prove(config, list(shapes(skeleton(config))), CPU, walk)


@pytest.mark.parametrize("name", [pytest.param(each, marks=() if each in FEW else pytest.mark.slow) for each in SMALL])
def test_small_architectures_are_proven(tmp_path, name):
    proof = tried(config_of(tmp_path, name))
    assert (proof.refused, proof.branching, proof.anatomy.loops) == (None, "any", 1)


@pytest.mark.parametrize("name", MORE)
def test_what_t3_may_do_with_others(name):
    branching, keys = MORE[name]
    proof = tried(keys | {"vocab_size": 320, "model_type": name})
    assert (proof.refused, proof.branching) == (None, branching)


class Off(Walk):
    """Goes wrong."""

    def _finished(self, state, track):
        return super()._finished(state, track) * 1.01


def test_a_walk_that_is_not_the_forward_pass_is_refused():
    proof = tried(LLAMA | {"vocab_size": 321}, Off)
    assert "layer by layer its losses are not those of Transformers' forward pass" in proof.refused


def test_layers_that_are_called_in_another_order_are_named(monkeypatch):
    from transformers.models.llama.modeling_llama import LlamaModel

    forward = LlamaModel.forward

    def backwards(self, *args, **kwargs):
        layers = self.layers
        self.layers = layers[::-1]
        try:
            return forward(self, *args, **kwargs)
        finally:
            self.layers = layers

    monkeypatch.setattr(LlamaModel, "forward", backwards)
    proof = tried(LLAMA | {"vocab_size": 322})
    assert "does not call its 3 decoder layers one after the other, but [2, 1, 0]" in proof.refused


def test_it_is_tried_once_in_a_process():
    walked = []

    class Counted(Walk):
        def __init__(self, *tracks, **rest):
            walked.append(tracks)
            super().__init__(*tracks, **rest)

    proofs = [tried(LLAMA | {"vocab_size": 323}, Counted) for _ in range(3)]
    assert walked
    assert proofs[0] is proofs[1] is proofs[2]
    count = len(walked)
    tried(LLAMA | {"vocab_size": 323}, Counted)
    assert len(walked) == count


def test_a_twin_is_the_same_every_time_and_has_the_layers_of_the_model():
    one, other = Twin(LLAMA), Twin(LLAMA)
    tokens = np.arange(12).reshape(2, 6)
    np.testing.assert_array_equal(one.logits(tokens), other.logits(tokens))
    assert one.logits(tokens).shape == (2, 6, 320)
    assert one.kinds == kinds(skeleton(LLAMA))
    assert one.anatomy(tokens) == Anatomy(loops=1, outputs=0, place=0)
    assert one.anatomy(tokens) == one.anatomy(tokens)  # it is left as it was


def test_the_engine_proves_in_float32_whatever_it_walks_in(tmp_path):
    config = config_of(tmp_path, "llama-defaults")
    engine = engines.get("torch", activations="bfloat16")
    proof = engine.prove(Twin(config))
    assert (proof.refused, proof.branching) == (None, "any")
