"""Which documents share a source, in the schemas of lm-eval's tasks and in a user's own."""

import json

import pytest
from small_models import shared

from pytest_quantbench.measures.accuracy.passages import sources

LONG = "A text about the river, the mill and the miller, long enough that nobody writes it twice by accident: {}."


def groups(found):
    """Places that share a source, as sorted lists."""
    places = {}
    for place, name in enumerate(found.names):
        places.setdefault(name, []).append(place)
    return sorted(places.values())


@pytest.mark.parametrize(
    ("task", "field"),
    [
        ("boolq", "passage"),
        ("race", "article"),
        ("coqa", "story"),
        ("siqa", "context"),
        ("hellaswag", "source_id"),
        ("belebele_eng_Latn", "flores_passage"),
        ("squadv2", "title"),
        ("sciq", "support"),
        ("mine", "passage_id"),
        ("mine", "Passage"),
    ],
)
def test_a_shared_passage_is_one_source(task, field):
    documents = [{"question": f"Question {n}?", field: f"s{n // 3}", "label": n % 2} for n in range(9)]
    found = sources(task, documents)
    assert groups(found) == [[0, 1, 2], [3, 4, 5], [6, 7, 8]]
    assert found.key == field


def test_numbers_name_sources_too_and_what_is_missing_names_none():
    documents = [{"q": str(n), "para_id": n // 2} for n in range(4)] + [{"q": "x", "para_id": None}, {"q": "y"}]
    assert groups(sources("mine", documents)) == [[0, 1], [2, 3], [4], [5]]


def test_a_long_text_that_nobody_named_is_a_source():
    documents = [{"question": f"Q{n}?", "reading": LONG.format(n // 2)} for n in range(10)]
    assert groups(sources("mine", documents)) == [[n, n + 1] for n in range(0, 10, 2)]


@pytest.mark.parametrize(
    "documents",
    [
        [{"question": f"Q{n}?", "instruction": LONG.format("all")} for n in range(20)],  # one wording
        [{"question": f"Q{n}?", "instruction": LONG.format(n % 3)} for n in range(20)],  # a few
        [{"question": "What is the best title?", "passage": str(n)} for n in range(20)],  # short and shared
        [{"question": f"Q{n}?", "subject": "anatomy"} for n in range(20)],  # the whole task
        [{"question": f"Q{n}?", "category": "ab"[n % 2], "label": 1} for n in range(20)],  # all are asked about
        [{"question": f"Q{n}?"} for n in range(20)],
    ],
)
def test_what_is_no_source_leaves_questions_alone(documents):
    found = sources("mine", documents)
    assert groups(found) == [[n] for n in range(20)]
    assert found.key == ""


def test_many_topics_are_drawn_from_more():
    documents = [{"question": f"Q{n}?", "subject": f"s{n % 12}"} for n in range(24)]
    assert groups(sources("mine", documents)) == [[n, n + 12] for n in range(12)]


def test_what_any_field_links_is_one_source():
    """Two passages of one article: their questions depend on each other."""
    documents = [{"passage": p, "article_id": a} for p, a in (("x", 1), ("x", 2), ("y", 2), ("z", 3), ("z", 3))]
    assert groups(sources("mine", documents)) == [[0, 1, 2], [3, 4]]


def test_hellaswag_asks_several_questions_of_one_video():
    documents = [json.loads(line) for line in shared("hellaswag", "validation.jsonl").read_text().splitlines()]
    found = sources("hellaswag", documents)
    assert "source_id" in found.key
    assert len(set(found.names)) <= 704
    sizes = [len(group) for group in groups(found)]
    assert max(sizes) < 20
