"""Compiled operations of a decode step against PyTorch's own, and graphs in which they are put in."""

import pytest

torch = pytest.importorskip("torch")

from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_quantbench.engines.torch import captured_step
from pytest_quantbench.engines.torch.captured_step import captured
from pytest_quantbench.engines.torch.step_kernels import attend, rms_norm, rotate

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


def test_what_does_not_change_is_not_done_again():
    module = Small()
    program = captured(module, (torch.zeros(1, 8), torch.zeros(1, dtype=torch.int64)))
    called = [getattr(function, "__name__", str(function)) for function, _, _ in program.calls]
    assert len(called) < 14
    assert "_rms_norm" in called  # recognized
    assert not [name for name in called if "view" in name or name.startswith("unbind")]


def test_what_hangs_on_values_is_told():
    class Branching(torch.nn.Module):  # type: ignore[name-defined]
        def forward(self, x):
            return x + 1 if x.sum() > 0 else x - 1

    with pytest.raises(captured_step.UNEXPORTABLE):
        captured(Branching(), (torch.ones(2),))
