from typing import Any


def run_all(programs: Any, **rest: Any) -> list[Any]:
    assert not programs
    return []
