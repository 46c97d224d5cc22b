"""Records and raw samples → charts, each one Vega-Lite specification with its data inline; as SVG for markdown.

Needs the extra `plots`: altair makes and checks the specifications, vl-convert draws them. `missing` says so in the one
sentence that reports print where it is not installed.
"""

import importlib
import importlib.util
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from pytest_quantbench.report.charts import theme
from pytest_quantbench.report.charts.charted import Charted
from pytest_quantbench.storage.files import write_atomically

__all__ = ["CHARTS", "WIDTH", "Chart", "Charted", "missing", "svg", "write_svgs"]

NAMED = re.compile(r"\b(?:gradient_|clip)\d+\b")  # parts of a picture, which vl-convert numbers through a process
WIDTH = 760  # of a picture in pixels


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """What stands above a chart, and the sentence that tells what one sees in it. `member`: the module and the function
    there that draw it; `draw` of the module called like the chart where it is empty.
    """

    name: str
    title: str
    tells: str
    member: str = ""

    def draw(self, cells: Sequence[Charted], width: int | None = WIDTH) -> dict[str, Any] | None:
        """The specification as JSON values; None where these cells have nothing to draw. `width`: of the picture in
        pixels; None: as wide as what it is put into, or, of a chart with a panel for each model or cell, with panels
        that fit into 360 pixels and stand in as many `columns` as who shows it says.
        """
        module, _, function = (self.member or f"{self.name}:draw").partition(":")
        draw = getattr(importlib.import_module(f"{__name__}.{module}"), function)
        on = importlib.import_module(f"{__name__}.sheet").Sheet(title=self.title, tells=self.tells, width=width)
        drawn: dict[str, Any] | None = draw(cells, on)
        return drawn


_CHARTS = (
    Chart(
        name="pareto",
        title="Quality against size",
        tells="Each cell's loss of perplexity against its size: lower and further left is better. The line is the "
        "front; what is above it is dominated: another cell of the model is no larger and loses less. Dashes are the "
        "limits of the cells beside them.",
    ),
    Chart(
        name="pareto_price",
        member="pareto:draw_price",
        title="Quality against price",
        tells="Each cell's loss of perplexity against what a million output tokens cost, at the price that was given: "
        "lower and further left is better. Dashes are the limits of the cells beside them.",
    ),
    Chart(
        name="perplexity_by_bits",
        member="by_bits:draw_delta",
        title="Loss of perplexity by bits per weight",
        tells="How much perplexity each cell loses against its reference, by the bits that a weight takes with its "
        "scales and codebooks: lower and further left is better.",
    ),
    Chart(
        name="kl_by_bits",
        member="by_bits:draw_kl",
        title="KL divergence from BF16 by bits per weight",
        tells="How far each cell's predictions are from its reference's, by the bits that a weight takes with its "
        "scales and codebooks: lower and further left is better.",
    ),
    Chart(
        name="depth",
        title="Loss of perplexity by depth",
        tells="How much perplexity each cell loses on tokens with so many others in front of them, with intervals: a "
        "quantized cache is read more the deeper a token stands. Dashes are the limits; each depth is judged.",
    ),
    Chart(
        name="retrieval",
        title="What is found again, by depth and hops",
        tells="How many of its questions each cell has right, in percent, by how many tokens before the question the "
        "facts stand, and how many of them lead to the answer; guessing has 25. Signs are the verdicts.",
    ),
    Chart(
        name="speed",
        title="Quality against speed",
        tells="Each cell's loss of perplexity against how many times as fast as BF16 it decodes: lower and further "
        "right is better. Dashes are the limits of the cells beside them, and the speed of BF16.",
    ),
    Chart(
        name="latency",
        title="Time between tokens",
        tells="How long a token takes at batch 1, from the fastest to the slowest of each recipe: half of all gaps are "
        "shorter than at p50, one in a thousand is longer than at p99.9.",
    ),
    Chart(
        name="sweep_batch",
        member="sweep:draw_batch",
        title="Decoding by batch",
        tells="Tokens per second of all texts together, by how many go on at once, with the least and the most of the "
        "runs; and how many times BF16's that is, with its interval.",
    ),
    Chart(
        name="sweep_depth",
        member="sweep:draw_depth",
        title="Decoding by depth",
        tells="Tokens per second of one text, by how many tokens stand before, with the least and the most of the "
        "runs; and how many times BF16's that is, with its interval.",
    ),
    Chart(
        name="sweep_prefill",
        member="sweep:draw_prefill",
        title="Reading a prompt by length",
        tells="Tokens of a prompt per second, by its length, with the least and the most of the runs; and how many "
        "times BF16's that is, with its interval.",
    ),
    Chart(
        name="sweep_first_token",
        member="sweep:draw_first_token",
        title="Time to the first token",
        tells="How long the first new token takes, by the length of the prompt, with the least and the most of the "
        "runs; and how many times BF16's that is, with its interval: below 1 is faster.",
    ),
    Chart(
        name="loading",
        title="Time from the files to the first token",
        tells="What a fresh process takes until a model has given its first token, stage by stage, with the files on "
        "disk and in memory: shorter is better. Strokes reach from the fastest load to the slowest.",
    ),
    Chart(
        name="snr_map",
        title="Signal-to-noise ratio of the weights by layer",
        tells="How much better or worse than its cell's median each matrix came through, in dB; each cell's worst is "
        "framed.",
    ),
    Chart(
        name="looks",
        title="Looks of the checks that went on",
        tells="The interval at each look at growing data, against the limit (dashes): a check ends once the whole "
        "interval is on one side.",
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
    names = {name: f"part-{place}" for place, name in enumerate(dict.fromkeys(NAMED.findall(drawn)))}
    return NAMED.sub(lambda found: names[found[0]], drawn).encode()


def write_svgs(cells: Sequence[Charted], directory: Path) -> list[Path]:
    """Draw every chart that these cells have something for, as `NAME.svg`. Raises DiskError where that fails."""
    found = ((chart.name, chart.draw(cells)) for chart in CHARTS.values())
    paths = []
    for name, specification in found:
        path = directory / f"{name}.svg"
        if specification is None:
            if path.is_file():
                path.unlink()  # of earlier records
        else:
            write_atomically(path, svg(specification))
            paths.append(path)
    return paths
