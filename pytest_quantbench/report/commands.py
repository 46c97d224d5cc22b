"""The commands that records were measured by, with the cells that each has measured."""

from collections.abc import Sequence

from pytest_quantbench.record.schema import Record


def commands_of(records: Sequence[Record]) -> dict[str, list[Record]]:
    """Records by the commands that parts of them were measured by, in the records' order."""
    found: dict[str, list[Record]] = {}
    for record in records:
        for command in record.commands:
            found.setdefault(command, []).append(record)
    return found
