"""Where every token of a text lies in it, in bytes of its UTF-8 form.

Bits per byte divide by the bytes of the text itself. The text that tokens decode to has others: half a character
decodes to a replacement character of three bytes, and a tokenizer may have lower-cased, composed or stripped what it
was given. Three ways, the most exact first:

1. What tokens stand for is read off their names (the alphabet of byte-level BPE, SentencePiece's ▁ and <0xE4>, one
   character a byte). Where they give the text when they are put behind each other, their lengths are its bytes.
2. A fast tokenizer says which characters of the text each token came from. Tokens that share a character share its
   bytes, by the length of what they stand for.
3. Else each token's text is looked for, ignoring case, a little way behind the token before it; what is not found
   lies in between, by length.

What no token stands for (a stripped blank) counts with the token behind it, and at the end with the last one.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pytest_quantbench.checkpoints.tokenizer import added_tokens

REACH = 16  # characters behind the last token that was found, for every token that was not since
_BYTE_TOKEN = re.compile(r"<0x([0-9A-Fa-f]{2})>")

Offsets = NDArray[np.int64]


def byte_offsets(tokenizer: Any, text: str, ids: Sequence[int]) -> Offsets:
    """(tokens + 1,) byte at which every token begins, which never falls; the last is the length of the text.

    `ids` are what the tokenizer gives for the text without special tokens.
    """
    whole = text.encode()
    tokens = np.asarray(ids, np.int64)
    readings = list(_readings(tokenizer, tokens))
    for pieces in readings:
        joined = b"".join(map(pieces.__getitem__, tokens.tolist()))
        if joined in (whole, b" " + whole):  # many tokenizers put a blank in front of a text
            lengths = _per_token({token: len(piece) for token, piece in pieces.items()}, tokens)
            return _bounded(np.cumsum(lengths) - (len(joined) - len(whole)), len(whole))
    said = {token: str(tokenizer.decode([token])) for token in np.unique(tokens).tolist()}
    read = readings[0] if readings else {token: piece.replace("\ufffd", "?").encode() for token, piece in said.items()}
    weights = _per_token({token: max(1, len(piece)) for token, piece in read.items()}, tokens)
    ends = _told_ends(tokenizer, text, ids)
    if ends is None:
        ends = _found_ends(text, [said[token] for token in tokens.tolist()])
    return _bounded(_filled(ends, weights, len(whole)), len(whole))


def _per_token(numbers: Mapping[int, int], tokens: Offsets) -> Offsets:
    """(tokens,) the number of each token."""
    distinct, places = np.unique(tokens, return_inverse=True)
    return np.array([numbers[token] for token in distinct.tolist()], np.int64)[places]


def _bounded(ends: Offsets, length: int) -> Offsets:
    """(tokens + 1,) from 0 to the length, from where each token ends."""
    bounds = np.concatenate([[0], np.maximum.accumulate(np.clip(ends, 0, length))])
    bounds[-1] = length if len(ends) else 0
    return bounds.astype(np.int64)


def _readings(tokenizer: Any, tokens: Offsets) -> Iterator[dict[int, bytes]]:
    """What every token stands for, by each way of reading names that can read them all."""
    distinct = np.unique(tokens).tolist()
    names = dict(zip(distinct, tokenizer.convert_ids_to_tokens(distinct), strict=True))
    added = added_tokens(tokenizer)
    for read in _READINGS:
        pieces = {token: str(added[token]).encode() if token in added else read(names[token]) for token in distinct}
        if None not in pieces.values():
            yield pieces  # type: ignore[misc]


def _alphabet() -> dict[str, int]:
    """The characters that byte-level BPE writes bytes as (Radford et al., 2019): printable ones as themselves."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + place): byte for place, byte in enumerate(others)}


_ALPHABET = _alphabet()


def _byte_level(name: str) -> bytes | None:
    return bytes(map(_ALPHABET.__getitem__, name)) if all(map(_ALPHABET.__contains__, name)) else None


def _sentence_piece(name: str) -> bytes | None:
    """▁ is a blank, and <0xE4> a byte of a character that has no token."""
    found = _BYTE_TOKEN.fullmatch(name)
    return bytes.fromhex(found[1]) if found else name.replace("▁", " ").encode()


def _latin(name: str) -> bytes | None:
    """Every character of the name is a byte."""
    return bytes(map(ord, name)) if all(ord(character) < 256 for character in name) else None


_READINGS: tuple[Callable[[str], bytes | None], ...] = (_byte_level, _sentence_piece, _latin)


def _byte_at(text: str) -> NDArray[np.float64]:
    """(characters + 1,) byte at which every character begins."""
    codes = np.frombuffer(text.encode("utf-32-le"), np.uint32)
    return np.concatenate([[0], np.cumsum(1 + (codes > 0x7F) + (codes > 0x7FF) + (codes > 0xFFFF))]).astype(np.float64)


def _told_ends(tokenizer: Any, text: str, ids: Sequence[int]) -> NDArray[np.float64] | None:
    """(tokens,) byte at which each token ends by the tokenizer's own word, NaN where it shares a character with the
    next; None where the tokenizer does not say.
    """
    if not getattr(tokenizer, "is_fast", False):
        return None
    told = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
    if list(told["input_ids"]) != list(ids):
        return None
    begins, ends = np.array(told["offset_mapping"], np.int64).reshape(-1, 2).T
    shared = np.append(begins[1:] < ends[:-1], False)
    return np.where(shared, np.nan, _byte_at(text)[ends])


def _found_ends(text: str, said: Sequence[str]) -> NDArray[np.float64]:
    """(tokens,) byte at which each token ends, NaN where its text is not found."""
    lower = "".join(small if len(small := character.lower()) == 1 else character for character in text)
    places = _byte_at(text)
    ends = np.full(len(said), np.nan)
    place = missed = 0
    for number, piece in enumerate(said):
        wanted = piece.strip().removeprefix("##").removesuffix("@@").lower()
        reach = place + len(wanted) + REACH * (1 + missed)
        found = lower.find(wanted, place, reach) if wanted else -1
        missed = missed + 1 if found < 0 else 0
        if found >= 0:
            place = found + len(wanted)
            ends[number] = places[place]
    return ends


def _filled(ends: NDArray[np.float64], weights: Offsets, length: int) -> Offsets:
    """(tokens,) ends without gaps: what is not known lies between its neighbours, by weight."""
    if not len(ends):
        return np.zeros(0, np.int64)
    ends = np.append(ends[:-1], length)
    told = np.flatnonzero(~np.isnan(ends))
    ends[told] = np.maximum.accumulate(ends[told])
    along = np.cumsum(weights)
    known = np.concatenate([[0], along[told]]), np.concatenate([[0.0], ends[told]])
    filled: Offsets = np.rint(np.interp(along, *known)).astype(np.int64)
    return filled
