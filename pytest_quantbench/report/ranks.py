"""The cells of a model in the order of their losses → the lines of a terminal. Computes nothing."""

from collections.abc import Iterator, Sequence

from pytest_quantbench.record.ranking import Ranked, Ranking
from pytest_quantbench.report.text_width import columns, left, wrapped

WIDTH = 80
NAME_WIDTH = 26
EXPLAINED = (
    "Recipes that share a letter cannot be told apart: all pairs are compared at once, and of cells that are equally "
    "good at most 5 % of such tables part any two. Two differ where their mean losses do by more than a rerun may move "
    "both (the noise floors, added up). Nats behind the first, with 5 % error on each side."
)


def terminal(found: Sequence[Ranking], width: int = WIDTH) -> list[str]:
    """For each model who leads and who may be as good, then all in order."""
    lines: list[str] = []
    for ranking in found:
        lines += [*wrapped(answer(ranking), width, "  ", ""), ""]
        if ranking.cells:
            lines.append(f"  {'':<{NAME_WIDTH}} {'ppl':>8}  {'bits':>5}  {'nats behind':<27} group")
            lines += [line for cell in ranking.cells for line in _row(cell, width)]
            lines.append("")
        lines += [line for told in _beneath(ranking) for line in wrapped(told, width, "  ", "")]
    return [*lines, *wrapped(EXPLAINED, width, "  ", "")]


def answer(ranking: Ranking) -> str:
    """`Tiny: int8 leads on the same 512 tokens of tiny-heldout, and cannot be told from bf16.`"""
    if not ranking.cells:
        return f"{ranking.model}: nothing to rank, since no two cells have T2 on the same text."
    first, *others = ranking.cells
    as_good = [each.recipe for each in others if set(each.letters) & set(first.letters)]
    on = f"on the same {ranking.tokens:,} tokens of {ranking.corpus}"
    if not as_good:
        return f"{ranking.model}: {first.recipe} is the best of {len(ranking.cells)} {on}."
    return f"{ranking.model}: {first.recipe} leads {on}, and cannot be told from {', '.join(as_good)}."


def _row(cell: Ranked, width: int) -> list[str]:
    """One line, before which a recipe's name that is too wide for its column has lines of its own."""
    above = [] if columns(cell.recipe) <= NAME_WIDTH else wrapped(cell.recipe, width, "  ")
    name = left("" if above else cell.recipe, NAME_WIDTH)
    ppl = "over" if cell.ppl is None else f"{cell.ppl:.4g}"
    bits = "–" if cell.bits_per_weight is None else f"{cell.bits_per_weight:.2f}"
    found = cell.behind
    behind = "–" if found is None else f"{found.estimate:+.4f} [{found.low:+.4f}, {found.high:+.4f}]"
    return [*above, f"  {name} {ppl:>8}  {bits:>5}  {behind:<27} {cell.letters}".rstrip()]


def _beneath(ranking: Ranking) -> Iterator[str]:
    """How far a rerun may move losses, what caches take, what keeps cells from being told apart or ranked at all."""
    if ranking.cells:
        least, *_, most = sorted(ranking.cells, key=lambda cell: cell.floor_nats)
        yield (
            f"A rerun may move a mean loss by {least.floor_nats:.1g} nats ({least.recipe}) to {most.floor_nats:.1g} "
            f"({most.recipe})."
        )
    held = [f"{cell.recipe} {cell.bits_per_value:.2f}" for cell in ranking.cells if cell.bits_per_value is not None]
    if held:
        yield f"Bits are those of weights. A number in the key-value cache takes: {', '.join(held)}; else 16."
    if ranking.fewest:
        yield f"{ranking.fewest} has read the fewest tokens: run it again with more --tokens to tell the others apart."
    for name, why in ranking.left_out.items():
        yield f"Left out: {name}: {why}"
