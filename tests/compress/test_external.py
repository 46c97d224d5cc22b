"""Candidates as artifacts: every architecture's published tensors come out as the engine's own parameters do."""

from dataclasses import dataclass, replace

import ml_dtypes
import mlx.core as mx
import numpy as np
import pytest
from builders import open_model
from gguf_models import convert, keys_of, write
from safetensors.numpy import load_file, save_file
from transformers_models import SMALL, save

from pytest_quantbench.catalog.candidates import Candidate
from pytest_quantbench.catalog.recipes import recipe_of_candidate
from pytest_quantbench.checkpoints.checkpoint import Checkpoint
from pytest_quantbench.checkpoints.formats import open_candidate
from pytest_quantbench.checkpoints.formats.folder import Folder
from pytest_quantbench.checkpoints.formats.plain import PlainHolding
from pytest_quantbench.checkpoints.formats.protocol import HeldTensor
from pytest_quantbench.compress.external import External
from pytest_quantbench.engines.mlx.opened_checkpoint import Opened
from pytest_quantbench.engines.parameters import Origin, Parameter
from pytest_quantbench.errors import ModelError, WeightError
from pytest_quantbench.quantizers import Codec

RECIPE = recipe_of_candidate(Candidate(name="file", source="somewhere"), 4.5)


def made(holding, source):
    return External(holding, source, RECIPE, source.config)


def external(holding, directory):
    return made(holding, open_model(directory))


def plain(directory):
    return PlainHolding(Folder(directory))


class Halved(Codec):
    """Stores half of every weight."""

    name = "halved"

    def decode(self, arrays):
        return arrays["half"].astype(np.float32) * 2

    def __eq__(self, other):
        return isinstance(other, Halved)


class HalvedHolding(PlainHolding):
    """Every matrix of a directory, encoded; GPT-2's, which are published turned, as they lie in other layers."""

    format = "halved"

    def tensor(self, name):
        held = super().tensor(name)
        if held is None or len(held.shape) < 2:
            return held
        turned = ".h." in name and ".c_" in name
        return HeldTensor(
            name=name,
            shape=held.shape[::-1] if turned else held.shape,
            stored_bytes=held.stored_bytes,
            kind="halved",
            codec=Halved(),
            read=lambda: {"half": (held.read()["weight"].T if turned else held.read()["weight"]) / 2},
            note="inputs not halved",
        )


@pytest.mark.slow
@pytest.mark.parametrize("architecture", SMALL)
def test_what_transformers_publishes_becomes_what_the_engine_has(architecture, tmp_path):
    """Whether a tensor is handed through, stacked, joined or turned, encoded or not."""
    save(tmp_path, SMALL[architecture], [[1, 2, 3]])
    source = open_model(tmp_path)
    for holding in (plain(tmp_path), HalvedHolding(Folder(tmp_path))):
        artifact = made(holding, source)
        assert artifact.names == source.names
        for name in artifact.names:
            np.testing.assert_array_equal(artifact.float32(name), source.array(name).astype(np.float32), name)


def apart(directory, block, form):
    """The experts of a mixture under names of their own, as the Hub has them."""
    file = directory / "model.safetensors"
    found = {}
    for name, array in load_file(file).items():
        before, stacked, projection = name.removesuffix(".weight").partition(f"{block}.switch_mlp.")
        if not stacked:
            found[name] = array
        for expert, matrix in enumerate(array if stacked else ()):
            found[f"{before}{block}.experts.{expert}.{form.get(projection, projection)}.weight"] = matrix
    file.unlink()
    save_file(found, file)


MIXTRAL = {"gate_proj": "w1", "down_proj": "w2", "up_proj": "w3"}
PUBLISHED = [("mixtral", "block_sparse_moe", MIXTRAL), ("qwen2_moe", "mlp", {}), ("qwen3_moe", "mlp", {})]


@pytest.mark.parametrize(("architecture", "block", "form"), PUBLISHED)
def test_experts_of_their_own_are_one_encoded_stack(small_model, architecture, block, form):
    directory = small_model(architecture, dtype=mx.float32)
    apart(directory, block, form)
    source = open_model(directory)
    path = next(name for name in source.names if "switch_mlp.up_proj" in name)
    origin = source.origin(path)
    assert origin.form == "stack"
    assert [name.split("experts.")[1][0] for name in origin.sources] == ["0", "1", "2", "3"]
    artifact = made(HalvedHolding(Folder(directory)), source)
    encoding = artifact.encoding(path)
    assert encoding is not None
    assert encoding.shape == source.array(path).shape
    assert len(encoding.layers()) == 4
    np.testing.assert_array_equal(artifact.float32(path), source.array(path))
    assert artifact.tensor(path).stored_bytes == source.array(path).nbytes


def test_sizes_and_kinds_are_those_of_the_files(small_model):
    directory = small_model("llama", dtype=mx.float32)
    artifact = external(HalvedHolding(Folder(directory)), directory)
    manifest = artifact.manifest
    values = sum(array.size for array in load_file(directory / "model.safetensors").values())
    assert manifest.stored_bytes == 4 * values
    assert manifest.bf16_bytes == 2 * values
    matrix = artifact.tensor("model.layers.0.self_attn.q_proj.weight")
    assert (matrix.quantizer, matrix.part, matrix.note) == ("halved", "inner", "inputs not halved")
    assert artifact.tensor("model.embed_tokens.weight").part == "outer"
    norm = artifact.tensor("model.norm.weight")
    assert (norm.quantizer, norm.part, norm.note) == (None, "kept", "weight of RMSNorm")
    assert set(manifest.files) == {"model.safetensors"}


def test_a_matrix_that_is_stored_as_it_is_says_so(small_model):
    directory = small_model("llama")
    artifact = external(plain(directory), directory)
    tensor = artifact.tensor("model.layers.0.mlp.up_proj.weight")
    assert (tensor.quantizer, tensor.part, tensor.note) == (None, "inner", "stored as BF16")
    assert artifact.encoding(tensor.name) is None
    assert artifact.dense(tensor.name).dtype == ml_dtypes.bfloat16


def test_the_key_is_of_the_files_and_of_the_original(small_model):
    one, other = small_model("llama", seed=0), small_model("llama", seed=1)
    keys = {external(plain(held), source).manifest.key for held in (one, other) for source in (one, other)}
    assert len(keys) == 4
    assert external(plain(one), one).manifest.key in keys


@dataclass(frozen=True, slots=True, kw_only=True)
class Scaled(Codec):
    """Stores weights divided by what only a config says."""

    scale: int
    name = "scaled"

    def decode(self, arrays):
        return arrays["part"].astype(np.float32) * self.scale


def test_the_key_is_of_what_a_config_says_of_the_codes_too(small_model):
    """The same bytes are other weights where config.json says so."""
    directory = small_model("llama")
    source = open_model(directory)

    class ScaledHolding(PlainHolding):
        scale = 2

        def tensor(self, name):
            held = super().tensor(name)
            return held if held is None else replace(held, codec=Scaled(scale=self.scale))

    class Otherwise(ScaledHolding):
        scale = 3

    first, again, other = (made(each(Folder(directory)), source) for each in (ScaledHolding, ScaledHolding, Otherwise))
    assert first.manifest.files == other.manifest.files
    assert first.manifest.key == again.manifest.key != other.manifest.key


@pytest.mark.parametrize(("rows", "stored_bytes"), [((4, 2, 2), 64), ((6, 2), 64), ((16,), 64), ((8, 8), 64)])
def test_what_a_parameter_is_put_together_of_is_counted_as_far_as_it_is_in_it(small_model, rows, stored_bytes):
    """Matrices that are joined count whole, whatever their sizes; of larger ones the part that is taken."""
    directory = small_model("llama")
    artifact = external(plain(directory), directory)
    parameter = Parameter(path="made", shape=(8, 4), kind="linear", owner="Linear", layer=0)
    held = [
        HeldTensor(name="part", shape=(each, 4), stored_bytes=8 * each, kind="F16", codec=None, read=dict)
        for each in rows
    ]
    artifact._origins["made"] = Origin(form="made", sources=("part",))
    artifact._held["made"] = tuple(held)
    assert artifact._described(parameter).stored_bytes == stored_bytes


def changed(directory, change):
    """The directory's weights, changed."""
    file = directory / "model.safetensors"
    tensors = dict(load_file(file))
    change(tensors)
    file.unlink()
    save_file(tensors, file)
    return plain(directory)


def lacking(tensors):
    del tensors["model.layers.1.mlp.up_proj.weight"]


def beyond(tensors):
    tensors["model.layers.0.self_attn.lora.A"] = np.zeros((4, 64), np.float32)


def biased(tensors):
    tensors["model.layers.0.self_attn.q_proj.bias"] = np.full(64, 0.5, np.float32)


def narrower(tensors):
    tensors["model.norm.weight"] = np.ones(32, np.float32)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lacking, r"model\.safetensors is not the reference's: it lacks model\.layers\.1\.mlp\.up_proj\.weight"),
        (beyond, r"holds model\.layers\.0\.self_attn\.lora\.A, which the reference does not have"),
        (biased, r"holds model\.layers\.0\.self_attn\.q_proj\.bias, which"),
        (narrower, r"model\.norm\.weight has shape \(32,\) against \(64,\)"),
    ],
)
def test_tensors_that_are_not_the_originals_are_named(small_model, change, told):
    source = open_model(small_model("llama", dtype=mx.float32))
    holding = changed(small_model("llama", dtype=mx.float32, seed=1), change)
    with pytest.raises(ModelError, match=told):
        made(holding, source)


@pytest.mark.slow
@pytest.mark.parametrize("square", ["attn.c_proj", "attn.c_attn"])
def test_matrices_that_are_published_turned_are_packed_as_other_layers_are(square, tmp_path):
    """Squares too, which would fit either way; in 16 bits they lie as they are published."""
    save(tmp_path, SMALL["gpt2"], [[1, 2, 3]])
    source = open_model(tmp_path)
    path = next(name for name in source.names if f"0.{square}.weight" in name)
    assert source.origin(path).form == "turned"
    wanted = source.array(path)
    encoded = made(HalvedHolding(Folder(tmp_path)), source)
    encoding = encoded.encoding(path)
    assert encoding is not None
    np.testing.assert_array_equal(encoding.dense(), wanted)
    np.testing.assert_array_equal(made(plain(tmp_path), source).float32(path), wanted)
    assert encoded.tensor(path).stored_bytes == wanted.nbytes

    def on_its_side(tensors):
        name = next(name for name in tensors if name.endswith("h.0.attn.c_attn.weight"))
        tensors[name] = np.ascontiguousarray(tensors[name].T)

    other = tmp_path / "other"
    save(other, SMALL["gpt2"], [[1, 2, 3]])
    with pytest.raises(ModelError, match=r"c_attn\.weight has shape \(64, 192\) against \(192, 64\)"):
        made(changed(other, on_its_side), source)


def test_an_odd_part_of_a_parameter_that_is_put_together_is_named(small_model, monkeypatch):
    """Even where it has the very shape of what is made of it."""
    source = open_model(small_model("llama", dtype=mx.float32))
    of, name = source.origin, "model.layers.0.mlp.down_proj.weight"

    def put_together(path):
        return Origin(form="made", sources=(name,)) if path == name.replace("down", "up") else of(path)

    def odd(tensors):
        tensors[name] = np.ascontiguousarray(tensors[name].T)

    monkeypatch.setattr(source, "origin", put_together)
    with pytest.raises(ModelError, match=r"down_proj\.weight has shape \(128, 64\) against \(64, 128\)\. Name the"):
        made(changed(small_model("llama", dtype=mx.float32, seed=1), odd), source)


def test_rows_that_only_fill_a_vocabulary_up_are_the_originals(small_model):
    """Of embeddings and of the head, each by its own number; encoded, or as they are."""
    source = open_model(small_model("llama", dtype=mx.float32, seed=1))
    shorter = small_model("llama", dtype=mx.float32)

    def cut(tensors):
        tensors["model.embed_tokens.weight"] = tensors["model.embed_tokens.weight"][:2000]
        tensors["lm_head.weight"] = tensors["lm_head.weight"][:2010]

    changed(shorter, cut)
    held = load_file(shorter / "model.safetensors")
    for holding in (plain(shorter), HalvedHolding(Folder(shorter))):
        artifact = made(holding, source)
        assert artifact.fewer_rows == {"model.embed_tokens.weight": 2000, "lm_head.weight": 2010}
        for path, rows in artifact.fewer_rows.items():
            np.testing.assert_array_equal(artifact.float32(path)[:rows], held[path])
            np.testing.assert_array_equal(artifact.float32(path)[rows:], source.array(path)[rows:])
            assert artifact.encoding(path) is None
            assert f"{rows:,} rows of 2,048, the others as in the original" in artifact.tensor(path).note
            assert artifact.tensor(path).stored_bytes == held[path].nbytes


@pytest.mark.parametrize("shape", [(0, 64), (2000, 32), (2049, 64)])
def test_embeddings_of_other_shapes_are_refused(small_model, shape):
    source = open_model(small_model("llama", dtype=mx.float32))

    def other(tensors):
        tensors["model.embed_tokens.weight"] = np.ones(shape, np.float32)

    with pytest.raises(ModelError, match=r"embed_tokens\.weight has shape"):
        made(changed(small_model("llama", dtype=mx.float32, seed=1), other), source)


def test_a_head_that_is_the_embeddings_once_more_is_taken_and_another_is_refused(small_model):
    original = small_model("qwen2", dtype=mx.float32)

    def untie(tensors):
        tensors.pop("lm_head.weight", None)

    changed(original, untie)
    source = open_model(original)
    assert "lm_head.weight" not in source.names
    twice = small_model("qwen2", dtype=mx.float32, seed=1)

    def same(tensors):
        tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"]

    assert made(changed(twice, same), source).names == source.names

    def other(tensors):
        tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"] + 1

    with pytest.raises(ModelError, match=r"output head \(lm_head\.weight\) that is not its embeddings"):
        made(changed(twice, other), source)


def test_a_gguf_may_hold_the_embeddings_as_its_head_once_more(small_model, tmp_path):
    original = small_model("qwen2", dtype=mx.float32, hidden_size=64, intermediate_size=96)
    changed(original, lambda tensors: tensors.pop("lm_head.weight", None))
    source = open_model(original)
    config, _, stored = convert(original, tmp_path / "x.gguf", ("Q8_0",))
    for head, told in ((stored["token_embd.weight"], None), (stored["blk.0.ffn_up.weight"], "does not have")):
        write(tmp_path / "y.gguf", keys_of(config, "qwen2"), stored | {"output.weight": head})
        if told is None:
            assert made(open_candidate(tmp_path / "y.gguf"), source).names == source.names
        else:
            with pytest.raises(ModelError, match=rf"holds output\.weight, which the reference {told}"):
                made(open_candidate(tmp_path / "y.gguf"), source)


def test_biases_of_zero_add_nothing(small_model):
    source = open_model(small_model("llama", dtype=mx.float32))

    def zero(tensors):
        tensors["model.layers.0.self_attn.q_proj.bias"] = np.zeros(64, np.float32)

    holding = changed(small_model("llama", dtype=mx.float32, seed=1), zero)
    assert made(holding, source).names == source.names


@pytest.mark.parametrize("encoded", [False, True])
def test_weights_that_are_no_numbers_are_named(small_model, encoded):
    source = open_model(small_model("llama", dtype=mx.float32))
    directory = small_model("llama", dtype=mx.float32, seed=1)

    def infinite(tensors):
        tensors["model.layers.0.mlp.up_proj.weight"][3, 4] = np.inf

    holding = changed(directory, infinite)
    artifact = made(HalvedHolding(Folder(directory)) if encoded else holding, source)
    with pytest.raises(WeightError, match=r"model\.layers\.0\.mlp\.up_proj\.weight.? (has|holds) NaN or infini"):
        artifact.dense("model.layers.0.mlp.up_proj.weight")


def test_names_of_mlx_lm_are_refused_by_an_engine_that_has_others(small_model):
    directory = small_model("llama")

    class Elsewhere(PlainHolding):
        naming = "mlx-lm"

        def tensor(self, name):
            return None if "up_proj" in name else super().tensor(name)

    class Other:
        name, paths_are_mlx_lms = "other", False

    source = Opened(Checkpoint(directory), Other())
    told = r"mlx-lm's names, and none of them is model\.layers\.0\.mlp\.up_proj\.weight, as the engine 'other' calls it"
    with pytest.raises(ModelError, match=told):
        made(Elsewhere(Folder(directory)), source)


def test_every_small_architecture_tells_its_origins(small_model):
    """Whose names are mlx-lm's already: each parameter is a tensor of its own name."""
    for architecture in ("llama", "qwen2", "qwen3", "phi3", "gemma3_text"):
        source = open_model(small_model(architecture))
        assert {source.origin(path).form for path in source.names} == {"same"}
