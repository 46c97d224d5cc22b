"""Attention to tokens of which every query sees a form of its own: as computed, or in one of a method's stages.

A query takes its scores from the keys of the form in which it sees each token, and its sum from the values of theirs.
Some queries are taken together; these see most tokens in one form, and only those between two forms in either.
"""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from pytest_quantbench.engines.held_caches import alike_rows, spans
from pytest_quantbench.engines.torch.products import product
from pytest_quantbench.engines.torch.staging import Forms, Handed, Staging
from pytest_quantbench.errors import ModelError
from pytest_quantbench.quantizers.kv.protocol import PARTS, CacheForm, Integers, Part

BLOCK = 128  # queries that are taken together


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """Tokens from `first` to before `last` that some queries see in one form; `copy`: in which of the forms that are
    given. `where`: (queries, tokens) booleans; None: all of them.
    """

    copy: int
    first: int
    last: int
    where: torch.Tensor | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """Some queries of one row: places from `first` to before `last`, the tokens `upto` which they see, in which form
    their keys and their values.
    """

    first: int
    last: int
    upto: int
    keys: list[Span]
    values: list[Span]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scores:
    """What becomes of products of queries and keys: scaled, capped, masked; `sinks` (heads,) take a share as well."""

    scale: float
    softcap: float | None
    mask: torch.Tensor | None  # (rows or 1, heads or 1, queries, keys) booleans or numbers; None: up to the query
    sinks: torch.Tensor | None

    def shares(self, scores: torch.Tensor, row: int, heads: slice, block: Block) -> torch.Tensor:
        """(heads, queries, tokens) → the share that each token has in a query's sum."""
        if self.softcap is not None:
            scores = torch.tanh(scores / self.softcap) * self.softcap
        scores = self._masked(scores, row, heads, block)
        if self.sinks is None:
            return scores.softmax(dim=-1)
        column = self.sinks[heads].float()[:, None, None].expand(-1, scores.shape[1], 1)
        return torch.cat([scores, column], dim=-1).softmax(dim=-1)[..., :-1]

    def _masked(self, scores: torch.Tensor, row: int, heads: slice, block: Block) -> torch.Tensor:
        if self.mask is None:  # of tokens up to the last query, only the block's own may lie behind one of them
            own = scores[..., block.upto - scores.shape[1] :]
            own += torch.full_like(own[0], -torch.inf).triu(1)
            return scores
        of_row = self.mask[row if len(self.mask) > 1 else 0]
        some = of_row[heads if len(of_row) > 1 else slice(None), block.first : block.last, : block.upto]
        return scores.masked_fill(~some, -torch.inf) if some.dtype == torch.bool else scores + some


def attend(
    batch: Staging,
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    mask: torch.Tensor | None,
    scaling: float | None,
    softcap: float | None,
    sinks: torch.Tensor | None,
    **rest: Any,
) -> torch.Tensor | None:
    """What takes the place of an attention to keys that this batch's caches have given; None: they are seen in one form
    only. Raises ModelError for one that does more than is known here.
    """
    handed = batch.of(key)
    if handed is None:
        return None
    if rest.get("position_bias") is not None:
        raise ModelError(
            "Unsupported architecture: its attention adds a bias of positions to a cache in several forms."
        )
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    return staged(batch, handed, query, key, value, Scores(scale=scale, softcap=softcap, mask=mask, sinks=sinks))


def staged(
    batch: Staging, handed: Handed, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scores: Scores
) -> torch.Tensor:
    """`query` (rows, heads, queries, d), `key` and `value` (rows, key heads, copies · keys, d) → (rows, queries, heads,
    d), in the query's type; computed in float32.
    """
    forms = _forms(batch, handed, key)
    if handed.looking is not None:
        if handed.queries is None:  # those of a later layer that shares the keys have no say in how they are held
            handed.queries = handed.looking.looked(query)
        key, value = batch.copied(forms, (key, value), handed.queries)
    batch.attended()
    rows, heads, length, size = query.shape
    groups = key.shape[1]
    shared = heads // groups
    queries, keys = query.float() * scores.scale, key.float().contiguous()
    values = value.float().transpose(2, 3).contiguous()  # (rows, groups, d, copies · keys)
    out = query.new_empty((rows, length, heads, value.shape[-1]))
    for blocks, row in _by_row(batch, forms, length, query.device):
        for block, group in itertools.product(reversed(blocks), range(groups)):  # the longest first, as in `attention`
            own, part = slice(group * shared, (group + 1) * shared), slice(block.first, block.last)
            some = queries[row, own, part].reshape(-1, size)
            found = _attended(some, keys[row, group], values[row, group], batch, block, scores, row, own)
            out[row, part, own] = found.view(shared, -1, out.shape[-1]).transpose(0, 1).to(out.dtype)
    return out


def _attended(
    some: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    batch: Staging,
    block: Block,
    scores: Scores,
    row: int,
    heads: slice,
) -> torch.Tensor:
    """(heads · queries, d), (copies · keys, d) and (d, copies · keys) of one group of heads → (heads · queries, d)."""
    tokens, queries = batch.positions.shape[1], block.last - block.first
    products = some.new_zeros(len(some) // queries, queries, block.upto)
    for span in block.keys:
        first = span.copy * tokens
        found = product(some, keys[first + span.first : first + span.last]).view(*products.shape[:2], -1)
        into = products[..., span.first : span.last]
        into.copy_(found if span.where is None else torch.where(span.where, found, into))
    shares = scores.shares(products, row, heads, block)
    total = some.new_zeros(len(some), len(values))
    for span in block.values:
        first = span.copy * tokens
        part = shares[..., span.first : span.last]
        part = part if span.where is None else part * span.where
        total += product(part.reshape(len(some), -1), values[:, first + span.first : first + span.last])
    return total


def _by_row(batch: Staging, forms: Forms, length: int, device: torch.device) -> Iterator[tuple[list[Block], int]]:
    """The blocks of queries of every row. Which form they see each token in is found out once for all layers."""
    for rows, positions in alike_rows(batch.positions):
        known = (id(forms[0]), id(forms[1]), int(rows[0]), length)
        if known not in batch.seen:
            batch.seen[known] = [_block(forms, positions, length, first, device) for first in range(0, length, BLOCK)]
        for row in rows:
            yield batch.seen[known], int(row)


def _block(forms: Forms, positions: Integers, length: int, first: int, device: torch.device) -> Block:
    last, before = min(first + BLOCK, length), len(positions) - length
    own, tokens = positions[before + first : before + last], positions[: before + last]
    keys, values = (list(_spans(form, part, own, tokens, device)) for form, part in zip(forms, PARTS, strict=True))
    return Block(first=first, last=last, upto=len(tokens), keys=keys, values=values)


def _spans(form: CacheForm, part: Part, queries: Integers, tokens: Integers, device: torch.device) -> Iterator[Span]:
    for each in spans(form, part, queries, tokens):
        where = None if each.seen is None else torch.from_numpy(each.seen.copy()).to(device)
        yield Span(copy=each.stage + 1, first=each.first, last=each.last, where=where)


def _forms(batch: Staging, handed: Handed, key: torch.Tensor) -> Forms:
    """How keys and values are held. Where attention is given others than a cache has given back, which the model has
    made of both, these have to go from one form into the next together.
    """
    assert handed.forms is not None
    if key.data_ptr() == handed.keys:
        return handed.forms
    of_keys, of_values = (form.stages(part) for form, part in zip(handed.forms, PARTS, strict=True))
    together = [(each.age, each.chunk) for each in of_keys] == [(each.age, each.chunk) for each in of_values]
    if handed.looking is not None or not together:
        raise ModelError(
            f"The model makes keys and values of what it has stored together. With the method {batch.held.method.name} "
            f"of the key-value cache the one would be in another form than the other, and it cannot be measured here."
        )
    return handed.forms
