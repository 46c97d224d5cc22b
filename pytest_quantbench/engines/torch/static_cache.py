"""Keys and values of several texts in memory that is taken once, and the attention that reads them.

A text's token at position p has its key and value at place p of its row, whatever other rows hold: texts of different
lengths share a batch without any padding in front. What stands behind a row's own tokens is masked out, and
overwritten before it is ever seen. Windows and the like are masks, made by Transformers from positions.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, TypeAlias

import torch
from torch import nn
from torch.nn import functional
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.cache_utils import Cache, CacheLayerMixin

from pytest_quantbench.engines.registry import part
from pytest_quantbench.engines.torch import kv_cache
from pytest_quantbench.engines.torch.attention import ATTENTION, elsewhere
from pytest_quantbench.errors import ModelError

NAME = "quantbench-resident"
STEP_KERNELS = "pytest_quantbench.engines.torch.step_kernels"
BY_LENGTH = {"dynamic", "longrope"}  # rotations that depend on the longest text of a forward pass
KEPT = {"full_attention", "sliding_attention", "chunked_attention"}  # kinds of layers whose memory is keys and values
TABLE: Any = AttentionInterface()  # type: ignore[no-untyped-call]
Attended: TypeAlias = tuple[torch.Tensor, None]


class StaticCache(Cache):
    """Keys and values of `rows` texts of up to `length` tokens, in every layer.

    Before a forward pass: `positions` (rows, tokens), or (1, tokens) where that is the same for all, says where its
    tokens stand in their texts; `first`, in which row the texts begin; `seen`, how many places of a row can matter.
    """

    def __init__(self, layers: int, rows: int, length: int, positions: torch.Tensor) -> None:
        self.rows, self.length = rows, length
        self.positions, self.first, self.seen = positions, 0, length
        if positions.device.type == "cpu":
            part("torch", STEP_KERNELS)  # defines what attends there, by a compiler that only a CPU needs
        self.kept = [self._layer() for _ in range(layers)]
        super().__init__(layers=[*self.kept])

    def _layer(self) -> "Kept":
        return Kept(self)

    def reading(self, positions: torch.Tensor) -> AbstractContextManager[None]:
        """What a forward pass of tokens at these positions runs in."""
        return nullcontext()

    def get_query_offset(self, layer_idx: int = 0) -> torch.Tensor:  # type: ignore[override]
        """Where the tokens stand: what Transformers hands to `mask`. Of one text the first place is enough, which is
        what Transformers' own masks want.
        """
        return self.positions[0, 0] if self.rows == 1 else self.positions

    def move(self, source: int, target: int) -> None:
        """Copy a row's keys and values."""
        for layer in self.kept:
            layer.move(source, target)

    def take(self, other: "StaticCache", rows: int, length: int) -> None:
        """Copy the first rows of another cache, up to this length."""
        for mine, its in zip(self.kept, other.kept, strict=True):
            mine.take(its, rows, length)


class Kept(CacheLayerMixin):  # type: ignore[no-untyped-call]
    """Those of one layer: (rows, heads, length, width)."""

    is_compileable = True
    is_sliding = False
    keys: torch.Tensor
    values: torch.Tensor

    def __init__(self, cache: StaticCache) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._cache = cache

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        """Take the memory: now it is known how many heads there are, and how wide."""
        for name, states in (("keys", key_states), ("values", value_states)):
            _, heads, _, width = states.shape
            setattr(self, name, states.new_zeros(self._cache.rows, heads, self._cache.length, width))
        self.is_initialized = True

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **named: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Write the new (rows, heads, tokens, width) to their places; what attention has to look at."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        rows = slice(self._cache.first, self._cache.first + len(key_states))
        held = []
        for whole, states in ((self.keys, key_states), (self.values, value_states)):
            mine = whole if self._cache.rows == 1 else whole[rows]
            if len(self._cache.positions) == 1:  # of one text, or the same of all
                mine.index_copy_(2, self._cache.positions[0], states)
            else:
                places = self._cache.positions[:, None, :, None].expand_as(states)
                mine.scatter_(2, places, states)
            held.append(mine if self._cache.seen == self._cache.length else mine[:, :, : self._cache.seen])
        return held[0], held[1]

    def move(self, source: int, target: int) -> None:
        """Copy a row's keys and values."""
        self.keys[target] = self.keys[source]
        self.values[target] = self.values[source]

    def take(self, other: "Kept", rows: int, length: int) -> None:
        """Copy the first rows of another one, up to this length."""
        if other.is_initialized:
            self.lazy_initialization(other.keys, other.values)
            self.keys[:rows, :, :length] = other.keys[:rows, :, :length]
            self.values[:rows, :, :length] = other.values[:rows, :, :length]

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """How many keys attention is given, and the position of the first."""
        return self._cache.seen, 0

    def get_seq_length(self) -> Any:
        """How many tokens came before, in the first row."""
        return self._cache.positions[0, 0]

    def get_max_length(self) -> int:
        """How many tokens there is room for."""
        return self._cache.length


def attention(
    module: nn.Module,
    query: torch.Tensor,  # (rows, heads, tokens, width)
    key: torch.Tensor,  # (rows, key heads, places, width)
    value: torch.Tensor,
    attention_mask: torch.Tensor,  # (rows, 1, tokens, places) bool: what is seen
    scaling: float | None = None,
    softcap: float | None = None,
    s_aux: torch.Tensor | None = None,  # (heads,): a score beside those of the places, of which nothing is taken
    **named: Any,
) -> Attended:
    """As Transformers calls it; gives (rows, tokens, heads, width)."""
    found = elsewhere(module, query, key, value, attention_mask, scaling, softcap, s_aux, **named)
    if found is not None:
        return found, None
    rows, heads, tokens, width = query.shape
    scale = width**-0.5 if scaling is None else float(scaling)
    if rows == tokens == 1 and query.device.type == "cpu" and query.dtype == torch.float32:
        own: Any = torch.ops.quantbench.attend
        return own(query, key, value, attention_mask, s_aux, scale, float(softcap or 0)), None
    if tokens == 1 and softcap is None and s_aux is None:  # heads that share a key are as tokens: no key is copied
        shared = query.reshape(rows, key.shape[1], -1, width)
        attended = functional.scaled_dot_product_attention(shared, key, value, attention_mask, scale=scale)
        return attended.reshape(rows, 1, heads, -1), None
    plain: Attended = TABLE[ATTENTION](
        module, query, key, value, attention_mask, scaling=scale, softcap=softcap, s_aux=s_aux, **named
    )
    return plain


def mask(
    *,
    batch_size: int,
    q_length: int,
    kv_length: int,
    q_offset: torch.Tensor,  # (rows, tokens), (1, tokens), or () of one text: what `StaticCache.get_query_offset` says
    mask_function: Callable[..., torch.Tensor],
    **named: Any,
) -> torch.Tensor:
    """What each token sees, (rows, 1, tokens, places) bool, by Transformers' rule for a position and another one."""
    if not q_offset.ndim:
        q_offset = q_offset + torch.arange(q_length, device=q_offset.device)[None]
    rows = torch.arange(batch_size, device=q_offset.device)[:, None, None, None]
    places = torch.arange(kv_length, device=q_offset.device)[None, None, None]
    seen = mask_function(rows, torch.zeros_like(rows), q_offset[:, None, :, None], places)
    return seen.expand(batch_size, 1, q_length, kv_length)


AttentionInterface.register(NAME, attention)
AttentionMaskInterface.register(NAME, mask)


def use(model: nn.Module) -> None:
    """Make a model of Transformers attend so, unless it has an attention of its own. Raises ModelError for one that
    keeps something else than keys and values.
    """
    config: Any = model.config
    others = sorted(set(getattr(config, "layer_types", None) or KEPT) - KEPT)
    if others:
        raise ModelError(
            f"Unsupported architecture: Transformers' {type(model).__name__} has layers of the kind "
            f"{', '.join(others)}, and cannot be held in memory whole. Its perplexity and accuracy are measured layer "
            f"by layer."
        )
    if config._attn_implementation == ATTENTION:
        config._attn_implementation = NAME
    if (argument := kv_cache.argument(model)) is None:
        raise ModelError(f"Unsupported architecture: Transformers' {type(model).__name__} keeps no keys and values.")
    model.cache_argument = argument  # type: ignore[assignment]


def alone(model: nn.Module) -> bool:
    """Whether no text may share a forward pass with another, nor be read piece by piece: for a model that has an
    attention of its own, and where positions are turned otherwise once a text is long.
    """
    config: Any = model.config
    ropes = getattr(config, "rope_parameters", None) or {}
    kinds = {part.get("rope_type") for part in (ropes, *ropes.values()) if isinstance(part, dict)}
    return config._attn_implementation != NAME or bool(kinds & BY_LENGTH)


def forward(
    model: nn.Module, cache: Cache, tokens: torch.Tensor, positions: torch.Tensor, keep: int | torch.Tensor = 1
) -> torch.Tensor:
    """(rows, tokens) at their positions → logits (rows, kept, vocabulary); `keep`: of the last so many, or of these."""
    if isinstance(cache, StaticCache):
        cache.positions = positions
    named: Any = {model.cache_argument: cache}
    made: Any = model(input_ids=tokens, position_ids=positions, use_cache=True, logits_to_keep=keep, **named)
    logits: torch.Tensor = made.logits
    return logits
