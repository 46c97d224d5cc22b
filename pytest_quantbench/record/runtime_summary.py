"""A runtime's losses beside T2's → file error and engine error, apart; its times → rates. Computes no verdict."""

import numpy as np
from numpy.typing import NDArray

from pytest_quantbench.measures.runtime.samples import RuntimeSamples
from pytest_quantbench.measures.samples import PerplexitySamples
from pytest_quantbench.record.runtime_schema import EngineError, FileError, Runtime, Speed
from pytest_quantbench.stats import series
from pytest_quantbench.stats.estimates import Interval
from pytest_quantbench.stats.proportions import share_of
from pytest_quantbench.stats.window_sampling import Drawn

GAP_PERCENTILES = (50, 90, 95, 99)


def runtime(samples: RuntimeSamples, walked: PerplexitySamples, reference: PerplexitySamples) -> Runtime:
    """The figures of a runtime; `walked` is T2 of the same files' decoded weights, which may have more tokens."""
    count = len(samples.nll_nats)
    walk, before = walked.first(count), reference.first(count)
    assert walked.fidelity is not None
    lost = walk.nll_nats.astype(np.float64) - before.nll_nats
    file_mean, file_interval = _mean(lost, walk.drawn)
    return Runtime(
        runtime=samples.runtime,
        version=samples.version,
        how=samples.how,
        tokens=count,
        ppl=series.perplexity(samples.nll_nats),
        walk_ppl=series.perplexity(walk.nll_nats),
        bf16_ppl=series.perplexity(before.nll_nats),
        file_error=FileError(mean_nats=file_mean, interval=file_interval),
        engine_error=engine_error(samples, walk, walked.fidelity.likeliest[:count]),
        kl_nats=float(samples.fidelity.kl_nats.mean(dtype=np.float64)),
        walk_kl_nats=float(walked.fidelity.kl_nats[:count].mean(dtype=np.float64)),
        speed=speed(samples),
        peak_gb=samples.peak_bytes / 1e9,
        before_gb=samples.before_bytes / 1e9,
    )


def engine_error(
    samples: RuntimeSamples, walk: PerplexitySamples, likeliest: NDArray[np.unsignedinteger]
) -> EngineError:
    """The runtime's losses and likeliest tokens against those of the walk, token by token."""
    difference = samples.nll_nats.astype(np.float64) - walk.nll_nats
    mean, interval = _mean(difference, walk.drawn)
    return EngineError(
        mean_nats=mean,
        interval=interval,
        rms_nats=float(np.sqrt(np.square(difference).mean())),
        largest_nats=float(np.abs(difference).max()),
        same_top=share_of(samples.fidelity.likeliest == likeliest, walk.drawn),
    )


def _mean(values: NDArray[np.float64], drawn: Drawn | None) -> tuple[float, Interval | None]:
    """A mean, and its interval where the values show one."""
    found = series.mean(values, drawn)
    return float(values.mean()), None if found is None else found.interval()


def speed(samples: RuntimeSamples) -> Speed:
    """Of T1's generations what comes before the first token is prefill, and what comes after it decode."""
    runs = samples.runs
    decode = np.array([len(run.latencies_seconds) / run.latencies_seconds.sum(dtype=np.float64) for run in runs])
    gaps = np.concatenate([run.latencies_seconds for run in runs]).astype(np.float64)
    return Speed(
        load_sec=float(samples.load_seconds.mean()),
        load_secs=tuple(samples.load_seconds.tolist()),
        reading_tps=float(samples.window_tokens.sum() / samples.window_seconds.sum()),
        prefill_tps=float(np.mean([run.prefill_tokens_per_second for run in runs])),
        first_token_sec=float(np.mean([run.first_token_seconds for run in runs])),
        decode_tps=float(decode.mean()),
        decode_tps_std=float(decode.std(ddof=1)) if len(decode) > 1 else None,
        gap_sec={f"{each}": float(np.percentile(gaps, each)) for each in GAP_PERCENTILES},
        runs=len(runs),
    )
