"""Encode a checkpoint group by group: what lies outside the decoder layers, then each layer.

A calibrated recipe carries the calibration text along: the layers before have been encoded when a layer's inputs are
observed, so every layer is fitted to the inputs that it will really get.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

import mlx.core as mx

from pytest_quantbench import coverage, quantizers
from pytest_quantbench.calibration import CalibrationSet, Observer
from pytest_quantbench.checkpoint import Checkpoint
from pytest_quantbench.coverage import OUTSIDE, Planned, Tensor
from pytest_quantbench.errors import ModelError, WeightError
from pytest_quantbench.machine import backend
from pytest_quantbench.proof import Proof
from pytest_quantbench.quantizers import Annotated, InputRule, MlxStored, Quantizer, QuantizesInputs, Statistics
from pytest_quantbench.recipes import Part, Recipe
from pytest_quantbench.stream import Walk
from pytest_quantbench.tokens import load_tokenizer

Encoding = tuple[Quantizer, dict[str, mx.array]]
Native = dict[str, dict[str, int | str] | None]  # the `quantization` table of an MLX config.json; None: no entry


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What is encoded, and how. `memory_bytes`: of the calibration text's hidden states; the rest goes to files."""

    checkpoint: Checkpoint
    recipe: Recipe
    seed: int
    calibration: CalibrationSet | None
    memory_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoded:
    """One group of parameters: what was done to each, and the arrays by the names under which they are stored."""

    tensors: tuple[Tensor, ...]
    arrays: dict[str, mx.array]
    native: Native


class _Progress:
    """The model while it is compressed: weights of the group just encoded come out decoded, others as they are."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self.config = checkpoint.config
        self.names = checkpoint.names
        self._checkpoint = checkpoint
        self.encoded: dict[str, Encoding] = {}

    def dense(self, name: str) -> mx.array:
        """One parameter."""
        if name not in self.encoded:
            return self._checkpoint.tensor(name)
        codec, arrays = self.encoded[name]
        return codec.decode(arrays)

    def inputs(self, name: str) -> InputRule | None:
        """What the parameter's codec does to its layer's inputs."""
        codec, arrays = self.encoded.get(name, (None, {}))
        return codec.inputs(arrays) if isinstance(codec, QuantizesInputs) else None


class Encoder:
    """Encodes one group after the other. Groups that were encoded before are taken up with `take_up`."""

    def __init__(self, job: Job) -> None:
        planned = coverage.plan(job.checkpoint, job.recipe)
        self.groups: list[list[Planned]] = [list(group) for _, group in groupby(planned, key=lambda item: item.group)]
        self.calibrated = job.calibration is not None
        self._checkpoint, self._seed, self._calibration = job.checkpoint, job.seed, job.calibration
        self._progress = _Progress(job.checkpoint)
        self._walk: Walk | None = None
        if self.calibrated:
            self._walk = Walk(self._progress, host=backend() == "cpu", memory_bytes=job.memory_bytes)
            self._refuse_loops(self._walk.proof)

    def _refuse_loops(self, proof: Proof) -> None:
        """Raise ModelError for a model that goes through its decoder layers more than once."""
        if proof.anatomy.loops > 1:
            raise ModelError(
                f"{self._checkpoint.directory}: {proof.architecture!r} goes {proof.anatomy.loops} times through its "
                f"decoder layers, and what they see later is known only when all are encoded. Choose a recipe that "
                f"needs no calibration, or --calibration none."
            )

    def encode(self, group: Sequence[Planned]) -> Encoded:
        """Encode a group; of calibrated recipes, the one behind the last that was carried on. Raises WeightError for
        NaN or infinite weights.
        """
        statistics = self._observe(group[0].group)
        self._progress.encoded = {}
        arrays: dict[str, mx.array] = {}
        native: Native = {}
        tensors: list[Tensor] = []
        for item in group:
            made, note = self._encode(item, statistics.get(item.path), native)
            prefix = item.name.removesuffix("weight") if item.codec else ""
            named = {prefix + array: value for array, value in made.items()}
            tensors.append(item.tensor(sum(value.nbytes for value in named.values()), tuple(named), note))
            arrays |= named
        return Encoded(tensors=tuple(tensors), arrays=arrays, native=native)

    def _encode(self, item: Planned, statistics: Statistics | None, native: Native) -> tuple[dict[str, mx.array], str]:
        """The parameter's arrays, and what was done otherwise than the recipe says."""
        weight = self._checkpoint.tensor(item.name)
        # where the sum is a number all are, and it takes a quarter of the time
        if not (mx.isfinite(mx.sum(weight)).item() or mx.all(mx.isfinite(weight)).item()):
            source = self._checkpoint.directory
            raise WeightError(f"{item.name} of {source} has NaN or infinite values: not a usable model.")
        if item.codec is None:
            return {item.name: weight}, ""
        codec = quantizers.make(item.codec)
        arrays = codec.encode(weight, statistics if codec.calibration != "none" else None, self._seed)
        mx.eval(arrays)
        self._progress.encoded[item.name] = codec, arrays
        native[item.path] = codec.mlx_parameters(arrays) if isinstance(codec, MlxStored) else None
        return arrays, codec.note((item.shape[0], item.shape[1]), arrays) if isinstance(codec, Annotated) else ""

    def _observe(self, group: int) -> Mapping[str, Statistics]:
        """Statistics by path of the layer's matrices, from its original weights and the encoded layers before it."""
        if self._walk is None or group == OUTSIDE:
            return {}
        observer = Observer(len(self._walk.batches), self._seed, host=backend() == "cpu")
        self._walk.observe(group, observer.wrap)
        return observer.statistics()

    def take_up(self, tensors: Sequence[Tensor], arrays: Mapping[str, mx.array]) -> None:
        """Be where the encoder was that made these of a group. Without calibration no group needs the one before."""
        self._progress.encoded = {}
        for tensor in tensors if self.calibrated else ():
            if tensor.quantizer is not None:
                codec = quantizers.make(Part(quantizer=tensor.quantizer, parameters=tensor.parameters))
                own = {array.rpartition(".")[2]: arrays[array] for array in tensor.arrays}
                self._progress.encoded[tensor.name] = codec, own

    def carry_on(self, group: Sequence[Planned]) -> None:
        """Carry the calibration text through the group that was encoded, or taken up, just now."""
        if self._walk is None or self._calibration is None:
            return
        if group is self.groups[-1]:
            self._walk.let_go()  # nobody asks for what comes behind
        elif group[0].group == OUTSIDE:
            tokenizer = load_tokenizer(self._checkpoint.directory)
            self._walk.begin(self._calibration.batches(tokenizer, self._checkpoint.config, self._seed))
        else:
            self._walk.advance(group[0].group)
