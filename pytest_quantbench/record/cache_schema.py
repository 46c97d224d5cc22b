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
    depths. Null where no walk of this run saw the model's keys and values. `reached_percent`: of the tokens that T2
    scored, how many hang on one that was held in few bits.

    Noise is what another type of activations makes of the reference itself. `kl_within_noise`: the cell's divergence
    from the reference is no larger than that; `delta_within_noise`: its perplexity is no farther from the reference's.
    The second may hold without the first: predictions that move either way leave the mean loss. Null: not measured.
    """

    method: str
    parameters: Mapping[str, str] = field(default_factory=dict)
    layers: int | None = None
    size: CacheSize | None = None
    sizes: tuple[CacheSize, ...] = ()
    reached_percent: float | None = None
    kl_within_noise: bool | None = None
    delta_within_noise: bool | None = None
    noise_nats: float | None = None  # the divergence of the noise, mean per token
