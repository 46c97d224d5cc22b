"""A check's verdict: samples of a target and of its reference, looked at as often as it takes."""

from dataclasses import replace
from typing import Any

from pytest_quantbench import measures
from pytest_quantbench.bench.checks import CHECKS
from pytest_quantbench.bench.checks.protocol import Check
from pytest_quantbench.bench.schedule import Schedule
from pytest_quantbench.bench.target import Target
from pytest_quantbench.bench.wants import Want
from pytest_quantbench.catalog.criteria import METRICS, metric_of
from pytest_quantbench.judge import interim
from pytest_quantbench.judge.verdict import Verdict
from pytest_quantbench.measures import AnyMeasure


def decide(
    name: str,
    target: Target,
    schedule: Schedule,
    limit: float | None,
    deadline_seconds: float | None = None,
    floor: float | None = None,
    of: str | None = None,
) -> Verdict:
    """The verdict of a check, with as many samples as it takes, up to the settings' bounds or the deadline. `floor`: of
    a candidate, beyond which it is anomalous to be better than the reference. `of`: the text or task that is judged;
    None: the first.
    """
    check, settings = CHECKS[name](schedule.inputs.engine), schedule.inputs.settings
    pair = _Pair(target, schedule, measures.get(METRICS[metric_of(name)].measure), check, of)
    own = pair.own()
    first, most = check.extent(own, settings)
    once = settings.fixed or limit is None
    looks = interim.Looks(
        [first] if once else interim.sizes(first, max(first, most)), deadline_seconds, check.whole(own)
    )
    while (wanted := looks.wanted) is not None:
        items, alpha = looks.at(pair.grow(wanted))
        mine, other = (check.first(each, items) for each in pair.both())
        hopeless = check.hopeless(mine, other, limit)
        looks.add(items, alpha, check.look(mine, other, limit, alpha, floor), hopeless=hopeless)
    return interim.adjusted(check.last(looks.verdict, other, limit))


class _Pair:
    """The samples of a target and of its reference on one text or task, as many of both."""

    def __init__(
        self, target: Target, schedule: Schedule, measure: AnyMeasure, check: Check[Any], of: str | None
    ) -> None:
        self._target, self._schedule = target, schedule
        self._measure, self._check, self._of = measure, check, of

    def own(self) -> Any:
        """The target's."""
        self._schedule.ensure([Want(target=self._target, measure=self._measure)])
        return self._there(self._target)

    def both(self) -> list[Any]:
        """What there is of both."""
        return [self._there(each) for each in (self._target, self._target.reference)]

    def _there(self, target: Target) -> Any:
        return self._check.part(self._schedule.samples.need(target, self._measure), self._of)

    def grow(self, items: int) -> int:
        """See to it that there are so many of both, as far as there are; returns how many both have."""
        alone = self._check.is_whole_pair(self.own())
        own = Want(target=self._target, measure=self._measure, items=items, of=self._of)
        reference = replace(own, target=self._target.reference, items=None if alone else items)
        self._schedule.ensure([reference, own])
        return min(map(self._check.count, [self.own()] if alone else self.both()))
