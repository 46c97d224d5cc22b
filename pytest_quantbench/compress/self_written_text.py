"""Text that a model writes itself, to calibrate on where no natural text can be had.

A model's own distribution is the nearest thing to the text it was trained on: Liu et al., "LLM-QAT: Data-Free
Quantization Aware Training for Large Language Models" (2023), section 3.1. Texts begin with what the tokenizer puts in
front of a text, or with a token drawn at random where that is nothing, go on at temperature 1, and end where the model
ends them or at `length` tokens. They are seeded and kept in the cache. Where we differ from that paper: no greedy first
tokens, which would make texts with the same beginning all alike.

Costs a forward pass for every token of 32 sequences at once, with the whole model in memory.
"""

from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from pytest_quantbench.checkpoints.tokenizer import frame_of
from pytest_quantbench.compress.artifact import Artifact
from pytest_quantbench.engines import need
from pytest_quantbench.engines.machine import memory_bytes
from pytest_quantbench.engines.protocol import Engine
from pytest_quantbench.errors import CorpusError
from pytest_quantbench.fetch.texts import Text
from pytest_quantbench.storage.cache import WRITTEN_TEXTS
from pytest_quantbench.storage.files import GB, write_atomically
from pytest_quantbench.storage.sealed_json import json_sha256, read_sealed, sealed

VERSION = 1  # raised when the same seed gives another text
SEQUENCES, SEQUENCE_TOKENS = 32, 512  # by default: sampling is slow, and shorter texts wander less
TEXTS_AT_ONCE = 32
MOST_ROUNDS = 8  # of TEXTS_AT_ONCE texts beyond those that full lengths would take: a model may end its texts early
MOST_MEMORY = 0.7  # of the machine's, that the model may take


class Kept(msgspec.Struct, frozen=True, kw_only=True):
    """A sampled text in the cache."""

    content: str


def sampled_text(
    engine: Engine, reference: Artifact, tokenizer: Any, name: str, cache: Path, *, tokens: int, length: int, seed: int
) -> Text:
    """About `tokens` tokens that the model has written, in texts of at most `length`; from the cache if they are there.

    Raises CorpusError where the model does not fit into memory, or writes too little.
    """
    length = min(length, engine.capacity(reference.config).longest_input(length))
    content = [VERSION, reference.manifest.key, engine.name, tokens, length, seed]
    path = WRITTEN_TEXTS.of(cache, json_sha256(content)[:32])
    kept = read_sealed(path, Kept)
    if kept is None:
        _refuse_too_large(engine, reference, name)
        kept = Kept(content=_write(engine, reference, tokenizer, name, tokens, length, seed))
        write_atomically(path, sealed(kept))
    return Text(name=f"sampled from {name} itself", content=kept.content)


def _refuse_too_large(engine: Engine, reference: Artifact, name: str) -> None:
    needed = engine.answers_bytes(reference.manifest.bf16_bytes // 2)
    if needed > MOST_MEMORY * memory_bytes():
        raise CorpusError(
            f"{name} takes {needed / GB:.1f} GB in memory to write its own calibration text, and this machine has "
            f"{memory_bytes() / GB:.1f} GB. Give a text with --calibration FILE."
        )


def _write(engine: Engine, reference: Artifact, tokenizer: Any, name: str, tokens: int, length: int, seed: int) -> str:
    need(engine, "resident")
    resident = engine.load(reference, "answers")
    known = engine.capacity(reference.config).vocabulary or len(tokenizer)
    starts, draw = _starts(tokenizer, min(known, len(tokenizer)), seed), resident.sampler(seed)
    ends = {token for token in (tokenizer.eos_token_id,) if token is not None}
    texts: list[str] = []
    written = 0
    for _ in range(MOST_ROUNDS + tokens // (length * TEXTS_AT_ONCE)):
        rows = min(TEXTS_AT_ONCE, -(-(tokens - written) // length))
        made = resident.generate(
            tokenizer,
            [next(starts) for _ in range(rows)],
            stops=[()] * rows,
            new_tokens=length - max(1, len(frame_of(tokenizer).prefix)),
            what=f"sampling text from {name}",
            end_tokens=ends,
            sampler=draw,
        )
        texts += [each.text.strip() for each in made if each.text.strip()]
        written += sum(len(each.tokens) for each in made)
        if written >= tokens:
            return "\n\n".join(texts)
    raise CorpusError(
        f"{name} ends its own texts after {written} of the {tokens} tokens that calibration wants. Give a text with "
        f"--calibration FILE, or fewer with --calibration-sequences."
    )


def _starts(tokenizer: Any, known: int, seed: int) -> Iterator[tuple[int, ...]]:
    """What texts begin with, endlessly: the tokenizer's own prefix, or a random one of the `known` tokens, which is no
    special one.
    """
    prefix = frame_of(tokenizer).prefix
    special: Collection[int] = set(tokenizer.all_special_ids)
    random = np.random.default_rng(seed)
    while True:
        drawn = int(random.integers(known))
        if prefix or drawn not in special:
            yield prefix or (drawn,)
