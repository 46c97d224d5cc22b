"""What every quantizer has to keep to, as checks for anyone's own: `quantbench conform module:Class`."""

import itertools
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray

from pytest_quantbench.affine import BITS
from pytest_quantbench.cases import correlated_inputs
from pytest_quantbench.errors import ConformanceError
from pytest_quantbench.hessian import output_error
from pytest_quantbench.quantizers import Quantizer, Statistics
from pytest_quantbench.quantizers.rtn import Rtn

T = TypeVar("T")
SHAPES = ((64, 64), (8, 128), (1, 64), (3, 172), (5, 1), (17, 33))
LOSS_SHAPE = (256, 256)
LINEAR_TOLERANCE = 1e-4  # of the largest output, in float32


def gaussian(shape: tuple[int, int], seed: int = 0) -> mx.array:
    """(out, in) BF16 weights of standard deviation 0.02."""
    return mx.array(0.02 * np.random.default_rng(seed).standard_normal(shape)).astype(mx.bfloat16)


def _statistics(quantizer: Quantizer, width: int) -> Statistics | None:
    return None if quantizer.calibration == "none" else correlated_inputs(width)


def _encode(quantizer: Quantizer, weight: mx.array) -> dict[str, mx.array]:
    arrays = quantizer.encode(weight, _statistics(quantizer, weight.shape[1]), 0)
    for name, array in arrays.items():
        _demand("." not in name, f"the array name {name!r} has a dot")
        _demand(isinstance(array, mx.array), f"{name} is a {type(array).__name__}, not an MLX array")
    return arrays


def _decode(quantizer: Quantizer, arrays: Mapping[str, mx.array]) -> NDArray[np.float32]:
    return np.array(quantizer.decode(dict(arrays)).astype(mx.float32))


def _demand(condition: object, otherwise: str) -> None:
    if not condition:
        raise ConformanceError(otherwise)


def speaks_the_protocol(quantizer: Quantizer) -> None:
    """It has every name that the protocol asks for."""
    for name in ("name", "version", "calibration", "encode", "decode", "linear"):
        _demand(hasattr(quantizer, name), f"{name!r} is missing")
    known = ("none", "optional", "hessian")
    _demand(quantizer.calibration in known, f"calibration = {quantizer.calibration!r} is none of {known}")


def shape_comes_back(quantizer: Quantizer) -> None:
    """decode(encode(w)) has w's shape, for matrices that fit and for odd ones."""
    for shape in SHAPES:
        decoded = _decode(quantizer, _encode(quantizer, gaussian(shape)))
        _demand(decoded.shape == shape, f"a matrix {shape} comes back as {decoded.shape}")


def survives_a_file(quantizer: Quantizer) -> None:
    """Arrays from a file decode to the same matrix, after others were encoded: nothing is kept outside of them."""
    arrays = _encode(quantizer, gaussian((16, 172)))
    expected = _decode(quantizer, arrays)
    with tempfile.TemporaryDirectory() as directory:
        file = str(Path(directory) / "arrays.safetensors")
        mx.save_safetensors(file, arrays)
        loaded = mx.load(file)
        assert isinstance(loaded, dict)
        _encode(quantizer, gaussian((16, 172), seed=1))
        same = np.array_equal(_decode(quantizer, loaded), expected)
    _demand(same, "a matrix changes when its arrays are saved, another is encoded, and they are loaded")


def is_deterministic(quantizer: Quantizer) -> None:
    """The same matrix and seed give the same arrays, and the same arrays the same matrix."""
    first, second = (_encode(quantizer, gaussian((32, 64))) for _ in range(2))
    _demand(first.keys() == second.keys(), "two encodings have different arrays")
    for name in first:
        _demand(mx.array_equal(first[name], second[name]), f"{name} differs between two encodings of one matrix")
    _demand(np.array_equal(_decode(quantizer, first), _decode(quantizer, first)), "decode differs between two calls")


def linear_agrees(quantizer: Quantizer) -> None:
    """The native layer, where there is one, computes what the decoded matrix computes."""
    for shape in SHAPES:
        arrays = _encode(quantizer, gaussian(shape))
        layer = quantizer.linear(dict(arrays))
        if layer is None:
            continue
        layer.set_dtype(mx.float32)
        x = mx.array(np.random.default_rng(1).standard_normal((4, shape[1])), mx.float32)
        rule = getattr(quantizer, "inputs", None)
        ruled = x if rule is None else rule(dict(arrays))(x)
        expected = np.array(ruled) @ _decode(quantizer, arrays).T
        error = np.abs(np.array(layer(x)) - expected).max()
        limit = LINEAR_TOLERANCE * np.abs(expected).max() + 1e-7
        _demand(error <= limit, f"linear differs from decode by {error:.2e} on {shape}, more than {limit:.2e}")


def zero_stays_zero(quantizer: Quantizer) -> None:
    """A matrix of zeros comes back as zeros."""
    decoded = _decode(quantizer, _encode(quantizer, mx.zeros((8, 64), mx.bfloat16)))
    _demand(np.abs(decoded).max() < 1e-6, f"zeros come back as large as {np.abs(decoded).max():.2e}")


def hard_matrices_stay_finite(quantizer: Quantizer) -> None:
    """A huge outlier, subnormal values, one value throughout: finite results, and no larger than what went in."""
    outlier = np.array(gaussian((16, 64)).astype(mx.float32))
    outlier[3, 5] = 1e4
    hard = {
        "a huge outlier": outlier,
        "subnormal values": np.full((16, 64), 1e-39, np.float32),
        "one value throughout": np.full((16, 64), 0.75, np.float32),
        "one negative value throughout": np.full((16, 64), -3.0, np.float32),
    }
    for name, matrix in hard.items():
        decoded = _decode(quantizer, _encode(quantizer, mx.array(matrix)))
        _demand(np.isfinite(decoded).all(), f"a matrix with {name} comes back with NaN or infinite values")
        limit = 3 * np.abs(matrix).max()
        _demand(np.abs(decoded).max() <= limit, f"{name}: values up to {np.abs(decoded).max():.2e} come back")


def scales_with_the_matrix(quantizer: Quantizer) -> None:
    """Four times the matrix comes back as close to the original as the matrix did: no absolute constants inside.

    Exactly four times the result would ask more than a method can give whose scales are subnormal in float16.
    """
    weight = gaussian((32, 128))
    original = np.array(weight.astype(mx.float32))
    one, four = (_decode(quantizer, _encode(quantizer, factor * weight)) for factor in (1, 4))
    plain, scaled = (np.square(decoded - original).sum() for decoded in (one, four / 4))
    _demand(
        abs(scaled - plain) <= 0.02 * plain,
        f"the squared error of 4 × a matrix is {scaled:.3g} × 16, not {plain:.3g} × 16",
    )


def codes_are_packed(quantizer: Quantizer) -> None:
    """On 256² no more than one bit per weight is stored beyond the width, codebooks apart; nothing is in 64 bits."""
    arrays = _encode(quantizer, gaussian((256, 256)))
    for name, array in arrays.items():
        _demand(array.size < 256 or array.itemsize <= 4, f"{name} is stored in {8 * array.itemsize} bits per value")
    width = getattr(quantizer, "bits", 16)
    stored = max(8 * array.nbytes / 256**2 for array in arrays.values())
    _demand(stored <= width + 1, f"one array alone stores {stored:.2f} bits per weight at a width of {width}")


def no_worse_than_rounding_with_three_bits_less(quantizer: Quantizer) -> None:
    """On the method's own objective, against MLX's rounding in groups of 128; where there is none so small, a method
    has to lose less than there is.
    """
    lost, stored = loss(quantizer)
    coarser = [Rtn(bits=bits, group_size=128) for bits in BITS if bits + 0.25 <= stored - 3]
    if not coarser:
        whole = output_error(_original(), _objective(quantizer))
        return _demand(lost < whole, f"the error is {lost / whole:.2f} times what there is")
    error = _decode(coarser[-1], _encode(coarser[-1], gaussian(LOSS_SHAPE))) - _original()
    limit = output_error(error, _objective(quantizer))
    rounding = f"{lost / limit:.2f} times what rounding to {coarser[-1].bits} bits loses"
    return _demand(lost <= limit, f"with {stored:.2f} bits per weight it loses {rounding}")


def error_falls_with_bits(widths: Sequence[Quantizer]) -> None:
    """A method's quantizers, from many bits to few: each loses more than the one before. Raises ConformanceError."""
    for more, fewer in itertools.pairwise(widths):
        _demand(loss(more)[0] < loss(fewer)[0], f"{more} loses no less than {fewer}")


def loss(quantizer: Quantizer) -> tuple[float, float]:
    """The squared error that the method makes small, of the outputs where it is calibrated, else of the weights; and
    the stored bits per weight. On Gaussian weights of 256².
    """
    arrays = _encode(quantizer, gaussian(LOSS_SHAPE))
    stored = 8 * sum(array.nbytes for array in arrays.values()) / _original().size
    return output_error(_decode(quantizer, arrays) - _original(), _objective(quantizer)), stored


def _original() -> NDArray[np.float32]:
    return np.array(gaussian(LOSS_SHAPE).astype(mx.float32))


def _objective(quantizer: Quantizer) -> NDArray[np.float32]:
    seen = _statistics(quantizer, LOSS_SHAPE[1])
    return np.eye(LOSS_SHAPE[1], dtype=np.float32) if seen is None else seen.hessian


CHECKS: Mapping[str, Callable[[Quantizer], None]] = {
    check.__name__: check
    for check in (
        speaks_the_protocol,
        shape_comes_back,
        survives_a_file,
        is_deterministic,
        linear_agrees,
        zero_stays_zero,
        hard_matrices_stay_finite,
        scales_with_the_matrix,
        codes_are_packed,
        no_worse_than_rounding_with_three_bits_less,
    )
}


def failures(quantizer: Quantizer) -> Iterator[tuple[str, str | None]]:
    """Every check's name, and what was wrong; None where nothing was."""
    for name, check in CHECKS.items():
        yield name, _problem(check, quantizer)


def failures_across(widths: Sequence[Quantizer]) -> Iterator[tuple[str, str | None]]:
    """The same for what is asked of a method's widths together, given from many bits to few."""
    yield error_falls_with_bits.__name__, _problem(error_falls_with_bits, widths)


def _problem(check: Callable[[T], None], subject: T) -> str | None:
    try:
        check(subject)
    except ConformanceError as error:
        return str(error)
    return None
