"""PyTorch as an engine: Transformers' models on CUDA, on Metal (MPS) and on a CPU.

What each method does lies in a module of its own, which is imported when it is asked for: kernels bring compilers.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray

from pytest_quantbench.checkpoints.checkpoint import Checkpoint
from pytest_quantbench.checkpoints.tokenizer import vocabulary
from pytest_quantbench.engines import probes, process_memory
from pytest_quantbench.engines.machine import version_of
from pytest_quantbench.engines.parameters import Capacity
from pytest_quantbench.engines.positions import limits
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
from pytest_quantbench.engines.torch import device as devices
from pytest_quantbench.engines.walk_proof import Proof
from pytest_quantbench.quantizers import Array, Layer
from pytest_quantbench.quantizers.encoding import Encoding
from pytest_quantbench.quantizers.kv.protocol import KVQuantizer

if TYPE_CHECKING:
    from pytest_quantbench.engines.torch.opened_checkpoint import Opened
    from pytest_quantbench.engines.torch.resident import Resident
    from pytest_quantbench.engines.torch.walk import Walk

JUDGED = frozenset({"cuda", "cpu"})  # devices whose timings are those of kernels that read what is stored


class TorchEngine:
    """An `Engine`. `device`: `cuda`, `mps` or `cpu`; by default CUDA, else Metal, else the CPU."""

    name: ClassVar[str] = "torch"
    can: ClassVar[frozenset[Ability]] = frozenset({"walk", "calibrate", "resident", "kv", "batches"})
    packages: ClassVar[tuple[str, ...]] = ("torch", "triton", "numba")
    paths_are_mlx_lms: ClassVar[bool] = False

    def __init__(self, *, activations: Activations = "float32", device: str | None = None) -> None:
        self._activations: Activations = activations
        self.device = devices.chosen(device)
        if self.device.type == "cuda":
            devices.sum_in_float32()
        self._since: process_memory.Since = "process"

    @property
    def version(self) -> str:
        """Those of PyTorch and of Transformers, whose code the models are; and the type that calibration walks in."""
        return f"torch {version_of('torch')}, transformers {version_of('transformers')}, {self._activations}"

    @property
    def backend(self) -> Backend:
        """Where arrays land."""
        kinds: Mapping[str, Backend] = {"cuda": "cuda", "mps": "mps"}
        return kinds.get(self.device.type, "cpu")

    @property
    def activations(self) -> Activations:
        """In what walks compute."""
        return self._activations

    @property
    def threads(self) -> int | None:
        """PyTorch's, which our own kernels take as well."""
        return torch.get_num_threads() if self.device.type == "cpu" else None

    @property
    def device_name(self) -> str:
        """Of a CUDA device. Metal's is the chip."""
        return torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else ""

    @property
    def judges_speed(self) -> bool:
        """On CUDA and on a CPU, for which kernels were made. On MPS every quantized matrix runs decoded."""
        return self.device.type in JUDGED

    def open(self, checkpoint: Checkpoint) -> "Opened":
        """Transformers' model of these files, without weights."""
        from pytest_quantbench.engines.torch.opened_checkpoint import Opened

        return Opened(checkpoint, self)

    def capacity(self, config: Config) -> Capacity:
        """As config.json says."""
        return Capacity(vocabulary=vocabulary(config), positions=min(limits(config).values(), default=None))

    def prove(self, model: Weights) -> Proof:
        """Whether a walk of this architecture is Transformers' forward pass; in float32, whatever walks compute in."""
        from pytest_quantbench.engines.torch.walk import Walk
        from pytest_quantbench.engines.torch.walk_trial import prove

        return prove(model.config, model.names, self.device, Walk)

    def walk(self, models: Sequence[Weights | Rounded | Cached], *, memory_bytes: int = MEMORY_BYTES) -> "Walk":
        """Walk these together."""
        from pytest_quantbench.engines.torch.walk import Walk

        return Walk(*models, device=self.device, activations=self._activations, memory_bytes=memory_bytes)

    def load(self, model: EncodedWeights, use: Use, cache: KVQuantizer | None = None) -> "Resident":
        """With kernels for what is quantized, where there are any."""
        from pytest_quantbench.engines.torch import resident

        return resident.load(model, use, device=self.device, activations=self._activations, cache=cache)

    def decode(self, encoding: Encoding) -> Any:
        """By the method itself on a CPU, by the device's kernels elsewhere."""
        from pytest_quantbench.engines.torch import layers

        return layers.dense(encoding, self.device)

    def to_host(self, array: torch.Tensor | Array) -> Array:
        """A tensor's values in numpy; numpy's own as it is."""
        from pytest_quantbench.engines.torch.arrays import to_numpy

        return to_numpy(array) if isinstance(array, torch.Tensor) else array

    def outputs(self, layer: Layer, decode: Callable[[], Array], inputs: NDArray[np.float32]) -> NDArray[np.float32]:
        """By the module that takes the place of the model's linear layer."""
        from pytest_quantbench.engines.torch import layers

        return layers.outputs(layer, decode, inputs, self.device)

    def matrix(self, layer: Layer) -> NDArray[np.float32] | None:
        """By the device's kernels."""
        from pytest_quantbench.engines.torch import layers

        return layers.matrix(layer, self.device)

    def save(self, file: Path, arrays: Mapping[str, Array]) -> None:
        """Write a safetensors file."""
        from pytest_quantbench.engines.torch.arrays import save

        save(file, arrays)

    def answers_bytes(self, values: int) -> int:
        """Four bytes each in float32, two in bfloat16."""
        return values * (4 if self._activations == "float32" else 2)

    def reset_peak(self) -> None:
        """Begin to look for the peak of memory anew."""
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
        else:
            self._since = process_memory.lower_mark()

    def peak_bytes(self) -> int:
        """The most that tensors have taken on a CUDA device since; elsewhere the process's own peak, for PyTorch keeps
        no account there.
        """
        if self.device.type == "cuda":
            return int(torch.cuda.max_memory_allocated(self.device))
        return process_memory.peak(self._since).peak_bytes

    def reserved_bytes(self) -> int | None:
        """What PyTorch's allocator took of a CUDA device, or holds of Metal's memory now; None on a CPU."""
        if self.device.type == "cuda":
            return int(torch.cuda.max_memory_reserved(self.device))
        return int(torch.mps.driver_allocated_memory()) if self.device.type == "mps" else None

    def products_per_second(self, side: int, repeats: int) -> float:
        """Of two (side, side) float32 matrices, the best of a few times; on an accelerator many at a time."""
        size = probes.size(side, on_cpu=self.device.type == "cpu")
        left = torch.full((size.stacked * side, side), 0.5, device=self.device)
        right = left[:side]

        def multiplied() -> None:
            for _ in range(size.calls):
                left @ right
            self._wait()

        self._wait()
        return probes.per_second(multiplied, size, repeats)

    def read_bytes_per_second(self, held: int) -> float:
        """Of the device's memory, by a sum."""
        return devices.read_bytes_per_second(self.device, held)

    def free_bytes(self) -> int:
        """Of the device's memory."""
        return devices.free_bytes(self.device)

    def _wait(self) -> None:
        """Until the device has done what it was told to."""
        devices.wait(self.device)

    def release(self) -> None:
        """Give back memory that PyTorch holds for reuse."""
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        elif self.device.type == "mps":
            torch.mps.empty_cache()
