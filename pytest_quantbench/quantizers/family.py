"""How the members of a family of methods are found by name, checked, and made with parameters.

Members are registered in a group of entry points, in which this package has its own as a third party would, or named
`package.module:Class`. None is imported before it is asked for.
"""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import entry_points
from operator import attrgetter
from typing import Any

from pytest_quantbench.errors import QuantbenchError, unknown


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """Classes that are dataclasses of their parameters. `kind` is what a member is called where something is wrong,
    `required` what it has, `page` where that is told.
    """

    group: str
    kind: str
    required: tuple[str, ...]
    page: str

    def names(self) -> list[str]:
        """Every registered member's name, sorted. Imports none of them."""
        return sorted({point.name for point in entry_points(group=self.group)})

    def get(self, name: str) -> type[Any]:
        """The class of a member by registered name or `package.module:Class`.

        Raises UnknownNameError for a name nobody registered, QuantbenchError where it cannot be imported or is none.
        """
        points = {point.name: point.value for point in entry_points(group=self.group)}
        if name not in points and ":" not in name:
            raise unknown(self.kind, name, list(points), "Or name your own as package.module:Class.")
        module, _, attribute = points.get(name, name).partition(":")
        if not (module and attribute) or module.startswith("."):
            raise QuantbenchError(f"The {self.kind} {name!r} is not named as package.module:Class.")
        try:
            found = attrgetter(attribute)(importlib.import_module(module))
        except (ImportError, AttributeError, SyntaxError) as error:
            raise QuantbenchError(f"The {self.kind} {name!r} cannot be imported: {error}.") from error
        return self._checked(name, found)

    def make(self, name: str, parameters: Mapping[str, Any], member: Any) -> Any:
        """The member, made with parameters. Raises QuantbenchError naming one that it does not have, or values that it
        refuses.
        """
        fields = field_names(member)
        for parameter in parameters:
            if parameter not in fields:
                raise unknown(f"parameter of {name}", parameter, fields)
        try:
            return member(**parameters)
        except (TypeError, ValueError) as error:
            shown = ", ".join(f"{name} = {value!r}" for name, value in parameters.items()) or "no parameters"
            raise QuantbenchError(f"{name} cannot be made with {shown}: {error}.") from error

    def _checked(self, name: str, found: object) -> type[Any]:
        """The same, a class with what is required. Raises QuantbenchError saying what it is instead."""
        if not isinstance(found, type):
            raise QuantbenchError(f"{name!r} is no {self.kind}: it is a {type(found).__name__}, not a class.")
        abstract: frozenset[str] = getattr(found, "__abstractmethods__", frozenset())
        lacking = [each for each in self.required if not hasattr(found, each) or each in abstract]
        if lacking or not dataclasses.is_dataclass(found):
            told = f"it lacks {', '.join(lacking)}" if lacking else "it is no dataclass"
            raise QuantbenchError(f"{name!r} is no {self.kind}: {told}. {self.page} shows what one has.")
        return found


@cache
def field_names(member: type[object]) -> tuple[str, ...]:
    """The names of a member's parameters."""
    return tuple(field.name for field in dataclasses.fields(member))  # type: ignore[arg-type]
