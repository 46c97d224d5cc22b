"""T2: the negative log-likelihood of every token of a text, each scored once, with float32 activations.

Protocol: the text is tokenized whole, and its first `tokens` tokens are read in windows of `context` tokens, each
`stride` further than the one before; what a window shares with the one before is its context and not scored again. By
default windows do not overlap. Where the tokenizer puts a begin-of-sequence token in front of a text by itself, every
window starts with it and the first window's first token is scored too; where it does not, a token that nothing stands
in front of is not scored.
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import mlx.core as mx
import numpy as np

from pytest_quantbench.artifacts import Artifact
from pytest_quantbench.catalog import CONTEXT_TOKENS
from pytest_quantbench.errors import CorpusError, WeightError
from pytest_quantbench.fidelity import (
    Distributions,
    Fidelity,
    compact,
    compare,
    joined,
    joined_distributions,
)
from pytest_quantbench.hub import Text
from pytest_quantbench.samples import Floats, PerplexitySamples
from pytest_quantbench.stream import Walk
from pytest_quantbench.tokens import bos_of, load_tokenizer, longest_input

LOGITS_AT_ONCE = 2**25  # float32 values: 128 MB


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """How a text is read: so many tokens (None: all), in windows of `context`, each `stride` after the one before."""

    tokens: int | None
    context: int = CONTEXT_TOKENS
    stride: int | None = None  # None: the context, no overlap


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """Tokens `begin` to `end` of the text are read, and those from `first` on scored."""

    begin: int
    end: int
    first: int


def windows(tokens: int, context: int, stride: int, scores_first: bool) -> list[Window]:
    """The windows over so many tokens. `scores_first`: something stands in front of a window's first token."""
    found: list[Window] = []
    reached = 0
    while reached < tokens:
        begin = len(found) * stride
        end = min(begin + context, tokens)
        first = reached if scores_first or reached > begin else begin + 1
        found.append(Window(begin=begin, end=end, first=first))
        reached = end
    return [window for window in found if window.first < window.end]


def measure(
    artifact: Artifact,
    tokenizer_directory: Path,
    text: Text,
    reading: Reading,
    *,
    host: bool,
    before: PerplexitySamples | None = None,
    reference: PerplexitySamples | None = None,
    rounding: bool = False,
) -> PerplexitySamples:
    """Score the tokens of a text as `reading` says.

    With `before`, its tokens are not scored again (but read, in the windows that go on), and where the text ends
    earlier, what there is is scored. Without a `reference` the distributions are kept; with one, which has to hold as
    many tokens, divergences from its are measured. `rounding` rounds activations to bfloat16 after every layer.

    Raises CorpusError where the text is shorter than two windows, WeightError where a logit is not a number.
    """
    began = time.perf_counter()
    tokenizer = load_tokenizer(tokenizer_directory)
    bos = bos_of(tokenizer)
    context = min(reading.context, longest_input(artifact.config, reading.context))
    stride = min(reading.stride or context, context)
    ids = tokenizer.encode(text.content, add_special_tokens=False, verbose=False)
    wanted = len(ids) if reading.tokens is None else reading.tokens
    wanted = min(wanted, len(ids)) if before is not None else check_length(len(ids), wanted, context, text.name)
    whole = windows(wanted, context, stride, bos is not None)
    there = 0 if before is None else len(before.nll_nats)
    new, again = _still_open(whole, there)
    if before is not None and not new:  # what is left of the text cannot be scored
        return replace(before, text_tokens=wanted)
    walk = Walk(artifact, host=host, rounding=rounding)
    walk.run([mx.array([_inputs(ids, window, bos)]) for window in new], f"T2 {artifact.manifest.recipe}")
    parts = list(_scored(walk, ids, new, bos is not None, again, there, reference))
    scored = [token for window in whole for token in ids[window.first : window.end]]
    samples = PerplexitySamples(
        nll_nats=np.concatenate([part.nll_nats for part in parts]),
        distributions=None if reference else joined_distributions([part.kept for part in parts if part.kept]),
        fidelity=joined([part.fidelity for part in parts if part.fidelity]) if reference else None,
        text_tokens=wanted,
        available_tokens=len(ids),
        window_tokens=context if stride == context else len(ids),
        unscored_tokens=0 if bos is not None else 1,
        scored_bytes=len(tokenizer.decode(scored).encode()),
        protocol=_protocol(context, stride, bos),
        corpus=text.name,
        corpus_sha256=text.sha256,
        weights_sha256=walk.weights_sha256,
        seconds=time.perf_counter() - began,
    )
    if not np.isfinite(samples.nll_nats).all():
        raise WeightError(f"{artifact.manifest.source} at {artifact.manifest.recipe} gives logits that are no numbers.")
    return samples if before is None else before.followed_by(samples)


def check_length(available: int, wanted: int, context: int, name: str) -> int:
    """The number wanted. Raises CorpusError where the text has fewer tokens, or fewer than two windows have."""
    window = min(context, wanted)
    if available < max(wanted, 2 * window) or window < 2:
        raise CorpusError(
            f"The corpus {name} has {available} tokens; two windows of {window} are the least that is scored, and "
            f"{wanted} tokens were asked for. Give a longer text with --corpus PATH, or fewer with --tokens N."
        )
    return wanted


def _still_open(whole: Sequence[Window], there: int) -> tuple[list[Window], int]:
    """The windows that are not scored to their end, and how many tokens of the first of them are scored already."""
    for number, window in enumerate(whole):
        count = window.end - window.first
        if there < count:
            return list(whole[number:]), there
        there -= count
    return [], 0


def _inputs(ids: Sequence[int], window: Window, bos: int | None) -> list[int]:
    return [*(() if bos is None else (bos,)), *ids[window.begin : window.end - 1]]


def _protocol(context: int, stride: int, bos: int | None) -> str:
    start = "every window starts with BOS" if bos is not None else "no BOS, what has nothing before it is not scored"
    apart = "that do not overlap" if stride == context else f"each {stride} after the one before"
    return f"from the first token on, windows of {context} {apart}, {start}, float32"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Part:
    """A stretch of scored tokens: their losses, and the distributions or the divergences from the reference's."""

    nll_nats: Floats
    kept: Distributions | None
    fidelity: Fidelity | None


def _scored(
    walk: Walk,
    ids: Sequence[int],
    read: Sequence[Window],
    scores_first: bool,
    again: int,
    place: int,
    reference: PerplexitySamples | None,
) -> Iterator[_Part]:
    """Norm and head a stretch of positions at a time. The first `again` tokens were scored before; those that follow
    are the reference's from `place` on.
    """
    stretch = max(1, LOGITS_AT_ONCE // walk.vocabulary)
    for index, window in enumerate(read):
        ahead = 0 if scores_first else 1  # a token's logits lie so many positions before it
        for start in range(window.first + again, window.end, stretch):
            end = min(start + stretch, window.end)
            logits = walk.logits(index, slice(start - window.begin - ahead, end - window.begin - ahead))
            chosen = mx.array(list(ids[start:end]))[None, :, None]
            nll = mx.logsumexp(logits, axis=-1, keepdims=True) - mx.take_along_axis(logits, chosen, axis=-1)
            kept = found = None
            if reference is None:
                kept = compact(logits[0])
            else:
                assert reference.distributions is not None
                found = compare(reference.distributions.part(place, place + end - start), logits[0])
            place += end - start
            yield _Part(nll_nats=np.array(nll[0, :, 0]), kept=kept, fidelity=found)
        again = 0
