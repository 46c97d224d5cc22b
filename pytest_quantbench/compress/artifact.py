"""A compressed model on disk, verified and opened; `pipeline` makes it and `writer` writes it.

An artifact is a directory named by a hash of all that its content depends on. It holds one safetensors file per
decoder layer and one for the rest, the tokenizer, config.json and manifest.json; it is written under a temporary name
and renamed when complete, so it is either whole or not there. Stored names are `<module path>.<array>`; where all
encodings are what MLX itself stores, config.json says so and `mlx_lm.load` opens the directory too.

The reference (identity on every matrix) is not copied: its artifact is the checkpoint itself.
"""

import json
import logging
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pytest_quantbench import quantizers
from pytest_quantbench.catalog.recipes import Part
from pytest_quantbench.checkpoints.layer_kinds import for_mlx_lm
from pytest_quantbench.checkpoints.safetensors_header import read_header
from pytest_quantbench.checkpoints.tensor_file import read
from pytest_quantbench.compress.assignment import Planned, Tensor
from pytest_quantbench.compress.candidate_facts import CandidateFacts
from pytest_quantbench.compress.manifest import Manifest, verified_manifest, written_manifest
from pytest_quantbench.engines.protocol import Architecture, Config, Decoder
from pytest_quantbench.errors import ModelError, RecordError
from pytest_quantbench.quantizers import Array, Arrays, Quantizer
from pytest_quantbench.quantizers.encoding import Encoding, Rules
from pytest_quantbench.storage.files import set_aside

log = logging.getLogger(__name__)


class InNumpy:
    """Decodes by the methods themselves."""

    def decode(self, encoding: Encoding) -> Array:
        """An encoded parameter's values, as its method defines them."""
        return encoding.dense()

    def to_host(self, array: Array) -> Array:
        """The same."""
        return array


class Artifact(ABC):
    """A compressed model: decodes one parameter at a time and keeps none. `decoder` is how: the method itself, or an
    engine with kernels of its own.
    """

    config: Config
    recipe_id: str
    decoder: Decoder
    directory: Path | None = None  # where it lies, if it is on disk by itself
    candidate_facts: CandidateFacts | None = None  # of what somebody else made

    @property
    @abstractmethod
    def manifest(self) -> Manifest:
        """What it holds and what it was made from."""

    @property
    @abstractmethod
    def names(self) -> Sequence[str]:
        """Every parameter's path, what is outside the decoder layers first, then by layer."""

    @abstractmethod
    def tensor(self, name: str) -> Tensor:
        """What is stored for a parameter."""

    @abstractmethod
    def arrays(self, name: str) -> Arrays:
        """The encoded arrays of a parameter: {array name: array}. They are not kept here."""

    def quantizer(self, name: str) -> Quantizer | None:
        """The codec of a parameter; None where it was left as it was."""
        tensor = self.tensor(name)
        if tensor.quantizer is None:
            return None
        return quantizers.make(Part(quantizer=tensor.quantizer, parameters=tensor.parameters))

    def encoding(self, name: str) -> Encoding | None:
        """What the codec made of a parameter; None where it was left as it was."""
        quantizer = self.quantizer(name)
        if quantizer is None:
            return None
        return Encoding(codec=quantizer, arrays=self.arrays(name), shape=self.tensor(name).shape)

    def inputs(self, name: str) -> Rules | None:
        """What is done to the inputs of the layer that owns this parameter, or to each expert's; None: nothing."""
        quantizer = self.quantizer(name)
        if quantizer is None or not quantizer.has_input_rule:
            return None  # without reading any arrays
        encoding = self.encoding(name)
        return None if encoding is None else encoding.inputs()

    def dense(self, name: str) -> Any:
        """One parameter, decoded; (out, in) for a matrix, (experts, out, in) for those of experts. An array of numpy's,
        or of the engine's that decodes.
        """
        encoding = self.encoding(name)
        return next(iter(self.arrays(name).values())) if encoding is None else self.decoder.decode(encoding)

    def float32(self, name: str) -> NDArray[np.float32]:
        """The same in float32, in numpy."""
        return self.decoder.to_host(self.dense(name)).astype(np.float32, copy=False)


class OpenedArtifact(Artifact):
    """One whose manifest is there."""

    def __init__(self, manifest: Manifest, config: Config, decoder: Decoder | None = None) -> None:
        self.config, self.recipe_id, self.decoder = config, manifest.recipe, decoder or InNumpy()
        self._manifest = manifest
        self._tensors = {tensor.name: tensor for tensor in manifest.tensors}

    @property
    def manifest(self) -> Manifest:
        """What it holds and what it was made from."""
        return self._manifest

    @property
    def names(self) -> Sequence[str]:
        """Every parameter's path."""
        return list(self._tensors)

    def tensor(self, name: str) -> Tensor:
        """What is stored for a parameter."""
        return self._tensors[name]


class Reference(OpenedArtifact):
    """An opened checkpoint as it is."""

    def __init__(self, manifest: Manifest, source: Architecture) -> None:
        super().__init__(manifest, source.config, source.engine)
        self._source = source

    def arrays(self, name: str) -> Arrays:
        """The parameter, as the checkpoint holds it."""
        return {name.rpartition(".")[2]: self._source.array(name)}

    def encoding(self, name: str) -> None:
        """None: everything was left as it was."""

    def inputs(self, name: str) -> None:
        """Nothing is done to any inputs."""

    def dense(self, name: str) -> Any:
        """The parameter in the engine's own form, lazily read."""
        return self._source.tensor(name)

    def float32(self, name: str) -> NDArray[np.float32]:
        """The same in float32, in numpy."""
        return self._source.array(name).astype(np.float32, copy=False)


class Stored(OpenedArtifact):
    """What lies in a directory."""

    directory: Path

    def __init__(self, manifest: Manifest, config: Config, decoder: Decoder | None, directory: Path) -> None:
        super().__init__(manifest, config, decoder)
        self.directory = directory
        files = [directory / file for file in manifest.files if file.endswith(".safetensors")]
        self._files = {array: file for file in files for array in read_header(file)}

    def arrays(self, name: str) -> Arrays:
        """The stored arrays of a parameter, read anew."""
        stored = self.tensor(name).arrays
        held = read(self._files[stored[0]], stored)  # all in the file of the parameter's group
        return {array.rpartition(".")[2]: held[array] for array in stored}


def open_artifact(
    directory: Path, config: Config | None = None, planned: Sequence[Planned] = (), decoder: Decoder | None = None
) -> Artifact | None:
    """The artifact in a directory, every file's hash checked; None where there is none or it is damaged.

    Hashes are no signatures: a manifest is not believed either where it names files outside of the directory, says
    otherwise than the files' headers, or than `planned` and `config`, the model and the recipe that are asked for.
    Without a `decoder` the methods decode in numpy.
    """
    try:
        if not directory.exists():
            return None
        manifest = verified_manifest(directory, planned)
        found = _read_config(directory, config)
    except (ModelError, RecordError, OSError) as error:
        aside = set_aside(directory)
        log.warning("The artifact %s was damaged (%s): moved to %s, made again.", directory.name, error, aside)
        return None
    return Stored(manifest, found, decoder, directory)


def opened_unverified(directory: Path, decoder: Decoder) -> Artifact:
    """The artifact in a directory whose files' hashes were checked a moment ago. Raises RecordError or ModelError where
    it is no longer one.
    """
    try:
        return Stored(written_manifest(directory), _read_config(directory, None), decoder, directory)
    except OSError as error:
        raise RecordError(f"{directory} cannot be read: {error.strerror}.") from error


def _read_config(directory: Path, wanted: Config | None) -> Config:
    """The original model's config. Raises RecordError for a file that is none, or not the one that is wanted."""
    try:
        table = json.loads((directory / "config.json").read_bytes())
    except (ValueError, RecursionError) as error:
        raise RecordError(f"config.json is not valid JSON: {error}") from error
    if not isinstance(table, dict) or (wanted is not None and not _same(_plain(table), for_mlx_lm(_plain(wanted)))):
        raise RecordError("config.json is of another model")
    return _plain(table)


def _same(found: Any, wanted: Any) -> bool:
    """Whether two configs say the same. Where the one that is wanted leaves the output head open, what the artifact's
    says of it was seen on weights that may have been deleted since.
    """
    if not (isinstance(found, dict) and isinstance(wanted, dict)):
        return bool(found == wanted)
    beyond = found.keys() - wanted.keys() - {"tie_word_embeddings"}
    return not beyond and all(key in found and _same(found[key], value) for key, value in wanted.items())


def _plain(config: Config) -> dict[str, Any]:
    """Without what was said for `mlx_lm.load`."""
    return {key: value for key, value in config.items() if key != "quantization"}
