"""What a record says of a cell's key-value cache: how it is held, what a token takes, and what that saves."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheSize:
    """What the cache of one text takes where so many tokens are in it, with scales, zeros and indices, and with the
    tokens that are still in 16 bits. A layer with a sliding window holds the newest tokens alone, in either.
    """

    tokens: int
    stored_bytes: float
    bf16_bytes: int  # two for each number that is held
    bits_per_token: float  # over all layers
    bits_per_value: float  # of a number of keys or values that is held
    reduction_percent: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Cache:
    """How keys and values are held. What a token takes is counted from what is stored, with scales, zeros, indices and
    the tokens that a method leaves in 16 bits; it depends on how many tokens there are, where some are left.

    `layers`: how many store something. `size` is that at the deepest place that T2 judged, `sizes` those at the usual
    depths. Null where no walk of this run saw the model's keys and values. `within_noise`: whether its divergence from
    the reference is no larger than what another type of activations makes of the reference itself; null: not measured.
    """

    method: str
    parameters: Mapping[str, str] = field(default_factory=dict)
    layers: int | None = None
    size: CacheSize | None = None
    sizes: tuple[CacheSize, ...] = ()
    within_noise: bool | None = None
