"""Records, samples and figures as tests want them: all fields filled in, some given; opened models, measured."""

import json

import numpy as np

from pytest_quantbench import engines
from pytest_quantbench.bench.sample_store import Samples
from pytest_quantbench.bench.target import Target
from pytest_quantbench.catalog.models import MODELS
from pytest_quantbench.catalog.recipes import recipe
from pytest_quantbench.checkpoints.checkpoint import Checkpoint
from pytest_quantbench.judge.change import Change
from pytest_quantbench.judge.verdict import Verdict
from pytest_quantbench.measures.samples import PerplexitySamples, TaskSamples
from pytest_quantbench.measures.throughput_samples import Memory, Run, ThroughputSamples
from pytest_quantbench.record.cache_schema import Cache, CacheSize
from pytest_quantbench.record.perplexity_schema import AtDepth, Divergence, Perplexity
from pytest_quantbench.record.schema import SCHEMA, Record
from pytest_quantbench.stats.estimates import Interval


def open_model(directory, revision=None):
    """A model directory as the default engine opens it."""
    return engines.get().open(Checkpoint(directory, revision))


def engine(*, host):
    """MLX, with products in numpy or without."""
    from pytest_quantbench.engines.mlx.engine import MlxEngine

    return MlxEngine(host=host)


class Device:
    """Decodes into arrays that numpy cannot read by itself, as those on an accelerator are; `fetched` are asked for."""

    class Array:
        def __init__(self, values):
            self.values = values

        def __array__(self, *given, **named):
            raise TypeError("Cannot convert an array of a device to numpy: copy it to the host first.")

    def __init__(self):
        self.fetched = []

    def decode(self, encoding):
        return self.Array(encoding.dense())

    def to_host(self, array):
        if not isinstance(array, self.Array):
            return array
        self.fetched.append(array)
        return array.values


def capacity(config):
    """How much text a model of this config takes."""
    return engines.get().capacity(config)


def measured_losses(engine, artifact, tokens, reading, *, before=None, reference=None):
    """T2 of one artifact, on a walk of its own."""
    from pytest_quantbench.measures.perplexity.reading import Script
    from pytest_quantbench.measures.perplexity.score import score

    script = Script(tokens, reading, None if before is None else len(before.nll_nats))
    walk = engine.walk([artifact])
    walk.run(script.batches(), "")
    return score(script, walk, before=before, reference=reference)


def measured_answers(engine, artifact, asked):
    """T3 of one artifact, on a walk of its own."""
    from pytest_quantbench.measures.accuracy.score import chosen, written

    walk = engine.walk([artifact])
    walk.run(asked.choices.plan(walk.proof).batches, "")
    return written(engine, asked, artifact, chosen(asked, walk))


def make_record(**changes):
    fields = {
        "schema": SCHEMA,
        "model_id": "Tiny",
        "bits": 4,
        "timestamp": "2026-01-01T00:00:00+00:00",
        "recipe": "int4",
        "level": "int4",
        "source": "embedded",
        "revision": None,
        "source_sha256": "aa",
        "weights_sha256": None,
        "seed": 0,
    }
    return Record(**(fields | changes))


def make_perplexity(**changes):
    fields = {
        "ppl": 4.0,
        "bf16_ppl": 3.5,
        "delta": 0.5,
        "delta_interval": Interval(estimate=0.5, low=0.4, high=0.6),
        "nll_nats": 1.386,
        "nll_difference_nats": None,
        "ratio": None,
        "bits_per_byte": 0.5,
        "tokens": 512,
        "block_tokens": 64,
        "protocol": "p",
        "protocol_sha256": "p on c",
        "corpus_revision": None,
        "corpus": "c",
        "corpus_sha256": "h",
    }
    return Perplexity(**(fields | changes))


def make_at_depth(above, up_to, delta=0.5, **changes):
    interval = Interval(estimate=delta, low=delta - 0.1, high=delta + 0.1)
    fields = {"tokens": up_to - above, "ppl": 4.0 + delta, "bf16_ppl": 4.0, "delta": delta, "delta_interval": interval}
    fields |= {"nll_difference_nats": None, "kl_nats": 0.01}
    return AtDepth(above=above, up_to=up_to, **(fields | changes))


def make_cache(**changes):
    size = CacheSize(
        tokens=512,
        stored_bytes=4096.0,
        bf16_bytes=16384,
        bits_per_token=64.0,
        bits_per_value=4.0,
        reduction_percent=75.0,
    )
    return Cache(**({"method": "affine", "layers": 2, "size": size, "sizes": (size,)} | changes))


def make_divergence(kl_nats):
    """Predictions that are so far from the reference's on all tokens."""
    return Divergence(
        kl_nats=kl_nats,
        kl_interval=None,
        kl_percentiles={},
        same_top=Interval(estimate=1.0, low=0.9, high=1.0),
        probability_change=0.0,
        probability_change_rms=0.0,
    )


def make_losses(values, **changes):
    fields = {
        "text_tokens": len(values),
        "available_tokens": len(values),
        "window_tokens": 2048,
        "unscored_tokens": 0,
        "scored_bytes": 100,
        "protocol": "p",
        "protocol_sha256": "p on c",
        "corpus_revision": None,
        "corpus": "c",
        "corpus_sha256": "h",
        "weights_sha256": "w",
    }
    return PerplexitySamples(nll_nats=np.asarray(values, np.float32), seconds=0.0, **(fields | changes))


def make_task(correct, hashes="same"):
    correct = np.asarray(correct, dtype=bool)
    count = len(correct)
    return TaskSamples(
        ids=tuple(map(str, range(count))),
        hashes=(hashes,) * count,
        correct=correct,
        correct_raw=correct,
        loglikelihoods=((0.0,) * 4,) * count,
        texts=("",) * count,
        gold=(0,) * count,
        choices=4,
        version="1",
        questions=tuple(f"What is {place}?" for place in range(count)),
        options=(("a", "b", "c", "d"),) * count,
    )


def make_throughput(rates_by_prompt):
    runs = tuple(
        Run(
            prompt=prompt,
            prompt_tokens=5,
            new_tokens=100,
            seconds=100 / rate,
            first_token_seconds=0.1,
            prefill_tokens_per_second=50.0,
            latencies_seconds=np.zeros(99, np.float32),
            tokens=(1,),
            text="",
        )
        for prompt, rates in enumerate(rates_by_prompt)
        for rate in rates
    )
    return ThroughputSamples(
        warm_ups=runs[:1],
        runs=runs,
        reference_runs=(),
        probes_per_second=(1.0, 1.0),
        load_seconds=1.0,
        memory=Memory(peak_bytes=1),
        activations="float32",
        dense_layers=0,
    )


def artifact_content(artifact):
    """Every file's bytes, but the time that it took."""
    files = {file.name: file.read_bytes() for file in artifact.directory.iterdir()}
    manifest = json.loads(files["manifest.json"])
    for name in ("seconds", "sha256"):
        manifest.pop(name)
    return files | {"manifest.json": manifest}


def make_scored(nll, distributions=None, fidelity=None):
    return PerplexitySamples(
        nll_nats=np.asarray(nll, np.float32),
        text_tokens=3,
        available_tokens=9,
        window_tokens=2,
        unscored_tokens=0,
        scored_bytes=7,
        protocol="p",
        protocol_sha256="h",
        corpus="c",
        corpus_sha256="s",
        corpus_revision=None,
        weights_sha256="w",
        seconds=1.5,
        distributions=distributions,
        fidelity=fidelity,
    )


def make_target(recipe_id="int4-rtn", **changes):
    return Target(model=MODELS["Tiny"], recipe=recipe(recipe_id), **changes)


def make_store(cache, identity="s", fresh=False):
    """Samples of targets whose weights and machine are called `identity`."""
    return Samples(cache, lambda target: {"subject": identity, "target": target.id}, fresh=fresh)


def make_verdict(metric, outcome="pass", **changes):
    fields = {"metric": metric, "outcome": outcome, "limit": 2.0, "estimate": 1.0, "low": 0.5, "high": 1.5}
    return Verdict(**(fields | {"confidence": 0.9, "sentence": "It is so."} | changes))


def make_change(metric="size", word="regression", of="", **changes):
    fields = {"base": 1.0, "new": 1.1, "estimate": 10.0, "low": 9.0, "high": 11.0, "floor": 0.0, "items": None}
    fields |= {"p_worse": 0.01, "p_better": 1.0, "detectable": 0.5, "sentence": f"{metric} {word}."}
    return Change(metric=metric, word=word, of=of, **(fields | changes))
