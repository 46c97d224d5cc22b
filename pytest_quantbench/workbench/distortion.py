"""What a quantizer loses, held against the bits that it stores: the floor that plain rounding sets, the bound that no
code beats, and where in the matrix the error is.

Bits are counted from the stored arrays, whatever the method says of itself. Rounding is MLX's in groups of 64 at 2 to 8
bits, with a straight line between these points. The bound is Shannon's for Gaussian weights (see `matrices.bound_db`).
"""

import itertools
import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from pytest_quantbench.measures.integrity.likeness import BEST_DB, likeness
from pytest_quantbench.quantizers import Quantizer
from pytest_quantbench.quantizers.numerics.affine import BITS
from pytest_quantbench.quantizers.numerics.error_feedback import output_error
from pytest_quantbench.quantizers.rtn import Rtn
from pytest_quantbench.workbench.matrices import bound_db
from pytest_quantbench.workbench.trials import LARGE, MAIN, TALL, TWICE, WIDE, Trial, demand, inputs, statistics, trial

MARGIN_DB = 4.5  # below rounding: three quarters of a bit
BOUND_TOLERANCE_DB = 0.3  # a finite matrix is not exactly its expectation
EXACT_BITS = 10.0  # Gaussian BF16 values can be stored exactly in so many bits, and in no fewer
QUICK_SECONDS = 0.5  # a method that takes longer for the main matrix is not asked for the large one
ODD = (200, 301)  # neither rows nor columns are multiples of anything
SHAPES = (MAIN, TWICE, WIDE, TALL, ODD)


def marginal_bits(quantizer: Quantizer) -> float:
    """What each further weight costs: twice as many rows against as many. What all rows share is not in it."""
    few, many = trial(quantizer, MAIN), trial(quantizer, TWICE)
    return 8 * (many.stored_bytes - few.stored_bytes) / (many.original.size - few.original.size)


def stores_the_bits_that_it_says(quantizer: Quantizer) -> None:
    """All arrays together, each further weight takes no more than one bit beyond the width."""
    width = getattr(quantizer, "bits", None)
    if isinstance(width, int | float):
        cost = marginal_bits(quantizer)
        told = f"{cost:.2f} bits in all arrays together at a width of {width} (at most {width + 1} are allowed)"
        demand(cost <= width + 1, f"each further weight of a matrix 256 wide takes {told}")


def no_worse_than_rounding_with_as_many_bits(quantizer: Quantizer) -> None:
    """On the method's own objective, the outputs where it is calibrated and the weights where not."""
    found, bits = snr_db(quantizer, trial(quantizer, MAIN)), marginal_bits(quantizer)
    plain = rounding_db(quantizer, bits)
    needed = min(plain, BEST_DB) - MARGIN_DB
    demand(
        found >= needed,
        f"a Gaussian {MAIN} matrix comes back with an SNR of {found:.1f} dB from {bits:.2f} bits per weight, where "
        f"rounding with as many has {plain:.1f} dB; at least {needed:.1f} dB is needed",
    )


def beats_no_bound(quantizer: Quantizer) -> None:
    """Gaussian weights come back no better than any code of the stored bits could make them."""
    for shape in SHAPES:
        tried = trial(quantizer, shape)
        found, most = _decibels(tried), 20 * math.log10(2) * tried.bits_per_weight
        if found == math.inf and tried.bits_per_weight >= EXACT_BITS:
            continue
        _demand_bounded(f"a Gaussian {shape} matrix comes back", found, most, tried)
    seen = statistics(quantizer, MAIN[1])
    tried = trial(quantizer, MAIN)
    if seen is not None and tried.bits_per_weight < EXACT_BITS:
        found, most = snr_db(quantizer, tried), bound_db(seen.hessian, tried.bits_per_weight)
        _demand_bounded(f"the outputs of a Gaussian {MAIN} matrix come back", found, most, tried)


def _demand_bounded(what: str, found: float, most: float, tried: Trial) -> None:
    demand(
        found <= most + BOUND_TOLERANCE_DB,
        f"{what} with an SNR of {found:.1f} dB from {tried.bits_per_weight:.2f} stored bits per weight, and no code of "
        f"so many bits has more than {most:.1f} dB: something that decoding needs is not counted",
    )


def errors_are_where_they_belong(quantizer: Quantizer) -> None:
    """No row, group or block of columns of a wide, tall, odd or large matrix is lost, permuted or far worse than its
    like.
    """
    bits = marginal_bits(quantizer)
    for shape in (*SHAPES, *((LARGE,) if trial(quantizer, MAIN).seconds < QUICK_SECONDS else ())):
        tried = trial(quantizer, shape)
        found = likeness(f"a Gaussian {shape} matrix", tried.original, tried.decoded, bits)
        demand(not found.problems, " ".join(found.problems))


def error_falls_with_bits(widths: Sequence[Quantizer]) -> None:
    """A method's quantizers, from many bits to few: each loses more than the one before. Raises ConformanceError."""
    for more, fewer in itertools.pairwise(widths):
        demand(loss(more)[0] < loss(fewer)[0], f"{more} loses no less than {fewer}")


def loss(quantizer: Quantizer) -> tuple[float, float]:
    """The squared error that the method makes small, of the outputs where it is calibrated, else of the weights; and
    the stored bits per weight. On Gaussian weights of 256².
    """
    tried = trial(quantizer, MAIN)
    return output_error(tried.decoded - tried.original, _objective(quantizer)), tried.bits_per_weight


def snr_db(quantizer: Quantizer, tried: Trial) -> float:
    """On the method's own objective."""
    objective = _objective(quantizer)
    lost = output_error(tried.decoded - tried.original, objective)
    return 10 * math.log10(output_error(tried.original, objective) / lost) if lost else math.inf


def rounding_db(quantizer: Quantizer, bits_per_weight: float) -> float:
    """What rounding with so many bits has on the same objective; beyond the points that are known, 6 dB a bit below
    and no more above.
    """
    bits, levels = _rounding(quantizer.calibration != "none")
    below = min(0.0, bits_per_weight - bits[0]) * 20 * math.log10(2)
    return below + float(np.interp(bits_per_weight, bits, levels))


@lru_cache(maxsize=2)
def _rounding(calibrated: bool) -> tuple[Sequence[float], Sequence[float]]:
    """(stored bits per weight, dB) of plain rounding, on the outputs where `calibrated`."""
    points = []
    for bits in sorted(BITS):
        tried = trial(Rtn(bits=bits), MAIN)
        objective = _objective_of(calibrated)
        lost, whole = (output_error(each, objective) for each in (tried.decoded - tried.original, tried.original))
        points.append((tried.bits_per_weight, 10 * math.log10(whole / lost)))
    return [bits for bits, _ in points], [level for _, level in points]


def _objective(quantizer: Quantizer) -> NDArray[np.float32]:
    return _objective_of(quantizer.calibration != "none")


@lru_cache(maxsize=2)
def _objective_of(calibrated: bool) -> NDArray[np.float32]:
    return inputs(MAIN[1]).hessian if calibrated else np.eye(MAIN[1], dtype=np.float32)


def _decibels(tried: Trial) -> float:
    lost = float(np.square(tried.decoded - tried.original, dtype=np.float64).sum())
    return 10 * math.log10(float(np.square(tried.original, dtype=np.float64).sum()) / lost) if lost else math.inf
