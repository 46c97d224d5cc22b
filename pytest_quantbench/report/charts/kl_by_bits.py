"""KL divergence from the reference against stored bits per weight."""

from collections.abc import Sequence
from typing import Any

import altair as alt

from pytest_quantbench.report.charts.charted import Charted


def draw(cells: Sequence[Charted], title: str, tells: str, width: int | None) -> dict[str, Any] | None:
    """One point for every cell with a divergence."""
    rows = [
        {
            "model": cell.record.model_id,
            "recipe": cell.record.recipe,
            "bits": cell.record.compression.bits_per_weight,
            "kl": cell.record.perplexity.divergence.kl_nats,
        }
        for cell in cells
        if cell.record.compression and cell.record.perplexity and cell.record.perplexity.divergence
    ]
    if not rows:
        return None
    chart = (
        alt.Chart(alt.Data(values=rows), title=alt.TitleParams(title, subtitle=tells))
        .mark_point(filled=True)
        .encode(
            x=alt.X("bits:Q", title="stored bits per weight"),
            y=alt.Y("kl:Q", title="KL divergence, nats per token").scale(type="log"),
            color=alt.Color("model:N", title="model"),
            tooltip=["model:N", "recipe:N", "bits:Q", "kl:Q"],
        )
        .properties(width="container" if width is None else width - 160, height=320)
    )
    return chart.to_dict()
