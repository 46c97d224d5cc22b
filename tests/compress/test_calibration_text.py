"""Which text calibrates, and the text that a model writes itself: seeded, kept, and drawn as the model would."""

import logging

import mlx.core as mx
import pytest
from builders import capacity, open_model

from pytest_quantbench import engines
from pytest_quantbench.bench.subject import Subject
from pytest_quantbench.catalog.models import MODELS, TINY_DIRECTORY, user_model
from pytest_quantbench.catalog.recipes import REFERENCE
from pytest_quantbench.catalog.settings import Settings
from pytest_quantbench.checkpoints.tokenizer import load_tokenizer
from pytest_quantbench.compress import self_written_text
from pytest_quantbench.compress.calibration_text import SELF, Writer, calibration_set
from pytest_quantbench.compress.pipeline import reference
from pytest_quantbench.compress.self_written_text import _starts, sampled_text
from pytest_quantbench.engines.mlx import generate, resident
from pytest_quantbench.errors import CorpusError, OfflineError
from pytest_quantbench.fetch import texts
from pytest_quantbench.report import terminal
from pytest_quantbench.tiny.text import training_text


@pytest.fixture(scope="module")
def tiny():
    return reference(open_model(TINY_DIRECTORY), REFERENCE, TINY_DIRECTORY)


@pytest.fixture(scope="module")
def tokenizer():
    return load_tokenizer(TINY_DIRECTORY)


def write(tiny, tokenizer, cache, tokens=96, seed=0):
    return sampled_text(engines.get(), tiny, tokenizer, "Tiny", cache, tokens=tokens, length=48, seed=seed)


def test_a_model_writes_text_of_its_own_world(tiny, tokenizer, tmp_path):
    text = write(tiny, tokenizer, tmp_path)
    assert text.name == "sampled from Tiny itself"
    assert len(tokenizer.encode(text.content)) >= 90
    assert "\n\n" in text.content  # several texts


def test_the_same_seed_gives_the_same_text_and_another_seed_another(tiny, tokenizer, tmp_path):
    first, again = (write(tiny, tokenizer, tmp_path / cache) for cache in ("a", "b"))
    assert first == again
    assert write(tiny, tokenizer, tmp_path / "a", seed=1).content != first.content


def test_what_was_written_is_kept(tiny, tokenizer, tmp_path, monkeypatch):
    first = write(tiny, tokenizer, tmp_path)
    monkeypatch.setattr(resident, "load", None)  # nothing is loaded any more
    assert write(tiny, tokenizer, tmp_path) == first
    (kept,) = (tmp_path / "texts").glob("*.json")
    kept.write_bytes(kept.read_bytes().replace(b"e", b"o", 1))
    with pytest.raises(TypeError):  # damaged: it would be written again
        write(tiny, tokenizer, tmp_path)


def test_a_model_larger_than_memory_is_told_the_way_out(tiny, tokenizer, tmp_path, monkeypatch):
    monkeypatch.setattr(self_written_text, "memory_bytes", lambda: 1_000_000)
    with pytest.raises(CorpusError, match=r"Tiny takes .* GB in memory .* --calibration FILE"):
        write(tiny, tokenizer, tmp_path)


def test_a_model_that_ends_its_texts_at_once_is_told_so(tiny, tokenizer, tmp_path, monkeypatch):
    always_end = mx.array([tokenizer.eos_token_id])
    monkeypatch.setattr(generate, "sampler_of", lambda seed, temperature: lambda p: mx.repeat(always_end, p.shape[0]))
    with pytest.raises(CorpusError, match="ends its own texts after 0 of the 96 tokens"):
        write(tiny, tokenizer, tmp_path)


class Bare:
    """A tokenizer that puts nothing in front."""

    bos_token_id, all_special_ids = None, (0, 1)

    def encode(self, text, **_):
        return [5]

    def __len__(self):
        return 4


def test_without_bos_texts_begin_with_any_token_that_is_no_special_one():
    starts = _starts(Bare(), 4, 0)
    assert {next(starts) for _ in range(100)} == {(2,), (3,)}


def writer(tiny, tokenizer, cache):
    return Writer(
        name="mine",
        engine=engines.get(),
        reference=lambda: tiny,
        tokenizer=lambda: tokenizer,
        cache=cache,
        seed=0,
    )


@pytest.mark.slow
def test_a_default_that_cannot_be_had_is_replaced_by_the_models_own_text_and_said(
    tiny, tokenizer, tmp_path, caplog, monkeypatch
):
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    monkeypatch.delenv("HF_HUB_CACHE", raising=False)
    with caplog.at_level(logging.WARNING):
        found = calibration_set(None, "c4", writer(tiny, tokenizer, tmp_path), sequences=1, usual=128, offline=True)
    assert found.text.name == "sampled from mine itself"
    assert "mine is calibrated on text that it writes itself" in caplog.text
    assert found.describe()["sequence_tokens"] == 512
    (batch,) = found.batches(tokenizer, capacity(tiny.config), 0)
    assert batch.shape == (1, 512)


def test_a_text_that_was_asked_for_is_never_replaced(tiny, tokenizer, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    monkeypatch.delenv("HF_HUB_CACHE", raising=False)
    with pytest.raises(OfflineError, match="--calibration FILE"):
        calibration_set("c4", "c4", writer(tiny, tokenizer, tmp_path), sequences=1, usual=128, offline=True)


@pytest.mark.slow
def test_the_models_own_text_can_be_asked_for(tiny, tokenizer, tmp_path):
    found = calibration_set(SELF, "c4", writer(tiny, tokenizer, tmp_path), sequences=1, usual=128, offline=True)
    assert found.text.name == "sampled from mine itself"


def test_no_model_of_a_users_is_calibrated_on_another_world(small_model):
    assert user_model(str(small_model())).calibration == user_model("someone/thing").calibration == "c4"
    assert [name for name, model in MODELS.items() if model.calibration == "tiny-train"] == ["Tiny"]


def test_a_network_that_is_not_there_is_waited_for_once(monkeypatch):
    import datasets

    tried = []

    def load_dataset(*names, **more):
        tried.append(names)
        raise ConnectionError("no route")

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    monkeypatch.setattr(texts, "_unreached", {})
    for _ in range(3):
        with pytest.raises(OfflineError, match=r"wikitext2 cannot be fetched \(no route\)"):
            texts.read_text("wikitext2", offline=False)
    assert len(tried) == 1


@pytest.fixture
def subject(tmp_path):
    def of(text):
        path = tmp_path / "text.txt"
        path.write_text(text)
        settings = Settings(cache=tmp_path / "cache", calibration=path, calibration_sequences=1, fixed=True, tokens=256)
        return Subject(MODELS["Tiny"], settings)

    return of


@pytest.mark.slow
def test_a_text_of_another_kind_is_warned_about_and_both_perplexities_are_said(subject, caplog):
    """Tiny knows English letters, but no Latin: its own world's text passes, this one does not."""
    latin = "Gallia est omnis divisa in partes tres, quarum unam incolunt Belgae, aliam Aquitani. " * 200
    cell = subject(latin).cell("int4-gptq")
    with caplog.at_level(logging.WARNING):
        for limit in (None, 1e6):  # it is said once, however often it is judged
            cell.judge("perplexity", limit)
    assert caplog.text.count("Tiny-int4-gptq is calibrated on text.txt, where the perplexity of BF16 is") == 1
    part = cell.record().compression
    assert part.calibration["text"] == "text.txt"
    assert part.calibration_ppl > 3 * cell.record().perplexity.bf16_ppl
    (line,) = terminal.calibration_lines([cell.record()])
    assert line.startswith("calibration: Tiny-int4-gptq on text.txt (sha256 ")
    assert f"perplexity of BF16 is {part.calibration_ppl:.1f}" in line


@pytest.mark.slow
def test_a_text_of_the_models_own_kind_is_not_warned_about(subject, caplog):
    opened = subject(training_text()[:20_000])
    cell = opened.cell("int4-gptq")
    with caplog.at_level(logging.WARNING):
        cell.judge("perplexity")
    assert "another kind" not in caplog.text
    assert 0 < cell.record().compression.calibration_ppl < 3 * cell.record().perplexity.bf16_ppl
    assert opened.reference.record().compression.calibration is None
