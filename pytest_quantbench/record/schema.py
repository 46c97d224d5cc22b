"""One cell's record: frozen, complete, to and from JSON.

Schema history
  1  first version (names of §4.5: compression, throughput, perplexity, accuracy; verdicts and provenance beside them)
  2  verdicts: looks, p values, detectable difference; the noise floor, coherence
  3  perplexity: the protocol's hash, the corpus's revision
  4  the plan's meaning for `compression.ratio` (compressed over original; `times_smaller` is the inverse),
     `accuracy.delta` (a fraction; `delta_points`) and `throughput.runs` (of each prompt; `total_runs`); a verdict for
     every criterion, with what it is of and the figures of the look that decided; speed ratios are suppressed where
     the machine's own speed changed; clusters of questions; divergence: `sampled_nats`, within the interval, in the
     place of `missed_nats`, which was beyond it; what the tokenizer puts around texts; how the text of T2 was sampled,
     its head, perplexities of other texts; integrity: what is wrong with the decoded weights; the
     calibration text; the session that wrote it
  5  candidates: whose file it is, what ties it to its reference, what differs, and its files by their own runtime;
     verdicts: anomalous, `p_better`
  6  what a publication asks for: parameters and architecture, the recipe's parameters, the accelerator with its driver
     and clocks; percentiles of token gaps, the time to the first token with its interval, the process's memory;
     intervals of accuracies and perplexities themselves; the least cosine; what it costs where a price was given;
     the commands that it was measured by
  7  the engine, its walks' activations, whether its speed is judged; T1's roofline and kernels
  8  the key-value cache, T2 by depth, retrieval, T1 in full, loading

Files of schemas 3 to 7 are read too (see older_schemas).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from pytest_quantbench.catalog.recipes import CACHE_LEVEL, LEVELS, Kind, cache_of
from pytest_quantbench.engines.machine import Machine
from pytest_quantbench.errors import RecordError
from pytest_quantbench.judge.coherence import Coherence
from pytest_quantbench.judge.verdict import Verdict
from pytest_quantbench.record.accuracy_schema import Accuracy
from pytest_quantbench.record.cache_schema import Cache
from pytest_quantbench.record.candidate_schema import CandidateFile
from pytest_quantbench.record.load_schema import Load
from pytest_quantbench.record.older_schemas import as_current
from pytest_quantbench.record.perplexity_schema import Perplexity
from pytest_quantbench.record.publication_schema import Accelerator, Cost, ModelFacts
from pytest_quantbench.record.retrieval_schema import Retrieval
from pytest_quantbench.record.runtime_schema import Runtime
from pytest_quantbench.record.sweep_schema import Sweep
from pytest_quantbench.record.throughput_schema import Throughput
from pytest_quantbench.storage.sealed_json import unsealed

SCHEMA = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Compression:
    """Sizes counted from the stored bytes. `original_gb` is BF16 (two bytes per parameter), GB are 10⁹ bytes."""

    original_gb: float
    compressed_gb: float
    ratio: float  # compressed over original: 0.25 is a quarter of the size
    times_smaller: float  # original over compressed
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
    calibration: Mapping[str, str | int] | None = None  # `text`, `sha256`, `sequences`, …; null: none was used
    calibration_ppl: float | None = None  # of the reference on the text's first 512 tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """How far the decoded weights are from the originals, over all encoded matrices."""

    median_snr_db: float | None
    worst_snr_db: float | None
    worst_tensor: str | None
    mean_cosine: float
    largest_error: float
    least_cosine: float | None = None
    least_cosine_tensor: str | None = None
    matrices: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NoiseFloor:
    """What the reference differs from itself by between float32 and bfloat16 activations; null where not measured."""

    perplexity_points: float | None
    kl_nats: float | None  # mean per token
    drop_points: float | None  # of the judged task's accuracy
    flipped_points: float | None  # of the judged task's questions, in percentage points

    @classmethod
    def nothing(cls) -> "NoiseFloor":
        """Not measured."""
        return cls(perplexity_points=None, kl_nats=None, drop_points=None, flipped_points=None)


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
    candidate: CandidateFile | None = None  # null: a recipe of our own
    compression: Compression | None = None
    throughput: Throughput | None = None
    sweep: Sweep | None = None  # T1 in full
    perplexity: Perplexity | None = None
    perplexities: Mapping[str, Perplexity] = field(default_factory=dict)  # of the texts beside the first, by name
    accuracy: Accuracy | None = None
    retrieval: Retrieval | None = None
    runtime: Runtime | None = None  # of a candidate whose format something here runs
    load: Load | None = None
    weights: Weights | None = None
    cache: Cache | None = None  # null: keys and values in 16 bits
    noise_floor: NoiseFloor | None = None
    coherence: Coherence | None = None
    tokenizer: Mapping[str, tuple[str, ...]] | None = None  # `prefix` of all it reads; `suffix_left_out` behind texts
    integrity: tuple[str, ...] | None = None  # what is wrong with the decoded weights; null: not compared
    integrity_notes: tuple[str, ...] = ()  # in what a candidate's weights may differ on purpose
    verdicts: tuple[Verdict, ...] = ()
    machine: Machine | None = None
    accelerator: Accelerator | None = None  # null: a CPU
    facts: ModelFacts | None = None
    recipe_parameters: Mapping[str, str] = field(default_factory=dict)  # of its quantizers: `rtn.bits` → `4`
    cost: Cost | None = None  # null: no price was given
    session: str | None = None  # that wrote it last; the workers of one run share it
    commands: tuple[str, ...] = ()  # that its parts were measured by, the last one last; none: by a program
    raw_sha256: str | None = None  # of the .npz beside it

    @property
    def cell(self) -> str:
        """The name of the cell: `Tiny-int4`."""
        return f"{self.model_id}-{self.recipe}"

    @property
    def kind(self) -> Kind:
        """What the recipe quantizes."""
        if self.cache is None:
            return "weights"
        return "cache" if self.level == CACHE_LEVEL else "both"

    @property
    def file_stem(self) -> str:
        """`Tiny_4bit`, or `Tiny_4bit_gptq` for a recipe that is not the level's default; with a quantized cache
        `Tiny_16bit_kv8`, `Tiny_4bit+kv8`; of a candidate, whose name begins with no level, `Tiny_candidate_NAME`.
        """
        return file_stem(self.model_id, self.recipe, self.bits)


def file_stem(model: str, recipe: str, bits: int) -> str:
    """How the files of a cell are called, by the recipe's or the candidate's id and its width."""
    named = recipe.replace(":", ".")
    if cache_of(recipe) is not None:
        return f"{model}_{bits}bit_{named}"
    weights, plus, held = named.partition("+")
    level, dash, method = weights.partition("-")
    if level not in LEVELS:
        return f"{model}_candidate_{recipe}"
    return f"{model}_{bits}bit{dash and '_'}{method}{plus}{held}"


def read(path: Path) -> Record:
    """The record in a JSON file, one of an older schema as if it were of this one. Raises RecordError naming the file
    and the field that is wrong.
    """
    try:
        return msgspec.convert(as_current(unsealed(path.read_bytes()), SCHEMA), Record)
    except (msgspec.MsgspecError, RecordError, OSError) as error:
        raise RecordError(f"{path} is no record of this tool: {error}. Delete it, or run its cell again.") from error
