"""How bytes and values stand in the page: packed where they are only needed later, and so that no text can run.

A browser runs a script only where the page's policy names the script's hash, so that names and texts of models, which
others wrote, stay texts even where something forgot to escape them.
"""

import base64
import gzip
import hashlib
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
from markupsafe import Markup

LEVEL = 6  # of gzip: 9 takes three times as long for 2 % less
# Within a script element `</script>` would end it, and `<!--` begin what no longer ends there.
_UNSAFE = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"}


def _plain(value: Any) -> Any:
    """Numbers and arrays of numpy as those of JSON."""
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    raise NotImplementedError(f"{type(value).__name__} cannot stand in a page")


_ENCODER = msgspec.json.Encoder(enc_hook=_plain)


def packed(content: bytes | str) -> str:
    """Gzip in base64, the same for the same content: a script's text that `DecompressionStream` opens."""
    plain = content.encode() if isinstance(content, str) else content
    return base64.b64encode(gzip.compress(plain, LEVEL, mtime=0)).decode()


def packed_json(values: Any) -> str:
    """Values as JSON, packed. Not-a-number and infinities become null, as JSON has none."""
    return packed(_ENCODER.encode(values))


def inline_json(values: Any) -> Markup:
    """Values as JSON that may stand in a script element as it is."""
    text = _ENCODER.encode(values).decode()
    for letter, escaped in _UNSAFE.items():
        text = text.replace(letter, escaped)
    return Markup(text)  # what could end the element has just been escaped


def policy(scripts: Sequence[str]) -> str:
    """The page's Content-Security-Policy: these scripts and no others, styles and pictures of its own, no network."""
    hashes = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts]
    rules = {
        "default-src": "'none'",
        "script-src": " ".join(f"'sha256-{each}'" for each in hashes),
        "style-src": "'unsafe-inline'",
        "img-src": "data: blob:",
        "base-uri": "'none'",
        "form-action": "'none'",
    }
    return "; ".join(f"{name} {value}" for name, value in rules.items())
