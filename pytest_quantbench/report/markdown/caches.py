"""Of cells with a quantized key-value cache: what it takes, and what it loses by depth."""

from collections.abc import Sequence

from pytest_quantbench.record.perplexity_schema import AtDepth
from pytest_quantbench.record.schema import Record
from pytest_quantbench.report import markdown_table
from pytest_quantbench.report.markdown.escaped import text
from pytest_quantbench.report.tables import MISSING, interval, mark, tiny
from pytest_quantbench.stats.depths import named

TAKES = ("Method", "Bits per number", "Bits per token", "Smaller than BF16, %", "Tokens")
SIZES = ("Cell", *TAKES, "Reached, %", "KL within noise", "Noise, nats", "ΔPPL within noise")
SIZES_LEGEND = (
    "What one text of so many tokens takes in all layers, counted from what is stored, with scales, zeros, indices and "
    "what a method leaves in 16 bits; a layer with a sliding window holds the newest tokens alone. *Reached*: of the "
    "tokens that were scored, how many hang on one that was held in fewer bits. *KL within noise*: its predictions are "
    "no farther from BF16's than those of BF16 with activations of another type. *ΔPPL within noise*: its perplexity "
    "is not, which says less: predictions may move either way."
)
WITHIN = {None: MISSING, True: "yes", False: "no"}
DEPTHS = ("Cell", "Tokens in front", "Tokens", "BF16", "ΔPPL", "KL, nats", "Same top token, %")
DEPTHS_LEGEND = (
    "Perplexity on tokens by how many stand in front of them in their window, against BF16 on the same. Each depth is "
    "judged: a cell passes where all do, and fails where one does after Holm's correction over the depths."
)


def section(records: Sequence[Record]) -> list[str]:
    """Both tables; nothing without such a cell."""
    held = [record for record in records if record.cache is not None]
    if not held:
        return []
    lines = ["## Key-value cache", ""]
    if sizes := [_size(record) for record in held if record.cache is not None and record.cache.size is not None]:
        lines += [*markdown_table.table(SIZES, sizes), "", SIZES_LEGEND, ""]
    if depths := [_depth(record, part) for record in held for part in _parts(record)]:
        lines += [*markdown_table.table(DEPTHS, depths), "", DEPTHS_LEGEND, ""]
    return lines if sizes or depths else []


def _size(record: Record) -> list[str]:
    part = record.cache
    assert part is not None
    assert part.size is not None
    size = part.size
    noise = MISSING if part.noise_nats is None else tiny(part.noise_nats)
    within = [WITHIN[part.kl_within_noise], noise, WITHIN[part.delta_within_noise]]
    reached = MISSING if part.reached_percent is None else f"{part.reached_percent:.1f}"
    figures = [f"{size.bits_per_value:.2f}", f"{size.bits_per_token:,.0f}", f"{size.reduction_percent:.1f}"]
    return [text(record.cell), text(part.method), *figures, f"{size.tokens:,}", reached, *within]


def _parts(record: Record) -> tuple[AtDepth, ...]:
    return () if record.perplexity is None else record.perplexity.by_depth


def _depth(record: Record, part: AtDepth) -> list[str]:
    first = part is _parts(record)[0]
    name = f"{record.cell} {mark(record, 'depth_perplexity_delta')}".rstrip() if first else ""
    same = part.same_top
    return [
        text(name),
        named(part.above, part.up_to),
        f"{part.tokens:,}",
        MISSING if part.bf16_ppl is None else f"{part.bf16_ppl:.3f}",
        interval(part.delta_interval, 3, "+"),
        MISSING if part.kl_nats is None else tiny(part.kl_nats),
        MISSING if same is None else f"{100 * same.estimate:.1f}",
    ]
