"""The pytest side: options, parametrization, fixtures, outcomes, summary. No arithmetic.

Loaded in every pytest run of the environment, most of which have nothing to do with it: importing it loads the standard
library and pytest only, and what listens to a session is registered when the first test asks for a fixture of ours.
"""

import pytest

from pytest_quantbench.plugin import fixtures
from pytest_quantbench.plugin.item_needs import MARKERS
from pytest_quantbench.plugin.option_names import PREFIX, SHORT_OPTIONS, add_options, given


def pytest_addoption(parser: pytest.Parser) -> None:
    """The options by the names that are always there."""
    add_options(parser, PREFIX)


def pytest_addhooks(pluginmanager: pytest.PytestPluginManager) -> None:
    """The hooks of our own, which other plugins and every conftest can have functions for."""
    from pytest_quantbench.plugin import hookspecs

    pluginmanager.add_hookspecs(hookspecs)


def pytest_configure(config: pytest.Config) -> None:
    """Fixtures and markers, which must be there before anything is collected."""
    config.pluginmanager.register(fixtures, "quantbench-fixtures")
    for name, meaning in MARKERS.items():
        config.addinivalue_line("markers", f"{name}: {meaning}")
    if given(config):  # a wrong name or number is a usage error, before anything is collected
        from pytest_quantbench.plugin.run import run_of

        run_of(config)
    elif config.pluginmanager.hasplugin(SHORT_OPTIONS) or _names_an_engine(config):  # else each file tells
        from pytest_quantbench.plugin import engine_choice

        engine_choice.check(config)


def _names_an_engine(config: pytest.Config) -> bool:
    """Whether the project that is tested may say which engine is meant; its file is not understood here."""
    pyproject = config.rootpath / "pyproject.toml"
    text = pyproject.read_bytes() if pyproject.is_file() else b""
    return b"tool.quantbench" in text and (b"engine" in text or b"activations" in text)


def pytest_report_header(config: pytest.Config) -> list[str]:
    """What the candidates are and what they are judged as; nothing in a session without candidates."""
    if "candidate" not in given(config):
        return []
    from pytest_quantbench.plugin.candidates import header
    from pytest_quantbench.plugin.run import run_of

    run = run_of(config)
    (model,) = run.models.values()
    return [f"quantbench: {line}" for line in header(run.candidates, model, run.settings.criteria)]


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_setupnodes(config: pytest.Config) -> None:
    """pytest-xdist: other processes will collect and run, and this one shows what they report."""
    from pytest_quantbench.plugin import outcomes, places, xdist

    config.pluginmanager.register(xdist.Controller(config), "quantbench-xdist")
    config.pluginmanager.register(outcomes, "quantbench-outcomes")
    places.register(config)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """One item for every cell, level or method that a test's fixtures of ours range over."""
    if "quantbench_run" in metafunc.fixturenames:
        from pytest_quantbench.plugin import parametrize

        parametrize.begin(metafunc.config)
        parametrize.parametrize(metafunc)
