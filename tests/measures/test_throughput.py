import mlx.core as mx
import mlx_lm
import numpy as np
import pytest
from builders import open_model
from mlx_lm.generate import generate_step

from pytest_quantbench import engines
from pytest_quantbench.catalog.corpora import PROMPTS
from pytest_quantbench.catalog.recipes import recipe
from pytest_quantbench.checkpoints.tokenizer import load_tokenizer
from pytest_quantbench.compress.pipeline import compress
from pytest_quantbench.engines.mlx import resident
from pytest_quantbench.engines.mlx.walk import Walk
from pytest_quantbench.measures import throughput_runs, throughput_session


def artifact_of(directory, tmp_path, recipe_id="int4-rtn"):
    return compress(open_model(directory), recipe(recipe_id), 0, tmp_path / "cache")


def session(directory, tmp_path, **changes):
    fields = {
        "engine": engines.get(),
        "artifact": artifact_of(directory, tmp_path),
        "tokenizer_directory": directory,
        "runs": 2,
        "new_tokens": 6,
    }
    return throughput_session.Session(**(fields | changes))


def test_runs_go_round_the_prompts_after_one_warm_up(small_model, tmp_path):
    started = session(small_model(), tmp_path)
    started.start()
    first = started.run()
    samples = started.finish()
    assert [run.prompt for run in samples.runs] == list(range(len(PROMPTS))) * 2
    assert samples.runs[0] is first
    assert not set(map(id, samples.warm_ups)) & set(map(id, samples.runs))
    assert 2 <= len(samples.warm_ups) <= 5
    assert samples.reference_runs == ()
    assert samples.load_seconds > 0
    assert samples.memory.peak_bytes > 0
    assert samples.memory.process_peak.peak_bytes > 2**20
    assert samples.bytes_per_token == started.engine.load(started.artifact, "timed").bytes_per_token
    assert min(samples.read_rates) > 1e8
    assert len(samples.read_rates) == 1 + 10 + 1  # before, in front of each, and behind
    assert len(samples.probes_per_second) == 10 + 1
    assert sum(samples.kernels.values()) == 7 * 3 + 2  # a table of embeddings, and a head of its own
    assert samples.step == "module by module"
    assert (samples.reference_bytes_per_token, samples.reference_read_rates) == (None, ())


def test_every_run_has_the_same_length_and_its_times_add_up(small_model, tmp_path):
    started = session(small_model(), tmp_path)
    started.start()
    for run in started.finish().runs:
        assert run.new_tokens == 6  # end of sequence is ignored
        assert len(run.latencies_seconds) == 5
        assert run.first_token_seconds + run.latencies_seconds.sum() == pytest.approx(run.seconds, rel=1e-3)
        assert run.tokens_per_second == pytest.approx(6 / run.seconds)
        assert run.prefill_tokens_per_second == pytest.approx(run.prompt_tokens / run.first_token_seconds)


def test_greedy_generation_is_mlx_lms_own(small_model, tmp_path):
    directory = small_model()
    artifact = artifact_of(directory, tmp_path)
    loaded = resident.load(artifact)
    tokenizer = load_tokenizer(directory)
    ours = throughput_runs.generate(loaded, tokenizer, PROMPTS, 0, 12).text
    model, wrapped = mlx_lm.load(str(artifact.directory))
    model.set_dtype(mx.float32)
    ids = tokenizer.encode(PROMPTS[0])
    theirs = [int(token) for token, _ in generate_step(mx.array(ids), model, max_tokens=12)]
    assert ours == wrapped.decode(theirs)


def test_reference_runs_are_interleaved_prompt_by_prompt(small_model, tmp_path):
    directory = small_model()
    started = session(directory, tmp_path, runs=1, reference=artifact_of(directory, tmp_path, "bf16"))
    started.start()
    samples = started.finish()
    assert [run.prompt for run in samples.reference_runs] == [run.prompt for run in samples.runs]
    assert len(samples.reference_read_rates) == 5  # one in front of each
    assert samples.reference_bytes_per_token > 2 * samples.bytes_per_token
    before = samples.probes_per_second[:5]
    started.runs = 2  # the verdict wants more
    more = started.finish()
    assert [run.prompt for run in more.reference_runs] == [run.prompt for run in more.runs] == 2 * [0, 1, 2, 3, 4]
    assert more.probes_per_second[:5] == before
    assert len(more.first(5).probes_per_second) == 6
    assert more.first(5).runs == samples.runs
    assert more.first(5).reference_read_rates == samples.reference_read_rates
    assert more.first(5).read_rates == samples.read_rates[:6]  # what was read later says nothing of an earlier look


@pytest.mark.parametrize("architecture", ["llama", "qwen2", "gemma3", "phi3"])
@pytest.mark.parametrize("recipe_id", ["bf16", "int4-rtn", "int3-rtn", "int4"])
def test_the_resident_model_and_the_walk_agree(small_model, tmp_path, architecture, recipe_id):
    artifact = artifact_of(small_model(architecture, intermediate_size=172), tmp_path, recipe_id)
    tokens = mx.array(np.random.default_rng(0).integers(0, 2048, (1, 12)))
    loaded = resident.load(artifact)
    walk = Walk(artifact, host=True)
    walk.run([tokens], "")
    expected = np.array(walk.head(0, slice(None)))
    difference = np.abs(np.array(loaded.model(tokens).astype(mx.float32)) - expected).max()
    assert difference < (1e-4 if loaded.activations == "float32" else 0.1) * max(1, np.abs(expected).max())
    assert loaded.dense_layers == 0


def test_runs_after_the_samples_were_taken_load_the_model_again(small_model, tmp_path):
    """Another cell may ask for the reference's samples before the reference's own test runs."""
    started = session(small_model(), tmp_path, runs=1)
    started.start()
    samples = started.finish()
    again = started.run()
    started.let_go()
    assert len(samples.runs) == 5
    assert again.prompt == samples.runs[0].prompt


def test_the_reference_runs_beside_where_the_engine_has_memory_for_it(small_model, tmp_path, monkeypatch):
    """Asked once the model is loaded, so that what of it runs decoded counts; what was decided stays."""
    directory = small_model()
    reference = artifact_of(directory, tmp_path, "bf16")
    free = int(reference.manifest.stored_bytes / throughput_session.MEMORY_SHARE)
    engine = engines.get()
    for left, is_beside in ((free - 1000, False), (free + 1000, True)):
        started = session(directory, tmp_path, engine=engine, runs=1, reference=reference)
        monkeypatch.setattr(type(engine), "free_bytes", lambda self, of=started, left=left: left if of._loaded else 0)
        assert len(started.finish(5).reference_runs) == (5 if is_beside else 0)
        monkeypatch.setattr(type(engine), "free_bytes", lambda self, is_beside=is_beside: 0 if is_beside else 10**12)
        assert len(started.finish(10).reference_runs) == (10 if is_beside else 0)


def test_the_peak_is_of_the_model_alone(small_model, tmp_path, monkeypatch):
    """Neither what memory is read from nor the reference is there yet."""
    engine, log = engines.get(), []
    directory = small_model()
    given = {"engine": engine, "runs": 1, "reference": artifact_of(directory, tmp_path, "bf16")}
    started = session(directory, tmp_path, **given)
    for name in ("load", "reset_peak", "peak_bytes", "read_bytes_per_second"):
        whole = getattr(type(engine), name)

        def logged(self, *given, name=name, whole=whole):
            log.append(name)
            return whole(self, *given)

        monkeypatch.setattr(type(engine), name, logged)
    started.finish()
    assert log[:5] == ["reset_peak", "load", "peak_bytes", "read_bytes_per_second", "load"]
    assert log.count("peak_bytes") == 1


def test_a_model_is_made_ready_for_every_length_before_anything_is_timed(small_model, tmp_path, monkeypatch):
    """The longest first; the reference too."""
    directory, log = small_model(), []
    whole = resident.Resident.timed
    monkeypatch.setattr(resident.Resident, "ready", lambda self, tokens: log.append(tokens))
    monkeypatch.setattr(resident.Resident, "timed", lambda self, *given: log.append("timed") or whole(self, *given))
    prompts = ("One.", "Two, which is longer than one.", "One.")
    beside = artifact_of(directory, tmp_path, "bf16")
    samples = session(directory, tmp_path, prompts=prompts, runs=1, reference=beside).finish()
    lengths = sorted({run.prompt_tokens + 6 for run in samples.runs}, reverse=True)
    assert len(lengths) == 2
    model, reference = len(samples.warm_ups), len(samples.reference_warm_ups)
    assert {run.prompt for run in (*samples.warm_ups, *samples.reference_warm_ups)} == {1}  # takes the most memory
    assert log == [*lengths, *["timed"] * model, *lengths, *["timed"] * (reference + 6)]
