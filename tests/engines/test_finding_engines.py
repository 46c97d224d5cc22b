"""Engines are found by name, imported when asked for, and missed with a sentence that says what to install."""

import subprocess
import sys

import pytest
from builders import engine
from engines.fake_engine import FakeEngine

from pytest_quantbench import engines
from pytest_quantbench.engines import MEMBERS, Member
from pytest_quantbench.engines.machine import describe
from pytest_quantbench.errors import QuantbenchError, UnknownNameError
from pytest_quantbench.measures import throughput

ABSENT = Member(place="pytest_quantbench.engines.nothing:Nothing", package="package_of_nobody", extras="cpu, cuda")


def test_the_default_is_the_first_that_is_installed(monkeypatch):
    monkeypatch.setattr(engines, "MEMBERS", {"absent": ABSENT, **MEMBERS})
    assert engines.get() is engines.get("mlx")
    assert engines.get().name == "mlx"


def test_a_name_that_nobody_has_is_refused_with_the_choices():
    with pytest.raises(UnknownNameError, match="mlx"):
        engines.get("mxl")


@pytest.mark.parametrize("name", [None, "absent"])
def test_where_none_is_installed_the_extras_are_named(monkeypatch, name):
    monkeypatch.setattr(engines, "MEMBERS", {"absent": ABSENT})
    with pytest.raises(QuantbenchError, match=r"No module named .*'pytest-quantbench\[cpu\]'"):
        engines.get(name)


def test_what_an_engine_cannot_do_is_refused_with_its_name():
    fake = FakeEngine(4)
    engines.need(fake, "walk")
    with pytest.raises(QuantbenchError, match="The engine 'fake' cannot hold a whole model in memory"):
        throughput.Session(engine=fake, artifact=None, tokenizer_directory=None, runs=1, new_tokens=1).start()


def test_whoever_imports_the_protocols_imports_no_engine():
    code = (
        "import sys, pytest_quantbench.engines; print([m for m in ('mlx.core', 'mlx_lm', 'torch') if m in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_a_machine_is_described_with_the_engines_own_packages():
    found = describe(engines.get())
    names = ["python", "pytest-quantbench", "mlx", "mlx-lm", "lm-eval", "transformers", "tokenizers", "datasets"]
    assert list(found.versions) == [*names, "numpy", "scipy"]  # as in records of earlier versions
    assert found.backend == engines.get().backend


def test_the_memory_and_the_speed_of_the_machine_are_told():
    mlx = engine(host=True)
    mlx.reset_peak()
    assert mlx.products_per_second(side=64, repeats=2) > 0
    assert mlx.peak_bytes() >= 2 * 4 * 64 * 64
    assert mlx.answers_bytes(10) == (40 if mlx.backend == "cpu" else 20)
