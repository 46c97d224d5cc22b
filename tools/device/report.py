"""What a device check found, as tables for reading."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tools.device import levels, sweep

Row = Mapping[str, Any]
GOALS = {"bf16": ("share_of_bandwidth", 0.7), "int4": ("ratio", 2.5), "int3": ("ratio", 2.5), "int2": ("ratio", 2.5)}


def text(found: Mapping[str, Any]) -> str:
    """All of it: the machine, then a table for every part, and how the part ended."""
    about = found["about"]
    lines = [f"# {about['device']}", "", ", ".join(f"{name} {about[name]}" for name in about if name != "device"), ""]
    for name, part in found["parts"].items():
        lines += [f"## {TITLES[name].format(shape=found['shape'])}", ""]
        if part["rows"]:
            lines += [TABLES[name](part["rows"]), ""]
        lines += [f"Ended {part['ended']}, after {part['seconds']:.0f} s.", ""]
        if part["stderr"]:
            lines += ["```", *part["stderr"].splitlines()[-12:], "```", ""]
    return "\n".join(lines)


def _levels(rows: Sequence[Row]) -> str:
    known = [row for row in rows if "error" not in row]
    peak = max(row["peak_gb"] for row in known)
    told = f"Memory is read at {known[0]['read_gb_per_second']:.0f} GB/s; {peak:.1f} GB held at most."
    return "\n".join([levels.table(rows), "", told, "", *_goals(rows)])


def _goals(rows: Sequence[Row]) -> list[str]:
    lines = []
    for row in rows:
        if row["level"] not in GOALS:
            continue
        name, goal = GOALS[row["level"]]
        value = row.get(name)
        if value is not None:
            word = "reached" if value >= goal else "missed"
            lines.append(f"- {row['level']}: {name.replace('_', ' ')} {value:.2f}, goal {goal:g}: {word}")
    return lines


def _kernels(rows: Sequence[Row]) -> str:
    lines = ["| matrix | format | kernel | error | µs | GB/s |", "|---|---|---|---:|---:|---:|"]
    for row in rows:
        shape = " × ".join(map(str, row["shape"]))
        if "error" in row:
            lines.append(f"| {shape} | {row['format']} | {row['error'].splitlines()[0].replace('|', '/')} | ✗ | | |")
            continue
        sign = "" if row["right"] else " ✗"
        speed = "| |" if row["microseconds"] is None else f"{row['microseconds']:.1f} | {row['gb_per_second']:.0f} |"
        lines.append(f"| {shape} | {row['format']} | {row['kernel']} | {row['relative_error']:.1e}{sign} | {speed}")
    return "\n".join(lines)


def _agreement(rows: Sequence[Row]) -> str:
    lines = ["| model | activations | loss, nats | mean difference | largest |", "|---|---|---:|---:|---:|"]
    for row in rows:
        sign = "" if row["right"] else " ✗"
        lines.append(
            f"| {row['model']} | {row['activations']} | {row['loss_nats']:.4f} | "
            f"{row['mean_difference_nats']:.1e}{sign} | {row['largest_difference_nats']:.1e} |"
        )
    return "\n".join(lines)


def _walk(rows: Sequence[Row]) -> str:
    lines = ["| activations | layers | tokens | tokens/s | peak, GB |", "|---|---:|---:|---:|---:|"]
    lines += [
        f"| {row['activations']} | {row['layers']} of {row['of_layers']} | {row['tokens']:,} | "
        f"{row['tokens_per_second']:,.0f} | {row['peak_gb']:.1f} |"
        for row in rows
    ]
    return "\n".join(lines)


TITLES = {
    "levels": "T1 of all levels, a random Llama of the shape {shape}, batch 1",
    "sweep": "A small sweep, a random Llama of a smaller shape",
    "agreement": "Losses against the CPU's in float32",
    "kernels": "Kernels against decoded products, shape {shape}, one token timed",
    "walk": "T2: walks of a random Llama of the shape {shape}",
}
TABLES: Mapping[str, Callable[[Sequence[Row]], str]] = {
    "levels": _levels,
    "sweep": sweep.table,
    "agreement": _agreement,
    "kernels": _kernels,
    "walk": _walk,
}
