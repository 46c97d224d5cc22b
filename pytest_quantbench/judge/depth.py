"""T2 by depth → verdict: the perplexity delta has to be within the limit however many tokens the model looks back on.

A claim for each stratum of depth. That all of them are within the limit is as sure as the least sure (Berger 1982:
every one is tested at the full error probability); that one is beyond it is a claim about the worst of several, and its
p value is Holm's (1979). Else the verdict is undecided, and names the stratum. Two kinds of strata are told and not
judged: those of stray windows, and those where the cache holds nothing in few bits. Which these are depends on where
tokens stand, and not on what was lost there.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from pytest_quantbench.catalog.criteria import METRICS
from pytest_quantbench.judge.rules import bare, judged, refuse_incomparable, show
from pytest_quantbench.judge.verdict import Verdict
from pytest_quantbench.measures.samples import PerplexitySamples
from pytest_quantbench.stats import series
from pytest_quantbench.stats.depths import Stratum, strata
from pytest_quantbench.stats.estimates import ALPHA, Estimate

METRIC = METRICS["depth_perplexity_delta"]


@dataclass(frozen=True, slots=True, kw_only=True)
class AtDepth:
    """One stratum: its delta with its error, None where it has too few tokens to know that; both perplexities.
    `reached`: the cache held anything that these tokens hang on in few bits, as far as is known.
    """

    stratum: Stratum
    reached: bool
    delta: Estimate | None
    ppl: float | None
    reference_ppl: float | None

    @property
    def told_only(self) -> str:
        """Why it is not judged; empty where it is."""
        if self.stratum.stray:
            return f"a stray {len(self.stratum.places)} tokens, not judged"
        return "" if self.reached else "not reached by the cache, not judged"

    def p_good(self, limit: float) -> float:
        """One-sided p of "within the limit"."""
        return 1.0 if self.delta is None else self.delta.p_below(limit)

    def p_bad(self, limit: float) -> float:
        """One-sided p of "beyond the limit"."""
        return 1.0 if self.delta is None else self.delta.p_above(limit)


def by_depth(quantized: PerplexitySamples, reference: PerplexitySamples) -> list[AtDepth]:
    """Every stratum that has tokens, the shallowest first; nothing where depths are not known."""
    found = []
    for each in strata(quantized.depths):
        before, after = reference.nll_nats[each.places], quantized.nll_nats[each.places]
        delta, _ = series.perplexity_delta(before, after, each.drawn(quantized.drawn))
        ppl, reference_ppl = series.perplexity(after), series.perplexity(before)
        reached = not len(quantized.engaged) or bool(quantized.engaged[each.places].any())
        found.append(AtDepth(stratum=each, reached=reached, delta=delta, ppl=ppl, reference_ppl=reference_ppl))
    return found


def judge_depth(
    quantized: PerplexitySamples, reference: PerplexitySamples, limit: float | None, alpha: float = ALPHA
) -> Verdict:
    """The verdict on all strata, with the interval of the one that it comes from: the surest beyond the limit where
    that fails, else the least sure to be within it. Raises ComparisonError for other tokens, and for the very same
    losses.
    """
    refuse_incomparable(quantized, reference, same_weights=False)
    every, tokens = by_depth(quantized, reference), len(quantized.nll_nats)
    found = [each for each in every if not each.told_only]
    known = [each for each in found if each.delta is not None]
    if not known:
        why = "no depth has two windows or blocks of tokens, or perplexities overflow"
        return bare(METRIC, None, limit, f"{METRIC.label}: {why}.", "undecided", tokens)
    if limit is None:
        worst = max(known, key=lambda each: each.delta.value if each.delta else 0.0)
        return _of(worst, every, None, alpha, tokens)
    fails = min(series.holm([each.p_bad(limit) for each in found]))
    holds = max(each.p_good(limit) for each in found)
    if fails < alpha:
        worst = min(known, key=lambda each: each.p_bad(limit))
        verdict = _of(worst, every, limit, alpha / len(found), tokens)
    else:
        open_ = max(found, key=lambda each: each.p_good(limit))
        if open_.delta is None:
            told = f"{METRIC.label}: at {open_.stratum.name} there are too few tokens to tell ({_all(every, alpha)})."
            return bare(METRIC, None, limit, told, "undecided", tokens)
        verdict = _of(open_, every, limit, alpha if holds < alpha else alpha / len(found), tokens)
    return replace(verdict, p_good=holds, p_bad=fails)


def _of(worst: AtDepth, found: Sequence[AtDepth], limit: float | None, alpha: float, tokens: int) -> Verdict:
    """The rule itself, on one stratum; its figures stand in the verdict."""
    assert worst.delta is not None
    many = sum(not each.told_only for each in found)
    detail = f"at {worst.stratum.name} tokens; {_all(found, alpha)}; each is judged, Holm over {many}"
    verdict = judged(METRIC, worst.delta, limit, detail, alpha, tokens)
    return replace(verdict, value=worst.ppl, reference_value=worst.reference_ppl)


def _all(found: Sequence[AtDepth], alpha: float) -> str:
    """`0–512 0.012 [0.008, 0.016], 512–1k too few, 1k–2k a stray 64 tokens, not judged`, as sure as the verdict is."""
    return ", ".join(f"{each.stratum.name} {_shown(each, alpha)}" for each in found)


def _shown(each: AtDepth, alpha: float) -> str:
    if each.told_only:
        return each.told_only
    return "too few" if each.delta is None else show(each.delta.interval(alpha), METRIC)
