"""What Gemma multiplies its embeddings by: both engines have it as the published model does, in the model's own type.

Of a hidden size of 80, √80 = 8.944 is 8.9375 in bfloat16. Random models whose files say that type, against the plain
forward pass of Transformers in float32 with the scale that its own embeddings have when they are loaded in that type.
"""

import json

import ml_dtypes
import numpy as np
import pytest

pytest.importorskip("mlx.core")
pytest.importorskip("torch")

import torch
import transformers
from transformers_models import SMALL, save

from pytest_quantbench import engines
from pytest_quantbench.checkpoints.checkpoint import Checkpoint
from pytest_quantbench.checkpoints.config import as_published
from pytest_quantbench.workbench.engine_models import Given

pytestmark = pytest.mark.model
WIDE = {"hidden_size": 80, "head_dim": 16}
MODELS = {
    "gemma": ("gemma", SMALL["llama-defaults"][1] | WIDE),
    "gemma2": ("gemma2", SMALL["gemma2"][1] | WIDE),
    "gemma3_text": ("gemma3_text", SMALL["gemma3_text-tied"][1] | WIDE),
}
TOKENS = np.random.default_rng(0).integers(3, 300, (1, 20))
ROUNDED = 8.9375


@pytest.fixture(params=MODELS)
def published(request, tmp_path):
    """A directory that says a type, and Transformers' model of the same numbers in float32, with the scale it has in
    that type.
    """
    save(tmp_path, MODELS[request.param], [[1]])

    def make(said):
        file = tmp_path / "config.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | {"dtype": said}))
        short, plain = (
            transformers.AutoModelForCausalLM.from_pretrained(tmp_path, dtype=dtype, attn_implementation="eager")
            for dtype in (getattr(torch, said), torch.float32)
        )
        embeddings = short.get_input_embeddings()
        scale = embeddings.embed_scale.to(embeddings.weight.dtype).float()
        plain.get_input_embeddings().embed_scale = scale
        return tmp_path, plain.eval(), float(scale)

    return make


def losses(logits):
    logits = torch.tensor(np.asarray(logits)).double()[0]
    return torch.nn.functional.cross_entropy(logits, torch.tensor(np.roll(TOKENS[0], -1)), reduction="none")


def walked(name, directory):
    engine = engines.get(name)
    walk = engine.walk([Given(engine.open(Checkpoint(directory)))])
    walk.run([TOKENS], "")
    return torch.tensor(walk.logits(0, slice(None)).nll(np.roll(TOKENS[0], -1)))


def test_both_engines_multiply_as_the_published_model_does(published):
    directory, plain, scale = published("bfloat16")
    assert scale == ROUNDED
    with torch.inference_mode():
        expected = losses(plain(torch.tensor(TOKENS)).logits)
        plain.get_input_embeddings().embed_scale = torch.tensor(80.0).sqrt()
        exact = losses(plain(torch.tensor(TOKENS)).logits)
    assert (exact - expected).abs().max() > 1e-4
    for name in ("torch", "mlx"):
        assert (walked(name, directory) - expected).abs().max() < 2e-5


@pytest.mark.parametrize("published", ["gemma", "gemma2"], indirect=True)  # mlx-lm's Gemma 3 is always bfloat16's
def test_of_a_model_in_float32_nothing_is_rounded(published):
    directory, plain, scale = published("float32")
    assert scale == np.float32(80**0.5)
    with torch.inference_mode():
        expected = losses(plain(torch.tensor(TOKENS)).logits)
    for name in ("torch", "mlx"):
        assert (walked(name, directory) - expected).abs().max() < 2e-5


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"torch_dtype": "bfloat16"}, float(ml_dtypes.bfloat16(2560**0.5))),
        ({"dtype": "torch.bfloat16"}, 50.5),
        ({"text_config": {"dtype": "bfloat16"}}, 50.5),
        ({"dtype": "float16"}, float(np.float16(2560**0.5))),
        ({"dtype": "float32"}, 2560**0.5),
        ({"dtype": None}, 2560**0.5),
        ({}, 2560**0.5),
    ],
)
def test_a_constant_is_rounded_as_the_config_says(config, expected):
    assert as_published(2560**0.5, config) == expected
