"""A whole suite's records with their raw samples, drawn from a seed: what reports and comparisons are tested with.

Figures hang together as those of a real run do: the losses that a record summarizes are those in its raw arrays, a
verdict is the judge's own on them, wider recipes lose less. Nothing is run.
"""

from dataclasses import replace

import numpy as np
from builders import make_losses, make_record, make_task, make_throughput

from pytest_quantbench.catalog.criteria import METRICS, Overrides, limit_for
from pytest_quantbench.catalog.models import MODELS
from pytest_quantbench.catalog.recipes import REFERENCE, recipe
from pytest_quantbench.engines.accelerator import Accelerator
from pytest_quantbench.engines.divergence import Fidelity
from pytest_quantbench.engines.machine import Machine
from pytest_quantbench.engines.process_memory import ProcessPeak
from pytest_quantbench.judge import accuracy_drop, interim, rules, speed_ratio
from pytest_quantbench.measures.samples import (
    AccuracySamples,
    SizeSamples,
    TensorError,
    WeightSamples,
)
from pytest_quantbench.measures.throughput_samples import Memory
from pytest_quantbench.record import folder, perplexity_summary, summary, throughput_summary
from pytest_quantbench.record.publication import recipe_parameters
from pytest_quantbench.record.publication_schema import ModelFacts
from pytest_quantbench.record.raw import raw
from pytest_quantbench.record.schema import Compression, NoiseFloor

NOT_DEPLOYED = "on a CPU, where nobody deploys the engine"
RECIPES = ("int8", "int4", "int4-gptq", "int4-rtn", "int3", "int3-gptq", "int2", "int2-vptq")  # beside bf16
BITS = {"int8": 8.12, "int4": 4.51, "int4-gptq": 4.5, "int4-rtn": 4.5, "int3": 3.65, "int3-gptq": 3.5, "int2": 2.37}
LOSS_NATS = {8: 0.0004, 4: 0.02, 3: 0.08, 2: 0.35}  # more loss per token, about
TASKS = ("arc_easy", "hellaswag")
MACHINE = Machine(
    chip="A Chip",
    cores=8,
    memory_gb=34.4,
    os="Linux 6.1 x86_64",
    backend="cuda",
    versions={"python": "3.11.7"},
    judges_speed=True,
)
PROCESS_PEAK = ProcessPeak(peak_bytes=11_000_000_000, since="measure")
MEMORY = Memory(
    peak_bytes=9_000_000_000,
    reserved_bytes=9_500_000_000,
    process_peak=PROCESS_PEAK,
    before_bytes=500_000_000,
    resident_bytes=9_700_000_000,
)
ACCELERATOR = Accelerator(
    name="An Accelerator",
    driver="550.90.07",
    memory_gb=150.8,
    clock_mhz=1980.0,
    most_clock_mhz=1980.0,
    memory_clock_mhz=3201.0,
)


def names(models):
    """Of so many models: the catalogue's without Tiny, then invented ones."""
    known = [name for name in MODELS if name != "Tiny"]
    return (known + [f"Invented-{number}B-Instruct" for number in range(1, models + 1)])[:models]


def cells(models=10, recipes=RECIPES, seed=0, *, tokens=2048, questions=200, backend="cuda"):
    """(record, raw arrays) of every cell, the reference's first for each model."""
    found = []
    for place, name in enumerate(names(models)):
        found += _of_model(name, recipes, np.random.default_rng([seed, place]), tokens, questions, backend)
    return found


def records(models=10, recipes=RECIPES, seed=0, **sizes):
    """The records alone."""
    return [record for record, _ in cells(models, recipes, seed, **sizes)]


def write(directory, found):
    """A results folder with these cells."""
    return [folder.save(record, arrays, directory) for record, arrays in found]


def _of_model(name, recipes, rng, tokens, questions, backend):
    facts = ModelFacts(
        parameters=int(rng.integers(5, 140)) * 100_000_000,
        architecture="InventedForCausalLM",
        layers=24,
        hidden_size=2048,
        vocabulary=128_256,
        context_tokens=32_768,
    )
    losses = rng.gamma(1.2, 1.6, tokens).astype(np.float32)
    right = {task: rng.random(questions) < share for task, share in zip(TASKS, (0.75, 0.6), strict=True)}
    speeds = rng.normal(30, 0.4, (5, 3))
    before = _samples(losses, right, speeds)
    found = [_cell(name, REFERENCE, before, None, facts, rng, backend)]
    frail = rng.choice([0.5, 1.0, 4.0])  # some models take any rounding badly
    for recipe_id in recipes:
        one = recipe(recipe_id)
        worse = frail * LOSS_NATS[one.bits] * rng.uniform(0.5, 1.5)
        noise = rng.normal(worse, 3 * worse + 1e-4, tokens) * (losses > 0.2)
        mine = np.maximum(losses + noise, 1e-4).astype(np.float32)
        lost = {task: was & (rng.random(questions) > worse / 6) for task, was in right.items()}
        lucky = {task: each | (rng.random(questions) < worse / 40) for task, each in lost.items()}
        faster = 16 / BITS.get(recipe_id, 2.2) * rng.uniform(0.45, 0.7)
        sped = speeds * faster * rng.normal(1, 0.02, speeds.shape)
        found.append(_cell(name, one, _samples(mine, lucky, sped), before, facts, rng, backend))
    return found


def _samples(losses, right, speeds):
    ids = {task: make_task(each) for task, each in right.items()}
    runs = make_throughput([list(map(float, each)) for each in speeds])
    gaps = [
        replace(
            run,
            text=f"What was written to prompt {run.prompt}.",
            latencies_seconds=np.random.default_rng(place).gamma(40, 1 / run.tokens_per_second / 40, 99).astype("f4"),
        )
        for place, run in enumerate(runs.runs)
    ]
    answers = AccuracySamples(
        tasks={task: replace(each, gold=(1,) * len(each.ids)) for task, each in ids.items()},
        available=dict.fromkeys(ids, 2376),
        cut_contexts=0,
        weights_sha256="w",
        seconds=61.0,
    )
    return {
        "perplexity": make_losses(losses, available_tokens=280_000, corpus="wikitext2", weights_sha256=str(losses[0])),
        "accuracy": answers,
        "throughput": replace(runs, runs=tuple(gaps), memory=MEMORY),
    }


def _cell(name, one, samples, before, facts, rng, backend):
    bits = 16.0 if one.bits == 16 else BITS.get(one.id, 2.2)
    size = SizeSamples(stored_bytes=int(facts.parameters * bits / 8), bf16_bytes=2 * facts.parameters)
    samples["throughput"] = _with_roofline(samples["throughput"], size.stored_bytes, before)
    if before is not None:
        samples = {**samples, "weights": _weights(one, rng), "perplexity": _with_fidelity(samples, before)}
    verdicts = _verdicts(name, one, samples, before, size, backend) if before is not None else ()
    losses = samples["perplexity"]
    record = make_record(
        model_id=name,
        bits=one.bits,
        recipe=one.id,
        level=one.level,
        source=f"somebody/{name}",
        revision="0123456789abcdef",
        weights_sha256=f"{rng.integers(1 << 60):064x}",
        facts=facts,
        recipe_parameters=recipe_parameters(one),
        accelerator=ACCELERATOR if backend == "cuda" else None,
        machine=replace(MACHINE, backend=backend, judges_speed=backend != "cpu"),
        compression=_compression(one, bits, size),
        throughput=throughput_summary.throughput(samples["throughput"], before and before["throughput"]),
        perplexity=perplexity_summary.perplexity(losses, before and before["perplexity"]),
        accuracy=summary.accuracy(samples["accuracy"], before and before["accuracy"]),
        weights=summary.weights(samples["weights"]) if before is not None else None,
        noise_floor=None
        if before is not None
        else NoiseFloor(perplexity_points=0.004, kl_nats=1e-4, drop_points=0.0, flipped_points=0.5),
        verdicts=verdicts,
        session="generated",
    )
    return record, raw(samples)


def _with_roofline(samples, stored, before):
    """The speed, beside memory that allows the reference a third more than it reached."""
    rates = [run.tokens_per_second for run in samples.runs]
    read = float(np.mean(rates)) / 0.75 * stored if before is None else before["throughput"].read_rates[0]
    kernels = {"a kernel": 28}
    found = replace(samples, bytes_per_token=stored, read_rates=(read, read), kernels=kernels, step="captured")
    if before is None:
        return found
    other = before["throughput"]
    return replace(found, reference_bytes_per_token=other.bytes_per_token, reference_read_rates=other.read_rates)


def _with_fidelity(samples, before):
    """The losses, with divergences that fit to them."""
    mine, other = samples["perplexity"], before["perplexity"]
    change = (mine.nll_nats - other.nll_nats).astype(np.float32)
    nothing = np.zeros(len(change), np.float32)
    fidelity = Fidelity(
        kl_nats=(change**2 / 2).astype(np.float32),
        error_nats=nothing,
        same_top=np.abs(change) < 0.5,
        likeliest=nothing.astype(np.uint32),
    )
    return replace(mine, fidelity=fidelity)


def _weights(one, rng):
    """28 matrices of four layers, the deeper the worse, one of them worst."""
    kinds = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
    snr = [6.02 * one.bits - 3 - layer + rng.normal(0, 0.5) for layer in range(4) for _ in kinds]
    snr[rng.integers(len(snr))] -= 5
    tensors = [
        TensorError(
            name=f"model.layers.{place // len(kinds)}.{kinds[place % len(kinds)]}",
            quantizer=one.inner.quantizer,
            weights=4_194_304,
            bits_per_weight=one.bits + 0.5,
            snr_db=decibels,
            cosine=1 - 0.5 * 10 ** (-decibels / 10),
            largest_error=0.01,
            note="",
        )
        for place, decibels in enumerate(snr)
    ]
    return WeightSamples(tensors=tuple(tensors))


def _verdicts(name, one, samples, before, size, backend):
    limits = {metric: limit_for(metric, name, one, Overrides()) for metric in METRICS}
    task = TASKS[0]
    mine, other = samples["accuracy"].tasks[task], before["accuracy"].tasks[task]

    def losses(items, alpha):
        pair = samples["perplexity"].first(items), before["perplexity"].first(items)
        shown = {"value": _ppl(pair[0]), "reference_value": _ppl(pair[1]), "of": "wikitext2"}
        return replace(rules.judge_perplexity(*pair, limits["perplexity_delta"], alpha), **shown)

    def answers(items, alpha):
        pair = mine.first(items), other.first(items)
        shown = {"value": float(pair[0].correct.mean()), "reference_value": float(pair[1].correct.mean()), "of": task}
        return replace(accuracy_drop.judge_accuracy(task, *pair, limits["accuracy_drop_points"], alpha, 2376), **shown)

    speed = speed_ratio.judge_throughput(
        samples["throughput"],
        before["throughput"],
        limits["throughput_ratio"],
        "" if backend != "cpu" else NOT_DEPLOYED,
    )
    tokens, questions = len(samples["perplexity"].nll_nats), len(mine.ids)
    return (
        rules.judge_size(size, limits["size_reduction_percent"]),
        _looked(losses, tokens // 4, tokens),
        _looked(answers, questions // 4, questions),
        speed,
    )


def _ppl(samples):
    return float(np.exp(samples.nll_nats.mean(dtype=np.float64)))


def _looked(judge, first, most):
    """The verdict after as many looks as it takes."""
    looks = interim.Looks(interim.sizes(first, most))
    while looks.wanted is not None:
        items, alpha = looks.at(most)
        looks.add(items, alpha, judge(items, alpha))
    return interim.adjusted(looks.verdict)


def _compression(one, bits, size):
    lossy = one.bits != 16
    return Compression(
        original_gb=size.bf16_bytes / 1e9,
        compressed_gb=size.stored_bytes / 1e9,
        ratio=size.stored_bytes / size.bf16_bytes,
        times_smaller=size.bf16_bytes / size.stored_bytes,
        time_sec=412.0 if lossy else 0.0,
        bits_per_weight=bits,
        inner_bits_per_weight=bits,
        outer_bits_per_weight=4.5 if lossy else 16.0,
        quantized_fraction=0.999 if lossy else 0.0,
        artifact=f"artifact-{one.id}",
        calibration={"text": "c4", "sha256": "e679daf0f6de", "sequences": 128} if lossy else None,
    )
