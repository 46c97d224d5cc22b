"""T2: the negative log-likelihood of every token of a text, each scored once, with float32 activations.

Protocol: the text is tokenized whole, its first `tokens` tokens are cut into windows of the context length that do
not overlap, and each window is scored from left to right. Where the tokenizer puts a begin-of-sequence token in front
of a text by itself, every window starts with it and all its tokens are scored; where it does not, a window's first
token has no context and is not scored.
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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


def measure(
    artifact: Artifact,
    tokenizer_directory: Path,
    text: Text,
    tokens: int | None,
    *,
    host: bool,
    before: PerplexitySamples | None = None,
    reference: PerplexitySamples | None = None,
    rounding: bool = False,
) -> PerplexitySamples:
    """Score the first `tokens` tokens (None: all) of the text.

    With `before`, its tokens are not scored again (but read, in the window that goes on), and where the text ends
    earlier, what there is is scored. Without a `reference` the distributions are kept; with one, which has to hold as
    many tokens, divergences from its are measured. `rounding` rounds activations to bfloat16 after every layer.

    Raises CorpusError where the text is shorter than two windows, WeightError where a logit is not a number.
    """
    began = time.perf_counter()
    tokenizer = load_tokenizer(tokenizer_directory)
    bos = bos_of(tokenizer)
    context = min(CONTEXT_TOKENS, longest_input(artifact.config, CONTEXT_TOKENS))
    ids = tokenizer.encode(text.content, add_special_tokens=False, verbose=False)
    if before is not None:
        tokens = len(ids) if tokens is None else min(tokens, len(ids))
    windows = cut(ids, tokens, context, text.name)
    known = before.text_tokens // context if before is not None else 0  # windows that are scored to their end
    if before is not None and not windows[known:]:  # a window of one token is all that is left
        return before
    walk = Walk(artifact, host=host, rounding=rounding)
    batches, targets = _batches(windows[known:], bos)
    walk.run([mx.array(batch) for batch in batches], f"T2 {artifact.manifest.recipe}")
    scored = [int(token) for target in _batches(windows, bos)[1] for token in target.reshape(-1)]
    there = 0 if before is None else len(before.nll_nats)
    again = sum(target.shape[1] for target in targets) - (len(scored) - there)  # tokens scored before
    new = list(_scored(walk, targets, again, there, reference))
    samples = PerplexitySamples(
        nll_nats=np.concatenate([part.nll_nats for part in new]),
        distributions=None if reference else joined_distributions([part.kept for part in new if part.kept]),
        fidelity=joined([part.fidelity for part in new if part.fidelity]) if reference else None,
        text_tokens=sum(map(len, windows)),
        available_tokens=len(ids) - (len(ids) % context == 1),
        window_tokens=context,
        unscored_tokens=0 if bos is not None else 1,
        scored_bytes=len(tokenizer.decode(scored).encode()),
        protocol=_protocol(context, bos),
        corpus=text.name,
        corpus_sha256=text.sha256,
        weights_sha256=walk.weights_sha256,
        seconds=time.perf_counter() - began,
    )
    if not np.isfinite(samples.nll_nats).all():
        raise WeightError(f"{artifact.manifest.source} at {artifact.manifest.recipe} gives logits that are no numbers.")
    return samples if before is None else before.followed_by(samples)


def _protocol(context: int, bos: int | None) -> str:
    start = "every window starts with BOS" if bos is not None else "no BOS, a window's first token is not scored"
    return f"from the first token on, windows of {context} that do not overlap, {start}, float32"


def cut(ids: Sequence[int], tokens: int | None, context: int, name: str) -> list[Sequence[int]]:
    """The first `tokens` ids in windows of at most `context`; a last window of one token is left out.

    Raises CorpusError where the text has fewer tokens than asked for, or than two windows have.
    """
    wanted = len(ids) if tokens is None else tokens
    window = min(context, wanted)
    if len(ids) < max(wanted, 2 * window) or window < 2:
        raise CorpusError(
            f"The corpus {name} has {len(ids)} tokens; two windows of {window} are the least that is scored, and "
            f"{wanted} tokens were asked for. Give a longer text with --corpus PATH, or fewer with --tokens N."
        )
    windows = [ids[start : min(start + context, wanted)] for start in range(0, wanted, context)]
    return [window for window in windows if len(window) > 1]


def _batches(windows: Sequence[Sequence[int]], bos: int | None) -> tuple[list[Any], list[Any]]:
    """Inputs and targets, (1, tokens) each: one window a batch, since long windows gain nothing from company."""
    front = [] if bos is None else [bos]
    inputs = [np.array([[*front, *window[:-1]]], dtype=np.int32) for window in windows]
    return inputs, [np.array([window[1 - len(front) :]], dtype=np.int32) for window in windows]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Part:
    """A stretch of scored tokens: their losses, and the distributions or the divergences from the reference's."""

    nll_nats: Floats
    kept: Distributions | None
    fidelity: Fidelity | None


def _scored(
    walk: Walk, targets: Sequence[Any], skipped: int, place: int, reference: PerplexitySamples | None
) -> Iterator[_Part]:
    """Norm and head a stretch of positions at a time; the first `skipped` were scored before, and those that follow
    are the reference's from `place` on.
    """
    stretch = max(1, LOGITS_AT_ONCE // walk.vocabulary)
    for index, target in enumerate(targets):
        for start in range(min(skipped, target.shape[1]), target.shape[1], stretch):
            chosen = mx.array(target[:, start : start + stretch, None])
            logits = walk.logits(index, slice(start, start + stretch))  # (1, stretch, vocabulary)
            nll = mx.logsumexp(logits, axis=-1, keepdims=True) - mx.take_along_axis(logits, chosen, axis=-1)
            losses = np.array(nll[0, :, 0])
            kept = found = None
            if reference is None:
                kept = compact(logits[0])
            else:
                assert reference.distributions is not None
                found = compare(reference.distributions.part(place, place + len(losses)), logits[0])
            place += len(losses)
            yield _Part(nll_nats=losses, kept=kept, fidelity=found)
        skipped = max(0, skipped - target.shape[1])
