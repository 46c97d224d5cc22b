"""What can be run: models, levels, criteria, corpora, tasks and prompts. This is the file you edit."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

from pytest_quantbench.errors import unknown

TINY_DIRECTORY = Path(__file__).parent / "tiny" / "model"
GB = 1e9


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """A model that can be judged. `source` is a Hub id or a directory; sizes are of the BF16 weights."""

    name: str
    source: str
    family: str = "unknown"
    parameters: float | None = None
    bf16_gb: float | None = None
    licence: str = "unknown"
    gated: bool = False
    corpus: str = "wikitext2"
    calibration: str = "c4"
    calibration_sequences: int = 128
    tasks: tuple[str, ...] = ("arc_easy", "hellaswag")

    @property
    def local(self) -> bool:
        """Whether the weights lie in a directory and nothing has to be fetched."""
        return Path(self.source).is_dir()


def _hub(
    source: str, family: str, billions: float, gb: float, licence: str, gated: bool = False, name: str = ""
) -> Model:
    return Model(
        name=name or source.split("/")[1],
        source=source,
        family=family,
        parameters=billions * 1e9,
        bf16_gb=gb,
        licence=licence,
        gated=gated,
    )


_MODELS = (
    Model(
        name="Tiny",
        source=str(TINY_DIRECTORY),
        family="llama",
        parameters=3_672_320,
        bf16_gb=0.0073,
        licence="Apache-2.0",
        corpus="tiny-heldout",
        calibration="tiny-train",
        calibration_sequences=32,  # of 512 tokens: 21 for every input of its widest matrix
        tasks=("tiny_facts", "tiny_endings"),
    ),
    _hub("Qwen/Qwen2.5-1.5B-Instruct", "qwen2", 1.54, 3.09, "Apache-2.0"),
    _hub("meta-llama/Llama-3.2-3B-Instruct", "llama", 3.21, 6.43, "Llama 3.2 Community", gated=True),
    _hub("google/gemma-3-4b-it", "gemma3", 4.30, 8.60, "Gemma", gated=True),
    _hub("Qwen/Qwen2.5-7B-Instruct", "qwen2", 7.62, 15.23, "Apache-2.0"),
    _hub("mistralai/Mistral-7B-Instruct-v0.3", "mistral", 7.25, 14.50, "Apache-2.0"),
    _hub("deepseek-ai/DeepSeek-R1-Distill-Qwen-7B", "qwen2", 7.62, 15.23, "MIT"),
    _hub("meta-llama/Llama-3.1-8B-Instruct", "llama", 8.03, 16.06, "Llama 3.1 Community", gated=True),
    _hub("Qwen/Qwen3-8B", "qwen3", 8.19, 16.38, "Apache-2.0"),
    _hub("microsoft/phi-4", "phi3", 14.66, 29.32, "MIT"),
    _hub("Qwen/Qwen2.5-14B-Instruct", "qwen2", 14.77, 29.54, "Apache-2.0"),
)
MODELS: Mapping[str, Model] = MappingProxyType({model.name: model for model in _MODELS})


@dataclass(frozen=True, slots=True, kw_only=True)
class Level:
    """A width. `quantizer` is the level's default method, `outer_bits` what embeddings and output head get."""

    name: str
    bits: int
    quantizer: str
    outer_bits: int


LEVELS: Mapping[str, Level] = MappingProxyType(
    {
        "bf16": Level(name="bf16", bits=16, quantizer="identity", outer_bits=16),
        "int8": Level(name="int8", bits=8, quantizer="int8", outer_bits=8),
        "int4": Level(name="int4", bits=4, quantizer="nibble", outer_bits=4),
        "int3": Level(name="int3", bits=3, quantizer="milo", outer_bits=4),
        "int2": Level(name="int2", bits=2, quantizer="aqlm", outer_bits=4),
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """A judged figure. `better` says on which side of the limit a model is good."""

    name: str
    check: Literal["size", "perplexity", "accuracy", "throughput"]
    items: str  # what its samples are
    better: Literal["higher", "lower"]
    unit: str
    label: str


def _metric(name: str, check: Any, items: str, better: Any, unit: str, label: str) -> Metric:
    return Metric(name=name, check=check, items=items, better=better, unit=unit, label=label)


_METRICS = (
    _metric("size_reduction_percent", "size", "bytes", "higher", "%", "size reduction vs BF16"),
    _metric("perplexity_delta", "perplexity", "tokens", "lower", "", "perplexity delta vs BF16"),
    _metric("accuracy_drop_points", "accuracy", "questions", "lower", "points", "accuracy drop"),
    _metric("throughput_ratio", "throughput", "runs", "higher", "×", "throughput vs BF16"),
)
METRICS: Mapping[str, Metric] = MappingProxyType({metric.name: metric for metric in _METRICS})


def metric_of(check: str) -> str:
    """The metric that a check judges. Raises UnknownNameError for a check that does not exist."""
    names: dict[str, str] = {metric.check: name for name, metric in METRICS.items()}
    if check not in names:
        raise unknown("check", check, list(names))
    return names[check]


# Limits by level and metric; None: measured and shown, not judged.
CRITERIA: Mapping[str, Mapping[str, float | None]] = MappingProxyType(
    {
        "int4": {
            "size_reduction_percent": 70.0,
            "perplexity_delta": 1.0,
            "accuracy_drop_points": 3.0,
            "throughput_ratio": 1.5,
        },
        "int3": {
            "size_reduction_percent": 75.0,
            "perplexity_delta": 2.5,
            "accuracy_drop_points": 6.0,
            "throughput_ratio": 1.3,
        },
        "int2": {
            "size_reduction_percent": 83.0,
            "perplexity_delta": 8.0,
            "accuracy_drop_points": None,
            "throughput_ratio": None,
        },
    }
)
# How many of the models must meet every criterion, out of how many.
SUITE_CRITERIA: Mapping[str, tuple[int, int]] = MappingProxyType({"int4": (8, 10), "int3": (7, 10)})


@dataclass(frozen=True, slots=True, kw_only=True)
class Corpus:
    """A text for T2 or for calibration: a file, what a function returns, or rows of a dataset on the Hub, joined."""

    name: str
    path: Path | None = None
    maker: str = ""  # module:function
    dataset: str = ""
    revision: str | None = None  # of the dataset
    config: str | None = None
    files: str | None = None  # of the dataset, where not all are wanted
    split: str = "test"
    rows: int | None = None  # None: all
    column: str = "text"
    joiner: str = ""


C4_REVISION = "1588ec454efa1a09f29cd18ddd04fe05fc8653a2"
CORPORA: Mapping[str, Corpus] = MappingProxyType(
    {
        "wikitext2": Corpus(
            name="wikitext2",
            dataset="Salesforce/wikitext",
            revision="b08601e04326c79dfdd32d625aee71d232d685c3",
            config="wikitext-2-raw-v1",
        ),
        "ptb": Corpus(
            name="ptb",
            dataset="ptb-text-only/ptb_text_only",
            revision="refs/convert/parquet",  # the dataset itself is a script, which nothing here runs
            files="penn_treebank/test/*.parquet",
            split="train",  # what `datasets` calls the only file
            column="sentence",
            joiner=" ",
        ),
        "c4": Corpus(
            name="c4",
            dataset="allenai/c4",
            revision=C4_REVISION,
            files="en/c4-train.00000-of-01024.json.gz",
            split="train",
            rows=4096,
            joiner="\n\n",
        ),
        "c4-validation": Corpus(
            name="c4-validation",
            dataset="allenai/c4",
            revision=C4_REVISION,
            files="en/c4-validation.00000-of-00008.json.gz",
            split="train",  # what `datasets` calls the only file
            rows=1100,
            joiner="\n\n",
        ),
        "tiny-train": Corpus(name="tiny-train", maker="pytest_quantbench.tiny.text:training_text"),
        "tiny-heldout": Corpus(name="tiny-heldout", path=TINY_DIRECTORY / "heldout.txt"),
    }
)

# Tasks by what quantization does to them, as published comparisons found it: choosing among given answers forgives a
# lot, writing an answer token by token does not.
INSENSITIVE_TASKS = ("arc_easy", "arc_challenge", "hellaswag", "piqa", "winogrande", "boolq", "openbookqa", "mmlu")
SENSITIVE_TASKS = ("gsm8k", "humaneval", "mbpp", "ifeval", "minerva_math")

PROMPTS = (
    "Explain the theory of relativity in simple terms.",
    "Write a Python function to compute Fibonacci numbers.",
    "What are the pros and cons of electric vehicles?",
    "Summarise the French Revolution in 3 sentences.",
    "What is the difference between supervised and unsupervised learning?",
)
NEW_TOKENS = 256
CONTEXT_TOKENS = 2048
Sampling = Literal["windows", "head"]  # how T2 takes tokens of a text
WINDOW_TOKENS = 256  # of a window that is drawn: as much context as the first 512 tokens of a text have on average
SCORED_TOKENS = 64  # of its end
HEAD_TOKENS = 512  # of a text, whose perplexity is what published tables of quantized models show
HEAD_OF_TEXT = "(head)"  # what stands for a text's first tokens beside the names of other texts
