"""What is written is read back with the Hub's own library."""

import pytest
import yaml
from builders import make_record
from generated_suite import records as generated
from huggingface_hub import ModelCard, parse_eval_result_entries
from huggingface_hub.repocard_data import model_index_to_eval_results

from pytest_quantbench.errors import ModelError
from pytest_quantbench.report import hub


@pytest.fixture(scope="module")
def record():
    return next(each for each in generated(1, recipes=("int4",)) if each.recipe == "int4")


def read(card):
    """A card's metadata and its text, as the Hub's library has them."""
    made = ModelCard(card)
    return made.data.to_dict(), made.text.strip()


def test_each_task_with_a_dataset_on_the_hub_has_a_file(record):
    files = hub.entries(record, "https://example.org/run/1")
    assert list(files) == [".eval_results/arc_easy.yaml", ".eval_results/hellaswag.yaml"]
    (entry,) = parse_eval_result_entries(yaml.safe_load(files[".eval_results/arc_easy.yaml"]))
    task = record.accuracy.tasks["arc_easy"]
    assert (entry.dataset_id, entry.task_id) == ("allenai/ai2_arc", "arc_easy")
    assert entry.value == pytest.approx(100 * task.accuracy, abs=0.005)
    assert entry.source_url == "https://example.org/run/1"
    assert entry.date == record.timestamp
    lost = task.drop_points
    assert f"points lost against BF16 {lost.estimate:.1f} [{lost.low:.1f}, {lost.high:.1f}] (90 %)" in entry.notes
    assert f"percent of {task.questions} questions" in entry.notes
    assert "int4, 4.51 bits per weight" in entry.notes


def test_a_task_of_ones_own_has_no_file_and_stands_in_the_card(record):
    (task, *_) = record.accuracy.tasks.values()
    mine = make_record(
        accuracy=type(record.accuracy)(
            arc_easy=None, hellaswag=None, combined=0.5, bf16_combined=None, delta=None, tasks={"mine": task}
        )
    )
    assert hub.entries(mine) == {}
    assert [each.dataset_type for each in hub.results(mine)] == ["mine"]


def test_nothing_measured_is_no_result():
    assert hub.entries(make_record()) == {}
    assert hub.results(make_record()) == []


def test_a_cards_model_index_is_what_the_hub_reads(record):
    metadata, text = read(hub.card(record, "Text."))
    name, found = model_index_to_eval_results(metadata["model-index"])
    assert name == f"{record.model_id}-int4"
    assert [each.metric_type for each in found] == ["accuracy", "accuracy", "perplexity"]
    assert found[2].metric_value == pytest.approx(record.perplexity.ppl, abs=5e-5)
    assert found[2].dataset_type == "Salesforce/wikitext"
    assert "against BF16 +" in found[2].metric_name
    assert metadata["base_model"] == record.source
    assert metadata["base_model_relation"] == "quantized"
    assert text.endswith("Text.")


OLD = """---
license: mit
base_model: someone/else
model-index:
- name: Their name
  results:
  - task: {type: text-generation}
    dataset: {name: X, type: x}
    metrics: [{type: accuracy, value: 1}]
---
# Theirs

Their text.
"""


def test_a_card_that_is_there_keeps_its_text_and_gets_new_results(record):
    metadata, text = read(hub.card(record, "Not this.", OLD))
    assert text == "# Theirs\n\nTheir text."
    assert (metadata["license"], metadata["base_model"]) == ("mit", "someone/else")
    name, found = model_index_to_eval_results(metadata["model-index"])
    assert name == "Their name"
    assert "x" not in {each.dataset_type for each in found}
    assert hub.card(record, "", hub.card(record, "", OLD)) == hub.card(record, "", OLD)


def test_a_card_without_metadata_gets_some(record):
    metadata, text = read(hub.card(record, "Not this.", "# Theirs\n"))
    assert text == "# Theirs"
    assert len(model_index_to_eval_results(metadata["model-index"])[1]) == 3


@pytest.mark.parametrize("metadata", ["a: [", "- a list", "model-index: nonsense"])
def test_metadata_that_cannot_be_read_are_refused_in_one_sentence(record, metadata):
    with pytest.raises(ModelError, match=r"README.md cannot be read: .*Mend"):
        hub.card(record, "", f"---\n{metadata}\n---\ntext")
