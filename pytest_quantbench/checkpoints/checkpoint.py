"""A model directory, checked before anything in it is trusted: config, safetensors files, names and shapes."""

import hashlib
import warnings
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path

import mlx.core as mx
import mlx.nn as nn

from pytest_quantbench.checkpoints.checksums import named_digest
from pytest_quantbench.checkpoints.config import check_sizes, read_config, remote_code
from pytest_quantbench.checkpoints.shards import read_weights
from pytest_quantbench.engines.mlx.skeleton import Config, shapes
from pytest_quantbench.engines.mlx.weight_names import fitted, with_head_as_stored
from pytest_quantbench.errors import ModelError
from pytest_quantbench.storage.files import file_sha256

TOKENIZER_FILES = (
    "tokenizer*",
    "special_tokens_map.json",
    "vocab*",
    "merges.txt",
    "*.model",
    "*.jinja",
    "added_tokens*",
)


class Checkpoint:
    """A directory with config.json and safetensors files, as mlx-lm sees it. Weights are read when asked for.

    A checkpoint whose weights were deleted is known by its `sha256`; `bring` brings them back when they are needed.

    Raises ModelError naming the file: no directory, no config, no weights, a truncated or corrupt file, an
    architecture mlx-lm does not have, weights missing or of another shape than the config says.
    """

    def __init__(
        self,
        directory: Path,
        revision: str | None = None,
        *,
        sha256: str | None = None,
        bring: Callable[[], None] | None = None,
    ) -> None:
        self.directory = directory
        self.revision = revision
        self.config: Config = read_config(directory)
        self._known_sha256, self._bring = sha256, bring
        self._lazy: dict[str, mx.array] = {}
        self._files: Sequence[Path]
        self._model: nn.Module
        if bring is None:
            self._open()

    @property
    def is_here(self) -> bool:
        """Whether the weights are on disk, as far as this process knows."""
        return self._bring is None

    @property
    def files(self) -> Sequence[Path]:
        """The weight files."""
        self._be_here()
        return self._files

    @property
    def model(self) -> nn.Module:
        """mlx-lm's model, without weights."""
        self._be_here()
        return self._model

    def _be_here(self) -> None:
        if self._bring is None:
            return
        self._bring()
        here = Checkpoint(self.directory, self.revision)
        if here.sha256 != self._known_sha256:
            raise ModelError(f"{self.directory} has other weights than when it was measured. Run again with --fresh.")
        self._files, self._model, self._lazy, self._bring = here._files, here._model, here._lazy, None

    def _open(self) -> None:
        weights = read_weights(self.directory)
        self._files = weights.files
        check_sizes(self.directory, self.config, len(weights.tensors), weights.elements)
        self.config = with_head_as_stored(self.config, self._stored())
        self._model = self._read()
        self._tell_remote_code()
        self._check_shapes()

    @property
    def names(self) -> Sequence[str]:
        """Every parameter's path in the mlx-lm model."""
        return list(shapes(self.model))

    def tensor(self, name: str) -> mx.array:
        """One parameter as it is stored, lazily read, and not kept here afterwards."""
        if name not in self._lazy:
            self._read()
        return self._lazy.pop(name)

    @property
    def sha256(self) -> str:
        """Hash of the config, all weight files, the tokenizer's files and generation_config.json.

        A weight file of the Hub's cache is named by its hash, which was compared with its content when it was fetched;
        of a directory that is the user's own no name is believed.
        """
        if self._known_sha256 is None:
            self._known_sha256 = self._hash()
        return self._known_sha256

    def _hash(self) -> str:
        beside = [*tokenizer_files(self.directory), self.directory / "generation_config.json"]
        try:
            digest = hashlib.sha256((self.directory / "config.json").read_bytes())
            for file in (*self.files, *(file for file in beside if file.is_file())):
                named = None if self.revision is None else named_digest(file)
                known = named if named is not None and len(named) == 64 else file_sha256(file)
                digest.update(f"{file.name}={known};".encode())
        except OSError as error:
            raise ModelError(f"{error.filename} cannot be read: {error.strerror}.") from error
        return digest.hexdigest()

    @cached_property
    def dtype(self) -> str:
        """The type in which most parameters are stored, such as `bfloat16`."""
        counts: dict[str, int] = {}
        for name in self.names:
            array = self.tensor(name)
            key = str(array.dtype).removeprefix("mlx.core.")
            counts[key] = counts.get(key, 0) + array.size
        return max(counts, key=lambda key: counts[key])

    def let_go(self) -> None:
        """Forget what was read, so that the files can be deleted."""
        self._lazy = {}

    def _stored(self) -> dict[str, mx.array]:
        """All tensors by the names in the files, lazily: shapes and types are known without reading."""
        weights: dict[str, mx.array] = {}
        for file in self.files:
            loaded = mx.load(str(file))
            assert isinstance(loaded, dict)  # a safetensors file always is
            weights |= loaded
        return weights

    def _read(self) -> nn.Module:
        """See to it that all tensors can be read; returns a model that they fit."""
        try:
            model, self._lazy = fitted(self.config, self._stored())
        except ModelError as error:
            raise ModelError(f"{self.directory}: {error}") from error
        return model

    def _tell_remote_code(self) -> None:
        if code := remote_code(self.config):
            warnings.warn(
                f"{self.directory} brings code of its own ({', '.join(code)}), which is not run: what is measured is "
                f"mlx-lm's own {self.config['model_type']!r}.",
                stacklevel=2,
            )

    def _check_shapes(self) -> None:
        wanted = shapes(self.model)
        for name, shape in wanted.items():
            if tuple(self._lazy[name].shape) != shape:
                found = tuple(self._lazy[name].shape)
                raise ModelError(f"{self.directory}: {name} has shape {found}, config.json says {shape}.")
            if not mx.issubdtype(self._lazy[name].dtype, mx.floating):
                raise ModelError(
                    f"{self.directory}: {name} is stored as {self._lazy[name].dtype}: these are no weights."
                )


def tokenizer_files(directory: Path) -> list[Path]:
    """What a tokenizer is read from, by name."""
    return sorted(
        {file for pattern in TOKENIZER_FILES for file in directory.glob(pattern) if file.is_file()},
        key=lambda file: file.name,
    )
