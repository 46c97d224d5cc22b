"""Whether a recipe was calibrated on text that its model knows: the reference's perplexity there, beside that on T2's.

A text of another kind than the model shows as a perplexity far above the one on natural text; methods that look at data
are then fitted to what the model never sees. Costs one walk of the reference over 512 tokens, kept between sessions.
"""

import logging

from pytest_quantbench.bench.schedule import Schedule
from pytest_quantbench.bench.target import Target
from pytest_quantbench.bench.wants import Want
from pytest_quantbench.measures.perplexity.calibration_fit import CALIBRATION_TEXT
from pytest_quantbench.measures.perplexity.measure import PERPLEXITY
from pytest_quantbench.stats import series

FAR = 3.0  # × the perplexity on T2's text
log = logging.getLogger(__name__)


def calibration_perplexity(target: Target, schedule: Schedule) -> float | None:
    """The reference's perplexity on the text that a target was calibrated on, as far as it is measured; None where it
    was not calibrated, or the perplexity overflows.
    """
    found = schedule.samples.get(target.reference, CALIBRATION_TEXT)
    if found is None or schedule.artifacts.calibrated_by(target) is None:
        return None
    return series.perplexity(found.nll_nats)


def warn_of_foreign_text(target: Target, schedule: Schedule) -> None:
    """Measure the calibration text of a target that has one, and say so, once, where it is far beyond the model."""
    if (used := schedule.artifacts.calibrated_by(target)) is not None:
        schedule.inputs.once(("warned of foreign text", target), lambda: _warn(target, schedule, used.text.name))


def _warn(target: Target, schedule: Schedule, text: str) -> None:
    reference = target.reference
    schedule.ensure([Want(target=reference, measure=CALIBRATION_TEXT)])
    found, natural = (schedule.samples.need(reference, each) for each in (CALIBRATION_TEXT, PERPLEXITY))
    fitted, known = (series.perplexity(each.nll_nats) for each in (found, natural))
    if known is not None and (fitted is None or fitted > FAR * known):
        shown = "overflows" if fitted is None else f"is {fitted:,.1f}"
        log.warning(
            f"{target.id} is calibrated on {text}, where the perplexity of BF16 {shown}, and on "
            f"{schedule.inputs.texts[0].name} it is {known:,.1f}: a text of another kind. Give one that the model "
            f"knows with --calibration FILE, or --calibration self."
        )
