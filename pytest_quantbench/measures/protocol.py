"""What a measure is: from weights to raw samples in a fixed order, without a verdict.

A measure says once what others ask about it by its name: what it is called, of which type its samples are, whether it
takes a walk, the whole model in memory, the runtime that a candidate's files are made for, fresh processes, or only
what is stored. There are five kinds, by that need; each says in its own way all that its samples depend on (`work`), so
that samples of an earlier session are taken only where nothing of that has changed. docs/add-a-measure.md builds one.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias, TypeVar

if TYPE_CHECKING:
    from pytest_quantbench.catalog.models import Model
    from pytest_quantbench.catalog.recipes import Recipe
    from pytest_quantbench.catalog.settings import Settings
    from pytest_quantbench.checkpoints.checkpoint import Checkpoint
    from pytest_quantbench.compress.artifact import Artifact
    from pytest_quantbench.engines.batches import Batch
    from pytest_quantbench.engines.parameters import Capacity
    from pytest_quantbench.engines.protocol import Architecture, Engine, Walk
    from pytest_quantbench.engines.walk_proof import Proof
    from pytest_quantbench.fetch.texts import Text
    from pytest_quantbench.quantizers.kv import KVQuantizer

Needs = Literal["walk", "resident", "artifact", "file", "processes"]
S = TypeVar("S")
T = TypeVar("T")
S_co = TypeVar("S_co", covariant=True)


class Inputs(Protocol):
    """The model under test as a measure sees it. Everything is fetched or read when first asked for, and kept."""

    @property
    def model(self) -> Model:
        """The catalogue's entry, or the user's own."""

    @property
    def settings(self) -> Settings:
        """The session's options."""

    @property
    def engine(self) -> Engine:
        """What runs it."""

    @property
    def opened(self) -> Architecture:
        """The original weights."""

    @property
    def checkpoint(self) -> Checkpoint:
        """Their files."""

    @property
    def capacity(self) -> Capacity:
        """Which tokens and how many the model takes."""

    @property
    def tokenizer(self) -> Any:
        """The model's own."""

    @property
    def texts(self) -> Sequence[Text]:
        """The texts of T2; the first one is judged."""

    @property
    def tasks(self) -> Sequence[str]:
        """T3's tasks; the first one is judged."""

    @property
    def calibration_text(self) -> Text:
        """The text that recipes are fitted to."""

    def once(self, key: Hashable, make: Callable[[], T]) -> T:
        """What `make` gives, made for the first who asks by this key; what it raises is raised again."""


class Measure(Protocol[S]):
    """What all measures say of themselves. One kind by what it `needs` is below."""

    name: str  # of its part in a record, of its raw arrays, and of the check that judges it
    label: str  # as people are told: `T2`
    version: int  # raised when it gives other samples for the same work
    samples: type[S]  # a frozen dataclass of numbers, names and arrays, which can be kept between sessions
    needs: Needs
    told: bool = True  # a session says that it took these samples from an earlier one


class ArtifactMeasure(Measure[S], Protocol[S]):
    """One that looks at what is stored, and decodes it as it likes."""

    needs: Literal["artifact"] = "artifact"

    def work(self, artifact: Artifact) -> Mapping[str, Any]:
        """All that the samples depend on besides the key of the artifact."""
        return {"version": self.version}

    def can_be_taken(self, recipe: Recipe, inputs: Inputs) -> bool:
        """Whether there is anything to look at, and to compare with."""
        return True

    def measure(self, artifact: Artifact, reference: Artifact, inputs: Inputs) -> S:
        """The samples of an artifact, with the reference's beside it."""


class Trial(Protocol[S_co]):
    """A model that is measured in memory, item after item. It is kept, so that more items are added to what it did."""

    def start(self) -> None:
        """Load what is measured. Raises ModelError for a model that this cannot be done with."""

    def finish(self, items: int | None) -> S_co:
        """The samples of all items, at least so many (None: as many as the settings say); the model is let go."""

    def let_go(self) -> None:
        """Drop the model; later items load it again."""


class ResidentMeasure(Measure[S], Protocol[S]):
    """One that runs the whole model in memory, item after item. It is of the machine as much as of the model: with more
    items, its samples are others, kept for themselves.
    """

    needs: Literal["resident"] = "resident"

    def work(self, inputs: Inputs, items: int | None) -> Mapping[str, Any]:
        """All that so many items (None: as many as the settings say) depend on besides the model and the machine."""

    def lacks(self, inputs: Inputs, items: int | None, before: S) -> bool:
        """Whether these samples are fewer than so many items."""

    def trial(self, artifact: Artifact, reference: Artifact | None, inputs: Inputs) -> Trial[S]:
        """What measures an artifact, not started yet. `reference`: what may be run beside it, item by item; None where
        there is none, or both do not fit in memory.
        """


class FileMeasure(Measure[S], Protocol[S]):
    """One that has a candidate's own files run by what they are made for, beside what the measure called `beside` has
    found of the target and of the reference.
    """

    needs: Literal["file"] = "file"
    beside: str

    def can_be_taken(self, artifact: Artifact) -> bool:
        """Whether these are files that something runs."""

    def work(self, artifact: Artifact, inputs: Inputs) -> Mapping[str, Any]:
        """All that the samples depend on besides the key of the artifact and the machine."""

    def measure(self, artifact: Artifact, inputs: Inputs, *, own: Any, reference: Any) -> S:
        """The samples; `own` and `reference` are those of the other measure."""


class ProcessMeasure(Measure[S], Protocol[S]):
    """One that has fresh processes load the files, those of the reference beside them."""

    needs: Literal["processes"] = "processes"

    def lacks(self, artifact: Artifact) -> str:
        """Why it cannot be measured, in a sentence; empty where it can."""

    def work(self, artifact: Artifact, inputs: Inputs) -> Mapping[str, Any]:
        """All that the samples depend on besides the key of the artifact and the machine."""

    def measure(self, artifact: Artifact, reference: Artifact | None, inputs: Inputs) -> S:
        """The samples. `reference`: what is run beside it, in the same rounds; None where this is the reference."""


class Share(Protocol[S]):
    """What one measure reads on a walk, which other measures and other recipes of the model share.

    `reads`: whether there is anything to read. `wants_model`: whether `finished` runs the model in memory, for which
    the walk is let go of first.
    """

    reads: bool = True
    wants_model: bool = False

    @property
    def work(self) -> Mapping[str, Any]:
        """All that the samples depend on besides the model, and the reference's samples."""

    def batches(self, proof: Proof) -> Sequence[Batch]:
        """What is carried through the layers. Raises ModelError for an architecture that it cannot be read with."""

    def scored(self, walk: Walk, *, track: int, first: int, seconds: float, before: S | None, reference: S | None) -> S:
        """The samples of one track, whose batches lie in the walk from `first` on and took so many seconds; they go
        behind those of `before`. `reference`: those of the model in BF16, None where this is that.
        """

    def finished(
        self,
        samples: S,
        engine: Engine,
        artifact: Artifact,
        *,
        rounding: bool,
        before: S | None,
        cache: KVQuantizer | None = None,
    ) -> S:
        """The samples with what is left to do when the walk is done. `rounding`: in the other type of activations;
        `cache`: how keys and values are held.
        """
        return samples

    def unread(self, before: S) -> S:
        """Of a share that reads nothing: the samples, with what is known without reading."""
        return before


class WalkMeasure(Measure[S], Protocol[S]):
    """One that takes logits along a walk. `paired`: its samples compare the model with the reference, whose samples are
    taken first.
    """

    needs: Literal["walk"] = "walk"
    paired: bool = False

    def share(self, inputs: Inputs, items: int | None, before: S | None, of: str | None = None) -> Share[S] | None:
        """What has to be read for so many items (None: as many as the settings say at first) where the samples of
        `before` are there; None: nothing. Without `before`, what is read at first, whatever the items. `of`: the text
        or the task that the items are of, where a measure has several; None: its first.

        Raises QuantbenchError where there is no text, or there are no questions.
        """

    def is_same(self, samples: S, other: S) -> bool:
        """Whether two models gave the very same numbers, to the last bit, on what both have read."""
        return False

    def refuse(self, inputs: Inputs, *, calibrated: bool) -> None:
        """Raise QuantbenchError where a recipe that was `calibrated` may not be measured on these inputs."""
        return

    def refuse_reference(self, inputs: Inputs, samples: S) -> None:
        """Raise QuantbenchError where the reference's own samples show that nothing can be told by this measure."""
        return


AnyMeasure: TypeAlias = (
    ArtifactMeasure[Any] | FileMeasure[Any] | ProcessMeasure[Any] | ResidentMeasure[Any] | WalkMeasure[Any]
)
