"""Under pytest-xdist, in the process that collects and runs nothing: which worker gets an item, and what workers did.

`--dist loadgroup` keeps a model's items on one worker, so that they share their walks. xdist tells groups apart by
marks that it writes into node ids, which pytest 9 does not show it any more. So workers, who see the items, say which
of ours go together, in a folder that this process makes for them; groups of others count where they are to be seen.
Nothing is asked of an id itself: a project without cells may have ids like a cell's.
"""

import json
import os
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from xdist.scheduler import LoadGroupScheduling

from pytest_quantbench.plugin.item_needs import is_ours
from pytest_quantbench.plugin.refusals import REFUSED
from pytest_quantbench.plugin.suite import COMMAND, typed_command

FOLDER = "quantbench_groups"  # in what a worker is given: where it says which items go together


def tell_groups(config: pytest.Config, items: Sequence[pytest.Item]) -> None:
    """A worker's part: write the groups of our items, by node id. A worker on another computer does not see the folder
    and tells nothing, and its session's items are shared out as xdist itself has them.
    """
    given: Mapping[str, str] = getattr(config, "workerinput", {})
    if FOLDER not in given or not os.path.isdir(given[FOLDER]):
        return
    groups = {item.nodeid: group for item in items if is_ours(item) and (group := _group(item))}
    Path(given[FOLDER], given["workerid"]).write_text(json.dumps(groups))


def _group(item: pytest.Item) -> str:
    """All groups that an item is marked with, as xdist joins them; nothing for an item in none."""
    marks = list(item.iter_markers("xdist_group"))
    return "_".join(sorted({str(mark.args[0] if mark.args else mark.kwargs.get("name", "default")) for mark in marks}))


class ByModel(LoadGroupScheduling):  # type: ignore[misc]
    """Items of ours go together as workers say, all others as xdist itself has them.

    `told` is called once, when the first item is shared out: all workers have collected by then.
    """

    def __init__(self, config: pytest.Config, log: Any, told: Callable[[], Mapping[str, str]]) -> None:
        super().__init__(config, log)
        self._told = told

    @cached_property
    def _groups(self) -> Mapping[str, str]:
        return self._told()

    def _split_scope(self, nodeid: str) -> str:
        scope: str = super()._split_scope(nodeid)
        return self._groups.get(nodeid, scope) if scope == nodeid else scope


class Controller:
    """The hooks that this process needs. It learns of a cell from what workers tell and report."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._folder: Path | None = None
        if config.getvalue("dist") == "loadgroup":
            folder = TemporaryDirectory(prefix="quantbench-groups-")
            config.add_cleanup(folder.cleanup)
            self._folder = Path(folder.name)

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        """Tell a worker what was typed, and where to say which of its items go together."""
        node.workerinput[COMMAND] = typed_command(self._config)
        if self._folder is not None:
            node.workerinput[FOLDER] = str(self._folder)

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_make_scheduler(self, config: pytest.Config, log: Any) -> ByModel | None:
        """Where groups are asked for: xdist's own way of sharing them out, and of ours what workers say."""
        return None if self._folder is None else ByModel(config, log, self._groups)

    def _groups(self) -> dict[str, str]:
        """What all workers said, who have the same items."""
        folder = self._folder
        found = [] if folder is None else [json.loads(file.read_text()) for file in folder.iterdir()]
        return {nodeid: group for groups in found for nodeid, group in groups.items()}

    def pytest_testnodedown(self, node: Any) -> None:
        """A worker is done: what it says of cells, if it had any, goes into this process's summary.

        Raises UsageError in the words of a worker that refused to begin.
        """
        output: Mapping[str, Any] = getattr(node, "workeroutput", {})
        if REFUSED in output:
            raise pytest.UsageError(output[REFUSED])
        told = output.get("quantbench")
        if told is None:
            return
        from pytest_quantbench.plugin.run import run_of
        from pytest_quantbench.plugin.summary import Summary

        run = run_of(self._config)
        run.add(told)
        if not self._config.pluginmanager.hasplugin(Summary.NAME):
            self._config.pluginmanager.register(Summary(run), Summary.NAME)
