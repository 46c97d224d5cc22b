"""Try every architecture of the installed mlx-lm in small, and write docs/architectures.md.

    python tools/architecture_table.py [ARCHITECTURE …] > docs/architectures.md

Each gets a config of plausible values by the names of its ModelArgs' fields, and OWN ones where these do not do; then
the proof that every model goes through before its first walk says what works. What cannot be built is listed too.
"""

import copy
import dataclasses
import importlib
import pkgutil
import sys
from collections.abc import Iterator
from contextlib import redirect_stdout
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import mlx_lm
import mlx_lm.models
from mlx.utils import tree_flatten

from pytest_quantbench.engines.mlx.host_products import backend
from pytest_quantbench.engines.mlx.small_twin import FOREIGN
from pytest_quantbench.engines.mlx.walk import Walk
from pytest_quantbench.engines.mlx.walk_trial import prove
from pytest_quantbench.engines.walk_proof import Proof
from pytest_quantbench.errors import ModelError
from tools.architecture_configs import BY_TYPE, NESTED, OWN, PLAUSIBLE

SHOWN = {"any": "branches", "even": "branches of one length", "none": "whole rows"}

# What a plausible config does not show: of the files that publishers have on the Hub.
NOTES = {
    "gpt_oss": "The published files are refused: their YaRN says `truncate: false`, and mlx-lm's module truncates.",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One line of the table."""

    architecture: str
    text: str = "–"
    choices: str = "–"
    calibration: str = "–"
    note: str = ""


def architectures() -> Iterator[tuple[str, ModuleType | str]]:
    """Every architecture with its module, or why that cannot be imported."""
    for found in pkgutil.iter_modules(mlx_lm.models.__path__):
        try:
            with redirect_stdout(sys.stderr):  # a module may print what it lacks
                module = importlib.import_module(f"mlx_lm.models.{found.name}")
        except (ImportError, SystemExit) as error:
            yield found.name, f"cannot be imported: {error!r}"
            continue
        if hasattr(module, "Model") and hasattr(module, "ModelArgs"):
            yield found.name, module


def config_of(name: str, module: ModuleType) -> dict[str, Any]:
    """A small config of this architecture."""
    own = OWN.get(name, {})
    made: dict[str, Any] = {}
    for field in dataclasses.fields(module.ModelArgs):
        required = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        if field.name in PLAUSIBLE and (required or field.default is not None):
            made[field.name] = PLAUSIBLE[field.name]
        elif required:
            made[field.name] = BY_TYPE.get(field.type, None)
    made |= {"model_type": name} | own
    inner = made.get("text_config")
    if isinstance(inner, dict) and (kind := inner.get("model_type")) is not None:
        known = NESTED[kind] if kind in NESTED else _text_config(kind)
        made["text_config"] = known | inner
    return made


def _text_config(kind: str) -> dict[str, Any]:
    try:
        return config_of(kind, importlib.import_module(f"mlx_lm.models.{kind}"))
    except ModuleNotFoundError:
        return {}


def tried(name: str, module: ModuleType | str) -> Row:
    """What works, found out."""
    if isinstance(module, str):
        return Row(architecture=name, note=f"not tried: {module}")
    try:
        config = config_of(name, module)
        flat: Any = tree_flatten(module.Model(module.ModelArgs.from_dict(copy.deepcopy(config))).parameters())
        names = [path for path, _ in flat]
        proof = prove(config, names, backend() == "cpu", Walk)
    except (ModelError, ImportError, *FOREIGN) as error:
        return Row(architecture=name, note=f"not tried, for want of a config that it takes: {error}")
    if proof.refused is not None:
        return Row(architecture=name, text="refused", choices="refused", calibration="refused", note=proof.refused)
    return Row(
        architecture=name,
        text="✓",
        choices="refused" if proof.branching is None else SHOWN[proof.branching],
        calibration="✓" if proof.anatomy.loops == 1 else "refused",
        note=" ".join(filter(None, (_note(proof), NOTES.get(name)))),
    )


def _note(proof: Proof) -> str:
    looped = f"Goes {proof.anatomy.loops} times through its layers. " if proof.anatomy.loops > 1 else ""
    return looped + (f"Other branches: {proof.unbranched}" if proof.unbranched else "")


def document(rows: list[Row]) -> Iterator[str]:
    """The page, line by line."""
    refused = sum(row.text == "refused" for row in rows)
    works = sum(row.text == "✓" for row in rows)
    yield from (
        "# Architectures",
        "",
        f"What works with each architecture of mlx-lm {mlx_lm.__version__}, from `tools/architecture_table.py`: "
        f"{works} work, {refused} are refused by name, {len(rows) - works - refused} could not be tried.",
        "",
        "Each was tried in small, as every model is before its first walk: a few narrow layers of every kind that it",
        "has, with random weights, go through the walk and through mlx-lm's own forward pass, and losses have to be",
        "equal to 1e-4 nats (see [method.md](method.md)). Sizes and options here are examples; a model's own config is",
        "what is tried when it is measured.",
        "",
        "- **T2**: perplexity. **Calibration**: recipes that look at data. What no quantizer takes (experts, say) is",
        "  told by the recipe and not here.",
        "- **T3**: multiple choice. `branches`: what contexts and choices share is computed once; `branches of one",
        "  length`: contexts of one length together; `whole rows`: every choice with its whole context, which takes",
        "  longer and gives the same.",
        "",
        "| architecture | T2 | T3 | calibration | |",
        "|---|---|---|---|---|",
    )
    for row in rows:
        note = " ".join(row.note.split()).replace("|", "\\|")
        yield f"| {row.architecture} | {row.text} | {row.choices} | {row.calibration} | {note} |"


if __name__ == "__main__":
    chosen = [found for found in architectures() if not sys.argv[1:] or found[0] in sys.argv[1:]]
    print("\n".join(document([tried(*found) for found in chosen])))
