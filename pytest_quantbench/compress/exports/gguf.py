"""A GGUF file, which llama.cpp and all that is built on it load and run.

Source: the GGUF specification (version 3) and the `gguf` package, which writes the header. K-quants go into it byte for
byte, affine grids block by block (`gguf_blocks`). Every tensor is read back as any reader would, and compared with what
was judged: what differs is measured. Tensors lie in a file of their own until the header, which says where each is, can
be written before them.
"""

from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from pytest_quantbench.catalog.recipes import Recipe
from pytest_quantbench.compress.exports.beside import lost_rules
from pytest_quantbench.compress.exports.differences import Difference, differ, told
from pytest_quantbench.compress.exports.gguf_blocks import Rows, encoded, plain
from pytest_quantbench.compress.exports.gguf_model import GgufModel
from pytest_quantbench.compress.exports.gguf_tokenizer import Tokens, tokens_of
from pytest_quantbench.compress.exports.protocol import Job, Written
from pytest_quantbench.engines.protocol import Architecture
from pytest_quantbench.progress import track

FILE_TYPES: Mapping[str, str] = {"q4_k_m": "MOSTLY_Q4_K_M", "q3_k_s": "MOSTLY_Q3_K_S"}  # by the recipe's mix
HUB = "https://huggingface.co"


class Gguf:
    """An `Exporter`."""

    name: ClassVar[str] = "gguf"
    use: ClassVar[str] = "llama.cpp loads the file that ends in .gguf."

    def check(self, recipe: Recipe, source: Architecture) -> None:
        """The architecture and the tokenizer have to have words in GGUF."""
        GgufModel(source).names()
        tokens_of(source.checkpoint.directory, GgufModel(source).number("vocab_size"))

    def write(self, job: Job, directory: Path) -> Written:
        """Tensor after tensor, then the header, and the tensors behind it."""
        model = GgufModel(job.source)
        tokens = tokens_of(job.source.checkpoint.directory, model.number("vocab_size"))
        file, differences = directory / f"{job.name}.gguf", dict[str, Difference]()
        with _Tensors(directory / "tensors.part") as tensors:
            if model.factors is not None:
                tensors.add("rope_freqs.weight", plain(model.factors))
            for path, name in track(model.names().items(), what=f"writing {job.name} as GGUF", unit="tensor"):
                rows = _rows(job, path, differences)
                tensors.add(name, Rows(kind=rows.kind, content=model.ordered(name, rows.content)))
            with closing(_header(job, model, tokens)) as writer:
                tensors.assemble(writer, file)
        sentences, lines = told(list(differences.values()))
        said = (*sentences, *filter(None, [tokens.note]), *lost_rules(job.recipe, "a GGUF file"))
        return Written(stored_bytes=file.stat().st_size, differences=said, details=lines)


def _rows(job: Job, path: str, differences: dict[str, Difference]) -> Rows:
    """A parameter as the file holds it; by how much that is another one than was judged is measured."""
    encoding = job.artifact.encoding(path)
    if encoding is None or encoding.codec.name == "identity":
        (array,) = job.artifact.arrays(path).values()
        return plain(array)
    judged = job.artifact.float32(path)
    rows = encoded(encoding, judged)
    if differ(judged, written := rows.decoded()):
        found = differences.setdefault(rows.change, Difference(reason=rows.change))
        found.add(path, job.source.array(path), judged, written, rows.kind)
    return rows


def _header(job: Job, model: GgufModel, tokens: Tokens) -> Any:
    """A `GGUFWriter` that knows all but the tensors."""
    import gguf

    writer = gguf.GGUFWriter(None, model.architecture)
    writer.add_type("model")
    writer.add_name(job.name)
    writer.add_quantized_by("pytest-quantbench")
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    if (known := FILE_TYPES.get(job.recipe.mix or "")) is not None:
        writer.add_file_type(gguf.LlamaFileType[known])
    owner, _, name = job.base_model.rpartition("/")
    writer.add_base_model_count(1)
    writer.add_base_model_name(0, name)
    if owner:
        writer.add_base_model_organization(0, owner)
        writer.add_base_model_repo_url(0, f"{HUB}/{job.base_model}")
    model.describe(writer)
    tokens.describe(writer)
    return writer


@dataclass(frozen=True, slots=True, kw_only=True)
class _Place:
    """Where a tensor lies in the part file, and how the header describes it."""

    name: str
    kind: str
    content_shape: tuple[int, ...]
    dtype: np.dtype[Any]
    start: int

    @property
    def stored_bytes(self) -> int:
        """How many it takes."""
        return int(np.prod(self.content_shape, dtype=np.int64)) * self.dtype.itemsize


class _Tensors:
    """Tensors in a file beside the one that is to be, until all are known."""

    def __init__(self, part: Path) -> None:
        self._part, self._file = part, part.open("wb")
        self._places: list[_Place] = []

    def __enter__(self) -> "_Tensors":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        self._part.unlink(missing_ok=True)

    def add(self, name: str, rows: Rows) -> None:
        """Write one down. Raises OSError."""
        content = np.ascontiguousarray(rows.content)
        place = _Place(
            name=name, kind=rows.kind, content_shape=content.shape, dtype=content.dtype, start=self._file.tell()
        )
        self._file.write(content.reshape(-1).view(np.uint8).data)
        self._places.append(place)

    def assemble(self, writer: Any, file: Path) -> None:
        """The file: the header, and all tensors behind it. Raises OSError."""
        import gguf

        self._file.close()
        for place in self._places:
            kind = gguf.GGMLQuantizationType[place.kind]
            shape, dtype = place.content_shape, place.dtype
            if place.kind == "BF16":  # numpy has no such type: its bytes are told
                shape, dtype = (*shape[:-1], 2 * shape[-1]), np.dtype(np.uint8)
            writer.add_tensor_info(place.name, shape, dtype, place.stored_bytes, kind)
        writer.write_header_to_file(file)
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        for place in self._places:
            held = np.memmap(self._part, np.uint8, "r", place.start, (place.stored_bytes,))
            writer.write_tensor_data(held)
