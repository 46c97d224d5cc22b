"""What a cell's page shows of its raw samples: histograms, every run, every question lost or won.

Losses and gaps are shown as histograms, since a thousand cells' worth of them would not open in a browser: the samples
themselves stay in the npz beside the record. Everything else is here whole, up to the bounds below, which the page
tells.
"""

from collections.abc import Mapping
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

Arrays = Mapping[str, Any]
BINS = 41
TAIL_PERCENT = 0.5  # on either side: what lies beyond is counted and not drawn, or a single token would set the scale
MOST_QUESTIONS = 60  # of a task, lost and won each
MOST_TEXTS = 12  # prompts whose outputs are shown
MOST_CHARACTERS = 4000  # of a text
DIGITS = 5  # of numbers that are drawn


def samples(arrays: Arrays, reference: Arrays, same_text: bool) -> dict[str, Any]:
    """What is there to be shown, by name. `reference`: the arrays of the model's BF16 cell, empty where there are none;
    `same_text`: whether both have read the same tokens.
    """
    losses = _losses(arrays, reference) if same_text else None
    shown = {
        "loss_differences": losses,
        "divergences": _histogram(arrays.get("perplexity/kl_nats")),
        "gaps": _histogram(arrays.get("throughput/latencies_seconds")),
        "runs": _runs(arrays),
        "matrices": _matrices(arrays),
        "texts": _texts(arrays),
        "tasks": {name: _task(name, arrays, reference) for name in _tasks(arrays)},
    }
    return {name: value for name, value in shown.items() if value}


def _losses(arrays: Arrays, reference: Arrays) -> dict[str, Any] | None:
    """Of each token that both have read: its loss minus the reference's, in nats."""
    mine, other = arrays.get("perplexity/nll_nats"), reference.get("perplexity/nll_nats")
    if mine is None or other is None:
        return None
    both = min(len(mine), len(other))
    return _histogram(np.asarray(mine[:both], np.float64) - np.asarray(other[:both], np.float64))


def _histogram(values: Any) -> dict[str, Any] | None:
    """Counts in bins of equal width between the tails, and how many lie beyond; values that are no numbers are told."""
    if values is None or not np.size(values):
        return None
    numbers: NDArray[np.float64] = np.asarray(values, np.float64).ravel()
    finite = np.sort(numbers[np.isfinite(numbers)])
    if not len(finite):
        return None
    last = len(finite) - 1
    cut = int(last * TAIL_PERCENT / 100)
    low, high = finite[cut], finite[last - cut]
    inside = finite[(finite >= low) & (finite <= high)]
    counts, edges = np.histogram(inside, BINS if high > low else 1)
    return {
        "counts": counts.tolist(),
        "low": _short(edges[0]),
        "high": _short(edges[-1]),
        "below": int((finite < low).sum()),
        "above": int((finite > high).sum()),
        "not_numbers": len(numbers) - len(finite),
        "median": _short(finite[len(finite) // 2]),
        "least": _short(finite[0]),
        "most": _short(finite[-1]),
    }


def _short(value: float) -> float:
    return float(f"{value:.{DIGITS}g}")


def _shortened(values: Any) -> list[float]:
    return [_short(float(each)) for each in np.ravel(values)]


def _runs(arrays: Arrays) -> dict[str, Any] | None:
    """Every run of T1, with the reference's that were run in between."""
    if "throughput/tokens_per_second" not in arrays:
        return None
    return {
        "prompt": np.ravel(arrays["throughput/prompt"]).tolist(),
        "tokens_per_second": _shortened(arrays["throughput/tokens_per_second"]),
        "first_token_seconds": _shortened(arrays.get("throughput/first_token_seconds", ())),
        "reference_prompt": np.ravel(arrays.get("throughput/reference_prompt", ())).tolist(),
        "reference_tokens_per_second": _shortened(arrays.get("throughput/reference_tokens_per_second", ())),
    }


def _matrices(arrays: Arrays) -> dict[str, Any] | None:
    """Every encoded matrix: its name, and how far its decoded weights are from the original's."""
    if "weights/names" not in arrays or "weights/snr_db" not in arrays:
        return None
    found: dict[str, Any] = {"names": _strings(arrays["weights/names"])}
    for name in ("snr_db", "cosine", "bits_per_weight"):
        found |= {name: _shortened(arrays[f"weights/{name}"])} if f"weights/{name}" in arrays else {}
    found |= {"quantizer": _strings(arrays["weights/quantizer"])} if "weights/quantizer" in arrays else {}
    return found


def _strings(values: Any) -> list[str]:
    return [str(each) for each in np.ravel(values)]


def _texts(arrays: Arrays) -> list[dict[str, Any]]:
    """What was written on each prompt of T1, beside what the reference wrote."""
    if "throughput/texts" not in arrays:
        return []
    mine = _by_prompt(arrays, "throughput/prompt", "throughput/texts")
    other = _by_prompt(arrays, "throughput/reference_prompt", "throughput/reference_texts")
    if not other and "throughput/reference_texts" in arrays:
        other = dict(enumerate(_strings(arrays["throughput/reference_texts"])))
    return [
        {"prompt": prompt, "text": text[:MOST_CHARACTERS], "reference": _cut(other.get(prompt))}
        for prompt, text in list(mine.items())[:MOST_TEXTS]
    ]


def _cut(text: str | None) -> str | None:
    return None if text is None else text[:MOST_CHARACTERS]


def _by_prompt(arrays: Arrays, prompts: str, texts: str) -> dict[int, str]:
    """The first text of each prompt: greedy outputs of one prompt are alike."""
    numbers, found = np.ravel(arrays.get(prompts, ())), _strings(arrays.get(texts, ()))
    if len(numbers) != len(found):
        return dict(enumerate(found)) if prompts == "throughput/prompt" else {}
    first: dict[int, str] = {}
    for number, text in zip(numbers, found, strict=True):
        first.setdefault(int(number), text)
    return first


def _tasks(arrays: Arrays) -> list[str]:
    ending = "/correct"
    named = [name for name in arrays if name.startswith("accuracy/") and name.endswith(ending)]
    return [name.removeprefix("accuracy/").removesuffix(ending) for name in named]


def _task(name: str, arrays: Arrays, reference: Arrays) -> dict[str, Any]:
    """The questions of a task that were lost and won, in the order in which they were asked."""
    mine, other = (_of_task(name, each) for each in (arrays, reference))
    if not other:
        return {"asked": len(mine["correct"]), "right": int(mine["correct"].sum())}
    places = {one: place for place, one in enumerate(_strings(other["ids"]))}
    both = [(place, places[one]) for place, one in enumerate(_strings(mine["ids"])) if one in places]
    before, after = (
        np.array([each["correct"][pair[side]] for pair in both], bool) for side, each in ((1, other), (0, mine))
    )
    found: dict[str, Any] = {"asked": len(mine["correct"]), "right": int(mine["correct"].sum()), "compared": len(both)}
    for word, chosen in (("lost", before & ~after), ("won", ~before & after)):
        wanted = [both[place] for place in np.flatnonzero(chosen)]
        found[f"{word}_total"] = len(wanted)
        found[word] = [_question(mine, other, *pair) for pair in wanted[:MOST_QUESTIONS]]
    return found


def _of_task(name: str, arrays: Arrays) -> dict[str, Any]:
    """The arrays of one task; empty where they are not there. `begins`: where each question's log-likelihoods begin."""
    start = f"accuracy/{name}/"
    found = {each.removeprefix(start): values for each, values in arrays.items() if each.startswith(start)}
    if not {"ids", "correct"} <= found.keys():
        return {}
    if "choices" in found:
        found["begins"] = np.concatenate([[0], np.cumsum(found["choices"])])
    return found


def _question(mine: Arrays, other: Arrays, place: int, other_place: int) -> dict[str, Any]:
    """One question: its text and options where they were kept, the right one, and what each model made of it."""
    found: dict[str, Any] = {"id": str(mine["ids"][place])}
    if "questions" in mine:
        found["text"] = str(mine["questions"][place])[:MOST_CHARACTERS]
    if "options" in mine:
        found["options"] = msgspec.json.decode(str(mine["options"][place]), type=list[str])
    if "gold" in mine and int(mine["gold"][place]) >= 0:
        found["gold"] = int(mine["gold"][place])
    for word, arrays, at in (("mine", mine, place), ("reference", other, other_place)):
        if "begins" in arrays and arrays["choices"][at]:
            begin = arrays["begins"][at]
            found[word] = _shortened(arrays["loglikelihoods"][begin : begin + arrays["choices"][at]])
        if "texts" in arrays and (written := str(arrays["texts"][at])):
            found[f"{word}_text"] = written[:MOST_CHARACTERS]
    return found
