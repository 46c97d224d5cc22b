"""What a candidate's files say otherwise than the reference's, in every spelling, and what is no difference."""

import json
from types import SimpleNamespace

import pytest
from tokenizers import processors

from pytest_quantbench.catalog.models import TINY_DIRECTORY
from pytest_quantbench.checkpoints.formats.protocol import Claims
from pytest_quantbench.checkpoints.tokenizer import load_tokenizer
from pytest_quantbench.compress import differences

LLAMA = json.loads((TINY_DIRECTORY / "config.json").read_text())
GEMMA = {
    "model_type": "gemma3",
    "text_config": {
        "model_type": "gemma3_text",
        "hidden_size": 64,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 16,
        "rms_norm_eps": 1e-6,
        "sliding_window": 512,
        "max_position_embeddings": 32768,
        "rope_theta": 1e6,
        "rope_local_base_freq": 1e4,
    },
}


def told(mine, theirs):
    return {str(each) for each in differences.of_config(mine, theirs)}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"rms_norm_eps": 1e-6}, "epsilon of the norms: 1e-06, the reference's 1e-05"),
        ({"max_position_embeddings": 4096}, "context length: 4096, the reference's 512"),
        ({"num_attention_heads": 8, "head_dim": 32}, "attention heads: 8, the reference's 4"),
        ({"num_key_value_heads": 4}, "heads of keys and values: 4, the reference's 2"),
        ({"hidden_act": "gelu"}, "activation: gelu, the reference's silu"),
        ({"tie_word_embeddings": False}, "output head is the embeddings: False, the reference's True"),
        ({"sliding_window": 128}, "sliding window: 128, the reference's not set"),
        ({"final_logit_softcapping": 30.0}, "soft cap of the logits: 30.0, the reference's not set"),
        (
            {"rope_parameters": {"rope_type": "default", "rope_theta": 5e5}},
            "base of positions: 500000.0, the reference's 10000.0",
        ),
        (
            {"rope_parameters": None, "rope_theta": 1e4, "rope_scaling": {"type": "linear", "factor": 4.0}},
            "scaling of positions: type linear, factor 4.0, the reference's not set",
        ),
        ({"rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "partial_rotary_factor": 0.5}}, ""),
    ],
)
def test_what_changes_the_arithmetic_is_told(change, said):
    found = told({**LLAMA, **change}, LLAMA)
    assert said in found if said else found == set()  # what only one of both says is no difference


@pytest.mark.parametrize(
    "same",
    [
        {},  # nothing is said at all
        LLAMA,
        {**LLAMA, "rms_norm_eps": 9.999999747378752e-06},  # a float32
        {**{k: v for k, v in LLAMA.items() if k != "rope_parameters"}, "rope_theta": 10000.0, "rope_scaling": None},
        {**{k: v for k, v in LLAMA.items() if k not in ("head_dim", "rms_norm_eps")}, "layer_norm_eps": 1e-5},
        {
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "hidden_size": 256,
            "rope_theta": 10000.0,
        },  # as a GGUF has it
        {**LLAMA, "sliding_window": 4096},  # longer than any text
        {**LLAMA, "sliding_window": 128, "use_sliding_window": False},
        {**LLAMA, "torch_dtype": "float16", "transformers_version": "4.0", "_name_or_path": "x"},
    ],
)
def test_what_is_the_same_in_another_spelling_is_no_difference(same):
    assert told(same, LLAMA) == set()


def test_a_value_that_the_class_takes_for_granted_is_no_difference():
    said = {**LLAMA, "model_type": "qwen2", "rope_parameters": None, "rope_theta": 10000.0}
    silent = {key: value for key, value in said.items() if key not in ("rope_theta", "rope_parameters")}
    assert told(silent, said) == told(said, silent) == set()
    assert told({**said, "rope_theta": 1e6}, silent) == {"base of positions: 1000000.0, the reference's 10000.0"}


def test_text_models_inside_others_are_read_by_kind_of_layer():
    assert told(GEMMA["text_config"], GEMMA) == told(GEMMA, GEMMA) == set()
    other = {**GEMMA["text_config"], "rope_local_base_freq": 2e4, "sliding_window": 1024}
    assert told(other, GEMMA) == {
        "sliding window: 1024, the reference's 512",
        "base of positions of sliding_attention: 20000.0, the reference's 10000.0",
    }
    flat = {"rope_theta": 1e6, "sliding_window": 512}  # a file that does not know of local bases
    assert told(flat, GEMMA) == set()


def test_scaling_is_compared_in_what_both_say():
    yarn = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 512}
    new = {**LLAMA, "rope_parameters": {"rope_theta": 1e4, **yarn, "beta_fast": 32}}
    old = {**LLAMA, "rope_parameters": None, "rope_theta": 1e4, "rope_scaling": {"type": "yarn", "factor": 4}}
    assert told(old, new) == set()
    (found,) = told({**old, "rope_scaling": {"type": "yarn", "factor": 8}}, new)
    assert found.startswith(
        "scaling of positions: type yarn, factor 8, the reference's type yarn, beta_fast 32, factor 4"
    )


@pytest.fixture(scope="module")
def tiny():
    return load_tokenizer(TINY_DIRECTORY)


def of_tokenizers(claims, own, tokenizer):
    return [str(each) for each in differences.of_tokenizers(claims, own, tokenizer)]


def test_special_tokens_of_other_ids_are_told(tiny):
    claims = Claims(special_tokens={"bos_token_id": 0, "eos_token_id": 7, "unk_token_id": 3, "pad_token_id": 1})
    assert of_tokenizers(claims, None, tiny) == [
        "EOS token: 7, the reference's 1",
        "PAD token: 1, the reference's not set",
    ]


def test_whether_bos_is_put_in_front_is_told(tiny):
    adds = tiny.bos_token_id in tiny.encode("The fox")
    assert of_tokenizers(Claims(adds_bos=adds), None, tiny) == []
    (found,) = of_tokenizers(Claims(adds_bos=not adds), None, tiny)
    assert found == f"BOS before every text: {'no' if adds else 'yes'}, the reference's {'yes' if adds else 'no'}"
    own = load_tokenizer(TINY_DIRECTORY)
    template = "$A" if adds else "<s> $A"
    own.backend_tokenizer.post_processor = processors.TemplateProcessing(single=template, special_tokens=[("<s>", 0)])
    assert of_tokenizers(Claims(), own, tiny) == [found]


def test_chat_templates_are_compared_but_for_blanks_around_them(tiny):
    reference = SimpleNamespace(bos_token_id=None, chat_template="{{ messages }}\n")
    assert of_tokenizers(Claims(chat_template="{{ messages }}"), None, reference) == []
    (found,) = of_tokenizers(Claims(chat_template="{{ others }}"), None, reference)
    assert found.startswith("chat template: 12 characters, sha256 ")
    assert ", the reference's 14 characters, sha256 " in found
    (found,) = of_tokenizers(Claims(chat_template="{{ others }}"), None, tiny)
    assert found.endswith("the reference's not set")
    assert of_tokenizers(Claims(), None, reference) == []


def test_generation_settings_that_the_candidate_has_are_told(tmp_path):
    (tmp_path / "generation_config.json").write_text(json.dumps({"temperature": 0.6, "top_k": 20, "eos_token_id": 2}))

    def found(mine):
        return [str(each) for each in differences.of_generation(mine, tmp_path)]

    assert found({}) == found({"top_k": 20, "eos_token_id": [2], "transformers_version": "5"}) == []
    assert found({"temperature": 1.0, "top_p": 0.9, "eos_token_id": [2, 7]}) == [
        "generation: temperature: 1.0, the reference's 0.6",
        "generation: top_p: 0.9, the reference's not set",
        "generation: ends with: [2, 7], the reference's [2]",
    ]
    assert [str(each) for each in differences.of_generation({"top_k": 5}, tmp_path / "none")] == [
        "generation: top_k: 5, the reference's not set"
    ]
