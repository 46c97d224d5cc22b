"""What an engine is: one way of running a model. Everything that names MLX or PyTorch lies behind these protocols.

A model is opened from a checkpoint's files (`Architecture`), walked layer by layer with several weights at once
(`Walk`), or held in memory whole (`Resident`). Token ids, losses, statistics and logits that are asked for are numpy
arrays; weights are handed through in whatever form they are stored. Paths of parameters are the engine's own.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from pytest_quantbench.checkpoints.checkpoint import Checkpoint
from pytest_quantbench.engines.batches import Batch, Ids
from pytest_quantbench.engines.logits import Logits
from pytest_quantbench.engines.parameters import Capacity, Origin, Parameter
from pytest_quantbench.engines.resident import Resident
from pytest_quantbench.engines.walk_proof import Proof
from pytest_quantbench.engines.weights import Cached as Cached
from pytest_quantbench.engines.weights import Config as Config
from pytest_quantbench.engines.weights import EncodedWeights as EncodedWeights
from pytest_quantbench.engines.weights import Rounded as Rounded
from pytest_quantbench.engines.weights import SeenCaches
from pytest_quantbench.engines.weights import Weights as Weights
from pytest_quantbench.quantizers import Array, Layer
from pytest_quantbench.quantizers.encoding import Encoding
from pytest_quantbench.quantizers.kv.protocol import KVQuantizer

MEMORY_BYTES = 4 * 2**30  # of hidden states: 128 sequences of 2,048 tokens of a 4,096-wide model are exactly that
Rows = NDArray[np.float32]
Square = Callable[[Rows], Rows]  # (tokens, in) → rowsᵀ rows, (in, in): computed where the engine computes fastest
Backend = Literal["metal", "cuda", "mps", "cpu"]
Activations = Literal["float32", "bfloat16"]  # of walks: what hidden states and products are computed in
Ability = Literal["walk", "calibrate", "resident", "kv", "batches"]
Use = Literal["timed", "answers", "rounded answers"]


class Architecture(Protocol):
    """A model as the engine opened it from a checkpoint's files; weights are read when asked for."""

    @property
    def engine(self) -> "Engine":
        """What opened it."""

    @property
    def checkpoint(self) -> Checkpoint:
        """Its files."""

    @property
    def config(self) -> Config:
        """config.json, saying of the output head what is true of the weights."""

    @property
    def parameters(self) -> Sequence[Parameter]:
        """Every parameter, in the model's own order."""

    @property
    def names(self) -> Sequence[str]:
        """Their paths."""

    @property
    def layers(self) -> Sequence[str]:
        """What the paths of each decoder layer's parameters begin with, such as `model.layers.0.`."""

    @property
    def dtype(self) -> str:
        """The type in which most parameters are stored, such as `bfloat16`."""

    def tensor(self, path: str) -> Any:
        """One parameter as it is stored, in the engine's own form, lazily read, and not kept here afterwards."""

    def array(self, path: str) -> Array:
        """The same in numpy, of its own type; nobody may write into it. Raises WeightError where it is no numbers."""

    def origin(self, path: str) -> Origin:
        """Which published tensors a parameter is made of. Raises ModelError where that cannot be told."""

    def made(self, path: str, tensors: Mapping[str, Array]) -> Array:
        """The parameter from its sources: {published name: values}."""

    def let_go(self) -> None:
        """Forget what was read, so that the files can be deleted."""


class InputSink(Protocol):
    """What takes the inputs of a decoder layer's matrices, as a walk shows them batch by batch."""

    def share(self, path: str, owner: str) -> None:
        """The layer of this path has the inputs of another one, which are added there."""

    def add(self, path: str, rows: Rows, square: Square) -> None:
        """The inputs of one batch, (tokens, in)."""

    def add_routed(self, path: str, rows: Rows, by_expert: Iterable[tuple[int, Rows]], square: Square) -> None:
        """The inputs of a layer of experts, and those of each expert that has any."""


class Walk(SeenCaches, Protocol):
    """Several models of one architecture, carried through it layer by layer, each with hidden states of its own.

    What one track computes does not depend on the others, to the last bit. A track whose numbers end is left out from
    there on, and raises WeightError when it is asked for.
    """

    batches: Sequence[Batch]

    @property
    def proof(self) -> Proof:
        """What may be done with the architecture."""

    @property
    def vocabulary(self) -> int:
        """How many logits a position has."""

    def __len__(self) -> int:
        """How many steps there are: one for each decoder layer, as often as the model goes through them."""

    def run(self, batches: Sequence[Batch | Ids], what: str) -> None:
        """`begin`, and `advance` through all layers; `what` names the bar of progress. A branch stands behind its
        parent. Raises WeightError where the numbers of all tracks have ended.
        """

    def begin(self, batches: Sequence[Batch | Ids]) -> None:
        """Embed the batches."""

    def observe(self, index: int, inputs: InputSink) -> None:
        """Show what the linear layers of one decoder layer are called with on track 0, and stay here."""

    def advance(self, index: int) -> None:
        """Carry all batches through one decoder layer, with the weights that `dense` gives now."""

    def logits(self, batch: int, positions: slice, track: int = 0) -> Logits:
        """The logits at these positions of a batch, row after row."""

    def logits_at(self, batch: int, rows: Ids, places: Ids, track: int = 0) -> Logits:
        """The logits of single positions: row `rows[i]`, place `places[i]` of a batch."""

    def weights_sha256(self, track: int = 0) -> str:
        """Hash over path, shape and float32 values of all weights that were run, as `digests` defines it."""

    def let_go(self) -> None:
        """Forget the hidden states; there are no logits after this."""


class Decoder(Protocol):
    """What has the values of encoded parameters, wherever it has its arrays."""

    def decode(self, encoding: Encoding) -> Any:
        """An encoded parameter's values, in an array of numpy's or of the engine's: by its own kernels where these are
        faster than the method itself.
        """

    def to_host(self, array: Any) -> Array:
        """The same values and type in numpy, of either's array; nobody may write into it."""


class Engine(Decoder, Protocol):
    """One way of running a model, made with its `activations`. `packages` are those whose versions its figures depend
    on. `paths_are_mlx_lms`: its parameters have mlx-lm's names and shapes, so what it opens mlx-lm does, and artifacts
    say how to.
    """

    name: ClassVar[str]
    can: ClassVar[frozenset[Ability]]
    packages: ClassVar[tuple[str, ...]]
    paths_are_mlx_lms: ClassVar[bool]

    @property
    def version(self) -> str:
        """What the key of an artifact says of the engine that made it: other engines and versions have other texts."""

    @property
    def backend(self) -> Backend:
        """Where arrays land by default."""

    @property
    def activations(self) -> Activations:
        """In what walks compute."""

    @property
    def threads(self) -> int | None:
        """On how many threads of a CPU it computes; None where an accelerator does, and where it cannot tell."""

    @property
    def device_name(self) -> str:
        """What the accelerator is called by its driver; empty on a CPU."""

    @property
    def judges_speed(self) -> bool:
        """Whether its timings here are those of kernels that people deploy, and T1 is judged; else it is shown only."""

    def open(self, checkpoint: Checkpoint) -> Architecture:
        """The model of these files. Raises ModelError for an architecture or a config that the engine would not
        compute as the model's own code does, and for weights that are missing or of another shape.
        """

    def capacity(self, config: Config) -> Capacity:
        """Which tokens and how many the model takes. Raises ModelError for a length that is no number."""

    def prove(self, model: Weights) -> Proof:
        """Whether a walk of this architecture is its forward pass, tried in small: once in a process."""

    def walk(self, models: Sequence[Weights | Rounded | Cached], *, memory_bytes: int = MEMORY_BYTES) -> Walk:
        """Walk these, tracks 0, 1, …; hidden states beyond `memory_bytes` go to temporary files. Raises ModelError for
        an architecture that cannot be walked.
        """

    def load(self, model: EncodedWeights, use: Use, cache: KVQuantizer | None = None) -> Resident:
        """Load a model whole: `timed` as it is deployed; for `answers` with the activations of walks; for `rounded
        answers` with the other type of them, as the noise floor wants it. `cache`: how keys and values are held.
        """

    def outputs(self, layer: Layer, decode: Callable[[], Array], inputs: Rows) -> Rows:
        """(…, in) → (…, out) in float32, by what the engine builds of a described layer, as it is timed; `decode` gives
        the decoded matrix, where the layer needs that.
        """

    def matrix(self, layer: Layer) -> Rows | None:
        """The (out, in) matrix of a described layer in float32, by the engine's own kernels; None where it has none."""

    def save(self, file: Path, arrays: Mapping[str, Array]) -> None:
        """Write a safetensors file of an artifact. Raises OSError where that fails."""

    def answers_bytes(self, values: int) -> int:
        """The memory that so many weights take when loaded for answers."""

    def reset_peak(self) -> None:
        """Begin to look for the peak of memory anew."""

    def peak_bytes(self) -> int:
        """The most that arrays have taken since."""

    def reserved_bytes(self) -> int | None:
        """The most that it took of the device since, with what it keeps for reuse; None where it does not tell."""

    def products_per_second(self, side: int, repeats: int) -> float:
        """Of fixed (side, side) float32 matrices, the best of a few times, to compare over time (see `probes`)."""

    def read_bytes_per_second(self, held: int) -> float:
        """How fast what runs resident models reads so many bytes of memory again and again, beside what else runs."""

    def free_bytes(self) -> int:
        """The memory that is left for models where it holds them."""

    def release(self) -> None:
        """Give back memory that is held for reuse."""
