"""pytest-xdist's `--dist loadgroup`: a model's items on one worker, so that they share their walks.

xdist tells workers apart by marks that it writes into node ids, which pytest 9 does not show it any more. The model
stands in the id of every item of ours, and is read from there; groups of others count where they are to be seen.
"""

from collections.abc import Sequence
from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling


class ByModel(LoadScopeScheduling):  # type: ignore[misc]
    """Items whose ids name the same model, or that xdist has put into the same group, go to the same worker."""

    def __init__(self, config: pytest.Config, log: Any, models: Sequence[str]) -> None:
        super().__init__(config, log)
        self._models = models

    def _split_scope(self, nodeid: str) -> str:
        bare, _, group = nodeid.rpartition("@")
        if bare and "]" not in group:
            return group
        inside = nodeid.partition("[")[2]
        return max((name for name in self._models if inside.startswith(f"{name}-")), key=len, default=nodeid)
