"""A candidate as an artifact: what somebody else's files hold, under the names that an engine has for it.

The original is opened beside it and says which parameters there are, and of which published tensors each is made.
Everything that reads artifacts then reads the candidate, one parameter at a time.

- A matrix that is published turned, (in, out) as GPT-2's are, is packed as any layer's is, (out, in): its codes are the
  parameter's as they lie.
- Rows that only fill a vocabulary up, which conversion to GGUF may cut off, are the original's, as if nothing had been
  done to them. Whether they are no tokens' is seen where the tokenizer is known (`identity`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import ml_dtypes
import numpy as np

from pytest_quantbench.catalog.recipes import Recipe
from pytest_quantbench.checkpoints.formats.protocol import HeldTensor, Holding
from pytest_quantbench.compress.artifact import Artifact
from pytest_quantbench.compress.assignment import ENCODED, Tensor
from pytest_quantbench.compress.beyond import HEAD, decoded, refuse_beyond
from pytest_quantbench.compress.manifest import Manifest
from pytest_quantbench.compress.same_shapes import refuse_other_shapes
from pytest_quantbench.engines.machine import versions
from pytest_quantbench.engines.parameters import Origin, Parameter
from pytest_quantbench.engines.protocol import Architecture, Config
from pytest_quantbench.errors import ModelError, WeightError
from pytest_quantbench.quantizers import Array, Arrays
from pytest_quantbench.quantizers.encoding import Encoding, Rules, join
from pytest_quantbench.storage.files import file_sha256
from pytest_quantbench.storage.sealed_json import json_sha256

# Raised when what is read from the same files changes.
FORMAT = 1


class External(Artifact):
    """The tensors of a `Holding`, as parameters of an opened original, to be run with this config. Raises ModelError,
    naming the tensors, where the two do not hold the same ones in the same shapes.
    """

    def __init__(self, holding: Holding, source: Architecture, recipe: Recipe, config: Config) -> None:
        self.config, self.recipe_id, self.decoder = config, recipe.id, source.engine
        self.holding, self._source = holding, source
        self._parameters = {each.path: each for each in source.parameters}
        self._origins = {path: self._origin(path) for path in self._parameters}
        self.fewer_rows: dict[str, int] = {}  # by path: how many are held, where the original has more
        self._held = self._tensors()
        self._tensors_by_path = {path: self._described(each) for path, each in self._parameters.items()}
        refuse_beyond(holding, source, self._origins, self._held, self._place)
        self._manifest = self._described_whole(recipe)

    def _origin(self, path: str) -> Origin:
        """Which tensors of the candidate a parameter is made of: its own, where the files have mlx-lm's names. These
        are the publisher's of most models, so that another engine, too, finds its parameters there; where it does not,
        ModelError is raised.
        """
        if self.holding.naming != "mlx-lm":
            return self._source.origin(path)
        engine = self._source.engine
        if not engine.paths_are_mlx_lms and self.holding.tensor(path) is None:
            raise ModelError(
                f"{self._place} has mlx-lm's names, and none of them is {path}, as the engine {engine.name!r} calls "
                f"it. Judge it with --engine mlx."
            )
        return Origin(form="same", sources=(path,))

    @property
    def _place(self) -> str:
        files = self.holding.files
        return str(files[0] if len(files) == 1 else files[0].parent)

    def _tensors(self) -> dict[str, tuple[HeldTensor, ...]]:
        """What each parameter is made of, where all of it is there and has the original's shapes."""
        names = {path: origin.sources for path, origin in self._origins.items()}
        found = {path: [self.holding.tensor(name) for name in several] for path, several in names.items()}
        held = {path: tuple(each for each in several if each is not None) for path, several in found.items()}
        whole = {path: several for path, several in held.items() if len(several) == len(names[path])}
        shapes = {path: self._shape(path, several) for path, several in whole.items()}
        refuse_other_shapes(self._source, shapes, self._place)
        return held

    def _shape(self, path: str, held: Sequence[HeldTensor]) -> tuple[int, ...]:
        """The shape of a parameter that is made of these; where they are not alike, of the first that is odd. Raises
        ModelError for what a parameter cannot be made of.
        """
        form, wanted = self._origins[path].form, self._parameters[path].shape
        if form == "same":
            rows, *others = held[0].shape
            if self._is_by_token(path) and others == list(wanted[1:]) and 0 < rows < wanted[0]:
                self.fewer_rows[path] = rows
                return wanted
            return held[0].shape
        if form == "turned":
            return held[0].shape if held[0].codec is not None else held[0].shape[::-1]
        published = self._source.checkpoint.shapes
        odd = next((tensor for tensor in held if tensor.shape != published[tensor.name]), None)
        if odd is not None and form == "made":
            raise ModelError(
                f"{self._place} is not the reference's: {odd.name} has shape {odd.shape} against "
                f"{published[odd.name]}. Name the original that it was made from with --model (judge: --reference)."
            )
        return wanted if odd is None else (len(held), *odd.shape)

    def _is_by_token(self, path: str) -> bool:
        """Whether a parameter has a row for every token: the embeddings, and the output head."""
        parameter = self._parameters[path]
        is_head = parameter.layer is None and path.endswith(HEAD)
        return len(parameter.shape) == 2 and (parameter.kind == "embedding" or (is_head and parameter.kind == "linear"))

    def _described(self, parameter: Parameter) -> Tensor:
        """The manifest's entry of a parameter."""
        held = self._held[parameter.path]
        kinds = list(dict.fromkeys(tensor.kind for tensor in held if tensor.codec is not None))
        encoded, matrix = bool(kinds), parameter.kind in ENCODED
        note = held[0].note if encoded else f"stored as {held[0].kind}"
        if rows := self.fewer_rows.get(parameter.path):
            note = f"{note}{', ' if note else ''}{rows:,} rows of {parameter.shape[0]:,}, the others as in the original"
        return Tensor(
            name=parameter.path,
            quantizer="+".join(kinds) if encoded else None,
            parameters=held[0].parameters if len(kinds) == 1 else {},
            shape=parameter.shape,
            stored_bytes=sum(self._share(tensor, parameter) for tensor in held),
            arrays=tuple(tensor.name for tensor in held),
            part=("outer" if parameter.layer is None else "inner") if matrix else "kept",
            note=note if matrix else f"{parameter.path.rpartition('.')[2]} of {parameter.owner}",
        )

    def _share(self, tensor: HeldTensor, parameter: Parameter) -> int:
        """A tensor's bytes, or this parameter's share of one that several are made of."""
        if self._origins[parameter.path].form != "made":
            return tensor.stored_bytes
        values = sum(math.prod(each.shape) for each in self._held[parameter.path])
        return round(tensor.stored_bytes * min(1.0, math.prod(parameter.shape) / values))

    def _described_whole(self, recipe: Recipe) -> Manifest:
        source, tensors = self._source, tuple(self._tensors_by_path.values())
        hashes = {file.name: file_sha256(file) for file in self.holding.files}
        held = sorted({(tensor.name, repr(tensor.codec)) for several in self._held.values() for tensor in several})
        own = [] if self.config == source.config else [dict(self.config)]
        return Manifest(
            key=json_sha256([FORMAT, source.checkpoint.sha256, source.engine.version, hashes, held, *own])[:32],
            source=str(source.checkpoint.directory),
            revision=source.checkpoint.revision,
            source_sha256=source.checkpoint.sha256,
            source_dtype=source.dtype,
            recipe=recipe.id,
            tensors=tensors,
            versions=versions(source.engine),
            bf16_bytes=2 * sum(math.prod(tensor.shape) for tensor in tensors),
            stored_bytes=sum(tensor.stored_bytes for tensor in tensors),
            opens_in_mlx_lm=self.holding.format == "mlx",
            files=hashes,
        )

    @property
    def manifest(self) -> Manifest:
        """What it holds, and which original it is compared with."""
        return self._manifest

    @property
    def names(self) -> Sequence[str]:
        """Every parameter's path."""
        return list(self._parameters)

    def tensor(self, name: str) -> Tensor:
        """What is stored for a parameter."""
        return self._tensors_by_path[name]

    def arrays(self, name: str) -> Arrays:
        """The arrays of a parameter that is stored as one tensor, or as a stack of tensors of one kind."""
        held = self._held[name]
        return held[0].read() if len(held) == 1 else join([tensor.read() for tensor in held])

    def encoding(self, name: str) -> Encoding | None:
        """The arrays and the codec of a parameter; None where it is stored as it is, or made of several tensors that
        are encoded each for itself or of fewer rows than the original's.
        """
        held, form = self._held[name], self._origins[name].form
        codec = held[0].codec
        if codec is None or form == "made" or name in self.fewer_rows or any(tensor.codec != codec for tensor in held):
            return None
        return Encoding(codec=codec, arrays=self.arrays(name), shape=self._parameters[name].shape)

    def inputs(self, name: str) -> Rules | None:
        """What is done to the inputs of the layer that owns this parameter."""
        if not any(tensor.codec is not None and tensor.codec.has_input_rule for tensor in self._held[name]):
            return None
        encoding = self.encoding(name)
        return None if encoding is None else encoding.inputs()

    def dense(self, name: str) -> Any:
        """One parameter, decoded. Raises WeightError for values that are no numbers."""
        encoding = self.encoding(name)
        dense = self._apart(name) if encoding is None else self.decoder.decode(encoding)
        numbers = [dense] if isinstance(dense, np.ndarray) else _floats(encoding)
        if not all(np.isfinite(np.sum(each, dtype=np.float64)) for each in numbers):
            raise WeightError(f"{self._place}: {name} has NaN or infinite values: not a usable model.")
        return dense

    def _apart(self, name: str) -> Array:
        """A parameter of which each tensor is decoded for itself."""
        held, origin = self._held[name], self._origins[name]
        if origin.form == "made":
            return self._source.made(name, {tensor.name: decoded(tensor) for tensor in held})
        if origin.form == "stack":
            return np.stack([decoded(tensor) for tensor in held])
        if name in self.fewer_rows:
            return self._filled_up(name, held[0])
        return decoded(held[0]).T if origin.form == "turned" else decoded(held[0])

    def _filled_up(self, name: str, held: HeldTensor) -> Array:
        """With the original's rows behind those that are held, in float32."""
        source = self._source
        beyond = source.engine.to_host(source.tensor(name)[self.fewer_rows[name] :])
        return np.concatenate([decoded(held).astype(np.float32), beyond.astype(np.float32)])


def _floats(encoding: Encoding | None) -> list[Array]:
    """What of an encoding are numbers, such as scales: seen on the host where the decoded values are elsewhere."""
    arrays = () if encoding is None else encoding.arrays.values()
    return [array for array in arrays if np.issubdtype(array.dtype, np.floating) or array.dtype == ml_dtypes.bfloat16]
