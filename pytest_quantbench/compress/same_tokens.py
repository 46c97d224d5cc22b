"""Does a candidate's tokenizer give the reference's ids? All is judged with the reference's tokenizer: where the
candidate's own means other tokens by the same ids, what is measured would not be what its users get, or another model.

Compared are the texts of all ids that both have, and the ids of a few texts. What only fills a vocabulary up to a round
number is passed over, special tokens that a fine-tune has renamed or added are listed; more than one in a thousand of
the others with another text, or another id for a text, is refused.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pytest_quantbench.checkpoints.checkpoint import tokenizer_files
from pytest_quantbench.checkpoints.formats.protocol import Claims
from pytest_quantbench.checkpoints.tokenizer import PROBES, added_tokens, load_tokenizer, vocabulary
from pytest_quantbench.compress.candidate_facts import UNSAID, Difference
from pytest_quantbench.errors import ModelError

MOST_OTHERS = 0.001  # of the ids that both have, special tokens aside
OF_OTHER_SENSES = re.compile(r"(image|video|audio)_(soft_)?token_(id|index)")  # config.json's keys
SHOWN = 3
Texts = Mapping[int, str]


def texts_of(tokenizer: Any) -> dict[int, str]:
    """Every token's text by its id."""
    return {int(token): str(text) for text, token in tokenizer.get_vocab().items()}


def own_tokenizer(directory: Path | None) -> Any:
    """The tokenizer that lies beside a candidate's weights; None without any. Raises ModelError for one that cannot be
    opened.
    """
    if directory is None or not directory.is_dir() or not tokenizer_files(directory):
        return None
    return load_tokenizer(directory)


def compared(claims: Claims, own: Any, tokenizer: Any) -> tuple[int | None, tuple[Difference, ...]]:
    """How many ids were compared by their texts, and what differs; None without a tokenizer of the candidate's (`own`,
    or the tokens that its files claim). Raises ModelError for one that is not the reference's.
    """
    if claims.tokens is not None:
        mine: Texts = dict(enumerate(claims.tokens))
    elif own is not None:
        mine = texts_of(own)
    else:
        return None, ()
    theirs = texts_of(tokenizer)
    special = {int(token) for token in added_tokens(tokenizer)}
    common = sorted(mine.keys() & theirs.keys())
    odd = [token for token in common if mine[token] != theirs[token]]
    ordinary = [token for token in odd if token not in special]
    if not common or len(ordinary) > MOST_OTHERS * len(common):
        raise ModelError(
            f"The candidate's tokenizer is not the reference's: {len(ordinary):,} of {len(common):,} ids have another "
            f"text{_examples(ordinary, mine, theirs)}. Name the original that "
            f"it was made from with --model (judge: --reference)."
        )
    _refuse_other_ids(own, tokenizer)
    return len(common), tuple(_differences(odd, mine, theirs))


def without_rows(embedded: int, tokenizer: Any, config: Mapping[str, Any]) -> tuple[Difference, ...]:
    """What is said of a candidate that has embeddings of the first so many tokens, and the reference of more: rows that
    fill up, which conversion to GGUF cuts off. Tokens that stand for pictures or sounds are in no text. Raises
    ModelError where others of the reference's tokenizer are without a row.
    """
    elsewhere = {value for key, value in config.items() if OF_OTHER_SENSES.fullmatch(key)}
    lacking = {token: text for token, text in texts_of(tokenizer).items() if token >= embedded}
    lacking = {token: text for token, text in lacking.items() if token not in elsewhere}
    rows = vocabulary(config)
    if lacking:
        first = min(lacking)
        more = f" and {len(lacking) - 1:,} more" if len(lacking) > 1 else ""
        raise ModelError(
            f"The candidate is not the reference's: it has vocabulary {embedded} against {rows}, and no embedding of "
            f"token {first} ({lacking[first]!r:.40}){more}. Name the original that "
            f"it was made from with --model (judge: --reference)."
        )
    return (
        Difference(
            what="rows of embeddings",
            candidate=f"{embedded:,}",
            reference=f"{UNSAID if rows is None else f'{rows:,}'}, which fill up: the others are the reference's",
        ),
    )


def _examples(odd: Sequence[int], mine: Texts, theirs: Texts) -> str:
    shown = [f"{token} is {mine[token]!r:.40} and {theirs[token]!r:.40} there" for token in odd[:SHOWN]]
    return f" ({', '.join(shown)})" if shown else ""


def _refuse_other_ids(own: Any, tokenizer: Any) -> None:
    """Raise ModelError where a tokenizer cuts texts otherwise, whatever its tokens are called."""
    for text in PROBES if own is not None else ():
        mine, theirs = (list(each.encode(text, add_special_tokens=False)) for each in (own, tokenizer))
        if mine != theirs:
            raise ModelError(
                f"The candidate's tokenizer is not the reference's: {text!r} is {mine} to it, and {theirs} there. Name "
                f"the original that it was made from with --model (judge: --reference)."
            )


def _differences(odd: Sequence[int], mine: Texts, theirs: Texts) -> list[Difference]:
    """Tokens of another text, one of them by name, and those that only one of both has."""
    found = []
    if odd:
        more = f" and {len(odd) - 1:,} more" if len(odd) > 1 else ""
        first = odd[0]
        found.append(
            Difference(what=f"token {first}{more}", candidate=repr(mine[first]), reference=repr(theirs[first]))
        )
    for has, lacks, side in ((mine, theirs, "candidate"), (theirs, mine, "reference")):
        if alone := sorted(token for token in has.keys() - lacks.keys() if not _fills_up(has[token])):
            more = f" and {len(alone) - 1:,} more" if len(alone) > 1 else ""
            sides = {"candidate": UNSAID, "reference": UNSAID, side: repr(has[alone[0]])}
            found.append(Difference(what=f"token {alone[0]}{more}", **sides))
    return found


def _fills_up(text: str) -> bool:
    """Whether a token is there for the vocabulary's size alone, by the names that these get."""
    plain = text.strip("<>[]|").lower()
    return plain.rstrip("0123456789_ -") in ("pad", "unused", "reserved", "reserved_special_token", "dummy", "extra_id")
