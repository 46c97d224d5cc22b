"""The options of the plugin by their short names: `--model` beside `--qb-model`, and so on.

They are common words, which another project's conftest.py may use for its own, so nobody gets them unasked. Ask with
`pytest_plugins = ["pytest_quantbench.plugin.short_options"]` in the conftest.py at the root, or with
`-p pytest_quantbench.plugin.short_options` on a command line or in `addopts`.
"""

import os
from collections.abc import Generator, Sequence

import pytest

from pytest_quantbench.plugin.option_names import SHORT_PREFIX, add_options


def pytest_addoption(parser: pytest.Parser) -> None:
    """The short names, for the same values."""
    add_options(parser, SHORT_PREFIX)


@pytest.hookimpl(wrapper=True)
def pytest_report_header(
    config: pytest.Config,
) -> Generator[None, list[str | Sequence[str]], list[str | Sequence[str]]]:
    """Nothing of a configuration file where there is none: the suite names the null device (see suite)."""
    found = yield
    if str(config.inipath) != os.devnull:
        return found
    lines = [[each] if isinstance(each, str) else each for each in found]
    return [[line for line in each if not line.startswith("configfile: ")] for each in lines]
