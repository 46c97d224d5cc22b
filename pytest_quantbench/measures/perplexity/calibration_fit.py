"""The reference's losses on the first 512 tokens of the calibration text: does the model know what it is fitted to?"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any

from pytest_quantbench.measures.perplexity.measure import PerplexityShare
from pytest_quantbench.measures.protocol import Inputs, Share, WalkMeasure
from pytest_quantbench.measures.samples import PerplexitySamples


class _Share(PerplexityShare):
    """As much of the head as there is: this is no measure that a verdict stands on."""

    @cached_property
    def work(self) -> Mapping[str, Any]:
        """The text."""
        text, reading = self.script.tokens.text, self.script.reading
        return {"version": self._version, "text": text.sha256, "tokens": reading.tokens}


class CalibrationText(WalkMeasure[PerplexitySamples]):
    """Taken of the reference where a recipe is calibrated, and kept between sessions without a word."""

    name, label, version = "calibration_text", "calibration text", 1
    samples = PerplexitySamples
    told = False

    def share(
        self, inputs: Inputs, items: int | None, before: PerplexitySamples | None, of: str | None = None
    ) -> Share[PerplexitySamples] | None:
        """The head, once."""
        from pytest_quantbench.measures.perplexity.reading import HEAD, Script
        from pytest_quantbench.measures.perplexity.scripts import tokens_of

        if before is not None:
            return None
        tokens = tokens_of(inputs, inputs.calibration_text)
        return _Share(Script(tokens, HEAD, there=0), self.version)


CALIBRATION_TEXT = CalibrationText()
