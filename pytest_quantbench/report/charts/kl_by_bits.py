"""The KL divergence against the reference by stored bits per weight."""

from collections.abc import Sequence
from typing import Any

from pytest_quantbench.report.charts import by_bits, sheet
from pytest_quantbench.report.charts.charted import Charted


def draw(cells: Sequence[Charted], on: sheet.Sheet) -> dict[str, Any] | None:
    """See by_bits."""
    return by_bits.draw(cells, on, "kl")
