"""Records → what a terminal shows of so many columns: the answer, a block for each model, then notes. Computes nothing.

`text` of a line is what stands there without colours; a terminal that has them gets the tones too (see coloured).
"""

from collections.abc import Callable, Iterator, Sequence

from pytest_quantbench.judge.roofline import BY_OVERHEAD
from pytest_quantbench.judge.verdict import Outcome, Verdict
from pytest_quantbench.record.schema import Record
from pytest_quantbench.record.state import state_of
from pytest_quantbench.record.suite import SuiteVerdict
from pytest_quantbench.report.answers import answer, answers
from pytest_quantbench.report.blocks import blocks
from pytest_quantbench.report.coloured import WORD_TONES, Line, Piece, Tone, plain
from pytest_quantbench.report.phrases import cells
from pytest_quantbench.report.tables import calibration, coherence, errors_by_source, share_of_bandwidth
from pytest_quantbench.report.text_width import wrapped

OPEN: tuple[Outcome, ...] = ("undecided", "anomalous")  # neither good nor bad
FINDINGS_SHOWN = 5  # of a cell, in the terminal
NOTES_SHOWN = 12  # of a kind, in the terminal
LEAST_WIDTH = 20  # columns: in fewer, nothing can be shown
LEGEND = (
    "✓ met · ✗ missed · ? undecided · ! better than its original · · measured, not judged · – not measured. bpw: "
    "stored bits per weight; size, tok/s, ΔPPL (perplexity) and acc drop (points) are against BF16, whose own figures "
    "stand in its row. ± reaches to the farther end of the interval: 5 % error on each side, less where it was decided "
    "early."
)


CACHE_LEGEND = (
    "kv bits: of a number of keys or values as stored, with scales and what is left in 16 bits; kv size: of the cache, "
    "against BF16, where as many tokens are in it as the deepest that T2 judged has in front; deep ΔPPL and retr drop: "
    "at the worst depth."
)


def summary(records: Sequence[Record], width: int, typed: Callable[[str], str] = str) -> list[Line]:
    """All that the terminal says of these cells. `typed` gives options the names that a user types them by."""
    width = max(width, LEAST_WIDTH)
    lines = [line for sentence in answers(records) for line in _answer(typed(sentence), width)]
    lines += [plain(""), *blocks(records, width), plain("")] if records else []
    for note in _notes(records):
        lines += map(plain, wrapped(typed(note), width, "  ", ""))
    legend = f"{LEGEND} {CACHE_LEGEND}" if any(record.cache for record in records) else LEGEND
    return [*lines, *(plain(line, "aside") for line in wrapped(legend, width))]


def _answer(sentence: str, width: int) -> Iterator[Line]:
    """A sentence of the answer, its word in its colour."""
    word = next((word for word in sorted(WORD_TONES, key=len, reverse=True) if f" {word}: " in sentence), None)
    tone: Tone = "plain" if word is None else WORD_TONES[word]
    for place, line in enumerate(wrapped(sentence, width, "  ", "")):
        before, found, after = line.partition(word) if word and not place else (line, "", "")
        yield [Piece(before), Piece(found, tone), Piece(after)]


def _notes(records: Sequence[Record]) -> Iterator[str]:
    """What stands below the blocks; of many of a kind the first."""
    for notes in (
        _worse_lines(records),
        _open_lines(records),
        _speed_lines(records),
        coherence_lines(records),
        integrity_lines(records),
        runtime_lines(records),
        calibration_lines(records),
        candidate_lines(records),
    ):
        yield from notes[:NOTES_SHOWN]
        if len(notes) > NOTES_SHOWN:
            yield f"and {len(notes) - NOTES_SHOWN} more like these, in the report"


def _worse_lines(records: Sequence[Record]) -> list[str]:
    """Cells that are worse than their baseline, where there are so many that the answer tells them together."""
    told = " ".join(answers(records))
    worse = [answer(record) for record in records if state_of(record) == "worse than its baseline"]
    found = [each for each in worse if each is not None and each.sentence not in told]
    return [each.sentence for each in found if each.sentence.replace(f" {each.word}: ", ": ", 1) not in told]


def _open_lines(records: Sequence[Record]) -> list[str]:
    """Cells that are undecided, where there are so many that the answer tells them together; and what is undecided of
    cells that may not ship.
    """
    told = " ".join(answers(records))
    found = [each for each in map(answer, records) if each is not None and each.word == "undecided"]
    lines = [each.whole for each in found if each.sentence not in told]
    failed = [record for record in records if (each := answer(record)) is not None and each.word == "may not ship"]
    return lines + [line for record in failed for line in sentences(record, OPEN)]


def _speed_lines(records: Sequence[Record]) -> list[str]:
    """What every cell uses of the memory's bandwidth, why ratios are not judged by it, and cells without a ratio, as
    other load changed their speed.
    """
    timed = [(record, record.throughput) for record in records if record.throughput is not None]
    shares = [f"{record.cell} {share}" for record, part in timed if (share := share_of_bandwidth(part.bound_share))]
    lines = [f"speed, of what the memory's bandwidth allows: {', '.join(shares)}"] if shares else []
    overhead = [
        (record, part)
        for record, part in timed
        if any(verdict.not_judged == BY_OVERHEAD for verdict in record.verdicts)
    ]
    if overhead:
        worst = share_of_bandwidth(max(part.reference_bound_share or 0.0 for _, part in overhead))
        lines.append(
            f"speed: {cells([record for record, _ in overhead], records)} not judged: {BY_OVERHEAD}, as the original "
            f"reaches no more than {worst} of what its memory's bandwidth allows"
        )
    found = [record for record, part in timed if part.ratio_suppressed]
    if found:
        lines.append(f"speed: no ratio for {cells(found, records)}, as what else the machine did changed their speed")
    return lines


def sentences(record: Record, outcomes: Sequence[Outcome] = ("fail", *OPEN)) -> list[str]:
    """Why a cell failed, could not be decided or is better than its reference: one sentence for each such verdict."""
    told = [verdict for verdict in record.verdicts if verdict.outcome in outcomes]
    return [f"{record.cell} {verdict.outcome}: {explain(verdict)}" for verdict in told]


def coherence_lines(records: Sequence[Record]) -> list[str]:
    """Which cells have collapsed, or that none has; nothing where coherence was not measured."""
    measured = [record for record in records if record.coherence is not None]
    collapsed = [record for record in measured if record.coherence is not None and record.coherence.collapsed]
    lines = [f"coherence: {record.cell} has {coherence(record)}" for record in collapsed]
    return lines or (["coherence: no cell has collapsed"] if measured else [])


def integrity_lines(records: Sequence[Record], most: int | None = FINDINGS_SHOWN) -> list[str]:
    """What is wrong with the decoded weights of any cell, or that nothing is; nothing where none were compared."""
    compared = [record for record in records if record.integrity is not None]
    lines = []
    for record in compared:
        found, name = record.integrity or (), f"integrity: {record.cell}"
        lines += [f"{name}: {sentence}" for sentence in found[:most]]
        if most is not None and len(found) > most:
            lines.append(f"{name}: and {len(found) - most} more findings, in its record")
        lines += [f"{name} differs from its reference: {note}" for note in record.integrity_notes]
    return lines or (["integrity: all decoded weights are the source's, but for rounding"] if compared else [])


def runtime_lines(records: Sequence[Record]) -> list[str]:
    """Of every candidate that its own runtime ran: what the file lost, and what the runtime adds."""
    ran = [record for record in records if record.runtime is not None]
    return [f"runtime: {record.cell}: {errors_by_source(record)}" for record in ran]


def calibration_lines(records: Sequence[Record]) -> list[str]:
    """On which text each recipe was calibrated; recipes with the same one share a line."""
    found: dict[str, list[Record]] = {}
    for record in records:
        if told := calibration(record):
            found.setdefault(told, []).append(record)
    return [f"calibration: {cells(those, records)} on {told}" for told, those in found.items()]


def candidate_lines(records: Sequence[Record]) -> list[str]:
    """One for every difference of a candidate from its original, with whose value was judged by."""
    found = []
    for record in records:
        part = record.candidate
        if part is not None:
            judged = "run with its own config" if part.own_config else "judged with the reference's"
            found += [f"candidate {record.cell}: {each} ({judged})" for each in part.differences]
    return found


def explain(verdict: Verdict | SuiteVerdict) -> str:
    """A verdict's sentence and, where it is undecided, what would settle it."""
    needed = f" {verdict.needed[0].upper()}{verdict.needed[1:]}." if verdict.needed else ""
    return verdict.sentence + needed
