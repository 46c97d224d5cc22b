"""T2: the negative log-likelihood of every token of a text, each scored once (see reading), in float32."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pytest_quantbench.engines.divergence import Distributions, Fidelity, joined
from pytest_quantbench.engines.logits import LOGITS_AT_ONCE
from pytest_quantbench.engines.protocol import Walk
from pytest_quantbench.errors import WeightError
from pytest_quantbench.measures.perplexity.reading import Script, protocol_sha256
from pytest_quantbench.measures.samples import Floats, PerplexitySamples


def score(
    script: Script,
    walk: Walk,
    *,
    track: int = 0,
    first: int = 0,
    before: PerplexitySamples | None = None,
    reference: PerplexitySamples | None = None,
    seconds: float = 0.0,
) -> PerplexitySamples:
    """The losses of the script's open windows, which are the walk's batches from `first` on, behind those of `before`.

    Without a `reference` the distributions are kept; with one, which has to hold as many tokens, divergences from its
    are measured. Raises WeightError where a logit is not a number.
    """
    parts = list(_scored(script, walk, track, first, reference))
    tokens = script.tokens
    protocol, corpus_sha256 = script.protocol, tokens.text.sha256
    samples = PerplexitySamples(
        nll_nats=np.concatenate([part.nll_nats for part in parts]),
        distributions=None if reference else joined([part.kept for part in parts if part.kept]),
        fidelity=joined([part.fidelity for part in parts if part.fidelity]) if reference else None,
        drawn=script.drawn,
        depths=script.open_depths,
        cache_shapes=walk.cache_shapes(track),
        engaged=np.concatenate([part.engaged for part in parts]),
        beside=dict(_beside(script, walk, track, first + len(script.open), reference)),
        text_tokens=script.wanted,
        available_tokens=len(tokens.ids),
        window_tokens=script.context if script.stride == script.context else len(tokens.ids),
        unscored_tokens=0 if script.scores_first else 1,
        scored_bytes=script.scored_bytes,
        protocol=protocol,
        protocol_sha256=protocol_sha256(protocol, corpus_sha256),
        corpus=tokens.text.name,
        corpus_sha256=corpus_sha256,
        corpus_revision=tokens.text.revision,
        weights_sha256=walk.weights_sha256(track),
        seconds=seconds,
    )
    if not np.isfinite(samples.nll_nats).all():
        raise WeightError("The output head gives logits that are no numbers: not a usable model.")
    return samples if before is None else before.followed_by(samples)


def _beside(
    script: Script, walk: Walk, track: int, first: int, reference: PerplexitySamples | None
) -> Iterator[tuple[str, PerplexitySamples]]:
    """What is read on the same walk: batch after batch behind the script's own."""
    for name, other in script.beside.items():
        yield (
            name,
            score(other, walk, track=track, first=first, reference=reference and reference.beside[name]),
        )
        first += len(other)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Part:
    """A stretch of scored tokens: their losses, and the distributions or the divergences from the reference's."""

    nll_nats: Floats
    engaged: NDArray[np.bool_]  # none where the cache is in 16 bits
    kept: Distributions | None
    fidelity: Fidelity | None


def _scored(script: Script, walk: Walk, track: int, first: int, reference: PerplexitySamples | None) -> Iterator[_Part]:
    """Norm and head a stretch of positions at a time; the tokens are the reference's from `there` on."""
    stretch = max(1, LOGITS_AT_ONCE // walk.vocabulary)
    ahead = 1 - len(script.tokens.front)  # a token's logits lie so many positions before its place in the window
    place, again = script.there, script.again
    for index, window in enumerate(script.open, first):
        engaged = walk.engaged(index, track)
        for start in range(window.first + again, window.end, stretch):
            end = min(start + stretch, window.end)
            places = slice(start - window.begin - ahead, end - window.begin - ahead)
            logits = walk.logits(index, places, track)
            nll = logits.nll(np.array(script.tokens.ids[start:end])).astype(np.float32)
            kept = found = None
            if reference is None:
                kept = logits.compact(place)
            else:
                assert reference.distributions is not None
                found = logits.against(reference.distributions.part(place, place + end - start))
            place += end - start
            seen = np.zeros(0, np.bool_) if engaged is None else engaged[0, places]
            yield _Part(nll_nats=nll, engaged=seen, kept=kept, fidelity=found)
        again = 0
