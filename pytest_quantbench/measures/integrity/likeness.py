"""Is a decoded matrix the original with a code's error, or something else? Untouched, permuted and outlying parts.

A perplexity within its limit does not show that a few groups have wrong scales, that one matrix is shifted, or that a
tensor was lost. What a sound code does to a matrix is known beforehand: its error is spread over groups, rows and
columns as the ranges of the weights are. What is not like that is named in a sentence. Plain numpy arrays, so that
matrices from any file can be judged.

Sizes of errors are means of absolute values, not of squares: clipping one outlier is a choice that many codes make,
and it hardly moves the mean over 64 weights, while a wrong scale, sign or offset moves all of them.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pytest_quantbench.measures.integrity.block_sums import (
    BLOCK,
    LOST,
    BlockSums,
    Matrix,
    block_sums,
    distinct,
    error_of_like,
    levels,
    moved_columns,
    moved_rows,
    rounding_noise,
    scaled,
    worst_rounding,
)

SHORT = 128  # weights: of fewer, in 2 bits, some row has 0.2, and half of that limit is taken
FAR = 10.0  # × the median distance from the median: short rows of few bits vary much
OUTLYING = 4.0  # × the error of its like: sound codes stay below 2.5, half of all swapped scales are above 5
NOTICEABLE = 0.1  # of a group's own mean absolute weight: errors below are no fault whatever their like have
OUTLYING_COLUMNS = 2.0  # the same for 64 columns over all rows: sound codes stay below 1.3
RESIZED = 0.4  # of a row or of 64 columns: how much larger or smaller than the others they come back
MOST = 0.75  # of the mean error that a part of another size has, and of rounding's; a clipped outlier has less
TINY = 0.01  # of the usual size: rows so small are lost by every code with one scale for the matrix
ENOUGH = 2  # blocks in a row, or rows in a block of columns
ENOUGH_ROWS = 16  # for a mean over rows
AXES = ((1, "row"), (0, "column block"))  # of 64 columns
FLOOR_DB = 7.0  # below rounding to as many bits
SPREAD_DB = 6.0  # below the other matrices of the recipe, each compared with rounding on the same matrix
BEST_DB = 34.0  # rounding expects no more: floating-point codes stop at 31 dB whatever their bits
SHARED_LIMIT = 0.05  # sound codes stay below 0.025 on Gaussian weights at any bits
SHRUNK = 0.25  # of rounding's noise by signal, further: codes of few bits that clip heavy tails
CHANCE = 5.0  # standard errors
SHARED = (
    "comes back {:.0%} too large as a whole",
    "comes back too small as a whole: {:.0%} larger it would be nearer to the original",
    "comes back shifted as a whole: its mean error is {:.0%} of the mean absolute weight",
)
SHOWN = 3  # places named in a sentence


@dataclass(frozen=True, slots=True, kw_only=True)
class Likeness:
    """How a decoded matrix compares with the original, and what is wrong with it, each in a sentence."""

    name: str
    code: str  # what encoded it, with its parameters: matrices of one code are compared with each other
    snr_db: float
    rounding_db: float  # what rounding with as many bits is expected to have on this matrix
    problems: tuple[str, ...]

    @property
    def gap_db(self) -> float:
        """Above rounding; negative below."""
        return min(self.snr_db, BEST_DB) - min(self.rounding_db, BEST_DB)


def likeness(name: str, original: Matrix, decoded: Matrix, bits_per_weight: float, code: str = "") -> Likeness:
    """Compare one decoded matrix with the original: (out, in), or more dimensions, of which the last is `in`.

    `bits_per_weight` is what a further weight costs: of codes with books of their own, without the books.
    """
    before, after = (np.asarray(each, np.float32).reshape(-1, each.shape[-1] or 1) for each in (original, decoded))
    if problem := unusable(original, decoded):
        return Likeness(name=name, code=code, snr_db=-math.inf, rounding_db=0.0, problems=(f"{name} {problem}",))
    before, after = scaled(before, after)
    sums = block_sums(before, after)
    signal, noise = float(sums.weight_square.sum()), float(sums.error_square.sum())
    snr, rounding = decibels(signal, noise), decibels(signal, rounding_noise(sums.span, bits_per_weight))
    found = [] if signal == 0 else [*_problems(before, after, sums, snr, rounding, bits_per_weight)]
    problems = tuple(f"{name} {problem}" for problem in found)
    return Likeness(name=name, code=code, snr_db=snr, rounding_db=rounding, problems=problems)


def unusable(original: Matrix, decoded: Matrix) -> str:
    """Why nothing can be compared; empty where something can."""
    if original.shape != decoded.shape:
        return f"has shape {original.shape} and comes back as {decoded.shape}."
    return "" if np.isfinite(decoded).all() else "comes back with NaN or infinite values."


def kept(name: str, original: Matrix, decoded: Matrix) -> Likeness:
    """Compare a tensor that is said to be left as it was: it has to be the same in every value."""
    problems: tuple[str, ...] = ()
    if original.shape != decoded.shape:
        problems = (f"{name} is kept, has shape {original.shape} and comes back as {decoded.shape}.",)
    elif changed := int(np.count_nonzero(original != decoded)):
        what = "all of one value" if decoded.size > 1 and (decoded == decoded.flat[0]).all() else "others than before"
        told = f"{changed:,} of its {original.size:,} values differ from the source; they are {what}"
        problems = (f"{name} is said to be kept as it was, and is not: {told}.",)
    return Likeness(name=name, code="kept", snr_db=math.inf, rounding_db=math.inf, problems=problems)


def across(found: Sequence[Likeness]) -> Iterator[str]:
    """Sentences on matrices that are far worse than the others of the same code, each measured against rounding."""
    codes: dict[str, list[Likeness]] = {}
    for each in found:
        if math.isfinite(each.snr_db) and math.isfinite(each.rounding_db) and not each.problems:
            codes.setdefault(each.code, []).append(each)
    for alike in codes.values():
        usual = float(np.median([each.gap_db for each in alike]))
        for each in alike:
            if len(alike) > SHOWN and each.gap_db < usual - SPREAD_DB:
                yield (
                    f"{each.name} has an SNR of {each.snr_db:.1f} dB, {each.gap_db:+.1f} dB against rounding with as "
                    f"many bits, where the recipe's matrices usually have {usual:+.1f} dB (at most {SPREAD_DB:g} less)."
                )


def findings(found: Sequence[Likeness]) -> tuple[str, ...]:
    """All that is wrong with the matrices of a model, a sentence each."""
    return (*(problem for each in found for problem in each.problems), *across(found))


def decibels(signal: float, noise: float) -> float:
    if noise == 0:
        return math.inf
    return 10 * math.log10(signal / noise) if signal else -math.inf


def _problems(
    before: Matrix, after: Matrix, sums: BlockSums, snr: float, rounding: float, bits_per_weight: float
) -> Iterator[str]:
    """What is wrong, worst first; the rest of a matrix that is lost as a whole is not looked at."""
    if not sums.decoded_square.any():
        yield "comes back as zeros."
        return
    if snr == math.inf:
        if distinct(before) > 2**bits_per_weight:
            yield f"comes back untouched, to the last bit, from {bits_per_weight:.2f} bits per weight."
        return
    lost = [*lost_parts(before, after, sums)]
    yield from lost
    if lost:
        return
    yield from _whole(before, sums, snr, rounding, bits_per_weight)
    yield from resized(sums, bits_per_weight)
    yield from outliers(sums, bits_per_weight)


def _whole(before: Matrix, sums: BlockSums, snr: float, rounding: float, bits_per_weight: float) -> Iterator[str]:
    """What all groups share. Rounding is tried on this very matrix where something is found, and excuses it."""
    asked, excesses = min(rounding, BEST_DB), sums.excesses()
    chance = CHANCE * math.sqrt(10 ** (-snr / 10) / before.size)  # of a small matrix
    limits = SHARED_LIMIT + chance + np.array([0.0, SHRUNK * min(1.0, 10 ** (-rounding / 10)), 0.0])
    if snr >= asked - FLOOR_DB and (excesses <= limits).all():
        return
    noise, usual = worst_rounding(before, bits_per_weight)
    asked, limits = min(asked, decibels(1.0, noise)), limits + usual.max()
    if snr < asked - FLOOR_DB:
        yield (
            f"has an SNR of {snr:.1f} dB with {bits_per_weight:.2f} bits per weight, where plain rounding has "
            f"{asked:.1f} dB (at least {asked - FLOOR_DB:.1f} dB is asked)."
        )
    for what, excess, limit in zip(SHARED, excesses, limits, strict=True):
        if excess > limit:
            yield f"{what.format(excess)} (at most {limit:.0%} is usual)."


def lost_parts(before: Matrix, after: Matrix, sums: BlockSums) -> Iterator[str]:
    """Rows, or blocks of 64 columns, that have nothing of the original's left, and where they are found instead."""
    for axis, what in AXES:
        own = sums.cosines(axis)
        limit = LOST if before.size // len(own) >= SHORT else LOST / 2
        lost = np.flatnonzero((own < limit) & (sums.sizes(axis) > TINY))
        if len(lost) == 0:
            continue
        moved = (moved_rows if axis else moved_columns)(before, after, lost)
        shown = [f"{what} {place} holds what belongs in {source}" for place, source in moved[:SHOWN]]
        told = f"has lost {len(lost):,} of {len(own):,} {what}s ({_named(lost)}: cosine with the original "
        yield f"{told}{own[lost[0]]:.2f})" + (f"; it is permuted: {', '.join(shown)}" if shown else "") + "."
        return


def resized(sums: BlockSums, bits_per_weight: float) -> Iterator[str]:
    """Rows, or blocks of 64 columns, that come back larger or smaller than the others do: not by an outlier alone."""
    expected = sums.span * BLOCK / 4 / levels(bits_per_weight)
    for axis, what in AXES:
        gains = sums.gains(axis)
        usual = float(np.median(gains))
        far = np.abs(gains - usual)
        limit = max(RESIZED, FAR * float(np.median(far)))
        error, weight, step = (each.sum(axis) for each in (sums.error, sums.weight, expected))
        all_of_it = error > MOST * np.maximum(far * weight, step)
        odd = np.flatnonzero((far > limit) & all_of_it & (sums.sizes(axis) > TINY))
        if len(odd) and sums.weight.shape[1 - axis] >= ENOUGH and gains.size > SHOWN:
            yield (
                f"has {len(odd):,} of {gains.size:,} {what}s of another size ({_named(odd)}: {gains[odd[0]]:.2f} times "
                f"the original, where the others come back {usual:.2f} times as large)."
            )


def _named(places: NDArray[np.intp]) -> str:
    return ", ".join(str(place) for place in places[:SHOWN]) + (", …" if len(places) > SHOWN else "")


def outliers(sums: BlockSums, bits_per_weight: float, noticeable: float = NOTICEABLE) -> Iterator[str]:
    """Groups, and blocks of columns, whose error is far above their like's, and `noticeable` beside the weights."""
    expected = sums.span * BLOCK / 4 / levels(bits_per_weight)  # a quarter of a step for every weight
    like = error_of_like(sums.error, expected)
    row, column = (np.median(sums.error, axis=axis, keepdims=True) for axis in (1, 0))
    like = np.maximum(like, np.maximum(row, column))
    odd = (sums.error > OUTLYING * like) & (sums.error > noticeable * sums.weight)
    if odd.any():
        rows, blocks = np.nonzero(odd)
        times = sums.error[odd] / np.maximum(like[odd], np.finfo(np.float32).tiny)
        worst = int(times.argmax())
        yield (
            f"has {len(rows):,} of {odd.size:,} groups of 64 weights whose mean error is more than {OUTLYING:g} times "
            f"that of their like, up to {times[worst]:.0f} times (row {rows[worst]}, columns from "
            f"{BLOCK * blocks[worst]}): wrong scales, offsets or signs."
        )
    error, wanted, whole = (each.sum(0) for each in (sums.error, expected, sums.weight))
    if len(error) < SHOWN or len(sums.error) < ENOUGH_ROWS:
        return
    usual = np.maximum(error_of_like(error, wanted), np.median(error))
    for block in np.flatnonzero((error > OUTLYING_COLUMNS * usual) & (error > noticeable * whole))[:1]:
        yield (
            f"has {error[block] / usual[block]:.1f} times the error of other columns in those from {BLOCK * block} "
            f"(at most {OUTLYING_COLUMNS:g} times is usual)."
        )
