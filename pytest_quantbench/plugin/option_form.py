"""What an option of the plugin is. Loaded in every pytest run of an environment, so with the standard library only."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """One option. `setting` is the field of `Settings` that it fills as it is; None: `plugin.run` makes something of
    it. `read` turns what was typed into the value, and raises ValueError with what to give instead.
    """

    help: str
    setting: str | None = None
    read: Callable[[str], Any] = str
    metavar: str | None = None
    repeatable: bool = False
    switch: bool | None = None  # what an option without a value sets
