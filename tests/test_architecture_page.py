"""docs/architecture.md tells the truth: every place that it names exists, and its walks are as short as they claim."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "architecture.md").read_text()
PLACE = re.compile(r"`([\w/]+\.py): ([\w.]+)`")
# The stops of every walk, by its title.
WALKS = {
    title: re.findall(r"^\d+\. .+$", section, flags=re.MULTILINE)
    for title, section in re.findall(r"^## The way of (.+?)\n(.+?)(?=^## )", PAGE, flags=re.DOTALL | re.MULTILINE)
}


@cache
def names_in(file):
    """What a module defines: functions, classes, `Class.method`, constants."""
    found = set()
    for node in ast.parse((ROOT / "pytest_quantbench" / file).read_text()).body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            found.add(node.name)
            found |= {f"{node.name}.{each.name}" for each in node.body if isinstance(each, ast.FunctionDef)}
            if isinstance(node, ast.ClassDef):
                continue
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        found |= {target.id for target in targets if isinstance(target, ast.Name)}
    return found


@pytest.mark.parametrize(("file", "name"), sorted(set(PLACE.findall(PAGE))))
def test_every_place_exists(file, name):
    assert name in names_in(file)


def test_there_is_a_way_for_everything_that_goes_through():
    assert list(WALKS) == [
        "a weight matrix",
        "a token's loss",
        "an option",
        "a cell into a pytest item",
        "a record into a report",
    ]


@pytest.mark.parametrize("stops", WALKS.values(), ids=WALKS)
def test_a_walk_is_a_list_of_places_that_comes_back_to_no_file_that_it_left(stops):
    assert [int(stop.partition(".")[0]) for stop in stops] == list(range(1, len(stops) + 1))
    files = [PLACE.search(stop)[1] for stop in stops]
    assert all(stop.partition(" ")[2].startswith("`") for stop in stops)
    assert len(set(files)) == len(files)
    assert 4 <= len(files) <= 14


def test_the_page_names_every_folder_that_it_sends_a_reader_to():
    for folder in re.findall(r"`(\w+)/`", PAGE.replace("`tests/`", "").replace("`pytest_quantbench/`", "")):
        assert (ROOT / "pytest_quantbench" / folder).is_dir(), folder
