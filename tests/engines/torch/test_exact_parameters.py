"""Parameters that stay in float32 where all others have 16 bits, as Transformers itself has them."""

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

import numpy as np
from torch_models import opened
from transformers_models import DEEPSEEK, SMALL, save

from pytest_quantbench.engines.digests import Digests
from pytest_quantbench.engines.torch.engine import TorchEngine
from pytest_quantbench.engines.torch.filling import Filler
from pytest_quantbench.engines.torch.skeleton import exact_parameters, skeleton
from pytest_quantbench.engines.torch.walk import Walk

pytestmark = pytest.mark.model
CPU = torch.device("cpu")


class Stored:
    """An opened model as a walk and a whole model read it: nothing is quantized."""

    def __init__(self, found):
        self.found, self.config, self.names = found, found.config, found.names

    def dense(self, name):
        return self.found.tensor(name)

    def encoding(self, name):
        return None

    def inputs(self, name):
        return None


@pytest.fixture(scope="module")
def deepseek(tmp_path_factory):
    """What Transformers has in float32 when it loads the model in bfloat16, and the model's weights."""
    directory = tmp_path_factory.mktemp("deepseek")
    save(directory, DEEPSEEK, [[1, 2, 3]])
    loaded = transformers.AutoModelForCausalLM.from_pretrained(directory, dtype=torch.bfloat16)
    exact = {name for name, held in loaded.state_dict().items() if held.dtype == torch.float32}
    return exact, Stored(opened(directory))


def test_they_are_those_of_transformers(deepseek):
    exact, weights = deepseek
    of_router = ("gate.weight", "gate.e_score_correction_bias")
    assert exact == {f"model.layers.{layer}.mlp.{name}" for layer in (1, 2) for name in of_router}
    assert exact_parameters(weights.config) == exact


def test_patterns_have_dots_and_stars(monkeypatch, deepseek):
    kind = transformers.DeepseekV3ForCausalLM
    monkeypatch.setattr(kind, "_keep_in_fp32_modules_strict", ["layers.*.input_layernorm", "lm_head"])
    exact, weights = deepseek
    norms = {f"model.layers.{layer}.input_layernorm.weight" for layer in range(3)}
    assert exact_parameters(weights.config) == exact | norms | {"lm_head.weight"}


def test_most_models_have_none():
    kind, given = SMALL["llama-defaults"]
    assert exact_parameters(transformers.AutoConfig.for_model(kind, **given).to_dict()) == frozenset()


def test_a_walk_in_bfloat16_has_them_exact(deepseek):
    exact, weights = deepseek
    model = skeleton(weights.config)
    Filler(model, [weights], Digests([weights]), CPU).fill(weights.names, [0], torch.bfloat16)
    check(model, exact, weights)


def test_such_a_walk_goes_through(deepseek):
    _, weights = deepseek
    walk = Walk(weights, device=CPU, activations="bfloat16")
    walk.run([np.array([[5, 9, 31, 7, 200]])], "")
    assert np.isfinite(walk.head(0, slice(None))).all()


def test_a_whole_model_has_them_exact(deepseek):
    exact, weights = deepseek
    check(TorchEngine(device="cpu").load(weights, "rounded answers").model, exact, weights)


def check(model, exact, weights):
    held = model.state_dict()
    assert {name for name in weights.names if held[name].dtype == torch.float32} == exact
    for name in exact:
        assert torch.equal(held[name], weights.dense(name))
