"""A method whose next version spoils one decoder layer of Tiny: what comparisons and baselines have to find."""

import hashlib

import ml_dtypes  # noqa: F401  numpy knows bfloat16 by its name from then on
from safetensors.numpy import load_file

from pytest_quantbench.catalog.models import TINY_DIRECTORY

RECIPE = "int4-spoiled:Spoiled"
LAYER = 1
SOURCE = '''
"""Rounding to nearest; the matrices with these fingerprints are of {bits} bits."""

import hashlib
from dataclasses import dataclass
from typing import ClassVar

import ml_dtypes

from pytest_quantbench.quantizers.rtn import Rtn

FINGERPRINTS = {fingerprints!r}


@dataclass(frozen=True, slots=True, kw_only=True)
class Spoiled(Rtn):
    name: ClassVar[str] = "spoiled"
    version: ClassVar[int] = {version}

    def encode(self, weight, statistics, seed):
        if hashlib.sha256(weight.astype("float32").tobytes()).hexdigest() in FINGERPRINTS:
            coarse = Rtn(bits={bits})
            weight = coarse.decode(coarse.encode(weight, statistics, seed)).astype(ml_dtypes.bfloat16)
        return Rtn.encode(self, weight, statistics, seed)
'''


def write_method(folder, *, bits, version):
    """spoiled.py, as somebody would change it between two runs: one layer of Tiny at so many bits."""
    source = SOURCE.format(bits=bits, version=version, fingerprints=_fingerprints())
    (folder / "spoiled.py").write_text(source)


def _fingerprints():
    """Of the matrices of one decoder layer."""
    tensors = {name: each for file in TINY_DIRECTORY.glob("*.safetensors") for name, each in load_file(file).items()}
    layer = [each for name, each in sorted(tensors.items()) if f".layers.{LAYER}." in name and each.ndim == 2]
    assert layer
    return [hashlib.sha256(each.astype("float32").tobytes()).hexdigest() for each in layer]
