"""Names and sentences as markdown: shown letter by letter, whatever is in them."""

import re
import unicodedata

LETTERS = {"&": "&amp;", "<": "&lt;", ">": "&gt;", "|": "&#124;"}  # a bar would end a table's cell, escaped or not
INTERVAL = r"\[[-+0-9.,… ]+\](?![(\[:])"  # what no link can be made of
MARKUP = re.compile(rf"{INTERVAL}|[\\`*\[\]~$&<>|]")
LOOSE_UNDERSCORE = re.compile(r"(?<![^\W_])_|_(?![^\W_])")  # one inside of a word is no markup
FIRST = re.compile(r"^(?:[-+#=]|\d+(?=[.)](?:\s|$)))")  # what begins a list, a heading or an underline
PLAIN = re.compile(r"[\w./:@+-]+")  # what a code span can hold wherever it stands


def text(value: str) -> str:
    """A name as markdown that shows this name, on one line. White space becomes a space, as a browser has it; letters
    that are none (control characters, halves of pairs) become the sign for that.
    """
    known = "".join("\ufffd" if _is_none(letter) else letter for letter in " ".join(value.split()))
    escaped = MARKUP.sub(_escaped, known)
    escaped = LOOSE_UNDERSCORE.sub(r"\\_", escaped)
    return FIRST.sub(_first, escaped)


def code(value: str) -> str:
    """A name as code where it can be, else as text."""
    return f"`{value}`" if PLAIN.fullmatch(value) else text(value)


def _escaped(found: re.Match[str]) -> str:
    return found[0] if len(found[0]) > 1 else LETTERS.get(found[0], f"\\{found[0]}")


def _is_none(letter: str) -> bool:
    return unicodedata.category(letter) in ("Cc", "Cs")


def _first(found: re.Match[str]) -> str:
    """Digits cannot be escaped: what follows them is."""
    return f"{found[0]}\\" if found[0][0].isdigit() else f"\\{found[0]}"
