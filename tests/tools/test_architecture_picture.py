"""The picture of docs/architecture.md shows the packages, their order and their imports as they are."""

import re

import pytest

from tools import architecture_picture
from tools.architecture_picture import PIPELINE, Package, draw, job, order, packages


def test_the_committed_picture_is_what_is_drawn_now():
    """Else draw it again: python tools/architecture_picture.py"""
    assert architecture_picture.PICTURE.read_text() == draw(packages())


def test_every_package_is_in_the_picture_and_in_the_order():
    folders = {path.parent.name for path in architecture_picture.ROOT.glob("pytest_quantbench/*/__init__.py")}
    assert folders <= set(order())
    assert {*PIPELINE, "errors"} < set(order())


def shown(*given):
    """Names of the packages by row, and the imports that have a dot, as (importer, imported)."""
    picture = draw([Package(name=name, job="A job", imports=frozenset(to), libraries=()) for name, to in given])
    return re.findall(r"<title>(\w+) imports (\w+)</title>", picture), picture


def test_a_dot_is_drawn_for_every_import_and_one_that_runs_upwards_is_red():
    edges, picture = shown(("top", ["middle", "low"]), ("middle", []), ("low", ["middle"]))
    assert edges == [("top", "middle"), ("top", "low"), ("low", "middle")]
    assert picture.count(f'fill="{architecture_picture.DOT}"') == 2
    assert picture.count(f'fill="{architecture_picture.WRONG}"') == 1


def test_real_imports_are_found_also_those_for_types_only():
    by_name = {package.name: package for package in packages()}
    assert "stats" in by_name["judge"].imports
    assert by_name["errors"].imports == frozenset()
    assert by_name["plugin"].libraries == ("pytest",)
    assert all("pytest" not in package.libraries for name, package in by_name.items() if name != "plugin")


def test_a_job_is_one_sentence_that_fits():
    assert job("errors") == "The errors a user can meet"
    long = Package(name="long", job="word " * 60, imports=frozenset(), libraries=())
    with pytest.raises(ValueError, match="What long is for takes more than two lines"):
        draw([long])
