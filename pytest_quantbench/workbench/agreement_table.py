"""What two engines agree on, as a terminal's table of at most 80 columns, and as JSON."""

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from pytest_quantbench.engines.machine import describe
from pytest_quantbench.engines.protocol import Engine
from pytest_quantbench.report.text_width import columns, left, right, wrapped
from pytest_quantbench.workbench.engine_agreement import Agreement, Compared

WIDTH = 80
ROUNDING = (
    "what layers are called with, or a cache holds, is put on a grid there, and a value between two levels falls on "
    "one or the other by the last bit of a sum. So any two ways to compute differ: one engine's own on another "
    "processor, too."
)
HEADS = (  # what stands above several columns, and above each
    (("", 13), ("weights", 8), ("loss, nats a token", 24), ("likeliest", 10), ("KL", 8), ("choice, a token", 17)),
    (
        ("recipe", 21),
        ("mean", 8),
        ("99.9 %", 8),
        ("largest", 8),
        ("token", 10),
        ("mean", 8),
        ("mean", 9),
        ("largest", 8),
    ),
)
LEFT = ("", "weights", "recipe")
WIDTHS = (13, 8, 8, 8, 8, 10, 8, 9, 8)


def table(model: str, engines: tuple[Engine, Engine], compared: Compared, limit: float) -> Iterator[str]:
    """Who was compared, a line for each recipe, and whether they agree."""
    named = " against ".join(describe(engine).runs_on for engine in engines)
    first = compared.agreements[0]
    counted = f"{first.losses.count:,} tokens of text, {first.choices.count:,} choices"
    yield from wrapped(f"{model}: {named}; {counted}.", WIDTH)
    yield ""
    for head in HEADS:
        yield "".join(left(word, width) if word in LEFT else right(word, width) for word, width in head)
    for found in compared.agreements:
        name, *figures = _row(found)
        if columns(name) >= WIDTHS[0]:
            yield name
            name = ""
        yield _line((name, *figures)).rstrip()
    if compared.noise_floor is not None:
        floor = compared.noise_floor
        row = ("noise floor", "", _nats(floor.mean), _nats(floor.rare), _nats(floor.largest), "", "", "", "")
        yield _line(row).rstrip()
        yield from wrapped(
            f"The noise floor is what the losses of {engines[0].name} itself do where its hidden states are computed "
            "in the other type of activations.",
            WIDTH,
        )
    yield ""
    yield from wrapped(verdict(compared, limit), WIDTH)


def verdict(compared: Compared, limit: float) -> str:
    """Whether the engines agree, and if not, what is furthest apart."""
    apart = [found for found in compared.agreements if not found.within(limit)]
    if not apart:
        return f"They agree: no token and no choice is more than {limit:g} nats per token apart."
    told = []
    for found in apart:
        if found.differing_weights:
            few = ", ".join(found.differing_weights[:3])
            told.append(f"{found.recipe} does not run the same weights on both ({few})")
        else:
            furthest = max(found.losses.largest, found.choices.largest)
            told.append(f"{found.recipe} is up to {furthest:.2g} nats per token apart")
    rounding = [found.recipe for found in apart if found.rounds_inputs and not found.differing_weights]
    why = f" {', '.join(rounding)}: {ROUNDING}" if rounding else ""
    return f"They do not agree within {limit:g} nats per token: {'; '.join(told)}.{why}"


def as_json(model: str, engines: tuple[Engine, Engine], compared: Compared, limit: float) -> Mapping[str, Any]:
    """All figures, with both machines and the limit."""
    return {
        "model": model,
        "engines": [msgspec.to_builtins(describe(engine)) for engine in engines],
        "limit_nats_per_token": limit,
        "agree": all(found.within(limit) for found in compared.agreements),
        "noise_floor": msgspec.to_builtins(compared.noise_floor),
        "recipes": [{**msgspec.to_builtins(found), "agree": found.within(limit)} for found in compared.agreements],
    }


def _row(found: Agreement) -> tuple[str, ...]:
    losses, choices = found.losses, found.choices
    same = "same" if not found.differing_weights else "differ"
    alike = f"{losses.count - found.other_likeliest}/{losses.count}"
    chosen = (_nats(choices.mean), _nats(choices.largest)) if choices.count else ("–", "–")
    return (
        found.recipe,
        same,
        *(_nats(value) for value in (losses.mean, losses.rare, losses.largest)),
        alike,
        _nats(found.kl_nats[0]),
        *chosen,
    )


def _line(cells: tuple[str, ...]) -> str:
    filled = [left(cells[0], WIDTHS[0]), left(cells[1], WIDTHS[1])]
    line = "".join(filled)
    for cell, width in zip(cells[2:], WIDTHS[2:], strict=True):
        room = max(width, columns(cell) + 1)
        line += right(cell, room)
    return line


def _nats(value: float) -> str:
    return "0" if value == 0 else f"{value:.1e}"
