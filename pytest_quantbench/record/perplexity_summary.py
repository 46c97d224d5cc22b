"""T2's samples → its parts of a record: figures with their intervals. Computes no verdict."""

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pytest_quantbench.catalog.corpora import HEAD_OF_TEXT, HEAD_TOKENS
from pytest_quantbench.judge import depth
from pytest_quantbench.measures.samples import PerplexitySamples
from pytest_quantbench.record.perplexity_schema import AtDepth, Divergence, Head, Perplexity
from pytest_quantbench.stats import series
from pytest_quantbench.stats.estimates import Interval, Ratio
from pytest_quantbench.stats.proportions import share_of
from pytest_quantbench.stats.window_sampling import Drawn, Places


def perplexity(samples: PerplexitySamples, reference: PerplexitySamples | None) -> Perplexity:
    """T2's figures, paired with the reference where there is one."""
    nll = samples.nll_nats
    delta = difference = None
    drawn, unit = samples.drawn, series.BLOCK_TOKENS if samples.drawn is None else samples.drawn.tokens
    if reference is not None:
        delta, cut = series.perplexity_delta(reference.nll_nats, nll, drawn)
        difference, unit = series.mean(nll.astype(np.float64) - reference.nll_nats, drawn), cut.tokens
    total = float(nll.sum(dtype=np.float64))
    own = series.mean(nll, drawn)
    ppl, bf16_ppl = series.perplexity(nll), None if reference is None else series.perplexity(reference.nll_nats)
    return Perplexity(
        ppl=ppl,
        bf16_ppl=bf16_ppl,
        delta=None if ppl is None or bf16_ppl is None else ppl - bf16_ppl,
        delta_interval=None if delta is None else delta.interval(),
        nll_nats=total / len(nll),
        nll_difference_nats=None if difference is None else difference.interval(),
        ratio=None if difference is None else Ratio(logarithm=difference).interval(),
        bits_per_byte=total / math.log(2) / samples.scored_bytes,
        tokens=len(nll),
        block_tokens=unit,
        protocol=samples.protocol,
        protocol_sha256=samples.protocol_sha256,
        corpus=samples.corpus,
        corpus_sha256=samples.corpus_sha256,
        corpus_revision=samples.corpus_revision,
        divergence=None if reference is None else _divergence(samples, reference),
        time_sec=samples.seconds,
        sampling="head" if drawn is None else "windows",
        windows=None if drawn is None else len(drawn.counts),
        text_windows=None if drawn is None else drawn.population,
        head=_head(samples, reference),
        ppl_interval=None if own is None or ppl is None else Ratio(logarithm=own).interval(),
        by_depth=() if reference is None else tuple(_by_depth(samples, reference)),
    )


def _by_depth(samples: PerplexitySamples, reference: PerplexitySamples) -> Iterator[AtDepth]:
    """Of each stratum, the figures that T2 has of all tokens."""
    for found in depth.by_depth(samples, reference):
        stratum, drawn = found.stratum, found.stratum.drawn(samples.drawn)
        own, other = (each.nll_nats[stratum.places].astype(np.float64) for each in (samples, reference))
        difference = series.mean(own - other, drawn)
        before, after = found.reference_ppl, found.ppl
        yield AtDepth(
            above=stratum.above,
            up_to=stratum.up_to,
            tokens=len(stratum.places),
            ppl=after,
            bf16_ppl=before,
            delta=None if after is None or before is None else after - before,
            delta_interval=None if found.delta is None else found.delta.interval(),
            nll_difference_nats=None if difference is None else difference.interval(),
            **_divergence_at(samples, stratum.places, drawn),
        )


def _divergence_at(samples: PerplexitySamples, places: Places, drawn: Drawn | None) -> dict[str, Any]:
    found = samples.fidelity
    if found is None:
        return {}
    kl, error = found.kl_nats[places], found.error_nats[places]
    mean, sampled = series.mean(kl, drawn), _sampled(error)
    return {
        "kl_nats": float(kl.mean(dtype=np.float64)),
        "kl_interval": None if mean is None else _wider(mean.interval(), sampled),
        "same_top": share_of(found.same_top[places], drawn),
    }


def _sampled(error_nats: NDArray[np.floating]) -> float:
    """How far sampling the reference's unlikely tokens may have moved a mean: two standard errors."""
    return 2 * float(np.sqrt(np.square(error_nats, dtype=np.float64).sum())) / len(error_nats)


def perplexities(samples: PerplexitySamples, reference: PerplexitySamples | None) -> dict[str, Perplexity]:
    """T2's figures of the texts beside the first, by name."""
    return {
        name: perplexity(other, None if reference is None else reference.beside[name].first(len(other.nll_nats)))
        for name, other in samples.beside.items()
        if name != HEAD_OF_TEXT
    }


def _head(samples: PerplexitySamples, reference: PerplexitySamples | None) -> Head | None:
    """Of the judged text's first tokens, which are among those of a reading that begins there."""
    head = samples.beside.get(HEAD_OF_TEXT)
    before = None if reference is None else reference.beside.get(HEAD_OF_TEXT)
    if head is None and samples.drawn is None and samples.text_tokens >= HEAD_TOKENS:
        head, before = samples.as_of(HEAD_TOKENS), None if reference is None else reference.as_of(HEAD_TOKENS)
    if head is None:
        return None
    ppl, bf16_ppl = series.perplexity(head.nll_nats), None if before is None else series.perplexity(before.nll_nats)
    return Head(
        tokens=len(head.nll_nats),
        ppl=ppl,
        bf16_ppl=bf16_ppl,
        delta=None if ppl is None or bf16_ppl is None else ppl - bf16_ppl,
        protocol=head.protocol,
    )


def _divergence(samples: PerplexitySamples, reference: PerplexitySamples) -> Divergence | None:
    found = samples.fidelity
    if found is None:
        return None
    mean, percentiles = series.distribution(found.kl_nats, samples.drawn)
    sampled = _sampled(found.error_nats)
    change = np.exp(-samples.nll_nats.astype(np.float64)) - np.exp(-reference.nll_nats.astype(np.float64))
    return Divergence(
        kl_nats=float(found.kl_nats.mean(dtype=np.float64)),
        kl_interval=None if mean is None else _wider(mean.interval(), sampled),
        kl_percentiles={f"{percent:g}": value for percent, value in percentiles.items()},
        sampled_nats=sampled,
        same_top=share_of(found.same_top, samples.drawn),
        probability_change=float(change.mean()),
        probability_change_rms=float(np.sqrt(np.square(change).mean())),
    )


def _wider(interval: Interval, by: float) -> Interval:
    return replace(interval, low=interval.low - by, high=interval.high + by)
