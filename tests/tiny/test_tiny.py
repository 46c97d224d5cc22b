"""Tiny is what its card says: generated text and tasks, weights, and behaviour under quantization."""

import hashlib
import json
import math

import mlx_lm
import numpy as np
import pytest
from builders import capacity, engine, measured_answers, measured_losses, open_model

from pytest_quantbench.catalog.models import MODELS, TINY_DIRECTORY
from pytest_quantbench.catalog.recipes import recipe
from pytest_quantbench.checkpoints.tokenizer import load_tokenizer
from pytest_quantbench.compress.pipeline import compress
from pytest_quantbench.fetch.texts import read_text
from pytest_quantbench.measures.accuracy.task_set import TaskSet
from pytest_quantbench.measures.perplexity.reading import Reading, Tokens
from pytest_quantbench.stats import series
from pytest_quantbench.tiny.questions import ending_questions, fact_questions
from pytest_quantbench.tiny.stories import PLOTS
from pytest_quantbench.tiny.text import KINDS, held_back, question, text
from pytest_quantbench.tiny.world import Draws, make_world

CARD = json.loads((TINY_DIRECTORY / "card.json").read_text())
WORLD = make_world()


@pytest.mark.parametrize("name", [key.removesuffix("_sha256") for key in CARD if key.endswith("_sha256")])
def test_the_files_are_those_of_the_card(name):
    assert hashlib.sha256((TINY_DIRECTORY / name).read_bytes()).hexdigest() == CARD[f"{name}_sha256"]


def test_it_is_small_enough_to_ship():
    assert sum(file.stat().st_size for file in TINY_DIRECTORY.iterdir()) < 10e6
    assert 3e6 <= CARD["parameters"] == MODELS["Tiny"].parameters <= 5e6


def test_mlx_lm_and_transformers_open_it():
    model, tokenizer = mlx_lm.load(str(TINY_DIRECTORY))
    assert len(model.layers) == 4
    assert tokenizer.encode("a")[0] == tokenizer.bos_token_id
    transformers = pytest.importorskip("transformers")
    pytest.importorskip("torch")
    opened = transformers.AutoModelForCausalLM.from_pretrained(TINY_DIRECTORY)
    assert sum(parameter.numel() for parameter in opened.parameters()) == CARD["parameters"]


def test_the_tasks_are_generated_alike_on_every_machine():
    for name, questions in (("facts", fact_questions(WORLD, 600)), ("endings", ending_questions(WORLD, 600))):
        written = [json.loads(line) for line in (TINY_DIRECTORY / f"{name}.jsonl").read_text().splitlines()]
        assert written == questions


def test_the_held_out_text_is_generated_alike_and_costs_what_the_card_says():
    draws = Draws("held out")
    held_out = text(WORLD, draws, 130_000)
    assert held_out == (TINY_DIRECTORY / "heldout.txt").read_text()
    assert draws.nats / CARD["heldout_tokens"] == pytest.approx(CARD["entropy_nats_per_token"])
    assert CARD["heldout_tokens"] >= 20_000


@pytest.mark.parametrize("name", ["facts", "endings"])
def test_questions_have_four_different_choices_and_the_gold_is_everywhere(name):
    questions = [json.loads(line) for line in (TINY_DIRECTORY / f"{name}.jsonl").read_text().splitlines()]
    assert len(questions) >= 500
    assert all(len(set(question["choices"])) == 4 for question in questions)
    counts = np.bincount([question["gold"] for question in questions])
    assert counts.min() > 0.18 * len(questions)
    assert len({question["id"] for question in questions}) == len(questions)


def value_of(query):
    """`7 plus 9 is` → 16."""
    first, sign, second, _ = query.split()
    return int(first) + int(second) if sign == "plus" else int(first) - int(second)


def test_facts_of_the_task_are_true_and_never_asked_in_the_training_text():
    corpus = text(WORLD, Draws("train-7"), 400_000)
    for asked in fact_questions(WORLD, 600):
        if asked["id"].endswith("-sum"):
            assert int(asked["choices"][asked["gold"]]) == value_of(asked["query"])
            continue
        subject, attribute = asked["id"].rsplit("-", 1)
        assert asked["choices"][asked["gold"]] == WORLD.facts[subject, attribute]
        assert held_back(subject, attribute)
        assert asked["query"] not in corpus
    assert question("Nobody", "pet") == "Question: Which animal does Nobody keep?\nAnswer:"


@pytest.mark.parametrize("plot", PLOTS)
def test_stories_have_one_right_ending_and_three_that_are_wrong(plot):
    draws = Draws(plot.__name__)
    for _ in range(50):
        story = plot(WORLD, draws)
        assert len(set(story.wrong)) >= 3
        assert story.ending not in story.wrong


@pytest.mark.slow
def test_entropy_is_the_surprise_of_the_text_itself():
    """The commonest question is drawn as often as exp(−its nats) says."""
    questions = next(kind for kind in KINDS if kind.__name__ == "_questions")
    counts: dict[str, int] = {}
    nats: dict[str, float] = {}
    for seed in range(4000):
        draws = Draws(seed)
        asked = questions(WORLD, draws)
        counts[asked] = counts.get(asked, 0) + 1
        nats[asked] = draws.nats
    common = sorted(counts, key=lambda asked: -counts[asked])[:5]
    expected = sum(math.exp(-nats[asked]) for asked in common)
    assert sum(counts[asked] for asked in common) / 4000 == pytest.approx(expected, rel=0.35)


def test_draws_are_stable_and_count_their_nats():
    draws = Draws(1)
    assert [draws.pick(range(10)) for _ in range(8)] == [4, 0, 1, 8, 2, 0, 0, 2]
    assert draws.nats == pytest.approx(8 * math.log(10))
    weighted = Draws(2)
    value = weighted.pick_weighted("ab", [3, 1])
    assert weighted.nats == pytest.approx(-math.log(0.75 if value == "a" else 0.25))


def artifact_of(level, tmp_path):
    return compress(open_model(TINY_DIRECTORY), recipe(level), 0, tmp_path)


@pytest.mark.slow
def test_it_behaves_like_a_language_model_under_quantization(tmp_path):
    """Close to the generator's entropy in BF16, then a graded loss: little at 4 bits, more at 3, most at 2."""
    made = [artifact_of(level, tmp_path) for level in ("bf16", "int4-rtn", "int3-rtn", "int2-rtn")]
    text = Tokens(read_text("tiny-heldout", offline=True), load_tokenizer(TINY_DIRECTORY), capacity(made[0].config))
    samples = [measured_losses(engine(host=True), artifact, text, Reading(tokens=8192)) for artifact in made]
    nll = [float(np.mean(sample.nll_nats)) for sample in samples]
    assert 3 < series.perplexity(samples[0].nll_nats) < 20
    assert CARD["entropy_nats_per_token"] - 0.05 < nll[0] < CARD["entropy_nats_per_token"] + 0.25
    assert nll == sorted(nll)
    assert nll[2] - nll[0] < 0.25  # 3 bits do not collapse
    assert nll[1] - nll[0] < nll[2] - nll[0] < nll[3] - nll[0]


@pytest.mark.slow
def test_its_accuracy_leaves_room_on_both_sides(tmp_path):
    artifact = artifact_of("bf16", tmp_path)
    tokenizer = load_tokenizer(TINY_DIRECTORY)
    asked = TaskSet(tokenizer, capacity(artifact.config), MODELS["Tiny"].tasks, {}, 200, 0, offline=True)
    samples = measured_answers(engine(host=True), artifact, asked)
    for task in samples.tasks.values():
        assert 0.75 <= np.mean(task.correct) <= 0.97
        assert task.choices == 4
