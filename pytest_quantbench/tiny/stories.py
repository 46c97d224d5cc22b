"""Short connected stories whose last sentence follows from what was told, and endings that do not follow.

Each plot draws its people and things, tells a few sentences with free detail between them, and knows the one right
ending and endings of the same form that are wrong for this story: another person of it, another place, a number
that is off. Some need only the story (who has the lamp now?), some need the world too (where is home?).
"""

from collections.abc import Callable
from dataclasses import dataclass

from pytest_quantbench.tiny.world import (
    ADJECTIVES,
    COLOURS,
    FEELINGS,
    OBJECTS,
    PETS,
    PLACES,
    TIMES,
    TRADES,
    WEATHER,
    Draws,
    World,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Story:
    """A story without its last sentence, that sentence, and at least three that would be wrong."""

    context: str
    ending: str
    wrong: tuple[str, ...]


def _people(world: World, draws: Draws, count: int) -> list[str]:
    chosen: list[str] = []
    while len(chosen) < count:
        left = [name for name in world.people if name not in chosen]
        chosen.append(draws.pick_weighted(left, [world.weights[name] for name in left]))
    return chosen


def _opening(draws: Draws) -> str:
    return f"One {draws.pick(WEATHER)} {draws.pick(TIMES)}"


def _things(draws: Draws) -> str:
    return f"a {draws.pick(ADJECTIVES)} {draws.pick(list(OBJECTS))} and a {draws.pick(ADJECTIVES)} {draws.pick(PETS)}"


def _detail(draws: Draws, name: str) -> str:
    return draws.pick(_DETAILS)(draws, name)


_DETAILS: tuple[Callable[[Draws, str], str], ...] = (
    lambda d, name: f"The sky was {d.pick(COLOURS)} and the road {d.pick(ADJECTIVES)}.",
    lambda d, name: f"{d.pick(FEELINGS).capitalize()}, {name} sang a {d.pick(ADJECTIVES)} {d.pick(TIMES)} song.",
    lambda d, name: f"A {d.pick(ADJECTIVES)} {d.pick(COLOURS)} {d.pick(PETS)} slept near the {d.pick(PLACES)}.",
    lambda d, name: f"{name} saw {_things(d)} and felt {d.pick(FEELINGS)}.",
    lambda d, name: f"{d.pick(range(2, 20))} {d.pick(ADJECTIVES)} {d.pick(PETS)}s looked at {name}.",
)


def _gift(world: World, draws: Draws) -> Story:
    a, b, c = _people(world, draws, 3)
    thing, adjective = draws.pick(list(OBJECTS)), draws.pick(ADJECTIVES)
    passed = draws.pick((True, False))
    context = [f"{_opening(draws)} {a} found a {adjective} {thing} near the {draws.pick(PLACES)}.", _detail(draws, a)]
    context.append(f"{a} gave the {thing} to {b}.")
    context.append(f"{b} gave it to {c}." if passed else f"{c} only looked at it.")
    context.append(_detail(draws, a))
    owner = c if passed else b
    return _story(context, f"Now the {thing} belongs to {{}}.", owner, [b, c, a, *world.people])


def _left_behind(world: World, draws: Draws) -> Story:
    a, b, c = _people(world, draws, 3)
    thing = draws.pick(list(OBJECTS))
    context = [f"{_opening(draws)} {a} had a {draws.pick(ADJECTIVES)} {thing}.", _detail(draws, a)]
    context.append(f"{a} left the {thing} with {b} and walked to the {draws.pick(PLACES)} with {c}.")
    context.append(_detail(draws, c))
    return _story(context, f"So {a} went back for the {thing} to {{}}.", b, [c, a, *world.people])


def _counting(world: World, draws: Draws) -> Story:
    a, b = _people(world, draws, 2)
    thing = draws.pick(list(OBJECTS))
    more = draws.pick((True, False))
    have, change = draws.pick(range(6, 16)), draws.pick(range(2, 6))
    context = [f"{_opening(draws)} {a} had {have} {draws.pick(ADJECTIVES)} {thing}s.", _detail(draws, b)]
    context.append(f"{b} gave {a} {change} more." if more else f"{a} gave {b} {change} of them.")
    now = have + change if more else have - change
    return _story(context, f"Then {a} had {{}} {thing}s.", now, [now + 1, now - 1, now + 2, have])


def _homeward(world: World, draws: Draws) -> Story:
    a, b = _people(world, draws, 2)
    home, there = world.facts[a, "town"], world.facts[b, "town"]
    context = [f"{_opening(draws)} {a} came to see {b} in {there}.", _detail(draws, b)]
    context.append(f"They talked about the {draws.pick(ADJECTIVES)} {draws.pick(list(OBJECTS))}.")
    context.append(f"At last {a} was {draws.pick(FEELINGS)} and wanted to go home.")
    return _story(context, f"So {a} went home to {{}}.", home, [there, *world.towns])


def _to_work(world: World, draws: Draws) -> Story:
    (a,) = _people(world, draws, 1)
    trade = world.facts[a, "trade"]
    place, tool = TRADES[trade]
    context = [f"{_opening(draws)} {a} was {draws.pick(FEELINGS)} and had much work to do.", _detail(draws, a)]
    if draws.pick((True, False)):
        return _story(context, f"So {a} the {trade} took the {{}}.", tool, [tool for _, tool in TRADES.values()])
    return _story(context, f"So {a} the {trade} went to the {{}}.", place, [place for place, _ in TRADES.values()])


def _hungry(world: World, draws: Draws) -> Story:
    a, b = _people(world, draws, 2)
    context = [f"{_opening(draws)} {a} and {b} met at the {draws.pick(PLACES)}.", _detail(draws, b)]
    context.append(f"After the walk {a} was hungry and {b} was {draws.pick(FEELINGS)}.")
    dish = world.facts[a, "dish"]
    return _story(context, f"So {a} ate {{}}.", dish, [world.facts[b, "dish"], *world.values("dish")])


def _new_coat(world: World, draws: Draws) -> Story:
    a, b = _people(world, draws, 2)
    colours = [world.facts[name, "colour"] for name in (a, b)]
    context = [f"{_opening(draws)} {a} and {b} needed new coats.", _detail(draws, b)]
    context.append(f"They went to the market and {a} was {draws.pick(FEELINGS)}.")
    return _story(context, f"So {a} bought a {{}} coat.", colours[0], [colours[1], *world.values("colour")])


def _story(context: list[str], form: str, right: object, others: list[object] | list[str] | list[int]) -> Story:
    wrong = dict.fromkeys(form.format(other) for other in others if other != right)
    return Story(context=" ".join(context), ending=form.format(right), wrong=tuple(wrong))


PLOTS = (_gift, _left_behind, _counting, _homeward, _to_work, _hungry, _new_coat)
