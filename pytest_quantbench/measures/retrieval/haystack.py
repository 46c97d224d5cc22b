"""Needles and chains of them in filler, as token ids: facts at a known depth, asked for at the end.

A fact says who is whose teacher, of people whom no text knows. In every stratum of depth there are four chains of four
people: the second is the first one's teacher, and so on. A question asks for the teacher, the teacher's teacher, or
that one's teacher, of the first of a chain that is drawn; its choices are who stands in the same place of the four
chains. So all choices stand in the context, equally often, in the same place of facts that are alike, at the same depth
and with as many tokens, and each is as likely to be right: who does not follow the chain is right in one of four,
whatever it prefers. A context has one question of each stratum, so that questions of a stratum share nothing.

Filler is text of Tiny's world, of whose people no question asks. All is made of pieces, tokenized one by one behind a
sentence's end, so that depths are exact, and contexts that are asked several questions begin with the very same tokens.
"""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from pytest_quantbench.catalog.corpora import DEPTHS
from pytest_quantbench.errors import CorpusError
from pytest_quantbench.measures.requests import Ids
from pytest_quantbench.measures.retrieval.samples import Stratum
from pytest_quantbench.tiny.text import paragraph
from pytest_quantbench.tiny.world import WORLD_SEED, Draws, make_world

CHAINS = 4  # of a stratum of depth, and so the choices of a question
HOPS = (1, 2, 3)
FRONT = "So it was told."  # behind which a piece is tokenized
FACT = " The teacher of {learner} is {teacher}."
ASKED = {1: " The teacher of {} is", 2: " The teacher of the teacher of {} is"}
ASKED |= {3: " The teacher of the teacher of the teacher of {} is"}
PEOPLE = 900  # to draw from, before those go whose names have another number of tokens
LEAST_TOKENS = 256  # of a stratum: a shorter one at the end of a context is part of the one before
Chain = Sequence[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """The question of one stratum: its own tokens, those of each choice, which of them is right, and of people what a
    reader sees. `depth`: how many tokens before it the first fact begins that it asks for.
    """

    stratum: Stratum
    text: str
    ids: Ids
    options: tuple[str, ...]
    choices: tuple[Ids, ...]
    gold: int
    depth: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """What is told, and all that is asked behind it."""

    ids: Ids
    questions: tuple[Question, ...]


class Haystack:
    """Contexts of at most so many `tokens` with their questions, by number; the same for every recipe of a model.

    `start` is what every text begins with. Raises CorpusError where the facts do not fit, where there is no stratum as
    deep, or the tokenizer cuts the people's names into too many different numbers of tokens.
    """

    def __init__(self, tokenizer: Any, *, start: Ids, tokens: int, seed: int) -> None:
        if tokens > DEPTHS[-1]:
            raise CorpusError(
                f"Retrieval asks for what was told up to {DEPTHS[-1]:,} tokens before: --retrieval-context {tokens} is "
                f"longer. Choose at most so many."
            )
        self._tokenizer, self._start, self._seed, self.tokens = tokenizer, start, seed, tokens
        self._front = len(tokenizer.encode(FRONT, add_special_tokens=False))
        self._world = make_world()
        edges = strata_of(tokens)
        self._people = self._alike(CHAINS * (len(HOPS) + 1) * len(edges))
        asking = max(len(self.ids(ASKED[max(HOPS)].format(name))) for name in self._people)
        spare = len(start) + asking + len(self.ids(f" {self._people[0]}"))
        self._lengths = [(above, up_to, min(up_to, tokens - spare) - above) for above, up_to in edges]

    def ids(self, text: str) -> Ids:
        """The tokens of a piece: what is left behind those of the sentence in front of it, which is lm-eval's rule."""
        return tuple(map(int, self._tokenizer.encode(FRONT + text, add_special_tokens=False)[self._front :]))

    @property
    def strata(self) -> list[Stratum]:
        """All of them, shallow ones first."""
        return [Stratum(above=a, up_to=u, hops=hops) for a, u, _ in self._lengths for hops in HOPS]

    def _alike(self, needed: int) -> list[str]:
        """People of no other text, whose names have the number of tokens that is the commonest."""
        known = set(self._world.people)
        names = [name for name in make_world(WORLD_SEED + 1, PEOPLE).people if name not in known]
        lengths = {name: len(self.ids(f" {name}")) for name in names}
        commonest = Counter(lengths.values()).most_common(1)[0][0]
        alike = [name for name in names if lengths[name] == commonest]
        if len(alike) < needed:
            raise CorpusError(
                f"Retrieval asks for {needed} people whose names have as many tokens, and the model's tokenizer gives "
                f"{len(alike)} such: choose a smaller --retrieval-context."
            )
        return alike

    def context(self, number: int) -> Context:
        """The context of this number, and what is asked behind it: a question of each stratum."""
        draws = Draws(f"retrieval {self._seed} {self.tokens} {number}")
        filler = self._filler(draws)
        people = draws.several(self._people, CHAINS * (len(HOPS) + 1) * len(self._lengths))
        body: Ids = ()
        asked: list[Question] = []
        for above, up_to, length in self._lengths:  # from the end of the context backwards
            own = [[people.pop() for _ in range(len(HOPS) + 1)] for _ in range(CHAINS)]
            ids, begins = self._told(own, filler, length, draws)
            depths = [length - begins[chain[0]] + len(body) for chain in own]
            body = ids + body
            strata = [Stratum(above=above, up_to=up_to, hops=hops) for hops in HOPS]
            asked += [self._asked(own, stratum, depths, draws) for stratum in strata]
        return Context(ids=self._start + body, questions=tuple(asked))

    def _filler(self, draws: Draws) -> Iterator[Ids]:
        """Sentences without end; no questions, which would be asked in other words than ours."""
        while True:
            told = paragraph(self._world, draws)
            if "\n" not in told:
                yield from (self.ids(f" {sentence}") for sentence in re.split(r"(?<=\.) ", told))

    def _told(
        self, chains: Sequence[Chain], filler: Iterator[Ids], length: int, draws: Draws
    ) -> tuple[Ids, dict[str, int]]:
        """Exactly so many tokens with the facts of all chains among filler, and where the fact on each learner begins:
        each as likely at every place between two sentences, by their tokens.
        """
        pairs = [(chain[hop], chain[hop + 1]) for chain in chains for hop in range(len(HOPS))]
        facts = [
            (one, self.ids(FACT.format(learner=one, teacher=two))) for one, two in draws.several(pairs, len(pairs))
        ]
        free = length - sum(len(ids) for _, ids in facts)
        if free < 0:
            raise CorpusError(
                f"Retrieval tells {len(facts)} facts of {length - free} tokens in a stratum of {length}: choose a "
                f"larger --retrieval-context than {self.tokens}."
            )
        sentences: list[Ids] = []
        while sum(map(len, sentences)) < free:
            sentences.append(next(filler))
        if sentences:  # the one that is too long comes first, and loses its beginning
            sentences = [sentences[-1][sum(map(len, sentences)) - free :], *sentences[:-1]]
        points = sorted(draws.pick(range(free + 1)) for _ in facts)
        return _merged(facts, points, sentences)

    def _asked(self, chains: Sequence[Chain], stratum: Stratum, depths: Sequence[int], draws: Draws) -> Question:
        """A question of one chain, whose choices stand in an order of its own."""
        number = draws.pick(range(CHAINS))
        options = tuple(draws.several([each[stratum.hops] for each in chains], CHAINS))
        text = ASKED[stratum.hops].format(chains[number][0])
        return Question(
            stratum=stratum,
            text=text.strip(),
            ids=self.ids(text),
            options=options,
            choices=tuple(self.ids(f" {option}") for option in options),
            gold=options.index(chains[number][stratum.hops]),
            depth=depths[number],
        )


def strata_of(tokens: int) -> list[tuple[int, int]]:
    """The strata of depth in a context of so many tokens, each with what it lies above and what it goes up to; the last
    one is cut by the context, and one of few tokens is part of the one before it.
    """
    edges = [edge for edge in DEPTHS[:-1] if edge + LEAST_TOKENS <= tokens]
    edges.append(min(tokens, DEPTHS[-1]))
    return list(zip([0, *edges[:-1]], edges, strict=True))


def _merged(
    facts: Sequence[tuple[str, Ids]], points: Sequence[int], sentences: Sequence[Ids]
) -> tuple[Ids, dict[str, int]]:
    """Sentences, with each fact before the one that its point lies in; where the facts begin."""
    ids: list[int] = []
    begins: dict[str, int] = {}
    left, passed = list(zip(points, facts, strict=True)), 0
    for sentence in [*sentences, ()]:
        while left and (left[0][0] < passed + len(sentence) or not sentence):
            name, told = left.pop(0)[1]
            begins[name] = len(ids)
            ids += told
        ids += sentence
        passed += len(sentence)
    return tuple(ids), begins
