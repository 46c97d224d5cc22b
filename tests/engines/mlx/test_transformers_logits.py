"""Small random models as Transformers writes them, in both spellings: our logits are Transformers' own, or it is said
which key stands in the way.
"""

import json

import mlx.core as mx
import numpy as np
import pytest
from builders import open_model
from mlx.utils import tree_unflatten
from transformers_models import REFUSED, SMALL, older, save

from pytest_quantbench.errors import ModelError

TOKENS = np.random.default_rng(0).integers(3, 300, 40)[None]


def ours(directory):
    opened = open_model(directory)
    parameters = [(name, opened.tensor(name)) for name in opened.names]
    opened.model.update(tree_unflatten(parameters))
    return np.array(opened.model(mx.array(TOKENS)))[0]


def losses(logits):
    """Nats per token."""
    shifted = logits[:-1].astype(np.float64)
    return np.log(np.exp(shifted).sum(-1)) - shifted[np.arange(len(shifted)), TOKENS[0, 1:]]


@pytest.mark.parametrize("spelling", ["Transformers 5", "Transformers 4"])
@pytest.mark.parametrize("name", SMALL)
def test_logits_are_those_of_transformers(tmp_path, name, spelling):
    theirs = save(tmp_path, SMALL[name], TOKENS)
    if spelling == "Transformers 4":
        file = tmp_path / "config.json"
        file.write_text(json.dumps(older(json.loads(file.read_text()))))
    found = ours(tmp_path)
    assert np.abs(found - theirs).max() < 1e-3
    np.testing.assert_allclose(losses(found), losses(theirs), atol=1e-4)


@pytest.mark.parametrize("name", REFUSED)
def test_what_the_engine_does_otherwise_is_refused_by_name(tmp_path, name):
    changes, key = REFUSED[name]
    save(tmp_path, changes, TOKENS)
    with pytest.raises(ModelError, match=key):
        open_model(tmp_path)
