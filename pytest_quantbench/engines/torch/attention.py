"""Attention and its masks, registered with Transformers under a name of our own, so that its models ask for these.

PyTorch's fused attention computes what it can; soft caps and attention sinks are spelled out, in float32. Masks of rows
that go on from others of unlike lengths (see batches) follow the positions at which keys really stand.
"""

import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from torch import nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from pytest_quantbench.engines.batches import Places
from pytest_quantbench.engines.torch.products import has_onednn, product

ATTENTION = "quantbench"
BLOCK = 128  # queries of a group of heads that are taken together on a CPU
QUERIES = 256  # taken together where the scores are spelled out: they stay in the cache
_places: ContextVar[Places | None] = ContextVar("places", default=None)
Other = Callable[..., torch.Tensor | None]  # an attention that may take the place of ours
_other: ContextVar[Other | None] = ContextVar("other", default=None)


@contextmanager
def placed(places: Places | None) -> Iterator[None]:
    """Masks that are made meanwhile are those of a batch whose keys stand there; None: each behind the one before."""
    token = _places.set(places)
    try:
        yield
    finally:
        _places.reset(token)


@contextmanager
def attending(other: Other | None) -> Iterator[None]:
    """Attention is asked of another function meanwhile, with the same arguments; where it gives None, ours computes."""
    token = _other.set(other)
    try:
        yield
    finally:
        _other.reset(token)


def elsewhere(*given: Any, **named: Any) -> torch.Tensor | None:
    """What another attention makes of this, if one is asked meanwhile: (rows, queries, heads, d)."""
    if torch.compiler.is_compiling():  # a step that is timed, of which none is asked; a ContextVar cannot be traced
        return None
    other = _other.get()
    return None if other is None else other(*given, **named)


def _mask(
    *, batch_size: int, q_length: int, mask_function: Callable[..., torch.Tensor], device: Any = "cpu", **rest: Any
) -> torch.Tensor | None:
    """(rows, 1, queries, keys) booleans, True where a key is seen; None: every one up to the query itself."""
    places = _places.get()
    if places is None or places.even:
        mask: torch.Tensor | None = sdpa_mask(
            batch_size=batch_size, q_length=q_length, mask_function=mask_function, device=device, **rest
        )
        return mask
    keys = torch.from_numpy(places.keys).to(device)
    rows, first = torch.arange(batch_size, device=device), torch.zeros(1, dtype=torch.long, device=device)
    seen = mask_function(
        rows[:, None, None, None], first[:, None, None, None], keys[:, None, -q_length:, None], keys[:, None, None, :]
    )
    return seen.expand(batch_size, -1, q_length, keys.shape[1])


def _attention(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    scaling: float | None = None,
    softcap: float | None = None,
    s_aux: torch.Tensor | None = None,
    **rest: Any,
) -> tuple[torch.Tensor, None]:
    """softmax(softcap · tanh(scaling · Q Kᵀ / softcap) + mask) V, as Transformers' plain attention defines it.

    `query` (rows, heads, queries, d), `key` and `value` (rows, key heads, keys, d) → (rows, queries, heads, d). A sink
    of each head, `s_aux` (heads,), is one more score that takes its share and has no value.
    """
    found = elsewhere(module, query, key, value, attention_mask, scaling, softcap, s_aux, **rest)
    if found is not None:
        return found, None
    plain = softcap is None and s_aux is None
    causal = attention_mask is None and rest.get("is_causal") is not False and getattr(module, "is_causal", True)
    if plain and causal and rest.get("position_bias") is None and _is_long_on_cpu(query, key):
        return _blocked(query, key, value, query.shape[-1] ** -0.5 if scaling is None else scaling), None
    if plain:
        fused: tuple[torch.Tensor, None] = sdpa_attention_forward(
            module, query, key, value, attention_mask, scaling=scaling, **rest
        )
        return fused
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    out = query.new_empty((*query.shape[:3], value.shape[-1]))
    for first in range(0, query.shape[2], QUERIES):
        part = slice(first, min(first + QUERIES, query.shape[2]))
        scores = _scores(query[:, :, part], key) * scale  # (rows, heads, some queries, keys)
        if softcap is not None:
            scores = torch.tanh(scores / softcap) * softcap
        weights = _shares(_masked(scores, attention_mask, part, query.shape[2]), s_aux)
        out[:, :, part] = _weighted(weights, value).to(out.dtype)
    return out.transpose(1, 2).contiguous(), None


def _is_long_on_cpu(query: torch.Tensor, key: torch.Tensor) -> bool:
    """Whether a causal attention is worth more than one block, where oneDNN does the products."""
    alone = query.shape[2] == key.shape[2] >= 2 * BLOCK
    return alone and query.device.type == "cpu" and has_onednn() and not query.requires_grad


def _blocked(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float) -> torch.Tensor:
    """Causal attention in float32, some queries of one group of heads at a time: in two thirds of the time of
    PyTorch's own, which leaves products to another library (see products).
    """
    rows, heads, length, size = query.shape
    groups, shared = key.shape[1], heads // key.shape[1]
    queries, keys = query.float().contiguous() * scale, key.float().contiguous()
    values = value.float().transpose(2, 3).contiguous()  # (rows, groups, d, keys)
    later = torch.full((BLOCK, BLOCK), -torch.inf).triu(1)
    out = query.new_empty((rows, length, heads, value.shape[-1]))
    for row, group in itertools.product(range(rows), range(groups)):
        own = slice(group * shared, (group + 1) * shared)
        for first in reversed(range(0, length, BLOCK)):  # the longest first: its memory does for the others
            last = min(first + BLOCK, length)
            some = queries[row, own, first:last].reshape(-1, size)
            scores = product(some, keys[row, group, :last]).view(shared, -1, last)
            scores[:, :, first:] += later[: last - first, : last - first]
            weighted = product(scores.softmax(dim=-1).view(-1, last), values[row, group, :, :last])
            out[row, first:last, own] = weighted.view(shared, last - first, -1).transpose(0, 1)
    return out


def _scores(query: torch.Tensor, key: torch.Tensor) -> torch.Tensor:
    """Each query head with the keys of its group, in float32."""
    rows, heads, queries, size = query.shape
    grouped = query.float().reshape(rows, key.shape[1], -1, size)
    return (grouped @ key.float().transpose(2, 3)).reshape(rows, heads, queries, -1)


def _masked(scores: torch.Tensor, mask: torch.Tensor | None, part: slice, queries: int) -> torch.Tensor:
    """Scores of some of the queries, without those of keys that they do not see."""
    if mask is None:
        keys = torch.arange(scores.shape[-1], device=scores.device)
        own = torch.arange(part.start, part.stop, device=scores.device) + scores.shape[-1] - queries
        return scores.masked_fill(keys > own[:, None], -torch.inf)
    some = mask[:, :, part]
    return scores.masked_fill(~some, -torch.inf) if some.dtype == torch.bool else scores + some


def _shares(scores: torch.Tensor, sinks: torch.Tensor | None) -> torch.Tensor:
    if sinks is None:
        return scores.softmax(dim=-1)
    column = sinks.float().reshape(1, -1, 1, 1).expand(*scores.shape[:3], 1)
    return torch.cat([scores, column], dim=-1).softmax(dim=-1)[..., :-1]


def _weighted(weights: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    rows, heads, queries, keys = weights.shape
    grouped = weights.reshape(rows, value.shape[1], -1, keys)
    return (grouped @ value.float()).reshape(rows, heads, queries, -1)


AttentionInterface.register(ATTENTION, _attention)
AttentionMaskInterface.register(ATTENTION, _mask)
