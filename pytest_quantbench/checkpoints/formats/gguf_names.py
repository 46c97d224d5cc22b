"""Where a published tensor lies in a GGUF file: llama.cpp's names for it, and for the experts in its stacks.

Source: the tables of the `gguf` package (`gguf.get_tensor_name_map`), which llama.cpp's own conversion uses, by the
architecture that the file names. They know whole layers; conversion does the rest, and so it stands here: experts are
stacked, gate and up of a layer may be published as one matrix, a text model's names have a prefix in models that also
see, and factors of rotary frequencies, which config.json has as numbers, are tensors.
"""

import re
from collections.abc import Container, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from pytest_quantbench.errors import ModelError

# Beginnings that the text part of a model has in published checkpoints, and what the tables call it.
PREFIXES = (
    ("model.language_model.", "model."),
    ("language_model.model.", "model."),
    ("language_model.lm_head", "lm_head"),
    ("model.text_model.", "model."),
)
EXPERT = re.compile(r"(.+\.experts)\.(\d+)\.(.+)")
GATE_UP = re.compile(r"(.+\.experts)\.gate_up_proj")
ENDINGS = (".weight", ".bias")
# What a file holds that no published checkpoint does.
FACTORS: Mapping[str, str] = MappingProxyType(
    {
        "rope_freqs.weight": "factors of rotary frequencies, which config.json has as rope_scaling",
        "rope_factors_long.weight": "factors of rotary frequencies in long texts, in config.json as long_factor",
        "rope_factors_short.weight": "factors of rotary frequencies in short texts, in config.json as short_factor",
    }
)
ROTARY = re.compile(r"blk\.\d+\.(attn_rot_embd|rope_freqs|rope_factors_long|rope_factors_short)\.weight")


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Tensors of the file whose rows, one after the other, are the published tensor; of one expert, or of all."""

    stored: tuple[str, ...]
    expert: int | None = None


def purpose(stored: str) -> str:
    """What a tensor of the file stands for where it is no weight; empty for a weight."""
    return FACTORS.get(stored, "rotary frequencies, which follow from config.json" if ROTARY.fullmatch(stored) else "")


class Names:
    """The names of one architecture's tensors; `stored` are those that the file has.

    Raises ModelError for an architecture that the `gguf` package does not know.
    """

    def __init__(self, architecture: str, blocks: int, stored: Container[str]) -> None:
        import gguf

        known = {name: kind for kind, name in gguf.MODEL_ARCH_NAMES.items()}
        if architecture not in known:
            raise ModelError(f"The gguf package has no names for the architecture {architecture!r}. Use a newer one.")
        self._table = gguf.get_tensor_name_map(known[architecture], blocks)
        self._stored = stored

    def place(self, published: str) -> Place | None:
        """Where the tensor of a published checkpoint lies; None where the file has none."""
        name = published
        for prefix, own in PREFIXES:
            if name.startswith(prefix):
                name = own + name.removeprefix(prefix)
                break
        if (expert := EXPERT.fullmatch(name)) is not None:
            return self._expert(f"{expert[1]}.{expert[3]}", int(expert[2]))
        if (both := GATE_UP.fullmatch(name)) is not None:
            return self._both(both[1])
        return self._whole(name)

    def _called(self, name: str) -> str | None:
        """llama.cpp's name; one without an ending is that of a stack, which has one there."""
        ending = next((each for each in ENDINGS if name.endswith(each)), "")
        found = self._table.get_name(name.removesuffix(ending))
        return None if found is None else found + (ending or ".weight")

    def _whole(self, name: str) -> Place | None:
        found = self._called(name)
        return Place(stored=(found,)) if found is not None and found in self._stored else None

    def _expert(self, name: str, expert: int) -> Place | None:
        """In a stack, or, in files of before April 2024, by itself: `blk.0.ffn_gate.3.weight`."""
        stack = self._called(name)
        if stack is None:
            return None
        single = stack.replace("_exps.", f".{expert}.")
        if single in self._stored:
            return Place(stored=(single,))
        return Place(stored=(stack,), expert=expert) if stack in self._stored else None

    def _both(self, experts: str) -> Place | None:
        """Gate and up of all experts, published as one stack: the rows of gate come first."""
        parts = tuple(self._called(f"{experts}.{part}_proj") for part in ("gate", "up"))
        found = tuple(part for part in parts if part is not None and part in self._stored)
        return Place(stored=found) if len(found) == len(parts) else self._whole(f"{experts}.gate_up_proj")
