"""Figures of a record that no criterion judges: errors of the weights, the noise floor, signs of collapse."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """How far the decoded weights are from the originals, over all encoded matrices."""

    median_snr_db: float | None
    worst_snr_db: float | None
    worst_tensor: str | None
    mean_cosine: float
    largest_error: float


@dataclass(frozen=True, slots=True, kw_only=True)
class NoiseFloor:
    """What the reference differs from itself by with activations rounded to bfloat16; null where not measured."""

    perplexity_points: float | None
    kl_nats: float | None  # mean per token
    drop_points: float | None  # of the judged task's accuracy
    flipped_points: float | None  # of the judged task's questions, in percentage points

    @classmethod
    def nothing(cls) -> "NoiseFloor":
        """Not measured."""
        return cls(perplexity_points=None, kl_nats=None, drop_points=None, flipped_points=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Coherence:
    """Whether the model still makes sense. Prompts of T1 by whether the greedy outputs loop; agreement of the outputs.

    `loops`: it loops on most of the prompts that the reference does not loop on. `guesses`: its accuracy is no better
    than guessing, and surely nearer to that than to the reference's. Null: not measured.
    """

    prompts: int | None
    looping: int | None
    only_here: int | None  # prompts on which it loops and the reference does not
    first_token_agreement: float | None
    greedy_prefix_tokens: float | None  # mean over prompts
    guessing_p: float | None  # of so many right answers by guessing
    loops: bool | None
    guesses: bool | None

    @property
    def collapsed(self) -> bool:
        """Whether there is any sign of it."""
        return bool(self.loops or self.guesses)
