"""What an engine has to keep to in what it says of logits, and in what a model in memory writes."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, get_args

import numpy as np

from pytest_quantbench.catalog.models import TINY_DIRECTORY
from pytest_quantbench.checkpoints.tokenizer import load_tokenizer
from pytest_quantbench.engines.batches import behind_each_other
from pytest_quantbench.engines.logits import HostLogits, Logits
from pytest_quantbench.engines.protocol import Engine
from pytest_quantbench.engines.resident import Generation, Step
from pytest_quantbench.quantizers.encoding import Encoding
from pytest_quantbench.quantizers.rtn import Rtn
from pytest_quantbench.workbench.engine_models import VOCABULARY, Given, SmallModel, SmallModels, even_batches
from pytest_quantbench.workbench.trials import demand

LIMIT_NATS = 1e-4
LOSS_NATS: Mapping[str, float] = {"float32": LIMIT_NATS, "bfloat16": 1.5}  # by the activations, as of a walk
LARGE = 2600  # tokens, of which distributions are not kept whole
MARGIN = 0.02  # logits by which the likeliest token leads, so that float32 cannot choose another
WRITTEN = 6  # tokens
MOST_READ = 8  # times the bytes of the layers: with the head, and in float32
UP = "model.layers.1.mlp.up_proj.weight"


def logits_say_what_they_mean(engine: Engine, models: SmallModels) -> None:
    """Losses, likeliest tokens, kept distributions and divergences are what `engines/logits` defines, of a small
    vocabulary and of a large one.
    """
    for vocabulary in (VOCABULARY, LARGE):
        found, host = [], []
        for seed in (0, 1):
            model, batches = models.llama(seed, vocab_size=vocabulary), behind_each_other(even_batches())
            walk = engine.walk([model.weights(engine)])
            walk.run(batches, "")
            found.append(walk.logits(1, slice(None)))
            host.append(HostLogits(model.reference().logits(batches[1].tokens[0]).astype(np.float32)))
        tokens = np.random.default_rng(0).integers(0, vocabulary, len(host[0]))
        _demand_near(found[0].nll(tokens), host[0].nll(tokens), "the loss", LOSS_NATS[engine.activations])
        same = np.array_equal(found[0].likeliest(), host[0].likeliest())
        demand(same, "the likeliest tokens are not those of the logits")
        _demand_kept(found[0], host[0], LOSS_NATS[engine.activations])
        for kept in (host[0].compact(0), found[0].compact(0)):
            divergences, expected = found[1].against(kept), host[1].against(host[0].compact(0))
            near = np.abs(divergences.kl_nats - expected.kl_nats)
            allowed = 10 * LOSS_NATS[engine.activations] + 6 * (expected.error_nats + divergences.error_nats)
            demand((near <= allowed).all(), f"a divergence is off by {near.max():.2g} nats")
            same = np.array_equal(divergences.same_top, expected.same_top)
            demand(same, "`same_top` is not whether the likeliest token is the same")


def _demand_kept(found: Logits, host: HostLogits, limit: float) -> None:
    """What is kept of a distribution adds up to one, and its log-probabilities are the logits'."""
    kept, log_sums = found.compact(0), host.log_sums
    columns = kept.tokens if kept.tokens.size else np.tile(np.arange(VOCABULARY), (len(log_sums), 1))
    for place in range(0, columns.shape[1], 97):
        expected = -host.nll(columns[:, place].astype(np.int64))
        _demand_near(kept.log_probabilities[:, place], expected, "a log-probability that is kept", limit)
    certain = np.arange(columns.shape[1]) < kept.certain[:, None].astype(np.int64)
    mass = np.where(certain, np.exp(kept.log_probabilities.astype(np.float64)), 0).sum(-1) + kept.rest
    demand(np.abs(mass - 1).max() < 1e-4, f"kept distributions have a mass of {mass.max():.5f} at most, not 1")


def writes_the_likeliest_tokens(engine: Engine, models: SmallModels) -> None:
    """A model in memory, loaded for answers, goes on with the tokens that a forward pass finds likeliest; so it does
    with a matrix that is encoded.
    """
    model = models.llama()
    prompt, expected = _clear_prompt(model)
    answer = _answers(engine, Given(model.opened(engine)), prompt)
    demand(answer.tokens == expected, f"the tokens {answer.tokens} are written, the likeliest are {expected}")
    demand(answer.ended == "length", f"an answer of {WRITTEN} tokens ends by {answer.ended!r}, not 'length'")
    opened = model.opened(engine)
    path = next((path for path in opened.names if opened.origin(path).sources == (UP,)), None)
    if path is None:
        return  # in a parameter with others: no encoding of ours is its
    coded = Rtn(bits=4, group_size=32)
    encoding = Encoding(codec=coded, arrays=coded.encode(model.tensors[UP], None, 0), shape=model.tensors[UP].shape)
    decoded = replace(model, tensors={**model.tensors, UP: encoding.dense().astype(np.float32)})
    prompt, expected = _clear_prompt(decoded)
    answer = _answers(engine, Given(opened, encodings={path: encoding}), prompt)
    demand(answer.tokens == expected, f"encoded, {answer.tokens} are written, the likeliest are {expected}")


def answers_end_where_they_are_told(engine: Engine, models: SmallModels) -> None:
    """An answer ends before a stop string, at an end token, or after so many tokens; prompts of several lengths go
    together and get what each gets alone.
    """
    model = models.llama()
    weights = Given(model.opened(engine))
    prompt, expected = _clear_prompt(model)
    whole = _answers(engine, weights, prompt)
    ended = _answers(engine, weights, prompt, end_tokens={expected[3]})
    demand(ended.tokens == expected[:3] and ended.ended == "eos", f"at an end token it ends with {ended}")
    stop = whole.text[len(whole.text) // 2 :][:3]
    stopped = _answers(engine, weights, prompt, stops=[[stop]])
    before = whole.text[: whole.text.index(stop)]
    demand(stopped.text == before and stopped.ended == "stop", f"before {stop!r} it ends with {stopped.text!r}")
    both = engine.load(weights, "answers").generate(
        load_tokenizer(TINY_DIRECTORY),
        [prompt[:3], prompt],
        stops=[[], []],
        new_tokens=[2, WRITTEN],
        what="",
        end_tokens=(),
    )
    demand(len(both[0].tokens) == 2, f"an answer that may have 2 tokens has {len(both[0].tokens)}")
    demand(both[1].tokens == expected, "a prompt that goes together with another gets another answer")


def times_every_token(engine: Engine, models: SmallModels) -> None:
    """A timed generation has exactly so many tokens and a moment for each, one after the other; and what was timed says
    how many bytes a token reads, through which kernels, and how a step is run.
    """
    model = models.llama()
    resident = engine.load(Given(model.opened(engine)), "timed")
    prompt, _ = _clear_prompt(model)
    timed = resident.timed(prompt, WRITTEN)
    counts = (len(timed.tokens), len(timed.seconds))
    demand(counts == (WRITTEN, WRITTEN), f"{counts[0]} tokens have {counts[1]} moments, not {WRITTEN} of each")
    matrices = sum(value.nbytes for name, value in model.tensors.items() if ".layers." in name and value.ndim == 2)
    read = resident.bytes_per_token
    demand(matrices <= read <= MOST_READ * matrices, f"a token reads {read} bytes of matrices of {matrices}")
    demand(resident.kernels and all(count > 0 for count in resident.kernels.values()), f"kernels = {resident.kernels}")
    demand(resident.step in get_args(Step), f"step = {resident.step!r} is none of {get_args(Step)}")
    steps = np.diff(timed.seconds, prepend=0)
    demand((steps >= 0).all() and timed.seconds[-1] > 0, f"the moments {timed.seconds} are in no order")
    again = engine.load(Given(model.opened(engine)), "answers").timed(prompt, WRITTEN)
    demand(
        again.tokens == tuple(model.reference().greedy(prompt, WRITTEN)),
        "the tokens that are timed are not the likeliest",
    )


def _answers(engine: Engine, weights: Given, prompt: list[int], **how: Any) -> Generation:
    told: dict[str, Any] = {"stops": [[]], "new_tokens": WRITTEN, "what": "", "end_tokens": (), **how}
    return engine.load(weights, "answers").generate(load_tokenizer(TINY_DIRECTORY), [prompt], **told)[0]


def _clear_prompt(model: SmallModel) -> tuple[list[int], tuple[int, ...]]:
    """A prompt after which the likeliest tokens are so by far, each another one, and they."""
    reference, random = model.reference(), np.random.default_rng(5)
    for _ in range(100):
        prompt = random.integers(3, VOCABULARY, 7).tolist()
        tokens = reference.greedy(prompt, WRITTEN)
        logits = np.sort(reference.logits(prompt + tokens)[len(prompt) - 1 : -1], axis=-1)
        if (logits[:, -1] - logits[:, -2]).min() > MARGIN and len(set(tokens)) == WRITTEN:
            return prompt, tuple(tokens)
    raise AssertionError("no prompt of a hundred has answers that are clear: the models of the checks have changed")


def _demand_near(found: Any, expected: Any, what: str, limit: float = LIMIT_NATS) -> None:
    away = np.abs(np.asarray(found, np.float64) - expected).max()
    demand(away <= limit, f"{what} is off by {away:.2g} nats, more than {limit:g}")
