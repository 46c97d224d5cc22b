"""The quantizer of docs/add-a-quantizer.md: a whole method in one short file that conforms, and runs by its class."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from builders import open_model

from pytest_quantbench import quantizers
from pytest_quantbench.catalog.models import TINY_DIRECTORY
from pytest_quantbench.catalog.recipes import recipe
from pytest_quantbench.compress.pipeline import compress
from pytest_quantbench.measures.weights import snr_db
from pytest_quantbench.workbench.conformance import CHECKS, failures_across
from pytest_quantbench.workbench.side_by_side import methods

PAGE = Path(__file__).parents[2] / "docs" / "add-a-quantizer.md"
NAME = "mymethod:Absmax"
LONGEST = 60  # lines


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The sample in a folder that is on the path, for this process and those that it starts."""
    (sample,) = re.findall(r"```python\n# mymethod\.py\n(.*?)```", PAGE.read_text(), re.DOTALL)
    directory = tmp_path_factory.mktemp("sample")
    (directory / "mymethod.py").write_text(sample)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(directory)
        yield directory
    quantizers.get.cache_clear()
    sys.modules.pop("mymethod", None)


@pytest.fixture(scope="module")
def widths(folder):
    return [quantizer for _, _, quantizer in methods([NAME])]


def test_it_is_one_short_file_that_the_linter_passes(folder):
    file = folder / "mymethod.py"
    assert len(file.read_text().splitlines()) <= LONGEST
    command = [
        sys.executable,
        "-m",
        "ruff",
        "check",
        "--isolated",
        "--select",
        "E,F,B,UP",
        "--line-length",
        "120",
        file,
    ]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stdout


@pytest.mark.parametrize("check", CHECKS.values(), ids=CHECKS)
def test_it_conforms_at_every_width(widths, check):
    assert [quantizer.bits for quantizer in widths] == [8, 6, 5, 4, 3, 2]
    for quantizer in widths:
        check(quantizer)


def test_its_error_falls_with_bits(widths):
    assert [problem for _, problem in failures_across(widths)] == [None]


def test_a_recipe_names_it_by_its_class(folder, tmp_path):
    source = open_model(TINY_DIRECTORY)
    artifact = compress(source, recipe(f"int4-{NAME}"), 0, tmp_path)
    name = next(name for name in artifact.names if name.endswith("layers.1.mlp.down_proj.weight"))
    assert artifact.tensor(name).quantizer == NAME
    original, decoded = source.array(name).astype("float32").ravel(), artifact.float32(name).ravel()
    assert snr_db(original, decoded - original) > 17
