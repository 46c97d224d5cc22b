"""What lies beside the weights in every directory of an export: config, tokenizer, generation settings, model card, and
what is said there of a recipe that weights alone cannot hold.
"""

import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

from pytest_quantbench import quantizers
from pytest_quantbench.catalog.recipes import Recipe
from pytest_quantbench.checkpoints.checkpoint import tokenizer_files
from pytest_quantbench.compress.exports.protocol import Job, Written
from pytest_quantbench.errors import DiskError

DETAILS_SHOWN = 20  # tensors of an export's card
GENERATION = "generation_config.json"
SAME = "Nothing: every weight decodes to the same float32 number."


@contextmanager
def new_directory(output: Path) -> Iterator[Path]:
    """A directory beside `output` to write into, which gets that name at the end, and is deleted after an error.

    Raises DiskError where `output` is anything but an empty directory, or cannot be written.
    """
    check_empty(output)
    parent, name = output.absolute().parent, output.absolute().name
    try:
        parent.mkdir(parents=True, exist_ok=True)
        places = (parent / f".{name}.unfinished-{number}" for number in count(1))
        unfinished = next(place for place in places if not place.exists())
        unfinished.mkdir()
    except OSError as error:
        raise _cannot_write(output, error) from error
    try:
        yield unfinished
        if output.is_dir():
            output.rmdir()
        unfinished.rename(output)
    except OSError as error:
        raise _cannot_write(output, error) from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def check_empty(output: Path) -> None:
    """Raise DiskError unless nothing is there, or an empty directory."""
    if output.is_symlink() or (output.exists() and not output.is_dir()):
        raise DiskError(f"--output {output} is there already, and no directory. Choose another name.")
    if output.is_dir() and any(output.iterdir()):
        raise DiskError(f"--output {output} is there already, and not empty. Choose another name, or delete it.")


def _cannot_write(output: Path, error: OSError) -> DiskError:
    return DiskError(f"Cannot write {output}: {error.strerror or error}. Choose another folder with --output.")


def copy_beside(original: Path, directory: Path, config: Mapping[str, Any]) -> None:
    """Write config.json, and copy tokenizer and generation settings of the original. Raises OSError."""
    write_config(directory, config)
    generation = original / GENERATION
    for file in [*tokenizer_files(original), *([generation] if generation.is_file() else [])]:
        shutil.copyfile(file, directory / file.name)


def write_config(directory: Path, config: Mapping[str, Any]) -> None:
    """Write config.json. Raises OSError."""
    (directory / "config.json").write_text(json.dumps(config, indent=2), encoding="utf-8")


def lost_rules(recipe: Recipe, form: str) -> Iterator[str]:
    """A sentence for methods that round activations too, which this form of weights cannot say."""
    for part in dict.fromkeys(part.quantizer for part in recipe.parts):
        if quantizers.get(part).has_input_rule:
            yield f"{part} also rounds activations while the model runs, which {form} cannot hold: it is lost."


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """What README.md says of an export: of what it was made, how it is used, and a table of facts."""

    title: str
    base_model: str | None
    made_of: str
    use: str
    facts: Mapping[str, str]

    def write(self, written: Written, directory: Path) -> None:
        """Write it, with what differs from the weights that were judged. Raises OSError."""
        front = [] if self.base_model is None else [f"base_model: {json.dumps(self.base_model)}"]
        lines = [
            *(["---", *front, "---", ""] if front else []),
            f"# {self.title}",
            "",
            f"{self.made_of} {self.use}",
            "",
            "| | |",
            "|---|---|",
            *(f"| {name} | {value} |" for name, value in self.facts.items()),
            "",
            "## What differs",
            "",
            *(written.differences or (SAME,)),
            *([""] if written.details else []),
            *(f"- {line}" for line in written.details[:DETAILS_SHOWN]),
            *([f"- and {beyond} more tensors"] if (beyond := len(written.details) - DETAILS_SHOWN) > 0 else []),
            "",
        ]
        (directory / "README.md").write_text("\n".join(lines), encoding="utf-8")


def card_of(job: Job, written: Written, use: str) -> Card:
    """The card of a model at a recipe."""
    manifest = job.artifact.manifest
    values = manifest.bf16_bytes // 2
    return Card(
        title=job.name,
        base_model=job.base_model,
        made_of=f"{job.base_model} at the recipe `{job.recipe.id}` of pytest-quantbench.",
        use=use,
        facts={
            "recipe": f"`{job.recipe.id}`",
            "bits per weight, of these files": f"{8 * written.stored_bytes / values:.3f}",
            "bits per weight, of the recipe's artifact": f"{8 * manifest.stored_bytes / values:.3f}",
            "original": f"`{job.base_model}`, revision {manifest.revision or 'unknown'}",
            "SHA-256 of the original's files": f"`{manifest.source_sha256}`",
        },
    )
