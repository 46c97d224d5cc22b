import pytest

from pytest_quantbench.checkpoints.formats.folder import base_model_of
from pytest_quantbench.cli.main import main


@pytest.fixture
def output(tmp_path):
    return tmp_path / "out"


@pytest.mark.model
def test_it_writes_and_says_what_was_written(output, capsys):
    assert main(["convert", "Tiny", "--recipe", "int4-rtn", "--output", str(output)]) == 0
    printed = capsys.readouterr().out
    assert (
        printed == f"{output}: Tiny-int4-rtn as mlx, 4.57 bits per weight, 2.1 MB\nEvery weight is the same number.\n"
    )
    assert {"config.json", "model.safetensors", "tokenizer.json", "README.md"} <= {f.name for f in output.iterdir()}
    assert base_model_of(output) == "Tiny"


@pytest.mark.model
def test_what_differs_is_printed_and_stands_in_the_card(output, capsys):
    assert main(["convert", "Tiny", "--recipe", "int4-rtn", "--output", str(output), "--to", "hf"]) == 0
    first, sentence, *_ = capsys.readouterr().out.splitlines()
    assert "as hf, 16.02 bits per weight, where the recipe takes 4.53" in first
    assert sentence.startswith("Rounding to bfloat16 changes decoded weights in ")
    assert sentence in (output / "README.md").read_text()


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["Tiny", "--recipe", "int2"], "int2 cannot be written as MLX: aqlm's layer is no grid of codes and scales"),
        (["Tiny", "--recipe", "int5"], "Unknown recipe 'int5'"),
        (["Nobody", "--recipe", "int4"], "Unknown model 'Nobody'"),
        (["Tiny", "--recipe", "int4", "--calibration", "/no/such/file"], "--calibration /no/such/file: there is no"),
        (["Tiny", "--recipe", "int4", "--seed", "-1"], "--seed -1: give a number from 0"),
        (["Tiny", "--recipe", "int4-gptq", "--calibration", "none"], "int4-gptq needs calibration"),
    ],
)
def test_what_cannot_be_is_one_sentence_and_leaves_nothing(output, arguments, told, capsys):
    assert main(["convert", *arguments, "--output", str(output)]) == 2
    assert capsys.readouterr().err.startswith(f"quantbench: {told}")
    assert list(output.parent.iterdir()) == []


def test_a_directory_that_holds_something_is_not_written_into(output, capsys):
    output.mkdir()
    (output / "mine").write_text("x")
    assert main(["convert", "Tiny", "--recipe", "int4-rtn", "--output", str(output)]) == 2
    assert "is there already, and not empty" in capsys.readouterr().err
    assert (output / "mine").read_text() == "x"


def test_a_form_that_there_is_not_is_refused(output, capsys):
    with pytest.raises(SystemExit) as end:
        main(["convert", "Tiny", "--recipe", "int4", "--output", str(output), "--to", "onnx"])
    assert end.value.code == 2
    assert "invalid choice: 'onnx'" in capsys.readouterr().err


@pytest.mark.slow
def test_without_a_recipe_a_file_is_decoded(tmp_path, capsys):
    made = tmp_path / "made"
    assert main(["convert", "Tiny", "--recipe", "int4-q4_k_m", "--output", str(made), "--to", "gguf"]) == 0
    file, output = made / "Tiny-int4-q4_k_m.gguf", tmp_path / "out"
    capsys.readouterr()
    assert main(["convert", str(file), "--output", str(output), "--dtype", "float32"]) == 0
    assert capsys.readouterr().out == f"{output}: {file} as float32, 14.7 MB\nEvery weight is the same number.\n"
    assert base_model_of(output) == "Tiny"
    assert (output / "tokenizer.json").is_file()


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["Tiny"], "Tiny is a model of the catalogue, and not quantized: say at which recipe, such as --recipe int4"),
        (["{}", "--to", "gguf"], "--to gguf needs --recipe ID. Without one a quantized model is decoded: --to hf."),
        (["{}/nowhere"], "{}/nowhere: there is no such file or directory."),
        (["{}"], "{} is in no format that is read here. These are: "),
    ],
)
def test_without_a_recipe_what_cannot_be_read_is_one_sentence(tmp_path, output, arguments, told, capsys):
    empty = tmp_path / "empty"
    empty.mkdir()
    given = [each.format(empty) for each in arguments]
    assert main(["convert", *given, "--output", str(output)]) == 2
    assert capsys.readouterr().err.startswith(f"quantbench: {told.format(empty)}")
    assert not output.exists()


@pytest.mark.slow
def test_weights_that_no_gate_judges_are_told(output, capsys, monkeypatch):
    """MLX's form is compressed by MLX; where a gate takes another engine, its calibration is another."""
    pytest.importorskip("torch")
    monkeypatch.setenv("QUANTBENCH_ENGINE", "torch")
    calibrated = ["convert", "Tiny", "--recipe", "int4-gptq", "--calibration", "tiny-train", "--output"]
    assert main([*calibrated, str(output)]) == 0
    assert "compressed by mlx, whose calibration differs in its last bits from that of torch" in capsys.readouterr().out
    monkeypatch.setenv("QUANTBENCH_ENGINE", "mlx")
    assert main([*calibrated, f"{output}-2"]) == 0
    assert "no gate has seen them" not in capsys.readouterr().out


def test_the_engine_of_a_project_compresses(output, tmp_path, capsys, monkeypatch):
    monkeypatch.delenv("QUANTBENCH_ENGINE", raising=False)
    (tmp_path / "pyproject.toml").write_text('[tool.quantbench]\nengine = "jax"')
    monkeypatch.chdir(tmp_path)
    assert main(["convert", "Tiny", "--recipe", "int4-rtn", "--to", "hf", "--output", str(output)]) == 2
    assert "[tool.quantbench] engine = 'jax': Unknown engine" in capsys.readouterr().err
