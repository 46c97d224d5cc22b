"""The invented world that Tiny knows: its towns, people, trades and things, drawn from one seed.

Nothing here is about the real world, so no text that a language model was ever trained on can leak into Tiny's
tests, and every fact has exactly one right answer. People are met with Zipf-like frequency, as in real text: the
common ones are learnt well, the rare ones barely, and that is what makes quantization loss visible by degrees.
"""

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import TypeVar

T = TypeVar("T")

WORLD_SEED = 20
PEOPLE = 450

TRADES = {  # trade: (workplace, tool)
    "baker": ("bakery", "oven"), "smith": ("forge", "hammer"), "weaver": ("loft", "loom"),
    "potter": ("kiln", "wheel"), "miller": ("mill", "sack"), "fisher": ("harbour", "net"),
    "carpenter": ("workshop", "saw"), "tailor": ("shop", "needle"), "shepherd": ("pasture", "crook"),
    "gardener": ("garden", "spade"), "scribe": ("library", "quill"), "healer": ("infirmary", "balm"),
    "mason": ("quarry", "chisel"), "brewer": ("cellar", "barrel"), "tanner": ("tannery", "knife"),
    "cooper": ("yard", "hoop"), "hunter": ("forest", "bow"), "glazier": ("studio", "pane"),
    "chandler": ("attic", "wick"), "ferryman": ("landing", "oar"),
}  # fmt: skip
PETS = "cat dog goat hen goose mule pony rabbit raven tortoise hedgehog ferret newt finch badger donkey".split()
DISHES = (
    "lentil soup,barley bread,plum cake,roast turnip,smoked eel,honey porridge,leek pie,mushroom stew,cheese dumplings,"
    "pickled beets,chestnut mash,onion tart,pea broth,rye pancakes,baked pears,walnut pudding"
).split(",")
COLOURS = "red blue green yellow purple grey brown white black orange".split()
INSTRUMENTS = "flute drum harp fiddle horn lute pipe bell zither rattle".split()
OBJECTS = {  # object: material
    "lamp": "glass", "rope": "hemp", "kettle": "copper", "basket": "willow", "mirror": "silver", "blanket": "wool",
    "ladder": "oak", "bowl": "clay", "candle": "wax", "sword": "steel", "mask": "leather", "kite": "paper",
    "anchor": "iron", "comb": "bone", "bucket": "tin", "vase": "glass", "chest": "oak", "ring": "silver",
    "scarf": "wool", "jug": "clay", "map": "paper", "belt": "leather", "key": "iron", "pot": "copper",
}  # fmt: skip
REGIONS = "northern southern eastern western coastal inland".split()
GOODS = "salt amber timber cider linen honey slate wine pearls coal furs tea".split()
PLACES = "market bridge well inn tower chapel stable orchard meadow gate square pond".split()
ADJECTIVES = (
    "small large heavy light shiny dusty broken painted wooden strange lovely plain narrow round crooked warm cold "
    "quiet noisy bright dark soft rough clean dirty cheap costly rare common tall short thick thin sweet bitter fine"
).split()
WEATHER = "rainy sunny windy foggy snowy stormy mild hot chilly misty cloudy frosty".split()
TIMES = "morning noon afternoon evening night day spring summer autumn winter".split()
FEELINGS = "happy sad tired proud worried calm angry curious shy merry hungry lonely".split()

_ONSETS = "b br d dr f g gr h j k l m n p r s st t th tr v w z".split()
_VOWELS = "a e i o u ai ea ou".split()
_CODAS = "l n r s d m nd rn th".split()
_TOWN_ENDS = "ford moor ham wick dale mouth stead gate".split()
_RIVER_ENDS = "ra ven ne lis".split()


class Draws:
    """Seeded choices that add up how many nats they cost: the generator's own entropy.

    Only `random.Random.random` is used, whose stream Python keeps stable across versions.
    """

    def __init__(self, seed: int | str) -> None:
        self._random = random.Random(str(seed))
        self.nats = 0.0

    def pick(self, options: Sequence[T]) -> T:
        """One of the options, all equally likely; costs log(number of options) nats."""
        self.nats += math.log(len(options))
        return options[int(self._random.random() * len(options))]

    def pick_weighted(self, options: Sequence[T], weights: Sequence[float]) -> T:
        """One of the options by weight; costs −log(its share) nats."""
        totals = list(accumulate(weights))
        point = self._random.random() * totals[-1]
        index = next(i for i, total in enumerate(totals) if point < total)
        self.nats -= math.log(weights[index] / totals[-1])
        return options[index]

    def several(self, options: Sequence[T], count: int) -> list[T]:
        """`count` different options in random order; costs the nats of each draw without replacement."""
        left = list(options)
        chosen = []
        for _ in range(count):
            chosen.append(self.pick(left))
            left.remove(chosen[-1])
        return chosen


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """All names and facts; `facts[(subject, attribute)]` is the value, `weights[subject]` how often it is met."""

    people: tuple[str, ...]
    towns: tuple[str, ...]
    rivers: tuple[str, ...]
    facts: dict[tuple[str, str], str]
    weights: dict[str, float]

    def values(self, attribute: str) -> tuple[str, ...]:
        """Every value that the attribute can take: where wrong but plausible choices come from."""
        return self.towns if attribute == "town" else self.rivers if attribute == "river" else VALUES[attribute]


VALUES: dict[str, tuple[str, ...]] = {
    "trade": tuple(TRADES),
    "pet": tuple(PETS),
    "dish": tuple(DISHES),
    "colour": tuple(COLOURS),
    "instrument": tuple(INSTRUMENTS),
    "region": tuple(REGIONS),
    "good": tuple(GOODS),
    "material": tuple(sorted(set(OBJECTS.values()))),
}
PERSON_ATTRIBUTES = ("town", "trade", "pet", "dish", "colour", "instrument")
TOWN_ATTRIBUTES = ("river", "region", "good")


def make_world(seed: int = WORLD_SEED, people: int = PEOPLE) -> World:
    """The world of this seed: the same names and facts on every machine and Python version."""
    draws = Draws(seed)
    names = _names(draws, people + 40)
    persons = tuple(names[:people])
    towns = tuple(name + draws.pick(_TOWN_ENDS) for name in names[people : people + 28])
    rivers = tuple(name + draws.pick(_RIVER_ENDS) for name in names[people + 28 :])
    world = World(people=persons, towns=towns, rivers=rivers, facts={}, weights=_weights(persons, towns))
    for subjects, attributes in ((persons, PERSON_ATTRIBUTES), (towns, TOWN_ATTRIBUTES)):
        for subject in subjects:
            for attribute in attributes:
                world.facts[subject, attribute] = draws.pick(world.values(attribute))
    world.facts.update({(thing, "material"): material for thing, material in OBJECTS.items()})
    return world


def _names(draws: Draws, count: int) -> list[str]:
    names: dict[str, None] = {}
    while len(names) < count:
        syllables = draws.pick(_ONSETS) + draws.pick(_VOWELS) + draws.pick(_CODAS)
        names[(syllables + draws.pick(("", "a", "o", "in", "el", "us", "ik"))).capitalize()] = None
    return list(names)


def _weights(people: tuple[str, ...], towns: tuple[str, ...]) -> dict[str, float]:
    weights = {name: 1 / (rank + 8) for rank, name in enumerate(people)}
    return weights | dict.fromkeys(towns, 0.01) | dict.fromkeys(OBJECTS, 0.01)
