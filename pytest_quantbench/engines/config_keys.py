"""The keys of config.json that may stay unread, and why: the table to read, and to add to.

A config is refused for a key that the code of a model does not read, unless it stands here, or its value says "nothing
of the kind". Three sorts of key are here: those that change no figure of an evaluated text model; those that change
which weights there are, or their shapes, and so cannot go wrong in silence, since every name and shape is compared with
the files; and those whose effect the code has built in. Whoever adds a key says which of these it is.
"""

import math
import re
from collections.abc import Mapping
from typing import Any

Config = Mapping[str, Any]

# --- Keys that change no figure of an evaluated text model.
NO_ARITHMETIC = (
    # names, files, versions
    r"_?name_or_path|model_name|model_type|architectures|auto_map|model_file|.*_?commit_hash|.*_class|is_\w+_config",
    r"version|_?(\w+_)?(transformers|diffusers|library|format|model|config|checkpoint|torch|tokenizer|code)_version",
    r"base_model(_(name|name_or_path|path|type|class|prefix|(tp|pp|ep)_plan))?",
    r"torch_dtype|dtype|params_dtype|compute_dtype|torchscript|use_bfloat16|bf16|fp16|fp32|.*_in_fp32|.*upcast.*|unsloth.*",
    r"transformers\.js_config|tf_legacy_loss|quantization(_config)?|compression_config",  # quantized ones are refused
    # how it is run
    r"use_cache|.*cache_implementation|.*attn_implementation.*|use_flash_attn|_?flash_attn.*|attn_config_impl|use_mamba_kernels?|.*_cache_dtype|num_logits_to_keep",
    r"fused?_.*|use_fused.*|use_cache_.*|gradient_checkpointing|pretraining_tp|tensor_parallel.*|ep_size|is_decoder|device",
    r"chunk_size_feed_forward|pruned_heads|return_dict(_in_generate)?|use_return_dict|use_mem_.*",
    r"output_(attentions|hidden_states|router_logits|scores|past|loading_info)",
    # special tokens, tasks and generation settings
    r"(pad|bos|eos|sep|unk|mask(_init)?|bod|eod|eot|im_\w+|text_\w+)_ids?|dense_list|pool_type|class_num",
    r"(.*_)?(bos|eos|pad|sep|cls|mask|unk|decoder_start|bod|eod|im_.*|tool.*)_(token|token_id|token_ids)|.*_token_(id|index|ids)",
    r"(id2|2id)?label.*|num_labels|problem_type|finetuning_task|task_specific_params|prefix|tokenizer_.*|summary_.*",
    r"temperature|top_[kp]|typical_p|(max|min)_(new_)?(length|tokens)|do_sample|num_beams?|num_beam_groups|num_return_sequences",
    r".*_penalty|no_repeat_ngram_size|.*_no_repeat_ngram_size|early_stopping|bad_words_ids|remove_invalid_values",
    r"(begin_)?suppress_tokens|forced_.*|generation_.*|.*_watermark.*|exponential_decay_length_penalty",
    # training
    r".*drop(out)?(_?(rate|prob|p|path|layer).*)?|.*_pdrop|.*aux_loss.*|.*_loss(_.*)?",
    r"router_(jitter|z).*|.*jitter_noise|seq_aux|moe_capacity.*|.*bias_update.*|z_loss.*|num_nextn_predict_layers|mtp_.*|num_mtp_.*",
    r"init_(std|method|range|device|fn|cutoff_factor|type|seed)|(\w+_)?initializer(_(range|factor|std|scale|method|m_style))?",
    r"(\w+_)?(weight|param|mlp|out|in|layer_scale|embedding|emb|gate|router|xavier|w)_init(_(std|(variance_)?scale|value|range|method|type))?",
    r"time_step_(floor|min|max|scale|init.*)|(linear_)?dt_(min|max|init.*)|linear_a_log_(min|max)|use_associative_scan|(\w+_)?chunk_size",
    r"train.*|optim.*|learning_rate|lr|weight_decay|warmup.*|seed|batch_size|rescale_prenorm_residual",
    # pictures, sound and their places in a text
    r"(vision|image|video|audio|mm|vit|visual|projector|multimodal|speech|boi|eoi|boa|eoa)_.*|.*_(projector|vision|image|audio)_.*",
    r"vision|visual|projection_.*|vision_config|audio_config|.*_per_image|spatial_merge_size",
    # lengths: read by `positions`
    r"n_positions|n_ctx|.*max_position.*|max_seq(uence)?_len(gth)?|seq(uence)?_len(gth)?|model_max_length|max_context_.*",
    r"sliding_window(_size)?|use_sliding_window|max_window_layers|attention_window_size|attention_chunk_size",
)
# --- Keys that say which weights there are and of what shape: names and shapes are compared with the files.
IN_THE_WEIGHTS = (
    r".*(vocab|intermediate|ffn|hidden|inner|mlp|expert|embedding|feed_forward).*_?(size|dims?)|n_inner|ffn_dim|d_ff|d_model|dim|n_embd",
    r".*head_dim|.*_rank|num_key_value_heads|num_kv_heads|n_kv_heads|num_multi_query_heads|multi_query|pad_vocab.*",
    r".*(attention|mlp|qkv|ffn|conv|head|lm_head|linear|proj|projection|use|output|out|o_proj)_(qkv_)?bias|bias|add_bias.*|use_(\w+_)?bias",
    r"num_hidden_layers|n_layers?|num_layers|(n|num)_((local|routed|shared|moe|total)_)?experts|moe_layer_(freq|interval|start|end|start_index|end_index)",
    r"first_k_dense_replace|decoder_sparse_step|mlp_only_layers|interleave_moe_layer_step|n_shared_experts|tie_word_embeddings",
    r".*conv.*(width|kernel|dim(_out)?|size)|.*kernel(_size)?|d_conv|d_state|expand|lru_width|state_size",
    r"(mamba_|linear_)?.*expand|mlp_layer_types|moe_layers|block_(ff_)?dim",
    r"use_qk_norm|qk_norm|qk_layernorm|use_qkv_norm|tie_.*embeddings?",
)
# A number under such a name is one that something is multiplied by, or kept below: no wide pattern above takes it,
SCALING = re.compile(r"(.*_)?(scale|scaling|multiplier|gain|softcap(ping)?|clip|clamp|limit|cap)s?(_.*)?")
# unless it is of the first weights, of a loss, or of pictures and sound. A factor of 0 is not "nothing of the kind".
UNUSED_SCALES = re.compile(
    r".*_init_(variance_)?scale|initializer_scale|time_step_scale|.*_loss(_.*)?|(vision|image|video|audio|mm|vit|visual|projector|speech)_.*"
)
FACTORS = re.compile(r"(.*_)?(scale|scaling|multiplier|gain)s?(_.*)?|(.*_)?factor|rope_ratio|rotary_pct")
# --- Values that say "nothing of the kind", of keys for which null, false, 0 and an empty list are not the only ones.
NEUTRAL: Mapping[str, tuple[Any, ...]] = {
    r"logit_scale|logits_scaling|(embedding|residual|key|ssm_in|ssm_out|lm_head)_multiplier|scale_emb|width_scale": (
        1,
    ),
    r"partial_rotary_factor|rotary_pct": (1,),
    r"n_group|topk_group|routed_scaling_factor|num_loops|loop_num|num_experts_per_tok": (1,),
    r"position_embedding_type": ("rope",),
    r"rope_scaling_type|mlp_type": ("default",),
    r"norm_type|normalization_function": (
        "layer_norm",
        "rms_norm",
        "rmsnorm",
        "layernorm",
        "rms",
    ),  # they differ in their weights
    r"moe_norm_min": (1e-12,),
    r"rotary_scaling_factor|rope_ratio|interpolate_factor|full_attn_mod": (1,),
    r"time_step_limit": ([0, math.inf], [0, {"__float__": "Infinity"}]),  # as Transformers writes it since version 5
}
# What a module does without being told, by model_type.
BUILT_IN: Mapping[str, Mapping[str, Any]] = {
    "apertus": {"qk_norm": True, "post_norm": False},
    "cohere2": {
        "order_of_interleaved_layers": "local_attn_first",
        "position_embedding_type": "rope_gptj",
        "use_embedding_sharing": True,
        "use_gated_activation": True,
        "use_parallel_block": True,
        "use_parallel_embedding": True,
    },
    "deepseek_v2": {"rope_interleave": True},
    "deepseek_v3": {"rope_interleave": True},
    "deepseek_v32": {"rope_interleave": True},
    "glm4_moe_lite": {"rope_interleave": True},
    "lfm2": {"block_use_swiglu": True, "use_pos_enc": True},
    "nanochat": {"final_logit_softcapping": 15.0},
    "granitemoehybrid": {"position_embedding_type": "nope"},
}
IDLE = {"cla_share_factor": "use_cla"}  # keys that count only where another one is on: layers share keys and values
ON = r"scale_attn_weights|is_causal|causal|use_rope|rope"  # of these, false says that something usual is missing


def says_nothing(key: str, value: Any, table: Config) -> bool:
    """Whether a key of a config changes no figure, or nothing that would go unnoticed, whatever code reads it."""
    if value is None or (key in IDLE and not table.get(IDLE[key])):
        return True
    if re.fullmatch(ON, key):
        return value is True
    if value is False or value in ([], {}, "") or (value == 0 and not FACTORS.fullmatch(key)):
        return True
    if not _scales(key, value) and any(re.fullmatch(pattern, key) for pattern in (*NO_ARITHMETIC, *IN_THE_WEIGHTS)):
        return True
    if any(re.fullmatch(pattern, key) and value in values for pattern, values in NEUTRAL.items()):
        return True
    return bool(BUILT_IN.get(str(table.get("model_type")), {}).get(key) == value)


def _scales(key: str, value: Any) -> bool:
    """Whether a key gives a number, or numbers, that the model is scaled or limited by."""
    number = isinstance(value, int | float | list) and not isinstance(value, bool)
    return number and SCALING.fullmatch(key) is not None and UNUSED_SCALES.fullmatch(key) is None
