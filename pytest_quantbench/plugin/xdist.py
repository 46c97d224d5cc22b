"""pytest-xdist's `--dist loadgroup`: a model's items on one worker, so that they share their walks.

xdist tells workers apart by marks that it writes into node ids, which pytest 9 does not show it any more. The model
stands in the id of every item of ours, and is read from there; groups of others count where they are to be seen.
"""

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

import pytest
from xdist.scheduler import LoadGroupScheduling

LEVELS = ("bf16", "int8", "int4", "int3", "int2")  # in the id of every item with a cell, behind the model's name


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
        if scope != nodeid or not any(f"-{level}" in inside for level in LEVELS):
            return scope
        return max((name for name in self._models if inside.startswith(f"{name}-")), key=len, default=nodeid)
