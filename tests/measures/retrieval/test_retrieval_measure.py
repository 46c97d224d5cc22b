"""Retrieval along a walk: scores against a plain forward pass, more questions later, what is kept; and a Llama that
finds everything in BF16, and nothing with a cache at 1 bit.
"""

import numpy as np
import pytest
from retrieving_llama import retrieving_llama

from pytest_quantbench.bench.subject import Subject
from pytest_quantbench.catalog.recipes import REFERENCE
from pytest_quantbench.catalog.settings import Settings
from pytest_quantbench.errors import ComparisonError, CorpusError
from pytest_quantbench.measures.retrieval.haystack import HOPS
from pytest_quantbench.measures.retrieval.measure import RETRIEVAL
from pytest_quantbench.measures.retrieval.samples import RetrievalSamples, Stratum

CONTEXT = 512
BETWEEN = "kv3-affine"


@pytest.fixture(scope="module")
def retriever(tmp_path_factory):
    return retrieving_llama(tmp_path_factory.mktemp("retriever") / "model")


def subject_of(model, tmp_path, **changes):
    chosen = {"retrieval_questions": 12, "retrieval_context": CONTEXT, "fixed": True}
    return Subject(str(model), Settings(cache=tmp_path / "cache", **(chosen | changes)))


def test_choices_are_scored_as_plain_forward_passes_score_them(tmp_path):
    """Of Tiny, by Transformers."""
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    subject = subject_of("Tiny", tmp_path, retrieval_questions=1)
    share, found = RETRIEVAL.share(subject.inputs, None, None), subject.reference.samples("retrieval")
    directory = str(subject.inputs.checkpoint.directory)
    model = transformers.AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32)

    def loglikelihood(before, choice):
        with torch.no_grad():
            logits = model(torch.tensor([[*before, *choice]])).logits[0].log_softmax(-1)
        return sum(float(logits[len(before) - 1 + place, token]) for place, token in enumerate(choice))

    for number, context in share.contexts.items():
        for question in context.questions:
            task, before = found.strata[question.stratum.name], [*context.ids, *question.ids]
            told = [loglikelihood(before, choice) for choice in question.choices]
            assert task.loglikelihoods[number] == pytest.approx(told, abs=1e-3)
            per_token = [value / len(choice) for value, choice in zip(told, question.choices, strict=True)]
            assert task.correct[number] == (int(np.argmax(per_token)) == question.gold)
            assert found.depths[question.stratum.name][number] == question.depth


def test_more_questions_are_those_that_were_not_asked(tmp_path):
    subject = subject_of("Tiny", tmp_path, retrieval_questions=2)
    before = subject.reference.samples("retrieval")
    assert RETRIEVAL.share(subject.inputs, 2, before) is None
    more = RETRIEVAL.share(subject.inputs, 5, before)
    assert list(more.contexts) == [2, 3, 4]
    assert more.work != RETRIEVAL.share(subject.inputs, 2, None).work


def test_samples_are_cut_and_joined_question_by_question(tmp_path):
    found = subject_of("Tiny", tmp_path, retrieval_questions=4).reference.samples("retrieval")
    assert found.questions == 4
    two = found.first(2)
    assert two.questions == 2
    joined = two.joined(found)
    name = next(iter(found.strata))
    assert joined.strata[name].ids == ("0", "1", "0", "1", "2", "3")
    assert len(joined.depths[name]) == 6
    with pytest.raises(ComparisonError, match="other weights"):
        found.joined(RetrievalSamples(**{**{f: getattr(found, f) for f in found.__slots__}, "weights_sha256": "other"}))


def test_samples_are_kept_between_sessions(tmp_path):
    first = subject_of("Tiny", tmp_path, retrieval_questions=2)
    kept = first.reference.samples("retrieval")
    second = subject_of("Tiny", tmp_path, retrieval_questions=2)
    again = second.reference.samples("retrieval")
    assert second.reused == ["retrieval of Tiny-bf16"]
    assert all((again.depths[name] == each).all() for name, each in kept.depths.items())
    assert all(again.strata[name].loglikelihoods == each.loglikelihoods for name, each in kept.strata.items())


def test_a_context_that_the_model_does_not_take_is_refused(tmp_path):
    with pytest.raises(CorpusError, match="--retrieval-context 1024 is longer than the 512 tokens that Tiny takes"):
        subject_of("Tiny", tmp_path, retrieval_context=1024).reference.samples("retrieval")


def test_a_stratum_is_found_by_its_name():
    for each in (Stratum(above=0, up_to=512, hops=1), Stratum(above=4096, up_to=8192, hops=3)):
        assert Stratum.named(each.name) == each
    with pytest.raises(ValueError, match="no stratum"):
        Stratum.named("deep")


def test_a_model_that_copies_finds_everything(retriever, tmp_path):
    subject = subject_of(retriever, tmp_path, retrieval_context=1024, retrieval_questions=4)
    found = subject.reference.samples("retrieval")
    assert len(found.strata) == 2 * len(HOPS)
    assert all(each.correct.all() for each in found.strata.values())
    assert subject.cell(REFERENCE).judge("retrieval").outcome == "informational"


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["torch:cpu", "mlx"])
def test_a_cache_at_8_bits_is_at_the_ceiling_one_at_1_bit_at_chance_and_between_it_is_undecided(
    engine, retriever, tmp_path
):
    pytest.importorskip("torch")
    subject = subject_of(retriever, tmp_path, engine=engine, retrieval_questions=40)
    outcomes, right = {}, {}
    for recipe in ("kv8", BETWEEN, "kv1-token"):
        cell = subject.cell(recipe)
        outcomes[recipe] = cell.judge("retrieval", limit=10.0).outcome
        strata = cell.samples("retrieval").strata.values()
        right[recipe] = [float(each.correct.mean()) for each in strata]
    assert all(each.correct.all() for each in subject.reference.samples("retrieval").strata.values())
    assert outcomes == {"kv8": "pass", BETWEEN: "undecided", "kv1-token": "fail"}
    assert min(right["kv8"]) == 1
    assert all(0.05 < each < 0.45 for each in right["kv1-token"])  # chance, with 40 questions
    assert all(0.75 < each <= 1 for each in right[BETWEEN])
