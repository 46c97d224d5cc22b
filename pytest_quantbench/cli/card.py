"""`quantbench card`: what a model's page on the Hub and a README show of one cell, as files."""

import argparse
from pathlib import Path

from pytest_quantbench.catalog.recipes import REFERENCE
from pytest_quantbench.errors import unknown
from pytest_quantbench.record import folder
from pytest_quantbench.record.schema import Record

HELP = "files for a model's page on the Hub: `quantbench card results --model Tiny --recipe int4 --output DIR`"
DESCRIPTION = (
    "Writes the README's `model-index` and `.eval_results/*.yaml` of one cell of a results folder, and its badge as a "
    "picture and for shields.io. A README that is there keeps its text. Nothing is measured, and nothing is uploaded."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The records, the cell, and where its files go."""
    parser.add_argument("directory", type=Path, help="a folder of records, such as results")
    parser.add_argument("--model", required=True, help="the model, as the records name it")
    parser.add_argument("--recipe", required=True, help="its recipe, such as int4")
    parser.add_argument(
        "--output", type=Path, required=True, help="a folder, such as a clone of the model's repository"
    )
    parser.add_argument("--source-url", help="where the evaluation can be looked up, such as this run of your CI")


def run(chosen: argparse.Namespace) -> int:
    """Write them and print their names. Raises UnknownNameError for a cell that the folder does not have."""
    from pytest_quantbench.report import badge, github, hub
    from pytest_quantbench.storage.files import write_atomically

    (record, beside), output = _records(chosen), chosen.output
    readme = output / "README.md"
    before = readme.read_text(encoding="utf-8") if readme.is_file() else None
    name = record.cell
    shown = badge.badge([record], record.model_id)
    files = {
        "README.md": hub.card(record, github.summary([record], beside), before).encode(),
        **hub.entries(record, chosen.source_url),
        f"{name}.svg": badge.svg(shown),
        f"{name}.json": badge.endpoint(shown),
    }
    for file, content in files.items():
        write_atomically(output / file, content)
        print(output / file)
    return 0


def _records(chosen: argparse.Namespace) -> tuple[Record, list[Record]]:
    """The record that is asked for, and its reference's, where the folder has it."""
    found = folder.read_all(chosen.directory)
    of_model = {record.recipe: record for record in found if record.model_id == chosen.model}
    if not of_model:
        raise unknown("model", chosen.model, list(dict.fromkeys(record.model_id for record in found)))
    if chosen.recipe not in of_model:
        raise unknown("recipe", chosen.recipe, list(of_model))
    return of_model[chosen.recipe], [of_model[REFERENCE.id]] if REFERENCE.id in of_model else []
