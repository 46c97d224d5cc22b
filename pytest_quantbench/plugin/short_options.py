"""The options of the plugin by their short names: `--model` beside `--qb-model`, and so on.

They are common words, which another project's conftest.py may use for its own, so nobody gets them unasked. Ask with
`pytest_plugins = ["pytest_quantbench.plugin.short_options"]` in the conftest.py at the root, or with
`-p pytest_quantbench.plugin.short_options` on a command line or in `addopts`.
"""

import pytest

from pytest_quantbench.plugin.option_names import SHORT_PREFIX, add_options


def pytest_addoption(parser: pytest.Parser) -> None:
    """The short names, for the same values."""
    add_options(parser, SHORT_PREFIX)
