"""What conversion to GGUF does to a model's values, and how it is undone to the last bit.

Source: llama.cpp's convert_hf_to_gguf.py, class by class. Two things happen to the architectures that are known here:

- The rows of q and k, weights and biases, are put in another order where llama.cpp turns neighbouring pairs of a head's
  values: published row (half, i) of a head, half 0 or 1, becomes row (i, half). Blocks lie along rows, and so the order
  is undone on the stored bytes.
- Gemma's norms multiply by 1 + weight, and the file holds that sum, in float32. The weight is the sum less 1: the very
  weight where the original has it in BF16 and it is zero or at least 2^-16, and else at most 2^-24 beside it. (Of an
  original in F16 the sum was rounded to F16: what the file says of those norms is 2^-12 off, and nobody can mend it.)
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import numpy as np

from pytest_quantbench.checkpoints.formats.gguf_cursor import Value
from pytest_quantbench.errors import ModelError
from pytest_quantbench.quantizers import Array


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversion:
    """What is done to the tensors of an architecture."""

    permutes: bool = False  # the rows of q and k
    shifts_norms: bool = False  # adds 1


PERMUTED, SHIFTED, AS_IT_IS = Conversion(permutes=True), Conversion(shifts_norms=True), Conversion()
CONVERSIONS: Mapping[str, Conversion] = MappingProxyType(
    {
        **dict.fromkeys(("llama", "mistral3", "smollm3", "granite"), PERMUTED),  # Mistral and Mixtral are `llama` too
        **dict.fromkeys(("gemma", "gemma2", "gemma3"), SHIFTED),
        **dict.fromkeys(("qwen2", "qwen2moe", "qwen3", "qwen3moe", "phi3", "olmo2"), AS_IT_IS),
    }
)
IN_LAYER = re.compile(r"blk\.(\d{1,4})\.")
HEADS = {".attn_q.": "head_count", ".attn_k.": "head_count_kv"}


class Undoing:
    """Undoes what was done to one file's tensors. Raises ModelError for an architecture of which it is not known."""

    def __init__(self, file: Path, values: Mapping[str, Value]) -> None:
        self._file, self._values = file, values
        self.architecture = str(values.get("general.architecture"))
        if self.architecture not in CONVERSIONS:
            raise ModelError(
                f"{file} holds a model of architecture {self.architecture!r:.80}, and what conversion to GGUF does to "
                f"its values is not known here. Known are: {', '.join(sorted(CONVERSIONS))}."
            )
        self._conversion = CONVERSIONS[self.architecture]

    def check(self, stored: str, rows: int) -> None:
        """Raise ModelError where a tensor's rows cannot be those of so many heads."""
        heads, width = self._heads(stored), self._head_dim()
        if heads is not None and (heads < 1 or rows % (2 * heads) or width not in (None, rows // heads)):
            told = "" if width is None else f" of {width}"
            raise ModelError(
                f"{self._file}: {stored} has {rows} rows, which are not those of {heads} heads{told}, as the header "
                f"says."
            )

    def undone(self, stored: str, rows: Array) -> Array:
        """(out, bytes of a row or values) or (out,) → the same as published. Floats less 1 are float32."""
        heads = self._heads(stored)
        if heads is not None:
            pairs = rows.reshape(heads, len(rows) // heads // 2, 2, *rows.shape[1:])
            return pairs.swapaxes(1, 2).reshape(rows.shape)
        if self._conversion.shifts_norms and stored.endswith("norm.weight"):
            return np.asarray(rows.astype(np.float32) - np.float32(1))
        return rows

    def _head_dim(self) -> int | None:
        """How many rows a head has, as llama.cpp takes it from the header; None where that does not say."""
        heads, hidden, width = (
            self._values.get(f"{self.architecture}.{key}")
            for key in ("attention.head_count", "embedding_length", "attention.key_length")
        )
        if width is not None:
            return width if isinstance(width, int) else None
        return hidden // heads if isinstance(hidden, int) and isinstance(heads, int) and heads > 0 else None

    def _heads(self, stored: str) -> int | None:
        """Of how many heads a tensor's rows are in another order; None where they are not."""
        key = next((key for part, key in HEADS.items() if part in stored), None)
        if not self._conversion.permutes or key is None:
            return None
        attention = f"{self.architecture}.attention"
        found = self._values.get(f"{attention}.{key}", self._values.get(f"{attention}.head_count"))
        if isinstance(found, np.ndarray):  # a number for each layer
            layer = IN_LAYER.match(stored)
            several = dict(enumerate(found.tolist()))
            found = several.get(int(layer[1])) if layer is not None else None
        if not isinstance(found, int):
            raise ModelError(f"{self._file} says nothing of {attention}.{key}, which {stored} needs.")
        return found
