"""Which questions of a task share a source: a passage, an article, a video, a subject.

Such questions are lost and gained together, and T3's error allows for it (see clusters). What they share stands in
fields of lm-eval's documents, whose names differ from task to task: those known by name, those of a family of tasks,
and any longer text that several documents have word for word. All documents of a task are looked at, so that a question
belongs to the same cluster however many are asked.
"""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

SOURCES = (  # fields that hold a source or its name, wherever they are met
    *("passage", "article", "story", "context", "ctx", "paragraph", "document", "background", "support", "facts"),
    *("passage_id", "article_id", "story_id", "context_id", "paragraph_id", "para_id", "document_id", "section_id"),
    *("source_id", "text_id", "title_id", "image_id", "flores_passage", "link", "premise_id", "fact1"),
)
TOPICS = ("subject", "subject_name", "category", "topic", "task_name", "subtask")  # drawn from many
FAMILIES: Mapping[str, tuple[str, ...]] = MappingProxyType(  # more of them, by how a task's name begins
    {
        "hellaswag": ("source_id",),  # a video, or an article of WikiHow
        "squad": ("title",),
        "copa": ("premise",),
        "social_iqa": ("context",),
        "siqa": ("context",),
        "mutual": ("article",),
        "qasper": ("title",),
        "xquad": ("title",),
        "logiqa": ("context",),
        "record": ("passage",),
        "multirc": ("paragraph",),
        "belebele": ("link", "flores_passage"),
        "agieval": ("passage",),
    }
)
FEWEST_TOPICS = 10  # of fewer, each is asked about: they are the whole and no sample of it
LONG_TEXT = 80  # characters: a text that several documents share by accident is shorter
FEWEST_TEXTS = 4  # of fewer in a field that nobody knows, each is an instruction


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """The cluster of every document of a task, and the fields that tell it; all stand alone where there are none."""

    names: tuple[str, ...]
    key: str


def sources(task: str, documents: Iterable[Mapping[str, Any]]) -> Sources:
    """Clusters of a task's documents: those that the values of any telling field link share a source."""
    columns: dict[str, list[str]] = {}
    count = 0
    for count, document in enumerate(documents, 1):
        for field, value in document.items():
            columns.setdefault(field, [""] * (count - 1)).append(_text(value))
        for column in columns.values():
            column.extend([""] * (count - len(column)))
    telling = {field: told for field, column in columns.items() if (told := _telling(task, field, column))}
    return Sources(names=_linked(list(telling.values()), count), key=", ".join(telling))


def _text(value: Any) -> str:
    """A value as text, empty for one that cannot name a source."""
    if isinstance(value, str):
        return value.strip()
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return json.dumps(value, sort_keys=True, default=str) if isinstance(value, list | dict) and value else ""


def _telling(task: str, field: str, column: Sequence[str]) -> list[str]:
    """The values of a field that name a source, empty elsewhere; none at all unless some documents share one, and not
    all of them the same.
    """
    name, family = field.lower(), [fields for start, fields in FAMILIES.items() if task.startswith(start)]
    named = name in SOURCES or any(name in fields for fields in family)
    values = list(column) if named or name in TOPICS else [value if len(value) >= LONG_TEXT else "" for value in column]
    found = Counter(value for value in values if value)
    fewest = 2 if named else FEWEST_TOPICS if name in TOPICS else FEWEST_TEXTS
    return values if len(found) >= fewest and max(found.values()) > 1 else []


def _linked(columns: Sequence[Sequence[str]], count: int) -> tuple[str, ...]:
    """A name for each of the groups that equal values in any column link, of all documents; union-find."""
    parents = list(range(count))

    def root(place: int) -> int:
        while parents[place] != place:
            parents[place] = parents[parents[place]]
            place = parents[place]
        return place

    for column in columns:
        first: dict[str, int] = {}
        for place, value in enumerate(column):
            if value:
                parents[root(place)] = root(first.setdefault(value, place))
    return tuple(str(root(place)) for place in range(count))
