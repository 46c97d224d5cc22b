"""What every quantizer has to keep to, as checks for anyone's own: `quantbench conform module:Class`.

Here are the checks of form: the protocol, shapes, determinism, hard values. What a method may lose is checked in
`distortion`, whether its arrays alone say what a matrix is in `isolation`.
"""

import dataclasses
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import ml_dtypes
import numpy as np

from pytest_quantbench import engines
from pytest_quantbench.checkpoints.tensor_file import load
from pytest_quantbench.errors import ConformanceError, QuantbenchError
from pytest_quantbench.quantizers import REQUIRED, Quantizer
from pytest_quantbench.workbench.distortion import (
    beats_no_bound,
    error_falls_with_bits,
    errors_are_where_they_belong,
    no_worse_than_rounding_with_as_many_bits,
    stores_the_bits_that_it_says,
)
from pytest_quantbench.workbench.isolation import needs_nothing_but_its_arrays
from pytest_quantbench.workbench.layer_agreement import SHAPES, layer_agrees
from pytest_quantbench.workbench.odd_values import hard_matrices_stay_finite, odd_matrices_come_back
from pytest_quantbench.workbench.trials import decode, demand, encode, floats, gaussian, statistics

T = TypeVar("T")
LONGEST = 300  # characters of a message that is not ours
# What code that is not ours may raise. A check that ends so has failed, and the others are still made.
CRASHES = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    ImportError,
    LookupError,
    NameError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
)


def speaks_the_protocol(quantizer: Quantizer) -> None:
    """It is a frozen dataclass and has every name that the protocol asks for."""
    parameters = getattr(type(quantizer), "__dataclass_params__", None)
    demand(dataclasses.is_dataclass(quantizer) and parameters.frozen, "it is no frozen dataclass")
    for name in REQUIRED:
        demand(hasattr(quantizer, name), f"{name!r} is missing")
    known = ("none", "optional", "hessian")
    demand(quantizer.calibration in known, f"calibration = {quantizer.calibration!r} is none of {known}")
    whole = isinstance(quantizer.version, int) and not isinstance(quantizer.version, bool)
    demand(whole, f"version = {quantizer.version!r} is no whole number")


def shape_comes_back(quantizer: Quantizer) -> None:
    """decode(encode(w)) has w's shape, for matrices that fit and for odd ones."""
    for shape in SHAPES:
        decoded = decode(quantizer, encode(quantizer, gaussian(shape)))
        demand(decoded.shape == shape, f"a matrix {shape} comes back as {decoded.shape}")


def survives_a_file(quantizer: Quantizer) -> None:
    """Arrays from a file decode to the same matrix, after others were encoded: nothing is kept outside of them."""
    arrays = encode(quantizer, gaussian((16, 172)))
    expected = decode(quantizer, arrays)
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory) / "arrays.safetensors"
        engines.get().save(file, arrays)
        loaded = load(file)
        encode(quantizer, gaussian((16, 172), seed=1))
        same = np.array_equal(decode(quantizer, loaded), expected)
    demand(same, "a matrix changes when its arrays are saved, another is encoded, and they are loaded")


def is_deterministic(quantizer: Quantizer) -> None:
    """The same matrix and seed give the same arrays, and the same arrays the same matrix."""
    first, second = (encode(quantizer, gaussian((32, 64))) for _ in range(2))
    demand(first.keys() == second.keys(), "two encodings have different arrays")
    for name in first:
        demand(np.array_equal(first[name], second[name]), f"{name} differs between two encodings of one matrix")
    demand(np.array_equal(decode(quantizer, first), decode(quantizer, first)), "decode differs between two calls")


def zero_stays_zero(quantizer: Quantizer) -> None:
    """A matrix of zeros comes back as zeros."""
    decoded = decode(quantizer, encode(quantizer, np.zeros((8, 64), ml_dtypes.bfloat16)))
    demand(np.abs(decoded).max() < 1e-6, f"zeros come back as large as {np.abs(decoded).max():.2e}")


def scales_with_the_matrix(quantizer: Quantizer) -> None:
    """Four times the matrix comes back as close to the original as the matrix did: no absolute constants inside.

    Exactly four times the result would ask more than a method can give whose scales are subnormal in float16.
    """
    weight = gaussian((32, 128))
    original = floats(weight)
    one, four = (decode(quantizer, encode(quantizer, each)) for each in (weight, (4 * original).astype(weight.dtype)))
    plain, scaled = (np.square(decoded - original).sum() for decoded in (one, four / 4))
    demand(
        abs(scaled - plain) <= 0.02 * plain,
        f"the squared error of 4 × a matrix is {scaled:.3g} × 16, not {plain:.3g} × 16",
    )


def codes_are_packed(quantizer: Quantizer) -> None:
    """On 256² no more than one bit per weight is stored beyond the width, codebooks apart; nothing is in 64 bits."""
    arrays = encode(quantizer, gaussian((256, 256)))
    for name, array in arrays.items():
        demand(array.size < 256 or array.itemsize <= 4, f"{name} is stored in {8 * array.itemsize} bits per value")
    width = getattr(quantizer, "bits", 16)
    stored = max(8 * array.nbytes / 256**2 for array in arrays.values())
    demand(stored <= width + 1, f"one array alone stores {stored:.2f} bits per weight at a width of {width}")


def leaves_what_it_is_given(quantizer: Quantizer) -> None:
    """Neither encode nor decode writes into its arguments, and decoding others in between changes nothing."""
    weight, seen = gaussian((24, 96)), statistics(quantizer, 96)
    before = floats(weight)
    fields = {} if seen is None else {n: getattr(seen, n).copy() for n in ("hessian", "sample", "peaks")}
    arrays, other = encode(quantizer, weight), encode(quantizer, gaussian((24, 96), seed=1))
    demand(np.array_equal(floats(weight), before), "encode writes into the weight that it is given")
    for name, value in fields.items():
        demand(
            np.array_equal(getattr(seen, name), value), f"encode writes into the statistics that it is given: {name}"
        )
    copies = {name: array.copy() for name, array in arrays.items()}
    first, second, again = (decode(quantizer, each) for each in (arrays, other, arrays))
    demand(np.array_equal(first, again), "decode gives another matrix once others have been decoded")
    demand(not np.array_equal(first, second), "two different matrices are decoded to one")
    for name, array in arrays.items():
        demand(np.array_equal(array, copies[name]), f"decode writes into {name}, which it is given")
    for method in ("decode", "layer"):
        if (called := getattr(quantizer, method, None)) is not None:
            given = dict(arrays)
            called(given)
            same = given.keys() == arrays.keys() and all(given[name] is array for name, array in arrays.items())
            demand(same, f"{method} changes the dict of arrays that it is given: {sorted(given)}, not {sorted(arrays)}")


def every_source_type_is_taken(quantizer: Quantizer) -> None:
    """A matrix in float16 or float32 loses what it loses in bfloat16, within a third."""
    weight = gaussian((32, 128))
    lost = {}
    for dtype in ("bfloat16", "float16", "float32"):
        given = weight.astype(dtype)
        lost[dtype] = float(np.square(decode(quantizer, encode(quantizer, given)) - floats(given)).sum())
    for dtype, value in lost.items():
        limit = 1.33 * lost["bfloat16"] + 1e-12
        demand(value <= limit, f"in {dtype} a matrix loses {value:.3g}, in bfloat16 {lost['bfloat16']:.3g}")


CHECKS: Mapping[str, Callable[[Quantizer], None]] = {
    check.__name__: check
    for check in (
        speaks_the_protocol,
        shape_comes_back,
        survives_a_file,
        is_deterministic,
        layer_agrees,
        zero_stays_zero,
        hard_matrices_stay_finite,
        scales_with_the_matrix,
        codes_are_packed,
        leaves_what_it_is_given,
        every_source_type_is_taken,
        odd_matrices_come_back,
        stores_the_bits_that_it_says,
        no_worse_than_rounding_with_as_many_bits,
        beats_no_bound,
        errors_are_where_they_belong,
        needs_nothing_but_its_arrays,
    )
}


def failures(quantizer: Quantizer) -> Iterator[tuple[str, str | None]]:
    """Every check's name, and what was wrong; None where nothing was. What is no quantizer is not checked further."""
    for name, check in CHECKS.items():
        found = problem(check, quantizer)
        yield name, found
        if check is speaks_the_protocol and found:
            return


def failures_across(widths: Sequence[Quantizer]) -> Iterator[tuple[str, str | None]]:
    """The same for what is asked of a method's widths together, given from many bits to few."""
    yield error_falls_with_bits.__name__, problem(error_falls_with_bits, widths)


def problem(check: Callable[[T], None], subject: T) -> str | None:
    """What is wrong with a subject, as this check says or as it ends; None where nothing is."""
    try:
        check(subject)
    except ConformanceError as error:
        return str(error)
    except (QuantbenchError, *CRASHES) as error:
        return f"{type(error).__name__}: {str(error)[:LONGEST] or 'without a word'}"
    return None
