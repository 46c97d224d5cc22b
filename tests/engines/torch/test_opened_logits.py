"""Small random models as Transformers writes them, in both spellings: filled with what we read by our names, the model
that we build gives Transformers' own logits.
"""

import json

import numpy as np
import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from torch_models import filled
from transformers_models import SMALL, older, save

TOKENS = np.random.default_rng(0).integers(3, 300, 40)[None]
FEW = ("llama-defaults", "gemma3_text-tied", "gpt2")  # the others take a minute together


@pytest.mark.parametrize("spelling", ["Transformers 5", "Transformers 4"])
@pytest.mark.parametrize("name", [pytest.param(each, marks=() if each in FEW else pytest.mark.slow) for each in SMALL])
def test_logits_are_those_of_transformers(tmp_path, name, spelling):
    theirs = save(tmp_path, SMALL[name], TOKENS)
    if spelling == "Transformers 4":
        file = tmp_path / "config.json"
        file.write_text(json.dumps(older(json.loads(file.read_text()))))
    with torch.no_grad():
        found = filled(tmp_path)(torch.tensor(TOKENS)).logits[0].numpy()
    np.testing.assert_allclose(found, theirs, atol=2e-5 * np.abs(theirs).max())
