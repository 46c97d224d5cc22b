"""The columns of the table of cells: what each shows of a record, and what it is sorted by.

Computes nothing: every figure is in the record.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from pytest_quantbench.catalog.recipes import LEVEL_NAMES, REFERENCE, recipe
from pytest_quantbench.errors import UnknownNameError
from pytest_quantbench.judge.verdict import Outcome, Verdict
from pytest_quantbench.record.schema import Record
from pytest_quantbench.record.suite import difference, worst
from pytest_quantbench.report.answers import answer
from pytest_quantbench.report.html.typeset import asked, signed
from pytest_quantbench.report.tables import MARKS, MISSING, Shown, decided, significant, tiny
from pytest_quantbench.stats.estimates import Interval

REFERENCE_WORD = "reference"
WIDE = 10  # intervals that reach so far have one digit behind the point


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One cell of the table. `key` is what it is sorted by: a number where the column has numbers; None: missing."""

    text: str
    interval: str = ""  # beside it, smaller
    key: float | str | None = None
    outcome: Outcome | None = None  # of the criterion that judges it
    mark: str = ""
    limit: str = ""  # of the criterion


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A column of the table: its short name in the page's address, its title, and what it shows of a record."""

    name: str
    title: str
    unit: str
    figure: Callable[[Record], Figure]
    numbers: bool = True
    there: Callable[[Record], bool] = lambda record: True  # of a column that is shown where a record has it


def columns(records: Sequence[Record]) -> list[Column]:
    """The table's columns; those of costs, caches, depth and retrieval only where a record has them."""
    currencies = {record.cost.currency for record in records if record.cost is not None}
    unit = f"{currencies.pop()}/10⁶ tokens" if len(currencies) == 1 else COST.unit
    priced = [replace(column, unit=unit) if column is COST else column for column in COLUMNS]
    return [column for column in priced if any(map(column.there, records))]


def method(record: Record) -> str:
    """The quantizer of the decoder layers, and the method of the cache; of a candidate its format."""
    if record.candidate is not None:
        return record.candidate.format
    try:
        inner = recipe(record.recipe).inner.quantizer
        if record.cache is None:
            return inner
        return record.cache.method if record.kind == "cache" else f"{inner} + {record.cache.method}"
    except UnknownNameError:  # of a level or a name that was there when the record was written
        return MISSING


def _text(value: str) -> Figure:
    return Figure(text=value, key=value.lower())


def _number(value: float | None, shown: str) -> Figure:
    """`shown`: a format, such as `.2f`."""
    return Figure(text=MISSING) if value is None else Figure(text=format(value, shown), key=value)


def _judged(record: Record, metric: str, found: Interval | None, digits: int, sign: str = "") -> Figure:
    """A figure that a criterion judges: of the look that decided, as its interval is."""
    verdict = None if record.recipe == REFERENCE.id else worst(record, metric)
    look = decided(record, metric, Shown(value=None, reference=None, items=0, interval=found)).interval
    outcome = verdict.outcome if verdict else None
    mark = MARKS[outcome] if outcome else ""
    if look is None:
        return Figure(text=MISSING, outcome=outcome, mark=mark)
    digits = digits if max(abs(look.low), abs(look.high)) < WIDE else min(digits, 1)
    text, low, high = (signed(each, digits, sign) for each in (look.estimate, look.low, look.high))
    return Figure(
        text=text,
        interval="" if look.low == look.high else f"[{low}, {high}]",
        key=look.estimate,
        outcome=outcome,
        mark=mark,
        limit=_limit(verdict),
    )


def _limit(verdict: Verdict | None) -> str:
    return "" if verdict is None or verdict.limit is None else asked(verdict.metric, verdict.limit)


def _size(record: Record) -> Figure:
    part = record.compression
    verdict = None if record.recipe == REFERENCE.id else worst(record, "size_reduction_percent")
    if part is None:
        return Figure(text=MISSING)
    outcome = verdict.outcome if verdict else None
    smaller = (
        "" if record.recipe == REFERENCE.id or record.kind == "cache" else f"{signed(100 * (part.ratio - 1), 1, '+')} %"
    )
    mark = MARKS[outcome] if outcome else ""
    return Figure(
        text=significant(part.compressed_gb),
        interval=smaller,
        key=part.compressed_gb,
        outcome=outcome,
        mark=mark,
        limit=_limit(verdict),
    )


def _speed(record: Record) -> Figure:
    return _judged(record, "throughput_ratio", record.throughput.ratio if record.throughput else None, 2)


def _rate(record: Record) -> Figure:
    return _number(record.throughput.mean_tps if record.throughput else None, ".1f")


def _perplexity(record: Record) -> Figure:
    return _judged(record, "perplexity_delta", record.perplexity.delta_interval if record.perplexity else None, 3, "+")


def _divergence(record: Record) -> Figure:
    part = record.perplexity and record.perplexity.divergence
    return Figure(text=tiny(part.kl_nats), key=part.kl_nats) if part else Figure(text=MISSING)


def _cost(record: Record) -> Figure:
    """Of a million tokens, without what compressing costs."""
    found = record.cost.per_million_tokens if record.cost else None
    if record.cost is None or found is None:
        return Figure(text=MISSING)
    low, high = (f"{end:.2f}" for end in (found.low, found.high))
    interval = "" if low == high else f"[{low}, {high}]"
    return Figure(text=f"{found.estimate:.2f}", interval=interval, key=found.estimate)


def _drop(record: Record) -> Figure:
    tasks = list(record.accuracy.tasks.values()) if record.accuracy else []
    return _judged(record, "accuracy_drop_points", tasks[0].drop_points if tasks else None, 1, "+")


def _cache(record: Record) -> Figure:
    """What a number of keys or values takes, and what that saves."""
    size = record.cache and record.cache.size
    if not size:
        return Figure(text=MISSING)
    smaller = f"{signed(-size.reduction_percent, 1, '+')} % at {size.tokens:,} tokens"
    return Figure(text=f"{size.bits_per_value:.2f}", interval=smaller, key=size.bits_per_value)


def _judged_by_depth(record: Record) -> bool:
    return worst(record, "depth_perplexity_delta") is not None


def _depth(record: Record) -> Figure:
    return _judged(record, "depth_perplexity_delta", difference(record, "depth_perplexity_delta"), 3, "+")


def _retrieval(record: Record) -> Figure:
    return _judged(record, "retrieval_drop_points", difference(record, "retrieval_drop_points"), 1, "+")


def _worst_matrix(record: Record) -> Figure:
    part = record.weights
    if part is None or part.worst_snr_db is None:
        return Figure(text=MISSING)
    name = (part.worst_tensor or "").removeprefix("model.").removesuffix(".weight")
    return Figure(text=f"{part.worst_snr_db:.1f}", interval=name, key=part.worst_snr_db)


def _bits(record: Record) -> Figure:
    return _number(record.compression.bits_per_weight if record.compression else None, ".2f")


def _model(record: Record) -> Figure:
    return _text(record.model_id)


def _level(record: Record) -> Figure:
    """The level with the method, the widest first; cells of one level by their recipes."""
    place = LEVEL_NAMES.index(record.level) if record.level in LEVEL_NAMES else len(LEVEL_NAMES)
    return Figure(text=record.level, interval=method(record), key=f"{place} {record.recipe}")


def _words(record: Record) -> Figure:
    said = answer(record)
    return _text(REFERENCE_WORD if said is None else said.word)


COST = Column(
    name="cost", title="Cost", unit="per 10⁶ tokens", figure=_cost, there=lambda record: record.cost is not None
)
COLUMNS = (
    Column(name="model", title="Cell", unit="model recipe", figure=_model, numbers=False),
    Column(name="level", title="Level", unit="method", figure=_level, numbers=False),
    Column(name="verdict", title="Verdict", unit="", figure=_words, numbers=False),
    Column(name="bits", title="Bits", unit="per weight", figure=_bits),
    Column(name="size", title="Size", unit="GB", figure=_size),
    Column(
        name="cache",
        title="KV cache",
        unit="bits per number",
        figure=_cache,
        there=lambda record: record.cache is not None,
    ),
    Column(name="rate", title="Rate", unit="tokens/s", figure=_rate),
    Column(name="speed", title="Speed-up", unit="× BF16", figure=_speed),
    COST,
    Column(name="perplexity", title="Δ Perplexity", unit="points", figure=_perplexity),
    Column(name="kl", title="KL", unit="nats", figure=_divergence),
    Column(name="drop", title="Accuracy drop", unit="points", figure=_drop),
    Column(name="depth", title="Δ PPL, worst depth", unit="points", figure=_depth, there=_judged_by_depth),
    Column(
        name="retrieval",
        title="Retrieval drop",
        unit="points",
        figure=_retrieval,
        there=lambda record: worst(record, "retrieval_drop_points") is not None,
    ),
    Column(name="snr", title="Worst matrix", unit="SNR, dB", figure=_worst_matrix),
)
