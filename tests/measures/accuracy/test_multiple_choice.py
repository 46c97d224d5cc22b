"""lm-eval's tasks as T3 asks them: out of the box, in groups, from a file; and questions that are wrong."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
from builders import capacity, engine, measured_answers, open_model

from pytest_quantbench.catalog.models import TINY_DIRECTORY
from pytest_quantbench.catalog.recipes import recipe
from pytest_quantbench.checkpoints.tokenizer import load_tokenizer
from pytest_quantbench.compress.pipeline import compress
from pytest_quantbench.errors import CorpusError, ModelError, OfflineError, UnknownNameError
from pytest_quantbench.measures.accuracy import lm_eval_tasks, task_set
from pytest_quantbench.measures.accuracy.lm_eval_tasks import load_task, members
from pytest_quantbench.measures.accuracy.multiple_choice import _Encoder, _refuse_empty
from pytest_quantbench.measures.accuracy.question_sample import parts_of
from pytest_quantbench.measures.accuracy.task_set import TaskSet

TOKENIZER = load_tokenizer(TINY_DIRECTORY)
CONFIG = json.loads((TINY_DIRECTORY / "config.json").read_text())
MMLU = {
    "question": "A bone?",
    "choices": ["femur", "liver", "iris", "skin"],
    "subject": "anatomy",
    "answer": 0,
}
ARC = {
    "id": "one",
    "question": "What melts ice?",
    "choices": {"text": ["heat", "cold", "dark"], "label": ["A", "B", "C"]},
    "answerKey": "A",
}
GOOD = {"id": "good", "query": "Who?", "choices": ["a", "b", "c", "d"], "gold": 1}
KNOWN = {  # a question in the task's own schema, the gold place, and how many choices it has
    "arc_challenge": (ARC, 0, 3),
    "piqa": ({"goal": "Open a jar.", "sol1": "Turn the lid.", "sol2": "Eat the lid.", "label": 1}, 1, 2),
    "winogrande": (
        {"sentence": "A box holds a pen: _ is big.", "option1": "box", "option2": "pen", "answer": "2"},
        1,
        2,
    ),
    "mmlu_anatomy": (MMLU, 0, 4),
    "boolq": ({"passage": "Ice is cold.", "question": "is ice cold", "label": 1}, 1, 2),
    "lambada_openai": ({"text": "The cat sat on the mat"}, 0, 1),
}


def write(tmp_path, *questions):
    path = tmp_path / "questions.jsonl"
    path.write_text("".join(json.dumps(question) + "\n" for question in questions))
    return path


def ask(names, files=None, limit=5, **rest):
    return TaskSet(TOKENIZER, capacity(CONFIG), names, files or {}, limit, 0, offline=True, **rest)


def measure(asked, tmp_path):
    artifact = compress(open_model(TINY_DIRECTORY), recipe("bf16"), 0, tmp_path / "cache")
    return measured_answers(engine(host=True), artifact, asked)


@pytest.mark.slow
@pytest.mark.parametrize("task", KNOWN)
def test_known_tasks_run_with_questions_from_a_file(task, tmp_path):
    question, gold, choices = KNOWN[task]
    file = write(tmp_path, *(question | {"number": number} for number in range(8)))  # some have examples in front
    samples = measure(ask([task], {task: file}, limit=2), tmp_path).tasks[task]
    assert (samples.gold, samples.choices) == ((gold, gold), choices)
    (likelihoods, again) = samples.loglikelihoods
    assert likelihoods == pytest.approx(again, abs=1e-4)
    if choices > 1:
        assert samples.correct_raw[0] == (np.argmax(likelihoods) == gold)
    if task in ("winogrande", "mmlu_anatomy", "boolq"):  # they have no metric per character
        assert (samples.correct == samples.correct_raw).all()


@pytest.mark.slow
def test_a_group_is_its_tasks():
    found = members("mmlu")
    assert len(found) == len(set(found)) == 57
    assert members("mmlu_stem") == [name for name in found if name in members("mmlu_stem")]
    assert members("winogrande") == ["winogrande"]
    with pytest.raises(UnknownNameError, match="'mmlu_of_nothing'"):
        members("mmlu_of_nothing")


@pytest.mark.slow
def test_a_groups_questions_are_sampled_from_all_its_tasks(monkeypatch, tmp_path):
    monkeypatch.setattr(task_set, "members", lambda task: ["tiny_facts", "tiny_endings"])
    few, more = (ask(["tiny_group"], limit=limit) for limit in (8, 30))
    assert few.available == {"tiny_group": 1200}
    samples = measure(more, tmp_path).tasks["tiny_group"]
    assert len(set(samples.ids)) == 30
    assert {name.partition("/")[0] for name in samples.ids} == {"tiny_facts", "tiny_endings"}
    first = measure(few, tmp_path).tasks["tiny_group"]
    assert set(first.ids) <= set(samples.ids)
    monkeypatch.undo()
    alone = measure(ask(["tiny_facts"], limit=600), tmp_path).tasks["tiny_facts"]
    expected = dict(zip(alone.ids, alone.loglikelihoods, strict=True))
    for name, likelihoods in zip(samples.ids, samples.loglikelihoods, strict=True):
        task, _, own = name.partition("/")
        if task == "tiny_facts":
            assert likelihoods == pytest.approx(expected[own], abs=1e-4)


@pytest.mark.parametrize("gold", [4, -1, 2.5])
def test_a_right_choice_that_is_not_there_is_refused(gold, tmp_path):
    question = {"id": "x", "query": "Who?", "choices": ["a", "b", "c", "d"], "gold": gold}
    for questions, told in (([GOOD, question], "4 choices, and .* is to be the right one"), ([question], "right")):
        with pytest.raises(CorpusError, match=told):
            ask(["tiny_facts"], {"tiny_facts": write(tmp_path, *questions)})


def test_an_empty_choice_is_refused(tmp_path):
    """Of a task that puts a space in front of its choices there is always something left: this one does not."""
    path = tmp_path / "bare.yaml"
    path.write_text(f"include: {TINY_DIRECTORY / 'facts.yaml'}\ntask: bare\ntarget_delimiter: ''\n")
    question = {"id": "x", "query": "Who?", "choices": ["a", ""], "gold": 0}
    with pytest.raises(CorpusError, match=r"The choice '' after 'Who\?' has no token of its own"):
        ask([str(path)], {"bare": write(tmp_path, GOOD, question)})
    with pytest.raises(CorpusError, match="the first one lacks a field, has an empty choice"):
        ask([str(path)], {"bare": write(tmp_path, question)})


class Merging:
    """A tokenizer that makes one token of `ab`, and else one of every letter."""

    bos_token_id, eos_token_id = 0, 1

    def encode(self, string, **_):
        return [ord(letter) for letter in string.replace("ab", "Z")]


def test_what_merges_across_the_border_is_what_lm_eval_makes_of_it():
    """As many tokens as the context has alone are the context: of `xa` + `bc`, tokens x Z c, the continuation is c."""
    instances = [SimpleNamespace(args=("xa", "bc")), SimpleNamespace(args=("xa", "b"))]
    requests = _Encoder(Merging()).encoded(instances)
    assert [request.continuation for request in requests] == [(ord("c"),), ()]
    assert requests[0].context == (ord("x"), ord("a"))
    _refuse_empty(instances[:1], requests[:1])
    with pytest.raises(CorpusError, match="the tokenizer merges it into its context"):
        _refuse_empty(instances, requests)


def test_a_question_that_lacks_a_field_is_named_wherever_it_stands(tmp_path):
    whole = {"id": "x", "query": "Who?", "choices": ["a", "b"], "gold": 0}
    broken = {"id": "y", "query": "Who?", "choices": None, "gold": 0}
    with pytest.raises(CorpusError, match=r"not what the task reads.*--task-data tiny_facts=FILE.jsonl"):
        ask(["tiny_facts"], {"tiny_facts": write(tmp_path, whole, broken)})


def test_whole_texts_are_t2s_business(tmp_path):
    with pytest.raises(UnknownNameError, match="wikitext scores whole texts, which T2 does"):
        ask(["wikitext"], {"wikitext": write(tmp_path, {"page": "Some text."})})


def gsm8k(count):
    return [{"question": f"What is {n} + 1?", "answer": f"It is {n + 1}.\n#### {n + 1}"} for n in range(count)]


def prompts(asked):
    return {
        chosen: TOKENIZER.decode(prompt)
        for all_chosen, prompts in [(asked.writing._parts[0].chosen, asked.writing.prompts)]
        for chosen, prompt in zip(all_chosen, prompts, strict=True)
    }


def test_examples_are_the_same_whatever_else_is_asked_and_never_the_question_itself(tmp_path):
    file = {"gsm8k": write(tmp_path, *gsm8k(12))}

    def built(**settings):
        config = CONFIG | {"max_position_embeddings": 4096}
        return prompts(TaskSet(TOKENIZER, capacity(config), ["gsm8k"], file, seed=0, offline=True, **settings))

    whole = built(limit=12)
    assert whole == built(limit=12)
    assert built(limit=5) | built(limit=12, start=5) == whole
    for number, prompt in whole.items():
        assert prompt.count("####") == 5
        assert f"#### {number + 1}\n" not in prompt + "\n"


def test_choices_examples_do_not_hold_the_question_either(tmp_path):
    questions = [MMLU | {"question": f"Number {n}?", "choices": [f"{n}{c}" for c in "wxyz"]} for n in range(8)]
    asked = ask(["mmlu_anatomy"], {"mmlu_anatomy": write(tmp_path, *questions)}, limit=8)
    for number, instance in enumerate(asked.choices._instances[::4]):
        assert instance.args[0].count(f"Number {number}?") == 1


@pytest.mark.parametrize(
    ("task", "question"),
    [
        ("truthfulqa_mc2", {"question": "Q?", "mc2_targets": {"choices": ["a", "b"], "labels": [1, 0]}}),
        ("cola", {"sentence": "It is.", "label": 1}),
    ],
)
def test_metrics_that_say_not_what_is_right_are_refused(task, question, tmp_path):
    with pytest.raises(CorpusError, match="does not say of every answer whether it is right"):
        ask([task], {task: write(tmp_path, question)})


def test_a_task_given_twice_is_refused(tmp_path):
    path = tmp_path / "again.yaml"
    path.write_text(f"include: {TINY_DIRECTORY / 'facts.yaml'}\ntask: tiny_facts\n")
    for names in (["tiny_facts", "tiny_facts"], ["tiny_facts", str(path)]):
        with pytest.raises(UnknownNameError, match="tiny_facts is asked for twice"):
            ask(names)


def test_a_group_that_changes_its_tasks_is_refused():
    with pytest.raises(UnknownNameError, match="give that by itself"):
        members("openllm")


def test_a_token_that_the_model_does_not_know_is_refused():
    with pytest.raises(ModelError, match=r"The tokenizer gives token \d+, and the model knows 100"):
        TaskSet(TOKENIZER, capacity(CONFIG | {"vocab_size": 100}), ["tiny_facts"], {}, 5, 0, offline=True)


def test_what_is_asked_is_known_by_questions_right_answers_and_rules(tmp_path):
    """Kept answers of another gold, another question or another metric are not these."""
    question = {"id": "1", "query": "A", "choices": ["b", "c"], "gold": 0}

    def asked(question, rules="", name="own"):
        data, path = write(tmp_path, question), tmp_path / f"{name}.yaml"
        path.write_text(f"include: {TINY_DIRECTORY / 'facts.yaml'}\ntask: own\n{rules}")
        return ask([str(path)], {"own": data}).sha256

    first = asked(question)
    assert asked(question) == asked(question, name="moved") == first
    others = [
        asked(question | {"gold": 1}),
        asked(question | {"note": "new"}),
        asked(question | {"choices": ["b", "d"]}),
        asked(question, "metric_list:\n  - metric: acc\n"),
        asked(question, "metadata:\n  version: 2.0\n"),
    ]
    assert len({first, *others}) == 6


@pytest.mark.parametrize(
    ("lines", "match"),
    [
        ([GOOD, {**GOOD, "qery": 1}], "line 2 of .* has 'qery', other than the first line"),
        ([GOOD, {name: GOOD[name] for name in ("id", "query", "gold")}], "line 2 of .* lacks 'choices'"),
        ([GOOD, [1]], "line 2 of .* is not a JSON object"),
        ([], "there is no question in it"),
    ],
)
def test_every_line_has_the_fields_of_the_first(tmp_path, lines, match):
    with pytest.raises(CorpusError, match=match):
        ask(["tiny_facts"], {"tiny_facts": write(tmp_path, *lines)})


def test_a_broken_line_is_named_and_line_separators_in_a_text_are_none(tmp_path):
    path = write(tmp_path, GOOD)
    path.write_text(json.dumps({**GOOD, "query": "a\u2028b"}, ensure_ascii=False) + "\n")
    assert ask(["tiny_facts"], {"tiny_facts": path}).available == {"tiny_facts": 1}
    path.write_text(path.read_text() + '{"id": \n')
    with pytest.raises(CorpusError, match=r"line 2 of .* is not JSON"):
        ask(["tiny_facts"], {"tiny_facts": path})


def test_a_misspelled_task_is_told_what_was_meant():
    with pytest.raises(UnknownNameError, match=r"no such task\. Did you mean .*arc_easy.*Tiny's own are tiny_facts"):
        members("arc_esay")


ODD = [
    "[data]",
    "a{b}",
    "a,b",
    "a #b",
    "a: b",
    "q?",
    "q*",
    "**",
    "a b",
    "'a'",
    '"',
    "ünï",
    "-x",
    "~",
    "~x",
    "%41",
    "a\nb",
]
ODD += ["a::b", "zip:", "x=y", "$HOME", "a\\b", "!a", "&a", "@a", "| a", "> a", "#", "a\tb", "null", "{{query}}"]


@pytest.mark.parametrize("name", ODD)
def test_exactly_the_named_file_is_read(name, tmp_path):
    """Of questions, and of a definition, in a folder of such a name: nothing in a path means another file."""
    folder = tmp_path / name
    folder.mkdir()
    lines = (TINY_DIRECTORY / "facts.jsonl").read_text().splitlines(keepends=True)
    data, definition = folder / f"{name}.jsonl", folder / f"{name}.yaml"
    data.write_text("".join(lines[:3]))
    for other in ("qa", "other"):
        (folder / f"{other}.jsonl").write_text("".join(lines[5:9]))
    definition.write_text(f"include: {TINY_DIRECTORY / 'facts.yaml'}\ntask: mine\n", encoding="utf-8-sig")
    asked = ask(["tiny_facts", str(definition)], {"tiny_facts": data, "mine": data}, limit=10)
    assert asked.available == {"tiny_facts": 3, "mine": 3}
    with pytest.raises(CorpusError, match=r"there is no such file"):
        ask(["tiny_facts"], {"tiny_facts": folder / "[qa].jsonl"})


def test_a_definitions_own_functions_are_found_beside_it(tmp_path):
    folder = tmp_path / "of [mine], #1"
    folder.mkdir()
    (folder / "own.py").write_text("def keep(docs):\n    return docs.filter(lambda doc: doc['id'] != 'left out')\n")
    rules = "task: mine\nprocess_docs: !function own.keep\n"
    (folder / "mine.yaml").write_text(f"include: {TINY_DIRECTORY / 'facts.yaml'}\n{rules}")
    file = {"mine": write(tmp_path, GOOD, GOOD | {"id": "left out"})}
    first = ask([str(folder / "mine.yaml")], file)
    assert first.available == {"mine": 1}
    (folder / "mine.yaml").write_text(f"include: {TINY_DIRECTORY / 'facts.yaml'}\n{rules}".replace("keep", "lack"))
    with pytest.raises(CorpusError, match="has no function 'lack'"):
        ask([str(folder / "mine.yaml")], file)


def test_a_definition_may_name_its_task_in_a_file_that_it_includes(tmp_path):
    (tmp_path / "whole.yaml").write_text(f"include: {TINY_DIRECTORY / 'facts.yaml'}\n")
    file = {"tiny_facts": write(tmp_path, GOOD)}
    assert ask([str(tmp_path / "whole.yaml")], file).available == {"tiny_facts": 1}


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("task: [a\n", "not a task's definition"),
        ("- task\n", "not a task's definition"),
        ("include: nowhere.yaml\n", "not a task's definition"),
        ("task: a/b\n", "'a/b' is no name for a task"),
        ("task: [a, b]\n", "names no task"),
    ],
)
def test_a_file_that_defines_no_task_is_named(content, told, tmp_path):
    (tmp_path / "mine.yaml").write_text(content)
    with pytest.raises(CorpusError, match=rf"--task .*mine\.yaml: .*{told}"):
        ask([str(tmp_path / "mine.yaml")])


def test_values_are_as_the_file_has_them(tmp_path):
    """What looks like a date stays a text, and a question saved with a mark is the same question."""
    question = GOOD | {"query": "2020-01-01", "choices": ["2020-01-01", "2020-01-02T00:00:00", "1", "x"]}
    plain = ask(["tiny_facts"], {"tiny_facts": write(tmp_path, question)})
    (instance, *_) = plain.choices._instances
    assert instance.args == ("2020-01-01", " 2020-01-01")
    (tmp_path / "marked.jsonl").write_text(json.dumps(question).replace("\n", "\r\n"), encoding="utf-8-sig")
    assert ask(["tiny_facts"], {"tiny_facts": tmp_path / "marked.jsonl"}).sha256 == plain.sha256


def test_questions_on_one_passage_are_one_cluster_however_many_are_asked(tmp_path):
    passages = ("Ice is cold.", "Fire is hot.", "Rain is wet.")
    questions = [
        {"passage": passages[n % 3], "question": f"is number {n} cold", "label": n % 2, "idx": n} for n in range(12)
    ]
    file = write(tmp_path, *questions)
    few, all_ = (measure(ask(["boolq"], {"boolq": file}, limit=limit), tmp_path).tasks["boolq"] for limit in (5, 12))
    assert (few.cluster_key, all_.cluster_key) == ("passage", "passage")
    known = dict(zip(all_.ids, all_.clusters, strict=True))
    assert [known[name] for name in few.ids] == list(few.clusters)
    assert [known[str(n)] == known[str(n % 3)] for n in range(12)] == [True] * 12
    assert len(set(all_.clusters)) == 3
    more = measure(ask(["boolq"], {"boolq": file}, limit=12, start=5), tmp_path).tasks["boolq"]
    assert len(few.joined(more).clusters) == 12
    assert few.first(2).clusters == few.clusters[:2]


@pytest.mark.slow
@pytest.mark.parametrize(("members", "clusters"), [(12, 12), (3, 36)])
def test_the_tasks_of_a_large_group_are_clusters_and_of_a_small_one_are_not(members, clusters):
    """MMLU's 57 subjects are drawn from all there are; two or three tasks are what is asked about."""
    one = ask(["tiny_facts"], limit=12).choices._parts[0].task
    lm_eval_tasks = {f"subject{n}": one for n in range(members)}
    parts = parts_of("group", lm_eval_tasks, 10**6, 0, 0)
    names = {part.source(index) for part in parts for index in part.chosen[: 36 // members]}
    assert len(names) == clusters
    assert {part.source_key for part in parts} == ({"task"} if members >= 10 else {""})


def test_questions_that_cannot_be_fetched_are_waited_for_once(monkeypatch):
    tried = []

    class Manager:
        def __init__(self, **_):
            pass

        def load(self, told):
            tried.append(told)
            raise ConnectionError("no route")

    monkeypatch.setattr("lm_eval.tasks.TaskManager", Manager)
    monkeypatch.setattr(lm_eval_tasks, "_unreached", {})
    for _ in range(3):
        with pytest.raises(OfflineError, match=r"arc_easy cannot be fetched \(no route\)"):
            load_task("arc_easy", None, False)
    assert len(tried) == 1
