"""MLX as an engine: mlx-lm's models on Metal, on CUDA, and on a Linux CPU with numpy's products (see host_products)."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray

from pytest_quantbench.checkpoints.checkpoint import Checkpoint
from pytest_quantbench.checkpoints.tokenizer import vocabulary
from pytest_quantbench.engines import probes
from pytest_quantbench.engines.machine import version_of
from pytest_quantbench.engines.mlx import bytes_read, layers, resident
from pytest_quantbench.engines.mlx.arrays import save, to_mlx, to_numpy
from pytest_quantbench.engines.mlx.host_products import backend
from pytest_quantbench.engines.mlx.opened_checkpoint import Opened
from pytest_quantbench.engines.mlx.positions import limits
from pytest_quantbench.engines.mlx.walk import Walk
from pytest_quantbench.engines.mlx.walk_trial import prove
from pytest_quantbench.engines.parameters import Capacity
from pytest_quantbench.engines.protocol import (
    MEMORY_BYTES,
    Ability,
    Activations,
    Backend,
    Cached,
    Config,
    EncodedWeights,
    Rounded,
    Use,
    Weights,
)
from pytest_quantbench.engines.walk_proof import Proof
from pytest_quantbench.errors import QuantbenchError
from pytest_quantbench.quantizers import Array, Layer
from pytest_quantbench.quantizers.encoding import Encoding
from pytest_quantbench.quantizers.kv.protocol import KVQuantizer


class MlxEngine:
    """An `Engine`. `host`: products are numpy's in walks and for answers; by default on a CPU, and nowhere else."""

    name: ClassVar[str] = "mlx"
    can: ClassVar[frozenset[Ability]] = frozenset({"walk", "calibrate", "resident", "kv", "batches"})
    packages: ClassVar[tuple[str, ...]] = ("mlx", "mlx-lm")
    paths_are_mlx_lms: ClassVar[bool] = True

    def __init__(self, *, activations: Activations = "float32", host: bool | None = None) -> None:
        if activations != "float32":
            raise QuantbenchError(
                f"The engine mlx walks with float32 activations, not {activations}. Leave out --activations, or take "
                f"--engine torch, which walks in both."
            )
        self._host = backend() == "cpu" if host is None else host

    @property
    def version(self) -> str:
        """MLX's own."""
        return version_of("mlx")

    @property
    def backend(self) -> Backend:
        """Where arrays land by default."""
        return backend()

    @property
    def activations(self) -> Activations:
        """Always those."""
        return "float32"

    @property
    def threads(self) -> int | None:
        """MLX does not tell."""
        return None

    @property
    def device_name(self) -> str:
        """As MLX has it of the driver."""
        return "" if backend() == "cpu" else str(mx.device_info()["device_name"])

    @property
    def judges_speed(self) -> bool:
        """On Metal and CUDA. MLX's kernels for a Linux CPU are not what anyone deploys."""
        return backend() != "cpu"

    def open(self, checkpoint: Checkpoint) -> Opened:
        """mlx-lm's model of these files."""
        return Opened(checkpoint, self)

    def capacity(self, config: Config) -> Capacity:
        """As config.json says, and as far as mlx-lm's module computes what the model does."""
        return Capacity(vocabulary=vocabulary(config), positions=min(limits(config).values(), default=None))

    def prove(self, model: Weights) -> Proof:
        """Whether a walk of this architecture is mlx-lm's forward pass."""
        return prove(model.config, model.names, self._host, Walk)

    def walk(self, models: Sequence[Weights | Rounded | Cached], *, memory_bytes: int = MEMORY_BYTES) -> Walk:
        """Walk these together."""
        return Walk(*models, host=self._host, memory_bytes=memory_bytes)

    def load(self, model: EncodedWeights, use: Use, cache: KVQuantizer | None = None) -> resident.Resident:
        """With native quantized layers; decoded, in numpy, where answers are wanted of a CPU.

        Raises QuantbenchError for a cache in few bits that is to be timed: how it computes here is for answers alone.
        """
        if cache is not None and use == "timed":
            raise QuantbenchError(
                f"The engine mlx does not time a key-value cache of the method {cache.name}: it holds one for answers "
                f"and walks only."
            )
        activations: Mapping[Use, Activations] = {"answers": "float32", "rounded answers": "bfloat16"}
        loaded = resident.load(model, host=self._host and use == "answers", activations=activations.get(use))
        return replace(loaded, cache=cache)

    def decode(self, encoding: Encoding) -> Any:
        """By the method itself on a CPU, by MLX's kernels elsewhere."""
        return layers.dense(encoding)

    def to_host(self, array: mx.array | Array) -> Array:
        """What MLX has, where the host can read it; numpy's own as it is."""
        return to_numpy(array) if isinstance(array, mx.array) else array

    def outputs(self, layer: Layer, decode: Callable[[], Array], inputs: NDArray[np.float32]) -> NDArray[np.float32]:
        """By the module that takes the place of mlx-lm's linear layer."""
        built = layers.module(layer, decode)
        built.set_dtype(mx.float32)
        return np.array(built(to_mlx(inputs)))

    def matrix(self, layer: Layer) -> NDArray[np.float32] | None:
        """By MLX's dequantization, where the layer has a grid."""
        found = layers.decoded(layer)
        return None if found is None else np.array(found)

    def save(self, file: Path, arrays: Mapping[str, Array]) -> None:
        """Write a safetensors file that says it is MLX's."""
        save(file, arrays, metadata={"format": "mlx"})

    def answers_bytes(self, values: int) -> int:
        """Four bytes each in float32."""
        return 4 * values

    def reset_peak(self) -> None:
        """Begin to look for the peak of memory anew."""
        mx.reset_peak_memory()

    def peak_bytes(self) -> int:
        """The most that MLX's arrays have taken since."""
        return mx.get_peak_memory()

    def reserved_bytes(self) -> int | None:
        """The peak of arrays with what MLX keeps for reuse now, which is no less than what it took of the device."""
        return mx.get_peak_memory() + mx.get_cache_memory()

    def products_per_second(self, side: int, repeats: int) -> float:
        """Of two (side, side) float32 matrices, the best of a few times; on an accelerator many at a time."""
        size = probes.size(side, on_cpu=self.backend == "cpu")
        left = mx.full((size.stacked * side, side), 0.5, dtype=mx.float32)
        right = mx.full((side, side), 0.5, dtype=mx.float32)
        mx.eval(left, right)
        return probes.per_second(lambda: mx.eval([left @ right for _ in range(size.calls)]), size, repeats)

    def read_bytes_per_second(self, held: int) -> float:
        """By MLX on an accelerator, by numpy on a CPU."""
        return bytes_read.read_bytes_per_second(held)

    def free_bytes(self) -> int:
        """On an accelerator of its memory, less what arrays take; on a CPU of the machine's."""
        return bytes_read.free_bytes()

    def release(self) -> None:
        """Give back memory that MLX holds for reuse."""
        mx.clear_cache()
