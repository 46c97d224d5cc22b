"""The direction of imports, the names that are avoided, and who may know what: read from the source with `ast`."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "pytest_quantbench"
# A module imports only what stands before it. A stage of several modules is a row; its members keep this order too.
ORDER = (
    ("errors", "progress", "catalog", "diskplans", "recipes", "settings", "pyproject_table"),
    ("locks", "storage", "kept", "verdict", "textrecord", "schemas", "diagnostics", "record"),
    ("fidelity", "drawing", "samples"),
    ("estimates", "stats", "clusters", "proportions", "speed", "sequential"),
    ("machine", "sandboxed", "sandbox"),
    ("judge", "answers", "suite", "looks", "coherence"),
    ("packing", "halves", "affine", "rows", "groups", "hessian", "lowrank"),
    ("vectors", "coding", "hadamard", "e8", "kblocks", "kgrids"),
    ("quantizers",),
    ("cases", "blocksums", "integrity", "trials", "oddvalues", "distortion", "isolated", "isolation", "conformance"),
    (
        "modelconfig",
        "rope_config",
        "rope_check",
        "omitted_keys",
        "layer_kinds",
        "module_source",
        "architectures",
        "key_names",
        "config_keys",
        "skeleton",
    ),
    ("experts", "stacks", "hostmath", "hostkernels", "hidden", "branches", "standins", "tracks"),
    ("filling", "narrow", "proof", "twin", "trial", "stream"),
    ("logits", "devicelogits", "positions", "scoring", "tokens", "offsets"),
    (
        "headers",
        "shards",
        "blobs",
        "weight_names",
        "checkpoint",
        "textfiles",
        "hub",
        "listing",
        "fetching",
        "planning",
        "forecast",
        "windows",
        "reading",
    ),
    ("calibration", "coverage", "encoding", "manifests", "artifacts", "building", "streamed", "compress"),
    ("resident", "decoding", "self_sampled", "calibration_text"),
    ("questionfiles", "passages", "tasks", "sampled", "questions", "writing", "asking"),
    ("measures",),
    ("parts", "textfigures"),
    (
        "deleted",
        "inspection",
        "measuring_locks",
        "source",
        "together",
        "quality",
        "growth",
        "measured",
        "floor",
        "checks",
        "calibration_check",
        "cellrecord",
        "bench",
        "selftest",
        "comparison",
        "results",
    ),
    ("figures", "report", "document", "codec_report", "plots", "publish"),
    (
        "items",
        "notices",
        "options",
        "short_options",
        "selection",
        "fixtures",
        "outcomes",
        "workers",
        "plugin",
        "collecting",
        "outlook",
        "pruning",
        "cli",
    ),
)
PLACE = {name: index for index, name in enumerate(name for row in ORDER for name in row)}
AVOIDED = {"utils", "common", "helper", "helpers", "manager", "base", "misc", "data", "info"}
FILES = sorted(PACKAGE.rglob("*.py"))


def stage_of(path):
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported_modules(path):
    """Names below pytest_quantbench that a file imports at run time; what only type checkers see does not count."""
    tree = ast.parse(path.read_text())
    typing_only = {
        node
        for block in ast.walk(tree)
        if isinstance(block, ast.If) and ast.unparse(block.test) == "TYPE_CHECKING"
        for node in ast.walk(block)
    }
    for node in ast.walk(tree):
        if node in typing_only:
            continue
        if isinstance(node, ast.ImportFrom) and node.module == "pytest_quantbench":
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("pytest_quantbench."):
            yield node.module.removeprefix("pytest_quantbench.")


def test_every_module_has_its_place():
    assert {stage_of(path) for path in FILES} - {"__init__", "tiny"} == set(PLACE)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_module_imports_only_what_stands_before_it(path):
    stage = stage_of(path)
    for name in imported_modules(path):
        target = name.partition(".")[0]
        if stage in ("tiny", "__init__"):
            assert target == "tiny", f"{path} imports {name}"
        elif stage == target:
            front = path.name == "__init__.py" or name == stage  # a family's front page knows all, and all know it
            assert front, f"{path}: siblings in a family never import each other ({name})"
        else:
            assert PLACE[target] < PLACE[stage], f"{path} imports {name}, which stands after it"


def test_no_file_has_a_name_that_says_nothing():
    assert not {path.stem for path in FILES} & AVOIDED


def test_files_and_functions_are_short():
    """Median file about 120 lines, none over 250; no function over 60."""
    lengths = {path: len(path.read_text().splitlines()) for path in FILES}
    for path, length in lengths.items():
        assert length <= 250, f"{path} has {length} lines"
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef):
                assert node.end_lineno - node.lineno < 60, f"{path}: {node.name}"


def test_judges_touch_no_model_and_no_file():
    for name in ("stats", "judge", "answers", "speed", "clusters", "proportions"):
        source = (PACKAGE / f"{name}.py").read_text()
        assert not {"mlx", "pathlib", "os"} & set(modules(source))


def test_measures_compute_no_verdict():
    for path in (PACKAGE / "measures").glob("*.py"):
        assert not {"judge", "stats"} & set(imported_modules(path))


def modules(source):
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield (node.module or "").partition(".")[0]


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
