"""Checkpoints of the compressed-tensors package, as llm-compressor writes them and vLLM runs them.

Source: the compressed-tensors package, `quantization_config` in config.json and the compressors' tensors. A quantized
module has parts such as `weight_packed` and `weight_scale` in place of its `weight`; the others have theirs as it was.

Where we differ: weights are decoded in float32, without rounding to the scales' type. Inputs that are rounded to
integers, token by token or on a fixed grid, are rounded here too; a token's scale is its largest value over the largest
code, as vLLM's kernels have it, where the package itself takes half the range (127.5 for 127). Other inputs, outputs
and the cache of keys and values stay as they are, and the matrix's note says so. Sparse formats and rotations that are
applied at run time are refused.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from pytest_quantbench.checkpoints.formats import compressed_parts as parts
from pytest_quantbench.checkpoints.formats.compressed_module import OF_INPUTS, OF_WEIGHT, Module
from pytest_quantbench.checkpoints.formats.compressed_schemes import Arguments, Config, Scheme
from pytest_quantbench.checkpoints.formats.folder import FLOATS, Folder, OwnedParts, quantization_of
from pytest_quantbench.checkpoints.formats.protocol import HeldTensor, Holding
from pytest_quantbench.checkpoints.safetensors_header import short
from pytest_quantbench.errors import ModelError

CACHE_SCALES = ("k_scale", "v_scale", "q_scale", "k_zero_point", "v_zero_point", "q_zero_point")
CACHED = ("k_proj", "v_proj")
DENSE = (None, "dense")
UNPACKED = ("dense", "fakequant")


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """What a format takes, and what reads it."""

    read: Mapping[str, Callable[[Module], HeldTensor]]  # by the type of its numbers
    bits: Mapping[str, Sequence[int]]  # the same
    group: int | None = None  # that it always has

    def takes(self, kind: Arguments | None) -> bool:
        """Whether weights can be stored so."""
        if kind is None or kind.bits not in self.bits.get(kind.type, ()):
            return False
        return self.group is None or (kind.group == self.group and kind.symmetric)


WHOLE = range(1, 9)
NAIVE = Layout(
    read={"int": parts.unpacked_integers, "float": parts.float8},
    bits={"int": WHOLE, "float": (8,)},
)
LAYOUTS: Mapping[str, Layout] = {
    "pack-quantized": Layout(read={"int": parts.packed}, bits={"int": WHOLE}),
    **dict.fromkeys(("int-quantized", "float-quantized", "naive-quantized"), NAIVE),
    "nvfp4-pack-quantized": Layout(read={"float": parts.nvfp4}, bits={"float": (4,)}, group=16),
    "mxfp4-pack-quantized": Layout(read={"float": parts.microscaled}, bits={"float": (4,)}, group=32),
    "mxfp6-pack-quantized": Layout(read={"float": parts.microscaled}, bits={"float": (6,)}, group=32),
    "mxfp8-quantized": Layout(read={"float": parts.microscaled}, bits={"float": (8,)}, group=32),
}
READ = ", ".join((*LAYOUTS, "dense"))


class CompressedTensors:
    """A `Format`."""

    name: ClassVar[str] = "compressed-tensors"
    what: ClassVar[str] = f"compressed-tensors checkpoints ({READ})"

    def recognizes(self, source: Path) -> bool:
        """`quant_method` says so, or older: it stands under `compression_config`."""
        found = quantization_of(source)
        return found.get("quant_method") == self.name or ("config_groups" in found and "quant_method" not in found)

    def open(self, source: Path) -> Holding:
        """Open it."""
        return CompressedHolding(Folder(source))


class CompressedHolding(OwnedParts):
    """Matrices under the names that they had before they were compressed."""

    format, naming = "compressed-tensors", "published"

    def __init__(self, folder: Folder) -> None:
        self._folder = folder
        self.files = folder.files
        _refuse(folder)
        self._schemes = Config(folder.directory / "config.json").schemes(folder.quantization)
        self._beside = CACHE_SCALES if self._schemes.caches else ()
        self._shapes = self._read_shapes()
        if not any(tensor.codec is not None for tensor in self.stored()) and self._claims_weights():
            raise ModelError(
                f"{folder.directory / 'config.json'} says that this model is compressed, and no tensor of it is."
            )

    def _claims_weights(self) -> bool:
        return any(scheme.weights is not None and scheme.format not in UNPACKED for scheme in self._schemes.schemes)

    def _read_shapes(self) -> Mapping[str, tuple[int, int]]:
        """By path, the shapes that are stored as tensors. Raises ModelError for what is no shape."""
        names = [name for name in self._folder.tensors if name.endswith(".weight_shape")]
        for name in names:
            self._folder.expect(name, dtypes=("I64", "I32"), shape=(2,))
        found = {name: array.tolist() for name, array in self._folder.read(names).items()}
        for name, shape in found.items():
            if min(shape) < 1:
                raise ModelError(f"{self._folder.file_of(name)}: {short(name)} is {shape}, which is no shape.")
        return {name.removesuffix(".weight_shape"): (rows, columns) for name, (rows, columns) in found.items()}

    def tensor(self, name: str) -> HeldTensor | None:
        """The tensor of this name."""
        path = name.removesuffix(".weight")
        if not name.endswith(".weight") or not self._is_quantized(path):
            return self._folder.plain(name)
        scheme = self._schemes.of(path)
        kind, layout = scheme.weights, self._layout(scheme, path)
        if kind is None or not layout.takes(kind):
            raise self._wrong(path, scheme)
        module = Module(
            folder=self._folder,
            path=path,
            scheme=scheme,
            weights=kind,
            shape=self._shape(path, kind),
            note=self._note(scheme, path),
        )
        return layout.read[kind.type](module)

    def _is_quantized(self, path: str) -> bool:
        """Whether it has a part that only quantized modules have, or a weight that is no matrix in 16 or 32 bits."""
        tensors = self._folder.tensors
        weight = tensors.get(f"{path}.weight")
        beside = any(f"{path}.{part}" in tensors for part in OF_WEIGHT if part != "weight")
        return beside or (weight is not None and weight.dtype not in FLOATS)

    def _layout(self, scheme: Scheme, path: str) -> Layout:
        if scheme.format in UNPACKED:
            raise ModelError(
                f"{self._folder.directory} keeps {short(path)} in 16 or 32 bits, to be rounded when the model runs. "
                f"Give a checkpoint that was saved compressed."
            )
        if scheme.format not in LAYOUTS:
            raise ModelError(
                f"{self._folder.directory}: {short(path)} is in the format {short(scheme.format)} of "
                f"compressed-tensors. Those that are read: {READ}."
            )
        return LAYOUTS[scheme.format]

    def _wrong(self, path: str, scheme: Scheme) -> ModelError:
        kind = scheme.weights
        said = "nothing" if kind is None else f"{kind.type} of {kind.bits} bits in groups of {kind.group}"
        return ModelError(
            f"{self._folder.directory / 'config.json'} says {said} of {short(path)}, which {scheme.format} cannot hold."
        )

    def _shape(self, path: str, kind: Arguments) -> tuple[int, int]:
        """Of the decoded matrix. Raises ModelError where it is none."""
        if path in self._shapes:
            return self._shapes[path]
        part = "weight" if f"{path}.weight" in self._folder.tensors else "weight_packed"
        found = self._folder.expect(f"{path}.{part}", dtypes=("I8", "F8_E4M3", "U8")).shape
        if len(found) != 2 or 0 in found:
            raise ModelError(f"{self._folder.directory}: {short(f'{path}.{part}')} of shape {found} is no matrix.")
        return found[0], found[1] if part == "weight" else found[1] * 8 // kind.bits

    def _note(self, scheme: Scheme, path: str) -> str:
        inputs = scheme.inputs
        kind = scheme.weights
        left = (
            [] if inputs is None or (kind is not None and kind.type == "int" and parts.rounds(inputs)) else ["inputs"]
        )
        left += ["outputs"] if scheme.rounds_outputs else []
        left += ["the cache of keys and values"] if self._schemes.caches and path.endswith(CACHED) else []
        return f"{' and '.join(left)} not rounded, as the file's scheme asks" if left else ""

    def _owner(self, name: str) -> str:
        """The name of the matrix that a stored tensor belongs to, or its own."""
        path, _, part = name.rpartition(".")
        return f"{path}.weight" if part in (*OF_WEIGHT, *OF_INPUTS) and self._is_quantized(path) else name


def _refuse(folder: Folder) -> None:
    """Raise ModelError for what changes weights or inputs in ways that are not read."""
    config, table = folder.directory / "config.json", folder.quantization
    sparse: Any = table.get("sparsity_config") or {}
    form = sparse.get("format") if isinstance(sparse, dict) else sparse
    if form not in DENSE:
        raise ModelError(f"{config} says that weights are sparse, as {short(form)}. Formats that are read: {READ}.")
    turned: Any = table.get("transform_config") or {}
    if not isinstance(turned, dict) or turned.get("config_groups"):
        raise ModelError(
            f"{config} has a transform_config: inputs or weights are rotated when the model runs, which is not done "
            f"here. Give a checkpoint whose rotations are merged into its weights."
        )
