"""A cell's encoded matrices: in which layer each is, what kind of matrix it is and what it lost."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pytest_quantbench.report.charts.charted import Charted

PLAIN_PARENTS = ("self_attn", "attention", "attn", "mlp", "feed_forward")  # that the kinds' names need not repeat


@dataclass(frozen=True, slots=True, kw_only=True)
class Matrix:
    """`layer`: None outside of the decoder layers. `kind`: the last of its name, with its owner's where that tells them
    apart (`experts gate_proj`, whichever expert). `difference` of its SNR from the median of its cell, in dB; infinite
    where nothing was lost.
    """

    name: str
    model: str
    recipe: str
    layer: int | None
    kind: str
    snr_db: float
    difference: float
    bits_per_weight: float
    quantizer: str


def matrices(cell: Charted) -> list[Matrix]:
    """All of a cell, in the model's order; none where the raw samples or the median are not there."""
    median = None if cell.record.weights is None else cell.record.weights.median_snr_db
    if median is None or "weights/names" not in cell.arrays:
        return []
    columns = [cell.arrays[f"weights/{name}"].tolist() for name in ("names", "snr_db", "bits_per_weight", "quantizer")]
    found = []
    for name, snr_db, bits, quantizer in zip(*columns, strict=True):
        layer, kind = place(name)
        found.append(
            Matrix(
                name=name,
                model=cell.record.model_id,
                recipe=cell.record.recipe,
                layer=layer,
                kind=kind,
                snr_db=snr_db,
                difference=snr_db - median,
                bits_per_weight=bits,
                quantizer=quantizer,
            )
        )
    return found


def place(name: str) -> tuple[int | None, str]:
    """The layer and the kind of a matrix by its name, such as `model.layers.3.mlp.experts.5.gate_proj.weight`."""
    parts = name.removesuffix(".weight").split(".")
    numbers = [int(part) for part in parts if part.isdigit()]
    words = [part for part in parts if not part.isdigit()]
    owner = words[-2] if len(words) > 1 else ""
    inner = numbers and owner not in ("layers", "h", "blocks", *PLAIN_PARENTS)
    return (numbers[0] if numbers else None), f"{owner} {words[-1]}" if inner else words[-1]


def worst_of(found: Sequence[Matrix], column: Callable[[Matrix], str]) -> list[tuple[str, Matrix]]:
    """Column by column (a kind, a recipe), the matrix of each layer that lost the most; experts are many of a kind."""
    worst: dict[tuple[str, int | None], Matrix] = {}
    for each in found:
        key = column(each), each.layer
        if key not in worst or each.difference < worst[key].difference:
            worst[key] = each
    return [(name, each) for (name, _), each in worst.items()]


def told(decibels: float) -> str:
    """An SNR in words: nothing lost where it is infinite."""
    return "nothing lost" if math.isinf(decibels) else f"{decibels:.1f} dB"
