"""Retrieval as a verdict sees it: the questions of each stratum, all strata together."""

from pytest_quantbench.bench.checks.protocol import Check
from pytest_quantbench.catalog.settings import Settings
from pytest_quantbench.judge.retrieval_drop import judge_retrieval, unless_able
from pytest_quantbench.judge.verdict import Verdict
from pytest_quantbench.measures.retrieval.samples import RetrievalSamples


class RetrievalCheck(Check[RetrievalSamples]):
    """Items are questions of each stratum, and so contexts."""

    def extent(self, samples: RetrievalSamples, settings: Settings) -> tuple[int, int]:
        """From `--retrieval-questions` to `most_retrieval_questions`, or what was asked for where that is more."""
        first = settings.retrieval_questions
        return first, max(first, settings.most_retrieval_questions)

    def count(self, samples: RetrievalSamples) -> int:
        """Questions of a stratum that were answered."""
        return samples.questions

    def first(self, samples: RetrievalSamples, items: int) -> RetrievalSamples:
        """Of every stratum so many."""
        return samples.first(items)

    def look(
        self,
        samples: RetrievalSamples,
        reference: RetrievalSamples,
        limit: float | None,
        alpha: float,
        floor: float | None,
    ) -> Verdict:
        """With both accuracies of the stratum that the verdict hangs on, as fractions."""
        return judge_retrieval(samples.strata, reference.strata, limit, alpha)

    def last(self, verdict: Verdict, reference: RetrievalSamples, limit: float | None) -> Verdict:
        """None where the reference was not shown to do any of it."""
        return unless_able(verdict, reference.strata, limit)
