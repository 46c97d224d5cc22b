"""Engines are found by name, imported when asked for, and missed with a sentence that says what to install."""

import importlib.util
import platform
import subprocess
import sys
import tomllib
from dataclasses import replace
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
from builders import engine
from engines.fake_engine import FakeEngine
from numpy_engine import NumpyEngine

from pytest_quantbench import engines
from pytest_quantbench.catalog.settings import Settings
from pytest_quantbench.engines import MEMBERS, builds, registry
from pytest_quantbench.engines.machine import describe
from pytest_quantbench.engines.registry import Member
from pytest_quantbench.errors import QuantbenchError, UnknownNameError
from pytest_quantbench.measures import throughput_session

ABSENT = Member(
    place="pytest_quantbench.engines.nothing:Nothing", packages=("package_of_nobody",), extras=("cpu", "cuda")
)
HERE = {name: replace(each, packages=("json",), on_cpu=()) for name, each in MEMBERS.items()}  # all is installed


@pytest.fixture
def without(monkeypatch):
    """Engines whose packages are not installed."""

    def miss(*missing):
        there = {name: replace(MEMBERS[name], packages=("package_of_nobody",), on_cpu=()) for name in missing}
        monkeypatch.setattr(registry, "MEMBERS", {**MEMBERS, **there})

    registry._made.cache_clear()
    yield miss
    registry._made.cache_clear()


def on(monkeypatch, system, machine):
    monkeypatch.setattr(platform, "system", lambda: system)
    monkeypatch.setattr(platform, "machine", lambda: machine)


def test_an_option_goes_before_the_environment_and_that_before_what_is_faster(monkeypatch):
    monkeypatch.setenv("QUANTBENCH_ENGINE", "mlx")
    assert engines.get() is engines.get("mlx") is engines.get(None)
    assert Settings().engine == "mlx"
    monkeypatch.setenv("QUANTBENCH_ENGINE", "nobody")
    assert engines.get("mlx").name == "mlx"
    with pytest.raises(UnknownNameError, match=r"'nobody'\. Choose from: auto, mlx, torch.*QUANTBENCH_ENGINE names it"):
        engines.get()
    monkeypatch.delenv("QUANTBENCH_ENGINE")
    assert Settings().engine == "auto"


def test_auto_is_mlx_on_metal_and_pytorch_elsewhere(monkeypatch, without):
    without()
    monkeypatch.setattr(registry, "MEMBERS", HERE)
    on(monkeypatch, "Darwin", "arm64")
    assert engines.automatic() == "mlx"
    assert engines.automatic("bfloat16") == "torch"  # MLX has no such walk
    on(monkeypatch, "Darwin", "x86_64")  # MLX has no wheels for it
    assert engines.automatic() == "torch"
    on(monkeypatch, "Linux", "x86_64")
    assert engines.automatic() == "torch"


@pytest.mark.parametrize(("system", "machine"), [("Darwin", "arm64"), ("Linux", "x86_64"), ("Linux", "aarch64")])
def test_auto_is_the_one_that_is_installed(monkeypatch, without, system, machine):
    on(monkeypatch, system, machine)
    without("torch")
    assert engines.automatic() == "mlx"
    with pytest.raises(QuantbenchError, match=r"with bfloat16 activations: package_of_nobody is not inst.* Run pip"):
        engines.get("auto", "bfloat16")
    assert engines.get("auto") is engines.get("mlx")
    monkeypatch.setattr(registry, "MEMBERS", {"mlx": ABSENT, "torch": replace(ABSENT, packages=("json",))})
    assert engines.automatic() == "torch"


@pytest.mark.parametrize("lacking", ["numba", "llvmlite"])
def test_pytorch_alone_is_not_its_engine_on_a_cpu(monkeypatch, without, lacking):
    """PyTorch that somebody has for other work: without what compiles kernels for a CPU it is not taken."""
    without()
    compilers = tuple("package_of_nobody" if name == lacking else "json" for name in MEMBERS["torch"].on_cpu)
    monkeypatch.setattr(registry, "MEMBERS", {**HERE, "torch": replace(HERE["torch"], on_cpu=compilers)})
    on(monkeypatch, "Linux", "x86_64")
    monkeypatch.setattr(builds, "NVIDIA", Path("no/such/file"))
    assert engines.automatic() == "mlx"
    for name in ("torch", "torch:cpu"):
        with pytest.raises(QuantbenchError, match=r"needs the package package_of_nobody, which .*quantbench\[torch\]'"):
            engines.chosen(name)
    with pytest.raises(QuantbenchError, match=r"bfloat16 activations: package_of_nobody is not installed"):
        engines.automatic("bfloat16")
    assert engines.chosen("torch:cuda") == "torch:cuda"  # needs no compiler for a CPU
    monkeypatch.setattr(builds, "NVIDIA", Path(__file__))
    assert engines.automatic() == engines.chosen("torch") == "torch"


def test_what_an_engine_needs_on_a_cpu_is_what_its_extra_brings():
    extras = tomllib.loads(Path("pyproject.toml").read_text())["project"]["optional-dependencies"]
    brought = {each.partition(">")[0] for each in extras["torch"]}
    assert {*MEMBERS["torch"].packages, *MEMBERS["torch"].on_cpu} == brought - {"triton"}


def test_a_module_of_an_engine_that_takes_what_is_missing_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "llvmlite", None)
    for module in [name for name in sys.modules if name.startswith("pytest_quantbench.engines.torch.kernels.cpu")]:
        monkeypatch.delitem(sys.modules, module)
    with pytest.raises(QuantbenchError, match=r"'torch' cannot be imported: .*llvmlite.*Run pip install .*\[torch\]'"):
        registry.part("torch", "pytest_quantbench.engines.torch.kernels.cpu.rows")


@pytest.mark.parametrize(
    ("nvidia", "cuda_of_torch", "cuda_of_mlx", "taken"),
    [
        (True, False, True, "mlx"),  # PyTorch's build for CPUs would leave the device idle
        (True, True, True, "torch"),
        (True, False, False, "torch"),
        (False, False, True, "torch"),
    ],
)
def test_auto_leaves_no_device_idle(monkeypatch, without, nvidia, cuda_of_torch, cuda_of_mlx, taken):
    without()
    on(monkeypatch, "Linux", "x86_64")
    monkeypatch.setattr(registry, "MEMBERS", HERE)
    monkeypatch.setattr(builds, "has_nvidia", lambda: nvidia)
    monkeypatch.setattr(builds, "torch_has_cuda", lambda: cuda_of_torch)
    monkeypatch.setattr(builds, "mlx_has_cuda", lambda: cuda_of_mlx)
    assert engines.automatic() == taken


@pytest.mark.parametrize(
    ("said", "has"),
    [
        ("cuda: Optional[str] = None\nhip: Optional[str] = None\n", False),
        ("cuda: Optional[str] = '13.0'\nhip: Optional[str] = None\n", True),
        ("cuda = None\nhip = '6.4'\n", True),
        (None, True),
    ],
)
def test_for_what_pytorch_was_built_is_read_of_its_files(monkeypatch, tmp_path, said, has):
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch" / "__init__.py").touch()
    if said is not None:
        (tmp_path / "torch" / "version.py").write_text(said)
    spec = importlib.util.spec_from_file_location("torch", tmp_path / "torch" / "__init__.py")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: spec)
    assert builds.torch_has_cuda() is has


def test_a_name_that_nobody_has_is_refused_with_the_choices():
    for name in ("mxl", "torch:tpu", "toch"):
        with pytest.raises(UnknownNameError, match=r"Choose from: auto, mlx, torch, torch:cpu.*package\.module:Class"):
            engines.get(name)


def test_a_device_of_an_engine_that_has_no_choice_is_refused():
    with pytest.raises(QuantbenchError, match=r"The engine 'mlx' takes no device, as in 'mlx:cpu'\. Leave out ':cpu'"):
        engines.get("mlx:cpu")


def test_activations_that_an_engine_does_not_have_are_refused_before_it_is_made():
    with pytest.raises(QuantbenchError, match=r"mlx' walks with float32 .* or choose --engine torch, which has both"):
        engines.chosen("mlx", "bfloat16")


def test_where_none_is_installed_the_extras_are_named(monkeypatch, without):
    without("mlx", "torch")
    on(monkeypatch, "Linux", "x86_64")
    with pytest.raises(QuantbenchError, match=r"package_of_nobody are not installed.*\[torch\]' or .*\[cpu\]'"):
        engines.get("auto")


@pytest.mark.parametrize(("name", "extra"), [("mlx", "cpu"), ("torch", "torch"), ("torch:cuda", "torch")])
def test_one_that_was_asked_for_and_is_not_installed_says_what_to_install(without, name, extra):
    without("mlx", "torch")
    with pytest.raises(QuantbenchError, match=rf"The engine '\w+' needs the package .*'pytest-quantbench\[{extra}\]'"):
        engines.get(name)


def test_one_whose_library_is_broken_says_what_is_wrong(monkeypatch, without):
    without()
    broken = replace(ABSENT, packages=("json",))
    monkeypatch.setattr(registry, "MEMBERS", {"mlx": broken})
    with pytest.raises(QuantbenchError, match=r"The engine 'mlx' cannot be imported: No module named"):
        engines.get("mlx")


class Own(NumpyEngine):
    """A third party's."""

    name, version = "own", "own 1"

    def __init__(self, activations="float32"):
        self.activations = activations


class Deaf(NumpyEngine):
    """Walks in float32, whatever it is made with."""

    def __init__(self, activations="float32"):
        pass


class Partial(FakeEngine):
    """What can no more than walk, and has not all that every engine has."""

    version, paths_are_mlx_lms = "partial 1", False

    def __init__(self, activations="float32"):
        super().__init__(4)


class Lacking:
    """No engine."""

    def __init__(self, activations="float32"):
        pass


def test_a_third_partys_engine_is_found_by_its_class_or_its_registered_name(monkeypatch, without):
    without("torch")
    found = engines.get("engines.test_finding_engines:Own", "bfloat16")
    assert (found.name, found.activations) == ("own", "bfloat16")
    assert engines.get("engines.test_finding_engines:Own", "bfloat16") is found
    point = EntryPoint(name="theirs", value="engines.test_finding_engines:Own", group=engines.GROUP)
    monkeypatch.setattr(registry, "entry_points", lambda group: [point] if group == engines.GROUP else [])
    assert engines.get("theirs").name == "own"
    assert "theirs" in engines.names()
    assert [each.name for each in engines.installed()] == ["mlx"]  # a third party's is asked for by its name alone


def test_an_engine_that_is_deaf_to_its_activations_is_refused():
    assert engines.get("engines.test_finding_engines:Deaf").activations == "float32"
    with pytest.raises(
        QuantbenchError, match=r"made with activations='bfloat16' and says that it walks with 'float32'"
    ):
        engines.get("engines.test_finding_engines:Deaf", "bfloat16")


def test_an_engine_that_only_walks_needs_nothing_of_whole_models():
    class Walks(NumpyEngine):
        can = frozenset({"walk"})

        def __getattribute__(self, name):
            if name == "load":
                raise AttributeError(name)
            return super().__getattribute__(name)

    assert registry.lacking(Walks()) == registry.lacking(NumpyEngine()) == []
    Walks.can = frozenset({"walk", "resident"})
    assert registry.lacking(Walks()) == ["load"]


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("engines.test_finding_engines:Lacking", "is no engine: it lacks name, can, packages"),
        ("engines.test_finding_engines:Partial", "it lacks open, outputs, .*free_bytes, release, decode"),
        ("engines.test_finding_engines:ABSENT", "is no engine: it is a Member, not a class"),
        ("engines.test_finding_engines:Nobody", "cannot be imported: .*Nobody"),
        ("nobodys_package:Class", "cannot be imported: No module named 'nobodys_package'"),
        (".relative:Class", "is not named as package.module:Class"),
        ("engines.fake_engine:FakeEngine", "cannot be made with activations='float32'"),
    ],
)
def test_a_class_that_is_no_engine_is_refused(name, why):
    with pytest.raises(QuantbenchError, match=why):
        engines.get(name)


def test_choosing_imports_neither_library():
    code = """
import sys
from pytest_quantbench import engines
from pytest_quantbench.catalog.settings import Settings
engines.automatic(), engines.names(), engines.chosen("mlx"), Settings()
heavy = ("numpy", "mlx.core", "mlx_lm", "torch", "transformers", "numba", "triton")
print([name for name in heavy if name in sys.modules])
"""
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_what_an_engine_cannot_do_is_refused_with_its_name():
    fake = FakeEngine(4)
    engines.need(fake, "walk")
    with pytest.raises(QuantbenchError, match="The engine 'fake' cannot hold a whole model in memory"):
        throughput_session.Session(engine=fake, artifact=None, tokenizer_directory=None, runs=1, new_tokens=1).start()


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
    assert mlx.answers_bytes(10) == 40
