"""Are a candidate's weights the reference's at all? A few rows of a few decoded matrices, by the angle between both.

The cosine of sampled rows with the original's, measured on Tiny and on SmolLM2-135M, the least of all matrices: `rtn`
with 8, 4, 3 and 2 bits has 0.9999, 0.994, 0.972 and 0.877, `nibble` 0.994, `kquant` and `hqq` with 2 bits 0.957 and
0.925, `aqlm` with 2 bits, fitted to a text, 0.70 (0.89 in the median). Columns that were scaled by factors of exp(0.3
z), exp(0.5 z) and exp(0.8 z), as AWQ and SmoothQuant fold theirs into the norms, have 0.955, 0.878 and 0.71; noise of a
fifth of the weights, more than a fine-tune leaves, 0.98. Weights of random numbers, of another layer, and rows in
another order have 0.00 with a spread of 0.02. `SAME` lies between.

Only the median is asked: a file of which single matrices are damaged is the reference's all the same, and judged. Two
cases are told apart, and refused. Where nothing but the matrices of queries and keys is unlike, and their rows are
found at other places, a converter forgot to turn round the order that rotary positions want: llama.cpp and Transformers
have another each. Models whose weights were rotated as a whole (QuaRot, SpinQuant) are like no original, and refused as
strangers.
"""

import math
import statistics
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from pytest_quantbench.engines.parameters import Kind, Parameter
from pytest_quantbench.engines.protocol import Architecture
from pytest_quantbench.errors import ModelError
from pytest_quantbench.quantizers import Array

SAME = 0.5
ROWS = 64  # of a matrix
MOST_VALUES = 2**28  # larger matrices are not decoded for this
SAMPLED: tuple[Kind, ...] = ("linear", "embedding")
QUERIES_AND_KEYS = ("q_proj", "k_proj")
SHOWN = 3
Rows = NDArray[np.float32]


def sampled(parameters: Sequence[Parameter]) -> list[Parameter]:
    """One matrix of every name, spread over the layers, embeddings among them; two of the queries and of the keys."""
    by_name: dict[str, list[Parameter]] = {}
    for each in parameters:
        if each.kind in SAMPLED and math.prod(each.shape) <= MOST_VALUES:
            by_name.setdefault(_owner(each.path), []).append(each)
    chosen: dict[str, Parameter] = {}
    for place, several in enumerate(by_name.values()):
        share = (place + 1) / (len(by_name) + 1)
        twice = _owner(several[0].path) in QUERIES_AND_KEYS
        for at in (share, 1 - share) if twice else (share,):
            found = several[int(at * len(several))]
            chosen[found.path] = found
    return list(chosen.values())


def _owner(path: str) -> str:
    """`q_proj` of `model.layers.0.self_attn.q_proj.weight`."""
    return path.removesuffix(".weight").rpartition(".")[2]


def cosines(reference: Architecture, dense: Callable[[str], Array], seed: int = 0) -> dict[str, float]:
    """By path: of sampled rows of a decoded matrix with the original's. Raises ModelError where these say that it is
    not the reference's.
    """
    rng, found, moved = np.random.default_rng(seed), dict[str, float](), dict[str, float]()
    for each in sampled(reference.parameters):
        rows = np.sort(rng.permutation(each.shape[0])[:ROWS])
        mine = np.asarray(dense(each.path))[rows].astype(np.float32)
        whole = np.asarray(reference.array(each.path))
        found[each.path] = _cosine(mine, whole[rows].astype(np.float32))
        if found[each.path] < SAME and _owner(each.path) in QUERIES_AND_KEYS:
            moved[each.path] = _found_elsewhere(mine, whole.astype(np.float32), rows)
    _refuse_strangers(found)
    _refuse_permuted(found, moved)
    return found


def _cosine(first: Rows, second: Rows) -> float:
    """0 where one is all zeros, or no number."""
    a, b = (each.astype(np.float64).ravel() for each in (first, second))
    norms = float(np.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / norms if np.isfinite(norms) and norms > 0 else 0.0


def _found_elsewhere(mine: Rows, original: Rows, rows: NDArray[np.intp]) -> float:
    """The share of rows that are like a row of the original at another place."""
    norms = np.linalg.norm(mine, axis=1)[:, None] * np.linalg.norm(original, axis=1)[None]
    alike = (mine @ original.T) / np.maximum(norms, 1e-30)
    best = alike.argmax(axis=1)
    return float(np.mean((alike.max(axis=1) > SAME) & (best != rows)))


def _refuse_strangers(found: Mapping[str, float]) -> None:
    """Raise ModelError where most matrices have nothing in common with the original's."""
    if not found:
        raise ModelError("The reference has no matrix that a candidate could be compared by.")
    median = statistics.median(found.values())
    if median >= SAME:
        return
    raise ModelError(
        f"The candidate's weights are not the reference's: the cosine of {len(found)} sampled matrices with the "
        f"original's is {median:.3f} in the median ({_named(found)}), where rounding to 2 bits has about 0.9 and "
        f"another model 0. Name the original that it was made from with --model (judge: --reference)."
    )


def _refuse_permuted(found: Mapping[str, float], moved: Mapping[str, float]) -> None:
    """Raise ModelError where queries and keys alone are unlike, and hold rows of the original's in another order."""
    unlike = {path: cosine for path, cosine in found.items() if cosine < SAME}
    if not unlike or unlike.keys() != moved.keys() or min(moved.values()) < SAME:
        return
    raise ModelError(
        f"The candidate's rows of queries and keys stand in another order than the reference's ({_named(unlike)}; "
        f"{max(moved.values()):.0%} of the rows are found at other places), and nothing else does: its converter did "
        f"not permute them for rotary positions, or not back. Convert it again with a newer version."
    )


def _named(cosines: Mapping[str, float]) -> str:
    least = sorted(cosines, key=lambda path: cosines[path])[:SHOWN]
    return ", ".join(f"{path} {cosines[path]:.2f}" for path in least)
