"""Records and raw samples → charts, each one Vega-Lite specification with its data inline; as SVG for markdown.

Needs the extra `plots`: altair makes and checks the specifications, vl-convert draws them. `missing` says so in the one
sentence that reports print where it is not installed.
"""

import importlib
import importlib.util
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from pytest_quantbench.report.charts import theme
from pytest_quantbench.report.charts.charted import Charted
from pytest_quantbench.storage.files import write_atomically

__all__ = ["CHARTS", "WIDTH", "Chart", "Charted", "missing", "svg", "write_svgs"]

WIDTH = 760  # of a picture in pixels


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """A chart by its module's name: what stands above it, and the sentence that tells what one sees in it."""

    name: str
    title: str
    tells: str

    def draw(self, cells: Sequence[Charted], width: int | None = WIDTH) -> dict[str, Any] | None:
        """The specification as JSON values; None where these cells have nothing to draw. `width`: of the picture in
        pixels; None: as wide as what it is put into, or, of a chart with a panel for each model or cell, with panels
        that fit into 360 pixels and stand in as many `columns` as who shows it says.
        """
        module = importlib.import_module(f"{__name__}.{self.name}")
        drawn: dict[str, Any] | None = module.draw(cells, self.title, self.tells, width)
        return drawn


_CHARTS = (
    Chart(
        name="kl_by_bits",
        title="KL divergence from BF16 by bits per weight",
        tells="How far each cell's predictions are from the reference's, against the bits that a weight takes: lower "
        "and further left is better.",
    ),
)
CHARTS: Mapping[str, Chart] = MappingProxyType({chart.name: chart for chart in _CHARTS})


def missing() -> str:
    """The sentence that says what charts need; empty where it is installed."""
    packages = {"altair": "altair", "vl_convert": "vl-convert-python"}
    absent = [name for module, name in packages.items() if importlib.util.find_spec(module) is None]
    if not absent:
        return ""
    return f"Charts are left out: {' and '.join(absent)} not installed (pip install 'pytest-quantbench[plots]')."


def svg(specification: Mapping[str, Any]) -> bytes:
    """The chart as an SVG on a light ground, which reads on a page of any colour; the same bytes for the same chart."""
    import vl_convert

    drawn = vl_convert.vegalite_to_svg(dict(specification), config=theme.config(background=theme.PAPER))
    return drawn.encode()


def write_svgs(cells: Sequence[Charted], directory: Path) -> list[Path]:
    """Draw every chart that these cells have something for, as `NAME.svg`. Raises DiskError where that fails."""
    found = ((chart.name, chart.draw(cells)) for chart in CHARTS.values())
    paths = []
    for name, specification in found:
        if specification is not None:
            paths.append(directory / f"{name}.svg")
            write_atomically(paths[-1], svg(specification))
    return paths
