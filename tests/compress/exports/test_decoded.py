import json

import ml_dtypes
import mlx.core as mx
import numpy as np
import pytest
from builders import open_model
from compressed_files import PER_TOKEN, int8, open_parts, quantization
from transformers import AutoTokenizer

from pytest_quantbench.catalog.models import TINY_DIRECTORY
from pytest_quantbench.catalog.recipes import REFERENCE
from pytest_quantbench.checkpoints.formats import open_candidate
from pytest_quantbench.checkpoints.tensor_file import load
from pytest_quantbench.compress.exports.decoded import card_of_files, write_decoded
from pytest_quantbench.compress.exports.published_names import names_in
from pytest_quantbench.compress.pipeline import reference
from pytest_quantbench.errors import ModelError, WeightError


@pytest.fixture
def decode(tmp_path):
    """The directory that a file or directory is decoded into."""

    def write(source, dtype="float32"):
        directory = tmp_path / "decoded"
        directory.mkdir()
        return directory, write_decoded(open_candidate(source), dtype, directory)

    return write


@pytest.mark.parametrize("form", ["mlx", "gguf", "hf"])
def test_an_export_is_a_reference_with_the_same_weights(job, exported, decode, differing, tmp_path, form):
    made = job("int4", dtype="float32")
    source, _ = exported(made, form)
    directory, written = decode(next(source.glob("*.gguf"), source))
    again = reference(open_model(directory), REFERENCE, tmp_path / "cache")
    assert differing(made.artifact, again) == []
    assert written.differences == ()
    config = json.loads((directory / "config.json").read_bytes())
    assert "quantization" not in config
    texts = ("Tom lives in the red house.", "12 x\n\n é")
    own, original = AutoTokenizer.from_pretrained(directory), AutoTokenizer.from_pretrained(TINY_DIRECTORY)
    assert [own.encode(text) for text in texts] == [original.encode(text) for text in texts]


@pytest.mark.parametrize("architecture", ["qwen2", "qwen3"])
def test_of_a_gguf_file_all_that_it_has_is_found(small_model, job, exported, decode, differing, tmp_path, architecture):
    made = job("bf16", small_model(architecture, hidden_size=256, head_dim=64))
    source, _ = exported(made, "gguf")
    directory, _ = decode(next(source.glob("*.gguf")))
    assert differing(made.artifact, reference(open_model(directory), REFERENCE, tmp_path / "cache")) == []


def test_bfloat16_rounds_and_says_so(job, exported, decode):
    made = job("int4-q4_k_m")
    source, _ = exported(made, "gguf")
    directory, written = decode(next(source.glob("*.gguf")), "bfloat16")
    name = "model.layers.0.mlp.up_proj.weight"
    assert np.array_equal(
        load(directory / "model.safetensors")[name], made.artifact.float32(name).astype(ml_dtypes.bfloat16)
    )
    assert written.differences[0].startswith("Rounding to bfloat16 changes decoded weights in ")
    assert "instead" not in written.differences[0]


def test_the_card_says_what_the_files_held(job, exported, tmp_path):
    source, written = exported(job("int4-q4_k_m"), "gguf")
    file = next(source.glob("*.gguf"))
    card = card_of_files(open_candidate(file), f"/somewhere/{file.name}")
    assert card.base_model == "owner/Small"
    assert card.facts["encodings"] == "Q4_K, Q6_K"
    assert float(card.facts["bits per encoded weight, of the files"]) == pytest.approx(5.1, abs=0.3)
    card.write(written, tmp_path)
    assert (tmp_path / "README.md").read_text().startswith('---\nbase_model: "owner/Small"\n---\n\n# Small-int4')


def test_an_architecture_without_known_names_is_refused(job, exported):
    source, _ = exported(job("int4"), "gguf")
    holding = open_candidate(next(source.glob("*.gguf")))
    with pytest.raises(ModelError, match=r"is a 'bloom' model, whose tensors' names.*Those that are: .*llama"):
        names_in(holding, {"model_type": "bloom"})
    with pytest.raises(ModelError, match=r"holds blk\.3\..*, which a 'llama' model on the Hub does not have"):
        names_in(holding, {"model_type": "llama", "num_hidden_layers": 3})


@pytest.mark.parametrize("key", ["num_hidden_layers", "num_experts"])
@pytest.mark.parametrize("value", ["3", -1, 10**12, 1.5])
def test_numbers_of_layers_and_experts_that_no_model_has_are_refused(key, value):
    holding = open_candidate(TINY_DIRECTORY)
    with pytest.raises(ModelError, match=rf"model\.safetensors: {key} is .*, and a number from 0 to 4096 is needed"):
        names_in(holding, {"model_type": "qwen3_moe", "num_hidden_layers": 1, "num_experts": 2, key: value})


def test_names_of_every_expert_are_asked_for(tmp_path):
    paths = [f"mlp.experts.{expert}.{part}_proj" for expert in range(2) for part in ("gate", "up", "down")]
    names = [f"model.layers.0.{path}.weight" for path in (*paths, "mlp.gate", "self_attn.q_norm")]
    mx.save_safetensors(str(tmp_path / "model.safetensors"), {name: mx.ones((2, 2)) for name in names})
    config = {"model_type": "qwen3_moe", "num_hidden_layers": 1, "num_experts": 2}
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert sorted(names_in(open_candidate(tmp_path), config)) == sorted(names)


def test_values_that_are_no_numbers_are_refused(small_model, decode):
    source = small_model()
    weights = mx.load(str(source / "model.safetensors"))
    weights["model.norm.weight"] = weights["model.norm.weight"] * float("nan")
    mx.save_safetensors(str(source / "model.safetensors"), weights)
    with pytest.raises(WeightError, match=r"model\.norm\.weight.* NaN or infinit"):
        decode(source)


def test_a_gptq_directory_is_decoded_by_its_own_names(tmp_path, decode):
    """Packed here: four bits along the inputs, zero points less one, groups of 32."""
    generator = np.random.default_rng(0)
    codes, zeros = generator.integers(0, 16, (64, 32)), generator.integers(1, 16, (2, 32))
    scales = generator.random((2, 32)).astype(np.float16)
    places = np.arange(8, dtype=np.uint64) * 4
    packed = (codes.reshape(8, 8, 32).astype(np.uint64) << places[:, None]).sum(1).astype(np.uint32)
    packed_zeros = ((zeros - 1).reshape(2, 4, 8).astype(np.uint64) << places).sum(2).astype(np.uint32)
    path, source = "model.layers.0.mlp.up_proj", tmp_path / "gptq"
    source.mkdir()
    parts = {"qweight": packed, "qzeros": packed_zeros}
    tensors = {f"{path}.{part}": mx.array(array.view(np.int32)) for part, array in parts.items()}
    tensors |= {f"{path}.scales": mx.array(scales), f"{path}.g_idx": mx.array(np.arange(64, dtype=np.int32) // 32)}
    mx.save_safetensors(str(source / "model.safetensors"), {**tensors, "model.norm.weight": mx.ones(64)})
    quantization = {"quant_method": "gptq", "bits": 4, "group_size": 32, "desc_act": False, "sym": False}
    config = {"model_type": "llama", "torch_dtype": "float16", "quantization_config": quantization}
    (source / "config.json").write_text(json.dumps(config))
    directory, written = decode(source)
    held = load(directory / "model.safetensors")
    wanted = (codes - np.repeat(zeros, 32, axis=0)) * np.repeat(scales.astype(np.float32), 32, axis=0)
    assert np.allclose(held[f"{path}.weight"], wanted.T, rtol=1e-6)
    assert held.keys() == {f"{path}.weight", "model.norm.weight"}
    assert json.loads((directory / "config.json").read_bytes()) == {"model_type": "llama", "torch_dtype": "float32"}
    assert written.differences == ()


@pytest.mark.parametrize(
    ("inputs", "told"),
    [
        (
            PER_TOKEN,
            "The files' scheme also rounds activations while the model runs, which decoded weights cannot hold.",
        ),
        (PER_TOKEN | {"type": "float"}, "Inputs not rounded, as the file's scheme asks."),
        (None, None),
    ],
)
def test_what_files_do_beside_their_weights_is_lost_and_said(tmp_path, inputs, told):
    said = quantization({"num_bits": 8, "strategy": "channel"}, "int-quantized", inputs=inputs)
    holding = open_parts(tmp_path / "files", int8(), said)
    (tmp_path / "decoded").mkdir()
    written = write_decoded(holding, "float32", tmp_path / "decoded")
    assert written.differences == (() if told is None else (told,))
