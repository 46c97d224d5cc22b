"""Answers that a model writes: which text it goes on from, where it stops, and what is made of what it wrote."""

import dataclasses
import json

import mlx.core as mx
import numpy as np
import pytest
import small_tokenizers
from builders import capacity, engine, measured_answers, open_model

from pytest_quantbench import engines
from pytest_quantbench.bench.subject import Subject
from pytest_quantbench.catalog.models import MODELS, TINY_DIRECTORY
from pytest_quantbench.catalog.recipes import recipe
from pytest_quantbench.catalog.settings import Settings
from pytest_quantbench.checkpoints.tokenizer import load_tokenizer
from pytest_quantbench.compress.pipeline import compress
from pytest_quantbench.engines.mlx import generate as decoding
from pytest_quantbench.engines.mlx import resident
from pytest_quantbench.engines.mlx.resident import load
from pytest_quantbench.engines.resident import Generation
from pytest_quantbench.errors import CorpusError, QuantbenchError
from pytest_quantbench.measures.accuracy.task_set import TaskSet
from pytest_quantbench.record import folder

TOKENIZER = load_tokenizer(TINY_DIRECTORY)
CONFIG = json.loads((TINY_DIRECTORY / "config.json").read_text())
WRITTEN = f"""
include: {TINY_DIRECTORY / "facts.yaml"}
task: written_facts
output_type: generate_until
doc_to_choice: null
doc_to_target: "{{{{choices[gold]}}}}"
generation_kwargs: {{until: ["\\n", "."], do_sample: false, max_gen_toks: 12}}
metric_list:
  - metric: exact_match
    aggregation: mean
    higher_is_better: true
filter_list:
  - name: stripped
    filter: [{{function: remove_whitespace}}, {{function: take_first}}]
"""
FILES = {"written_facts": TINY_DIRECTORY / "facts.jsonl"}


@pytest.fixture
def artifact(tmp_path):
    return compress(open_model(TINY_DIRECTORY), recipe("bf16"), 0, tmp_path / "cache")


@pytest.fixture
def written_facts(tmp_path):
    """Tiny's facts as a task whose answers are written."""
    path = tmp_path / "written.yaml"
    path.write_text(WRITTEN)
    return str(path)


def ask(names, files=FILES, limit=20, positions=CONFIG["max_position_embeddings"], **rest):
    config = CONFIG | {"max_position_embeddings": positions}
    return TaskSet(TOKENIZER, capacity(config), names, files, limit, 0, offline=True, **rest)


def write(tmp_path, *questions):
    path = tmp_path / "questions.jsonl"
    path.write_text("".join(json.dumps(question) + "\n" for question in questions))
    return path


@pytest.fixture
def answering(monkeypatch):
    """A function that makes the model write what it is given, and the prompts that it would have gone on from."""
    prompts = []

    def answer_with(*texts):
        def generate(model, tokenizer, asked, **told):
            prompts.extend(tokenizer.decode(each) for each in asked)
            return [Generation(text=text, tokens=(), ended="stop") for text in texts]

        monkeypatch.setattr(decoding, "generate", generate)
        return prompts

    return answer_with


def slow(artifact, prompt, most):
    """The likeliest next token, by one forward pass over all that stands there, until a line or a sentence ends."""
    model = load(artifact).model
    ids = list(TOKENIZER.encode(prompt))
    for place in range(most):
        ids.append(int(mx.argmax(model(mx.array([ids]))[0, -1])))
        if ids[-1] == TOKENIZER.eos_token_id or {"\n", "."} & set(TOKENIZER.decode(ids[-place - 1 :])):
            break
    whole = TOKENIZER.decode(ids)[len(TOKENIZER.decode(TOKENIZER.encode(prompt))) :]
    return whole.partition("\n")[0].partition(".")[0]


def test_tiny_writes_the_facts_that_it_knows(artifact, written_facts):
    samples = measured_answers(engine(host=True), artifact, ask([written_facts])).tasks["written_facts"]
    chosen = measured_answers(engine(host=True), artifact, ask(["tiny_facts"])).tasks["tiny_facts"]
    assert samples.ids == chosen.ids
    assert 0.75 <= np.mean(samples.correct) <= 1
    assert (samples.choices, set(samples.gold), set(samples.loglikelihoods)) == (0, {-1}, {()})
    questions = {json.loads(line)["id"]: json.loads(line) for line in FILES["written_facts"].read_text().splitlines()}
    for name, text, correct in zip(samples.ids, samples.texts, samples.correct, strict=True):
        question = questions[name]
        assert correct == (text.strip() == question["choices"][question["gold"]])
    for name, text in list(zip(samples.ids, samples.texts, strict=True))[:3]:
        assert text == slow(artifact, questions[name]["query"], 12)


def test_chosen_and_written_answers_come_together_in_the_order_asked(artifact, written_facts):
    both = measured_answers(engine(host=True), artifact, ask([written_facts, "tiny_endings"], limit=5))
    assert list(both.tasks) == ["written_facts", "tiny_endings"]
    alone = measured_answers(engine(host=True), artifact, ask(["tiny_endings"], limit=5))
    assert both.tasks["tiny_endings"].loglikelihoods == alone.tasks["tiny_endings"].loglikelihoods
    assert both.weights_sha256 == alone.weights_sha256
    only = measured_answers(engine(host=True), artifact, ask([written_facts], limit=5))
    assert only.weights_sha256 == alone.weights_sha256  # though nothing went through the layers
    assert only.tasks["written_facts"].texts == both.tasks["written_facts"].texts


def test_rounded_activations_answer_too(artifact, written_facts, monkeypatch):
    loaded = []
    monkeypatch.setattr(resident, "load", lambda *what, **how: loaded.append(load(*what, **how)) or loaded[-1])
    asked = ask([written_facts], limit=10)
    rounded = asked.writing.answer(engines.get(), artifact, rounding=True)["written_facts"]
    plain = asked.writing.answer(engines.get(), artifact)["written_facts"]
    assert {each.activations for each in loaded} == {"float32", "bfloat16"}
    assert np.mean(rounded.correct) == pytest.approx(np.mean(plain.correct), abs=0.21)


def test_a_record_holds_what_was_written(artifact, written_facts, tmp_path):
    """And judges it: nobody guesses what has to be written."""
    model = dataclasses.replace(MODELS["Tiny"], tasks=(written_facts,))
    settings = Settings(cache=tmp_path / "cache", limit=10, fixed=True, task_files=FILES, fresh=True)
    cell = Subject(model, settings).cell("int4-rtn")
    assert cell.judge("accuracy", 50.0).items == 10
    record = cell.record()
    assert (record.accuracy.tasks["written_facts"].chance, record.coherence.guesses) == (0.0, False)
    assert record.coherence.guessing_p is None
    raw = cell.raw()
    assert len(raw["accuracy/written_facts/texts"]) == len(raw["accuracy/written_facts/correct_raw"]) == 10
    folder.save(record, raw, tmp_path / "results")


def test_answers_that_are_drawn_at_random_are_refused(written_facts, tmp_path):
    for change in ("repeats: 4", "generation_kwargs: {until: ['.'], do_sample: true}"):
        path = tmp_path / "random.yaml"
        path.write_text(f"include: {written_facts}\ntask: drawn\n{change}\n")
        with pytest.raises(CorpusError, match="draws answers at random"):
            ask([str(path)], {"drawn": FILES["written_facts"]})


def test_a_program_that_lacks_its_tests_is_named_before_anything_is_written(tmp_path):
    question = {key: value for key, value in HUMANEVAL.items() if key != "entry_point"}
    with pytest.raises(CorpusError, match="'entry_point'"):
        ask(["humaneval"], {"humaneval": write(tmp_path, question)}, run_code=True)


def test_a_prompt_leaves_room_for_its_answer(written_facts, tmp_path):
    question = {"id": "long", "query": "word " * 2000 + "What?", "choices": ["a"], "gold": 0}
    asked = ask([written_facts], {"written_facts": write(tmp_path, question)})
    (prompt,) = asked.writing.prompts
    assert len(prompt) == CONFIG["max_position_embeddings"] - 12
    assert TOKENIZER.decode(prompt).endswith("What?")
    assert asked.cut_contexts == 1


@pytest.mark.parametrize("template", [("<s>", "$A"), ("<s>", "$A", "</s>"), ("</s>", "<s>", "$A", "</s>")])
def test_prompts_begin_as_all_texts_and_never_end_in_what_stands_behind_them(template, written_facts, tmp_path):
    """A prompt that ends in EOS would be answered as if the next text began."""
    tokenizer = load_tokenizer(small_tokenizers.around(tmp_path / "framed", *template))
    asked = TaskSet(tokenizer, capacity(CONFIG), [written_facts], FILES, 5, 0, offline=True).writing.prompts
    plain = ask([written_facts], limit=5).writing.prompts
    front = tuple(tokenizer.convert_tokens_to_ids(list(template[: template.index("$A")])))
    assert asked == [front + prompt[1:] for prompt in plain]


def test_an_empty_prompt_is_what_stands_in_front_of_texts(written_facts, tmp_path):
    question = {"id": "q", "query": "", "choices": ["a"], "gold": 0}
    files = {"written_facts": write(tmp_path, question)}
    assert ask([written_facts], files).writing.prompts == [(0,)]
    bare = load_tokenizer(small_tokenizers.around(tmp_path / "bare", "$A", bos=None, eos=None))
    with pytest.raises(CorpusError, match="the tokenizer lacks what could stand there"):
        TaskSet(bare, capacity(CONFIG), [written_facts], files, 5, 0, offline=True)


def test_gsm8k_is_judged_strictly_and_loosely(artifact, answering, tmp_path):
    questions = [{"question": f"What is {n} + 1?", "answer": f"It is {n + 1}.\n#### {n + 1}"} for n in range(8)]
    asked = ask(["gsm8k"], {"gsm8k": write(tmp_path, *questions)}, limit=8)
    prompts = answering(*(["So\n#### 1", "#### 7", "The answer is 3", "no idea"] + ["#### 0"] * 4))
    samples = asked.writing.answer(engines.get(), artifact)["gsm8k"]
    assert samples.correct[:4].tolist() == [True, False, False, False]
    assert samples.correct_raw[:4].tolist() == [True, False, True, False]
    assert prompts[0].count("Question:") >= 2  # examples stand in front
    assert prompts[0].rstrip().endswith("Answer:")


HUMANEVAL = {
    "task_id": "HumanEval/0",
    "prompt": 'def double(x):\n    """Twice x."""\n',
    "canonical_solution": "    return 2 * x\n",
    "test": "def check(candidate):\n    assert candidate(3) == 6\n",
    "entry_point": "double",
}


def test_programs_are_run_only_if_that_was_said(tmp_path):
    files = {"humaneval": write(tmp_path, HUMANEVAL)}
    with pytest.raises(QuantbenchError, match="--task humaneval runs programs that the model wrote"):
        ask(["humaneval"], files)
    assert ask(["humaneval"], files, run_code=True).available == {"humaneval": 1}


def test_humaneval_passes_what_passes_its_tests(artifact, answering, tmp_path):
    questions = [HUMANEVAL | {"task_id": f"HumanEval/{n}"} for n in range(4)]
    asked = ask(["humaneval"], {"humaneval": write(tmp_path, *questions)}, run_code=True)
    answering("    return 2 * x\n", "    return x\n", "    import sys; sys.exit(0)\n", "    return (\n")
    assert asked.writing.answer(engines.get(), artifact)["humaneval"].correct.tolist() == [True, False, False, False]


def test_mbpp_shows_its_tests_and_runs_them(artifact, answering, tmp_path):
    tests = ["assert add(1, 2) == 3", "assert add(0, 0) == 0"]
    question = {"text": "Add two numbers.", "code": "def add(a, b):\n    return a + b", "test_list": tests}
    questions = [question | {"task_id": n, "test_setup_code": ""} for n in range(6)]
    asked = ask(["mbpp"], {"mbpp": write(tmp_path, *questions)}, limit=2, positions=4096, run_code=True)
    prompts = answering("def add(a, b):\n    return a + b\n", "def add(a, b):\n    return 3\n")
    assert asked.writing.answer(engines.get(), artifact)["mbpp"].correct.tolist() == [True, False]
    assert prompts[0].rstrip().endswith("[BEGIN]")
    assert prompts[0].count("assert add(0, 0) == 0") == 4  # three solved examples, and its own


def test_a_task_whose_packages_are_not_here_says_what_to_install(tmp_path, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "langdetect", None)
    with pytest.raises(CorpusError, match=r"pip install 'lm-eval\[ifeval\]'"):
        ask(["ifeval"], {"ifeval": write(tmp_path, {"prompt": "Write."})})
