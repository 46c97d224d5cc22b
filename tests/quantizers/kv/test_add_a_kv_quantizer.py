"""The method of docs/add-a-kv-quantizer.md: a whole one in one short file that conforms, and is named by its class."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from pytest_quantbench import quantizers
from pytest_quantbench.cli.main import main
from pytest_quantbench.quantizers import kv
from pytest_quantbench.quantizers.kv.held_bits import HeldLayer, bits_per_number

PAGE = Path(__file__).parents[3] / "docs" / "add-a-kv-quantizer.md"
NAME = "mycache:LogCache"
LONGEST = 60  # lines


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The sample in a folder that is on the path."""
    (sample,) = re.findall(r"```python\n# mycache\.py\n(.*?)```", PAGE.read_text(), re.DOTALL)
    directory = tmp_path_factory.mktemp("sample")
    (directory / "mycache.py").write_text(sample)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(directory)
        yield directory
    kv.get.cache_clear()
    sys.modules.pop("mycache", None)


def test_it_is_one_short_file_that_the_linter_passes(folder):
    file = folder / "mycache.py"
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


def test_it_conforms_at_every_width(folder, capsys):
    assert main(["conform", "--kv", NAME]) == 0
    assert f"ok     {NAME} at 2 bits: is_causal" in capsys.readouterr().out


def test_a_recipe_names_it_by_its_class(folder):
    joined = quantizers.recipe_of(f"int4+kv3-{NAME}")
    method = kv.make(joined.cache)
    assert (method.name, joined.of_weights.id) == ("logcache", "int4")
    layer = HeldLayer(heads=1, key_channels=64, value_channels=64)
    assert bits_per_number(method, [layer], 64) == (3 + 16 / 64 + 16) / 2  # half of 64 tokens are in the window


def test_its_numbers_are_powers_of_two_of_the_largest(folder):
    numbers = np.array([[[8, -4.1, 1.9, 0, 0.01]]], np.float32)
    form = kv.make(quantizers.recipe_of(f"kv3-{NAME}").cache).form(5)
    assert form.given_back("keys", 0, numbers).tolist() == [[[8, -4, 2, 0, 0]]]
