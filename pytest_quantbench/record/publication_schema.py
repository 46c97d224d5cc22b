"""What a record says for a publication: the model itself, the accelerator, and what running it costs."""

from dataclasses import dataclass

from pytest_quantbench.engines.accelerator import Accelerator
from pytest_quantbench.stats.estimates import Interval

__all__ = ["Accelerator", "Cost", "ModelFacts"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFacts:
    """What a publication says of the model itself. Null: its config does not tell."""

    parameters: int
    architecture: str  # as the config names it: `LlamaForCausalLM`
    layers: int | None = None
    hidden_size: int | None = None
    vocabulary: int | None = None
    context_tokens: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What a million tokens cost at a price that the user gave, in the price's currency. Null: no rate was measured.

    `per_million_tokens` follows from decoding at batch 1 as it was measured; `compression` is the price of the seconds
    that compressing took, and `amortised_per_million_tokens` the former with the latter spread over `volume_tokens`.
    """

    price_per_hour: float
    currency: str
    per_million_tokens: Interval | None
    compression: float
    volume_tokens: int | None = None
    amortised_per_million_tokens: Interval | None = None
    suppressed: str = ""  # why there is no cost of tokens: the machine's own speed changed
