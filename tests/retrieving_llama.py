"""A Llama that finds what it was told, its weights written down by a formula: attention that copies, and nothing else.

A token's code is a random vector of `WIDTH` channels. The first layer's two heads carry to every position the codes of
the token before it and of the one before that. So where "of A is B" stands, B's position knows A by the code two tokens
back; and behind "of A is", the last position knows A by the code one token back. The second layer looks for the
position whose code two back is that one, and copies the code of the token that stands there: B, who is A's teacher. The
third layer looks for B in the same way, and the fourth for B's teacher, so that chains of three hops are followed. The
head tells how much of each token's code the three layers have found.

Positions turn keys and queries by angles that fall from pair to pair of channels (`THETA` is huge): the first pairs
tell one token's distance from another, the last ones hardly turn at all and hold codes. One channel of every key there
is large and constant, as keys of real models have it: queries are 0 there, so that it changes nothing, but it sets the
step of a grid over the key's channels, below which codes are lost.
"""

import json
from pathlib import Path

import ml_dtypes
import numpy as np
from safetensors.numpy import save_file
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from pytest_quantbench.measures.retrieval.haystack import ASKED, FACT, FRONT, PEOPLE
from pytest_quantbench.tiny.text import text
from pytest_quantbench.tiny.world import WORLD_SEED, Draws, make_world

WIDTH, HEAD = 64, 128  # channels of a code, and of an attention head
THETA = 1e14
BLOCKS = ("token", "before", "twice before", "found", "found next", "found last", "flags")
HIDDEN = WIDTH * len(BLOCKS)
ONE, IS, OTHER, WAS_IS = 0, 1, 2, 3  # flags: always, of the token " is" and of others, of a position behind an " is"
PLACE, MATCH = 5.0, 12.0  # how much more than others a token is seen: at its distance, and with its code
SCALE = 0.1  # of what attention copies: a norm makes hidden states about ten times as large


def block(name):
    """The channels of a block of the hidden state."""
    start = WIDTH * BLOCKS.index(name)
    return np.arange(start, start + WIDTH)


def words():
    """Every word and sign that contexts and questions have."""
    world = make_world()
    told = [FRONT, *ASKED.values(), FACT, text(world, Draws("words"), 100_000)]
    told += [*make_world(WORLD_SEED + 1, PEOPLE).people, *world.people, *world.towns, *world.rivers]
    split = pre_tokenizers.Whitespace()
    found = dict.fromkeys(word for each in told for word, _ in split.pre_tokenize_str(each))
    return ["<s>", "<unk>", *found]


def tokenizer(vocabulary):
    """One token for every word."""
    made = Tokenizer(models.WordLevel({word: place for place, word in enumerate(vocabulary)}, unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=made, bos_token="<s>", unk_token="<unk>")


def still():
    """The channels of a head that positions hardly turn: the last half of its pairs, each channel with its partner."""
    pairs = np.arange(HEAD // 4, HEAD // 2)
    return np.concatenate([pairs, pairs + HEAD // 2])


def looking_back(distance):
    """(head, hidden) queries and keys of a head whose scores are largest so many tokens back: constant vectors, the
    query's turned by that distance.
    """
    query, key = np.zeros((2, HEAD, HIDDEN))
    pairs, one = np.arange(10), block("flags")[ONE]
    angles = distance * THETA ** (-2 * pairs / HEAD)
    key[pairs, one] = PLACE
    query[pairs, one], query[pairs + HEAD // 2, one] = PLACE * np.cos(angles), -PLACE * np.sin(angles)
    return query, key


def matching(asked, outlier):
    """(head, hidden) queries and keys of a head that finds where the code of block `asked` stood two tokens before,
    with " is" between.
    """
    query, key = np.zeros((2, HEAD, HIDDEN))
    pairs = np.arange(HEAD // 4, HEAD // 2 - 2)  # positions hardly turn them; two pairs are for the flag and outliers
    codes = np.concatenate([pairs, pairs + HEAD // 2])
    flags, (flag, large) = block("flags"), (HEAD // 2 - 2, HEAD // 2 - 1)
    query[codes, block(asked)[: len(codes)]] = MATCH
    key[codes, block("twice before")[: len(codes)]] = 1.0
    query[flag, flags[ONE]], key[flag, flags[WAS_IS]] = MATCH, 1.0
    key[[large, large + HEAD // 2], flags[ONE]] = outlier  # one in each half, on one side of zero
    return query, key


def copying(block_of_head):
    """(head, hidden) values and (hidden, head) outputs of a head that copies a token's code, and the flag of " is"."""
    value, output = np.zeros((HEAD, HIDDEN)), np.zeros((HIDDEN, HEAD))
    value[np.arange(WIDTH), block("token")] = 1.0
    output[block(block_of_head), np.arange(WIDTH)] = SCALE
    if block_of_head == "before":
        value[WIDTH, block("flags")[IS]] = 1.0
        output[block("flags")[WAS_IS], WIDTH] = SCALE
    return value, output


def attention(heads):
    """The four matrices of a layer from (query, key, value, output) of both heads; None: a head that does nothing."""
    nothing = (*np.zeros((3, HEAD, HIDDEN)), np.zeros((HIDDEN, HEAD)))
    q, k, v, o = zip(*((each or nothing) for each in heads), strict=True)
    return {"q": np.concatenate(q), "k": np.concatenate(k), "v": np.concatenate(v), "o": np.concatenate(o, axis=1)}


def retrieving_llama(folder, *, outlier=2.0, positions=4096, seed=0):
    """Write the model with its tokenizer into a folder."""
    vocabulary = words()
    codes = np.random.default_rng(seed).normal(size=(len(vocabulary), WIDTH))
    codes /= np.linalg.norm(codes, axis=1, keepdims=True)  # so that a norm leaves all tokens' flags alike
    embedding, head = np.zeros((2, len(vocabulary), HIDDEN))
    embedding[:, block("token")], embedding[:, block("flags")[ONE]] = codes, 1.0
    embedding[:, block("flags")[OTHER]], is_there = 1.0, vocabulary.index("is")
    embedding[is_there, block("flags")[IS]], embedding[is_there, block("flags")[OTHER]] = 1.0, 0.0
    for name in ("found", "found next", "found last"):
        head[:, block(name)] = codes
    layers = [[(*looking_back(1), *copying("before")), (*looking_back(2), *copying("twice before"))]]
    steps = (("before", "found"), ("found", "found next"), ("found next", "found last"))
    layers += [[(*matching(asked, outlier), *copying(found)), None] for asked, found in steps]
    tensors = {"model.embed_tokens.weight": embedding, "lm_head.weight": head, "model.norm.weight": np.ones(HIDDEN)}
    for number, heads in enumerate(layers):
        prefix = f"model.layers.{number}."
        tensors |= {f"{prefix}self_attn.{name}_proj.weight": each for name, each in attention(heads).items()}
        tensors |= {f"{prefix}mlp.{name}_proj.weight": np.zeros((WIDTH, HIDDEN)) for name in ("gate", "up")}
        tensors[f"{prefix}mlp.down_proj.weight"] = np.zeros((HIDDEN, WIDTH))
        tensors |= {f"{prefix}{n}_layernorm.weight": np.ones(HIDDEN) for n in ("input", "post_attention")}
    folder = Path(folder)
    folder.mkdir(exist_ok=True)
    stored = {name: np.ascontiguousarray(each.astype(ml_dtypes.bfloat16)) for name, each in tensors.items()}
    save_file(stored, str(folder / "model.safetensors"), metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps(config(len(vocabulary), len(layers), positions)))
    tokenizer(vocabulary).save_pretrained(str(folder))
    return folder


def config(vocabulary, layers, positions):
    """Of a Llama with heads of `HEAD` channels."""
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": HIDDEN,
        "head_dim": HEAD,
        "num_hidden_layers": layers,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "intermediate_size": WIDTH,
        "vocab_size": vocabulary,
        "max_position_embeddings": positions,
        "rms_norm_eps": 1e-6,
        "rope_theta": THETA,
        "hidden_act": "silu",
        "tie_word_embeddings": False,
        "dtype": "bfloat16",
    }
