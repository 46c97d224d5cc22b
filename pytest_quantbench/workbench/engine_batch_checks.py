"""What an engine has to keep to when several texts go on together: each gets what it gets alone."""

from typing import Any

import numpy as np

from pytest_quantbench.engines.protocol import Engine
from pytest_quantbench.workbench.engine_answer_checks import MARGIN
from pytest_quantbench.workbench.engine_models import VOCABULARY, Given, SmallModel, SmallModels
from pytest_quantbench.workbench.trials import demand

ROWS, LENGTH, NEW = 3, 9, 4
DRAWS = 40


def rows_are_single_runs(engine: Engine, models: SmallModels) -> None:
    """Texts of one length that are timed together go on with the tokens that each is most likely followed by, with a
    moment for every token of all; drawn with a seed, they go on alike each time.
    """
    model = models.llama()
    resident: Any = engine.load(Given(model.opened(engine)), "answers")
    prompts, expected = _clear(model, [LENGTH] * ROWS)
    found = resident.timed_batch(prompts, NEW)
    demand(found.tokens == expected, f"together {found.tokens} are written, the likeliest are {expected}")
    _demand_in_order(found.seconds)
    drawn = [resident.timed_batch(prompts, NEW, resident.sampler(3, 0.9)).tokens for _ in range(2)]
    demand(drawn[0] == drawn[1], "the same seed draws other tokens")
    cold = resident.timed_batch(prompts, NEW, resident.sampler(3, 1e-3)).tokens
    demand(cold == expected, "at a temperature near 0 other tokens are drawn than the likeliest")


def requests_are_single_runs(engine: Engine, models: SmallModels) -> None:
    """Requests of unlike lengths that are there at once get what each gets alone, and moments of their own."""
    model = models.llama()
    resident: Any = engine.load(Given(model.opened(engine)), "answers")
    prompts, expected = _clear(model, [LENGTH, 2, LENGTH + 5])
    found = resident.timed_requests(prompts, NEW)
    tokens = tuple(each.tokens for each in found)
    demand(tokens == expected, f"requests get {tokens}, alone they get {expected}")
    for each in found:
        _demand_in_order(each.seconds)


def knows_what_a_batch_takes(engine: Engine, models: SmallModels) -> None:
    """A token of a text takes keys and values of every layer, of at least one byte a number; more texts and longer ones
    are told to take more memory, no less than these.
    """
    model = models.llama()
    resident: Any = engine.load(Given(model.opened(engine)), "timed")
    config = model.config
    width = config["hidden_size"] // config["num_attention_heads"]
    least = 2 * config["num_hidden_layers"] * config["num_key_value_heads"] * width
    held = resident.cache_bytes_per_token
    demand(least <= held <= 8 * least, f"a token's keys and values of {least} numbers take {held} bytes")
    sizes = [resident.batch_bytes(rows, tokens) for rows, tokens in ((1, 64), (1, 128), (4, 128))]
    demand(sizes == sorted(set(sizes)), f"more texts and longer ones take {sizes} bytes")
    demand(sizes[2] >= 4 * 128 * held, f"4 texts of 128 tokens take {sizes[2]} bytes, less than their keys and values")


def _demand_in_order(seconds: tuple[float, ...]) -> None:
    demand(len(seconds) == NEW, f"{NEW} tokens have {len(seconds)} moments")
    demand(seconds[0] > 0 and bool((np.diff(seconds) >= 0).all()), f"the moments {seconds} are in no order")


def _clear(model: SmallModel, lengths: list[int]) -> tuple[list[list[int]], tuple[tuple[int, ...], ...]]:
    """Prompts after which the likeliest tokens are so by far, and these tokens."""
    reference, random = model.reference(), np.random.default_rng(11)
    prompts, expected = [], []
    for length in lengths:
        for _ in range(DRAWS):
            prompt = random.integers(3, VOCABULARY, length).tolist()
            tokens = reference.greedy(prompt, NEW)
            logits = np.sort(reference.logits(prompt + tokens)[length - 1 : -1], axis=-1)
            if (logits[:, -1] - logits[:, -2]).min() > MARGIN:
                prompts.append(prompt)
                expected.append(tuple(tokens))
                break
        else:
            raise AssertionError(f"no prompt of {length} tokens has an answer that is clear: the models have changed")
    return prompts, tuple(expected)
