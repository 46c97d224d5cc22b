"""Does the gate see damage? A quantized model with known faults, from slight to fatal, and what the checks say of it.

The reference itself, with activations rounded to bfloat16, has to pass every quality criterion; a model with a zeroed
layer or two swapped ones has to fail one. What lies between is the gate's measured power.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import numpy as np

from pytest_quantbench.bench.cell import Cell
from pytest_quantbench.bench.checks import decide
from pytest_quantbench.bench.schedule import CHECKED
from pytest_quantbench.bench.timing import Measured
from pytest_quantbench.catalog.criteria import METRICS, metric_of
from pytest_quantbench.compress.artifact import Artifact, Opened
from pytest_quantbench.compress.plan import Tensor
from pytest_quantbench.engines.protocol import Architecture
from pytest_quantbench.errors import QuantbenchError
from pytest_quantbench.judge.verdict import Outcome, Verdict
from pytest_quantbench.quantizers import Arrays

IDENTITY = "none: the reference with rounded activations"


class _Hurt(Opened):
    """Another artifact, with damage that its kinds add."""

    def __init__(self, whole: Artifact) -> None:
        super().__init__(whole.manifest, whole.config, whole.decode)
        self.whole = whole

    def arrays(self, name: str) -> Arrays:
        """The other's."""
        return self.whole.arrays(name)


class _ShuffledScales(_Hurt):
    """The grids (scales and offsets) of some groups trade places within their matrix."""

    share: float
    seed: int

    def arrays(self, name: str) -> Arrays:
        """With the grids of a share of the groups, two at least, shuffled."""
        arrays = super().arrays(name)
        if "scales" not in arrays:
            return arrays
        groups = arrays["scales"].size
        rng = np.random.default_rng([self.seed, groups, *name.encode()])
        chosen = rng.permutation(groups)[: max(2, round(self.share * groups))]
        places = np.arange(groups)
        places[chosen] = np.roll(chosen, 1)
        moved = {key: arrays[key].reshape(-1)[places] for key in ("scales", "biases") if key in arrays}
        return arrays | {key: array.reshape(arrays[key].shape) for key, array in moved.items()}


class _SwappedLayers(_Hurt):
    """Two decoder layers in each other's place."""

    prefixes: tuple[str, str]

    def arrays(self, name: str) -> Arrays:
        """Those of the other layer's parameter."""
        return self.whole.arrays(self._other(name))

    def tensor(self, name: str) -> Tensor:
        """The other layer's."""
        return self.whole.tensor(self._other(name))

    def _other(self, name: str) -> str:
        for here, there in (self.prefixes, self.prefixes[::-1]):
            if name.startswith(here):
                return there + name.removeprefix(here)
        return name


class _ZeroedLayer(_Hurt):
    """All matrices of one decoder layer are zero."""

    prefix: str

    def dense(self, name: str) -> Any:
        """Zeros for the matrices of that layer."""
        dense = super().dense(name)
        return 0 * dense if name.startswith(self.prefix) and dense.ndim > 1 else dense


def _shuffled(artifact: Artifact, source: Architecture, seed: int, share: float) -> Artifact:
    if not any(array.endswith(".scales") for tensor in artifact.manifest.tensors for array in tensor.arrays):
        raise QuantbenchError(
            f"{artifact.manifest.recipe} stores no scales of groups to shuffle. Run the self-test on int4 or int4-rtn."
        )
    damaged = _ShuffledScales(artifact)
    damaged.share, damaged.seed = share, seed
    return damaged


def _zeroed(artifact: Artifact, source: Architecture, seed: int) -> Artifact:
    """The layer in the middle."""
    damaged = _ZeroedLayer(artifact)
    damaged.prefix = source.layers[(len(source.layers) - 1) // 2]
    return damaged


def _swapped(artifact: Artifact, source: Architecture, seed: int) -> Artifact:
    """Two neighbouring layers in each other's place: those next to the middle that are built alike."""
    layers, shapes = source.layers, [dict[str, tuple[int, ...]]() for _ in source.layers]
    for each in source.parameters:
        if each.layer is not None:
            shapes[each.layer][each.path.removeprefix(layers[each.layer])] = each.shape
    middle = (len(layers) - 1) // 2
    alike = [k for k in range(len(layers) - 1) if shapes[k] == shapes[k + 1]]
    if not alike:
        raise QuantbenchError(f"{artifact.manifest.source} has no two neighbouring layers of one kind to swap.")
    place = min(alike, key=lambda k: abs(k - middle))
    damaged = _SwappedLayers(artifact)
    damaged.prefixes = (layers[place], layers[place + 1])
    return damaged


SHARES = (0.001, 0.01, 0.1)  # of the groups of every matrix, two groups at least
SHUFFLES = tuple(f"scales of {share:.1%} of the groups shuffled" for share in SHARES)
DAMAGES: Mapping[str, Callable[[Artifact, Architecture, int], Artifact]] = {
    **{name: partial(_shuffled, share=share) for name, share in zip(SHUFFLES, SHARES, strict=True)},
    "two layers swapped": _swapped,
    "one layer's weights zeroed": _zeroed,
}
FATAL = (SHUFFLES[-1], "two layers swapped", "one layer's weights zeroed")


class Damaged(Measured):
    """A cell whose artifact was damaged after it was opened; what lies on disk stays whole."""

    def __init__(self, cell: Cell, damage: str) -> None:
        super().__init__(cell.source, cell.recipe, paired=cell.reference)
        self._whole, self._damage = cell, damage

    @property
    def artifact_key(self) -> str:
        """The whole one's, and what was done to it."""
        return f"{super().artifact_key} {self._damage}"

    @cached_property
    def artifact(self) -> Artifact:
        """The cell's own, damaged."""
        return DAMAGES[self._damage](self._whole.artifact, self.source.opened, self.source.settings.seed)


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What the checks said of one kind of damage: a verdict for each check that has a limit."""

    cell: str
    damage: str
    verdicts: tuple[Verdict, ...]
    named: tuple[str, ...] = ()  # what the integrity check says of the weights

    @property
    def expected(self) -> Outcome | None:
        """What has to come out; None for damage of a degree that the gate may or may not see."""
        return "pass" if self.damage == IDENTITY else "fail" if self.damage in FATAL else None

    @property
    def outcome(self) -> Outcome:
        """fail if any check failed, pass if all passed."""
        outcomes = {verdict.outcome for verdict in self.verdicts}
        return "fail" if "fail" in outcomes else "pass" if outcomes == {"pass"} else "undecided"


def findings(cell: Cell) -> Iterator[Finding]:
    """The reference under rounding, then every damage to the cell's model, judged by the cell's own limits."""
    subjects = {IDENTITY: Measured(cell.source, cell.reference.recipe, paired=cell.reference, rounding=True)}
    subjects |= {damage: Damaged(cell, damage) for damage in DAMAGES}
    judged = {name for name, check in CHECKED.items() if cell.limit(metric_of(check)) is not None}
    cell.source.expected |= {subject: set(judged) for subject in subjects.values()}  # one walk for all
    for damage, subject in subjects.items():
        yield _judged(cell, damage, subject)


def _judged(cell: Cell, damage: str, subject: Measured) -> Finding:
    verdicts = [
        decide(check, subject, cell.reference, limit, cell.source.settings)
        for check in CHECKED.values()  # damage does not change the size or the speed
        if (limit := cell.limit(metric_of(check))) is not None
    ]
    subject.integrity.settle()
    named = subject.integrity.problems or ()
    return Finding(cell=cell.id, damage=damage, verdicts=tuple(verdicts), named=named)


def as_table(found: list[Finding]) -> tuple[list[str], list[list[str]]]:
    """Damage against verdict: the names of a table's columns, and its rows."""
    checks = [METRICS[verdict.metric] for verdict in found[0].verdicts]
    limits = [verdict.limit for verdict in found[0].verdicts]
    heads = [f"{m.label}, limit {limit:g} {m.unit}".rstrip() for m, limit in zip(checks, limits, strict=True)]
    heads = [f"damage to {found[0].cell}", *heads, "verdict", "integrity"]
    rows = []
    for finding in found:
        shown = [f"{_shown(verdict)} {verdict.outcome}" for verdict in finding.verdicts]
        named = f"{len(finding.named)} findings" if finding.named else "nothing"
        rows.append([finding.damage, *shown, finding.outcome, named])
    return heads, rows


def _shown(verdict: Verdict) -> str:
    if verdict.estimate is None or verdict.low is None or verdict.high is None:
        return "–"
    return f"{verdict.estimate:.3g} [{verdict.low:.3g}, {verdict.high:.3g}] after {verdict.items:,},"
