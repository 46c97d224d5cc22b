"""Tiny's two multiple-choice tasks, in lm-eval's form: `facts` as ARC-Easy is, `endings` as HellaSwag is."""

from pytest_quantbench.tiny.stories import PLOTS
from pytest_quantbench.tiny.text import held_back, question
from pytest_quantbench.tiny.world import Draws, World

Question = dict[str, str | int | list[str]]


def fact_questions(world: World, count: int, seed: str = "facts") -> list[Question]:
    """Facts of the world that the training text states but never asks, and one sum to be finished in every six.

    Wrong choices are of the same type: another colour, a number nearby.
    """
    draws = Draws(seed)
    sums = count // 6
    subjects = set(world.people) | set(world.towns)
    unasked = [fact for fact in world.facts if fact[0] in subjects and held_back(*fact)]
    asked = [_fact_question(world, draws, *fact) for fact in draws.several(unasked, count - sums)]
    return asked + [_sum_question(draws, number) for number in range(sums)]


def _sum_question(draws: Draws, number: int) -> Question:
    a, b = draws.pick(range(3, 21)), draws.pick(range(3, 21))
    adding = draws.pick((True, False))
    right = a + b if adding else b
    wrong = [str(right + step) for step in draws.several((-2, -1, 1, 2, 10), 3)]
    query = f"{a} plus {b} is" if adding else f"{a + b} minus {a} is"
    return {"id": f"{number}-sum", **_shuffled(draws, query, str(right), wrong)}


def _fact_question(world: World, draws: Draws, subject: str, attribute: str) -> Question:
    right = world.facts[subject, attribute]
    wrong = draws.several([value for value in world.values(attribute) if value != right], 3)
    return {"id": f"{subject}-{attribute}", **_shuffled(draws, question(subject, attribute), right, wrong)}


def ending_questions(world: World, count: int, seed: str = "endings") -> list[Question]:
    """Stories that the training text does not hold, each with its ending and three that are wrong for it."""
    draws = Draws(seed)
    return [_ending_question(world, draws, number) for number in range(count)]


def _ending_question(world: World, draws: Draws, number: int) -> Question:
    story = PLOTS[number % len(PLOTS)](world, draws)
    # The first wrong ending is the tempting one (somebody or something of the same story): always ask against it.
    wrong = [story.wrong[0], *draws.several(story.wrong[1:], 2)]
    return {"id": f"story-{number}", **_shuffled(draws, story.context, story.ending, wrong)}


def _shuffled(draws: Draws, query: str, right: str, wrong: list[str]) -> Question:
    choices = draws.several([right, *wrong], 4)
    return {"query": query, "choices": choices, "gold": choices.index(right)}
