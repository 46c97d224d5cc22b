"""Text about the invented world: statements, questions, sums and short stories, as a stream of paragraphs.

Every choice goes through `Draws`, so the nats that a text cost are known: a model that knew the world and the
grammar perfectly would need that much and no less (facts cost nothing: they follow from their subject). Held-out
perplexity can therefore be compared with a true floor.
"""

from collections.abc import Callable

from pytest_quantbench.tiny.stories import PLOTS
from pytest_quantbench.tiny.world import (
    ADJECTIVES,
    COLOURS,
    OBJECTS,
    PERSON_ATTRIBUTES,
    TOWN_ATTRIBUTES,
    Draws,
    World,
    make_world,
)

STATEMENTS = {
    "town": ("{s} lives in {v}.", "The home of {s} is in {v}.", "Look for {s} in {v}."),
    "trade": ("{s} works as a {v}.", "{s} is a {v} by trade.", "They know {s} as a {v}."),
    "pet": ("{s} keeps a {v}.", "The pet of {s} is a {v}.", "A {v} follows {s}."),
    "dish": ("{s} likes to eat {v}.", "The best food for {s} is {v}.", "{s} cooks {v}."),
    "colour": ("{s} wears {v}.", "The coat of {s} is {v}.", "{s} has a {v} hat."),
    "instrument": ("{s} plays the {v}.", "The music of {s} comes from a {v}.", "{s} owns a {v}."),
    "river": ("The river at {s} is the {v}.", "The {v} runs through {s}."),
    "region": ("{s} is a {v} town.", "The town of {s} is {v}."),
    "good": ("{s} sells {v}.", "The {v} of {s} is famous."),
    "material": ("A {s} is made of {v}.", "You need {v} to make a {s}."),
}
QUESTIONS = {
    "town": "Where does {s} live?",
    "trade": "What is the trade of {s}?",
    "pet": "Which animal does {s} keep?",
    "dish": "What does {s} like to eat?",
    "colour": "Which colour does {s} wear?",
    "instrument": "What does {s} play?",
    "river": "Which river runs through {s}?",
    "region": "In which region is {s}?",
    "good": "What is {s} famous for?",
    "material": "What is a {s} made of?",
}
ASKED = "Question: {question}\nAnswer:"


def held_back(subject: str, attribute: str) -> bool:
    """Whether this fact is stated in the training text but never asked: such facts make the facts task."""
    return sum(map(ord, subject + attribute)) % 5 < 2


def question(subject: str, attribute: str) -> str:
    """The question as the training text and the facts task put it, up to and including `Answer:`."""
    return ASKED.format(question=QUESTIONS[attribute].format(s=subject))


def paragraph(world: World, draws: Draws) -> str:
    """One paragraph of a kind drawn at random."""
    return draws.pick_weighted(list(KINDS), list(KINDS.values()))(world, draws)


def text(world: World, draws: Draws, characters: int) -> str:
    """Paragraphs, a blank line after each, until there are at least that many characters."""
    parts: list[str] = []
    length = 0
    while length < characters:
        parts.append(paragraph(world, draws) + "\n\n")
        length += len(parts[-1])
    return "".join(parts)


def training_text() -> str:
    """The beginning of the text that Tiny was trained on: about 250,000 tokens, for calibration."""
    return text(make_world(), Draws("train-7"), 1_000_000)


def _subject_and_attribute(world: World, draws: Draws) -> tuple[str, str]:
    subject = draws.pick_weighted(list(world.weights), list(world.weights.values()))
    if subject in OBJECTS:
        return subject, "material"
    return subject, draws.pick(PERSON_ATTRIBUTES if subject in world.people else TOWN_ATTRIBUTES)


def _statement(world: World, draws: Draws) -> str:
    subject, attribute = _subject_and_attribute(world, draws)
    return draws.pick(STATEMENTS[attribute]).format(s=subject, v=world.facts[subject, attribute])


def _statements(world: World, draws: Draws) -> str:
    return " ".join(_statement(world, draws) for _ in range(draws.pick((3, 4, 5, 6))))


def _questions(world: World, draws: Draws) -> str:
    # Weighted over the facts that may be asked, rather than drawn and rejected: a rejected draw has no exact cost.
    weights = {fact: world.weights[fact[0]] for fact in world.facts if not held_back(*fact)}
    subject, attribute = draws.pick_weighted(list(weights), list(weights.values()))
    return f"{question(subject, attribute)} {world.facts[subject, attribute]}"


def _sums(world: World, draws: Draws) -> str:
    return " ".join(_sum(draws) for _ in range(draws.pick((2, 3, 4))))


def _sum(draws: Draws) -> str:
    a, b = draws.pick(range(1, 21)), draws.pick(range(1, 21))
    if draws.pick((True, False)):
        return f"{a} plus {b} is {a + b}."
    return f"{a + b} minus {a} is {b}."


def _stall(world: World, draws: Draws) -> str:
    goods = [_offer(draws) for _ in range(draws.pick((3, 4, 5, 6, 7)))]
    seller = draws.pick_weighted(world.people, [world.weights[name] for name in world.people])
    return f"{seller} sells: {', '.join(goods)}."


def _offer(draws: Draws) -> str:
    return f"{draws.pick(range(2, 20))} {draws.pick(ADJECTIVES)} {draws.pick(COLOURS)} {draws.pick(list(OBJECTS))}s"


def _story(world: World, draws: Draws) -> str:
    told = draws.pick(PLOTS)(world, draws)
    return f"{told.context} {told.ending}"


KINDS: dict[Callable[[World, Draws], str], float] = {
    _statements: 0.32,
    _questions: 0.13,
    _sums: 0.05,
    _stall: 0.18,
    _story: 0.32,
}
