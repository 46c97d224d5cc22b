"""GGUF files of small random models: every published tensor is the one that was converted, as its type has it."""

import json
import tracemalloc

import gguf
import gguf_models
import ml_dtypes
import numpy as np
import pytest
from gguf import GGMLQuantizationType as Kind
from gguf_models import convert, header, padded, quantized, random_blocks, write

from pytest_quantbench.checkpoints.formats import open_candidate
from pytest_quantbench.checkpoints.formats.gguf import Gguf
from pytest_quantbench.checkpoints.formats.gguf_names import Names, Place
from pytest_quantbench.checkpoints.formats.gguf_transformations import CONVERSIONS
from pytest_quantbench.errors import ModelError, WeightError
from pytest_quantbench.quantizers.encoding import Encoding

QWEN2_MOE = {"num_experts": 4, "moe_intermediate_size": 32, "shared_expert_intermediate_size": 96}
SMALL_NAMES = ("llama-biases", "llama-wide-heads", "mistral-window-not-reached", "qwen2-default", "qwen3-default")
SMALL_NAMES += ("phi3-default", "gemma2", "gemma3_text-untied", "mixtral", "qwen3_moe", "qwen2_moe")
SMALL_NAMES += ("granite", "olmo2")
KINDS = ("Q4_0", "Q8_0", "Q5_1", "F16", "BF16", "Q4_1", "F32", "MXFP4", "Q5_0")
LLAMA = [
    ("general.architecture", "text", "llama"),
    ("llama.block_count", "u32", 1),
    ("llama.attention.head_count", "u32", 2),
]


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """A directory with a model that Transformers made, of each kind."""
    models = pytest.importorskip("transformers_models")
    made = {}
    (_, qwen3) = models.SMALL["qwen3_moe"]  # with experts of whole blocks
    given = models.SMALL | {"qwen3_moe": ("qwen3_moe", qwen3 | {"moe_intermediate_size": 32})}
    given["qwen2_moe"] = ("qwen2_moe", qwen3 | QWEN2_MOE)

    def make(name):
        if name not in made:
            made[name] = tmp_path_factory.mktemp(name)
            models.save(made[name], given[name], [[1, 2]])
        return made[name]

    return make


def decoded(tensor):
    """What a held tensor is, in float32, of the shape that it says."""
    arrays = tensor.read()
    if tensor.codec is None:
        found = arrays["weight"].astype(np.float32)
    else:
        found = Encoding(codec=tensor.codec, arrays=arrays, shape=tensor.shape).dense()
    assert found.shape == tensor.shape
    return found


def expected(name, tensor, kind, shifted):
    """A published tensor as the file's type has it: rows are rounded alone, so the original's order gives the same."""
    if tensor.ndim < 2 or (kind == "F32" and "norm" in name):
        return (tensor + np.float32(1)) - np.float32(1) if shifted and name.endswith("norm.weight") else tensor
    if name.endswith("shared_expert_gate.weight"):
        return tensor
    return gguf.dequantize(gguf.quantize(tensor, Kind[kind]), Kind[kind])


@pytest.mark.parametrize(
    ("name", "apart"),
    [
        *((name, False) for name in SMALL_NAMES),
        pytest.param("gemma3-tied", False, marks=pytest.mark.slow),  # it also sees, with a tower of the usual size
        ("mixtral", True),
        ("qwen3_moe", True),
    ],
)
def test_every_published_tensor_is_found_and_undone(published, tmp_path, name, apart):
    file = tmp_path / "model.gguf"
    for kinds in (("Q8_0",), KINDS):
        config, tensors, stored = convert(published(name), file, kinds, apart=apart)
        holding = open_candidate(file)
        assert holding.naming == "published"
        for path, tensor in tensors.items():
            held = holding.tensor(path)
            wanted = expected(path, tensor, held.kind, config["model_type"].startswith("gemma"))
            np.testing.assert_array_equal(decoded(held), wanted, err_msg=path)
            assert held.name == path
        assert not holding.left_over(list(tensors))
        assert {held.kind for held in holding.stored()} == {kind for kind, _ in stored.values()}
        assert sum(held.stored_bytes for held in holding.stored()) == sum(array.nbytes for _, array in stored.values())
        assert sum(holding.tensor(path).stored_bytes for path in tensors) == sum(a.nbytes for _, a in stored.values())


def test_the_tied_head_of_a_file_is_no_tensor(published, tmp_path):
    convert(published("qwen2-yarn"), tmp_path / "x.gguf")
    holding = open_candidate(tmp_path / "x.gguf")
    assert holding.tensor("lm_head.weight") is None
    assert holding.tensor("model.layers.0.self_attn.nothing.weight") is None
    assert holding.tensor("vision_tower.encoder.layers.0.q_proj.weight") is None
    assert holding.left_over([])[0].startswith("blk.0.")


def test_gate_and_up_of_all_experts_may_be_published_as_one_stack(published, tmp_path):
    convert(published("qwen3_moe"), tmp_path / "x.gguf", ("Q8_0",))
    holding = open_candidate(tmp_path / "x.gguf")
    experts = "model.layers.1.mlp.experts"
    both = decoded(holding.tensor(f"{experts}.gate_up_proj"))
    parts = [
        np.stack([decoded(holding.tensor(f"{experts}.{e}.{part}_proj.weight")) for e in range(4)])
        for part in ("gate", "up", "down")
    ]
    np.testing.assert_array_equal(both, np.concatenate(parts[:2], axis=1))
    np.testing.assert_array_equal(decoded(holding.tensor(f"{experts}.down_proj")), parts[2])
    with pytest.raises(ModelError, match=r"ffn_up_exps.weight of shape .* has no matrix of expert 4"):
        holding.tensor(f"{experts}.4.up_proj.weight")


@pytest.mark.parametrize("prefix", ["model.", "language_model.model.", "model.language_model.", "model.text_model."])
def test_names_of_models_that_also_see(prefix):
    stored = {"token_embd.weight", "blk.1.attn_q.bias", "blk.1.ffn_norm.weight", "output.weight"}
    names = Names("llama", 2, stored)
    assert names.place(f"{prefix}embed_tokens.weight") == Place(stored=("token_embd.weight",))
    assert names.place(f"{prefix}layers.1.self_attn.q_proj.bias") == Place(stored=("blk.1.attn_q.bias",))
    assert names.place(f"{prefix}layers.1.post_attention_layernorm.weight") == Place(stored=("blk.1.ffn_norm.weight",))
    assert names.place(f"{prefix}layers.1.self_attn.q_proj.weight") is None
    assert names.place(f"{prefix}layers.2.self_attn.q_proj.bias") is None
    for head in ("lm_head.weight", "language_model.lm_head.weight"):
        assert names.place(head) == Place(stored=("output.weight",))


@pytest.mark.parametrize("architecture", sorted(CONVERSIONS))
def test_the_package_has_names_for_every_architecture_that_is_known(architecture):
    names = Names(architecture, 1, {"blk.0.attn_output.weight"})
    assert names.place("model.layers.0.self_attn.o_proj.weight") == Place(stored=("blk.0.attn_output.weight",))


def test_an_architecture_without_names():
    with pytest.raises(ModelError, match=r"has no names for the architecture 'odd'. Use a newer one"):
        Names("odd", 1, {})


def test_experts_that_nobody_asks_for_are_left_over(published, tmp_path):
    """A fifth in each stack, and one by itself that stands before the one of a stack."""
    _, tensors, stored = convert(published("mixtral"), tmp_path / "x.gguf", ("Q8_0",))
    config, architecture = json.loads((published("mixtral") / "config.json").read_text()), "llama"
    more = {name: (kind, np.concatenate([a, a[:1]]) if "_exps" in name else a) for name, (kind, a) in stored.items()}
    write(tmp_path / "x.gguf", gguf_models.keys_of(config, architecture), more)
    found = open_candidate(tmp_path / "x.gguf").left_over(list(tensors))
    assert found == [f"expert 4 of {name}" for name in sorted(stored) if "_exps" in name]
    kind, stack = stored["blk.1.ffn_up_exps.weight"]
    apart = stored | {"blk.1.ffn_up.2.weight": (kind, stack[2])}
    write(tmp_path / "x.gguf", gguf_models.keys_of(config, architecture), apart)
    assert open_candidate(tmp_path / "x.gguf").left_over(list(tensors)) == ["expert 2 of blk.1.ffn_up_exps.weight"]


def test_one_expert_is_read_without_the_others(published, tmp_path, monkeypatch):
    convert(published("mixtral"), tmp_path / "x.gguf", ("Q8_0",))
    held = open_candidate(tmp_path / "x.gguf").tensor("model.layers.0.block_sparse_moe.experts.2.w2.weight")
    asked, fromfile = [], np.fromfile
    monkeypatch.setattr(np, "fromfile", lambda *given, **named: asked.append(given[2]) or fromfile(*given, **named))
    held.read()
    assert held.shape == (64, 96)
    assert asked == [held.stored_bytes] == [64 * 96 // 32 * 34]


def test_a_tensor_is_read_without_the_others_and_not_kept(tmp_path):
    count = 4
    rows = {f"blk.0.{name}.weight": random_blocks("Q8_0", 1024, 1024) for name in ("attn_q", "ffn_up", "ffn_down")}
    write(tmp_path / "x.gguf", LLAMA, {name: ("Q8_0", blocks) for name, blocks in rows.items()})
    tracemalloc.start()
    holding = open_candidate(tmp_path / "x.gguf")
    for _ in range(count):
        for part in ("self_attn.q_proj", "mlp.up_proj", "mlp.down_proj"):
            assert holding.tensor(f"model.layers.0.{part}.weight").read()["blocks"].nbytes == 1024 * 1088
    most_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most_bytes < 2.6 * 1024 * 1088  # rows of q in their stored and in their own order, and a look at scales


def test_factors_of_rotary_frequencies_are_named_and_not_left_over(tmp_path):
    tensors = {"token_embd.weight": quantized(np.ones((4, 32), np.float32), "F16")}
    tensors["rope_freqs.weight"] = ("F32", np.ones(8, np.float32))
    tensors["blk.0.attn_rot_embd.weight"] = ("F32", np.ones(8, np.float32))
    write(tmp_path / "x.gguf", LLAMA, tensors)
    holding = open_candidate(tmp_path / "x.gguf")
    assert holding.left_over([]) == ["token_embd.weight"]
    meant = {held.name: held.parameters.get("for") for held in holding.stored()}
    assert meant["token_embd.weight"] is None
    assert "rope_scaling" in meant["rope_freqs.weight"]
    assert "config.json" in meant["blk.0.attn_rot_embd.weight"]


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("alignment", [32, 1, 256])
def test_versions_and_alignments(tmp_path, version, alignment):
    matrix = np.arange(320, dtype=np.float32).reshape(10, 32)
    tensors = {"token_embd.weight": quantized(matrix, "Q8_0"), "output_norm.weight": ("F32", np.ones(3, np.float32))}
    write(tmp_path / "x.gguf", LLAMA, tensors, version=version, alignment=alignment)
    holding = open_candidate(tmp_path / "x.gguf")
    np.testing.assert_array_equal(
        decoded(holding.tensor("model.embed_tokens.weight")),
        gguf.dequantize(tensors["token_embd.weight"][1], Kind.Q8_0),
    )
    np.testing.assert_array_equal(decoded(holding.tensor("model.norm.weight")), 1)


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ([("general.type", "text", "adapter"), *LLAMA], r"an adapter \(LoRA\)"),
        ([("general.type", "text", "imatrix")], "an importance matrix"),
        ([("general.architecture", "text", "clip")], "sees or hears"),
        ([("general.type", "text", "mmproj"), ("general.architecture", "text", "clip")], "sees or hears"),
        ([], "names no general.architecture"),
        ([("general.architecture", "text", "mamba")], "architecture 'mamba'.*Known are: gemma, gemma2"),
        ([("general.architecture", "text", "llama")], "says None of llama.block_count"),
        ([*LLAMA[:1], ("llama.block_count", "u32", 2**31)], "says 2147483648 of llama.block_count"),
    ],
)
def test_what_is_no_known_model_is_refused_with_what_it_is(tmp_path, keys, told):
    write(tmp_path / "x.gguf", keys, {"token_embd.weight": ("F32", np.ones((2, 32), np.float32))})
    with pytest.raises(ModelError, match=rf"x\.gguf.*{told}"):
        open_candidate(tmp_path / "x.gguf")


def test_a_file_of_a_vocabulary_alone_is_refused(tmp_path):
    (tmp_path / "x.gguf").write_bytes(padded(header(LLAMA)))
    with pytest.raises(ModelError, match=r"holds no tensors"):
        open_candidate(tmp_path / "x.gguf")


@pytest.mark.parametrize(
    ("tensors", "told"),
    [
        ({"blk.0.attn_q.weight": ("F32", np.ones((6, 32), np.float32))}, "attn_q.weight has 6 rows.*of 2 heads"),
        ({"output_norm.weight": ("Q8_0", random_blocks("Q8_0", 1, 32)[0])}, r"\(32,\) is in Q8_0, and only matrices"),
        ({"token_embd.weight": ("I32", np.ones((2, 32), np.int32))}, "in I32, which is not decoded. These are: F32"),
        (
            {
                "blk.0.ffn_up.weight": ("NVFP4", random_blocks("NVFP4", 2, 64)),
                "blk.0.ffn_up.scale": ("F32", np.ones(1, np.float32)),
            },
            "ffn_up.weight' has a scale of its own",
        ),
    ],
)
def test_tensors_that_cannot_be_weights_are_refused(tmp_path, tensors, told):
    write(tmp_path / "x.gguf", LLAMA, tensors)
    with pytest.raises(ModelError, match=rf"x\.gguf.*{told}"):
        open_candidate(tmp_path / "x.gguf")


@pytest.mark.parametrize("kind", ["Q8_0", "F16", "F32", "BF16"])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_values_that_are_not_finite_are_told_when_they_are_read(tmp_path, kind, bad):
    matrix = np.ones((4, 64), np.float32)
    stored = quantized(matrix, kind)[1].copy()
    if kind == "BF16":
        stored[1, :2] = np.array([bad], ml_dtypes.bfloat16).view(np.uint8)
    elif kind == "Q8_0":
        stored[1, :2] = np.array([bad], np.float16).view(np.uint8)
    else:
        stored[1, 0] = bad
    write(tmp_path / "x.gguf", LLAMA, {"token_embd.weight": (kind, stored)})
    held = open_candidate(tmp_path / "x.gguf").tensor("model.embed_tokens.weight")
    with pytest.raises(WeightError, match=r"x\.gguf: 'token_embd.weight' has values that are not finite"):
        held.read()


def test_a_file_that_is_cut_after_it_was_opened(tmp_path):
    file = tmp_path / "x.gguf"
    write(file, LLAMA, {"token_embd.weight": quantized(np.ones((4, 64), np.float32), "Q8_0")})
    held = open_candidate(file).tensor("model.embed_tokens.weight")
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(ModelError, match=r"cut after it was opened"):
        held.read()
    file.unlink()
    with pytest.raises(ModelError, match=r"cannot be read"):
        held.read()


def test_heads_may_differ_from_layer_to_layer(tmp_path):
    keys = [*LLAMA[:1], ("llama.block_count", "u32", 2), ("llama.attention.head_count", "[u32]", [2, 4])]
    matrix = np.arange(16 * 32, dtype=np.float32).reshape(16, 32)
    names = [f"blk.{layer}.attn_q.weight" for layer in range(2)]
    stored = [gguf_models.interleaved(matrix, heads) for heads in (2, 4)]
    write(tmp_path / "x.gguf", keys, {name: ("F32", each) for name, each in zip(names, stored, strict=True)})
    holding = open_candidate(tmp_path / "x.gguf")
    for layer in range(2):
        np.testing.assert_array_equal(decoded(holding.tensor(f"model.layers.{layer}.self_attn.q_proj.weight")), matrix)


def test_rows_of_keys_without_their_number_of_heads_are_refused(published, tmp_path):
    """The header's only number is that of the queries' heads, which are twice as many: no order is guessed."""
    config, _, stored = convert(published("mixtral"), tmp_path / "x.gguf")
    keys = [each for each in gguf_models.keys_of(config, "llama") if not each[0].endswith("head_count_kv")]
    write(tmp_path / "x.gguf", keys, stored)
    with pytest.raises(ModelError, match=r"blk\.0\.attn_k\.weight has 32 rows, which are not those of 4 heads of 16"):
        open_candidate(tmp_path / "x.gguf")


@pytest.mark.parametrize("heads", [[], [("llama.attention.head_count", "text", "2")]])
def test_rows_in_another_order_need_the_number_of_heads(tmp_path, heads):
    matrix = {"blk.0.attn_k.weight": ("F32", np.ones((4, 32), np.float32))}
    write(tmp_path / "x.gguf", [*LLAMA[:2], *heads], matrix)
    with pytest.raises(ModelError, match=r"x\.gguf says nothing of llama.attention.head_count_kv, which blk.0.attn_k"):
        open_candidate(tmp_path / "x.gguf")


@pytest.mark.parametrize("name", ["x.attn_q.weight", "blk.9.attn_q.weight", "blk.-1.attn_q.weight"])
def test_a_list_of_heads_is_of_the_layers(tmp_path, name):
    keys = [*LLAMA[:2], ("llama.attention.head_count", "[u32]", [2])]
    write(tmp_path / "x.gguf", keys, {name: ("F32", np.ones((4, 32), np.float32))})
    with pytest.raises(ModelError, match=rf"says nothing of llama.attention.head_count, which {name} needs"):
        open_candidate(tmp_path / "x.gguf")


def test_recognizes_files_by_name_or_beginning(tmp_path):
    (tmp_path / "blob").write_bytes(b"GGUF and more")
    (tmp_path / "cut.gguf").write_bytes(b"GG")
    (tmp_path / "other").write_bytes(b"PK")
    assert Gguf().recognizes(tmp_path / "blob")
    assert Gguf().recognizes(tmp_path / "cut.gguf")
    assert not Gguf().recognizes(tmp_path / "other")
    assert not Gguf().recognizes(tmp_path / "nothing")
    with pytest.raises(ModelError, match=r"cut\.gguf does not begin as a GGUF file does"):
        open_candidate(tmp_path / "cut.gguf")
