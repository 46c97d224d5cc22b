"""Where the time of a session went, in sentences: by stage, and the cells that took most of it."""

from collections import defaultdict
from collections.abc import Mapping

from pytest_quantbench.progress import duration

LEAST_SECONDS = 10.0  # of shorter sessions nobody asks
CELLS_SHOWN = 5


def told(spent: Mapping[tuple[str, str], float], session_seconds: float, processes: int = 1) -> list[str]:
    """Lines on the seconds by stage and cell, as they were counted, of a session that took so long; those of several
    `processes` at a time add up to more than that. Nothing of a short session.
    """
    if session_seconds < LEAST_SECONDS:
        return []
    stages, cells = _sums(spent, 0), _sums(spent, 1)
    named = ", ".join(f"{name} {duration(seconds)}" for name, seconds in stages.items() if seconds >= 0.5)
    beside = f", counted over {processes} processes" if processes > 1 else ""
    lines = [f"time: {duration(session_seconds)} in all{beside}, of which {named}"] if named else []
    most = [f"{cell} {duration(seconds)}" for cell, seconds in cells.items() if cell and seconds >= 0.5][:CELLS_SHOWN]
    return [*lines, f"most of it for: {', '.join(most)}"] if lines and most else lines


def _sums(spent: Mapping[tuple[str, str], float], place: int) -> dict[str, float]:
    """Seconds by the stage (0) or the cell (1), the most first."""
    found: dict[str, float] = defaultdict(float)
    for key, seconds in spent.items():
        found[key[place]] += seconds
    return dict(sorted(found.items(), key=lambda each: -each[1]))
