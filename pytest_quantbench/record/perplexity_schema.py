"""What a record says of T2: perplexities, and how far the predictions are from the reference's."""

from collections.abc import Mapping
from dataclasses import dataclass

from pytest_quantbench.catalog.corpora import Sampling
from pytest_quantbench.stats.estimates import Interval


@dataclass(frozen=True, slots=True, kw_only=True)
class Divergence:
    """How far the predictions are from the reference's, on all tokens of T2.

    KL divergence KL(reference ‖ model) in nats per token: mean and percentiles. Sampling the reference's unlikely
    tokens may have moved the mean by `sampled_nats` either way (two standard errors; 0 for a small vocabulary, which is
    kept whole), and `kl_interval` is that much wider at both ends. `same_top` is the share of positions with the same
    likeliest token; the change of the true token's probability is model minus reference.
    """

    kl_nats: float
    kl_interval: Interval | None
    kl_percentiles: Mapping[str, float]  # "50", "90", "99", "99.9"
    same_top: Interval
    probability_change: float
    probability_change_rms: float
    sampled_nats: float = 0.0
    missed_nats: float | None = None  # of schemas 2 and 3: what the mean is too small by at most


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """The perplexity of a text's first tokens alone, as published tables have it. Not judged, and not of the text."""

    tokens: int
    ppl: float | None
    bf16_ppl: float | None
    delta: float | None
    protocol: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AtDepth:
    """T2's figures on the tokens with more than `above` and up to `up_to` tokens in front of them in their window, what
    every window begins with counted in. Intervals are of the windows' or blocks' parts there; null: too few to tell.
    """

    above: int
    up_to: int
    tokens: int
    ppl: float | None
    bf16_ppl: float | None
    delta: float | None
    delta_interval: Interval | None
    nll_difference_nats: Interval | None
    kl_nats: float | None = None
    kl_interval: Interval | None = None
    same_top: Interval | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Perplexity:
    """T2. Nats per token; `delta` in perplexity points. Intervals are paired: from the differences between windows that
    were drawn from all of the text, or from block means of its first tokens. `block_tokens` are those of either.
    """

    ppl: float | None
    bf16_ppl: float | None
    delta: float | None
    delta_interval: Interval | None
    nll_nats: float
    nll_difference_nats: Interval | None
    ratio: Interval | None
    bits_per_byte: float
    tokens: int
    block_tokens: int
    protocol: str
    protocol_sha256: str  # of it and the text: perplexities of different ones are not compared
    corpus: str
    corpus_sha256: str
    corpus_revision: str | None
    divergence: Divergence | None = None
    time_sec: float | None = None
    sampling: Sampling = "head"
    windows: int | None = None  # drawn
    text_windows: int | None = None  # that there are
    head: Head | None = None
    ppl_interval: Interval | None = None  # of the perplexity by itself
    by_depth: tuple[AtDepth, ...] = ()  # of strata of how many tokens the model could look back on; none: the reference
