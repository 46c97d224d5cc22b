"""What may be done with a model's architecture, why not more, and how the model goes through its decoder layers."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from pytest_quantbench.engines.batches import Batch
from pytest_quantbench.errors import ModelError

Branching = Literal["any", "even", "none"]  # which batches may go on from others
BRANCHING: tuple[Branching, ...] = ("any", "even", "none")  # whoever can do one can do those behind it


@dataclass(frozen=True, slots=True, kw_only=True)
class Anatomy:
    """How a model calls its decoder layers: `loops` times through all of them; each returns its hidden states, or a
    tuple of `outputs` results of which they are the first (0: no tuple). `place`: where among a layer's arguments its
    hidden states are, by number or by name; None: they are the first array.
    """

    loops: int = 1
    outputs: int = 0
    place: int | str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """What may be done with a model. `refused`: why it cannot be walked at all. `branching`: which batches may go on
    from others, None: T3 has no way; `unbranched` says why not all may.
    """

    architecture: str
    anatomy: Anatomy = field(default_factory=Anatomy)
    refused: str | None = None
    branching: Branching | None = "any"
    unbranched: str = ""

    def refuse(self, batches: Sequence[Batch]) -> None:
        """Raise ModelError where the model may not be walked with such batches."""
        if self.refused is not None:
            raise ModelError(f"Unsupported architecture: {self.architecture!r} cannot be walked: {self.refused}")
        needed = branching_of(batches)
        if needed is not None and (self.branching is None or BRANCHING.index(needed) < BRANCHING.index(self.branching)):
            raise ModelError(
                f"Unsupported architecture: {self.architecture!r} cannot be asked for choices (T3) along branches of "
                f"this kind: {self.unbranched}"
            )

    def for_choices(self) -> Branching:
        """What T3's batches may be. Raises ModelError where its choices cannot be scored in any way."""
        self.refuse(())
        if self.branching is None:
            raise ModelError(
                f"Unsupported architecture: {self.architecture!r} cannot be asked for choices (T3): {self.unbranched}"
            )
        return self.branching


def branching_of(batches: Sequence[Batch]) -> Branching | None:
    """What such batches ask of a model; None: nothing that one row alone does not."""
    parents = {batch.parent for batch in batches if batch.parent is not None}
    if any(len(set(batches[parent].lengths)) > 1 for parent in parents):
        return "any"
    if parents:
        return "even"
    return "none" if any(len(set(batch.lengths)) > 1 for batch in batches) else None
