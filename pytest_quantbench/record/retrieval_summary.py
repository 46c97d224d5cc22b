"""Retrieval's samples → what a record says of them, stratum by stratum."""

from collections.abc import Sequence
from dataclasses import replace

from pytest_quantbench.judge.retrieval_drop import METRIC, StratumVerdict, by_stratum
from pytest_quantbench.judge.verdict import Verdict
from pytest_quantbench.measures.retrieval.samples import RetrievalSamples, Stratum
from pytest_quantbench.record.retrieval_schema import Retrieval, RetrievalStratum
from pytest_quantbench.record.summary import task_accuracy
from pytest_quantbench.stats.estimates import ALPHA


def retrieval(
    samples: RetrievalSamples | None, reference: RetrievalSamples | None, verdicts: Sequence[Verdict]
) -> Retrieval | None:
    """The figures, beside the reference's on the same questions; with outcomes where one of the `verdicts` is by a
    limit on them. None where nothing was measured.
    """
    if samples is None:
        return None
    before = None if reference is None else reference.first(samples.questions)
    judged = {} if before is None else {each.name: each for each in _judged(samples, before, verdicts)}
    strata = (_stratum(samples, before, name, judged.get(name)) for name in samples.strata)
    return Retrieval(
        strata=tuple(strata),
        questions=samples.questions,
        context_tokens=samples.context_tokens,
        time_sec=samples.seconds,
    )


def _judged(
    samples: RetrievalSamples, reference: RetrievalSamples, verdicts: Sequence[Verdict]
) -> Sequence[StratumVerdict]:
    """What became of each stratum: by the limit, and with the error probability, of the verdict's last look. Without a
    limit no stratum has an outcome.
    """
    own = next((each for each in verdicts if each.metric == METRIC.name and each.limit is not None), None)
    if own is None or own.limit is None:
        return [replace(each, outcome="informational") for each in by_stratum(samples.strata, reference.strata, 0.0)]
    alpha = own.looks[-1].alpha if own.looks else ALPHA
    return by_stratum(samples.strata, reference.strata, own.limit, alpha)


def _stratum(
    samples: RetrievalSamples, reference: RetrievalSamples | None, name: str, judged: StratumVerdict | None
) -> RetrievalStratum:
    stratum, before = Stratum.named(name), None if reference is None else reference.strata[name]
    return RetrievalStratum(
        name=name,
        above=stratum.above,
        up_to=stratum.up_to,
        hops=stratum.hops,
        mean_depth_tokens=float(samples.depths[name].mean()),
        accuracy=task_accuracy(samples.strata[name], before),
        reference=None if judged is None else judged.reference,
        outcome=None if judged is None else judged.outcome,
    )
