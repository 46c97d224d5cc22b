"""What a cell's page shows of its raw samples: histograms, every run, every question lost or won.

Losses and gaps are shown as histograms, since a thousand cells' worth of them would not open in a browser: the samples
themselves stay in the npz beside the record. Everything else is here whole, up to the bounds below, which the page
tells.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pytest_quantbench.record.raw import texts_of

Arrays = Mapping[str, Any]
BINS = 41
TAIL_PERCENT = 0.5  # on either side: what lies beyond is counted and not drawn, or a single token would set the scale
MOST_QUESTIONS = 60  # of a task, lost and won each
MOST_TEXTS = 12  # prompts whose outputs are shown
MOST_CHARACTERS = 4000  # of a text
DIGITS = 5  # of numbers that are drawn
TEXTS = ("questions", "options", "texts")  # of a task, one of each for a question


def samples(arrays: Arrays, reference: Arrays, same_text: bool) -> dict[str, Any]:
    """What is there to be shown, by name. `reference`: the arrays of the model's BF16 cell, empty where there are none;
    `same_text`: whether both have read the same tokens.
    """
    losses = _losses(arrays, reference) if same_text else None
    shown = {
        "loss_differences": losses,
        "divergences": _histogram(arrays.get("perplexity/kl_nats")),
        "gaps": _histogram(1000 * arrays.get("throughput/latencies_seconds", np.zeros(0))),  # milliseconds
        "runs": _runs(arrays),
        "matrices": _matrices(arrays),
        "texts": _texts(arrays, reference),
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
    return [whole(str(each)) for each in texts_of(np.asarray(values))]


def whole(text: str) -> str:
    """The text with a replacement character for each half of one: a model may write half, and UTF-8 has none."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _texts(arrays: Arrays, reference: Arrays) -> list[dict[str, Any]]:
    """What was written on each prompt of T1, beside what the reference wrote in between or in its own cell."""
    mine = _by_prompt(arrays, "throughput/prompt", "throughput/texts")
    other = _by_prompt(arrays, "throughput/reference_prompt", "throughput/reference_texts")
    other = other or _by_prompt(reference, "throughput/prompt", "throughput/texts")
    asked = _strings(arrays["throughput/prompts"]) if "throughput/prompts" in arrays else []
    return [
        {
            "prompt": asked[prompt] if prompt < len(asked) else f"prompt {prompt + 1}",
            "text": text[:MOST_CHARACTERS],
            "reference": other[prompt][:MOST_CHARACTERS] if prompt in other else None,
        }
        for prompt, text in list(mine.items())[:MOST_TEXTS]
    ]


def _by_prompt(arrays: Arrays, prompts: str, texts: str) -> dict[int, str]:
    """The first text of each prompt: greedy outputs of one prompt are alike. Nothing where none were kept."""
    if not {prompts, texts} <= arrays.keys():
        return {}
    first: dict[int, str] = {}
    for number, text in zip(np.ravel(arrays[prompts]).tolist(), _strings(arrays[texts]), strict=False):
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
    places = {one: place for place, one in enumerate(other["ids"].tolist())}
    both = [(place, places[one]) for place, one in enumerate(mine["ids"].tolist()) if one in places]
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
    """The arrays of one task, its texts as lists; empty where they are not there. `begins`: where each question's
    log-likelihoods begin.
    """
    start = f"accuracy/{name}/"
    found = {each.removeprefix(start): values for each, values in arrays.items() if each.startswith(start)}
    if not {"ids", "correct"} <= found.keys():
        return {}
    if "choices" in found:
        found["begins"] = np.concatenate([[0], np.cumsum(found["choices"])])
    return found | {each: texts_of(np.asarray(found[each])) for each in TEXTS if each in found}


def _question(mine: Arrays, other: Arrays, place: int, other_place: int) -> dict[str, Any]:
    """One question: its text and options where they were kept, the right one, and what each model made of it."""
    found: dict[str, Any] = {"id": whole(str(mine["ids"][place]))}
    if mine.get("questions"):
        found["text"] = whole(mine["questions"][place])[:MOST_CHARACTERS]
    if mine.get("options"):
        found["options"] = [whole(each)[:MOST_CHARACTERS] for each in mine["options"][place]]
    if "gold" in mine and int(mine["gold"][place]) >= 0:
        found["gold"] = int(mine["gold"][place])
    for word, arrays, at in (("mine", mine, place), ("reference", other, other_place)):
        if "begins" in arrays and arrays["choices"][at]:
            begin = arrays["begins"][at]
            found[word] = _shortened(arrays["loglikelihoods"][begin : begin + arrays["choices"][at]])
        if arrays.get("texts") and (written := arrays["texts"][at]):
            found[f"{word}_text"] = whole(written)[:MOST_CHARACTERS]
    return found
