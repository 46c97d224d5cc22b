"""A tokenizer.json in the words of a GGUF file, for the two kinds of tokenizers that llama.cpp builds from tables.

Source: llama.cpp's llama-vocab.cpp and its conversion, and the `tokenizers` library's file format.

- Byte-level BPE (`gpt2`): tokens, merges, and the name of the rule that cuts texts beforehand (`pre`). llama.cpp has
  these rules in its code, so a tokenizer has one only if its own rule, and whether whole words skip the merges, are
  the same: compared letter by letter with the rules that are known here.
- SentencePiece's BPE with bytes for unknown characters (`llama`): tokens with scores. llama.cpp joins the two
  neighbours whose joint token has the highest score, where merges have ranks: a token's score is minus the rank of its
  merges. That is the same only if every way of joining two tokens to a third is a merge, in the tokens' order, which is
  looked at.

Anything else is refused with its name: with another tokenizer the same weights are another model.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from pytest_quantbench.checkpoints.tokenizer import frame_of, load_tokenizer
from pytest_quantbench.errors import ModelError

CONTRACTIONS = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
LETTERS = r"[^\r\n\p{L}\p{N}]?\p{L}+"
REST = r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
NORMAL, CONTROL, USER_DEFINED, UNUSED, BYTE, UNKNOWN = 1, 3, 4, 5, 6, 2  # gguf.TokenType
BYTES = frozenset(f"<0x{byte:02X}>" for byte in range(256))
OWN_SCORE = -1000.0  # of a token that no merge makes: only a text's own characters can be it
SPECIAL = ("bos", "eos", "unk", "pad")


Named: TypeAlias = tuple[str, int, int]  # text, id, type


def _split(expression: str) -> tuple[Any, ...]:
    return ("Split", expression), ("ByteLevel", False)


# By what is done before merges, and whether words that are tokens skip them: llama.cpp's name of it.
RULES: Mapping[tuple[tuple[Any, ...], bool], str] = {
    ((("ByteLevel", True),), False): "gpt-2",
    ((("Digits", True), ("ByteLevel", True)), False): "smollm",
    (_split(f"{CONTRACTIONS}|{LETTERS}|\\p{{N}}{{1,3}}|{REST}"), True): "llama-bpe",
    (_split(f"{CONTRACTIONS}|{LETTERS}|\\p{{N}}|{REST}"), False): "qwen2",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Tokens:
    """What a file says: `model` is `gpt2` or `llama`; merges of the one, scores of the other."""

    model: str
    pre: str
    texts: Sequence[str]
    types: Sequence[int]
    merges: Sequence[str] = ()
    scores: Sequence[float] = ()
    space_in_front: bool = False
    special: Mapping[str, int] | None = None
    adds_bos: bool = False
    chat_template: str | None = None
    note: str = ""

    def describe(self, writer: Any) -> None:
        """Add the tokenizer's keys to a `GGUFWriter`."""
        writer.add_tokenizer_model(self.model)
        writer.add_tokenizer_pre(self.pre)
        writer.add_token_list(list(self.texts))
        writer.add_token_types(list(self.types))
        if self.model == "gpt2":
            writer.add_token_merges(list(self.merges))
        else:
            writer.add_token_scores(list(self.scores))
        writer.add_add_space_prefix(self.space_in_front)
        writer.add_add_bos_token(self.adds_bos)
        writer.add_add_eos_token(False)
        for name, token in (self.special or {}).items():
            getattr(writer, f"add_{name}_token_id")(token)
        if self.chat_template:
            writer.add_chat_template(self.chat_template)


def tokens_of(directory: Path, vocabulary: int) -> Tokens:
    """The tokenizer of a model directory with so many embeddings. Raises ModelError for what cannot be said."""
    file = directory / "tokenizer.json"
    if not file.is_file():
        raise _refused(directory, "it has no tokenizer.json")
    told, named = _read(directory, file)
    model = told["model"]
    texts, types = _texts(directory, named, model.get("unk_token"), vocabulary)
    merges = [pair.split(" ", 1) if isinstance(pair, str) else list(pair) for pair in model["merges"]]
    if bad := next((pair for pair in merges if len(pair) != 2), None):
        raise _refused(directory, f"{bad!r:.80} is no merge of two tokens")
    if model.get("byte_fallback"):
        kind: dict[str, Any] = _sentence_piece(directory, told, texts, merges)
        types = [BYTE if text in BYTES else kind_ for text, kind_ in zip(texts, types, strict=True)]
    else:
        kind = _byte_level(directory, told, merges)
    return Tokens(texts=texts, types=types, **kind, **_around(directory, texts))


def _read(directory: Path, file: Path) -> tuple[dict[str, Any], list[Named]]:
    """The file, and every token's text, id and type. Raises ModelError for what is no BPE, or no tokenizer at all."""
    try:
        told = json.loads(file.read_text(encoding="utf-8"))
        model = told["model"]
        kind, odd = model["type"], model.get("dropout") or model.get("continuing_subword_prefix")
        if kind == "BPE" and not odd:
            named = [(str(text), int(place), NORMAL) for text, place in model["vocab"].items()]
            added = ((str(each["content"]), int(each["id"]), each["special"]) for each in told["added_tokens"])
            named += [(text, place, CONTROL if special else USER_DEFINED) for text, place, special in added]
            return {**told, "model": {**model, "merges": list(model["merges"])}}, named
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise _refused(directory, f"its tokenizer.json cannot be read ({error!r:.200})") from error
    raise _refused(directory, f"its model is {kind!r:.80}, and BPE without dropout is what can be written")


def _refused(directory: Path, reason: str) -> ModelError:
    return ModelError(f"The tokenizer of {directory} cannot be written into a GGUF file: {reason}. Choose --to hf.")


def _texts(directory: Path, named: Sequence[Named], unknown: Any, vocabulary: int) -> tuple[list[str], list[int]]:
    """Every token's text and type by its id; ids that the tokenizer does not have are unused."""
    texts = [f"[PAD{place}]" for place in range(vocabulary)]
    types = [UNUSED] * vocabulary
    for text, place, kind in named:
        if not 0 <= place < vocabulary:
            raise _refused(directory, f"{text!r:.80} has the id {place}, and the model {vocabulary} embeddings")
        texts[place], types[place] = text, UNKNOWN if text == unknown else kind
    return texts, types


def _steps(table: Any) -> list[Mapping[str, Any]]:
    """The steps of a normalizer or pre-tokenizer, in order."""
    if not table:
        return []
    inner = table.get("pretokenizers", table.get("normalizers"))
    return [step for each in inner for step in _steps(each)] if table.get("type") == "Sequence" else [table]


def _rule(step: Mapping[str, Any]) -> tuple[Any, ...]:
    """A step of cutting texts, as RULES has it; other settings of it are another rule."""
    kind = step.get("type")
    if kind == "ByteLevel" and not step.get("add_prefix_space"):
        return kind, step.get("use_regex", True)
    if kind == "Digits":
        return kind, step.get("individual_digits")
    if kind == "Split" and step.get("behavior") == "Isolated" and not step.get("invert"):
        return kind, (step.get("pattern") or {}).get("Regex")
    return (str(step),)


def _byte_level(directory: Path, told: Mapping[str, Any], merges: Sequence[Sequence[str]]) -> dict[str, Any]:
    rule = tuple(_rule(step) for step in _steps(told.get("pre_tokenizer")))
    whole_words = bool(told["model"].get("ignore_merges"))
    pre = RULES.get((rule, whole_words))
    if pre is None:
        raise _refused(directory, f"llama.cpp's rule for cutting texts is not known of {(*rule, whole_words)!r:.400}")
    normalizers = [str(step.get("type")) for step in _steps(told.get("normalizer"))]
    if normalizers not in ([], ["NFC"]):
        raise _refused(directory, f"it changes texts beforehand by {', '.join(normalizers)}")
    note = "llama.cpp does not bring texts into Unicode's form NFC, which this tokenizer does." if normalizers else ""
    return {"model": "gpt2", "pre": pre, "merges": [" ".join(pair) for pair in merges], "note": note}


def _sentence_piece(
    directory: Path, told: Mapping[str, Any], texts: Sequence[str], merges: Sequence[Sequence[str]]
) -> dict[str, Any]:
    ranks: dict[str, int] = {}
    for left, right in merges:
        ranks.setdefault(left + right, len(ranks))
    _check_merges(directory, texts, merges, ranks)
    scores = [float(-ranks[text]) if text in ranks else OWN_SCORE for text in texts]
    return {"model": "llama", "pre": "default", "scores": scores, "space_in_front": _space_in_front(directory, told)}


def _check_merges(
    directory: Path, texts: Sequence[str], merges: Sequence[Sequence[str]], ranks: Mapping[str, int]
) -> None:
    """Raise ModelError unless the merges are all ways of making their tokens, in the order of the tokens."""
    order = [ranks[left + right] for left, right in merges]
    known, pairs = set(texts), {(left, right) for left, right in merges}
    missing = next(
        (
            (text[:cut], text[cut:])
            for text in ranks
            for cut in range(1, len(text))
            if text[:cut] in known and text[cut:] in known and (text[:cut], text[cut:]) not in pairs
        ),
        None,
    )
    if order != sorted(order) or missing is not None:
        told = "its merges are not in the order of their tokens" if missing is None else f"{missing} is no merge of it"
        raise _refused(directory, f"{told}, so that tokens have no scores")


def _space_in_front(directory: Path, told: Mapping[str, Any]) -> bool:
    """Whether a blank is put before a text. Raises ModelError for other treatments of texts than SentencePiece's."""
    steps = [*_steps(told.get("normalizer")), *_steps(told.get("pre_tokenizer"))]
    kinds = [(step["type"], step.get("prepend_scheme") or step.get("prepend") or step.get("content")) for step in steps]
    if kinds in ([("Prepend", "▁"), ("Replace", "▁")], [("Metaspace", "first")], [("Metaspace", "always")]):
        return True
    if kinds in ([("Replace", "▁")], [("Metaspace", "never")]):
        return False
    raise _refused(directory, f"it changes texts beforehand by {kinds!r:.200}")


def _around(directory: Path, texts: Sequence[str]) -> dict[str, Any]:
    """Special tokens, what stands in front of texts, and the chat template. Special tokens that Transformers takes for
    granted of an architecture, and that this model does not have, are left out.
    """
    tokenizer = load_tokenizer(directory)
    prefix, bos = frame_of(tokenizer).prefix, tokenizer.bos_token_id
    if prefix not in ((), (bos,)):
        raise _refused(directory, f"it begins texts with the tokens {prefix}, which are not its BOS alone")
    special = {name: getattr(tokenizer, f"{name}_token_id") for name in SPECIAL}
    known = {name: int(token) for name, token in special.items() if token is not None and token < len(texts)}
    return {
        "special": known,
        "adds_bos": bool(prefix),
        "chat_template": tokenizer.chat_template if isinstance(tokenizer.chat_template, str) else None,
    }
