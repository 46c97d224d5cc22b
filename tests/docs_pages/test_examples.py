"""Examples of README.md and docs/: each command is one that our parsers take, and each block is run, by this file or by
the test that is named here, or has a reason why it is not.
"""

import re
import tomllib

import pytest
from pages import NAMES, ROOT, TAGGED, blocks, commands, inline_code, ours, take, walk_through

from pytest_quantbench.plugin.pyproject_table import check_kinds

# By page: what is printed when its files are written and its commands typed, one after the other, in an empty folder.
WALKS = {
    "docs/candidates.md": (
        r"quantbench: candidate tiny-4bit: MLX, 4\.50 bits per weight in its layers: judged as int4",
    ),
    "docs/choosing.md": (r"Tiny: take int4 \(2\.08 MB, 4\.51 bits per weight\), the smallest that meets all\.",),
    "docs/compare.md": (
        r"No regression in 9 figures of 2 cells: all samples are the same to the last bit\.",
        r"baseline \S*monday: No regression in 5 figures of 1 cell: all samples are the same",
        r"leads on the same|is the best of",
        r"Merged 4 records|all/combined\.json",
    ),
    "docs/first-gate.md": (r"mymodel-int4 may ship: .*size, perplexity on tiny-heldout, accuracy on", r"exit code 1"),
    "docs/stages.md": (r"1 cell of 1 model", r"tiny-int4: Tiny-int4-rtn as mlx", r"Tiny-int4-rtn"),
}
# By page: the test that runs its Python, or writes it as the file that it is.
PYTHON = {
    "README.md": "tests/bench/test_subject.py",
    "docs/add-a-kv-quantizer.md": "tests/quantizers/kv/test_add_a_kv_quantizer.py",
    "docs/add-a-measure.md": "tests/measures/test_add_a_measure.py",
    "docs/add-a-quantizer.md": "tests/quantizers/test_add_a_quantizer.py",
    "docs/add-an-engine.md": "tests/engines/test_fake_engine.py",
    "docs/ci.md": "tests/plugin/test_ci_page.py",
    "docs/first-gate.md": "tests/docs_pages/test_examples.py",
}
# By page: why nothing runs the commands that it shows in indented blocks, which parsers take.
NOT_RUN = {
    "README.md": "the ten models of the catalogue; what is of Tiny, other pages run",
    "docs/add-a-kv-quantizer.md": "run by tests/quantizers/kv/test_add_a_kv_quantizer.py, with its class",
    "docs/add-a-quantizer.md": "run by tests/quantizers/test_add_a_quantizer.py, with its class",
    "docs/add-an-engine.md": "run by tests/workbench/test_engine_conformance.py, with engines of its own",
    "docs/architecture.md": "README's, and those of a checkout",
    "docs/benchmark_int_quant.md": "those that made it: `make bench`",
    "docs/candidates.md": "the Hub, a package of 98 MB, or files of the reader's",
    "docs/choosing.md": "a price of the reader's",
    "docs/ci.md": "models of the reader's, and GitHub",
    "docs/convert.md": "run by tests/cli/test_convert.py and tests/compress/exports",
    "docs/disk.md": "the ten models of the catalogue",
    "docs/engines.md": "run by tests/workbench/test_engine_agreement.py and tests/engines/test_agreement.py",
    "docs/first-gate.md": "the self-test takes minutes; tests/bench run it",
}
INCOMPLETE = {"pytest -n", "quantbench judge --help", "quantbench report --complete"}  # in sentences
EVERY_COMMAND = [(page, where, line) for page in NAMES for where, line in commands(page)]


@pytest.mark.parametrize(("page", "where", "line"), EVERY_COMMAND, ids=[f"{one[1]} {one[2]}" for one in EVERY_COMMAND])
def test_each_command_is_one_that_our_parsers_take(pytester, page, where, line):
    take(line, pytester.parseconfig)


def whole(code):
    """Whether inline code is a command with arguments, and not a command's name in a sentence."""
    return ours(code) and " -" in code and "…" not in code and code not in INCOMPLETE


@pytest.mark.parametrize("page", [page for page in NAMES if any(map(whole, inline_code(page)))])
def test_commands_in_sentences_and_tables_are_taken(pytester, page):
    for code in filter(whole, inline_code(page)):
        take(code, pytester.parseconfig)


def test_an_option_that_there_is_not_would_be_seen(pytester):
    for wrong in ("quantbench run --basline x", "quantbench nonsense", "make nonsense", "curl x", "pytest --runs many"):
        with pytest.raises((AssertionError, SystemExit, pytest.UsageError)):
            take(wrong, pytester.parseconfig)


@pytest.mark.slow
@pytest.mark.parametrize("page", WALKS)
def test_a_page_done_from_top_to_bottom_ends_as_it_says(page, tmp_path):
    folder = tmp_path / "reader"
    folder.mkdir()
    said = " ".join(walk_through(page, folder).split())
    for pattern in WALKS[page]:
        assert re.search(pattern, said), said


def test_what_is_typed_on_a_page_is_run():
    typed = {page for page in NAMES for block in blocks(page) if block.kind == "bash"}
    assert typed == set(WALKS)


def test_the_python_of_every_page_is_run_by_the_test_that_is_named():
    assert {page for page in NAMES for block in blocks(page) if block.kind == "python"} == set(PYTHON)
    for page, test in PYTHON.items():
        assert page.removeprefix("docs/") in (ROOT / test).read_text()


def test_blocks_are_of_kinds_that_are_looked_at():
    assert {block.kind for page in NAMES for block in blocks(page)} <= {"", *TAGGED}


TOML = [block for page in NAMES for block in blocks(page) if block.kind == "toml"]


@pytest.mark.parametrize("block", TOML, ids=[block.where for block in TOML])
def test_a_table_of_a_page_is_one_that_the_plugin_reads(block, pytester):
    tool = tomllib.loads(block.text).get("tool", {})
    check_kinds(tool.get("quantbench", {}))
    for option in tool.get("pytest", {}).get("ini_options", {}).get("addopts", ()):
        pytester.parseconfig(option)


def test_what_is_shown_and_not_run_has_its_reason():
    """Indented commands are taken by the parsers; why nothing runs them stands here, page by page."""
    shown = {
        page for page in NAMES for block in blocks(page) if block.kind == "" and any(map(ours, block.text.splitlines()))
    }
    assert shown == set(NOT_RUN)
