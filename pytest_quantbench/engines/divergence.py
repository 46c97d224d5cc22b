"""How far a model's predictions are from the reference's: KL divergence and the likeliest token, at every position.

The reference's distributions are kept, so that later recipes need no second run of the reference: whole where the
vocabulary has at most 2,048 tokens, and otherwise 512 tokens a position (3 or 4 KB), as many of them the likeliest as
the position's mass asks for, the others a sample of the rest. A sum over the rest is estimated from the sample as
surveys are: a token that is drawn with a probability in proportion to its mass stands for an equal share of that mass.
The estimate is right on average but for a small part of its error, which the sample shows and which stands beside it.

Systematic sampling and the regression estimator: W. G. Cochran, Sampling Techniques (1977), chapters 7 to 9.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

WHOLE = 2048  # a vocabulary up to here is kept whole
TOKENS = 512  # kept of a larger one
SIXTEENTH = 16
FEWEST_DRAWN = 8  # of them, so that their spread says something
FAR_NATS = 0.5  # between the log-probabilities of two models that are far apart, root mean square
MISSED_ERRORS = 8.0  # standard errors by which a sample is off that has missed something, and not by chance
ROUNDING = 1e-6  # of a mass, in float32 logits
HIGH = 2.0  # times what a drawn token stands for: a higher probability is not expected of a token not kept for sure
LEAST_MASS = 1e-30
LEAST_NATS = -1e4  # a log-probability below it is none at all, as of words that a model forbids
STEEPEST = 50.0  # exp of it is the largest ratio of two probabilities that is told from a larger one
GOLDEN = (5**0.5 - 1) / 2
Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]
Cumulate = Callable[[Floats, Doubles], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Distributions:
    """What is kept of n positions' distributions. `log_probabilities` are natural, float32.

    Of a small vocabulary everything, (n, vocabulary) in its order, and `tokens` is (n, 0). Otherwise (n, K) of both:
    the first `certain[i]` of position i are its likeliest tokens, largest first; the others are drawn from the rest,
    whose mass is `rest[i]`, and each stands for an equal share of it.
    """

    tokens: NDArray[np.unsignedinteger]
    log_probabilities: Floats
    certain: NDArray[np.uint16]
    rest: Floats
    likeliest: NDArray[np.uint32]

    @property
    def threshold(self) -> Floats:
        """(n,) natural logarithms of the largest probability that is expected of a token not kept for sure."""
        drawn = np.maximum(self.log_probabilities.shape[1] - self.certain.astype(np.int64), 1)
        found: Floats = np.log(np.maximum(HIGH * self.rest / drawn, LEAST_MASS)).astype(np.float32)
        return found

    def part(self, start: int, stop: int) -> "Distributions":
        """Those of some positions."""
        return Distributions(**{each.name: getattr(self, each.name)[start:stop] for each in fields(self)})


@dataclass(frozen=True, slots=True, kw_only=True)
class Fidelity:
    """(n,) divergences in nats, their standard errors from sampling the rest (0 where nothing was sampled), whether the
    likeliest token is the same, and which it is.
    """

    kl_nats: Floats
    error_nats: Floats
    same_top: NDArray[np.bool_]
    likeliest: NDArray[np.uint32]


def kept_whole(rows: Floats, log_sums: Doubles) -> Distributions:
    """(n, vocabulary) float32 logits of a small vocabulary and the logarithm of the sum of their exponentials."""
    count = len(rows)
    return Distributions(
        tokens=np.zeros((count, 0), np.uint16),
        log_probabilities=(rows - log_sums[:, None]).astype(np.float32),
        certain=np.full(count, rows.shape[1], np.uint16),
        rest=np.zeros(count, np.float32),
        likeliest=rows.argmax(-1).astype(np.uint32),
    )


def cumulated(masses: Floats, along: Doubles) -> None:
    """Sums of the first so many numbers, added one after the other in float64, into `along`."""
    np.cumsum(masses, dtype=np.float64, out=along)


def kept_sampled(rows: Floats, log_sums: Doubles, place: int, cumulate: Cumulate = cumulated) -> Distributions:
    """The same of a large vocabulary; `place` is the text's number of the first position.

    The points at which a position's rest is sampled are equally far apart along its mass, the tokens in their order;
    where they begin follows the golden ratio from position to position, which spreads evenly and needs no generator.
    """
    (count, vocabulary), kept = rows.shape, TOKENS
    tokens = np.empty((count, kept), np.intp)
    rounded = log_sums.astype(np.float32)
    masses = rows - rounded[:, None]
    np.exp(masses, out=masses)
    masses *= np.exp(rounded - log_sums).astype(np.float32)[:, None]  # float64 throughout would take twice as long
    rest, certain, along = np.zeros(count), np.zeros(count, np.intp), np.empty(vocabulary)
    for row, mass in enumerate(masses):
        sure = _certain(mass)
        certain[row] = known = len(sure)
        tokens[row, :known] = sure
        mass[sure] = 0
        cumulate(mass, along)
        rest[row] = along[-1]
        points = (np.arange(kept - known) + (place + row + 1) * GOLDEN % 1) / (kept - known)
        found = np.searchsorted(along, points * along[-1], side="right")
        tokens[row, known:] = np.minimum(found, vocabulary - 1)  # beyond the last where the rest has no mass
    found = np.take_along_axis(rows, tokens, axis=-1) - log_sums[:, None]
    return Distributions(
        tokens=tokens.astype(np.uint16 if vocabulary <= 2**16 else np.uint32),
        log_probabilities=found.astype(np.float32),
        certain=certain.astype(np.uint16),
        rest=rest.astype(np.float32),
        likeliest=rows.argmax(-1).astype(np.uint32),
    )


def _certain(masses: Floats) -> NDArray[np.intp]:
    """The tokens of a position's (vocabulary,) masses that are kept for sure, largest first: as few as leave none above
    what a drawn one stands for, and so many that some are drawn.
    """
    if masses.max() * TOKENS <= 1:
        return np.empty(0, np.intp)
    tokens = _largest(masses)
    largest = masses[tokens].astype(np.float64)
    left = np.maximum(1 - np.cumsum(largest), 0) + largest  # before each; rounding may take more than all away
    enough = largest * (TOKENS - np.arange(TOKENS)) <= left
    return tokens[: min(int(enough.argmax()), TOKENS - FEWEST_DRAWN)]


def _largest(masses: Floats) -> NDArray[np.intp]:
    """(TOKENS,) places of the largest of (vocabulary,) numbers, largest first.

    Every sixteenth of them says where about the smallest of these lies; only what is above is looked at.
    """
    some = masses[::SIXTEENTH]
    enough = min(len(some), 2 * TOKENS // SIXTEENTH)
    places = np.flatnonzero(masses >= np.partition(some, len(some) - enough)[-enough])
    if len(places) < TOKENS:
        places = np.arange(len(masses))
    found = masses[places]
    chosen = np.argpartition(found, len(found) - TOKENS)[-TOKENS:]
    return places[chosen[np.argsort(-found[chosen])]]


def divergence(kept: Distributions, theirs: Doubles, above: Doubles) -> tuple[Doubles, Doubles]:
    """KL(kept ‖ theirs) at each of n positions, and its standard error; `theirs` (n, K) are the other model's natural
    log-probabilities of the tokens that are kept, `above` (n,) its mass on tokens above `kept.threshold`.

    Taken is Σ (p log(p/q) − p + q), which is the same, since both add up to one: near p = q its terms are small, so
    that neither rounding nor sampling leaves much to be wrong.
    """
    ours, theirs = (np.maximum(each, LEAST_NATS, dtype=np.float64) for each in (kept.log_probabilities, theirs))
    ratio, mass, other = ours - theirs, np.exp(ours), np.exp(theirs)
    terms = mass * ratio
    terms += other
    terms -= mass
    if ours.shape[1] == kept.certain.min():
        return terms.sum(-1), np.zeros(len(terms))
    known = np.arange(ours.shape[1]) < kept.certain[:, None]
    high = theirs > kept.threshold[:, None]
    unexpected = np.maximum(above - np.where(known & high, other, 0).sum(-1), 0)
    moved = 1 - np.where(known, other, 0).sum(-1) - kept.rest.astype(np.float64)
    rest, error = _of_rest(kept, known, ratio, high, unexpected, moved)
    return np.where(known, terms, 0).sum(-1) + rest, error


def _of_rest(
    kept: Distributions,
    known: NDArray[np.bool_],
    ratio: Doubles,
    high: NDArray[np.bool_],
    unexpected: Doubles,
    moved: Doubles,
) -> tuple[Doubles, Doubles]:
    """Σ (p log(p/q) − p + q) over the rest, estimated, and its standard error.

    `ratio` (n, K) is log(p/q); `high` says where q is above the threshold, `unexpected` (n,) is the mass of all such
    tokens of the rest, and `moved` (n,) is Σ (q − p) over the rest: both are known. So the q of high tokens, which a
    sample misses, is added and not estimated. Where the models are far apart, or the sample's own Σ (q − p) is not what
    is known, so that it has missed much, Σ p log(p/q) alone is estimated, and what is known is added to that.
    """
    drawn, rest = known.shape[1] - kept.certain.astype(np.int64), kept.rest.astype(np.float64)
    excess = np.where(high, -1, np.expm1(np.minimum(-ratio, STEEPEST)))  # q/p − 1, without the q of high tokens

    def estimated(terms: Doubles) -> tuple[Doubles, Doubles]:
        mean = np.where(known, 0, terms).sum(-1) / drawn
        spread = np.where(known, 0, np.square(terms - mean[:, None])).sum(-1) / (drawn - 1)
        return rest * mean, rest * np.sqrt(spread / drawn)

    (near, near_error), (far, far_error), (gained, gained_error) = map(estimated, (ratio + excess, ratio, excess))
    apart = np.where(known, ratio**2, 0).sum(-1) / np.maximum(kept.certain, 1) > FAR_NATS**2
    missed = np.abs(moved - unexpected - gained)
    missed *= missed > MISSED_ERRORS * gained_error + ROUNDING
    apart |= missed > 0
    apart |= near_error > far_error + ROUNDING
    return np.where(apart, far + moved, near + unexpected), np.where(apart, np.maximum(far_error, missed), near_error)


Kept = TypeVar("Kept", Distributions, Fidelity)


def joined(parts: Sequence[Kept]) -> Kept:
    """One after the other."""
    columns = {each.name: [getattr(part, each.name) for part in parts] for each in fields(parts[0])}
    return type(parts[0])(**{name: np.concatenate(arrays) for name, arrays in columns.items()})
