"""Compiled operations of a decode step against PyTorch's own, and graphs in which they are put in."""

import pytest

torch = pytest.importorskip("torch")

from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_quantbench.engines.torch import captured_step, tracing
from pytest_quantbench.engines.torch.captured_step import captured
from pytest_quantbench.engines.torch.layers import linear
from pytest_quantbench.engines.torch.step_kernels import attend, rms_norm, rotate
from pytest_quantbench.engines.torch.tracing import UntraceableError
from pytest_quantbench.quantizers import Layer

F = torch.nn.functional


def attended(query, keys, values, mask, sinks, scale, softcap):
    """Attention of one token, spelled out in float64."""
    shared = query.shape[1] // keys.shape[1]
    query, keys, values = (each[0].double() for each in (query, keys, values))
    scores = query @ keys.repeat_interleave(shared, 0).transpose(1, 2) * scale  # (heads, 1, places)
    scores = torch.tanh(scores / softcap) * softcap if softcap else scores
    scores = scores.masked_fill(~mask[0], -torch.inf)
    if sinks is not None:
        scores = torch.cat([scores, sinks.double()[:, None, None]], -1)
    shares = scores.softmax(-1)[..., : keys.shape[1]]
    return (shares @ values.repeat_interleave(shared, 0))[None].transpose(1, 2)


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_attention_of_one_token(data):
    draw = lambda low, high: data.draw(st.integers(low, high))  # noqa: E731
    torch.manual_seed(draw(0, 1000))
    key_heads, shared, places, width, out = draw(1, 3), draw(1, 3), draw(1, 70), draw(1, 40), draw(1, 40)
    query = torch.randn(1, key_heads * shared, 1, width) * 3
    keys, values = torch.randn(1, key_heads, places, width), torch.randn(1, key_heads, places, out)
    mask = torch.rand(1, 1, 1, places) < 0.6
    mask[..., draw(0, places - 1)] = True
    sinks = torch.randn(key_heads * shared) if draw(0, 1) else None
    given_too = (sinks, width**-0.5, float(draw(0, 1) * 5))
    found = attend(query, keys, values, mask, *given_too)
    torch.testing.assert_close(found.double(), attended(query, keys, values, mask, *given_too), atol=2e-6, rtol=2e-5)


@pytest.mark.parametrize("size", [1e-4, 1.0, 300.0])
def test_scores_of_any_size(size):
    torch.manual_seed(0)
    query, keys, values = (torch.randn(1, 2, n, 16) * s for n, s in ((1, size), (300, 1), (300, 1)))
    mask = torch.ones(1, 1, 1, 300, dtype=torch.bool)
    found = attend(query, keys, values, mask, None, 1.0, 0.0)
    torch.testing.assert_close(
        found.double(), attended(query, keys, values, mask, None, 1.0, 0.0), atol=3e-6, rtol=1e-4
    )


@pytest.mark.parametrize("weighted", [True, False])
def test_norms(weighted):
    torch.manual_seed(0)
    x, weight = torch.randn(2, 5, 48) * 7, torch.randn(48) if weighted else None
    torch.testing.assert_close(rms_norm(x, weight, 1e-5), F.rms_norm(x, (48,), weight, 1e-5))


def test_rotations():
    torch.manual_seed(0)
    x, angles = torch.randn(1, 3, 1, 16), torch.randn(1, 1, 1, 16)
    halves = torch.cat([-x[..., 8:], x[..., :8]], -1)
    expected = x * angles.cos() + halves * angles.sin()
    torch.testing.assert_close(rotate(x, angles.cos(), angles.sin()), expected)


@pytest.mark.parametrize("op", ["attend", "rms_norm", "rotate"])
def test_operations_are_registered_as_pytorch_wants_them(op):
    x, row = torch.randn(1, 4, 1, 8), torch.randn(1, 1, 1, 8)
    keys, mask = torch.randn(1, 2, 6, 8), torch.ones(1, 1, 1, 6, dtype=torch.bool)
    given = {
        "attend": (x, keys, keys, mask, None, 0.3, 0.0),
        "rms_norm": (x, row[0, 0, 0], 1e-6),
        "rotate": (x, row, row),
    }
    torch.library.opcheck(
        getattr(torch.ops.quantbench, op).default, given[op], test_utils=("test_schema", "test_faketensor")
    )


class Small(torch.nn.Module):  # type: ignore[name-defined]
    """A step with everything that a binding has to tell apart: views, memory that is written, what never changes."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(1)
        self.weight = torch.nn.Parameter(torch.randn(8, 8), requires_grad=False)
        self.register_buffer("seen", torch.zeros(4, 8), persistent=False)

    def forward(self, x, place):
        once = (self.weight.float() + 1).T  # the same in every step
        y = x @ once
        self.seen.index_copy_(0, place, y)
        counts = torch.zeros(8)
        counts.add_(self.seen.sum(0))  # begins anew in every step
        left, right = (y.view(2, 4) * 2).unbind(0)
        best = torch.topk(counts, 3)
        normed = y * torch.rsqrt(y.pow(2).mean(-1, keepdim=True) + 1e-6)
        return normed.view(-1), left + right, best.values, torch.arange(8)[best.indices]


def test_a_program_does_in_every_step_what_the_module_does():
    module, x, place = Small(), torch.zeros(1, 8), torch.zeros(1, dtype=torch.int64)
    program = captured(module, (x, place))
    module.seen.zero_()
    plain = Small()
    torch.manual_seed(5)
    for step in range(6):
        x.copy_(torch.randn(1, 8))
        place.fill_(step % 4)
        program.run()
        for found, expected in zip(program.outputs, plain(x.clone(), place.clone()), strict=True):
            torch.testing.assert_close(found, expected)
    torch.testing.assert_close(module.seen, plain.seen)


def test_no_stack_is_looked_up_for_an_operation(monkeypatch):
    nodes = []
    monkeypatch.setattr(captured_step, "simplified", lambda graph: nodes.extend(graph.nodes))
    is_setting, before = hasattr(torch.fx.config, tracing.STACKS), getattr(torch.fx.config, tracing.STACKS, False)
    captured(Small(), (torch.zeros(1, 8), torch.zeros(1, dtype=torch.int64)))
    assert len(nodes) > 10
    assert not any(node.meta.get("stack_trace") for node in nodes) or not is_setting
    with pytest.raises(UntraceableError):
        captured(Module(lambda x: x + 1 if x.sum() > 0 else x - 1), (torch.ones(2),))
    assert getattr(torch.fx.config, tracing.STACKS) == before


def test_what_does_not_change_is_not_done_again():
    module = Small()
    program = captured(module, (torch.zeros(1, 8), torch.zeros(1, dtype=torch.int64)))
    called = [getattr(function, "__name__", str(function)) for function, _, _ in program.calls]
    assert len(called) < 14
    assert "_rms_norm" in called  # recognized
    assert not [name for name in called if "view" in name or name.startswith("unbind")]


def lasting(program):
    """Where everything lies that a program holds."""
    return {tensor.untyped_storage().data_ptr() for tensor in (*program.held, *program.outputs)}


def test_what_one_product_gives_another_stays_where_it_is():
    """Nothing but the program holds it: others take its memory otherwise, and are written over."""
    torch.manual_seed(0)
    shapes, weights, layers = ((4096, 64), (64, 4096)), [], []
    for out, into in shapes:
        weights.append(torch.randn(out, into).bfloat16() * into**-0.5)
        layers.append(linear(Layer(), lambda: weights[-1], torch.device("cpu"), torch.float32))
    module, x = torch.nn.Sequential(*layers), torch.zeros(1, 1, 64)
    program = captured(module, (x,))
    middle = [tensor for tensor in program.held if tensor.numel() == 4096]
    assert middle
    addresses = lasting(program)
    others = []
    for _ in range(8):
        x.copy_(torch.randn(1, 1, 64))
        others.append(torch.full((1, 4096), torch.nan))
        assert others[-1].data_ptr() not in addresses
        program.run()
        expected = x @ weights[0].float().T @ weights[1].float().T
        torch.testing.assert_close(program.outputs[0], expected, atol=1e-4, rtol=1e-4)
    assert all(tensor.isnan().all() for tensor in others)


class Module(torch.nn.Module):  # type: ignore[name-defined]
    """One that does what a function does."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, *given):
        return self.function(*given)


@pytest.mark.parametrize(
    "function",
    [
        lambda x: (x * 2).to(torch.float32),  # a result that is simplified away
        lambda x: (x.T * 1.5).contiguous().view(-1),  # of the same shape, and not what it is given
        lambda x: (x + 1).split(2)[0].sort().values,
        lambda x: torch.stack([x + 1, x * 2]).unbind(0)[1],
        lambda x: x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6).to(torch.float32),
    ],
)
def test_forms_of_steps(function):
    torch.manual_seed(3)
    x = torch.zeros(4, 6)
    program = captured(Module(function), (x,))
    for _ in range(3):
        x.copy_(torch.randn(4, 6))
        program.run()
        torch.testing.assert_close(program.outputs[0], function(x.clone()))


def add_onto(x, y):
    y.add_(x)


def test_operations_that_write_into_their_second_argument():
    with torch.library._scoped_library("quantbench_tests", "FRAGMENT") as library:
        library.define("onto(Tensor x, Tensor(a!) y) -> ()")
        library.impl("onto", add_onto, "CPU")
        library.impl("onto", lambda x, y: None, "Meta")

        def step(x):
            zeros = torch.zeros(3)
            torch.ops.quantbench_tests.onto(x, zeros)
            return zeros * 2

        x = torch.ones(3)
        program = captured(Module(step), (x,))
        x.fill_(5)
        program.run()
        program.run()
        torch.testing.assert_close(program.outputs[0], torch.full((3,), 10.0))


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x + 1 if x.sum() > 0 else x - 1,
        lambda x: torch.cond(x.sum() > 0, lambda x: x + 1, lambda x: x - 1, (x,)),  # a part that is a graph itself
        lambda x: torch.full((2,), x.sum().item()),  # a number that is another in every step
        lambda x: (x + 1, 3),
    ],
)
def test_what_cannot_be_captured_is_told(function, capfd):
    with pytest.raises(UntraceableError):
        captured(Module(function), (torch.ones(2),))
    assert capfd.readouterr() == ("", "")
