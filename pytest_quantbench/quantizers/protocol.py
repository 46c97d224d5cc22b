"""What a quantizer is: it encodes one weight matrix into named arrays, decodes it again, and describes its layer.

All of it is numpy: matrices in float16, float32 or bfloat16 (by `ml_dtypes`), arrays of the types that a safetensors
file has. Engines convert at their own doors.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, TypeAlias

from pytest_quantbench.errors import QuantbenchError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from pytest_quantbench.quantizers.layer import Layer

    Array: TypeAlias = NDArray[Any]
else:
    Array = Any  # numpy is not imported for a name

Arrays: TypeAlias = dict[str, Array]
Calibration: TypeAlias = Literal["none", "optional", "hessian"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Statistics:
    """What the inputs x of one matrix (y = W x) looked like over the calibration tokens."""

    hessian: NDArray[np.float32]  # (in, in): mean of x xᵀ
    tokens: int
    sample: NDArray[np.float32]  # (up to 1,024 tokens, in): inputs drawn at random
    peaks: NDArray[np.float32]  # (up to 16 tokens, in): the inputs with the largest single value, largest first


class Codec(Protocol):
    """Reads arrays that stand for one weight matrix. `decode` defines what they mean.

    What derives from this class need not say what `has_input_rule`, `layer` and `note` say here.
    """

    name: ClassVar[str]
    has_input_rule: ClassVar[bool] = False  # whether its layers do something to their inputs: activations are quantized

    @abstractmethod
    def decode(self, arrays: Mapping[str, Array]) -> Array:
        """Named arrays → the dense (out, in) weight, in float32. Deterministic."""

    def layer(self, arrays: Mapping[str, Array]) -> Layer | None:
        """How an engine can run the matrix as it is stored: what maps (…, in) to (…, out) as `x @ decode(arrays).T`
        does. None, unless a method says otherwise: it runs decoded.
        """
        return None

    def note(self, weight_shape: tuple[int, int], arrays: Mapping[str, Array]) -> str:
        """What was done otherwise than the parameters say for an (out, in) matrix, such as a smaller group or padding,
        or what the method chose by itself. Empty, unless a method says otherwise.
        """
        return ""


class Quantizer(Codec, Protocol):
    """Encodes one weight matrix, and is the codec that reads what it has made."""

    version: ClassVar[int]  # raised when the encoding changes: artifacts are rebuilt
    calibration: ClassVar[Calibration]  # optional: better with statistics, fine without

    @abstractmethod
    def encode(self, weight: Array, statistics: Statistics | None, seed: int) -> Arrays:
        """(out, in) float weight → named arrays, packed as they are stored. `statistics` is None without calibration.

        Raises QuantbenchError where statistics are needed and missing. Writes into nothing that it is given.

        Everything needed to decode is in the arrays or in the fields: bits per weight are counted from the arrays.
        """


def check_width(name: str, bits: int, width: int) -> None:
    """For methods of one width only. Raises QuantbenchError where `bits` is another."""
    if bits != width:
        raise QuantbenchError(f"{name} cannot have bits = {bits}: it is a method of {width} bits.")
