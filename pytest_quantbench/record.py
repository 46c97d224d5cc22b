"""One cell's record: frozen, complete, to and from JSON.

Schema history
  1  first version (names of §4.5: compression, throughput, perplexity, accuracy; verdicts and provenance beside them)
  2  verdicts: looks, p values, detectable difference; the noise floor, coherence
  3  perplexity: the protocol's hash, the corpus's revision
  4  integrity: what is wrong with the decoded weights
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import msgspec

from pytest_quantbench.errors import RecordError
from pytest_quantbench.storage import unsealed
from pytest_quantbench.verdict import Interval, Verdict

SCHEMA = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Compression:
    """Sizes counted from the stored bytes. `original_gb` is BF16 (two bytes per parameter), GB are 10⁹ bytes."""

    original_gb: float
    compressed_gb: float
    ratio: float
    time_sec: float
    bits_per_weight: float
    inner_bits_per_weight: float
    outer_bits_per_weight: float | None
    quantized_fraction: float  # of the parameters
    kept: Mapping[str, str] = field(default_factory=dict)  # tensors left alone: reason by name
    notes: Mapping[str, str] = field(default_factory=dict)  # encoded otherwise than the recipe says: by name
    source_dtype: str = "bfloat16"
    artifact: str = ""
    opens_in_mlx_lm: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Throughput:
    """T1. `p95_tps` is the rate that 95 % of the runs reach or exceed."""

    mean_tps: float
    std_tps: float | None
    p95_tps: float
    runs: int
    ratio: Interval | None
    prefill_tps: float
    first_token_sec: float
    load_sec: float
    peak_gb: float
    warm_up_tps: float
    probe_drift: float
    interleaved: bool
    activations: str
    dense_layers: int
    time_sec: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Divergence:
    """How far the predictions are from the reference's, on all tokens of T2.

    KL divergence KL(reference ‖ model) in nats per token: mean and percentiles, each too small by at most
    `missed_nats` on the mean. `same_top` is the share of positions with the same likeliest token; the change of the
    true token's probability is model minus reference.
    """

    kl_nats: float
    kl_interval: Interval | None
    kl_percentiles: Mapping[str, float]  # "50", "90", "99", "99.9"
    missed_nats: float
    same_top: Interval
    probability_change: float
    probability_change_rms: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Perplexity:
    """T2. Nats per token; `delta` in perplexity points. Intervals are paired, from block means."""

    ppl: float | None
    bf16_ppl: float | None
    delta: float | None
    delta_interval: Interval | None
    nll_nats: float
    nll_difference_nats: Interval | None
    ratio: Interval | None
    bits_per_byte: float
    tokens: int
    block_tokens: int
    protocol: str
    protocol_sha256: str  # of it and the text: perplexities of different ones are not compared
    corpus: str
    corpus_sha256: str
    corpus_revision: str | None
    divergence: Divergence | None = None
    time_sec: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskAccuracy:
    """One task, as fractions; the drop in percentage points with Tango's score interval."""

    accuracy: float
    questions: int
    chance: float
    accuracy_raw: float
    version: str
    sha256: str
    bf16_accuracy: float | None = None
    right_to_wrong: int | None = None
    wrong_to_right: int | None = None
    drop_points: Interval | None = None
    mcnemar_p: float | None = None
    unpaired_p: float | None = None
    unpaired_detectable_points: float | None = None
    detectable_points: float | None = None
    questions_for_one_point: int | None = None  # to tell a drop of one point from none, at this flip rate


@dataclass(frozen=True, slots=True, kw_only=True)
class Accuracy:
    """T3 by length-normalised accuracy. `arc_easy` and `hellaswag` are null when the model has other tasks."""

    arc_easy: float | None
    hellaswag: float | None
    combined: float
    bf16_combined: float | None
    delta: float | None
    tasks: Mapping[str, TaskAccuracy]
    chat_template: bool = False
    cut_contexts: int = 0  # requests whose context was longer than the model takes
    time_sec: float | None = None


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What must match before two records' timings are compared."""

    chip: str
    cores: int
    memory_gb: float
    os: str
    backend: Literal["metal", "cuda", "cpu"]
    versions: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """Everything about one cell. A part is null when this run was not asked to measure it."""

    schema: int
    model_id: str
    bits: int
    timestamp: str
    recipe: str
    level: str
    source: str
    revision: str | None
    source_sha256: str
    weights_sha256: str | None  # of the decoded weights that were evaluated
    seed: int
    compression: Compression | None = None
    throughput: Throughput | None = None
    perplexity: Perplexity | None = None
    accuracy: Accuracy | None = None
    weights: Weights | None = None
    noise_floor: NoiseFloor | None = None
    coherence: Coherence | None = None
    integrity: tuple[str, ...] | None = None  # what is wrong with the decoded weights; null: not compared
    verdicts: tuple[Verdict, ...] = ()
    machine: Machine | None = None
    raw_sha256: str | None = None  # of the .npz beside it

    @property
    def file_stem(self) -> str:
        """`Tiny_4bit`, or `Tiny_4bit_gptq` for a recipe that is not the level's default."""
        _, dash, method = self.recipe.replace(":", ".").partition("-")
        return f"{self.model_id}_{self.bits}bit{dash and '_'}{method}"


def read(path: Path) -> Record:
    """The record in a JSON file. Raises RecordError naming the file and the field that is wrong."""
    try:
        values = unsealed(path.read_bytes())
        if values.get("schema") != SCHEMA:
            raise RecordError(f"it has schema {values.get('schema')}; this version reads {SCHEMA}")
        return msgspec.convert(values, Record)
    except (msgspec.MsgspecError, RecordError, OSError) as error:
        raise RecordError(f"{path} is no record of this tool: {error}. Delete it, or run its cell again.") from error
