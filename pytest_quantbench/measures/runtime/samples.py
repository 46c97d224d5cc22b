"""What is kept of files that their runtime ran: raw figures in the order of T2's tokens and of the prompts."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pytest_quantbench.engines.divergence import Fidelity
from pytest_quantbench.measures.samples import Floats
from pytest_quantbench.measures.throughput_samples import Run


@dataclass(frozen=True, slots=True, kw_only=True)
class RuntimeSamples:
    """`nll_nats` (tokens,) are the losses of the first tokens that T2 scores, in its order; `fidelity` compares the
    distributions with the reference's, as T2's does those of the decoded weights.

    `window_seconds` (windows,) is how long reading each of T2's windows took, of `window_tokens` (windows,) tokens;
    `load_seconds` (loads,) how long each fresh process loaded the files, which lie in the system's cache from the
    second on. `before_bytes` and `peak_bytes` are the process's memory before it loaded, and the most it ever had.
    """

    runtime: str
    version: str
    how: str  # it was run, in one line: threads, types, processor
    nll_nats: Floats
    fidelity: Fidelity
    window_tokens: NDArray[np.int64]
    window_seconds: NDArray[np.float64]
    load_seconds: NDArray[np.float64]
    warm_up: Run
    runs: tuple[Run, ...]
    before_bytes: int
    peak_bytes: int
