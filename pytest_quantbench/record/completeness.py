"""What a record lacks to be published: a sentence for each thing, with the command or option that supplies it.

A publication tells of a model its parameters, architecture and revision; of its compression the text that it was
calibrated on, how much of it, and the quantizer's parameters; of the measurement the software, the accelerator with its
driver and clocks, and the cost; and of every figure how sure it is. What a record's own run could not have measured, as
a speed ratio that is bound by overhead, is lacking all the same: a reader of the publication cannot tell it apart.
"""

import shlex
from collections.abc import Callable, Iterator
from itertools import chain

from pytest_quantbench import quantizers
from pytest_quantbench.catalog.criteria import METRICS
from pytest_quantbench.catalog.models import MODELS
from pytest_quantbench.catalog.recipes import LEVELS, recipe
from pytest_quantbench.errors import QuantbenchError
from pytest_quantbench.record.schema import Record

FEWEST_RUNS = 2  # of each prompt
Sentences = Iterator[str]


def missing(record: Record) -> list[str]:
    """What the record lacks, in the order of a publication; empty where it is complete."""
    return list(chain.from_iterable(check(record) for check in CHECKS))


def command(record: Record, *marks: str) -> str:
    """The command that measures the cell again, or only the tests with these marks."""
    words = ["quantbench", "run", "-k", record.cell]
    if marks:
        words += ["-m", " or ".join(marks)]
    if record.model_id not in MODELS:
        words += ["--model", record.source]
    if record.candidate is not None:
        words += ["--candidate", f"{record.candidate.name}={record.candidate.source}"]
    elif record.recipe not in LEVELS:
        words += ["--recipe", record.recipe]
    return f"`{shlex.join(words)}`"


def _is_reference(record: Record) -> bool:
    return record.level == "bf16" and record.candidate is None


def _model(record: Record) -> Sentences:
    if record.facts is None:
        yield f"Parameters and architecture of the model: {command(record)} writes them."
    elif not record.facts.architecture:
        yield "The architecture of the model: its config.json names none under `architectures` or `model_type`."
    if record.revision is None and record.source != "embedded":
        yield (
            f"The revision of the weights, which came from {record.source}: have them fetched from the Hub with "
            f"`--model OWNER/NAME`, whose commit is recorded."
        )
    if record.weights_sha256 is None:
        yield f"The hash of the decoded weights: {command(record, 't2', 't3')} takes it."


def _compression(record: Record) -> Sentences:
    if record.compression is None:
        yield f"Sizes: {command(record, 'size')} counts them."
    if _is_reference(record) or record.candidate is not None:
        return
    if not record.recipe_parameters:
        yield f"The parameters of the quantizers: {command(record)} writes them."
    fitted = [part.quantizer for part in recipe(record.recipe).parts if _is_fitted(part.quantizer)]
    if fitted and record.compression is not None and record.compression.calibration is None:
        yield (
            f"The calibration text, without which {fitted[0]} encoded: run the cell with `--calibration FILE`, or "
            f"without `--calibration none`."
        )


def _is_fitted(method: str) -> bool:
    """Whether a method makes use of a calibration text; of one that cannot be imported here, that is not known."""
    try:
        return quantizers.get(method).calibration != "none"
    except QuantbenchError:
        return False


def _measured(record: Record) -> Sentences:
    told = {"perplexity": "t2", "accuracy": "t3"}
    if record.kind == "weights":  # nothing is timed with a quantized cache
        told = {"throughput": "t1", **told}
    if record.kind != "cache" and not _is_reference(record):
        told["weights"] = "weights"
    for part, mark in told.items():
        if getattr(record, part) is None:
            yield f"The figures of {part}: {command(record, mark)} measures them."


def _speed(record: Record) -> Sentences:
    speed = record.throughput
    if speed is None:
        return
    if speed.runs < FEWEST_RUNS:
        yield f"A second run of each prompt of T1: {command(record, 't1')} with `--runs 3`."
    if not speed.gap_sec or speed.process_peak_gb is None:
        yield f"Times between tokens and the memory of the process: {command(record, 't1')} with `--fresh`."
    if speed.ratio_suppressed:
        yield (
            f"The speed ratio, since {speed.ratio_suppressed}: {command(record, 't1')} with `--fresh` on a machine "
            f"that does nothing else."
        )


def _judged(record: Record) -> Sentences:
    if _is_reference(record):
        floor = record.noise_floor
        if floor is None or floor.perplexity_points is None or floor.drop_points is None:
            yield (
                f"The noise floor: `quantbench run -k {shlex.quote(record.model_id)} -m 't2 or t3'` measures it where "
                f"a criterion of another cell of the model is judged."
            )
        return
    for verdict in record.verdicts:
        once = len(verdict.looks) == 1 and verdict.looks[0].last
        if verdict.limit is not None and once and _could_have_gone_on(record, verdict.metric):
            yield (
                f"More than one look at the {METRICS[verdict.metric].label}: run the cell without `--fixed` and "
                f"`--time-budget`, unless there was no more to be had."
            )
    speeds = [verdict for verdict in record.verdicts if verdict.metric == "throughput_ratio"]
    if record.throughput is not None and all(each.outcome == "informational" for each in speeds):
        why = next((each.not_judged for each in speeds if each.not_judged), "")
        yield (
            f"A judged throughput{f' (it was not judged: {why})' if why else ''}: {command(record, 't1')} where "
            f"people deploy it, with `--min-speedup X` where the level has no limit."
        )


def _could_have_gone_on(record: Record, metric: str) -> bool:
    """Whether there was more of a metric's text or questions, as far as the record knows."""
    text = record.perplexity
    whole = text is not None and text.windows is not None and text.windows == text.text_windows
    return metric == "accuracy_drop_points" or (metric == "perplexity_delta" and not whole)


def _machine(record: Record) -> Sentences:
    machine, found = record.machine, record.accelerator
    if machine is None or not machine.versions:
        yield f"The machine and the versions of the software: {command(record)} writes them."
    if machine is None or machine.backend == "cpu":
        return
    if found is None:
        tool = "nvidia-smi" if machine.backend == "cuda" else "system_profiler"
        yield f"The accelerator: {command(record, 't1')} where `{tool}` can be run, with `--fresh`."
    elif machine.backend == "cuda":
        told = {"driver": found.driver, "memory": found.memory_gb, "clocks": found.clock_mhz}
        lacking = [name for name, value in told.items() if value is None]
        if lacking:
            yield f"The accelerator's {' and '.join(lacking)}: `nvidia-smi` does not tell; add them by hand."


def _cost(record: Record) -> Sentences:
    if record.cost is None:
        yield f"The cost: {command(record)} with `--price-per-hour X`."


CHECKS: tuple[Callable[[Record], Sentences], ...] = (
    _model,
    _compression,
    _measured,
    _speed,
    _judged,
    _machine,
    _cost,
)
