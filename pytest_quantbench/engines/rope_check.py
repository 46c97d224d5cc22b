"""Whether a built model turns its queries and keys by the angles that config.json says.

The definitions are those of Transformers (`modeling_rope_utils`), computed here once more in float64: an angle is
position × frequency, and `yarn` and `longrope` also scale what is turned. What an engine's modules hold is compared.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pytest_quantbench.checkpoints.rope import ORIGINAL, ROPE_KEYS, Rope, rope_type, ropes_of
from pytest_quantbench.errors import ModelError

TOLERANCE = 1e-4  # relative; engines compute frequencies in float32


@dataclass(frozen=True, slots=True, kw_only=True)
class Turning:
    """Angles per position, (dims / 2,), and the factor on what is turned."""

    frequencies: NDArray[np.float64]
    scale: float = 1.0

    def equals(self, other: "Turning") -> bool:
        """Whether they turn alike, as far as float32 can tell."""
        same = self.frequencies.shape == other.frequencies.shape and math.isclose(
            self.scale, other.scale, rel_tol=TOLERANCE
        )
        return same and bool(np.allclose(self.frequencies, other.frequencies, rtol=TOLERANCE, atol=0))


@dataclass(frozen=True, slots=True, kw_only=True)
class Turned:
    """What a module of a built model turns by. `path`: the module; `layer_type`: of the layers whose positions it has,
    None where that is not known.
    """

    path: str
    layer_type: str | None
    turning: Turning


def check_ropes(modules: Iterable[Turned], table: Mapping[str, Any], *, mixed: bool, whose: str) -> bool:
    """Raise ModelError where a module of the model turns otherwise than the config's table says.

    `mixed`: there are layers of several types, of which some may not be scaled (OLMo 3). `whose` code the model is,
    such as "mlx-lm's". Returns whether there was anything to compare: a model may do it in a way of its own.
    """
    ropes = ropes_of(table)
    for rope in ropes.values():
        if isinstance(base := _base(rope), int | float) and base <= 0:
            raise ModelError(f"config.json says rope_theta = {base!r}, and a base is a positive number.")
    known = {kind: rope for kind, rope in ropes.items() if rope_type(rope) in SCALED and _base(rope) is not None}
    found = list(modules)
    if not found or not known or known.keys() != ropes.keys():
        return False
    scaled = []
    for each in found:
        wanted = [known[each.layer_type]] if each.layer_type in known else list(known.values())
        if not any(_turns(each.turning, rope, table) for rope in wanted):
            plain = [{"rope_theta": rope["rope_theta"]} for rope in wanted]
            if not mixed or not any(_turns(each.turning, rope, table) for rope in plain):
                raise ModelError(_refusal(each.path, table, whose))
            scaled.append(False)
        else:
            scaled.append(True)
    if not any(scaled):
        raise ModelError(_refusal(found[0].path, table, whose))
    return True


def _turns(found: Turning, rope: Rope, table: Mapping[str, Any]) -> bool:
    """Whether something turns as `rope` says, in as many dimensions."""
    dims = 2 * len(found.frequencies)
    heads = table.get("head_dim") or (table.get("hidden_size") or 0) // (table.get("num_attention_heads") or 1)
    part = rope.get("partial_rotary_factor")
    if part is not None and heads and "qk_rope_head_dim" not in table and dims - int(heads * part) not in (0, 1):
        return False
    return found.equals(SCALED[rope_type(rope)](rope, dims, table))


def _base(rope: Rope) -> Any:
    return rope.get("rope_theta")


def unscaled(base: float, dims: int) -> NDArray[np.float64]:
    return float(base) ** (-np.arange(0, dims, 2) / dims)


def _default(rope: Rope, dims: int, table: Mapping[str, Any]) -> Turning:
    return Turning(frequencies=unscaled(rope["rope_theta"], dims))


def _dynamic(rope: Rope, dims: int, table: Mapping[str, Any]) -> Turning:
    """As it is up to the model's own length; Hunyuan's `alpha` widens the base at every length."""
    widened = float(rope.get("alpha") or 1) ** (dims / (dims - 2)) if dims > 2 else 1.0
    return Turning(frequencies=unscaled(rope["rope_theta"] * widened, dims))


def _linear(rope: Rope, dims: int, table: Mapping[str, Any]) -> Turning:
    return Turning(frequencies=unscaled(rope["rope_theta"], dims) / rope["factor"])


def _llama3(rope: Rope, dims: int, table: Mapping[str, Any]) -> Turning:
    """Short waves as they are, long ones divided by the factor, those between mixed (Llama 3.1's model card)."""
    plain = unscaled(rope["rope_theta"], dims)
    rounds = _original(rope, table) * plain / (2 * math.pi)  # full turns within the first training's length
    low, high = rope["low_freq_factor"], rope["high_freq_factor"]
    share = np.clip((rounds - low) / (high - low), 0, 1)
    return Turning(frequencies=plain * (share + (1 - share) / rope["factor"]))


def _yarn(rope: Rope, dims: int, table: Mapping[str, Any]) -> Turning:
    """Peng et al. 2023: the same between two numbers of full turns, by the dimension's index."""
    base, factor, plain = rope["rope_theta"], rope["factor"], unscaled(rope["rope_theta"], dims)

    def index(turns: float) -> float:
        return dims * math.log(_original(rope, table) / (turns * 2 * math.pi)) / (2 * math.log(base))

    low, high = index(rope.get("beta_fast") or 32), index(rope.get("beta_slow") or 1)
    if rope.get("truncate", True):
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, dims - 1)
    divided = np.clip((np.arange(dims // 2) - low) / (high - low or 0.001), 0, 1)
    return Turning(frequencies=plain * (1 - divided + divided / factor), scale=_yarn_scale(rope, factor))


def _yarn_scale(rope: Rope, factor: float) -> float:
    if rope.get("attention_factor") is not None:
        return float(rope["attention_factor"])

    def scale(share: float) -> float:
        return 0.1 * share * math.log(factor) + 1 if factor > 1 else 1.0

    both = rope.get("mscale"), rope.get("mscale_all_dim")
    return scale(both[0]) / scale(both[1]) if both[0] and both[1] else scale(1)


def _longrope(rope: Rope, dims: int, table: Mapping[str, Any]) -> Turning:
    """Ding et al. 2024, within the length of the first training."""
    original = _original(rope, table)
    factor = rope.get("factor") or table["max_position_embeddings"] / original
    scale = math.sqrt(1 + math.log(factor) / math.log(original)) if factor > 1 else 1.0
    said = rope.get("attention_factor") or rope.get("short_mscale")
    frequencies = unscaled(rope["rope_theta"], dims) / np.asarray(rope["short_factor"], np.float64)
    return Turning(frequencies=frequencies, scale=scale if said is None else said)


def _original(rope: Rope, table: Mapping[str, Any]) -> float:
    return float(table.get(ORIGINAL) or rope.get(ORIGINAL) or table["max_position_embeddings"])


# By rope_type. Other types are not known here: that a module reads them is what is asked of it then.
SCALED = {
    "default": _default,
    "dynamic": _dynamic,
    "linear": _linear,
    "llama3": _llama3,
    "yarn": _yarn,
    "longrope": _longrope,
}


def _refusal(path: str, table: Mapping[str, Any], whose: str) -> str:
    said = ", ".join(
        f"{key} = {table[key]!r:.200}" for key in sorted(ROPE_KEYS & table.keys()) if table[key] is not None
    )
    return (
        f"Unsupported config.json: it says {said}, and {whose} {table.get('model_type')!r} does not turn positions so "
        f"(at {path}). Every figure would be of another model."
    )
