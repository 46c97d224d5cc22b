"""What a session with cells tells the hooks, and the plugins of our own on them, registered together."""

import pytest

from pytest_quantbench.plugin import badges, github, tracking, unsettled
from pytest_quantbench.plugin.telling import Telling


def register(config: pytest.Config) -> None:
    """Let this process, which a user sees, call the hooks, and do by them what this package does."""
    config.pluginmanager.register(Telling(config), Telling.NAME)
    config.pluginmanager.register(github.Github(config), github.Github.NAME)
    for module in (badges, tracking, unsettled):
        config.pluginmanager.register(module, f"quantbench-{module.__name__.rpartition('.')[2]}")
