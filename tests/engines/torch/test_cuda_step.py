"""Steps for CUDA as far as a CPU shows them: what PyTorch traces of them, and what is said where it does not."""

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from engines.torch.decoding import CAPTURED, PROMPT, follow, loaded, made, plain_logits

from pytest_quantbench.engines.torch import cuda_step, decode_step
from pytest_quantbench.engines.torch.tracing import UntraceableError
from pytest_quantbench.errors import QuantbenchError

INPUT = (torch.zeros(1, 4),)


@pytest.fixture
def traced(monkeypatch):
    """Decoders make their steps as for CUDA, and what is traced is run on the CPU."""

    def captured(step, inputs):
        run = cuda_step.compiled(step, inputs, "eager")
        found = tuple(each.clone() for each in run(*inputs))

        def again():
            for result, new in zip(found, run(*inputs), strict=True):
                result.copy_(new)

        return again, found

    made_for = decode_step._captured
    monkeypatch.setattr(cuda_step, "captured", captured)
    monkeypatch.setattr(
        decode_step, "_captured", lambda one, inputs, device: made_for(one, inputs, torch.device("cuda"))
    )


class Step(torch.nn.Module):  # type: ignore[name-defined]
    """One whose code is the same for every width."""

    def __init__(self, width):
        super().__init__()
        self.inner = torch.nn.Linear(4, width)

    def forward(self, x):
        return self.inner(x), x


def test_more_models_in_a_process_than_pytorch_compiles_one_code_for():
    runs = [cuda_step.compiled(Step(width), INPUT, "eager") for width in range(1, 13)]
    with torch.no_grad():
        assert [run(*INPUT)[0].shape[1] for run in runs[-1:]] == [12]


def test_what_a_compiler_of_pytorch_s_says_is_a_sentence():
    def broken(graph, inputs):
        raise RuntimeError("ptxas fatal\nand a page more")

    with pytest.raises(QuantbenchError, match=r"cannot compile a decode step: .*ptxas fatal.* choose another engine"):
        cuda_step.compiled(Step(3), INPUT, broken)


class Branching(Step):
    """Whose next operation hangs on a value."""

    def forward(self, x):
        return (x + 1 if x.sum() > 0 else x - 1), x


def test_what_hangs_on_values_cannot_be_traced(capfd):
    with pytest.raises(UntraceableError):
        cuda_step.compiled(Branching(3), INPUT, "eager")
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("name", ["llama-default", *(pytest.param(n, marks=pytest.mark.slow) for n in CAPTURED[1:])])
def test_steps_are_traced_whole(name, tmp_path, traced):
    opened, plain = made(name, tmp_path / name)
    decoder = loaded(opened, tmp_path).decoder(40)
    assert decoder.step == "captured"
    follow(decoder, lambda text: plain_logits(plain, text))


def test_what_cannot_be_traced_for_cuda_is_run_module_by_module_and_says_so(tmp_path, traced, caplog):
    opened, plain = made("qwen2-dynamic", tmp_path / "dynamic")
    resident = loaded(opened, tmp_path)
    follow(resident.decoder(40), lambda text: plain_logits(plain, text))
    assert resident.step == "module by module"
    assert "A decode step is run module by module: " in caplog.text


def test_without_triton_the_step_is_traced_and_not_compiled(monkeypatch, caplog):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert cuda_step.backend() == "eager"
    assert "Triton is not installed" in caplog.text


def test_quantized_steps_are_traced_too(tmp_path, traced):
    resident = loaded(made("llama-default", tmp_path / "llama")[0], tmp_path, "int4-rtn")
    decoder = resident.decoder(40)
    assert decoder.step == "captured"
    token = decoder.begin(PROMPT)
    assert token == resident.decoder(40).begin(PROMPT)
