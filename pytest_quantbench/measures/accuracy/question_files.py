"""A file of questions, one a line, as the documents of one of lm-eval's tasks."""

from pathlib import Path
from typing import Any

import datasets

from pytest_quantbench.errors import CorpusError
from pytest_quantbench.storage.text_files import json_lines, parsed, read_utf8


def rows_of(name: str, file: Path) -> list[dict[str, Any]]:
    """The questions of a file, one a line. Raises CorpusError unless every line is a JSON object with the fields of the
    first: what a line lacks would be read as nothing, and answered.
    """
    if not file.is_file():
        raise CorpusError(f"--task-data {name}={file}: there is no such file.")
    rows: list[dict[str, Any]] = []
    for number, line in json_lines(read_utf8(file, f"--task-data {name}: {file}")):
        try:
            found = parsed(line)
        except ValueError as error:
            raise CorpusError(f"--task-data {name}: line {number} of {file} is not JSON: {error}.") from error
        if not isinstance(found, dict):
            raise CorpusError(f"--task-data {name}: line {number} of {file} is not a JSON object.")
        if rows and (odd := sorted(rows[0].keys() ^ found.keys())):
            what = "lacks" if odd[0] in rows[0] else "has"
            raise CorpusError(
                f"--task-data {name}: line {number} of {file} {what} {odd[0]!r}, other than the first line. Give every "
                f"question the same fields, null where there is nothing to say."
            )
        rows.append(found)
    if not any(rows):
        raise CorpusError(f"--task-data {name}={file}: there is no question in it.")
    return rows


def documents_of(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """What a task's definition says so that these are its documents. They are handed over and not by a path: that would
    be a pattern, of which `*`, `?`, brackets and `::` mean other files.
    """

    def documents(**_: Any) -> datasets.DatasetDict:
        return datasets.DatasetDict(test=datasets.Dataset.from_list(rows))

    nowhere = dict.fromkeys(("dataset_name", "dataset_kwargs", "training_split", "validation_split"))
    return nowhere | {
        "custom_dataset": documents,
        "dataset_path": "json",
        "test_split": "test",
        "fewshot_split": "test",
    }
