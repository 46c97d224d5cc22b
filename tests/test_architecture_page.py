"""docs/architecture.md tells the truth: every place that it names exists, its ways are as short as they claim, and
where they go up is marked.
"""

import ast
import re
import tomllib
from functools import cache
from itertools import pairwise
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "architecture.md").read_text()
PLACE = re.compile(r"`([\w/]+\.py): ([\w.]+)`")
# The stops of every way, by its title.
WAYS = {
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
    assert list(WAYS) == [
        "a weight matrix",
        "a candidate's weights",
        "a token's loss",
        "an option",
        "a cell into a pytest item",
        "a record into a report",
    ]


@pytest.mark.parametrize("stops", WAYS.values(), ids=WAYS)
def test_a_way_is_a_short_list_of_places_each_in_another_file(stops):
    assert [int(stop.partition(".")[0]) for stop in stops] == list(range(1, len(stops) + 1))
    files = [PLACE.search(stop)[1] for stop in stops]
    assert all(re.match(r"\d+\. (↑ )?`", stop) for stop in stops)
    assert len(set(files)) == len(files)
    assert 4 <= len(files) <= 14


def packages_from_above():
    """In the order of the import contract."""
    with (ROOT / "pyproject.toml").open("rb") as file:
        contracts = tomllib.load(file)["tool"]["importlinter"]["contracts"]
    return next(each["layers"] for each in contracts if each.get("containers") == ["pytest_quantbench"])


@pytest.mark.parametrize("stops", WAYS.values(), ids=WAYS)
def test_a_stop_is_marked_where_a_way_goes_up(stops):
    order = packages_from_above()
    heights = [order.index(PLACE.search(stop)[1].partition("/")[0]) for stop in stops]
    ups = [False, *(here < before for before, here in pairwise(heights))]
    assert ["↑" in stop for stop in stops] == ups


def test_the_loss_of_a_token_goes_up_no_more_than_four_times():
    """To the shared walk, to the measure, to the samples that are kept, to the record: a fifth is to be noticed."""
    assert sum("↑" in stop for stop in WAYS["a token's loss"]) <= 4


def test_the_page_says_where_the_code_left_its_first_design_and_why():
    section = PAGE.partition("## Where this differs from its first design\n")[2].partition("\n## ")[0]
    points = section.split("\n- ")[1:]
    assert len(points) >= 8
    assert all(point.startswith("**") for point in points)
    for subject in ("Settings", "_fetched", "show_on", "Script", "Writing", "held", "wilson", "hub_cache", "bench"):
        assert subject in section


def test_the_page_names_every_folder_that_it_sends_a_reader_to():
    for folder in re.findall(r"`(\w+)/`", PAGE.replace("`tests/`", "").replace("`pytest_quantbench/`", "")):
        assert (ROOT / "pytest_quantbench" / folder).is_dir(), folder
