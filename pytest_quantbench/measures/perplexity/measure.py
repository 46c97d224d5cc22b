"""T2 as a measure: its items are tokens of the judged text, scored window after window along a walk (see reading)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from pytest_quantbench.measures.protocol import Inputs, Share, WalkMeasure
from pytest_quantbench.measures.samples import PerplexitySamples

if TYPE_CHECKING:
    from pytest_quantbench.engines.batches import Batch
    from pytest_quantbench.engines.protocol import Walk
    from pytest_quantbench.engines.walk_proof import Proof
    from pytest_quantbench.measures.perplexity.reading import Script


class PerplexityShare(Share[PerplexitySamples]):
    """The open windows of a script, and those of what is read beside. `added_to`: the text beside the first, by name,
    that gets more; None: the first.
    """

    def __init__(self, script: Script, version: int, added_to: str | None = None) -> None:
        self.script, self.reads = script, bool(script.open)
        self._version, self._added_to = version, added_to

    @cached_property
    def work(self) -> Mapping[str, Any]:
        """The protocol, the text, and how many of its tokens."""
        script, text = self.script, self.script.tokens.text
        return {
            "version": self._version,
            "protocol": script.protocol,
            "text": [text.name, text.revision, text.sha256],
            "tokens": script.wanted,
            "there": script.there,
            "beside": {
                name: [other.protocol, other.tokens.text.sha256, other.wanted] for name, other in script.beside.items()
            },
        }

    def batches(self, proof: Proof) -> Sequence[Batch]:
        """A window each."""
        return self._batches

    @cached_property
    def _batches(self) -> list[Batch]:
        from pytest_quantbench.engines.batches import behind_each_other

        return behind_each_other(self.script.batches())

    def scored(
        self,
        walk: Walk,
        *,
        track: int,
        first: int,
        seconds: float,
        before: PerplexitySamples | None,
        reference: PerplexitySamples | None,
    ) -> PerplexitySamples:
        """The losses, and the distributions or their divergences from the reference's."""
        from pytest_quantbench.measures.perplexity.score import score

        part, other = before and before.part(self._added_to), reference and reference.part(self._added_to)
        found = score(self.script, walk, track=track, first=first, before=part, reference=other, seconds=seconds)
        return found if before is None else before.with_part(self._added_to, found)

    def unread(self, before: PerplexitySamples) -> PerplexitySamples:
        """What is left of the text cannot be scored."""
        part = replace(before.part(self._added_to), text_tokens=self.script.wanted)
        return before.with_part(self._added_to, part)


class Perplexity(WalkMeasure[PerplexitySamples]):
    """T2. `scripts` has its texts, and with `contamination` what it refuses; both are imported when it reads."""

    name, label, version = "perplexity", "T2", 5
    samples = PerplexitySamples
    paired = True

    def share(
        self, inputs: Inputs, items: int | None, before: PerplexitySamples | None, of: str | None = None
    ) -> Share[PerplexitySamples] | None:
        """The first tokens of all texts; later, more of one text's, as far as it has them."""
        from pytest_quantbench.measures.perplexity import scripts

        if before is None:
            return PerplexityShare(scripts.first_script(inputs), self.version)
        if items is None:
            return None
        there = before.part(of)
        script = scripts.rest(inputs, items, len(there.nll_nats), of)
        return PerplexityShare(script, self.version, of) if script.wanted > there.text_tokens else None

    def is_same(self, samples: PerplexitySamples, other: PerplexitySamples) -> bool:
        """Whether all losses are, on the tokens that both have."""
        common = min(len(samples.nll_nats), len(other.nll_nats))
        return common > 0 and bool((samples.nll_nats[:common] == other.nll_nats[:common]).all())

    def refuse(self, inputs: Inputs, *, calibrated: bool) -> None:
        """Raise CorpusError for a recipe that was fitted to the text."""
        from pytest_quantbench.measures.perplexity import contamination

        if calibrated:
            contamination.refuse_fitted(inputs)

    def refuse_reference(self, inputs: Inputs, samples: PerplexitySamples) -> None:
        """Raise CorpusError for a text that the model itself cannot read."""
        from pytest_quantbench.measures.perplexity import scripts

        scripts.refuse_unreadable(inputs, samples)


PERPLEXITY = Perplexity()
