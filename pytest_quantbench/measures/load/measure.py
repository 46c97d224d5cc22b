"""Loading as a measure: fresh processes that take a model from its files to the first token.

The original is loaded from its safetensors, a recipe from its artifact, both by the engine under test; a candidate by
the runtime that its files are made for, where there is one. Nothing is judged by it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pytest_quantbench.catalog.recipes import REFERENCE
from pytest_quantbench.checkpoints.checkpoint import tokenizer_files
from pytest_quantbench.checkpoints.tokenizer import frame_of
from pytest_quantbench.compress.artifact import Stored
from pytest_quantbench.compress.external import External
from pytest_quantbench.engines import need
from pytest_quantbench.engines.runtimes import runtime_for
from pytest_quantbench.errors import QuantbenchError
from pytest_quantbench.measures.load.samples import LoadSamples
from pytest_quantbench.measures.load.trial import Asked, run
from pytest_quantbench.measures.load.ways import PROMPT, ByEngine, ByRuntime, Way
from pytest_quantbench.measures.protocol import Inputs, ProcessMeasure

if TYPE_CHECKING:
    from pytest_quantbench.compress.artifact import Artifact


class Load(ProcessMeasure[LoadSamples]):
    """So many warm and cold loads as the settings say, interleaved with the reference's."""

    name, label, version = "load", "load", 1
    samples = LoadSamples

    def lacks(self, artifact: Artifact) -> str:
        """Why this cannot be loaded in a process of its own, in a sentence; empty where it can."""
        if isinstance(artifact, External):
            runtime = runtime_for(artifact.holding.format)
            if runtime is None:
                return f"Nothing here loads files of the format {artifact.holding.format} as they are deployed."
            return runtime.missing
        if artifact.directory is None and artifact.manifest.recipe != REFERENCE.id:
            return "This disk plan writes no compressed models, so there are no files to load: give --keep-compressed."
        return ""

    def work(self, artifact: Artifact, inputs: Inputs) -> Mapping[str, Any]:
        """How often, from what, by what."""
        settings = inputs.settings
        return {
            "version": self.version,
            "loads": [settings.loads, settings.cold_loads, settings.drop_caches, settings.seed],
            "loader": self._way(artifact, inputs).loader,
            "prompt": PROMPT,
        }

    def measure(self, artifact: Artifact, reference: Artifact | None, inputs: Inputs) -> LoadSamples:
        """Load again and again. Raises QuantbenchError for what cannot be loaded so, RunnerError where a process fails,
        DiskError where pages are to be given back in a way that this user may not.
        """
        if why := self.lacks(artifact):
            raise QuantbenchError(why)
        own, other = self._way(artifact, inputs), None if reference is None else self._way(reference, inputs)
        inputs.opened.let_go()  # pages that are mapped here are not given back
        settings = inputs.settings
        asked = Asked(warm=settings.loads, cold=settings.cold_loads, seed=settings.seed, drop_all=settings.drop_caches)
        return run(own, other, asked, len(self._ids(inputs)), f"loading {artifact.recipe_id}")

    def _ids(self, inputs: Inputs) -> list[int]:
        return frame_of(inputs.tokenizer).opened(inputs.tokenizer, PROMPT)

    def _way(self, artifact: Artifact, inputs: Inputs) -> Way:
        """How an artifact is loaded."""
        if isinstance(artifact, External):
            runtime = runtime_for(artifact.holding.format)
            assert runtime is not None
            return ByRuntime(runtime=runtime, files=artifact.holding.files, ids=self._ids(inputs))
        engine, checkpoint = inputs.engine, inputs.checkpoint
        need(engine, "resident")
        files = [*checkpoint.files, *tokenizer_files(checkpoint.directory)]
        if isinstance(artifact, Stored):
            files = [artifact.directory / name for name in artifact.manifest.files]
        return ByEngine(
            settings=inputs.settings,
            loader=f"{engine.name} ({engine.version})",
            files=files,
            original=checkpoint.directory,
            sha256=checkpoint.sha256,
            artifact="" if artifact.directory is None else str(artifact.directory),
        )


LOAD = Load()
