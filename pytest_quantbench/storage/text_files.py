"""Files that people write, texts and questions: UTF-8, with or without a byte order mark, with any line ends."""

import codecs
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pytest_quantbench.errors import CorpusError

MARK = "\ufeff"
OTHERS = {  # the marks of encodings that are not read; UTF-32's little-endian one begins with UTF-16's
    codecs.BOM_UTF32_LE: "UTF-32",
    codecs.BOM_UTF32_BE: "UTF-32",
    codecs.BOM_UTF16_LE: "UTF-16",
    codecs.BOM_UTF16_BE: "UTF-16",
}


def read_utf8(file: Path, what: str) -> str:
    """The content without its byte order mark, its lines ended by "\\n" alone. `what` names the file in errors.

    Raises CorpusError for a file that cannot be opened or is not UTF-8 text.
    """
    try:
        content = file.read_bytes()
        for mark, encoding in OTHERS.items():
            if content.startswith(mark):
                raise CorpusError(
                    f"{what} cannot be read as UTF-8: it begins with the mark of {encoding}. Save it anew."
                )
        text = content.decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise CorpusError(f"{what} cannot be read as UTF-8: {error}.") from error
    if "\0" in text:
        raise CorpusError(f"{what} cannot be read as UTF-8: it has NUL bytes, as UTF-16 and files that are no text do.")
    return plain_line_ends(text)


def plain_line_ends(text: str) -> str:
    """The text with "\\n" where it had "\\r\\n" (Windows) or a lone "\\r"."""
    return text.replace("\r\n", "\n").replace("\r", "\n")


def json_lines(content: str) -> Iterator[tuple[int, str]]:
    """Every line that is not blank, with its number; files that were put behind each other may each have a mark."""
    for number, line in enumerate(content.split("\n"), 1):
        if line.strip():
            yield number, line.removeprefix(MARK)


def parsed(line: str) -> Any:
    """The line's JSON value. Raises ValueError where it is none, or spells half a surrogate pair, which is no text."""
    found = json.loads(line)
    if re.search(r"\\u[dD][89a-fA-F]", line):
        json.dumps(found, ensure_ascii=False).encode()
    return found
