"""Whether an artifact's weights are the source's, as a measure: found along a walk, which decodes them anyway, or by
decoding everything once, where none is taken. Nothing is asked of a reference, which is not decoded.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pytest_quantbench.measures.protocol import ArtifactMeasure, Inputs
from pytest_quantbench.measures.samples import IntegritySamples

if TYPE_CHECKING:
    from pytest_quantbench.catalog.recipes import Recipe
    from pytest_quantbench.compress.artifact import Artifact
    from pytest_quantbench.measures.integrity.inspection import Inspected


class Integrity(ArtifactMeasure[IntegritySamples]):
    """What is wrong with the weights, a sentence each."""

    name, label, version = "integrity", "integrity", 2
    samples = IntegritySamples
    told = False

    def work(self, artifact: Artifact) -> Mapping[str, Any]:
        """The very files, where the artifact has any."""
        files = dict(artifact.manifest.files) if artifact.directory is not None else {}
        return {"version": self.version, "files": files}

    def can_be_taken(self, recipe: Recipe, inputs: Inputs) -> bool:
        """Of what is encoded, while the source's weights are here."""
        return not recipe.is_identity and inputs.checkpoint.is_here

    def measure(self, artifact: Artifact, reference: Artifact, inputs: Inputs) -> IntegritySamples:
        """Decode everything, and look at it."""
        return self.inspected(artifact, inputs).finish()

    def inspected(self, artifact: Artifact, inputs: Inputs) -> Inspected:
        """The weights for whoever reads them next, to be looked at as they pass."""
        from pytest_quantbench.measures.integrity.inspection import Inspected

        return Inspected(artifact, inputs.opened)


INTEGRITY = Integrity()
