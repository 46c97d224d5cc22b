"""Modules of compiled kernels: called, copied, moved, exported, by one thread and by two."""

import copy

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("llvmlite")

from engines.torch.kernels.cpu import layers_of_noise as noise

from pytest_quantbench.engines.torch.kernels.cpu import codes_in_groups, machine_code
from pytest_quantbench.engines.torch.kernels.cpu.product import bind
from pytest_quantbench.quantizers.layer import Layer


@pytest.fixture
def module():
    grid = noise.affine(np.random.default_rng(0), outs=200, ins=128, bits=4, group=64)
    return codes_in_groups.product(Layer(grid=grid), machine_code.instructions())


@pytest.fixture
def inputs():
    return torch.from_numpy(np.random.default_rng(1).standard_normal((3, 128)).astype(np.float32))


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def test_direct_calls_give_the_same_and_write_where_they_are_told(module, inputs):
    wanted, out = module(inputs), torch.full((3, 200), 7.0)
    assert module.direct(inputs, out) is out
    assert torch.equal(out, wanted)


def test_inputs_of_any_shape(module, inputs):
    assert torch.equal(module(inputs[:2].reshape(2, 1, 128)), module(inputs)[:2].reshape(2, 1, 200))
    assert torch.equal(module(inputs[0]), module(inputs)[0])


def test_two_threads_do_the_same(module, inputs, two_threads):
    together = module(inputs)
    torch.set_num_threads(1)
    assert torch.equal(module(inputs), together)


@pytest.mark.skipif(machine_code._openmp() is None, reason="PyTorch has no OpenMP here")
def test_a_thread_of_a_team_does_its_share(inputs, module, two_threads, monkeypatch):
    """The function that all threads call is what runs: with the other one taken away, too."""
    monkeypatch.setattr(machine_code.MachineCode, "alone", None, raising=False)
    assert torch.isfinite(module(inputs)).all()


def test_copies_live_on_when_the_original_is_gone(module, inputs):
    wanted, twin = module(inputs), copy.deepcopy(module)
    for buffer in module.buffers():
        buffer.zero_()
    assert torch.equal(twin(inputs), wanted)


def test_a_module_that_was_moved_reads_its_new_buffers(module, inputs):
    wanted = module(inputs)
    old = list(module.buffers())
    module._apply(torch.clone)
    for buffer in old:
        buffer.zero_()
    assert torch.equal(module(inputs), wanted)


def test_an_exported_program_has_the_operator_in_it(module, inputs):
    exported = torch.export.export(module, (inputs,), strict=False)
    assert "quantbench.cpu_product" in str(exported.graph)
    assert torch.equal(exported.module()(inputs), module(inputs))


def test_a_bound_call_is_made_again_with_other_inputs(module, inputs):
    exported = torch.export.export(module, (inputs,), strict=False)
    (node,) = (each for each in exported.graph.nodes if "cpu_product" in str(each.target))
    _, _, numbers, rows, key = node.args
    x, out = torch.zeros(3, 128), torch.empty(3, 200)
    function, arguments = bind((x, list(module.buffers()), numbers, rows, key), out)
    x.copy_(inputs)
    function(*arguments)
    assert torch.equal(out, module(inputs))
    x.zero_()
    function(*arguments)
    assert not out.any()


def test_the_operator_passes_pytorchs_own_checks(module, inputs):
    given = (inputs, module._arrays(), module._numbers, module.rows, module.key)
    torch.library.opcheck(torch.ops.quantbench.cpu_product, given, test_utils=("test_schema", "test_faketensor"))


def test_assembly_can_be_read(module, inputs):
    from pytest_quantbench.engines.torch.kernels.cpu.product import code_of

    module(inputs)
    assert "ret" in code_of(module.key).assembly


@pytest.mark.slow
@pytest.mark.parametrize(
    ("triple", "cpu", "uses"),
    [("x86_64-unknown-linux-gnu", "haswell", "ymm"), ("arm64-apple-macosx14", "apple-m1", "fmla")],
)
def test_portable_kernels_are_written_for_other_cpus(triple, cpu, uses):
    """With the vectors that these have, and without what only AVX-512 has. They are not run here."""
    import llvmlite.binding as llvm

    from pytest_quantbench.engines.torch.kernels.cpu import tiled_job
    from pytest_quantbench.engines.torch.kernels.cpu.product import PLANS

    grid = noise.affine(np.random.default_rng(0), outs=40, ins=128, bits=3, group=64, centred=False)
    plan = PLANS[codes_in_groups.product(Layer(grid=grid), machine_code.PORTABLE).key]
    code = tiled_job.written(plan.kind.grid(plan.cpu), plan.beside, plan.cpu)
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    machine = llvm.Target.from_triple(triple).create_target_machine(cpu=cpu, opt=3)
    module = llvm.parse_assembly(str(code.module))
    module.triple, module.data_layout = triple, str(machine.target_data)
    assembly = machine.emit_assembly(module)
    assert uses in assembly
    assert "zmm" not in assembly
