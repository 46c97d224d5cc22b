"""Which matrices of a mixture of experts give the experts their tokens, found by their place and their shape."""

import re
from collections.abc import Iterable, Mapping


def deciding(rows: Mapping[str, int], mixtures: Mapping[str, int], layers: str) -> dict[str, int]:
    """What gives the experts their tokens: the paths of such matrices' modules, and how many rows each has.

    `rows`: of every module with a matrix, by its path; `mixtures`: the modules that hold the matrices of all experts,
    and how many experts those are; `layers`: the path of the list of decoder layers.

    It lies beside the experts and has a row for every expert. Where the module around them has none, the modules around
    that are asked, up to the decoder layer, and there a name has to speak for it too, for keys may have as many rows.
    A single row weighs a shared expert.
    """
    found: dict[str, int] = {}
    for block, count in mixtures.items():
        around = block.rpartition(".")[0]
        beside = {path for path in _within(around, rows) if rows[path] == count or ".router." in path}
        while not beside and around.rpartition(".")[0].startswith(f"{layers}."):
            around = around.rpartition(".")[0]
            beside = {path for path in _within(around, rows) if rows[path] == count and re.search("rout|gate", path)}
        single = {path for path in _within(around, rows) if rows[path] == 1}
        found |= {path: rows[path] for path in beside | single}
    return found


def _within(around: str, paths: Iterable[str]) -> list[str]:
    return [path for path in paths if path.startswith(f"{around}.")]
