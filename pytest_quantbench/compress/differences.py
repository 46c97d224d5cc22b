"""What a candidate's files say otherwise than its reference's, beside the weights: listed, and judged all the same.

What is judged are the weights: positions, tokenizer, templates and settings are the reference's, so that files of
several makers are compared under one arithmetic. Each of them may be why a file behaves otherwise in somebody's hands.
"""

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pytest_quantbench.checkpoints.config import read_table
from pytest_quantbench.checkpoints.formats.protocol import Claims
from pytest_quantbench.checkpoints.key_names import other_names
from pytest_quantbench.checkpoints.omitted_keys import with_omitted
from pytest_quantbench.checkpoints.tokenizer import frame_of
from pytest_quantbench.compress import config_reading as reading
from pytest_quantbench.compress.candidate_facts import UNSAID, Difference
from pytest_quantbench.compress.config_reading import COMPARED, Config

SPECIAL = ("bos", "eos", "pad", "unk")
MAY_DIFFER = frozenset({"unk_token_id"})  # GGUF names one where there is none
SAMPLING = frozenset(
    "do_sample temperature top_k top_p min_p typical_p repetition_penalty no_repeat_ngram_size penalty_alpha".split()
)
NONE_WHERE_MISSING = frozenset({"sliding_window", "attn_logit_softcapping", "final_logit_softcapping"})
SHOWN = 60  # characters of a value


def of_config(mine: Config, theirs: Config) -> Iterator[Difference]:
    """What two configs say otherwise of the arithmetic, sizes aside."""
    first, second = (reading.text_of(with_omitted(each)) for each in (mine, theirs))
    for key, what in COMPARED.items():
        if not (_is_said(first, key) and _is_said(second, key)):
            continue
        pair = [_value(each, key) for each in (first, second)]
        if not reading.alike(*pair):
            yield _difference(what, *pair)
    yield from _of_positions(mine, theirs)


def _is_said(text: Config, key: str) -> bool:
    """Whether a flat config says something of a key, or is a config.json that means something by leaving it out."""
    if any(name in text for name in (key, *other_names(key))) or reading.usual(text, key) is not None:
        return True
    return key in NONE_WHERE_MISSING and "model_type" in text


def _value(text: Config, key: str) -> Any:
    found = reading.value_of(text, key)
    return reading.usual(text, key) if found is None else found


def _of_positions(mine: Config, theirs: Config) -> Iterator[Difference]:
    """Rotary positions: base and scaling, of every kind of layer that both have."""
    first, second = reading.positions(mine), reading.positions(theirs)
    for kind, other in second.items():
        own = reading.rope_for(first, kind)
        if own is None:
            continue
        of = f" of {kind}" if len(second) > 1 else ""
        for key, what in (("rope_theta", "base of positions"), ("partial_rotary_factor", "share with positions")):
            pair = own.get(key), other.get(key)
            if None not in pair and not reading.alike(*pair):
                yield _difference(what + of, *pair)
        scaled = reading.scaling(own), reading.scaling(other)
        if not reading.alike(*scaled):
            yield _difference(f"scaling of positions{of}", *(_scaled(each) for each in scaled))


def _scaled(scaling: Mapping[str, Any]) -> str | None:
    return ", ".join(f"{key} {value}" for key, value in scaling.items()) or None


def of_tokenizers(claims: Claims, own: Any, tokenizer: Any) -> Iterator[Difference]:
    """Special tokens, what stands before every text, the chat template; `own`: the candidate's tokenizer, if any."""
    for key in SPECIAL:
        name = f"{key}_token_id"
        mine = claims.special_tokens.get(name, getattr(own, name, None))
        other = getattr(tokenizer, name, None)
        if mine is not None and mine != other and not (other is None and name in MAY_DIFFER):
            yield _difference(f"{key.upper()} token", mine, other)
    adds = claims.adds_bos if own is None or claims.adds_bos is not None else _adds_bos(own)
    if adds is not None and adds != (before := _adds_bos(tokenizer)):
        yield _difference("BOS before every text", *("yes" if each else "no" for each in (adds, before)))
    template = claims.chat_template if own is None or claims.chat_template else getattr(own, "chat_template", None)
    other = getattr(tokenizer, "chat_template", None)
    if template is not None and _plain(template) != _plain(other):
        yield _difference("chat template", _digest(template), None if other is None else _digest(other))


def _adds_bos(tokenizer: Any) -> bool:
    return tokenizer.bos_token_id is not None and tokenizer.bos_token_id in frame_of(tokenizer).prefix


def _plain(template: Any) -> str:
    """A template without what changes nothing at its end."""
    return "" if template is None else str(template).replace("\r\n", "\n").strip()


def _digest(template: Any) -> str:
    plain = _plain(template)
    return f"{len(plain):,} characters, sha256 {hashlib.sha256(plain.encode()).hexdigest()[:12]}"


def of_generation(mine: Mapping[str, Any], directory: Path) -> Iterator[Difference]:
    """How answers are sampled where nobody says it, as far as the candidate's files do."""
    file = directory / "generation_config.json"
    theirs = read_table(file) if file.is_file() else {}
    for key in sorted(SAMPLING & mine.keys()):
        if not reading.alike(mine[key], theirs.get(key)):
            yield _difference(f"generation: {key}", mine[key], theirs.get(key))
    ends = [_ends(each.get("eos_token_id")) for each in (mine, theirs)]
    if ends[0] and ends[0] != ends[1]:
        yield _difference("generation: ends with", *(sorted(each) or None for each in ends))


def _ends(said: Any) -> frozenset[int]:
    """The tokens that end an answer."""
    several = said if isinstance(said, list) else [said]
    return frozenset(token for token in several if isinstance(token, int))


def _difference(what: str, mine: Any, theirs: Any) -> Difference:
    shown = [UNSAID if value is None else f"{value}"[:SHOWN] for value in (mine, theirs)]
    return Difference(what=what, candidate=shown[0], reference=shown[1])
