"""Encode a checkpoint group by group: what lies outside the decoder layers, then each layer.

A calibrated recipe carries the calibration text along: the layers before have been encoded when a layer's inputs are
observed, so every layer is fitted to the inputs that it will really get.

The matrices of a mixture's experts are encoded one after the other, each with the statistics of its own tokens. Where
those of all experts of a layer take more memory than they may, the text is run through the layer several times, for
some experts at a time. An expert that saw too few tokens is rounded without data, and its parameter's note says so.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

import numpy as np

from pytest_quantbench import quantizers
from pytest_quantbench.catalog.recipes import Part, Recipe
from pytest_quantbench.checkpoints.tokenizer import load_tokenizer
from pytest_quantbench.compress import assignment
from pytest_quantbench.compress.assignment import OUTSIDE, Planned, Tensor
from pytest_quantbench.compress.calibration import SAMPLE_TOKENS, CalibrationSet, LayerInputs, needed_tokens
from pytest_quantbench.engines import need
from pytest_quantbench.engines.protocol import Architecture, Walk
from pytest_quantbench.engines.walk_proof import Proof
from pytest_quantbench.errors import ModelError
from pytest_quantbench.quantizers import Array, Arrays, Quantizer, Statistics
from pytest_quantbench.quantizers.encoding import Encoding, Rules, join, named
from pytest_quantbench.quantizers.mlx_form import Entry, entry_of

Native = dict[str, Entry | None]  # the `quantization` table of an MLX config.json; None: no entry


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What is encoded, and how. `memory_bytes`: of the calibration text's hidden states, whose rest goes to files, and
    of the statistics of a layer's experts, whose rest is collected later.
    """

    source: Architecture
    recipe: Recipe
    seed: int
    calibration: CalibrationSet | None
    memory_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoded:
    """One group of parameters: what was done to each, and the arrays by the names under which they are stored."""

    tensors: tuple[Tensor, ...]
    arrays: Arrays
    native: Native


class _Progress:
    """The model while it is compressed: weights of the group just encoded come out decoded, others as they are."""

    def __init__(self, source: Architecture) -> None:
        self.config, self.names = source.config, source.names
        self._source = source
        self.encoded: dict[str, Encoding] = {}

    def dense(self, name: str) -> Any:
        """One parameter."""
        if name in self.encoded:
            return self._source.engine.decode(self.encoded[name])
        return self._source.tensor(name)

    def inputs(self, name: str) -> Rules | None:
        """What the parameter's codec does to its layer's inputs."""
        return self.encoded[name].inputs() if name in self.encoded else None


@dataclass(slots=True, kw_only=True)
class _Work:
    """One parameter while it is encoded: what its matrices have become so far."""

    item: Planned
    codec: Quantizer
    made: list[Arrays] = field(default_factory=list)
    starved: dict[int, int] = field(default_factory=dict)  # experts that saw too few tokens, and how many they saw

    def encoding(self) -> Encoding:
        """When all are there."""
        arrays = join(self.made) if self.item.experts else self.made[0]
        self.made = []
        return Encoding(codec=self.codec, arrays=arrays, shape=self.item.shape)

    def note(self, encoding: Encoding) -> str:
        """What was done otherwise than the recipe says."""
        notes = [encoding.note()] if encoding.note() else []
        if self.starved:
            needed = needed_tokens(self.item.shape[-1])
            seen = ", ".join(f"{expert} ({tokens})" for expert, tokens in self.starved.items())
            notes.append(f"experts rounded without data because they saw fewer than {needed} tokens: {seen}")
        return "; ".join(notes)


class Encoder:
    """Encodes one group after the other. Groups that were encoded before are taken up with `take_up`."""

    def __init__(self, job: Job) -> None:
        planned = assignment.plan(job.source, job.recipe)
        self.groups: list[list[Planned]] = [list(group) for _, group in groupby(planned, key=lambda item: item.group)]
        self.calibrated = job.calibration is not None
        self._source, self._seed, self._calibration = job.source, job.seed, job.calibration
        self._memory_bytes = job.memory_bytes
        self._progress = _Progress(job.source)
        self._walk: Walk | None = None
        if self.calibrated:
            need(job.source.engine, "calibrate")
            self._walk = job.source.engine.walk([self._progress], memory_bytes=job.memory_bytes)
            self._refuse_loops(self._walk.proof)

    def _refuse_loops(self, proof: Proof) -> None:
        """Raise ModelError for a model that goes through its decoder layers more than once."""
        if proof.anatomy.loops > 1:
            raise ModelError(
                f"{self._source.checkpoint.directory}: {proof.architecture!r} goes {proof.anatomy.loops} times through "
                f"its decoder layers, and what they see later is known only when all are encoded. Choose a recipe that "
                f"needs no calibration, or --calibration none."
            )

    def encode(self, group: Sequence[Planned]) -> Encoded:
        """Encode a group; of calibrated recipes, the one behind the last that was carried on. Raises WeightError for
        NaN or infinite weights, QuantbenchError for a method whose input rule would be left out.
        """
        self._progress.encoded = {}
        works = [_Work(item=item, codec=quantizers.make(item.codec)) for item in group if item.codec]
        for experts in self._portions(group):
            self._encode(works, experts, self._observe(group[0].group, experts))
        self._progress.encoded = {work.item.name: work.encoding() for work in works}
        for encoding in {type(each.codec): each for each in self._progress.encoded.values()}.values():
            encoding.check_input_rule()
        return self._encoded(group, {work.item.name: work for work in works})

    def _encoded(self, group: Sequence[Planned], works: Mapping[str, _Work]) -> Encoded:
        """What is stored of a group."""
        arrays: Arrays = {}
        native: Native = {}
        tensors: list[Tensor] = []
        for item in group:
            note = ""
            if item.name in works:
                encoding = self._progress.encoded[item.name]
                native[item.path] = entry_of(encoding)
                note = works[item.name].note(encoding)
                stored = {f"{item.path}.{name}": array for name, array in encoding.arrays.items()}
            else:
                stored = {item.name: self._source.array(item.name)}
            tensors.append(item.tensor(sum(array.nbytes for array in stored.values()), tuple(stored), note))
            arrays |= stored
        return Encoded(tensors=tuple(tensors), arrays=arrays, native=native)

    def _portions(self, group: Sequence[Planned]) -> list[range]:
        """Experts whose statistics are in memory together; what is no expert's goes with the first."""
        most = max((item.experts for item in group), default=0) or 1
        if not self.calibrated:
            return [range(most)]
        # Experts of a mixture share their inputs where those are of one length; each has a Hessian and a sample.
        inputs = {(item.path.rpartition(".")[0], item.shape[-1]) for item in group if item.experts}
        each = sum(4 * length * (length + SAMPLE_TOKENS) for _, length in inputs)
        together = max(1, self._memory_bytes // each) if each else most
        return [range(first, min(first + together, most)) for first in range(0, most, together)]

    def _encode(self, works: Sequence[_Work], experts: range, seen: LayerInputs | None) -> None:
        """Encode the matrices of these experts, and with the first those that are no expert's."""
        known = {} if seen is None else seen.statistics()
        for work in works:
            mine = range(experts.start, min(experts.stop, work.item.experts or 1))
            if not mine:
                continue
            weight = self._source.array(work.item.name)
            for expert in mine:
                statistics = _statistics(work, expert, seen, known)
                arrays = work.codec.encode(weight[expert] if work.item.experts else weight, statistics, self._seed)
                work.made.append({name: np.asarray(array, order="C") for name, array in arrays.items()})

    def _observe(self, group: int, experts: range) -> LayerInputs | None:
        """What the layer's matrices saw, with its original weights and the encoded layers before it; of the experts',
        only these.
        """
        if self._walk is None or group == OUTSIDE:
            return None
        seen = LayerInputs(len(self._walk.batches), self._seed, experts=experts)
        self._walk.observe(group, seen)
        return seen

    def take_up(self, tensors: Sequence[Tensor], arrays: Mapping[str, Array]) -> None:
        """Be where the encoder was that made these of a group. Without calibration no group needs the one before."""
        self._progress.encoded = {}
        for tensor in tensors if self.calibrated else ():
            if tensor.quantizer is not None:
                codec = quantizers.make(Part(quantizer=tensor.quantizer, parameters=tensor.parameters))
                own = {array.rpartition(".")[2]: arrays[array] for array in tensor.arrays}
                self._progress.encoded[tensor.name] = Encoding(codec=codec, arrays=own, shape=tensor.shape)

    def carry_on(self, group: Sequence[Planned]) -> None:
        """Carry the calibration text through the group that was encoded, or taken up, just now."""
        if self._walk is None or self._calibration is None:
            return
        if group is self.groups[-1]:
            self._walk.let_go()  # nobody asks for what comes behind
        elif group[0].group == OUTSIDE:
            tokenizer = load_tokenizer(self._source.checkpoint.directory)
            capacity = self._source.engine.capacity(self._source.config)
            self._walk.begin(self._calibration.batches(tokenizer, capacity, self._seed))
        else:
            self._walk.advance(group[0].group)


def _statistics(
    work: _Work, expert: int, seen: LayerInputs | None, known: Mapping[str, Statistics]
) -> Statistics | None:
    """What the method gets to see of a matrix's inputs. An expert that saw too little is put down as starved."""
    path = work.item.path
    if seen is None or work.codec.calibration == "none":
        return None
    if not seen.routed(path):
        return known.get(path)
    tokens = seen.tokens(path, expert)
    if tokens >= needed_tokens(work.item.shape[-1]):
        return known[named(path, expert)]
    work.starved[expert] = tokens
    return seen.without_data(path) if work.codec.calibration == "hessian" else None
