"""Formats of quantized models that other tools write: one file each, found by entry point."""

from __future__ import annotations

import warnings
from functools import cache
from importlib.metadata import entry_points
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_quantbench.errors import ModelError

if TYPE_CHECKING:
    from pytest_quantbench.checkpoints.formats.protocol import Format, Holding

GROUP = "pytest_quantbench.formats"
ADAPTER = "adapter_config.json"  # as PEFT writes it, of LoRA and others


@cache
def every() -> tuple[Format, ...]:
    """All registered formats, by name. Raises ModelError for one that cannot be imported."""
    found = []
    for point in sorted(entry_points(group=GROUP), key=attrgetter("name")):
        try:
            found.append(point.load()())
        except (ImportError, AttributeError, TypeError) as error:
            raise ModelError(f"The format {point.name!r} cannot be loaded from {point.value}: {error}.") from error
    return tuple(found)


def open_candidate(source: Path) -> Holding:
    """Open a file or directory in the format that recognizes it. Raises ModelError where there is none or it is
    damaged. Of a directory with safetensors the GGUF files are others, and a warning says so: llama.cpp's conversion
    writes them beside what it converts.
    """
    if not source.exists():
        raise ModelError(f"{source}: there is no such file or directory.")
    if (source / ADAPTER).is_file():
        raise ModelError(
            f"{source} is an adapter ({ADAPTER}), which changes a model and is none: merge it into its base model, and "
            f"give what comes of that."
        )
    for each in every():
        if each.recognizes(source):
            opened = each.open(source)
            _tell_others(source, opened)
            return opened
    known = "; ".join(each.what for each in every())
    raise ModelError(f"{source} is in no format that is read here{_named(source)}. These are: {known}.")


def _tell_others(source: Path, opened: Holding) -> None:
    """Warn of GGUF files in a directory that was opened for others."""
    ggufs = sorted(each.name for each in source.glob("*.gguf")) if source.is_dir() else []
    if ggufs and not any(file.suffix == ".gguf" for file in opened.files):
        warnings.warn(
            f"{source} holds safetensors, which are read, and GGUF files beside them ({', '.join(ggufs):.200}), which "
            f"are not. Give the file itself where one of those is meant.",
            stacklevel=3,
        )


def _named(source: Path) -> str:
    """What a directory calls its own method, as a part of a sentence; nothing where it does not say."""
    from pytest_quantbench.checkpoints.formats.folder import quantization_of

    method = quantization_of(source).get("quant_method")
    return f": config.json says quant_method = {method!r:.80}" if method else ""
