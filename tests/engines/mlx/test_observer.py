"""What an observer shows: the inputs of each layer once, of experts each one's own, and who shares them."""

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
from mlx_lm.models.switch_layers import SwitchLinear

from pytest_quantbench.engines.mlx.observer import Observer


class Noted:
    """Inputs that write down what they are told."""

    def __init__(self):
        self.shared, self.rows, self.squares, self.experts = {}, {}, {}, {}

    def share(self, path, owner):
        self.shared[path] = owner

    def add(self, path, rows, square):
        self.rows.setdefault(path, []).append(rows)
        self.squares[path] = square(rows)

    def add_routed(self, path, rows, by_expert, square):
        self.rows.setdefault(path, []).append(rows)
        self.experts[path] = dict(by_expert)


@pytest.mark.parametrize("host", [True, False])
def test_layers_that_are_called_with_one_array_share_it(host):
    noted = Noted()
    observer = Observer(noted, host=host)
    query, key, other = (observer.wrap(name, nn.Linear(8, 4)) for name in ("query", "key", "other"))
    for seed in range(2):
        x = mx.array(np.random.default_rng(seed).standard_normal((2, 3, 8)).astype(np.float32))
        query(x), key(x), other(x * 2)
    assert noted.shared == {"key": "query"}
    assert [len(noted.rows[path]) for path in ("query", "other")] == [2, 2]
    rows = np.array(x).reshape(-1, 8)
    np.testing.assert_array_equal(noted.rows["query"][1], rows)
    np.testing.assert_array_equal(noted.rows["other"][1], 2 * rows)
    np.testing.assert_allclose(noted.squares["query"], rows.astype(np.float64).T @ rows, rtol=1e-5, atol=1e-5)


def test_an_expert_is_shown_the_rows_that_were_sent_to_it():
    noted, layer = Noted(), SwitchLinear(8, 4, 3, bias=False)
    observed = Observer(noted, host=True).wrap("experts", layer)
    x = mx.array(np.random.default_rng(0).standard_normal((5, 1, 1, 8)).astype(np.float32))
    chosen = np.array([[0, 2], [2, 0], [0, 2], [2, 0], [2, 0]])
    result = observed(x, mx.array(chosen))
    np.testing.assert_array_equal(np.array(result), np.array(layer(x, mx.array(chosen))))
    rows = np.array(x).reshape(5, 8)
    np.testing.assert_array_equal(noted.rows["experts"][0], rows)
    assert set(noted.experts["experts"]) == {0, 2}  # nobody was sent to the second
    for found in noted.experts["experts"].values():
        np.testing.assert_array_equal(found, rows)
