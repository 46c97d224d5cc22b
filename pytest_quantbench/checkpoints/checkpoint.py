"""A model directory, checked before anything in it is trusted: config, safetensors files, and the hash of all."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pytest_quantbench.checkpoints.config import check_sizes, read_config
from pytest_quantbench.checkpoints.hub_cache_file import named_digest
from pytest_quantbench.checkpoints.shards import read_weights
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
    """A directory with config.json and safetensors files. What an engine makes of it is an `Architecture`.

    A checkpoint whose weights were deleted is known by its `sha256`; `bring` brings them back when they are needed.

    Raises ModelError naming the file: no directory, no config, no weights, a truncated or corrupt file, a config that
    asks for more than the weights are.
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
        self.config: Mapping[str, Any] = read_config(directory)
        self._known_sha256, self._bring = sha256, bring
        self._files: Sequence[Path]
        self._shapes: Mapping[str, tuple[int, ...]]
        if bring is None:
            weights = read_weights(directory)
            self._files = weights.files
            self._shapes = {name: tensor.shape for name, tensor in weights.tensors.items()}
            check_sizes(directory, self.config, len(weights.tensors), weights.elements)

    @property
    def is_here(self) -> bool:
        """Whether the weights are on disk, as far as this process knows."""
        return self._bring is None

    @property
    def files(self) -> Sequence[Path]:
        """The weight files."""
        self.be_here()
        return self._files

    @property
    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """Of all tensors, as they are published."""
        self.be_here()
        return self._shapes

    def be_here(self) -> None:
        """See to it that the weights are on disk. Raises ModelError where they are not those that were deleted."""
        if self._bring is None:
            return
        self._bring()
        here = Checkpoint(self.directory, self.revision)
        if here.sha256 != self._known_sha256:
            raise ModelError(f"{self.directory} has other weights than when it was measured. Run again with --fresh.")
        self._files, self._shapes, self._bring = here._files, here._shapes, None

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


def tokenizer_files(directory: Path) -> list[Path]:
    """What a tokenizer is read from, by name."""
    return sorted(
        {file for pattern in TOKENIZER_FILES for file in directory.glob(pattern) if file.is_file()},
        key=lambda file: file.name,
    )
