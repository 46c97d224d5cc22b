"""Two records' losses and divergences, text by text, as pairs that `judge.change` settles."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from pytest_quantbench.judge.change import Pair
from pytest_quantbench.record import pairing
from pytest_quantbench.record.noise_floor import activations_of, divergence_of, floor_nats
from pytest_quantbench.record.pairing import Common, Measured
from pytest_quantbench.record.perplexity_schema import Perplexity
from pytest_quantbench.record.schema import NoiseFloor
from pytest_quantbench.stats import series
from pytest_quantbench.stats.estimates import Estimate, Exact

TOO_FEW = "fewer than two windows, or all tokens differ alike: run both again with more --tokens."
NOT_FINITE = "not all of the base's samples are finite numbers: run that cell again."


@dataclass(frozen=True, slots=True)
class Floors:
    """How far figures may move though nothing was changed: by the noise floor, where one was measured."""

    noise: NoiseFloor | None
    activations: str

    def nats(self, kl_nats: float, ppl: float | None) -> float:
        """Of a mean loss (see noise_floor)."""
        return floor_nats(self.noise, kl_nats, ppl, self.activations)

    @property
    def are_measured(self) -> bool:
        """Whether they are more than what the order of summing changes."""
        noise = self.noise
        return noise is not None and (noise.perplexity_points is not None or noise.kl_nats is not None)


def texts(base: Measured, new: Measured, noise: NoiseFloor | None) -> Iterator[Pair]:
    """Perplexity and KL divergence of every text that either has read, but for the head of the judged one."""
    every = [_perplexities(each) for each in (base, new)]
    for part, new_part in _same_texts(every[0], every[1]):
        both = every[0].get(part), every[1].get(new_part)
        of = _of(part, new_part, both[1])
        if both[0] is None or both[1] is None:
            for metric in _figures(both[0] or both[1]):
                yield pairing.one_sided(metric, of, in_base=both[0] is not None)
            continue
        found = pairing.common_tokens(base, new, part, (both[0], both[1]), new_part)
        if isinstance(found, str):
            for metric in _figures(both[0]):
                yield Pair(metric=metric, of=of, why=found)
            continue
        before, after = base.arrays[f"{part}/nll_nats"][found.base], new.arrays[f"{new_part}/nll_nats"][found.new]
        floors = Floors(noise, activations_of(base.record))
        yield _perplexity(of, before, after, found, floors, both[0])
        kl = base.arrays.get(f"{part}/kl_nats"), new.arrays.get(f"{new_part}/kl_nats")
        if kl[0] is not None and kl[1] is not None:
            yield _divergence(of, kl[0][found.base], kl[1][found.new], found, floors)
        elif kl[0] is not None or kl[1] is not None:
            yield pairing.one_sided("kl", of, in_base=kl[0] is not None)


def _same_texts(base: Mapping[str, Perplexity], new: Mapping[str, Perplexity]) -> list[tuple[str, str]]:
    """The parts of both that are of one text, whichever of them reads it first; behind them what only one has, together
    where the part is called alike.
    """
    unread = dict(new)
    found, alone = [], []
    for part, text in base.items():
        same = [name for name, other in unread.items() if other.corpus_sha256 == text.corpus_sha256]
        if same:
            there = part if part in same else same[0]
            del unread[there]
            found.append((part, there))
        else:
            alone.append(part)
    return [*found, *((part, part) for part in dict.fromkeys([*alone, *unread]))]


def _of(part: str, new_part: str, text: Perplexity | None) -> str:
    """What text a figure is said to be of: nothing for the one that both judge first."""
    if part != new_part and text is not None:
        return text.corpus
    return part.partition("/")[2]


def _figures(text: Perplexity | None) -> tuple[str, ...]:
    """What a record has of a text."""
    return ("perplexity", "kl") if text is not None and text.divergence is not None else ("perplexity",)


def _perplexities(each: Measured) -> dict[str, Perplexity]:
    """By the part of the raw samples."""
    record = each.record
    found = {} if record.perplexity is None else {"perplexity": record.perplexity}
    return found | {f"perplexity/{name}": other for name, other in record.perplexities.items()}


def _perplexity(of: str, base: Any, new: Any, common: Common, floors: Floors, text: Perplexity) -> Pair:
    ppl = series.perplexity(base), series.perplexity(new)
    estimate, _ = series.perplexity_delta(base, new, common.drawn)
    if estimate is None and ppl[0] is not None and ppl[1] is None:
        estimate = Exact(value=math.inf)  # it overflows a float64: beyond any noise
    points = (ppl[0] or 0.0) * math.expm1(floors.nats(divergence_of(text), ppl[0]))
    return Pair(
        metric="perplexity",
        of=of,
        base=ppl[0],
        new=ppl[1],
        estimate=estimate,
        floor=points,
        floor_measured=floors.are_measured,
        items=len(base),
        counted="tokens",
        identical=np.array_equal(base, new),
        why="" if estimate is not None else TOO_FEW,
    )


def _divergence(of: str, base: Any, new: Any, common: Common, floors: Floors) -> Pair:
    before, after = (float(each.mean(dtype=np.float64)) for each in (base, new))
    if not math.isfinite(before):
        return Pair(metric="kl", of=of, why=NOT_FINITE)
    estimate: Estimate | None = Exact(value=math.inf)  # where the new one's is infinite or no number at all
    if math.isfinite(after):
        estimate = series.mean(new.astype(np.float64) - base, common.drawn)
    return Pair(
        metric="kl",
        of=of,
        base=before,
        new=after,
        estimate=estimate,
        floor=floors.nats(before, None),
        floor_measured=floors.are_measured,
        items=len(base),
        counted="tokens",
        identical=np.array_equal(base, new),
        why="" if estimate is not None else TOO_FEW,
    )
