"""What every method for the key-value cache has to keep to, as checks for anyone's own: `quantbench conform --kv NAME`.

Each check asks what a query sees, as an engine does: by a method's form, and by nothing else of it.
"""

import dataclasses
from collections.abc import Callable, Iterator, Mapping

import numpy as np

from pytest_quantbench.catalog.recipes import Part
from pytest_quantbench.errors import QuantbenchError
from pytest_quantbench.quantizers import field_names, kv
from pytest_quantbench.quantizers.kv import protocol
from pytest_quantbench.quantizers.kv.held_bits import FULL_BITS, head_bits
from pytest_quantbench.quantizers.kv.protocol import CacheForm, Floats, KVQuantizer
from pytest_quantbench.workbench.conformance import problem
from pytest_quantbench.workbench.trials import demand

PARTS: tuple[protocol.Part, ...] = ("keys", "values")
WIDTHS = (8, 4, 3, 2, 1)
CHANNELS = (64, 128, 48, 6)  # of a head
HEADS, EACH = 2, 2  # heads of keys, and of queries for each
MOST = 4096  # tokens that are held when bits are compared


def numbers(tokens: int, channels: int, seed: int = 0, heads: int = HEADS) -> tuple[Floats, Floats, Floats]:
    """(heads, tokens, channels) keys, of which some channels are large, and values; (query heads, …) queries."""
    rng = np.random.default_rng(seed)
    keys, values = rng.standard_normal((2, heads, tokens, channels)).astype(np.float32)
    queries = rng.standard_normal((heads * EACH, tokens, channels)).astype(np.float32)
    keys[..., :: max(channels // 4, 1)] *= 10
    return keys, values, queries


def longest(form: CacheForm) -> int:
    """So many tokens that every stage has been reached, and one more chunk."""
    return max((each.age + 2 * each.chunk for part in PARTS for each in form.stages(part)), default=1) + 1


def seen(form: CacheForm, given: tuple[Floats, Floats, Floats], position: int) -> tuple[Floats, Floats]:
    """What the query of this position sees of keys and of values, each (heads, position + 1, channels)."""
    keys, values, queries = given
    found = []
    for part, whole in zip(PARTS, (keys, values), strict=True):
        reached = form.reached(part, np.array([position]), np.arange(position + 1))[0]
        own = whole[:, : position + 1].copy()
        for stage in set(reached.tolist()) - {-1}:
            back = form.given_back(part, stage, whole, queries, keys)
            demand(back.shape == whole.shape, f"{part} {whole.shape} come back as {back.shape}")
            own[:, reached == stage] = back[:, : position + 1][:, reached == stage]
        found.append(own)
    return found[0], found[1]


def speaks_the_protocol(method: KVQuantizer) -> None:
    """It is a frozen dataclass with a name, a version that is a whole number, and forms."""
    parameters = getattr(type(method), "__dataclass_params__", None)
    demand(dataclasses.is_dataclass(method) and parameters.frozen, "it is no frozen dataclass")
    demand(type(method.version) is int, f"version = {method.version!r} is no whole number")
    for channels in CHANNELS:
        form = method.form(channels)
        demand(isinstance(form, CacheForm), f"form({channels}) is a {type(form).__name__}, no CacheForm")
        demand(form == method.form(channels), f"form({channels}) is another when it is asked for again")


def engages(method: KVQuantizer) -> None:
    """What comes back is not what was stored, once the stages have been reached."""
    form = method.form(CHANNELS[0])
    tokens = longest(form)
    given = numbers(tokens, CHANNELS[0])
    back = seen(form, given, tokens - 1)
    same = all(np.array_equal(a, b) for a, b in zip(back, given, strict=False))
    demand(not same, f"after {tokens} tokens, keys and values still come back as they were computed")


def shapes_come_back(method: KVQuantizer) -> None:
    """For heads of every size, one token, none, no head, and less than a chunk; finite, and nothing is written into."""
    for channels in CHANNELS:
        form = method.form(channels)
        for tokens, heads in ((longest(form), HEADS), (3, HEADS), (1, 1), (3, 0), (0, HEADS)):
            given = numbers(tokens, channels, heads=heads)
            kept = [each.copy() for each in given]
            for part, whole in zip(PARTS, given, strict=False):
                for stage in range(len(form.stages(part))):
                    back = form.given_back(part, stage, whole, given[2], given[0])
                    demand(back.shape == whole.shape, f"{part} {whole.shape} come back as {back.shape}")
                    demand(np.isfinite(back).all(), f"{part} of {tokens} tokens come back with NaN or infinite values")
            demand(all(map(np.array_equal, given, kept)), "it writes into what it is given")


def is_deterministic(method: KVQuantizer) -> None:
    """The same tokens give the same, whatever was rounded between."""
    form = method.form(CHANNELS[0])
    tokens = longest(form)
    first = seen(form, numbers(tokens, CHANNELS[0]), tokens - 1)
    seen(form, numbers(tokens, CHANNELS[0], seed=1), tokens - 1)
    again = seen(method.form(CHANNELS[0]), numbers(tokens, CHANNELS[0]), tokens - 1)
    demand(all(map(np.array_equal, first, again)), "the same tokens come back as others when they are asked for again")


def is_causal(method: KVQuantizer) -> None:
    """What a query sees is the same whatever stands behind it."""
    form = method.form(CHANNELS[0])
    tokens = longest(form)
    given = numbers(tokens, CHANNELS[0])
    for position in sorted({0, tokens // 3, tokens // 2, tokens - 2, *borders(form, tokens)}):
        other = [each.copy() for each in given]
        for mine, strange in zip(other, numbers(tokens, CHANNELS[0], seed=2), strict=True):
            mine[:, position + 1 :] = 7 * strange[:, position + 1 :]
        alone = (each[:, : position + 1] for each in given)
        expected = seen(form, given, position)
        for changed in ((other[0], other[1], other[2]), tuple(alone)):
            keys, values, queries = changed
            same = all(map(alike, expected, seen(form, (keys, values, queries), position)))
            demand(same, f"what the query of position {position} sees depends on tokens behind it")


def alike(some: Floats, others: Floats) -> bool:
    """Whether they are the same but for a few: a product of matrices of another size may have other last bits, and a
    number that lies between two levels goes to the other one.
    """
    differ = np.abs(some - others) > 1e-5 * np.abs(some).max(initial=0)
    return int(differ.sum()) <= max(2, some.size // 1000)


def borders(form: CacheForm, tokens: int) -> set[int]:
    """Positions at which a stage takes its first tokens, and those before."""
    first = {each.age + each.chunk - 1 for part in PARTS for each in form.stages(part)}
    return {max(each - back, 0) for each in first for back in (0, 1) if each < tokens}


def heads_are_apart(method: KVQuantizer) -> None:
    """A head is rounded as it would be alone."""
    form = method.form(CHANNELS[0])
    tokens = longest(form)
    keys, values, queries = numbers(tokens, CHANNELS[0])
    together = seen(form, (keys, values, queries), tokens - 1)
    for head in range(HEADS):
        alone = seen(
            form, (keys[head : head + 1], values[head : head + 1], queries[head * EACH : (head + 1) * EACH]), tokens - 1
        )
        same = all(alike(a[head : head + 1], b) for a, b in zip(together, alone, strict=True))
        demand(same, "a head is rounded otherwise beside another one than alone")


def odd_numbers_stay_finite(method: KVQuantizer) -> None:
    """Zeros, one number throughout, tiny and large ones: finite, and not far beyond what went in."""
    form = method.form(CHANNELS[0])
    tokens = longest(form)
    shape = (HEADS, tokens, CHANNELS[0])
    outlier = numbers(tokens, CHANNELS[0])[0]
    outlier[0, 0, 0] = 3e4
    odd: Mapping[str, Floats] = {
        "zeros": np.zeros(shape, np.float32),
        "one number throughout": np.full(shape, -0.75, np.float32),
        "subnormal numbers": np.full(shape, 1e-39, np.float32),
        "an outlier": outlier,
    }
    for name, each in odd.items():
        queries = np.repeat(each, EACH, 0)
        for back in seen(form, (each, each, queries), tokens - 1):
            demand(np.isfinite(back).all(), f"{name} come back with NaN or infinite values")
            limit = 1.1 * np.abs(each).max()
            demand(np.abs(back).max() <= limit, f"{name} come back as large as {np.abs(back).max():.3g}")


def bits_are_counted(method: KVQuantizer) -> None:
    """More than none, at most as many as in full, and every token adds some."""
    for channels in CHANNELS[:2]:
        form = method.form(channels)
        for part in PARTS:
            for tokens in (1, 2, longest(form), MOST):
                held = head_bits(form, part, tokens, channels)
                demand(0 < held <= FULL_BITS * tokens * channels, f"{tokens} tokens take {held:.0f} bits of {part}")
            for stage in form.stages(part):
                if stage.rounding is not None:
                    one, two = (stage.rounding.stored_bits(count * stage.chunk, channels) for count in (1, 2))
                    demand(0 < one < two, f"two chunks of {part} take {two} bits, one {one}")


CHECKS: Mapping[str, Callable[[KVQuantizer], None]] = {
    check.__name__: check
    for check in (
        speaks_the_protocol,
        shapes_come_back,
        is_deterministic,
        is_causal,
        heads_are_apart,
        odd_numbers_stay_finite,
        engages,
        bits_are_counted,
    )
}


def failures(method: KVQuantizer) -> Iterator[tuple[str, str | None]]:
    """Every check's name, and what was wrong; None where nothing was. What is no method is not checked further."""
    for name, check in CHECKS.items():
        found = problem(check, method)
        yield name, found
        if check is speaks_the_protocol and found:
            return


def widths(name: str) -> Iterator[tuple[str, KVQuantizer]]:
    """A method as it is, and at every width of its field `bits`, if it has one: (what it is called, method).

    Raises UnknownNameError for a name that nobody registered.
    """
    yield name, kv.make(Part(quantizer=name))
    if "bits" in field_names(kv.get(name)):
        for bits in WIDTHS:
            try:
                yield f"{name} at {bits} bits", kv.make(Part(quantizer=name, parameters={"bits": bits}))
            except QuantbenchError:  # a width that this method does not have
                continue
