"""An artifact's weights against the originals while someone reads them: every parameter is looked at once.

A walk decodes every parameter anyway; what it is given passes through here. Where no walk is taken, `finish`
decodes what nobody has asked for. Encoded matrices are judged by `likeness.likeness`; kept tensors have to be the
same. Of a candidate, which somebody else made, both are judged by `foreign`.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pytest_quantbench.compress.artifact import Artifact
from pytest_quantbench.compress.assignment import Tensor
from pytest_quantbench.compress.manifest import Manifest
from pytest_quantbench.engines.protocol import Architecture
from pytest_quantbench.measures.integrity import foreign, likeness
from pytest_quantbench.measures.integrity.foreign import Foreign
from pytest_quantbench.measures.integrity.likeness import Likeness
from pytest_quantbench.measures.samples import IntegritySamples
from pytest_quantbench.quantizers import Arrays
from pytest_quantbench.quantizers.encoding import Rules

Matrix = NDArray[np.float32]
BEYOND_WIDTH = 0.5  # bits per weight for scales: what is stored beyond is codebooks, which do not make weights better


class Inspected(Artifact):
    """An artifact whose weights come out as they do of itself, and looked at, beside those of the source."""

    def __init__(self, artifact: Artifact, source: Architecture) -> None:
        self.config, self.recipe_id, self.directory = artifact.config, artifact.recipe_id, artifact.directory
        self.decoder = artifact.decoder
        self._artifact, self._source = artifact, source
        self.candidate_facts = artifact.candidate_facts
        self._found: dict[str, Likeness] = {}
        self._foreign: dict[str, Foreign] = {}

    @property
    def manifest(self) -> Manifest:
        """What it holds and what it was made from."""
        return self._artifact.manifest

    @property
    def names(self) -> Sequence[str]:
        """Every parameter's path."""
        return self._artifact.names

    def tensor(self, name: str) -> Tensor:
        """What is stored for a parameter."""
        return self._artifact.tensor(name)

    def arrays(self, name: str) -> Arrays:
        """The encoded arrays of a parameter."""
        return self._artifact.arrays(name)

    def inputs(self, name: str) -> Rules | None:
        """What is done to the inputs of the layer that owns this parameter, or to each expert's."""
        return self._artifact.inputs(name)

    def dense(self, name: str) -> Any:
        """One parameter, decoded, where the artifact has it: the host looks at it, and gives no copy to the walk."""
        decoded = self._artifact.dense(name)
        if not self._is_seen(name):
            pair = (self._source.array(name), self.decoder.to_host(decoded))
            before, after = (_viewed(each.astype(np.float32, copy=False)) for each in pair)
            tensor = self._artifact.tensor(name)
            if self.candidate_facts is None:
                self._found[name] = _compared(tensor, before, after)
            else:
                self._foreign[name] = _of_candidate(tensor, before, after)
        return decoded

    def _is_seen(self, name: str) -> bool:
        return name in self._found or name in self._foreign

    def finish(self) -> IntegritySamples:
        """What was found, once every parameter has been looked at."""
        for name in self.names:
            if not self._is_seen(name):
                self.dense(name)
                self._source.engine.release()
        if self.candidate_facts is not None:
            theirs = [self._foreign[name] for name in self.names]
            return IntegritySamples(tensors=len(theirs), problems=foreign.findings(theirs), notes=foreign.notes(theirs))
        found = [self._found[name] for name in self.names]
        return IntegritySamples(tensors=len(found), problems=likeness.findings(found))


def _of_candidate(tensor: Tensor, before: Matrix, after: Matrix) -> Foreign:
    if tensor.part == "kept" or before.ndim < 2:
        return foreign.kept(tensor.name, before, after)
    return foreign.matrix(tensor.name, before, after, 8 * tensor.stored_bytes / max(1, before.size))


def _compared(tensor: Tensor, before: Matrix, after: Matrix) -> Likeness:
    if tensor.quantizer is None:
        return likeness.kept(tensor.name, before, after)
    stored = 8 * tensor.stored_bytes / max(1, before.size)
    width = tensor.parameters.get("bits")
    bits = min(stored, width + BEYOND_WIDTH) if isinstance(width, int | float) else stored
    code = f"{tensor.quantizer} {sorted(tensor.parameters.items())}"
    return likeness.likeness(tensor.name, before, after, bits, code)


def _viewed(seen: Matrix) -> Matrix:
    """(out, in) or (n,) values; the matrices of a stack of experts stand below each other."""
    return seen.reshape(-1, seen.shape[-1]) if seen.ndim == 3 else np.atleast_1d(seen)
