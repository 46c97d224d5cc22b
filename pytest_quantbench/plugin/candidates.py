"""The candidates of a session: found, opened, named, and given the level whose criteria they are judged by."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from pytest_quantbench.catalog.candidates import Candidate, printable
from pytest_quantbench.catalog.criteria import METRICS, Overrides, limit_for
from pytest_quantbench.catalog.models import Model, original
from pytest_quantbench.catalog.recipes import Recipe, is_like_a_recipe, recipe_of_candidate
from pytest_quantbench.checkpoints.formats import open_candidate
from pytest_quantbench.checkpoints.formats.protocol import Holding, layer_bits
from pytest_quantbench.engines.runtimes import Runtime, runtime_for
from pytest_quantbench.errors import QuantbenchError
from pytest_quantbench.fetch.candidates import find, in_use, local_path, plain_name

SHORT_NAME = 4  # a format's name of so many letters is an abbreviation


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """A candidate whose files are here, and have been opened."""

    recipe: Recipe
    path: Path
    holding: Holding
    bits_per_weight: float

    @property
    def name(self) -> str:
        """As its cells are called, and found by `-k`."""
        return self.recipe.id

    @property
    def runtime(self) -> Runtime | None:
        """What runs its files where they are deployed; None where nothing here does."""
        return runtime_for(self.holding.format)


def open_all(
    given: Sequence[tuple[str | None, str]], offline: bool, working: ExitStack, *, own_config: bool = False
) -> list[Opened]:
    """Candidates by the names, if any, and sources that were given; no session deletes them until `working` is closed.
    `own_config`: they are run with their own. Raises QuantbenchError for a name that two have or a recipe could have,
    and for what cannot be fetched or opened.
    """
    found: dict[str, Opened] = {}
    for name, source in given:
        working.enter_context(in_use(source))
        each = _opened(name, source, offline, own_config)
        if (other := found.setdefault(each.name.casefold(), each)) is not each:
            raise QuantbenchError(
                f"Two candidates are called {each.name}, {other.path} and {each.path}. Name one of them with "
                f"--candidate NAME={source}."
            )
    return list(found.values())


def _opened(name: str | None, source: str, offline: bool, own_config: bool) -> Opened:
    path = find(source, offline)
    called = name or printable(plain_name(source, path))
    if is_like_a_recipe(called):
        raise QuantbenchError(
            f"A candidate cannot be called {called}, which a recipe is. Name it with --candidate NAME={source}."
        )
    whole = source if local_path(source) is None else str(path)
    candidate = Candidate(name=called, source=whole, own_config=own_config)
    holding = open_candidate(path)
    bits = layer_bits(holding.stored())
    return Opened(recipe=recipe_of_candidate(candidate, bits), path=path, holding=holding, bits_per_weight=bits)


def reference_of(candidates: Sequence[Opened], models: Sequence[str], option: str = "--model") -> Model:
    """The one original that candidates are compared with. Raises QuantbenchError, which proposes what their files name,
    where none is given, and for several.
    """
    several = list(dict.fromkeys(models))
    if len(several) == 1:
        return original(several[0], option)
    if several:
        raise QuantbenchError(
            f"Candidates are compared with one original, and there are {len(several)}: {', '.join(several)}. Give one "
            f"{option}, and run again for others."
        )
    for each in candidates:
        if (base := each.holding.claims().base_model) is not None:
            raise QuantbenchError(
                f"Give the original with {option} {base}: {each.path.name} names it as its base model. A local copy "
                f"will do, too."
            )
    names = ", ".join(each.path.name for each in candidates)
    raise QuantbenchError(f"Give the original that {names} was made from with {option} PATH_OR_HUB_ID.")


def header(candidates: Sequence[Opened], model: Model, overrides: Overrides) -> Iterator[str]:
    """What pytest's header says of each: `candidate q4km: GGUF, 4.85 bits per weight in its layers: judged as int4`."""
    for each in candidates:
        form = each.holding.format
        limits = [limit_for(metric, model.name, each.recipe, overrides) for metric in METRICS]
        judged = "judged" if any(limit is not None for limit in limits) else "measured, without a limit,"
        yield (
            f"candidate {each.name}: {form.upper() if len(form) <= SHORT_NAME else form}, "
            f"{each.bits_per_weight:.2f} bits per weight in its layers: {judged} as {each.recipe.level}"
        )
    yield from _unused(candidates, overrides.candidate)


def _unused(candidates: Sequence[Opened], tables: Mapping[str, object]) -> Iterator[str]:
    names = [each.name for each in candidates]
    for name in tables:
        if name not in names:
            yield f"[tool.quantbench.candidates.{name}] is of none of them"
