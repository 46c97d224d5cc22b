"""Prompts of the user's own, that T1 goes on from: a file of lines, or of JSON, an object or a text in each.

A JSONL file is told by its name, or by a first line that is a JSON object. Its objects have the prompt under `prompt`,
`text`, `question` or `instruction`.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path

from pytest_quantbench.errors import CorpusError

JSONL = (".jsonl", ".ndjson")
KEYS = ("prompt", "text", "question", "instruction")
MOST_PROMPTS = 1000  # that a file is taken for one of prompts: T1 runs every one several times


def read_prompts(file: Path) -> tuple[str, ...]:
    """The prompts of a file, in its order; empty lines are left out. Raises CorpusError for a file that cannot be read,
    is no UTF-8, has no prompt or far too many, and for a line of JSON without a prompt.
    """
    try:
        # What Python calls an end of line besides these may stand within a text, in JSON too: U+2028, a form feed.
        lines = re.split(r"\r\n|\n|\r", file.read_bytes().decode("utf-8-sig"))
    except OSError as error:
        raise CorpusError(f"{file} cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise CorpusError(f"{file} is no UTF-8 text: byte {error.start:,} is none. Save it as UTF-8.") from error
    filled = [(number, line) for number, line in enumerate(lines, 1) if line.strip()]
    is_json = file.suffix in JSONL or (bool(filled) and filled[0][1].lstrip().startswith("{"))
    prompts = tuple(_of_json(file, filled) if is_json else (line for _, line in filled))
    if not prompts:
        raise CorpusError(f"{file} has no prompt: give one in each line, or JSONL with `prompt` in each object.")
    if len(prompts) > MOST_PROMPTS:
        raise CorpusError(f"{file} has {len(prompts):,} prompts, and T1 takes up to {MOST_PROMPTS:,}: leave some out.")
    return prompts


def _of_json(file: Path, lines: list[tuple[int, str]]) -> Iterator[str]:
    for number, line in lines:
        try:
            told = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise CorpusError(f"{file}, line {number}: this is no JSON. Give an object in each line.") from error
        found = next((told[key] for key in KEYS if key in told), None) if isinstance(told, dict) else told
        if not isinstance(found, str) or not found.strip():
            raise CorpusError(
                f"{file}, line {number}: there is no prompt. Give an object with one under {', '.join(KEYS)}."
            )
        yield found
