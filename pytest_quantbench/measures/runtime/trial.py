"""A candidate's files on their runtime: loaded in fresh processes, of which the last reads and generates.

It is given token ids, and its logits become losses and divergences by the functions that T2's do: the runtime's own
tokenizer and its own log-softmax have no part in the figures.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pytest_quantbench.checkpoints.tokenizer import frame_of
from pytest_quantbench.engines.divergence import Distributions, Fidelity, joined
from pytest_quantbench.engines.runtimes import Runtime
from pytest_quantbench.engines.runtimes.deployed import Deployed
from pytest_quantbench.errors import RunnerError, WeightError
from pytest_quantbench.measures.runtime.samples import RuntimeSamples
from pytest_quantbench.measures.samples import Floats
from pytest_quantbench.measures.throughput_runs import generate
from pytest_quantbench.measures.throughput_samples import Run
from pytest_quantbench.progress import track

if TYPE_CHECKING:
    from pytest_quantbench.measures.perplexity.reading import Script
    from pytest_quantbench.measures.perplexity.windows import Window


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What a runtime is asked for: T2's windows, whose distributions by the reference are `kept` (of as many tokens or
    more), `runs` generations of every prompt behind a warm-up, and so many fresh `loads`.
    """

    script: Script
    kept: Distributions
    tokenizer: Any
    runs: int
    prompts: Sequence[str]
    new_tokens: int
    loads: int

    @property
    def positions(self) -> int:
        """How many positions the longest sequence takes."""
        prompts = (len(frame_of(self.tokenizer).opened(self.tokenizer, prompt)) for prompt in self.prompts)
        return max(max(prompts) + self.new_tokens, self.script.context + len(self.script.tokens.front))


@dataclass(frozen=True, slots=True, kw_only=True)
class Read:
    """What reading one window gave."""

    nll_nats: Floats
    fidelity: Fidelity
    tokens: int
    seconds: float


def run(runtime: Runtime, files: Sequence[Path], asked: Asked, *, what: str) -> RuntimeSamples:
    """The samples; `what` names the bars of progress. Raises RunnerError where the runtime is not installed or fails,
    WeightError where a logit is not a number.
    """
    source, seconds = runtime.source(files), []
    for _ in range(asked.loads - 1):
        with runtime.start() as process:
            seconds.append(Deployed(process, source, context=asked.positions).load_seconds)
    with runtime.start() as process:
        loaded = Deployed(process, source, context=asked.positions)
        refuse_other_vocabulary(loaded, asked, runtime.name)
        read = list(_read(loaded, asked, what))
        warm_up, *runs = _generated(loaded, asked, what)
    return RuntimeSamples(
        runtime=runtime.name,
        version=runtime.version,
        how=loaded.told,
        nll_nats=np.concatenate([each.nll_nats for each in read]),
        fidelity=joined([each.fidelity for each in read]),
        window_tokens=np.array([each.tokens for each in read]),
        window_seconds=np.array([each.seconds for each in read]),
        load_seconds=np.array([*seconds, loaded.load_seconds]),
        warm_up=warm_up,
        runs=tuple(runs),
        before_bytes=loaded.before_bytes,
        peak_bytes=loaded.peak_bytes,
    )


def refuse_other_vocabulary(loaded: Deployed, asked: Asked, name: str) -> None:
    """Raise RunnerError where the runtime gives another number of logits than the reference has."""
    known = asked.script.tokens.capacity.vocabulary
    if known is not None and loaded.vocabulary != known:
        raise RunnerError(
            f"{name} gives {loaded.vocabulary:,} logits a position, and the reference has {known:,}: the files are of "
            f"another vocabulary, and no token's loss can be compared."
        )


def _read(loaded: Deployed, asked: Asked, what: str) -> Iterator[Read]:
    place = 0
    for window in track(asked.script.whole, what=f"{what}, T2's windows", unit="window"):
        yield _window(loaded, asked, window, place)
        place += window.scored


def _window(loaded: Deployed, asked: Asked, window: Window, place: int) -> Read:
    """One window, whose first scored token is T2's number `place`."""
    tokens, before = asked.script.tokens, loaded.read_seconds
    ids = [*tokens.front, *tokens.ids[window.begin : window.end - 1]]
    losses, found, done = [], [], 0
    for logits in loaded.logits(ids, window.scored):
        count = len(logits)
        following = np.array(tokens.ids[window.first + done : window.first + done + count])
        losses.append(logits.nll(following))
        found.append(logits.against(asked.kept.part(place + done, place + done + count)))
        done += count
    nll = np.concatenate(losses).astype(np.float32)
    if not np.isfinite(nll).all():
        raise WeightError(f"{loaded.name} gives logits that are no numbers.")
    return Read(nll_nats=nll, fidelity=joined(found), tokens=len(ids), seconds=loaded.read_seconds - before)


def _generated(loaded: Deployed, asked: Asked, what: str) -> Iterator[Run]:
    """A warm-up, then so many rounds over the prompts."""
    prompts: Iterable[int] = [0, *list(range(len(asked.prompts))) * asked.runs]
    for prompt in track(prompts, what=f"{what}, generating", unit="run"):
        yield generate(loaded, asked.tokenizer, asked.prompts, prompt, asked.new_tokens)
