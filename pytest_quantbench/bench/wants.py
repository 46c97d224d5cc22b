"""What is asked for, what of it nobody has, and the walks that this takes. Pure functions: no model is looked at."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from pytest_quantbench.bench.target import Target
from pytest_quantbench.measures import AnyMeasure, Share, WalkMeasure


@dataclass(frozen=True, slots=True, kw_only=True)
class Want:
    """Samples of a target: as many `items` at least, as far as there are so many; None: as the settings say. `of`: the
    text or the task that they are of; None: the first.
    """

    target: Target
    measure: AnyMeasure
    items: int | None = None
    of: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Lack:
    """What has to be read for samples of a target that nobody has."""

    target: Target
    measure: WalkMeasure[Any]
    share: Share[Any]


def with_reference(want: Want) -> list[Want]:
    """The same of the reference that a target is compared with, and then the want."""
    paired = want.target.paired
    return [want] if paired is None else [replace(want, target=paired), want]


def together(lacking: Sequence[Lack]) -> list[list[Lack]]:
    """The walks that this takes, in the order given: targets share one that lack the same of every measure, and are run
    with the same config.
    """
    by_target: dict[Target, list[Lack]] = {}
    for lack in sorted(lacking, key=lambda lack: lack.measure.label):
        by_target.setdefault(lack.target, []).append(lack)
    walks: dict[str, list[Lack]] = {}
    for target in dict.fromkeys(lack.target for lack in lacking):
        own = by_target[target]
        candidate = target.recipe.candidate
        config = target.id if candidate is not None and candidate.own_config else None
        walks.setdefault(json.dumps([config, *([lack.measure.name, lack.share.work] for lack in own)]), []).extend(own)
    return list(walks.values())


def doing(lack: Lack) -> str:
    """What a session that waits for these samples is told that another one is doing."""
    rounded = " with other activations" if lack.target.rounds else ""
    return f"measuring {lack.measure.label} of {lack.target.id}{rounded}"


def references(lacking: Sequence[Lack]) -> set[str]:
    """What is waited for only where nothing else is wanted: the reference is taken along everywhere."""
    wanted = {doing(lack) for lack in lacking}
    of_references = {doing(lack) for lack in lacking if lack.target.recipe.is_identity}
    return of_references if of_references < wanted else set()
