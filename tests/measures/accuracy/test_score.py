import json

import numpy as np
import pytest
from builders import capacity, engine, measured_answers, open_model
from hypothesis import given
from hypothesis import strategies as st
from small_models import shared

from pytest_quantbench.catalog.models import TINY_DIRECTORY
from pytest_quantbench.catalog.recipes import recipe
from pytest_quantbench.checkpoints.tokenizer import load_tokenizer
from pytest_quantbench.compress.pipeline import compress
from pytest_quantbench.errors import CorpusError, OfflineError, UnknownNameError
from pytest_quantbench.measures import requests
from pytest_quantbench.measures.accuracy.lm_eval_tasks import EMBEDDED, load_task, quiet_lm_eval, sample
from pytest_quantbench.measures.accuracy.task_set import TaskSet

TINY_TASKS = ("tiny_facts", "tiny_endings")


def measure(directory, tmp_path, names=TINY_TASKS, files=None, limit=20, seed=0):
    artifact = compress(open_model(directory), recipe("bf16"), 0, tmp_path / "cache")
    tokenizer = load_tokenizer(directory)
    asked = TaskSet(tokenizer, capacity(artifact.config), names, files or {}, limit, seed, offline=True)
    return measured_answers(engine(host=True), artifact, asked)


def hf_loglikelihoods(directory, names, files, limit):
    """The same questions through lm-eval's own Hugging Face backend in float32."""
    pytest.importorskip("torch")
    from lm_eval import evaluator
    from lm_eval.models.huggingface import HFLM

    model = HFLM(pretrained=str(directory), dtype="float32", device="cpu", batch_size=8)
    tasks = {name: load_task(name, files.get(name, EMBEDDED.get(name)), True) for name in names}
    chosen = {name: sample(len(task.eval_docs), limit, 0) for name, task in tasks.items()}
    with quiet_lm_eval():
        results = evaluator.evaluate(
            model, {"tasks": tasks, "groups": {}, "group_map": {}}, samples=chosen, bootstrap_iters=0
        )
    return {
        name: [[answer[0] for answer in entry["filtered_resps"]] for entry in results["samples"][name]]
        for name in names
    }


def compare(ours, theirs):
    for name, questions in theirs.items():
        for mine, other in zip(ours.tasks[name].loglikelihoods, questions, strict=True):
            assert np.abs(np.array(mine) - other).max() < 1e-3


@pytest.mark.slow
def test_tiny_agrees_with_the_hugging_face_backend(tmp_path):
    ours = measure(TINY_DIRECTORY, tmp_path)
    compare(ours, hf_loglikelihoods(TINY_DIRECTORY, TINY_TASKS, {}, 20))


def test_stories260k_agrees_with_the_hugging_face_backend(tmp_path):
    directory = shared("stories260k")
    files = {"arc_easy": shared("arc_easy", "test.jsonl"), "hellaswag": shared("hellaswag", "validation.jsonl")}
    ours = measure(directory, tmp_path, tuple(files), files, limit=10)
    compare(ours, hf_loglikelihoods(directory, tuple(files), files, 10))
    assert ours.tasks["arc_easy"].choices == 4


def test_what_is_right_follows_from_the_loglikelihoods(tmp_path):
    """acc is the highest log-likelihood, acc_norm the highest per character of the choice."""
    samples = measure(TINY_DIRECTORY, tmp_path, ("tiny_facts",)).tasks["tiny_facts"]
    asked = map(json.loads, (TINY_DIRECTORY / "facts.jsonl").read_text().splitlines())
    questions = {question["id"]: question for question in asked}
    for index, name in enumerate(samples.ids):
        question, scores = questions[name], np.array(samples.loglikelihoods[index])
        lengths = [len(choice) for choice in question["choices"]]
        assert samples.gold[index] == question["gold"]
        assert samples.correct_raw[index] == (np.argmax(scores) == question["gold"])
        assert samples.correct[index] == (np.argmax(scores / lengths) == question["gold"])


def test_batches_change_nothing_that_matters(tmp_path, monkeypatch):
    together = measure(TINY_DIRECTORY, tmp_path)
    monkeypatch.setattr(requests, "TOKENS_AT_ONCE", 1)
    alone = measure(TINY_DIRECTORY, tmp_path)
    for name in TINY_TASKS:
        for one, other in zip(together.tasks[name].loglikelihoods, alone.tasks[name].loglikelihoods, strict=True):
            assert np.abs(np.array(one) - other).max() < 1e-4
    assert together.weights_sha256 == alone.weights_sha256


def test_the_sample_is_seeded_nested_and_recorded(tmp_path):
    few, more = measure(TINY_DIRECTORY, tmp_path, limit=5), measure(TINY_DIRECTORY, tmp_path, limit=8)
    other = measure(TINY_DIRECTORY, tmp_path, limit=5, seed=1)
    name = "tiny_facts"
    assert set(few.tasks[name].ids) < set(more.tasks[name].ids)
    assert few.tasks[name].sha256 != other.tasks[name].sha256
    assert few.tasks[name].sha256 == measure(TINY_DIRECTORY, tmp_path, limit=5).tasks[name].sha256


@given(st.integers(1, 500), st.integers(1, 600), st.integers(0, 2**31))
def test_samples_never_repeat_a_question(questions, limit, seed):
    chosen = sample(questions, limit, seed)
    assert len(chosen) == len(set(chosen)) == min(questions, limit)
    assert set(chosen) <= set(range(questions))
    assert set(chosen) <= set(sample(questions, limit + 7, seed))


def write(tmp_path, *questions):
    path = tmp_path / "questions.jsonl"
    path.write_text("".join(json.dumps(question) + "\n" for question in questions))
    return path


def test_questions_may_come_from_a_file_of_ones_own(tmp_path):
    question = {"id": "q", "query": "Question: Who?\nAnswer:", "choices": ["a", "b c"], "gold": 1}
    samples = measure(TINY_DIRECTORY, tmp_path, ("tiny_facts",), {"tiny_facts": write(tmp_path, question)})
    assert (samples.tasks["tiny_facts"].ids, samples.tasks["tiny_facts"].choices) == (("q",), 2)


def test_a_context_longer_than_the_model_takes_is_cut_from_the_left(tmp_path):
    def asked(words):
        question = {"id": "q", "query": "x " * words + "Answer:", "choices": ["cat", "dog"], "gold": 0}
        files = {"tiny_facts": write(tmp_path, question)}
        return np.array(measure(TINY_DIRECTORY, tmp_path, ("tiny_facts",), files).tasks["tiny_facts"].loglikelihoods)

    assert np.isfinite(asked(2000)).all()
    np.testing.assert_allclose(asked(2000), asked(3000), atol=1e-5)


def test_questions_that_lack_a_field_are_named(tmp_path):
    files = {"tiny_facts": write(tmp_path, {"id": "q", "query": "Who?"})}
    with pytest.raises(CorpusError, match="tiny_facts"):
        measure(TINY_DIRECTORY, tmp_path, ("tiny_facts",), files)


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(CorpusError, match="there is no such file"):
        measure(TINY_DIRECTORY, tmp_path, ("tiny_facts",), {"tiny_facts": tmp_path / "nowhere.jsonl"})


def test_an_unknown_task_is_named(tmp_path):
    with pytest.raises(UnknownNameError, match="'no_such_task'"):
        measure(TINY_DIRECTORY, tmp_path, ("no_such_task",))


def test_offline_a_task_without_a_file_says_how_to_give_one(tmp_path):
    with pytest.raises(OfflineError, match=r"--task-data arc_easy=FILE\.jsonl"):
        measure(TINY_DIRECTORY, tmp_path, ("arc_easy",))


def test_a_task_may_be_a_yaml_file_of_ones_own(tmp_path):
    facts = TINY_DIRECTORY / "facts.yaml"
    path = tmp_path / "mine.yaml"
    path.write_text(f"include: {facts}\ntask: my_facts\n")
    files = {"my_facts": TINY_DIRECTORY / "facts.jsonl"}
    samples = measure(TINY_DIRECTORY, tmp_path, (str(path),), files, limit=5)
    assert list(samples.tasks) == ["my_facts"]
    assert samples.tasks["my_facts"].ids == measure(TINY_DIRECTORY, tmp_path, limit=5).tasks["tiny_facts"].ids


@pytest.mark.parametrize(("content", "told"), [(None, "there is no such file"), ("dataset: x", "names no task")])
def test_a_yaml_file_that_is_no_task_is_named(tmp_path, content, told):
    path = tmp_path / "mine.yaml"
    if content is not None:
        path.write_text(content)
    with pytest.raises(CorpusError, match=told):
        measure(TINY_DIRECTORY, tmp_path, (str(path),))
