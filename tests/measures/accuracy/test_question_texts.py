"""What a reader is shown of a question: its own text and its options, of lm-eval's tasks of every kind."""

import json

import pytest

from pytest_quantbench.measures.accuracy.lm_eval_tasks import load_task, quiet_lm_eval
from pytest_quantbench.measures.accuracy.multiple_choice import by_task
from pytest_quantbench.measures.accuracy.question_sample import parts_of
from pytest_quantbench.measures.accuracy.question_texts import question_and_options

ARC = {
    "id": "one",
    "question": "What melts ice?",
    "choices": {"text": ["heat", "cold", "dark"], "label": ["A", "B", "C"]},
    "answerKey": "A",
}
MMLU = {"question": "A bone?", "choices": ["femur", "liver", "iris", "skin"], "subject": "anatomy", "answer": 0}
BOX = {"sentence": "The box holds a pen: _ is big.", "option1": "the box", "option2": "the ball", "answer": "2"}
SUM = {"question": "What is 1 + 1?", "answer": "It is 2.\n#### 2"}
CODE = {
    "task_id": "HumanEval/0",
    "prompt": "def double(x):\n",
    "test": "t",
    "canonical_solution": "",
    "entry_point": "double",
}
KNOWN = {
    "arc_challenge": (ARC, "Question: What melts ice?\nAnswer:", ("heat", "cold", "dark")),
    "mmlu_anatomy": (MMLU, "A bone?\nA. femur\nB. liver\nC. iris\nD. skin\nAnswer:", ("A", "B", "C", "D")),
    "winogrande": (BOX, "The box holds a pen: the", ("box is big.", "ball is big.")),
    "lambada_openai": ({"text": "The cat sat on the mat"}, "The cat sat on the", ("mat",)),
    "gsm8k": (SUM, "Question: What is 1 + 1?\nAnswer:", ()),
    "humaneval": (CODE, "def double(x):", ()),
}


def parts(task, tmp_path, question, count=8):
    file = tmp_path / "questions.jsonl"
    file.write_text("".join(json.dumps(question | {"number": number}) + "\n" for number in range(count)))
    with quiet_lm_eval():
        return parts_of(task, {task: load_task(task, file, offline=True)}, limit=count, seed=0, start=0)


@pytest.mark.parametrize("task", KNOWN)
def test_a_question_is_shown_without_what_stands_in_front_of_it(task, tmp_path):
    document, question, options = KNOWN[task]
    (part,) = parts(task, tmp_path, document)
    for _, doc, instances in part.asked:
        assert question_and_options(part.task, doc, instances) == (question, options)
        assert instances[0].args[0].rstrip().endswith(question) == (task != "winogrande")


def test_examples_in_front_are_left_out(tmp_path):
    (part,) = parts("gsm8k", tmp_path, SUM)
    _, doc, instances = next(part.asked)
    assert instances[0].args[0].count("#### 2") == 5
    assert "####" not in question_and_options(part.task, doc, instances)[0]


def test_a_text_that_is_not_found_in_the_prompt_leaves_the_prompt_whole(tmp_path, monkeypatch):
    (part,) = parts("arc_challenge", tmp_path, ARC)
    _, doc, instances = next(part.asked)
    for found in ("something else", "", 3):
        monkeypatch.setattr(part.task, "doc_to_text", lambda doc, found=found: found)
        assert question_and_options(part.task, doc, instances)[0] == "Question: What melts ice?\nAnswer:"


def test_samples_hold_the_texts_in_the_questions_order_however_they_are_cut(tmp_path):
    file_questions = {**ARC, "question": "What melts?"}
    found = parts("arc_challenge", tmp_path, file_questions)

    def row(part, index, doc, instances):
        return {
            "correct": True,
            "correct_raw": True,
            "loglikelihoods": (0.0,),
            "texts": str(doc["number"]),
            "gold": 0,
            "engaged": [],
        }

    for instance in found[0].task.instances:
        instance.resps = [(0.0, False)]
    samples = by_task(found, row)["arc_challenge"]
    assert samples.questions == ("Question: What melts?\nAnswer:",) * 8
    assert samples.options == (("heat", "cold", "dark"),) * 8
    assert samples.first(3).joined(samples.first(2)).options == samples.options[:5]
