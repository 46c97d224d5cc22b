"""How files and functions are: their lengths, the names that are avoided, what is caught, and what an import loads.

Which package may import which stands in pyproject.toml, where `make lint` has import-linter check it.
"""

import ast
import statistics
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "pytest_quantbench"
AVOIDED = {"utils", "common", "helper", "helpers", "manager", "base", "misc", "data", "info"}
FILES = sorted(PACKAGE.rglob("*.py"))
SCRIPTS = sorted(path for folder in ("tools", "benches") for path in PACKAGE.parent.joinpath(folder).rglob("*.py"))
A_VERB = "a verb of the command line: what it does lies in the package that it calls"
# Files under 40 lines, and why they stand alone.
SHORT = {
    "bench/checks/retrieval.py": "a check is a file, and this one's arithmetic is the judge's",
    "record/retrieval_schema.py": "what a record says of a measure is a file, and this is one with few figures",
    "report/charts/charted.py": "the front page of charts and its members import it: there it would be a circle",
    "stats/spread.py": "what records tell of a handful of repeats, beside figures with intervals",
    "stats/tails.py": "the arithmetic of one chart, beside percentiles that are judged",
    "cli/plan.py": A_VERB,
    "cli/prune.py": A_VERB,
    "cli/rank.py": A_VERB,
    "cli/run.py": A_VERB,
    "engines/digests.py": "what says of any engine's walk which weights it ran, beside what the walk does",
    "engines/opening.py": "what asks other engines is no part of one, and the registry has no model",
    "engines/requests.py": "how any engine's batch of answers is timed, beside how it writes them",
    "engines/routers.py": "what each engine asks of the modules of its own library",
    "engines/mlx/positions.py": "what a module of mlx-lm's cannot do, beside what every engine asks of a config",
    "engines/mlx/walk_trial.py": "what one engine brings to the trial that all have",
    "engines/torch/rope_check.py": "what the modules of one library turn by, beside the definitions",
    "engines/torch/rules.py": "what walks and resident models do alike to the inputs of a layer",
    "engines/torch/walk_trial.py": "what one engine brings to the trial that all have",
    "measures/accuracy/question_texts.py": "what is shown of a question, and nothing of what is asked",
    "measures/runtime/samples.py": "what the record reads of a runtime, without anything that runs one",
    "plugin/badges.py": "a plugin on our own hooks is a file, as those of others are",
    "plugin/option_form.py": "what one option is, beside the table of them, which grows with each",
    "plugin/places.py": "which plugins of our own there are, for the two processes that register them",
    "plugin/refusals.py": "what stops a session, for whoever begins one",
    "plugin/short_options.py": "a plugin of pytest's, which is asked for by the name of its module",
    "quantizers/identity.py": "a method is a file, whose name its entry point has, and this one does nothing",
    "quantizers/numerics/per_row.py": "what three methods share, of which none may import another",
    "quantizers/numerics/row_blocks.py": "how the other modules of its folder go through a matrix",
    "record/publication_schema.py": "what reports read of a record, without what makes it",
    "cli/typed.py": "how verbs read what the suite reads, which has pytest's words for a wrong value",
    "report/junit.py": "what JUnit shows of a verdict, as each place where people read has a file",
    "report/markdown/escaped.py": "how any name becomes markdown, which every section of the report asks",
    "report/markdown_table.py": "what reports, the workbench and the scripts of tools/ share",
}


def test_no_file_has_a_name_that_says_nothing():
    assert not {path.stem for path in FILES} & AVOIDED


def test_every_package_says_what_it_is_for():
    for path in PACKAGE.rglob("__init__.py"):
        assert ast.get_docstring(ast.parse(path.read_text())), path


def lines_of(path):
    return len(path.read_text().splitlines())


def test_files_and_functions_are_short():
    """None over 250 lines, half of them of at most 120; no function over 60."""
    lengths = {path: lines_of(path) for path in FILES}
    assert statistics.median(lengths.values()) <= 120
    for path, length in (lengths | {path: lines_of(path) for path in SCRIPTS}).items():
        assert length <= 250, f"{path} has {length} lines"
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                assert node.end_lineno - node.lineno < 60, f"{path}: {node.name}"


def test_a_file_is_worth_opening():
    """None under 40 lines but a package's front page, its `__main__`, a protocol, and those that say why."""
    short = {path.relative_to(PACKAGE).as_posix() for path in FILES if lines_of(path) < 40}
    fronts = {name for name in short if name.endswith(("__init__.py", "__main__.py", "protocol.py"))}
    assert short - fronts == set(SHORT)


def test_the_import_contracts_name_what_is_there():
    """A name that is gone makes import-linter check nothing at all, which `make test` shall see, too."""
    with PACKAGE.parent.joinpath("pyproject.toml").open("rb") as file:
        contracts = tomllib.load(file)["tool"]["importlinter"]["contracts"]
    for contract in (each for each in contracts if each["type"] == "layers"):
        for container in contract["containers"]:
            folder = PACKAGE.parent.joinpath(*container.split("."))
            there = {path.stem for path in folder.iterdir() if path.suffix == ".py" or (path / "__init__.py").is_file()}
            listed = {name.strip() for layer in contract["layers"] for name in layer.split("|")}
            assert listed == there - {"__init__"}, contract["name"]


@pytest.mark.parametrize(
    ("group", "member"),
    [
        ("quantizers", "quantizers.rtn"),
        ("kv_quantizers", "quantizers.kv.affine"),
        ("formats", "checkpoints.formats.plain"),
    ],
)
def test_the_contract_on_a_family_names_every_member(group, member):
    """A method or a format that is added is held to it too: import-linter checks the modules that are listed."""
    with PACKAGE.parent.joinpath("pyproject.toml").open("rb") as file:
        told = tomllib.load(file)
    registered = told["project"]["entry-points"][f"pytest_quantbench.{group}"].values()
    contracts = [each for each in told["tool"]["importlinter"]["contracts"] if each["type"] == "independence"]
    listed = next(each["modules"] for each in contracts if f"pytest_quantbench.{member}" in each["modules"])
    assert set(listed) == {where.partition(":")[0] for where in registered}


@pytest.mark.parametrize("package", ["judge.rules", "stats.series", "record.schema", "report.markdown"])
def test_verdicts_and_reports_load_no_engine(package):
    code = (
        f"import sys, pytest_quantbench.{package}; "
        "print({'mlx', 'mlx.core', 'torch', 'transformers'} & set(sys.modules) or '')"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == ""


def test_nothing_is_caught_that_was_not_named():
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ExceptHandler):
                assert node.type is not None, path
                assert ast.unparse(node.type) not in ("Exception", "BaseException"), path


def test_public_names_come_lazily():
    import pytest_quantbench

    for name in pytest_quantbench.__all__:
        assert getattr(pytest_quantbench, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = pytest_quantbench.nothing
