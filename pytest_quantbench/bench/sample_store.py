"""What has been measured, by target and measure: kept for the session in memory, and between sessions in the cache.

What earlier sessions have measured is found by a hash of everything that it depends on: the artifact's key, the machine
and its libraries, the work that the measure describes, and what it was added to. What is added later is scored in other
windows and batches than all at once, which is the same to rounding and not to the last bit; so its key is one of the
way by which it came about.
"""

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from pytest_quantbench.bench.target import Target
from pytest_quantbench.errors import DiskError, QuantbenchError
from pytest_quantbench.measures import Measure
from pytest_quantbench.storage.samples_cache import key_of, load, save

S = TypeVar("S")
Place = tuple[Target, str]  # and the measure's name
log = logging.getLogger(__name__)


class Samples:
    """`identify` says of a target, before it is compressed, what its weights and the machine are. `fresh`: nothing is
    taken from earlier sessions. `reused` names what was.
    """

    def __init__(self, cache: Path, identify: Callable[[Target], Mapping[str, Any]], *, fresh: bool) -> None:
        self._cache, self._identify, self._fresh = cache, identify, fresh
        self._found: dict[Place, Any] = {}
        self._errors: dict[Place, QuantbenchError] = {}
        self._keys: dict[Place, str] = {}
        self._changes: dict[Target, int] = {}
        self._count = 0
        self.reused: list[str] = []

    def get(self, target: Target, measure: Measure[S]) -> S | None:
        """The samples of a target; None where none were measured."""
        found: S | None = self._found.get((target, measure.name))
        return found

    def need(self, target: Target, measure: Measure[S]) -> S:
        """The samples of a target. Raises what kept it from being measured, LookupError where nobody has tried."""
        if (error := self.why_not(target, measure)) is not None:
            raise error
        found = self.get(target, measure)
        if found is None:
            raise LookupError(f"{measure.name} of {target.id} was not measured.")
        return found

    def why_not(self, target: Target, measure: Measure[Any]) -> QuantbenchError | None:
        """What kept a target from being measured; None: nothing did, or nobody has tried."""
        return self._errors.get((target, measure.name))

    def fail(self, target: Target, measure: Measure[Any], error: QuantbenchError) -> None:
        """Say what keeps a target from being measured, for whoever asks."""
        self._errors.setdefault((target, measure.name), error)

    def put(self, target: Target, measure: Measure[S], samples: S, work: Mapping[str, Any] | None = None) -> None:
        """Samples that were measured. Those of a `work` are kept for later sessions, behind what the target had; where
        they cannot be kept, this session has them still.
        """
        self._hold(target, measure, samples)
        if work is None:
            return
        key = self._keys[target, measure.name] = self._key(target, measure, work)
        try:
            save(self._cache, key, samples)
        except DiskError as error:
            log.warning("Samples are not kept for later sessions. %s", error)

    def recall(self, target: Target, measure: Measure[S], work: Mapping[str, Any]) -> bool:
        """Whether an earlier session did this work, behind what the target has; its samples are taken then.

        Raises QuantbenchError for a target that cannot be compressed.
        """
        if self._fresh:
            return False
        key = self._key(target, measure, work)
        if (found := load(self._cache, key, measure.samples)) is None:
            return False
        self._keys[target, measure.name] = key
        self._hold(target, measure, found)
        if measure.told:
            self.reused.append(f"{measure.label} of {target.id}")
        return True

    def key(self, target: Target, measure: Measure[Any]) -> str | None:
        """What the samples that a target has are kept by; None: it has none."""
        return self._keys.get((target, measure.name))

    def of(self, measure: Measure[S]) -> dict[Target, S]:
        """The samples of all targets."""
        return {target: found for (target, name), found in self._found.items() if name == measure.name}

    def by_measure(self, target: Target) -> dict[str, Any]:
        """All samples of a target by the measure's name."""
        return {name: found for (each, name), found in self._found.items() if each == target}

    @property
    def mark(self) -> int:
        """A mark to ask later what has changed since."""
        return self._count

    def changed_since(self, mark: int, *targets: Target) -> bool:
        """Whether any of these targets got samples since this mark was taken."""
        return any(self._changes.get(target, 0) > mark for target in targets)

    def _hold(self, target: Target, measure: Measure[S], samples: S) -> None:
        self._found[target, measure.name] = samples
        self._count += 1
        self._changes[target] = self._count

    def _key(self, target: Target, measure: Measure[Any], work: Mapping[str, Any]) -> str:
        # what is timed in memory is measured whole, whatever was there
        behind = None if measure.needs == "resident" else self.key(target, measure)
        content = {"of": f"{measure.name}_samples", "subject": self._identify(target), "work": work, "behind": behind}
        return key_of(content)
