"""A byte that is another, a file that is cut: seen and named, or of no consequence, in every file that is ever read.

200 flipped bytes and 200 cuts for every kind of file. What is opened may differ from what was written in nothing that
counts; what is another model has another hash, so that nothing kept of the old one is taken for it.
"""

import contextlib

import numpy as np
import pytest
from builders import make_perplexity, make_record, open_model

from pytest_quantbench.catalog.recipes import recipe
from pytest_quantbench.compress.artifact import open_artifact
from pytest_quantbench.compress.assignment import plan
from pytest_quantbench.compress.pipeline import compress, key_of
from pytest_quantbench.engines.divergence import Fidelity
from pytest_quantbench.errors import ModelError
from pytest_quantbench.record import folder
from pytest_quantbench.record.schema import read
from pytest_quantbench.storage import samples_cache
from pytest_quantbench.storage.cache import SAMPLES

TIMES = 200
INT4, BF16 = (recipe(name) for name in ("int4-rtn", "bf16"))
SMALLER = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2, "head_dim": 8}


def flips(content, rng):
    for _ in range(TIMES):
        damaged = bytearray(content)
        damaged[rng.integers(len(content))] ^= int(rng.integers(1, 256))
        yield bytes(damaged)


def cuts(content, rng):
    for _ in range(TIMES):
        yield content[: rng.integers(len(content))]


def damaged_files(directory, pattern, damage):
    """Every file that fits in turn, damaged while the caller looks at it."""
    files = sorted(directory.glob(pattern))
    whole = [file.read_bytes() for file in files]
    streams = [damage(content, np.random.default_rng(number)) for number, content in enumerate(whole)]
    for number in range(TIMES):
        file = files[number % len(files)]
        file.write_bytes(next(streams[number % len(files)]))
        yield file
        file.write_bytes(whole[number % len(files)])


@pytest.mark.parametrize("damage", [flips, cuts])
@pytest.mark.parametrize("pattern", ["*.safetensors", "manifest.json", "config.json", "tokenizer*"])
def test_an_artifact_is_set_aside_or_nothing_that_counts_has_changed(small_model, tmp_path, caplog, pattern, damage):
    source = open_model(small_model(**SMALLER))
    whole = compress(source, INT4, 0, tmp_path / "cache")
    planned = plan(source, INT4)
    harmless = 0
    for _ in damaged_files(whole.directory, pattern, damage):
        caplog.clear()
        found = open_artifact(whole.directory, source.config, planned)
        if found is not None:
            assert (found.manifest, found.config) == (whole.manifest, whole.config)
            harmless += 1
            continue
        assert "was damaged" in caplog.text
        (aside,) = whole.directory.parent.glob("damaged-*")
        aside.rename(whole.directory)
    assert harmless <= (TIMES // 10 if pattern == "manifest.json" else 0)  # a space for another


@pytest.mark.parametrize("name", ["model-00002-of-00003.safetensors", "manifest.json", "config.json", "tokenizer.json"])
def test_what_was_damaged_or_is_gone_is_made_again_with_the_same_bytes(small_model, tmp_path, name):
    source = open_model(small_model(**SMALLER))
    file = compress(source, INT4, 0, tmp_path / "cache").directory / name
    whole = file.read_bytes()
    for content in (whole[:-2], whole + b"x", None):
        file.unlink()
        if content is not None:
            file.write_bytes(content)
        compress(source, INT4, 0, tmp_path / "cache")
        if name != "manifest.json":  # it says how long it took
            assert file.read_bytes() == whole
    assert len(list(file.parent.parent.glob("damaged-*"))) == 3


@pytest.mark.parametrize("damage", [flips, cuts])
def test_samples_that_were_kept_are_the_same_or_measured_again(tmp_path, damage):
    rng = np.random.default_rng(0)
    numbers = rng.random((2, 40)).astype(np.float32)
    likeliest = rng.integers(100, size=40).astype(np.uint32)
    samples = Fidelity(kl_nats=numbers[0], error_nats=numbers[1], same_top=numbers[0] < 0.5, likeliest=likeliest)
    samples_cache.save(tmp_path, "key", samples)
    path = SAMPLES.of(tmp_path, "key")
    for content in damage(path.read_bytes(), rng):
        path.write_bytes(content)
        assert samples_cache.load(tmp_path, "key", Fidelity) is None
        assert not path.exists()


@pytest.mark.parametrize("damage", [flips, cuts])
def test_a_record_is_the_same_or_left_out_with_a_warning(tmp_path, damage, caplog):
    folder.save(make_record(recipe="int4-gptq"), {}, tmp_path)
    folder.save(make_record(perplexity=make_perplexity()), {}, tmp_path)
    whole = folder.read_all(tmp_path)
    for file in damaged_files(tmp_path, "Tiny_4bit.json", damage):  # one space for another changes nothing
        caplog.clear()
        found = folder.read_all(tmp_path)
        assert found == whole or f"Left out: {file} is no record of this tool" in caplog.text
        assert len(found) == 2 - bool(caplog.text)


@pytest.mark.parametrize("damage", [flips, cuts])
@pytest.mark.parametrize("pattern", ["Tiny_4bit.json", "Tiny_4bit.npz"])
def test_a_record_that_is_completed_keeps_what_is_whole_and_nothing_else(tmp_path, monkeypatch, pattern, damage):
    """Yesterday's T2 and its samples go on beside today's T3, or neither of them does."""
    losses = np.random.default_rng(0).random(64).astype(np.float32)
    folder.save(make_record(perplexity=make_perplexity()), {"perplexity/nll_nats": losses}, tmp_path)
    written = {}
    monkeypatch.setattr(folder, "write_atomically", lambda path, content: written.update({path.suffix: content}))
    for _ in damaged_files(tmp_path, pattern, damage):
        folder.save(make_record(), {}, tmp_path)
        (tmp_path / "now.json").write_bytes(written[".json"])
        (tmp_path / "now.npz").write_bytes(written[".npz"])
        with np.load(tmp_path / "now.npz") as arrays:
            names = arrays.files
            assert all(np.array_equal(arrays[name], losses) for name in names)
        found = read(tmp_path / "now.json").perplexity
        assert (found, names) in ((make_perplexity(), ["perplexity/nll_nats"]), (None, []))


def test_combined_json_is_read_by_nobody_and_written_anew(tmp_path, caplog):
    folder.save(make_record(perplexity=make_perplexity()), {}, tmp_path)
    whole = folder.write_combined(folder.read_all(tmp_path), tmp_path).read_bytes()
    for content in (b"", b"{", whole[:-10], whole.replace(b"4", b"5")):
        (tmp_path / folder.COMBINED).write_bytes(content)
        records = folder.read_all(tmp_path)
        assert folder.write_combined(records, tmp_path).read_bytes() == whole
    assert not caplog.text


@pytest.fixture
def sharded(tmp_path, sharded_files):
    """A model of the user's own, in two files with an index."""
    directory = tmp_path / "own"
    directory.mkdir()
    for name, content in sharded_files.items():
        (directory / name).write_bytes(content)
    return directory


@pytest.mark.parametrize("damage", [flips, cuts])
@pytest.mark.parametrize("pattern", ["*.safetensors", "*.index.json", "config.json", "tokenizer*"])
def test_a_damaged_model_is_refused_by_name_or_another_model(sharded, pattern, damage):
    """A user's own directory has no checksums: what can be read is what is measured, and is called so by its hash."""
    before, refused = open_model(sharded), 0
    known = [before.checkpoint.sha256, key_of(before, INT4, 0, None), key_of(before, BF16, 0, None)]
    for _ in damaged_files(sharded, pattern, damage):
        with contextlib.suppress(ModelError):
            refused += 1
            found = open_model(sharded)
            refused -= 1
            keys = [found.checkpoint.sha256, key_of(found, INT4, 0, None), key_of(found, BF16, 0, None)]
            if pattern == "*.index.json":  # it only says where things are, and they are there
                assert (keys, found.checkpoint.files) == (known, before.checkpoint.files)
            else:
                assert not {*keys} & {*known}
    if damage is cuts:
        assert refused == (0 if pattern == "tokenizer*" else TIMES)  # it is opened when it is needed


@pytest.mark.parametrize("damage", [flips, cuts])
def test_a_damaged_header_is_refused_or_of_another_model(sharded, damage):
    """Weights are most of a file: here every flip is in the header before them."""
    file = sorted(sharded.glob("*.safetensors"))[0]
    content, before = file.read_bytes(), open_model(sharded).checkpoint.sha256
    end = 8 + int.from_bytes(content[:8], "little")
    for header in damage(content[:end], np.random.default_rng(0)):
        file.write_bytes(header + content[end:])
        with contextlib.suppress(ModelError):
            assert open_model(sharded).checkpoint.sha256 != before
