"""What a GGUF file says of a model beside its weights: the header's keys, names of tensors, and the order of rows.

Source: llama.cpp's conversion and the `gguf` package's tables. Known here are architectures whose every part is one
published tensor: Llama (and Mistral, which llama.cpp runs as Llama), Qwen2 and Qwen3. Of Llama's the rows of q and k
lie in another order, which `checkpoints.formats.gguf_transformations` undoes; here it is made.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from pytest_quantbench.checkpoints.formats.gguf_rope import llama3_factors
from pytest_quantbench.checkpoints.formats.gguf_transformations import CONVERSIONS, HEADS
from pytest_quantbench.checkpoints.omitted_keys import with_omitted
from pytest_quantbench.checkpoints.rope import ALL_LAYERS, Rope, rope_type, ropes_of
from pytest_quantbench.engines.protocol import Architecture
from pytest_quantbench.errors import ModelError
from pytest_quantbench.quantizers import Array

ARCHITECTURES: Mapping[str, str] = {"llama": "llama", "mistral": "llama", "qwen2": "qwen2", "qwen3": "qwen3"}
BASE = 10000.0  # of rotary positions, which these architectures take where config.json says nothing
# What llama.cpp takes for granted in these architectures, by config.json's key.
GRANTED: Mapping[str, tuple[Any, ...]] = {
    "hidden_act": ("silu", None),
    "use_sliding_window": (False, None),
    "pretraining_tp": (1, None),
}
SCALINGS = ("default", "linear", "llama3")
ENDINGS = (".weight", ".bias")


class GgufModel:
    """One opened model in llama.cpp's words. Raises ModelError for what these cannot say."""

    def __init__(self, source: Architecture) -> None:
        self._source, self._config = source, source.config
        self._place = source.checkpoint.directory
        model_type = str(self._config.get("model_type"))
        if model_type not in ARCHITECTURES:
            raise ModelError(
                f"{self._place} is a {model_type!r} model, which is not written as GGUF. Those that are: "
                f"{', '.join(ARCHITECTURES)}. Choose --to mlx or --to hf."
            )
        self.architecture = ARCHITECTURES[model_type]
        self.blocks = len(source.layers)
        self.rope = self._rope()
        self._refuse_others()

    def _rope(self) -> Rope:
        ropes = ropes_of(with_omitted(self._config, BASE))
        rope = ropes.get(ALL_LAYERS)
        if rope is None or rope_type(rope) not in SCALINGS or rope.get("partial_rotary_factor") not in (None, 1.0):
            raise ModelError(
                f"{self._place}: rotary positions {ropes!r:.200} are not written as GGUF. Types that are: "
                f"{', '.join(SCALINGS)}, in all layers alike."
            )
        return rope

    def _refuse_others(self) -> None:
        """Raise ModelError for settings under which llama.cpp would compute something else."""
        for key, values in GRANTED.items():
            if self._config.get(key) not in values:
                raise ModelError(f"{self._place}: {key} = {self._config[key]!r:.80} cannot be said in a GGUF file.")
        window, seen = self._config.get("sliding_window"), self._config.get("max_position_embeddings")
        if window is not None and self._config.get("use_sliding_window") is None and (seen is None or window < seen):
            raise ModelError(f"{self._place}: sliding_window = {window!r:.80} cannot be said in a GGUF file.")

    @property
    def heads(self) -> int:
        """Of attention."""
        return self.number("num_attention_heads")

    @property
    def key_heads(self) -> int:
        """Of keys and values."""
        return int(self._config.get("num_key_value_heads") or self.heads)

    @property
    def head_dim(self) -> int:
        """Values in a head."""
        return int(self._config.get("head_dim") or self.number("hidden_size") // self.heads)

    def number(self, key: str) -> int:
        """A size that config.json says. Raises ModelError where it does not."""
        value = self._config.get(key)
        if not isinstance(value, int):
            raise ModelError(f"{self._place}: config.json says {key} = {value!r:.80}, and a GGUF file needs a number.")
        return value

    def describe(self, writer: Any) -> None:
        """Add the architecture's keys to a `GGUFWriter`."""
        writer.add_block_count(self.blocks)
        writer.add_context_length(self.number("max_position_embeddings"))
        writer.add_embedding_length(self.number("hidden_size"))
        writer.add_feed_forward_length(self.number("intermediate_size"))
        writer.add_head_count(self.heads)
        writer.add_head_count_kv(self.key_heads)
        writer.add_key_length(self.head_dim)
        writer.add_value_length(self.head_dim)
        writer.add_layer_norm_rms_eps(float(self._config.get("rms_norm_eps", 1e-6)))
        writer.add_vocab_size(self.number("vocab_size"))
        writer.add_rope_dimension_count(self.head_dim)
        writer.add_rope_freq_base(float(self.rope["rope_theta"]))
        if rope_type(self.rope) == "linear":
            import gguf

            writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
            writer.add_rope_scaling_factor(float(self.rope["factor"]))

    @property
    def factors(self) -> Array | None:
        """(head_dim / 2,) float32 of the tensor `rope_freqs.weight`, by which Llama 3 divides frequencies, or None."""
        if rope_type(self.rope) != "llama3":
            return None
        return llama3_factors(self.rope, float(self.rope["rope_theta"]), self.head_dim).astype(np.float32)

    def names(self) -> dict[str, str]:
        """The file's name of every parameter. Raises ModelError for one that has none."""
        import gguf

        known = {name: kind for kind, name in gguf.MODEL_ARCH_NAMES.items()}
        table = gguf.get_tensor_name_map(known[self.architecture], self.blocks)
        return {each.path: self._called(table, each.path) for each in self._source.parameters}

    def _called(self, table: Any, path: str) -> str:
        origin = self._source.origin(path)
        found = table.get_name(origin.sources[0], try_suffixes=ENDINGS) if origin.form == "same" else None
        if found is None:
            raise ModelError(f"{self._place}: {path} has no name in a GGUF file of architecture {self.architecture}.")
        return str(found)

    def ordered(self, name: str, rows: Array) -> Array:
        """The rows of a tensor of this name in the file, (out, …), in the order that llama.cpp wants."""
        part = next((part for part in HEADS if part in name), None)
        if part is None or not CONVERSIONS[self.architecture].permutes:
            return rows
        heads = self.heads if HEADS[part] == "head_count" else self.key_heads
        halves = rows.reshape(heads, 2, len(rows) // heads // 2, *rows.shape[1:])
        return np.ascontiguousarray(halves.swapaxes(1, 2)).reshape(rows.shape)
