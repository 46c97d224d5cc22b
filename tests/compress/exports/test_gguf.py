import gguf
import numpy as np
import pytest
from builders import open_model

from pytest_quantbench.catalog.recipes import recipe
from pytest_quantbench.checkpoints.formats import open_candidate
from pytest_quantbench.compress.exports.beside import new_directory
from pytest_quantbench.compress.exports.gguf import Gguf
from pytest_quantbench.compress.exports.gguf_model import GgufModel
from pytest_quantbench.errors import DiskError, ModelError

EXACT = "int4-q4_k_m int3-q3_k_s int3-kquant int2-kquant int4 int4-rtn int3-rtn int4-mxfp4 bf16".split()


@pytest.mark.parametrize("recipe_id", EXACT)
def test_what_gguf_can_hold_is_read_again_to_the_last_bit(job, exported, read_again, differing, recipe_id):
    made = job(recipe_id)
    directory, written = exported(made, "gguf")
    (file,) = directory.iterdir()  # the tensors' own file is gone
    assert file.name == f"Small-{recipe_id}.gguf"
    assert differing(made.artifact, read_again(file, made)) == []
    assert written.differences == written.details == ()
    assert written.stored_bytes == file.stat().st_size


@pytest.mark.parametrize("architecture", ["llama", "qwen2", "qwen3"])
@pytest.mark.parametrize("recipe_id", ["bf16", "int4-q4_k_m"])
def test_every_architecture_is_read_again(small_model, job, exported, read_again, differing, architecture, recipe_id):
    source = small_model(architecture, hidden_size=256, intermediate_size=256, head_dim=64)
    made = job(recipe_id, source)
    directory, _ = exported(made, "gguf")
    (file,) = directory.iterdir()
    assert differing(made.artifact, read_again(file, made)) == []


def test_the_gguf_package_reads_it_as_it_was_meant(job, exported):
    made = job("int4-q4_k_m")
    directory, _ = exported(made, "gguf")
    reader = gguf.GGUFReader(next(directory.iterdir()))
    values = {field.name: field.contents() for field in reader.fields.values()}
    assert values["general.architecture"] == "llama"
    assert values["general.file_type"] == gguf.LlamaFileType.MOSTLY_Q4_K_M
    assert values["general.base_model.0.repo_url"].endswith("/owner/Small")
    assert values["llama.block_count"] == 4
    assert values["llama.embedding_length"] == 256
    assert values["llama.attention.head_count_kv"] == 2
    assert values["llama.attention.key_length"] == 64
    assert values["llama.rope.freq_base"] == 10000
    assert values["llama.context_length"] == 512
    tensors = {tensor.name: tensor for tensor in reader.tensors}
    assert tensors["token_embd.weight"].tensor_type.name == "Q6_K"
    assert tensors["blk.0.attn_norm.weight"].tensor_type.name == "F32"
    assert tensors["blk.0.ffn_gate.weight"].tensor_type.name == "Q4_K"
    stored = gguf.quants.dequantize(tensors["blk.1.ffn_up.weight"].data, tensors["blk.1.ffn_up.weight"].tensor_type)
    assert np.array_equal(stored, made.artifact.float32("model.layers.1.mlp.up_proj.weight"))


@pytest.mark.parametrize(("part", "name", "heads"), [("q", "attn_q", 4), ("k", "attn_k", 2)])
def test_rows_of_q_and_k_lie_pairwise(job, exported, part, name, heads):
    """Row i of a head's first half beside row i of its second, written out."""
    made = job("bf16")
    directory, _ = exported(made, "gguf")
    tensors = {tensor.name: tensor for tensor in gguf.GGUFReader(next(directory.iterdir())).tensors}
    found = gguf.quants.dequantize(tensors[f"blk.2.{name}.weight"].data, gguf.GGMLQuantizationType.BF16)
    original, half = made.source.array(f"model.layers.2.self_attn.{part}_proj.weight").astype(np.float32), 32
    for head in range(heads):
        for pair in range(half):
            first = head * 64 + pair
            assert np.array_equal(found[head * 64 + 2 * pair], original[first])
            assert np.array_equal(found[head * 64 + 2 * pair + 1], original[first + half])


def test_rows_that_blocks_do_not_divide_are_rounded_and_said_to_be(small_model, job, exported):
    made = job("int4-q4_k_m", small_model(hidden_size=96))
    _, written = exported(made, "gguf")
    (sentence,) = written.differences
    assert sentence.startswith("No type holds the rows as they are encoded: they are rounded to Q8_0 in 23 tensors:")
    assert any(line.startswith("model.layers.0.mlp.up_proj.weight (Q8_0): largest change") for line in written.details)


def test_activations_that_are_rounded_are_lost(job, exported):
    _, written = exported(job("int8-dynamic"), "gguf")
    assert "dynamic also rounds activations" in written.differences[-1]


@pytest.mark.parametrize("architecture", ["gemma3_text", "mixtral", "phi3"])
def test_other_architectures_are_refused_by_name(small_model, architecture):
    with pytest.raises(ModelError, match=f"is a '{architecture}' model.*Those that are: llama, mistral, qwen2, qwen3"):
        Gguf().check(recipe("int4-q4_k_m"), open_model(small_model(architecture)))


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"rope_scaling": {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64}}, "yarn"),
        ({"use_sliding_window": True, "sliding_window": 16}, "use_sliding_window = True cannot be said"),
    ],
)
def test_settings_without_words_are_refused(small_model, changes, told):
    source = open_model(small_model("qwen2"))
    source.config = source.config | changes
    with pytest.raises(ModelError, match=told):
        GgufModel(source)


def test_a_window_shorter_than_texts_is_refused(small_model):
    source = open_model(small_model("llama"))
    source.config = source.config | {"model_type": "mistral", "sliding_window": 64}
    with pytest.raises(ModelError, match="sliding_window = 64 cannot be said"):
        GgufModel(source)
    source.config = source.config | {"sliding_window": None}
    assert GgufModel(source).architecture == "llama"


def test_llama_3_divides_its_frequencies_by_a_tensor(small_model, job, exported):
    numbers = {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
    scaling = {"rope_type": "llama3", "original_max_position_embeddings": 8192, **numbers}
    made = job("bf16", small_model(rope_scaling=scaling, rope_theta=500000.0, head_dim=64))
    directory, _ = exported(made, "gguf")
    file = next(directory.iterdir())
    tensors = {tensor.name: tensor for tensor in gguf.GGUFReader(file).tensors}
    factors = tensors["rope_freqs.weight"].data
    assert factors.shape == (32,)
    assert (factors[0], factors[-1]) == (1, 8)
    told = open_candidate(file).claims().config["rope_scaling"]
    assert {key: told[key] for key in numbers} == numbers


def test_linear_scaling_is_a_key(small_model, job, exported):
    made = job("bf16", small_model(rope_scaling={"type": "linear", "factor": 2.0}))
    directory, _ = exported(made, "gguf")
    values = {field.name: field.contents() for field in gguf.GGUFReader(next(directory.iterdir())).fields.values()}
    assert (values["llama.rope.scaling.type"], values["llama.rope.scaling.factor"]) == ("linear", 2)


def test_a_size_that_the_config_leaves_out_is_asked_for(small_model):
    source = open_model(small_model())
    source.config = {key: value for key, value in source.config.items() if key != "max_position_embeddings"}
    model = GgufModel(source)
    with pytest.raises(ModelError, match=r"config\.json says max_position_embeddings = None, and a GGUF file needs"):
        model.describe(gguf.GGUFWriter(None, "llama"))


def test_a_disk_that_is_full_leaves_no_part(job, tmp_path, monkeypatch):
    made, output = job("int4-rtn"), tmp_path / "out"

    def full(self, tensor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(gguf.GGUFWriter, "write_tensor_data", full)

    def write():
        with new_directory(output) as directory:
            Gguf().write(made, directory)

    with pytest.raises(DiskError, match="No space left on device"):
        write()
    assert [path.name for path in tmp_path.iterdir()] == ["cache"]
