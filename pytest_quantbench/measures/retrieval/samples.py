"""What is kept of retrieval: answers by stratum of depth and hops, in the order in which the questions are made."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from pytest_quantbench.errors import ComparisonError
from pytest_quantbench.measures.samples import TaskSamples


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Stratum:
    """Questions that are alike: the facts of each lie more than `above` and at most `up_to` tokens before the question,
    and so many `hops` lead to the answer.
    """

    above: int
    up_to: int
    hops: int

    FORM: ClassVar[re.Pattern[str]] = re.compile(r"(\d+)-(\d+) tokens, (\d+) hops?")

    @property
    def name(self) -> str:
        """`512-1024 tokens, 2 hops`."""
        return f"{self.depth} tokens, {self.hops} hop{'' if self.hops == 1 else 's'}"

    @property
    def depth(self) -> str:
        """`512-1024`."""
        return f"{self.above}-{self.up_to}"

    @classmethod
    def named(cls, name: str) -> "Stratum":
        """The one of this name. Raises ValueError for what is no stratum's name."""
        found = cls.FORM.fullmatch(name)
        if found is None:
            raise ValueError(f"{name!r} is no stratum of depth and hops, such as '512-1024 tokens, 2 hops'.")
        above, up_to, hops = map(int, found.groups())
        return cls(above=above, up_to=up_to, hops=hops)


@dataclass(frozen=True, slots=True, kw_only=True)
class RetrievalSamples:
    """Every stratum's answers by its name, shallow ones first, a question of each context; their ids are the contexts'
    numbers. `depths`: of each question, how many tokens before it the first fact begins that it asks for.
    """

    strata: Mapping[str, TaskSamples]
    depths: Mapping[str, NDArray[np.int64]]
    context_tokens: int  # of the longest question with its context
    weights_sha256: str
    seconds: float

    @property
    def questions(self) -> int:
        """Of each stratum."""
        return len(next(iter(self.strata.values())).ids)

    def first(self, questions: int) -> "RetrievalSamples":
        """The samples of the first so many questions of every stratum."""
        return replace(
            self,
            strata={name: each.first(questions) for name, each in self.strata.items()},
            depths={name: each[:questions] for name, each in self.depths.items()},
        )

    def joined(self, more: "RetrievalSamples") -> "RetrievalSamples":
        """These questions, then those. Raises ComparisonError if other weights answered them."""
        if more.weights_sha256 != self.weights_sha256:
            raise ComparisonError("The questions that were added were answered by other weights.")
        return replace(
            self,
            strata={name: each.joined(more.strata[name]) for name, each in self.strata.items()},
            depths={name: np.concatenate([each, more.depths[name]]) for name, each in self.depths.items()},
            seconds=self.seconds + more.seconds,
        )
