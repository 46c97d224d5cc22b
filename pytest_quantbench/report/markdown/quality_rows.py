"""The rows of a model's table on quality: perplexities, divergence, and the accuracy on each task."""

from collections.abc import Callable, Sequence

from pytest_quantbench.record.perplexity_schema import Perplexity
from pytest_quantbench.record.schema import Record
from pytest_quantbench.report.markdown import figures
from pytest_quantbench.report.markdown.escaped import text
from pytest_quantbench.report.markdown.figures import Row, marked, ranged, row
from pytest_quantbench.report.tables import MISSING, significant


def _perplexity_reference(record: Record) -> str:
    look = figures.perplexity_look(record)
    return MISSING if look is None else figures.perplexity(look.reference)


def _perplexity_change(record: Record) -> str:
    look, part = figures.perplexity_look(record), record.perplexity
    if look is None or part is None or look.interval is None:
        return MISSING
    return marked(record, figures.perplexity_change(look.interval) + look.note, "perplexity_delta", part.corpus)


def _perplexity_tokens(record: Record) -> str:
    look = figures.perplexity_look(record)
    return MISSING if look is None else f"{look.items:,}"


def _own_perplexity(record: Record) -> str:
    """With its own interval where that is of the same tokens."""
    look, part = figures.perplexity_look(record), record.perplexity
    if look is None or part is None:
        return MISSING
    found = part.ppl_interval if look.items == part.tokens else None
    return figures.perplexity(look.value) if found is None else ranged(found, 3)


def _head(part: Perplexity) -> str | None:
    head = part.head
    if head is None:
        return None
    return figures.perplexity(head.ppl) + ("" if head.delta is None else f" (Δ{figures.TIED}{head.delta:+.3f})")


def _kl(part: Perplexity) -> str | None:
    found = part.divergence
    if found is None:
        return None
    digits = 4 if found.kl_nats >= 1e-3 else 6
    return ranged(found.kl_interval, digits) if found.kl_interval else f"{found.kl_nats:.{digits}f}"


def _kl_unsure(part: Perplexity) -> str | None:
    """What sampling the reference's unlikely tokens may have moved it by, or what older records left out."""
    found = part.divergence
    if found is None:
        return None
    if found.missed_nats is not None:
        return f"at most {significant(found.missed_nats, 2)} more"
    return f"±{figures.TIED}{significant(found.sampled_nats, 1)}" if found.sampled_nats else None


def _kl_tail(part: Perplexity) -> str | None:
    return None if part.divergence is None else significant(part.divergence.kl_percentiles["99"])


def _same_top(part: Perplexity) -> str | None:
    return None if part.divergence is None else ranged(part.divergence.same_top, 1, factor=100)


PERPLEXITY = (
    Row(label="perplexity", figure=_own_perplexity),
    Row(label="… of BF16 on these tokens", figure=_perplexity_reference),
    Row(label="… Δ", figure=_perplexity_change),
    Row(label="… tokens", figure=_perplexity_tokens),
    row("KL divergence, nats per token", "perplexity", _kl),
    row("… of that, by sampling", "perplexity", _kl_unsure),
    row("… 99 % of tokens below", "perplexity", _kl_tail),
    row("same likeliest token, %", "perplexity", _same_top),
    row("… tokens", "perplexity", lambda part: f"{part.tokens:,}" if part.divergence else None),
    row("perplexity of the first tokens", "perplexity", _head),
    row("… tokens", "perplexity", lambda part: f"{part.head.tokens:,}" if part.head else None),
)


def texts(records: Sequence[Record]) -> Sequence[Row]:
    """Those of the judged text, and of the others, which are not judged."""
    names = dict.fromkeys(name for record in records for name in record.perplexities)
    return (*PERPLEXITY, *(row for name in names for row in _other_text(name)))


def _other_text(name: str) -> tuple[Row, ...]:
    def of(shown: Callable[[Perplexity], str]) -> Callable[[Record], str]:
        return lambda record: shown(record.perplexities[name]) if name in record.perplexities else MISSING

    return (
        Row(label=f"perplexity on {text(name)}", figure=of(lambda part: figures.perplexity(part.ppl))),
        Row(label="… Δ", figure=of(lambda part: figures.perplexity_change(part.delta_interval))),
        Row(label="… tokens", figure=of(lambda part: f"{part.tokens:,}")),
    )


def tasks(records: Sequence[Record]) -> Sequence[Row]:
    names = dict.fromkeys(name for record in records if record.accuracy for name in record.accuracy.tasks)
    return [row for name in names for row in _task(name)]


def _task(name: str) -> tuple[Row, ...]:
    def change(record: Record) -> str:
        look = figures.accuracy_look(record, name)
        if look is None or look.interval is None:
            return MISSING
        return marked(record, ranged(look.interval, 1) + look.note, "accuracy_drop_points", name)

    def accuracy(record: Record) -> str:
        look = figures.accuracy_look(record, name)
        if look is None or record.accuracy is None:
            return MISSING
        task = record.accuracy.tasks[name]
        found = task.accuracy_interval if look.items == task.questions else None
        return figures.percent(look.value) if found is None else ranged(found, 1, factor=100)

    def flips(record: Record) -> str:
        task = record.accuracy.tasks.get(name) if record.accuracy else None
        return (
            MISSING if task is None or task.right_to_wrong is None else f"{task.right_to_wrong}, {task.wrong_to_right}"
        )

    def reference(record: Record) -> str:
        look = figures.accuracy_look(record, name)
        return MISSING if look is None else figures.percent(look.reference)

    def questions(record: Record) -> str:
        look = figures.accuracy_look(record, name)
        return MISSING if look is None else f"{look.items:,}"

    return (
        Row(label=f"{text(name)}, % right", figure=accuracy),
        Row(label="… of BF16 on these questions", figure=reference),
        Row(label="… drop, points", figure=change),
        Row(label="… answers lost, gained", figure=flips),
        Row(label="… questions", figure=questions),
    )
