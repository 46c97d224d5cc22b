"""A checkpoint as Transformers sees it: names, types, shapes, what each parameter is there for and is made of."""

import json
import shutil

import ml_dtypes
import numpy as np
import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from torch_models import opened, stored
from transformers_models import DEEPSEEK, SMALL, save

from pytest_quantbench import engines
from pytest_quantbench.checkpoints.checkpoint import Checkpoint
from pytest_quantbench.errors import ModelError, WeightError

_SMALL, _MOE = SMALL["llama-defaults"][1], SMALL["mixtral"][1]
MODELS = SMALL | {
    "qwen2_moe": (
        "qwen2_moe",
        _MOE | {"num_experts": 4, "shared_expert_intermediate_size": 32, "num_local_experts": 4},
    ),
    "gpt_oss": ("gpt_oss", _SMALL | {"head_dim": 16, "num_local_experts": 4, "num_experts_per_tok": 2}),
    "deepseek_v3": DEEPSEEK,
}
TOKENS = np.array([[3, 4, 5]])


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A model directory of this name, written once."""
    made = {}

    def directory(name):
        if name not in made:
            made[name] = tmp_path_factory.mktemp(name)
            save(made[name], MODELS[name], TOKENS)
        return made[name]

    return directory


@pytest.fixture
def own(written, tmp_path):
    """A copy of one that may be changed."""

    def directory(name="llama-defaults", **keys):
        copied = shutil.copytree(written(name), tmp_path / name)
        config = json.loads((copied / "config.json").read_text())
        (copied / "config.json").write_text(json.dumps(config | keys))
        return copied

    return directory


def halved(tensors):
    return {name: tensor.bfloat16() for name, tensor in tensors.items()}


def test_names_types_and_tensors(own):
    directory = own()
    stored(directory, halved)
    model = opened(directory)
    assert model.dtype == "bfloat16"
    assert model.layers == [f"model.layers.{layer}." for layer in range(3)]
    assert model.names[0] == "model.embed_tokens.weight"
    name = "model.layers.0.self_attn.q_proj.weight"
    assert model.tensor(name).shape == (64, 64)
    assert model.array(name).dtype == ml_dtypes.bfloat16
    for _ in range(2):  # again and again
        np.testing.assert_array_equal(model.array(name).astype(np.float32), model.tensor(name).float().numpy())


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_weights_that_are_no_numbers_are_refused_by_name(own, value):
    directory, name = own(), "model.layers.1.mlp.up_proj.weight"

    def change(tensors):
        tensors[name][3, 5] = value
        return tensors

    stored(directory, change)
    model = opened(directory)
    with pytest.raises(WeightError, match=r"layers\.1\.mlp\.up_proj\.weight of .* has NaN or infinite values"):
        model.array(name)
    assert model.array("model.norm.weight").shape == (64,)


def kinds(model):
    return {each.path.removeprefix(model.layers[1]): each.kind for each in model.parameters if each.layer in (1, None)}


def test_what_each_parameter_of_a_mixture_is_there_for(written):
    found = kinds(opened(written("qwen2_moe")))
    assert found["model.embed_tokens.weight"] == "embedding"
    assert found["lm_head.weight"] == found["self_attn.q_proj.weight"] == "linear"
    assert found["mlp.experts.gate_up_proj"] == found["mlp.experts.down_proj"] == "experts"
    assert found["mlp.gate.weight"] == found["mlp.shared_expert_gate.weight"] == "router"
    assert found["mlp.shared_expert.up_proj.weight"] == "linear"
    assert found["input_layernorm.weight"] == found["self_attn.q_proj.bias"] == "other"


def test_stacks_that_are_multiplied_from_the_other_side_are_turned(written):
    model = opened(written("gpt_oss"))
    found = kinds(model)
    assert found["mlp.experts.gate_up_proj_bias"] == "expert bias"
    assert found["mlp.router.weight"] == "router"
    shapes = {each.path: each.shape for each in model.parameters}
    path = "model.layers.0.mlp.experts.down_proj"
    assert shapes[path] == (4, 64, 96)  # (experts, out, in)
    assert model.tensor(path).shape == (4, 64, 96)
    assert model.origin(path).form == "made"


@pytest.mark.parametrize("name", ["llama-biases", "gpt2", "gemma3_text-tied", "phi3-default", "cohere", "deepseek_v3"])
def test_every_other_matrix_is_one_that_a_quantizer_takes(written, name):
    model = opened(written(name))
    for each in model.parameters:
        if len(each.shape) == 2:
            assert each.kind in ("linear", "embedding", "router"), each
        assert each.shape == tuple(model.tensor(each.path).shape)


def test_matrices_of_gpt2_are_published_the_other_way_around(written):
    model = opened(written("gpt2"))
    path = "transformer.h.0.attn.c_attn.weight"
    assert model.array(path).shape == (192, 64)  # (out, in)
    assert model.origin(path).form == "turned"
    assert model.origin("transformer.wte.weight").form == "same"


def test_what_experts_are_made_of(written):
    model = opened(written("mixtral"))
    gate_up = model.origin("model.layers.0.mlp.experts.gate_up_proj")
    down = model.origin("model.layers.0.mlp.experts.down_proj")
    assert gate_up.form == "made"
    assert len(gate_up.sources) == 8  # gate and up of four experts
    assert down.form == "stack"
    assert len(down.sources) == 4
    assert all(".2." not in source for source in down.sources[:2])  # in the experts' order


@pytest.mark.parametrize("name", ["llama-biases", "gpt2", "mixtral", "qwen3_moe", "gpt_oss"])
def test_a_parameter_is_made_of_its_sources(written, name):
    directory = written(name)
    model = opened(directory)
    from pytest_quantbench.checkpoints.tensor_file import load

    published = load(directory / "model.safetensors")
    for path in model.names:
        origin = model.origin(path)
        made = model.made(path, {source: published[source] for source in origin.sources})
        np.testing.assert_array_equal(made, model.array(path))
        one = published[origin.sources[0]]
        expected = {"same": one, "turned": one.T, "stack": np.stack([published[each] for each in origin.sources])}
        if origin.form in expected:
            np.testing.assert_array_equal(made, expected[origin.form])


def test_weights_that_are_whole_numbers_are_none(own):
    directory = own()
    stored(directory, lambda tensors: tensors | {"model.norm.weight": torch.ones(64, dtype=torch.int16)})
    with pytest.raises(ModelError, match=r"model.norm.weight is stored as torch\.int16: these are no weights"):
        opened(directory)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"intermediate_size": 256}, r"has shape \(96, 64\), config.json says \(256, 64\)"),
        ({"num_hidden_layers": 4}, "it lacks model.layers.3"),
        ({"num_hidden_layers": 2}, "it has model.layers.2"),
    ],
)
def test_weights_of_another_model_are_refused_by_name(own, keys, message):
    with pytest.raises(ModelError, match=message):
        opened(own(**keys))


def test_two_tensors_that_may_be_the_same_parameter(own):
    directory = own()
    stored(directory, lambda tensors: tensors | {"norm.weight": torch.zeros(64)})
    with pytest.raises(ModelError, match=r"are both model\.norm.weight: which of them is meant is not known"):
        opened(directory)


def test_a_missing_expert_is_named(own):
    directory = own("mixtral")
    lost = next(name for name in opened(directory).origin("model.layers.1.mlp.experts.down_proj").sources)
    stored(directory, lambda tensors: {name: tensor for name, tensor in tensors.items() if name != lost})
    with pytest.raises(ModelError, match=r"layers\.1\.mlp\.experts\.down_proj has shape \(3, 64, 96\)"):
        opened(directory)


FORMS = {  # Transformers writes them as language_model.model.…
    "as its modules are called": lambda name: name.replace("language_model.model.", "model.language_model."),
    "without what surrounds them": lambda name: name.removeprefix("language_model."),
    "without the name of the model in the model": lambda name: name.replace("language_model.model.", "language_model."),
}


@pytest.mark.slow  # its model of pictures is not small
@pytest.mark.parametrize("form", FORMS)
def test_a_text_model_is_found_wherever_it_lies(own, form):
    directory = own("gemma3-tied")
    name = "model.layers.1.mlp.up_proj.weight"
    expected = opened(directory).array(name)
    renamed = FORMS[form]
    stored(directory, lambda tensors: {renamed(each): tensor for each, tensor in tensors.items()})
    np.testing.assert_array_equal(opened(directory).array(name), expected)


def with_head(scale):
    return lambda tensors: tensors | {"lm_head.weight": tensors["model.embed_tokens.weight"] * scale}


def test_a_head_that_is_stored_all_the_same(own):
    directory = own("llama-yarn")  # whose config says that it is the embeddings
    stored(directory, with_head(1.0))
    assert "lm_head.weight" not in opened(directory).names


def test_a_head_that_is_not_what_the_config_says(own):
    directory = own("llama-yarn")
    stored(directory, with_head(2.0))
    with pytest.raises(ModelError, match=r"an output head .* that is not the embeddings"):
        opened(directory)


def test_a_head_of_which_the_config_says_nothing(own):
    directory = own("llama-yarn", tie_word_embeddings=None)
    assert "lm_head.weight" not in opened(directory).names
    stored(directory, with_head(2.0))
    assert "lm_head.weight" in opened(directory).names


def test_what_older_files_keep_beside_the_weights_does_no_harm(own):
    directory = own()
    names = ("model.layers.0.self_attn.rotary_emb.inv_freq", "model.vision_tower.x", "vision_tower.y")
    stored(directory, lambda tensors: tensors | {name: torch.ones(8) for name in names})
    assert len(opened(directory).names) == len(opened(directory).parameters)


def test_code_of_a_repository_is_not_run(own):
    directory = own(auto_map={"AutoModelForCausalLM": "modeling_llama.Evil"})
    (directory / "modeling_llama.py").write_text("raise SystemExit('run')")
    with pytest.warns(UserWarning, match=r"code of its own .*Evil.*, which is not run: .*Transformers' own 'llama'"):
        opened(directory)


def test_an_architecture_with_nothing_but_code_of_its_own_is_refused(own):
    directory = own(model_type="made_up", auto_map={"AutoConfig": "configuration_made_up.Config"})
    with pytest.raises(ModelError, match=r"'made_up' is not one that Transformers has\. .* own code .* never run"):
        opened(directory)


def test_deleted_weights_are_opened_when_they_are_needed(own):
    directory = own()
    sha256, brought = Checkpoint(directory).sha256, []
    gone = engines.get("torch").open(Checkpoint(directory, sha256=sha256, bring=lambda: brought.append(1)))
    assert not brought
    assert gone.tensor("model.norm.weight").shape == (64,)
    assert brought == [1]
    gone.let_go()
    assert gone.array("model.norm.weight").shape == (64,)
