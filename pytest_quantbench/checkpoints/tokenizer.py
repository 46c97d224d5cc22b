"""The model's own tokenizer, through Transformers, and the things about it that the protocols state."""

import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Any

from pytest_quantbench.errors import CorpusError, ModelError

PROBES = ("a", "The fox", "1", "é", "\n\n", "x y.", "Zz, 42")  # they begin and end differently


def load_tokenizer(directory: Path) -> Any:
    """The tokenizer of a model directory; never runs code from there. Raises ModelError where it cannot be opened."""
    from huggingface_hub.errors import StrictDataclassError  # for a config.json that Transformers looks at, too
    from transformers import AutoTokenizer

    wrong = (OSError, ValueError, LookupError, TypeError, AttributeError, ImportError, StrictDataclassError)
    try:
        return AutoTokenizer.from_pretrained(str(directory), trust_remote_code=False, local_files_only=True)
    except wrong as error:
        told = " ".join(str(error).split())
        raise ModelError(f"The tokenizer in {directory} cannot be opened: {told}.") from error


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """The tokens that a tokenizer puts around every text by itself: `prefix` in front, `suffix` behind.

    All that is measured begins with the prefix (BOS, [CLS], several, none) and leaves the suffix out: a model that is
    to go on from a text must not be told that it has ended there.
    """

    prefix: tuple[int, ...]
    suffix: tuple[int, ...]

    def opened(self, tokenizer: Any, text: str) -> list[int]:
        """The text's tokens behind the prefix, with no suffix. Where the text itself begins with the prefix's tokens,
        that is all of it: lm-eval's rule.
        """
        ids = list(tokenizer.encode(text))
        if self.suffix and tuple(ids[-len(self.suffix) :]) == self.suffix:
            ids = ids[: -len(self.suffix)]
        twice = self.prefix and tuple(ids[: 2 * len(self.prefix)]) == 2 * self.prefix
        return ids[len(self.prefix) :] if twice else ids

    def start(self, tokenizer: Any) -> tuple[int, ...]:
        """What a text that has nothing in front of it begins with: the prefix; else BOS, or EOS, as lm-eval has it.

        Raises CorpusError where the tokenizer has none of them.
        """
        special = [token for token in (tokenizer.bos_token_id, tokenizer.eos_token_id) if token is not None]
        if not self.prefix and not special:
            raise CorpusError(
                "A question has no context, and the tokenizer lacks what could stand there: it has no BOS, no EOS, and "
                "puts nothing in front of a text. Give the task a `doc_to_text` that is not empty, or name a bos_token "
                "in the model's tokenizer_config.json."
            )
        return self.prefix or (int(special[0]),)

    def named(self, tokenizer: Any) -> dict[str, tuple[str, ...]]:
        """The names of the tokens, for records."""
        return {
            "prefix": tuple(tokenizer.convert_ids_to_tokens(list(self.prefix))),
            "suffix_left_out": tuple(tokenizer.convert_ids_to_tokens(list(self.suffix))),
        }


def frame_of(tokenizer: Any) -> Frame:
    """What the tokenizer puts around texts: what is there with special tokens and not without them, around several.

    Where special tokens change how the text between them is cut, it is what all texts begin and end with, as far as
    these are special tokens.
    """
    wholes = [tuple(map(int, tokenizer.encode(probe))) for probe in PROBES]
    bares = [tuple(map(int, tokenizer.encode(probe, add_special_tokens=False))) for probe in PROBES]
    pairs = [(whole, bare) for whole, bare in zip(wholes, bares, strict=True) if bare]
    alike = set.intersection(*(set(_around(whole, bare)) for whole, bare in pairs)) if pairs else set()
    if len(alike) == 1:
        ((prefix, suffix),) = alike
        return Frame(prefix=prefix, suffix=suffix)
    special = added_tokens(tokenizer).keys()
    prefix = _leading(special, wholes)
    backwards = _leading(special, [whole[len(prefix) :][::-1] for whole in wholes])
    return Frame(prefix=prefix, suffix=backwards[::-1])


def _around(whole: tuple[int, ...], bare: tuple[int, ...]) -> Iterator[tuple[tuple[int, ...], tuple[int, ...]]]:
    """What stands before and behind each place of the one in the other."""
    for place in range(len(whole) - len(bare) + 1):
        if whole[place : place + len(bare)] == bare:
            yield whole[:place], whole[place + len(bare) :]


def _leading(special: Collection[int], sequences: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
    """The special tokens that all sequences begin with."""
    columns = zip(*sequences, strict=False)
    return tuple(column[0] for column in takewhile(lambda each: len(set(each)) == 1 and each[0] in special, columns))


def added_tokens(tokenizer: Any) -> Mapping[int, Any]:
    """The tokens that a text is searched for before anything else is done with it, special ones above all. Tokenizers
    that never look for any in a text (mistral-common's) do not list them.
    """
    listed = tokenizer.added_tokens_decoder
    return listed if isinstance(listed, Mapping) else {}


def special_in(tokenizer: Any, text: str, ids: Iterable[int]) -> list[str]:
    """The special tokens that stand in a text as they are written, and are read as such."""
    there = set(ids)
    found = (str(added) for token, added in added_tokens(tokenizer).items() if token in there and added.special)
    return [written for written in found if written in text]


def end_tokens(directory: Path, tokenizer: Any) -> frozenset[int]:
    """The tokens that end an answer: the tokenizer's own, and those that the model's files name.

    A chat model often has several, all listed in generation_config.json only.
    """
    named = [] if tokenizer.eos_token_id is None else [tokenizer.eos_token_id]
    for file in (directory / "config.json", directory / "generation_config.json"):
        found = json.loads(file.read_text(encoding="utf-8")).get("eos_token_id") if file.is_file() else None
        named += found if isinstance(found, list) else [] if found is None else [found]
    return frozenset(map(int, named))


def vocabulary(config: Mapping[str, Any]) -> int | None:
    """How many tokens the model has embeddings of, from config.json; None where that does not say."""
    size = (config.get("text_config") or config).get("vocab_size")
    return None if size is None else int(size)


def refuse_unknown_tokens(ids: Iterable[int], known: int | None) -> None:
    """Raise ModelError for a token that the model has no embedding of: it has so many, or None says that this is not
    known. That it has some which no text gives is well: vocabularies are padded.
    """
    largest = max(ids, default=0)
    if known is not None and largest >= known:
        raise ModelError(
            f"The tokenizer gives token {largest}, and the model knows {known}: they do not belong together."
        )
