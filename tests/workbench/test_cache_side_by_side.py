"""Recipes of the cache side by side: what their figures are, and the files that show them."""

import json

import numpy as np
import pytest

from pytest_quantbench.cli.main import main
from pytest_quantbench.errors import QuantbenchError
from pytest_quantbench.report import charts
from pytest_quantbench.workbench.cache_side_by_side import answers, compare, methods, white, with_outliers


def test_answers_are_those_of_attention():
    rng = np.random.default_rng(0)
    keys, values = rng.standard_normal((2, 2, 5, 8))
    queries = rng.standard_normal((4, 8))
    for head in range(4):
        weights = np.exp(keys[head // 2] @ queries[head] / 8**0.5)
        expected = weights @ values[head // 2] / weights.sum()
        assert np.allclose(answers(queries, keys, values)[head], expected)


def test_more_bits_lose_less_and_outliers_want_channels():
    plain, hard = white(512), with_outliers(512)
    rows = {(name, scene.name): compare(name, method, scene) for name, method in methods() for scene in (plain, hard)}
    errors = [rows[name, plain.name].answer_error for name in ("kv8", "kv4", "kv2")]
    assert errors == sorted(errors)
    assert rows["kv8", plain.name].answer_error < 0.02
    assert rows["kv1-token", hard.name].answer_error > 0.5
    per_channel, per_token = (rows[name, hard.name] for name in ("kv2-channel", "kv2"))
    assert per_channel.bits_per_number == per_token.bits_per_number == 2.5
    assert per_channel.key_snr_db > per_token.key_snr_db + 3
    assert rows["kv4-rot", hard.name].answer_error < rows["kv4", hard.name].answer_error


def test_recipes_of_weights_are_refused():
    with pytest.raises(QuantbenchError, match="int4\\+kv8 is no recipe of the key-value cache alone"):
        list(methods(["int4+kv8"]))


@pytest.mark.skipif(bool(charts.missing()), reason="no charts")
def test_the_command_line_writes_a_table_and_a_chart(tmp_path, capsys):
    assert main(["weights", "--kv", "--method", "kv8", "--method", "kivi2", "--results", str(tmp_path)]) == 0
    assert "outlier channels in the keys: kivi2: 3.41 bits" in capsys.readouterr().out
    assert {path.name for path in tmp_path.iterdir()} == {"caches.json", "caches.md", "caches.svg"}
    assert [row["recipe"] for row in json.loads((tmp_path / "caches.json").read_text())] == ["kv8"] * 2 + ["kivi2"] * 2
    assert "| kivi2 | 3.41 |" in (tmp_path / "caches.md").read_text()
    assert "error of answers" in (tmp_path / "caches.svg").read_text()


def test_matrices_and_caches_are_not_compared_at_once(tmp_path, capsys):
    assert main(["weights", "--kv", "--size", "64", "--results", str(tmp_path)]) == 2
    assert "leave --size and --model" in capsys.readouterr().err
