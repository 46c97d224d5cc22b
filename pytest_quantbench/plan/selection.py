"""What a command line selects, before any of it runs. The plugin fills it in; nothing here knows pytest."""

from collections.abc import Sequence
from dataclasses import dataclass

from pytest_quantbench.catalog.models import Model
from pytest_quantbench.catalog.recipes import Recipe
from pytest_quantbench.catalog.settings import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """The cells that are selected, the checks that any of their tests makes (`t1`, …), and the session's options."""

    settings: Settings
    cells: Sequence[tuple[Model, Recipe]]
    checks: frozenset[str]
    option_prefix: str = "--"  # what its options begin with where it is selected
