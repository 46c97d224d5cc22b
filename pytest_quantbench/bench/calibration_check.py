"""Whether a recipe was calibrated on text that its model knows: the reference's perplexity there, beside that on T2's.

A text of another kind than the model shows as a perplexity far above the one on natural text; methods that look at data
are then fitted to what the model never sees. Costs one walk of the reference over 512 tokens, kept between sessions.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from pytest_quantbench.measures.perplexity import score
from pytest_quantbench.measures.perplexity.reading import HEAD, Script, Tokens
from pytest_quantbench.measures.samples import PerplexitySamples
from pytest_quantbench.stats import series

if TYPE_CHECKING:
    from pytest_quantbench.bench.cell import Cell

NAME, VERSION = "calibration_text", 1  # raised when the same text gives other samples
FAR = 3.0  # × the perplexity on T2's text
log = logging.getLogger(__name__)


def calibration_perplexity(cell: Cell) -> float | None:
    """The reference's perplexity on the first 512 tokens of the text that a cell was calibrated on; None where it was
    not calibrated, or the perplexity overflows. A text far beyond the model is warned about.
    """
    used = cell.calibrated_by
    if used is None:
        return None
    source, memory = cell.source, cell.reference.memory
    work = {"version": VERSION, "text": used.text.sha256, "tokens": HEAD.tokens}
    found = memory.recall(NAME, work, PerplexitySamples)
    if found is None:
        tokens = Tokens(used.text, source.tokenizer, source.capacity)
        script = Script(tokens, HEAD, there=0)  # as much as there is: this is no measure that a verdict stands on
        walk = source.engine.walk([cell.reference.artifact], memory_bytes=source.settings.memory_bytes)
        walk.run(script.batches(), f"calibration text of {source.model.name}")
        found = score.score(script, walk)
        memory.keep(NAME, work, found)
    fitted, natural = (series.perplexity(s.nll_nats) for s in (found, cell.reference.perplexity_samples))
    if natural is not None and (fitted is None or fitted > FAR * natural):
        shown = "overflows" if fitted is None else f"is {fitted:,.1f}"
        log.warning(
            f"{cell.id} is calibrated on {used.text.name}, where the perplexity of BF16 {shown}, and on "
            f"{source.text.name} it is {natural:,.1f}: a text of another kind. Give one that the model knows with "
            f"--calibration FILE, or --calibration self."
        )
    return fitted
