"""Records → the answer that every report begins with, in sentences: what may ship, what may not, what is undecided and
what would settle it. Computes nothing.

A cell is told what `KINDS` says of its state. Cells of which the same can be said share a
sentence, and of many cells that fail or are undecided the worst is told in full: ten models × eight recipes make about
a dozen sentences.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pytest_quantbench.catalog.criteria import SUITE_CRITERIA
from pytest_quantbench.catalog.recipes import REFERENCE
from pytest_quantbench.judge.verdict import Outcome
from pytest_quantbench.record.schema import Record
from pytest_quantbench.record.state import state_of
from pytest_quantbench.record.suite import beyond_limit, judge_suite
from pytest_quantbench.report.phrases import cells, count, joined
from pytest_quantbench.report.reasons import KINDS, Kind, Word
from pytest_quantbench.report.tables import tiny

ORDER: tuple[Word, ...] = ("may ship", "may not ship", "undecided", "not judged")  # as they are told
SUITES: Mapping[Outcome, str] = {"pass": "passes", "fail": "fails", "undecided": "is undecided"}
FEW = 3  # cells of a kind that get a sentence each
HOW_SURE = (
    "Brackets hold the interval in which a figure lies. A criterion is met or missed only where all of the interval is "
    "on one side of the limit, so that each such verdict is wrong with a probability of at most 5 %."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class CellAnswer:
    """What is said of one cell. `sentence` has its name, the word and the reason; `settled_by` is what would decide
    it, empty where it is decided.
    """

    cell: str
    word: Word
    sentence: str
    settled_by: str = ""

    @property
    def whole(self) -> str:
        """The sentence and what would settle it."""
        return self.sentence + _sentence(self.settled_by)


def answer(record: Record) -> CellAnswer | None:
    """What is said of one cell; None of the reference, which the others are compared with."""
    if record.recipe == REFERENCE.id:
        return None
    kind = _kind(record)
    verb = "is " if kind.word in ("undecided", "not judged") else ""
    sentence = f"{record.cell} {verb}{kind.word}: {kind.why(record)}."
    return CellAnswer(cell=record.cell, word=kind.word, sentence=sentence, settled_by=kind.settled_by(record))


def answers(records: Sequence[Record]) -> list[str]:
    """The sentences on all cells together: by kind, what ships first; then the suite, the noise and how sure it is.
    Nothing without a cell beside references.
    """
    told = [record for record in records if record.recipe != REFERENCE.id]
    lines = []
    for kind in sorted(KINDS.values(), key=lambda kind: ORDER.index(kind.word)):
        found = [record for record in told if _kind(record) is kind]
        alike: dict[str, list[Record]] = {}
        for record in found:
            alike.setdefault(kind.alike(record), []).append(record)
        lines += [line for group in alike.values() for line in _told(kind, group, told)]
    judged = (verdict for record in told for verdict in record.verdicts if verdict.limit is not None)
    sampled = any(verdict.low != verdict.high for verdict in judged)
    return [*lines, *_suites(told), *(_noise(records) if sampled else []), *([HOW_SURE] if sampled else [])]


def _kind(record: Record) -> Kind:
    return KINDS[state_of(record)]


def _told(kind: Kind, found: Sequence[Record], among: Sequence[Record]) -> list[str]:
    """What is said of cells of a kind: one sentence where the same holds for all of them, else one for each of a few;
    of more the worst is told in full.
    """
    if len(found) == 1 or (len(found) <= FEW and not kind.shared):
        return [each.whole for each in map(answer, found) if each is not None]
    verb = "are " if kind.word in ("undecided", "not judged") else ""
    begins = f"{count(len(found)).capitalize()} cells {verb}{kind.word}: {cells(found, among)}."
    if kind.shared:
        why = _sentence(kind.why(found[0]).replace("it meets", "each meets"))
        return [f"{begins}{why}{_sentence(kind.settled_by(found[0]))}"]
    first = max(found, key=lambda record: max((beyond_limit(verdict) for verdict in record.verdicts), default=0.0))
    one = f"{kind.first} {first.cell}: {kind.why(first)}.{_sentence(kind.settled_by(first))}"
    return [f"{begins} {one} The reasons of the others are marked below."]


def _sentence(text: str) -> str:
    """Behind another sentence; nothing of nothing."""
    return f" {text[0].upper()}{text[1:]}." if text else ""


def _suites(told: Sequence[Record]) -> list[str]:
    """Which recipes as many models as are needed can take; and what is left of the verdicts when all are one claim."""
    of_recipes = [record for record in told if record.candidate is None]
    found = [judge_suite(recipe, of_recipes) for recipe in dict.fromkeys(record.recipe for record in of_recipes)]
    judged = [
        f"{suite.recipe} {SUITES[suite.outcome]} ({suite.met} of {suite.models} models meet all, "
        f"{SUITE_CRITERIA[suite.level][0]} of {SUITE_CRITERIA[suite.level][1]} are needed)"
        for suite in found
        if suite.outcome != "informational"
    ]
    lines = [f"Over all models: {'; '.join(judged)}."] if judged else []
    changed, judged_criteria = sum(suite.changed_by_holm for suite in found), sum(suite.criteria for suite in found)
    if changed:
        lines.append(
            "Each verdict by itself stands. Of many some are wrong by chance all the same: to be sure by 95 % that "
            f"none of a recipe's is, {count(changed)} of the {count(judged_criteria)} verdicts would have to count as "
            "undecided (Holm's correction)."
        )
    return lines


def _noise(records: Sequence[Record]) -> list[str]:
    """Which differences mean nothing; the largest of several models'."""
    floors = [record.noise_floor for record in records if record.noise_floor is not None]
    points = [each.perplexity_points for each in floors if each.perplexity_points is not None]
    drops = [each.drop_points for each in floors if each.drop_points is not None]
    divergences = [each.kl_nats for each in floors if each.kl_nats is not None]
    told = [f"{tiny(max(points))} in perplexity"] if points else []
    told += [f"{tiny(max(divergences))} nats of KL divergence"] if divergences else []
    told += [f"{tiny(max(drops))} points in accuracy"] if drops else []
    if not told:
        return ["The noise floor was not measured."]
    who = "the original differs from itself by" if len(floors) == 1 else "the originals differ from themselves by up to"
    return [
        f"Noise floor: between float32 and bfloat16 activations {who} {joined(told)}; smaller differences than that "
        "mean nothing, and neither do those whose own interval holds 0."
    ]
