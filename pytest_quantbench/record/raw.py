"""The raw samples beside a record: named arrays, `part/name`, as they go into its npz.

Texts of many lengths are one array of bytes, their list as JSON: numpy's own arrays of texts take four bytes per
character of the longest one for each. `texts_of` reads both.
"""

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import fields
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pytest_quantbench.measures.load.samples import STAGES, LoadSamples
from pytest_quantbench.measures.retrieval.samples import RetrievalSamples
from pytest_quantbench.measures.runtime.samples import RuntimeSamples
from pytest_quantbench.measures.samples import AccuracySamples, PerplexitySamples, TaskSamples, WeightSamples
from pytest_quantbench.measures.throughput_samples import Run, ThroughputSamples


def raw(samples: Mapping[str, Any]) -> dict[str, Any]:
    """The arrays of what was measured, given by the measure's name."""
    arrays: dict[str, Any] = {}
    for name, found in samples.items():
        arrays |= RAW[name](found) if name in RAW else _fields(name, found)
    return arrays


def as_bytes(texts: Sequence[Any]) -> NDArray[np.uint8]:
    """(bytes,) uint8: a list of texts, or of lists of them, as JSON, with everything beyond ASCII escaped: half of a
    character, as a model may write it, can be stored too.
    """
    return np.frombuffer(json.dumps(list(texts), ensure_ascii=True).encode(), np.uint8)


def texts_of(array: NDArray[Any]) -> list[Any]:
    """The texts, or lists of them, that an array of a record's npz holds: as `as_bytes` made it, or one of texts."""
    found: list[Any] = json.loads(array.tobytes()) if array.dtype == np.uint8 else array.tolist()
    return found


def _fields(name: str, samples: Any) -> dict[str, Any]:
    """Every field that is an array."""
    found = {each.name: getattr(samples, each.name) for each in fields(samples)}
    return {f"{name}/{field}": value for field, value in found.items() if isinstance(value, np.ndarray)}


def raw_throughput(samples: ThroughputSamples) -> dict[str, Any]:
    """(runs,) rates and times of T1, (runs, new tokens − 1) gaps between tokens, what each run wrote, the prompts' own
    texts, and the reference's interleaved runs, of which there are none where they were not; (runs + 1,) probes.
    """
    runs = samples.runs
    return {
        "throughput/prompt": np.array([run.prompt for run in runs]),
        "throughput/tokens_per_second": np.array([run.tokens_per_second for run in runs]),
        "throughput/first_token_seconds": np.array([run.first_token_seconds for run in runs]),
        "throughput/latencies_seconds": np.stack([run.latencies_seconds for run in runs]),
        "throughput/probes_per_second": np.array(samples.probes_per_second),
        "throughput/read_bytes_per_second": np.array(samples.read_rates, np.float64),
        "throughput/reference_read_bytes_per_second": np.array(samples.reference_read_rates, np.float64),
        "throughput/processors_had": np.array(samples.processors_had, np.float64),
        "throughput/bytes_per_token": np.array([samples.bytes_per_token or 0]),
        "throughput/warm_up_tokens_per_second": np.array([run.tokens_per_second for run in samples.warm_ups]),
        "throughput/reference_latencies_seconds": _gaps_of(samples.reference_runs),
        "throughput/reference_first": np.array(samples.reference_first, np.bool_),
        "throughput/cpu_share": _told_of(run.cpu_share for run in runs),
        "throughput/joules": _told_of(run.joules for run in runs),
        "throughput/reference_prompt": np.array([run.prompt for run in samples.reference_runs], np.int64),
        "throughput/reference_tokens_per_second": np.array([run.tokens_per_second for run in samples.reference_runs]),
        "throughput/prompts": as_bytes(samples.prompts),
        "throughput/texts": as_bytes([run.text for run in runs]),
        "throughput/reference_texts": as_bytes([run.text for run in samples.reference_runs]),
    }


def _gaps_of(runs: Sequence[Run]) -> NDArray[np.float32]:
    """(runs, new tokens − 1); of no runs, (0, 0)."""
    return np.stack([run.latencies_seconds for run in runs]) if runs else np.zeros((0, 0), np.float32)


def _told_of(figures: Iterable[float | None]) -> NDArray[np.float64]:
    """(runs,) figures; none where nothing tells of every run."""
    told = list(figures)
    return np.array([] if None in told else told, np.float64)


def raw_weights(samples: WeightSamples) -> dict[str, Any]:
    """(matrices,) names and methods, bits per weight, SNR in dB (infinite where nothing was lost), cosines and largest
    absolute errors of the encoded matrices, in the model's order.
    """
    tensors = samples.tensors
    return {
        "weights/names": np.array([tensor.name for tensor in tensors], np.str_),
        "weights/quantizer": np.array([tensor.quantizer for tensor in tensors], np.str_),
        "weights/bits_per_weight": np.array([tensor.bits_per_weight for tensor in tensors]),
        "weights/snr_db": np.array([tensor.snr_db for tensor in tensors]),
        "weights/cosine": np.array([tensor.cosine for tensor in tensors]),
        "weights/largest_error": np.array([tensor.largest_error for tensor in tensors]),
    }


def raw_runtime(samples: RuntimeSamples) -> dict[str, Any]:
    """(tokens,) losses of a candidate's runtime and its divergences from the reference, in T2's order; (windows,) and
    (loads,) seconds; (runs,) prompts and times to the first token, (runs, new tokens − 1) gaps between tokens.
    """
    runs, fidelity = samples.runs, samples.fidelity
    return {
        **_fields("runtime", samples),
        **{f"runtime/{each.name}": getattr(fidelity, each.name) for each in fields(fidelity)},
        "runtime/prompt": np.array([run.prompt for run in runs]),
        "runtime/first_token_seconds": np.array([run.first_token_seconds for run in runs]),
        "runtime/latencies_seconds": np.stack([run.latencies_seconds for run in runs]),
    }


def raw_load(samples: LoadSamples) -> dict[str, Any]:
    """(loads,) rounds, whether cold, whether of the reference, shares of the files that were in memory (NaN where that
    is not told), and (loads, stages) seconds (NaN where there is no such stage), in the order of `STAGES`.
    """
    both = [*samples.loads, *samples.reference_loads]
    shares = [math.nan if each.resident_share is None else each.resident_share for each in both]
    return {
        "load/round": np.array([each.round for each in both]),
        "load/cold": np.array([each.cold for each in both]),
        "load/reference": np.repeat([False, True], [len(samples.loads), len(samples.reference_loads)]),
        "load/resident_share": np.array(shares),
        "load/stages": np.array(STAGES),
        "load/seconds": np.array([[each.seconds.get(stage, math.nan) for stage in STAGES] for each in both]),
    }


def raw_accuracy(samples: AccuracySamples) -> dict[str, Any]:
    """Per task of T3: (questions,) ids, right answers and gold; log-likelihoods end to end, `choices` per question; the
    questions' own texts, and a list of options for each.
    """
    return _tasks("accuracy", samples.tasks)


def raw_retrieval(samples: RetrievalSamples) -> dict[str, Any]:
    """The same per stratum of retrieval; and (questions,) `depths` in tokens of the first fact that is asked for."""
    depths = {f"retrieval/{name}/depths": values for name, values in samples.depths.items()}
    return _tasks("retrieval", samples.strata) | depths


def _tasks(part: str, tasks: Mapping[str, TaskSamples]) -> dict[str, Any]:
    arrays: dict[str, Any] = {}
    for name, task in tasks.items():
        arrays[f"{part}/{name}/ids"] = np.array(task.ids)
        arrays[f"{part}/{name}/hashes"] = np.array(task.hashes)
        arrays[f"{part}/{name}/correct"] = task.correct
        arrays[f"{part}/{name}/correct_raw"] = task.correct_raw
        arrays[f"{part}/{name}/questions"] = as_bytes(task.questions)
        arrays[f"{part}/{name}/options"] = as_bytes(task.options)
        arrays[f"{part}/{name}/texts"] = np.array(task.texts)
        arrays[f"{part}/{name}/gold"] = np.array(task.gold)
        arrays[f"{part}/{name}/clusters"] = np.array(task.clusters, np.str_)
        arrays[f"{part}/{name}/choices"] = np.array([len(question) for question in task.loglikelihoods])
        arrays[f"{part}/{name}/loglikelihoods"] = np.concatenate([np.array(q) for q in task.loglikelihoods])
    return arrays


def raw_perplexity(samples: PerplexitySamples) -> dict[str, Any]:
    """(tokens,) negative log-likelihoods of T2, how many tokens stood in front of each, and divergences from the
    reference; of windows that were drawn, where
    in the text each one's scored tokens begin, and how many they are. The same of what was read beside.
    """
    arrays: dict[str, Any] = {}
    for part, each in {"perplexity": samples, **{f"perplexity/{n}": s for n, s in samples.beside.items()}}.items():
        arrays[f"{part}/nll_nats"] = each.nll_nats
        arrays[f"{part}/depths"] = each.depths
        if each.fidelity is not None:
            arrays |= {f"{part}/{field.name}": getattr(each.fidelity, field.name) for field in fields(each.fidelity)}
        if each.drawn is not None:
            arrays |= {f"{part}/window_begins": each.drawn.begins, f"{part}/window_counts": each.drawn.counts}
    return arrays


def nothing(samples: Any) -> dict[str, Any]:
    """No arrays."""
    return {}


# Of measures whose arrays have names of their own; of others, every field that is an array.
RAW: Mapping[str, Callable[[Any], dict[str, Any]]] = MappingProxyType(
    {
        "throughput": raw_throughput,
        "perplexity": raw_perplexity,
        "accuracy": raw_accuracy,
        "retrieval": raw_retrieval,
        "weights": raw_weights,
        "runtime": raw_runtime,
        "load": raw_load,
        "calibration_text": nothing,  # of a text that nothing is judged by
    }
)
