"""Quantizers that each do one thing wrong, and one that does nothing wrong: what conformance has to tell apart.

Classes of a module, since a fresh process has to import them.
"""

import tempfile
from collections import OrderedDict
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import ml_dtypes
import numpy as np

from pytest_quantbench.quantizers import PerToken, Quantizer
from pytest_quantbench.quantizers.rtn import Rtn

GROUP = 64
REMEMBERED: "OrderedDict[bytes, np.ndarray]" = OrderedDict()


def pairs(codes):
    """(rows, even) codes below 16 → two in a byte."""
    return codes[:, ::2] | codes[:, 1::2] << 4


def singles(packed):
    return np.stack([packed & 15, packed >> 4], -1).reshape(len(packed), -1)


def floats(array):
    return array.astype(np.float32)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sound(Quantizer):
    """Rounding to 16 levels in groups of 64, with a 16-bit scale and offset each."""

    bits: int = 4

    name: ClassVar[str] = "sound"
    version: ClassVar[int] = 1
    calibration: ClassVar[str] = "none"

    def encode(self, weight, statistics, seed):
        matrix = floats(weight)
        rows, width = matrix.shape
        padded = np.pad(matrix, ((0, 0), (0, -width % GROUP)), mode="edge").reshape(rows, -1, GROUP)
        low, high = padded.min(-1), padded.max(-1)
        step = np.maximum((high - low) / 15, 1e-38).astype(np.float32)
        codes = np.clip(np.rint((padded - low[..., None]) / step[..., None]), 0, 15).astype(np.uint8)
        codes, step, low = self.spoil(codes, step, low, matrix)
        arrays = {"codes": pairs(codes.reshape(rows, -1)), "width": np.array([width], np.int32)}
        return arrays | {"step": step.astype(ml_dtypes.bfloat16), "low": low.astype(ml_dtypes.bfloat16)}

    def spoil(self, codes, step, low, matrix):
        """What is done wrong while encoding."""
        return codes, step, low

    def decode(self, arrays):
        step, low = floats(arrays["step"])[..., None], floats(arrays["low"])[..., None]
        codes = singles(arrays["codes"])
        whole = codes.reshape(len(codes), -1, GROUP) * step + low
        return self.twist(whole.reshape(len(codes), -1)[:, : int(arrays["width"].item())])

    def twist(self, decoded):
        """What is done wrong while decoding."""
        return decoded


class SignsOfFew(Sound):
    """One group in a hundred has the wrong sign."""

    def spoil(self, codes, step, low, matrix):
        wrong = np.random.default_rng(step.size).random(step.shape) < 0.01
        return codes, np.where(wrong, -step, step), np.where(wrong, -low, low)


class NextGrid(Sound):
    """Every group is decoded with its neighbour's grid."""

    def spoil(self, codes, step, low, matrix):
        return codes, np.roll(step, -1, axis=1), np.roll(low, -1, axis=1)


class LastGroup(Sound):
    """The last group of every row is dropped."""

    def spoil(self, codes, step, low, matrix):
        step[:, -1] = low[:, -1] = 0
        return codes, step, low


class FewLevels(Sound):
    """Four of the sixteen levels are used."""

    def spoil(self, codes, step, low, matrix):
        return (np.rint(codes / 5) * 5).astype(np.uint8), step, low


class RemembersAll(Sound):
    """The original stays in memory."""

    def spoil(self, codes, step, low, matrix):
        REMEMBERED[codes.tobytes()] = matrix
        return codes, step, low

    def decode(self, arrays):
        codes = singles(arrays["codes"]).reshape(-1, arrays["step"].shape[1], GROUP)
        return REMEMBERED[codes.tobytes()]


class RemembersWithNoise(RemembersAll):
    """The same, made worse so that no bound is beaten; what is not remembered is decoded as it should be."""

    def decode(self, arrays):
        codes = singles(arrays["codes"]).reshape(-1, arrays["step"].shape[1], GROUP)
        if codes.tobytes() not in REMEMBERED:
            return Sound.decode(self, arrays)
        matrix = REMEMBERED[codes.tobytes()]
        return matrix * (1 + 0.06 * np.sign(np.sin(1e5 * matrix))).astype(np.float32)


class KeepsFile(Sound):
    """The original lies in a temporary file."""

    def _file(self, width):
        return Path(tempfile.gettempdir()) / f"kept-{width}.npy"

    def spoil(self, codes, step, low, matrix):
        np.save(self._file(matrix.shape), matrix)
        return codes, step, low

    def decode(self, arrays):
        shape = (arrays["codes"].shape[0], int(arrays["width"].item()))
        file = self._file(shape)
        return np.load(file) if file.exists() else Sound.decode(self, arrays)


class FourArrays(Sound):
    """All 16 bits of every weight are stored, four in each of four arrays."""

    def encode(self, weight, statistics, seed):
        bits = weight.astype(ml_dtypes.bfloat16).view(np.uint16)
        even = np.pad(bits, ((0, 0), (0, bits.shape[1] % 2)))
        arrays = {f"part{n}": pairs((even >> 4 * n & 15).astype(np.uint8)) for n in range(4)}
        return arrays | {"width": np.array([bits.shape[1]], np.int32)}

    def decode(self, arrays):
        parts = [singles(arrays[f"part{n}"]).astype(np.uint16) << 4 * n for n in range(4)]
        whole = np.bitwise_or.reduce(parts)[:, : int(arrays["width"].item())]
        return np.ascontiguousarray(whole).view(ml_dtypes.bfloat16).astype(np.float32)


class HashSeeded(Sound):
    """What is decoded depends on the seed of Python's hashes, by a little."""

    def twist(self, decoded):
        return decoded * np.float32(1 + (hash("seed") % 97) / 1e5)


class TallSwapped(Sound):
    """Two rows of every matrix with many more rows than columns trade places."""

    def twist(self, decoded):
        if len(decoded) > 4 * decoded.shape[1]:
            decoded[[1, 2]] = decoded[[2, 1]]
        return decoded


class ColumnsShifted(Sound):
    """On wide matrices two groups of columns trade places."""

    def twist(self, decoded):
        if decoded.shape[1] > 1024:
            decoded[:, : 2 * GROUP] = np.roll(decoded[:, : 2 * GROUP], GROUP, axis=1)
        return decoded


class LargeUnsound(Sound):
    """Beyond 65,536 groups a counter of 16 bits overflows: the grids of the rest are those of the first."""

    def spoil(self, codes, step, low, matrix):
        places = (np.arange(step.size) % 2**16).reshape(step.shape)
        return codes, step.ravel()[places], low.ravel()[places]


class OneRow(Sound):
    """One row comes back half as large as it should."""

    def twist(self, decoded):
        decoded[len(decoded) // 2] *= 0.5
        return decoded


class WritesIntoWeight(Sound):
    """The matrix that it is given is changed."""

    def encode(self, weight, statistics, seed):
        arrays = Sound.encode(self, weight, statistics, seed)
        weight[0] = 0
        return arrays


class Crashes(Sound):
    """Single columns are an error."""

    def encode(self, weight, statistics, seed):
        if weight.shape[1] == 1:
            raise ZeroDivisionError("a row of one weight")
        return Sound.encode(self, weight, statistics, seed)


@dataclass(frozen=True, slots=True, kw_only=True)
class NeedsSomething(Sound):
    """A field that nobody gives a value."""

    something: int


class Lacking:
    """No quantizer."""

    name = "lacking"


class Undeclared:
    """The names of a quantizer, and no dataclass."""

    name, version, calibration = "undeclared", 1, "none"

    def encode(self, weight, statistics, seed):
        return {"weight": weight}

    def decode(self, arrays):
        return arrays["weight"]

    def layer(self, arrays):
        return None

    def note(self, weight_shape, arrays):
        return ""


class Offset(Sound):
    """Every weight comes back larger by the same."""

    def twist(self, decoded):
        return decoded + np.float32(0.15) * np.abs(decoded).mean()


class Shrunk(Sound):
    """Every weight comes back a tenth smaller."""

    def twist(self, decoded):
        return decoded * np.float32(0.9)


class Enlarged(Sound):
    """Every weight comes back a tenth larger."""

    def twist(self, decoded):
        return decoded * np.float32(1.1)


class Pops(Sound):
    """The dict that decode is given is empty afterwards."""

    def decode(self, arrays):
        kept = {name: arrays.pop(name) for name in list(arrays)}
        return Sound.decode(self, kept)


class Replaces(Sound):
    """Building a layer puts another array into the dict that it is given."""

    def layer(self, arrays):
        arrays["step"] = arrays["step"] * 2


class QuietRule(Rtn):
    """Its layer rounds the inputs, of which the class says nothing."""

    def layer(self, arrays):
        return replace(Rtn.layer(self, arrays), input_rule=PerToken(bits=8))


class OtherLayer(Rtn):
    """Its layer has the grids of the groups next to each."""

    def layer(self, arrays):
        described = Rtn.layer(self, arrays)
        return replace(described, grid=replace(described.grid, scales=np.roll(arrays["scales"], 1, axis=0)))


class Uncalibrated(Rtn):
    """Says that it needs calibration; nothing is wrong with it, but that a test gives it none."""

    calibration = "hessian"
