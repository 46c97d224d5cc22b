"""llama.cpp itself, on files of Tiny that our own export wrote: its logits beside those of the walk on the same."""

import numpy as np
import pytest
from builders import engine, open_model

from pytest_quantbench import quantizers
from pytest_quantbench.catalog.models import TINY_DIRECTORY
from pytest_quantbench.compress.exports import get
from pytest_quantbench.compress.exports.protocol import Job
from pytest_quantbench.compress.pipeline import compress
from pytest_quantbench.engines.runtimes import runtime_for
from pytest_quantbench.engines.runtimes.deployed import Deployed
from pytest_quantbench.errors import RunnerError

LLAMA = runtime_for("gguf")
pytestmark = [pytest.mark.slow, pytest.mark.skipif(not LLAMA.is_installed, reason=LLAMA.missing)]
IDS = np.random.default_rng(0).integers(3, 2000, 96).tolist()
SCORED = 80
EXACT = {"cache": "F32", "flash": "off"}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """By recipe: the artifact, and the file of it."""
    folder, made = tmp_path_factory.mktemp("gguf"), {}
    for recipe_id in ("bf16", "int4-q4_k_m"):
        source, chosen = open_model(TINY_DIRECTORY), quantizers.recipe_of(recipe_id)
        artifact = compress(source, chosen, 0, folder / "cache")
        job = Job(name=recipe_id, base_model="owner/Tiny", recipe=chosen, artifact=artifact, source=source)
        directory = folder / recipe_id
        directory.mkdir()
        get("gguf").write(job, directory)
        (file,) = directory.glob("*.gguf")
        made[recipe_id] = artifact, file
    return made


def walked(artifact):
    walk = engine(host=True).walk([artifact])
    walk.run([np.array([IDS], np.int32)], "")
    return walk.logits(0, slice(len(IDS) - SCORED, len(IDS)))


def ran(file, **options):
    with LLAMA.start() as process:
        (found,) = Deployed(process, file, context=128, options=options).logits(IDS, SCORED)
    return found


def rms(first, second):
    following = np.arange(SCORED) % 2000
    return float(np.sqrt(np.square(first.nll(following) - second.nll(following)).mean()))


def test_without_its_shortcuts_it_computes_what_the_walk_does(files):
    artifact, file = files["bf16"]
    walk = walked(artifact)
    exact, usual = rms(ran(file, **EXACT), walk), rms(ran(file), walk)
    assert exact < 0.02  # matrices in BF16 are multiplied by activations in BF16
    assert exact <= usual < 0.05
    assert (ran(file, **EXACT).likeliest() == walk.likeliest()).mean() > 0.95


def test_activations_in_eight_bits_are_what_it_adds(files):
    artifact, file = files["int4-q4_k_m"]
    added = rms(ran(file), walked(artifact))
    assert 0.001 < added < 0.5
    assert added < 0.5 * rms(walked(files["bf16"][0]), walked(artifact))


def test_the_same_file_gives_the_same_twice_and_generates(files):
    _, file = files["int4-q4_k_m"]
    with LLAMA.start() as process:
        loaded = Deployed(process, file, context=128)
        first, again = (next(iter(loaded.logits(IDS, SCORED))) for _ in range(2))
        np.testing.assert_array_equal(first.log_sums, again.log_sums)
        found = loaded.timed(IDS[:10], 6)
        (greedy,) = loaded.logits(IDS[:10], 1)
        assert found.tokens[0] == greedy.likeliest()[0]
        assert len(found.tokens) == len(found.seconds) == 6
        assert loaded.timed(IDS[:10], 6).tokens == found.tokens
        assert "keys and values in F16" in loaded.told


def test_what_is_no_model_is_refused_with_what_it_says_itself(tmp_path, files):
    whole = files["bf16"][1].read_bytes()
    file = tmp_path / "cut.gguf"
    file.write_bytes(whole[: len(whole) // 2])
    with LLAMA.start() as process, pytest.raises(RunnerError, match=r"cannot load .*cut\.gguf \(.*data"):
        Deployed(process, file, context=128)


def test_a_sequence_beyond_its_positions_is_refused(files):
    with LLAMA.start() as process:
        loaded = Deployed(process, files["bf16"][1], context=256)
        with pytest.raises(RunnerError, match="cannot read 300 tokens at position 0: it has 256 positions"):
            list(loaded.logits([5] * 300, 1))
