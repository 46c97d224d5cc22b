import json
import shutil

import pytest
from small_tokenizers import byte_level, sentence_piece, word_piece
from tokenizers import normalizers

from pytest_quantbench.catalog.models import TINY_DIRECTORY
from pytest_quantbench.compress.exports.gguf_tokenizer import (
    CONTRACTIONS,
    LETTERS,
    OWN_SCORE,
    REST,
    tokens_of,
)
from pytest_quantbench.errors import ModelError

TEXT = "The quick brown fox jumps over the lazy dog, and the dog sleeps."


def changed(folder, **changes):
    """Tiny's tokenizer with other parts."""
    for file in TINY_DIRECTORY.glob("tokenizer*"):
        shutil.copy(file, folder)
    told = json.loads((folder / "tokenizer.json").read_text())
    told["model"] |= changes.pop("model", {})
    (folder / "tokenizer.json").write_text(json.dumps(told | changes))
    return folder


def split(digits):
    expression = f"{CONTRACTIONS}|{LETTERS}|{digits}|{REST}"
    cut = {"type": "Split", "pattern": {"Regex": expression}, "behavior": "Isolated", "invert": False}
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    return {"type": "Sequence", "pretokenizers": [cut, level]}


def test_tinys_own():
    tokens = tokens_of(TINY_DIRECTORY, 2048)
    assert (tokens.model, tokens.pre) == ("gpt2", "gpt-2")
    assert tokens.texts[:2] == ["<s>", "</s>"]
    assert tokens.types[:3] == [3, 3, 1]
    assert tokens.merges[0] == "Ġ a"
    assert tokens.special == {"bos": 0, "eos": 1}
    assert tokens.adds_bos
    assert tokens.note == ""


@pytest.mark.parametrize(
    ("pre", "changes"),
    [
        ("llama-bpe", {"pre_tokenizer": split(r"\p{N}{1,3}"), "model": {"ignore_merges": True}}),
        ("qwen2", {"pre_tokenizer": split(r"\p{N}"), "normalizer": {"type": "NFC"}}),
        (
            "smollm",
            {
                "pre_tokenizer": {
                    "type": "Sequence",
                    "pretokenizers": [
                        {"type": "Digits", "individual_digits": True},
                        {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True},
                    ],
                }
            },
        ),
    ],
)
def test_rules_that_llama_cpp_has_get_its_name(tmp_path, pre, changes):
    tokens = tokens_of(changed(tmp_path, **changes), 2048)
    assert tokens.pre == pre
    assert ("NFC" in tokens.note) == ("normalizer" in changes)


def test_ids_without_a_token_are_unused(tmp_path):
    tokens = tokens_of(changed(tmp_path), 2050)
    assert (tokens.texts[-1], tokens.types[-1]) == ("[PAD2049]", 5)
    with pytest.raises(ModelError, match=r"has the id 204\d, and the model 2040 embeddings"):
        tokens_of(tmp_path, 2040)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"pre_tokenizer": split(r"\p{N}{1,2}")}, "llama.cpp's rule for cutting texts is not known of"),
        ({"pre_tokenizer": split(r"\p{N}{1,3}")}, "not known of"),  # with merges of whole words
        ({"pre_tokenizer": {"type": "Whitespace"}}, "not known of .*Whitespace"),
        ({"pre_tokenizer": None}, "not known of"),
        ({"normalizer": {"type": "Lowercase"}}, "it changes texts beforehand by Lowercase"),
        ({"model": {"dropout": 0.1}}, "BPE without dropout is what can be written"),
    ],
)
def test_other_rules_are_refused(tmp_path, changes, told):
    with pytest.raises(ModelError, match=f"cannot be written into a GGUF file: .*{told}"):
        tokens_of(changed(tmp_path, **changes), 2048)


def test_sentence_piece_has_scores_in_the_order_of_its_merges(tmp_path):
    made = sentence_piece()
    made.save_pretrained(tmp_path)
    tokens = tokens_of(tmp_path, len(made))
    assert (tokens.model, tokens.pre, tokens.space_in_front) == ("llama", "default", True)
    score = dict(zip(tokens.texts, tokens.scores, strict=True))
    assert (score["▁z"], score["en"], score["a"]) == (0, -1, OWN_SCORE)
    assert tokens.types[tokens.texts.index("<0x41>")] == 6
    assert tokens.types[0] == 2
    assert tokens.special["unk"] == 0


def test_merges_that_scores_cannot_tell_are_refused(tmp_path):
    made = sentence_piece()
    made.save_pretrained(tmp_path)
    told = json.loads((tmp_path / "tokenizer.json").read_text())
    for token in ("ab", "abc", "bc"):
        told["model"]["vocab"][token] = len(told["model"]["vocab"])
    told["model"]["merges"] += [["a", "b"], ["b", "c"], ["ab", "c"]]
    (tmp_path / "tokenizer.json").write_text(json.dumps(told))
    with pytest.raises(ModelError, match=r"\('a', 'bc'\) is no merge of it"):
        tokens_of(tmp_path, len(made) + 3)
    told["model"]["merges"] += [["z", "e"], ["a", "bc"]]
    told["model"]["vocab"]["ze"] = len(told["model"]["vocab"])
    (tmp_path / "tokenizer.json").write_text(json.dumps(told))
    with pytest.raises(ModelError, match="its merges are not in the order of their tokens"):
        tokens_of(tmp_path, len(made) + 4)


def test_other_normalizers_of_sentence_piece_are_refused(tmp_path):
    made = sentence_piece(normalizers.NFKC())
    made.save_pretrained(tmp_path)
    with pytest.raises(ModelError, match=r"it changes texts beforehand by .*NFKC"):
        tokens_of(tmp_path, len(made))


@pytest.mark.parametrize("make", [word_piece, lambda text: byte_level(text, blank_in_front=True)])
def test_other_kinds_are_refused(tmp_path, make):
    made = make(TEXT)
    made.save_pretrained(tmp_path)
    with pytest.raises(ModelError, match=r"its model is 'WordPiece', and BPE|rule for cutting texts is not known"):
        tokens_of(tmp_path, len(made))


def test_a_folder_without_tokenizer_json_is_refused(tmp_path):
    with pytest.raises(ModelError, match=r"it has no tokenizer\.json"):
        tokens_of(tmp_path, 10)


def test_special_tokens_that_a_class_takes_for_granted_are_left_out(small_model):
    """Transformers adds a padding token to every Qwen2: behind this model's last embedding."""
    tokens = tokens_of(small_model("qwen2"), 2048)
    assert "eos" in tokens.special
    assert max(tokens.special.values()) < 2048


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "{}",
        '{"model": []}',
        '{"model": {"type": "BPE", "vocab": [], "merges": []}, "added_tokens": []}',
        '{"model": {"type": "BPE", "vocab": {"a": "b"}, "merges": []}, "added_tokens": []}',
        '{"model": {"type": "BPE", "vocab": {}, "merges": 1}, "added_tokens": []}',
        '{"model": {"type": "BPE", "vocab": {}, "merges": []}, "added_tokens": [{"id": 1}]}',
        "[" * 100_000,
    ],
)
def test_what_is_no_tokenizer_is_one_sentence(tmp_path, content):
    (tmp_path / "tokenizer.json").write_text(content)
    with pytest.raises(ModelError, match=r"its tokenizer\.json cannot be read"):
        tokens_of(tmp_path, 10)


def test_a_merge_of_one_token_is_refused(tmp_path):
    told = {"model": {"type": "BPE", "vocab": {"a": 0}, "merges": ["a"]}, "added_tokens": []}
    (tmp_path / "tokenizer.json").write_text(json.dumps(told))
    with pytest.raises(ModelError, match=r"\['a'\] is no merge of two tokens"):
        tokens_of(tmp_path, 10)
