"""Records → what a model's page on the Hugging Face Hub shows: a card's `model-index`, and files of `.eval_results/`.

Both formats have one value for each result and no interval, so intervals stand in words: in the `notes` of an entry of
`.eval_results/`, and in the name of a metric of the `model-index`. Percent where a value is a share of questions.
An entry of `.eval_results/` is of a dataset on the Hub; what was read from anywhere else is in the card alone.
"""

from dataclasses import dataclass
from typing import Any, cast

import yaml
from huggingface_hub import EvalResultEntry, ModelCard, ModelCardData, eval_result_entries_to_yaml
from huggingface_hub.repocard_data import EvalResult

from pytest_quantbench.catalog.corpora import CORPORA
from pytest_quantbench.errors import ModelError
from pytest_quantbench.record.accuracy_schema import TaskAccuracy
from pytest_quantbench.record.perplexity_schema import Perplexity
from pytest_quantbench.record.schema import Record
from pytest_quantbench.report.tables import interval
from pytest_quantbench.stats.estimates import Interval

FOLDER = ".eval_results"
TASK = "text-generation"
NEW_METADATA = "---\ntags:\n- pytest-quantbench\n---\n\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Dataset:
    """Where a task's questions come from: the dataset on the Hub, its part, and its split."""

    id: str
    title: str
    config: str | None = None
    split: str | None = "test"


DATASETS = {  # by lm-eval's name of the task
    "arc_easy": Dataset(id="allenai/ai2_arc", title="ARC (Easy)", config="ARC-Easy"),
    "arc_challenge": Dataset(id="allenai/ai2_arc", title="ARC (Challenge)", config="ARC-Challenge"),
    "hellaswag": Dataset(id="Rowan/hellaswag", title="HellaSwag", split="validation"),
    "winogrande": Dataset(id="allenai/winogrande", title="WinoGrande", config="winogrande_xl", split="validation"),
    "gsm8k": Dataset(id="openai/gsm8k", title="GSM8K", config="main"),
    "ifeval": Dataset(id="google/IFEval", title="IFEval", split="train"),
}


def entries(record: Record, source_url: str | None = None) -> dict[str, bytes]:
    """The files of `.eval_results/` by name, one for each task whose questions are a dataset of the Hub's."""
    found = {}
    for name, task in record.accuracy.tasks.items() if record.accuracy is not None else ():
        if (dataset := DATASETS.get(name)) is not None:
            entry = EvalResultEntry(
                dataset_id=dataset.id,
                task_id=name,
                value=_percent(task),
                date=record.timestamp,
                source_url=source_url,
                notes=f"{_told(task)}; {_artifact(record)}",
            )
            found[f"{FOLDER}/{name}.yaml"] = _yaml(eval_result_entries_to_yaml([entry])).encode()
    return found


def results(record: Record) -> list[EvalResult]:
    """The results of a record as a card's `model-index` has them: each task's accuracy, each text's perplexity."""
    tasks = record.accuracy.tasks if record.accuracy is not None else {}
    texts = {record.perplexity.corpus: record.perplexity} if record.perplexity is not None else {}
    found = [_accuracy(name, task) for name, task in tasks.items()]
    read = {**texts, **record.perplexities}
    return found + [_perplexity(name, part, part.ppl) for name, part in read.items() if part.ppl is not None]


def card(record: Record, body: str, before: str | None = None) -> str:
    """The README of a model: `before`, or a new one with this text, with the results of this record in its metadata in
    the place of those that it had. Raises ModelError for metadata that cannot be read.
    """
    name = record.cell
    text = f"# {name}\n\n{body}" if before is None else before
    try:
        made = ModelCard(text if text.startswith("---") else NEW_METADATA + text)
    except (ValueError, yaml.YAMLError) as error:
        told = " ".join(str(error).split())
        raise ModelError(f"The metadata of README.md cannot be read: {told}. Mend them, or move the file.") from error
    metadata = cast(ModelCardData, made.data)
    metadata.model_name = metadata.model_name or name
    metadata.eval_results = results(record)
    if record.source.count("/") == 1 and metadata.base_model is None:
        metadata.base_model = record.source
        metadata["base_model_relation"] = "quantized"
    return str(made)


def _accuracy(name: str, task: TaskAccuracy) -> EvalResult:
    dataset = DATASETS.get(name, Dataset(id=name, title=name, split=None))
    return EvalResult(
        task_type=TASK,
        dataset_type=dataset.id,
        dataset_name=dataset.title,
        dataset_config=dataset.config,
        dataset_split=dataset.split,
        metric_type="accuracy",
        metric_name=_told(task),
        metric_value=_percent(task),
    )


def _perplexity(name: str, part: Perplexity, value: float) -> EvalResult:
    corpus = CORPORA.get(name)
    delta = "" if part.delta_interval is None else f"; against BF16 {interval(part.delta_interval, 3, '+')}"
    return EvalResult(
        task_type=TASK,
        dataset_type=corpus.dataset or name if corpus is not None else name,
        dataset_name=name,
        dataset_config=corpus.config if corpus is not None else None,
        dataset_split=corpus.split if corpus is not None else None,
        dataset_revision=corpus.revision if corpus is not None else None,
        metric_type="perplexity",
        metric_name=f"perplexity of {part.tokens:,} tokens{delta}{_confidence(part.delta_interval)}",
        metric_value=round(value, 4),
    )


def _percent(task: TaskAccuracy) -> float:
    return round(100 * task.accuracy, 2)


def _told(task: TaskAccuracy) -> str:
    """What a value cannot say: its interval, of how many questions it is, and the drop."""
    told = f"percent of {task.questions:,} questions"
    own = task.accuracy_interval
    if own is not None:
        told += f", interval {100 * own.low:.1f} to {100 * own.high:.1f}{_confidence(own)}"
    if task.drop_points is not None:
        told += f"; points lost against BF16 {interval(task.drop_points, 1)}{_confidence(task.drop_points)}"
    return told


def _confidence(found: Interval | None) -> str:
    return "" if found is None else f" ({100 * found.confidence:g} %)"


def _artifact(record: Record) -> str:
    size = record.compression
    bits = "" if size is None else f", {size.bits_per_weight:.2f} bits per weight"
    return f"{record.recipe}{bits}; by pytest-quantbench"


def _yaml(value: Any) -> str:
    return str(yaml.safe_dump(value, sort_keys=False, allow_unicode=True, width=10_000))
