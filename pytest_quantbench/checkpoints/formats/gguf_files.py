"""Which files one GGUF model consists of, and their headers put together.

Source: llama.cpp's gguf-split. A model may be cut into `NAME-00001-of-00003.gguf` and so on, each a GGUF file of its
own with some of the tensors; `split.no`, `split.count` and `split.tensors.count` say which one it is, and only the
first has the model's other keys. Any part stands for all, and so does a directory that holds one model. Parts lie
beside each other; a link among them may lead within the folder, or as the Hub's cache has it from a snapshot to blobs.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pytest_quantbench.checkpoints.formats.gguf_cursor import Value
from pytest_quantbench.checkpoints.formats.gguf_header import MAGIC, GgufTensor, Header, read_header
from pytest_quantbench.checkpoints.hub_cache_file import is_of_hub
from pytest_quantbench.checkpoints.safetensors_header import corrupt, short
from pytest_quantbench.checkpoints.shards import GGUF_BESIDE, GGUF_PART
from pytest_quantbench.errors import ModelError

TENSORS_IN_ALL = "split.tensors.count"


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """The headers of all parts as one."""

    files: Sequence[Path]
    values: Mapping[str, Value]  # of the first part
    tensors: Mapping[str, GgufTensor]


def is_gguf(source: Path) -> bool:
    """Whether a file calls itself so or begins so, or a directory has such files and no safetensors."""
    if source.is_dir():
        return bool(list(source.glob("*.gguf"))) and not list(source.glob("*.safetensors"))
    if source.name.endswith(".gguf"):
        return True
    try:
        with source.open("rb") as opened:
            return opened.read(len(MAGIC)) == MAGIC
    except OSError:
        return False


def read_model(source: Path) -> Model:
    """The model in a file and those that belong to it, or in a directory. Raises ModelError naming what is missing,
    leads out of the folder, or does not belong together.
    """
    file = _only_model(source) if source.is_dir() else source
    first = read_header(file)
    count = _split(first, "split.count", 1)
    if count < 2:
        return Model(files=[file], values=first.values, tensors=first.tensors)
    headers = [read_header(part) for part in _parts(file, count)]
    return _joined(headers)


def _only_model(directory: Path) -> Path:
    """The first file of the one model in a directory."""
    files = sorted(file for file in directory.glob("*.gguf") if not GGUF_BESIDE.search(file.name))
    models: dict[str, Path] = {}
    for file in files:
        found = GGUF_PART.fullmatch(file.name)
        models.setdefault(f"{found[1]} of {found[3]}" if found else file.name, file)
    if len(models) != 1:
        names = ", ".join(path.name for path in models.values())
        several = f"holds {len(models)} models: {names:.400}. Give one of these files"
        raise ModelError(f"{directory} {several if models else 'holds no GGUF file with a model'}.")
    file = next(iter(models.values()))
    _refuse_leaving(file)
    return file


def _parts(file: Path, count: int) -> list[Path]:
    found = GGUF_PART.fullmatch(file.name)
    if found is None or int(found[3]) != count:
        raise ModelError(
            f"{file} is one of {count} parts, which its name does not say: parts are called "
            f"NAME-00001-of-{count:05}.gguf."
        )
    parts = [file.with_name(f"{found[1]}-{number:05}-of-{found[3]}.gguf") for number in range(1, count + 1)]
    for part in parts:
        if not part.is_file():
            raise ModelError(f"{file} is one of {count} parts, and {part.name} is not beside it. Fetch it, too.")
        if part != file:
            _refuse_leaving(part)
    return parts


def _refuse_leaving(part: Path) -> None:
    """Raise ModelError for a link to a file elsewhere than in the folder or, in the Hub's cache, among its blobs."""
    if not part.is_symlink() or is_of_hub(part) or part.resolve().parent == part.parent.resolve():
        return
    raise ModelError(f"{part} is a link out of its folder, to {part.resolve()}. Put the file itself there.")


def _split(header: Header, key: str, usual: int) -> int:
    found = header.values.get(key, usual)
    if not isinstance(found, int) or found < 0:
        raise corrupt(header.file, f"{key} is {short(found)}")
    return found


def _joined(headers: Sequence[Header]) -> Model:
    """Parts in their order as one model."""
    tensors: dict[str, GgufTensor] = {}
    for place, header in enumerate(headers):
        said = _split(header, "split.no", place), _split(header, "split.count", len(headers))
        if said != (place, len(headers)):
            raise ModelError(
                f"{header.file} is part {said[0] + 1} of {said[1]} by its header, and {place + 1} of {len(headers)} by "
                f"its name."
            )
        for name, tensor in header.tensors.items():
            if name in tensors:
                raise ModelError(f"{tensors[name].file} and {header.file} both hold {short(name)}.")
            tensors[name] = tensor
    wanted = _split(headers[0], TENSORS_IN_ALL, len(tensors))
    if wanted != len(tensors):
        raise ModelError(
            f"{headers[0].file} says {TENSORS_IN_ALL} = {wanted}, and all parts together hold {len(tensors)}. Fetch "
            f"them again."
        )
    return Model(files=[header.file for header in headers], values=headers[0].values, tensors=tensors)
