"""Which samples of two records are of the same items, and why two records must not be compared.

A pair is of the same tokens, the same questions or the same prompts, read by the same engine. Where it cannot be, a
sentence says why not, and what to do instead.
"""

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pytest_quantbench.engines.machine import Machine
from pytest_quantbench.judge import rates
from pytest_quantbench.judge.change import Pair
from pytest_quantbench.record import folder
from pytest_quantbench.record.accuracy_schema import TaskAccuracy
from pytest_quantbench.record.perplexity_schema import Perplexity
from pytest_quantbench.record.schema import Record
from pytest_quantbench.stats.window_sampling import Drawn

Places = NDArray[np.int64]
SHOWN = 12  # characters of a hash
MISSING = "the new run has not measured it: run that cell again with it."
NOT_IN_BASE = "the base has not measured it: run that cell again with it, to have it compared."
LOST = "the raw samples of {} are not there, or not those that its record was written with. Run that cell again."

OF_TIMINGS = {  # of a machine, what timings depend on beside its engine
    "chip": "chips",
    "cores": "numbers of cores",
    "memory_gb": "amounts of memory in GB",
    "threads": "numbers of threads",
    "device": "accelerators",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """A record with its raw samples by `part/name`."""

    record: Record
    arrays: Mapping[str, Any]

    @property
    def name(self) -> str:
        """`Tiny-int4`."""
        return self.record.cell


@dataclass(frozen=True, slots=True, kw_only=True)
class Common:
    """Where the items that two runs share stand in the samples of each; of windows, those that are shared."""

    base: Places
    new: Places
    drawn: Drawn | None = None


def measured(record: Record, directory: Path | str) -> Measured:
    """A record of a results folder with its samples, read now."""
    return Measured(record=record, arrays=folder.read_arrays(record, directory))


def other_model(base: Record, new: Record) -> str:
    """Why nothing of two records is compared; empty where it may be."""
    if base.source_sha256 == new.source_sha256:
        return ""
    hashes = f"{base.source_sha256[:SHOWN]} and {new.source_sha256[:SHOWN]}"
    return f"they are of different originals (weights {hashes}): measure a new base with the new original."


def other_reading(base: Record, new: Record) -> str:
    """Why losses and answers of two records are not paired; empty where they may be."""
    if why := other_model(base, new) or other_engine(base, new):
        return why
    if base.seed != new.seed:
        drawn = f"windows and questions were drawn by the seeds {base.seed} and {new.seed}"
        return f"{drawn}: run one of them again with --sample-seed of the other."
    return ""


def reading(each: Measured) -> Hashable:
    """What two records must have in common for their losses to be paired (see `common_tokens`)."""
    record, machine = each.record, each.record.machine
    protocol = record.perplexity and record.perplexity.protocol_sha256
    return record.source_sha256, machine and engine_of(machine), record.seed, protocol


def other_engine(base: Record, new: Record) -> str:
    """Why two records are not of one engine; empty where they are."""
    if base.machine is None or new.machine is None:
        return "a record does not say what it ran on: run that cell again."
    one, other = (engine_of(machine) for machine in (base.machine, new.machine))
    if one == other:
        return ""
    way = "where the other ran"
    if (base.machine.engine, base.machine.activations) != (new.machine.engine, new.machine.activations):
        way = f"as the other, with --engine {base.machine.engine} --activations {base.machine.activations}"
    return f"they ran on different engines ({one}, and {other}): run one again {way}."


def engine_of(machine: Machine) -> str:
    """What a record tells of the engine: its name, what it computed on and in. Versions may differ: that they changed
    is what one may want to see.
    """
    return replace(machine, versions={}).runs_on


def other_machine(base: Record, new: Record) -> str:
    """Why the timings of two records are not compared; empty where they may be."""
    if why := other_model(base, new) or other_engine(base, new):
        return why
    assert base.machine is not None
    assert new.machine is not None
    for name, what in OF_TIMINGS.items():
        values = getattr(base.machine, name), getattr(new.machine, name)
        if values[0] != values[1]:
            return f"they ran on machines with different {what} ({values[0]}, {values[1]}): time both on one machine."
    cards = [record.accelerator and record.accelerator.name for record in (base, new)]
    if cards[0] != cards[1]:
        return f"they ran on different accelerators ({cards[0]}, {cards[1]}): time both on one machine."
    return ""


def common_tokens(
    base: Measured, new: Measured, part: str, texts: tuple[Perplexity, Perplexity], new_part: str = ""
) -> Common | str:
    """The tokens of a text that both have read: the windows that both have drawn, or the first ones. A sentence where
    there are none. `new_part`: where the text stands among the new's samples, if elsewhere than among the base's.
    """
    there = new_part or part
    if why := other_reading(base.record, new.record) or _other_text(*texts):
        return why
    for each, name in ((base, part), (new, there)):
        if f"{name}/nll_nats" not in each.arrays:
            return LOST.format(each.name)
    begins, counts = ([f"{name}/window_{what}" for name in (part, there)] for what in ("begins", "counts"))
    if begins[0] not in base.arrays or begins[1] not in new.arrays:
        shared = np.arange(min(len(base.arrays[f"{part}/nll_nats"]), len(new.arrays[f"{there}/nll_nats"])))
        return Common(base=shared, new=shared)
    drawn_by = base.arrays[begins[0]], new.arrays[begins[1]]
    lengths = base.arrays[counts[0]], new.arrays[counts[1]]
    found, where, whither = np.intersect1d(*drawn_by, return_indices=True)
    alike = lengths[0][where] == lengths[1][whither]
    in_order = np.argsort(where[alike])  # as they were drawn
    first, second = where[alike][in_order], whither[alike][in_order]
    if len(found) == 0 or len(first) == 0:
        return "they have no window of the text in common: run one of them again with the --tokens of the other."
    drawn = Drawn(
        population=texts[1].text_windows or len(first),
        tokens=texts[1].block_tokens,
        begins=drawn_by[0][first],
        counts=lengths[0][first],
    )
    return Common(base=places(lengths[0], first), new=places(lengths[1], second), drawn=drawn)


def places(counts: Places, windows: Places) -> Places:
    """Where the tokens of these windows stand among those of all."""
    starts = np.cumsum(counts) - counts
    return np.concatenate([np.arange(starts[window], starts[window] + counts[window]) for window in windows])


def _other_text(base: Perplexity, new: Perplexity) -> str:
    if base.protocol_sha256 == new.protocol_sha256:
        return ""
    if base.corpus_sha256 != new.corpus_sha256:
        return f"they read different texts ({base.corpus}, {new.corpus}): run one again with --corpus of the other."
    return f"they read the text otherwise ({base.protocol}; {new.protocol}): run one again with the other's options."


def common_questions(
    base: Measured, new: Measured, task: str, parts: tuple[TaskAccuracy, TaskAccuracy]
) -> Common | str:
    """The questions of a task that both have answered, by their prompts' hashes. A sentence where there are none."""
    if why := other_reading(base.record, new.record):
        return why
    versions = [part.version for part in parts]
    if versions[0] != versions[1]:
        return f"they are of versions {versions[0]} and {versions[1]} of the task: run one again with the same lm-eval."
    names = f"accuracy/{task}/ids", f"accuracy/{task}/hashes"
    for each in (base, new):
        if names[0] not in each.arrays or names[1] not in each.arrays:
            return LOST.format(each.name)
    keys = [list(zip(*(each.arrays[name].tolist() for name in names), strict=True)) for each in (base, new)]
    there = {key: place for place, key in enumerate(keys[1])}
    shared = [(place, there[key]) for place, key in enumerate(keys[0]) if key in there]
    if not shared:
        return "they have no question in common, or asked them with other prompts: run one of them again."
    first, second = np.array(shared).T
    return Common(base=first, new=second)


def drifted(base: Measured, new: Measured) -> str:
    """Why rates of two sessions on one machine are not compared: the machine itself was not as fast, by the fixed
    product that was timed between the runs of each; empty where they may be.
    """
    name = "throughput/probes_per_second"
    if any(name not in each.arrays for each in (base, new)):
        return "a record does not tell how fast the machine itself was: run that cell again."
    probes = [
        level for each in (base, new) for level in rates.levels(np.asarray(each.arrays[name], np.float64).tolist())
    ]
    spread = max(probes) / min(probes) - 1
    if spread <= rates.MOST_DRIFT:
        return ""
    return (
        f"the machine's own speed changed by {spread:.0%} within or between the runs: run both again with --fresh, "
        f"while the machine does nothing else."
    )


def disturbed(base: Measured, new: Measured) -> str:
    """Why rates of two sessions are not compared for what else the machine did during either, by how memory was read
    and what processors there were (see `judge.rates`); empty where they may be.
    """
    why = rates.disturbed([_seen(each) for each in (base, new)])
    return why and f"{why}. Run both again with --fresh, while the machine does nothing else."


def _seen(each: Measured) -> rates.Seen:
    """What the raw samples tell, which are fewer in older records."""
    names = ("read_bytes_per_second", "processors_had", "prompt", "cpu_share")
    reads, had, prompts, shares = (np.asarray(each.arrays.get(f"throughput/{name}", ())).tolist() for name in names)
    threads = None if each.record.machine is None else each.record.machine.threads
    return rates.Seen(reads=reads, had=had, shares=list(zip(prompts, shares, strict=False)), threads=threads)


def one_sided(metric: str, of: str, *, in_base: bool) -> Pair:
    """A figure that only one of the two has."""
    return Pair(metric=metric, of=of, only_new=not in_base, why=MISSING if in_base else NOT_IN_BASE)
