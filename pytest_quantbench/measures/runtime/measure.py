"""What a candidate's own runtime makes of its files: losses on T2's very tokens, and T1's figures.

T2 walks on the decoded weights in float32, whatever the format: what it finds beyond the reference is the *file error*.
A runtime multiplies the same weights in its own arithmetic (activations rounded to 8 bits, keys and values in 16): what
its losses differ by from the walk's, token by token, is the *engine error*. Both are figures of
`record/runtime_summary`; nothing is judged by them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pytest_quantbench.compress.external import External
from pytest_quantbench.engines.runtimes import Runtime, runtime_for
from pytest_quantbench.measures.protocol import FileMeasure, Inputs
from pytest_quantbench.measures.runtime.samples import RuntimeSamples
from pytest_quantbench.measures.samples import PerplexitySamples

if TYPE_CHECKING:
    from pytest_quantbench.compress.artifact import Artifact

LOADS = 3  # of which the mean is told


class ByRuntime(FileMeasure[RuntimeSamples]):
    """Of candidates in a format that something here runs. On T2's first tokens: an engine error shows on few."""

    name, label, version = "runtime", "runtime", 1
    samples = RuntimeSamples
    beside = "perplexity"

    def runtime_of(self, artifact: Artifact) -> Runtime | None:
        """What runs the files of an artifact; None where it is no candidate, or nothing here runs its format."""
        return runtime_for(artifact.holding.format) if isinstance(artifact, External) else None

    def can_be_taken(self, artifact: Artifact) -> bool:
        """Whether something runs its files."""
        return self.runtime_of(artifact) is not None

    def work(self, artifact: Artifact, inputs: Inputs) -> Mapping[str, Any]:
        """The runtime, what is read, and what is generated."""
        from pytest_quantbench.measures.perplexity import scripts

        script, runtime = scripts.first_script(inputs), self.runtime_of(artifact)
        return {
            "version": self.version,
            "runtime": runtime and [runtime.name, runtime.version],
            "protocol": script.protocol,
            "text": script.tokens.text.sha256,
            "tokens": script.wanted,
            "loads": LOADS,
            "runs": inputs.settings.runs,
            "prompts": inputs.settings.prompts,
            "new_tokens": inputs.settings.new_tokens,
        }

    def measure(
        self, artifact: Artifact, inputs: Inputs, *, own: PerplexitySamples, reference: PerplexitySamples
    ) -> RuntimeSamples:
        """Run the files. Raises RunnerError where the runtime is not installed or fails, or gives other logits than the
        reference has.
        """
        from pytest_quantbench.measures.perplexity import scripts
        from pytest_quantbench.measures.runtime.trial import Asked, run

        runtime = self.runtime_of(artifact)
        assert isinstance(artifact, External)
        assert runtime is not None
        assert reference.distributions is not None
        asked = Asked(
            script=scripts.first_script(inputs),
            kept=reference.distributions,
            tokenizer=inputs.tokenizer,
            runs=inputs.settings.runs,
            prompts=inputs.settings.prompts,
            new_tokens=inputs.settings.new_tokens,
            loads=LOADS,
        )
        return run(runtime, artifact.holding.files, asked, what=f"{runtime.name} {artifact.recipe_id}")


RUNTIME = ByRuntime()
