"""The cells of a model in the order of their losses → the lines of a terminal. Computes nothing."""

from collections.abc import Iterator, Sequence
from textwrap import wrap

from pytest_quantbench.record.ranking import Ranked, Ranking

WIDTH = 80
EXPLAINED = (
    "Cells that share a letter cannot be told apart: all pairs are compared at once, and of cells that are equally "
    "good at most 5 % of such tables part any two. Nats behind the first, with 5 % error on each side."
)


def terminal(found: Sequence[Ranking], width: int = WIDTH) -> list[str]:
    """For each model who leads and who may be as good, then all in order."""
    lines: list[str] = []
    for ranking in found:
        lines += [*wrap(answer(ranking), width, subsequent_indent="  ", break_on_hyphens=False), ""]
        lines += [f"  {'':<26} {'ppl':>8}  {'bits':>5}  {'nats behind':<27} group", *map(_row, ranking.cells), ""]
        lines += [line for told in _left_out(ranking) for line in wrap(told, width, subsequent_indent="  ")]
    return [*lines, *wrap(EXPLAINED, width, subsequent_indent="  ")]


def answer(ranking: Ranking) -> str:
    """`Tiny: int8 and bf16 cannot be told apart and lead, on the same 512 tokens of tiny-heldout.`"""
    first, *others = ranking.cells
    as_good = [each.name for each in others if set(each.letters) & set(first.letters)]
    on = f"on the same {ranking.tokens:,} tokens of {ranking.corpus}"
    if not as_good:
        return f"{ranking.model}: {first.name} is the best of {len(ranking.cells)} {on}."
    return f"{ranking.model}: {first.name} leads {on}, and cannot be told from {', '.join(as_good)}."


def _row(cell: Ranked) -> str:
    name = cell.name if len(cell.name) <= 26 else cell.name[:25] + "…"
    ppl = "over" if cell.ppl is None else f"{cell.ppl:.4g}"
    bits = "–" if cell.bits_per_weight is None else f"{cell.bits_per_weight:.2f}"
    found = cell.behind
    behind = "–" if found is None else f"{found.estimate:+.4f} [{found.low:+.4f}, {found.high:+.4f}]"
    return f"  {name:<26} {ppl:>8}  {bits:>5}  {behind:<27} {cell.letters}".rstrip()


def _left_out(ranking: Ranking) -> Iterator[str]:
    """What keeps cells from being told apart, or from being ranked at all."""
    if ranking.fewest:
        yield f"{ranking.fewest} has read the fewest tokens: run it again with more --tokens to tell the others apart."
    for name, why in ranking.left_out.items():
        yield f"Left out: {name}: {why}"
