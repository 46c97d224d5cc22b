"""Export, judge the export: the same losses, to the last bit."""

import numpy as np
import pytest
from builders import capacity, engine, measured_losses

from pytest_quantbench.catalog.models import TINY_DIRECTORY
from pytest_quantbench.checkpoints.tokenizer import load_tokenizer
from pytest_quantbench.fetch.texts import read_text
from pytest_quantbench.measures.perplexity.reading import Reading, Tokens


@pytest.mark.parametrize(
    ("recipe_id", "form"), [("int4-rtn", "mlx"), ("int8", "mlx"), ("int4", "hf"), ("int4-q4_k_m", "gguf")]
)
def test_losses_of_an_export_are_those_of_the_artifact(job, exported, read_again, recipe_id, form):
    made = job(recipe_id, dtype="float32")
    directory, _ = exported(made, form)
    again = read_again(next(directory.glob("*.gguf"), directory), made)
    text = read_text("tiny-heldout", offline=True)
    tokens = Tokens(text, load_tokenizer(TINY_DIRECTORY), capacity(made.artifact.config))
    before, after = (
        measured_losses(engine(host=True), each, tokens, Reading(tokens=256)) for each in (made.artifact, again)
    )
    assert np.array_equal(before.nll_nats, after.nll_nats)
