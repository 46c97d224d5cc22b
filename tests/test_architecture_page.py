"""docs/architecture.md tells the truth: every place that it names exists, and its walks are as short as they claim."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "architecture.md").read_text()
PLACE = re.compile(r"`([\w/]+\.py): ([\w.]+)`")
WALKS = {
    title: PLACE.findall(section)
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


def test_every_stop_of_a_walk_is_a_place_and_they_are_counted():
    for title, section in re.findall(r"^## The way of (.+?)\n(.+?)(?=^## )", PAGE, flags=re.DOTALL | re.MULTILINE):
        stops = re.findall(r"^(\d+)\. (.+)$", section, flags=re.MULTILINE)
        assert [int(number) for number, _ in stops] == list(range(1, len(stops) + 1)), title
        assert all(PLACE.match(stop) for _, stop in stops), title
    assert list(WALKS) == ["a weight matrix", "a token's loss", "an option"]


def test_no_walk_comes_back_to_a_file_that_it_left_and_a_loss_takes_at_most_fourteen_stops():
    for title, stops in WALKS.items():
        files = [file for file, _ in stops]
        assert len(set(files)) == len(files), title
        assert 4 <= len(files) <= 14, title


def test_the_page_names_every_folder_that_it_sends_a_reader_to():
    for folder in re.findall(r"`(\w+)/`", PAGE.replace("`tests/`", "").replace("`pytest_quantbench/`", "")):
        assert (ROOT / "pytest_quantbench" / folder).is_dir(), folder
