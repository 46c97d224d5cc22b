"""Small tokenizers of every kind, made here: byte-level BPE, SentencePiece's with byte fallback, lower-cased WordPiece,
one that is not fast; and Tiny's own with other special tokens around its texts.
"""

import json
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import CTRLTokenizer, PreTrainedTokenizerFast

from pytest_quantbench.catalog.models import TINY_DIRECTORY


def byte_level(text: str, *, vocabulary: int = 300, normalizer: Any = None, blank_in_front: bool = False) -> Any:
    """GPT-2's kind, trained on the text, so that its tokens cut characters where they please."""
    made = Tokenizer(models.BPE())
    if normalizer is not None:
        made.normalizer = normalizer
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=blank_in_front)
    made.decoder = decoders.ByteLevel()
    made.post_processor = processors.ByteLevel(trim_offsets=True)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary, initial_alphabet=alphabet, special_tokens=["<|endoftext|>"], show_progress=False
    )
    made.train_from_iterator([text] * 3, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=made, eos_token="<|endoftext|>")


def sentence_piece(normalizer: Any = None) -> Any:
    """Llama 2's kind: a blank in front of every text, and bytes for characters that have no token."""
    tokens = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    tokens += [*"▁abcdefghijklmnopqrstuvwxyzE.Z", "▁z", "en"]
    vocabulary = {token: place for place, token in enumerate(tokens)}
    made = Tokenizer(
        models.BPE(vocab=vocabulary, merges=[("▁", "z"), ("e", "n")], unk_token="<unk>", byte_fallback=True)
    )
    first = [] if normalizer is None else [normalizer]
    made.normalizer = normalizers.Sequence([*first, normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    made.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return PreTrainedTokenizerFast(tokenizer_object=made, bos_token="<s>", eos_token="</s>", unk_token="<unk>")


def word_piece(text: str) -> Any:
    """BERT's kind: lower-cased, without accents, [CLS] in front and [SEP] behind."""
    made = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    made.normalizer = normalizers.BertNormalizer(lowercase=True)
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.decoder = decoders.WordPiece()
    special = ["[UNK]", "[CLS]", "[SEP]"]
    made.train_from_iterator(
        [text] * 3, trainers.WordPieceTrainer(vocab_size=120, special_tokens=special, show_progress=False)
    )
    made.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[(name, made.token_to_id(name)) for name in ("[CLS]", "[SEP]")]
    )
    return PreTrainedTokenizerFast(tokenizer_object=made, unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]")


def slow(folder: Path, words: list[str]) -> Any:
    """One written in Python, which does not say where its tokens lie: characters, and `@@` where a word goes on."""
    tokens = ["<unk>", *dict.fromkeys(each for word in words for each in [*(c + "@@" for c in word[:-1]), word[-1]])]
    (folder / "vocab.json").write_text(json.dumps({token: place for place, token in enumerate(tokens)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    return CTRLTokenizer(str(folder / "vocab.json"), str(folder / "merges.txt"))


def around(
    folder: Path, *template: str, bos: str | None = "<s>", eos: str | None = "</s>", new: tuple[str, ...] = ()
) -> Path:
    """Tiny's tokenizer with another template, `"<s>", "$A", "</s>"`, in a folder; `new` tokens come after its own."""
    folder.mkdir(exist_ok=True)
    told = json.loads((TINY_DIRECTORY / "tokenizer.json").read_text())
    ids = {"<s>": 0, "</s>": 1} | {name: 2048 + place for place, name in enumerate(new)}
    for name in new:
        told["added_tokens"].append(told["added_tokens"][0] | {"id": ids[name], "content": name})
    post = told["post_processor"]
    post["special_tokens"] = {
        name: {"id": name, "ids": [ids[name]], "tokens": [name]} for name in template if name != "$A"
    }
    post["single"] = [
        {"Sequence": {"id": "A", "type_id": 0}} if name == "$A" else {"SpecialToken": {"id": name, "type_id": 0}}
        for name in template
    ]
    told["post_processor"] = post if template != ("$A",) else None
    (folder / "tokenizer.json").write_text(json.dumps(told))
    config = json.loads((TINY_DIRECTORY / "tokenizer_config.json").read_text())
    config |= {"bos_token": bos, "eos_token": eos}
    (folder / "tokenizer_config.json").write_text(json.dumps({k: v for k, v in config.items() if v is not None}))
    return folder
