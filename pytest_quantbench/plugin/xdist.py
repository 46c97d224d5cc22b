"""Under pytest-xdist, in the process that collects and runs nothing: which worker gets an item, and what workers did.

`--dist loadgroup` keeps a model's items on one worker, so that they share their walks. xdist tells groups apart by
marks that it writes into node ids, which pytest 9 does not show it any more. The model stands in the id of every item
of ours, and is read from there; groups of others count where they are to be seen.
"""

import re
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

import pytest
from xdist.scheduler import LoadGroupScheduling

# In the id of every item with a cell, behind the model's name.
LEVEL = re.compile(r"-(bf16|int8|int4|int3|int2)\b")


class ByModel(LoadGroupScheduling):  # type: ignore[misc]
    """Items whose ids name the same model go to the same worker; all others as xdist itself has them.

    `models` is asked for their names when the first id looks like a cell's: it reads options and settings.
    """

    def __init__(self, config: pytest.Config, log: Any, models: Callable[[], Sequence[str]]) -> None:
        super().__init__(config, log)
        self._models_of_session = models

    @cached_property
    def _models(self) -> Sequence[str]:
        return self._models_of_session()

    def _split_scope(self, nodeid: str) -> str:
        scope: str = super()._split_scope(nodeid)
        inside = nodeid.partition("[")[2]
        if scope != nodeid or not LEVEL.search(inside):
            return scope
        return max((name for name in self._models if inside.startswith(f"{name}-")), key=len, default=nodeid)


class Controller:
    """The hooks that this process needs. It learns of a cell from the ids and the reports that workers send."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config

    def pytest_xdist_make_scheduler(self, config: pytest.Config, log: Any) -> ByModel | None:
        """Where groups are asked for: xdist's own way of sharing them out, which also sees models."""
        return ByModel(config, log, self._models) if config.getvalue("dist") == "loadgroup" else None

    def _models(self) -> Sequence[str]:
        from pytest_quantbench.plugin.run import run_of

        try:
            return list(run_of(self._config).models)
        except pytest.UsageError:  # a worker with an item of ours would have said so, and sent no ids
            return ()

    def pytest_testnodedown(self, node: Any) -> None:
        """A worker is done: what it says of cells, if it had any, goes into this process's summary."""
        told = getattr(node, "workeroutput", {}).get("quantbench")
        if told is None:
            return
        from pytest_quantbench.plugin.run import run_of
        from pytest_quantbench.plugin.summary import Summary

        run = run_of(self._config)
        run.add(told)
        if not self._config.pluginmanager.hasplugin(Summary.NAME):
            self._config.pluginmanager.register(Summary(run), Summary.NAME)
