"""Models to time: random codes in the methods' own formats, of known shapes."""

import numpy as np
import pytest

pytest.importorskip("torch")

from pytest_quantbench.quantizers.protocol import Statistics
from tools.device import random_weights


@pytest.mark.parametrize("form", random_weights.FORMS.values(), ids=lambda form: f"{form.codec.name}{form.codec.bits}")
def test_random_codes_are_of_the_methods_own_format(form):
    """Named, typed and shaped as what the method makes of a matrix, but for what a small one has smaller."""
    shape, rng = (64, 128), np.random.default_rng(0)
    drawn = random_weights.encoded(form, rng, shape)
    weight = rng.standard_normal(shape, np.float32)
    inputs = rng.standard_normal((150, 128), np.float32)
    fitted = Statistics(hessian=inputs.T @ inputs / 150, tokens=150, sample=inputs, peaks=inputs[:16])
    made = form.codec.encode(weight, None if form.codec.calibration == "none" else fitted, 0)
    assert set(made) <= set(drawn.arrays)
    assert {name: made[name].dtype for name in made} == {name: drawn.arrays[name].dtype for name in made}
    assert drawn.dense().shape == shape
    assert 0.2 < drawn.dense().std() / random_weights.DEVIATION < 2
    (layer,) = drawn.layers()
    assert layer.grid is not None


def test_every_parameter_is_drawn_anew_from_its_seed():
    config = random_weights.SHAPES["small"]
    one, same = (random_weights.RandomWeights(config, "int4", "cpu") for _ in range(2))
    name, other = "model.layers.0.mlp.up_proj.weight", "model.layers.1.mlp.up_proj.weight"
    np.testing.assert_array_equal(one.encoding(name).arrays["weight"], same.encoding(name).arrays["weight"])
    assert (one.encoding(name).arrays["weight"] != one.encoding(other).arrays["weight"]).any()
    assert one.encoding("model.norm.weight") is None
    assert one.dense("model.norm.weight").tolist() == [1.0] * 256
    published = random_weights.RandomWeights(config, "bf16", None)
    assert published.dense(name).dtype.name == "bfloat16"
    assert published.encoding(name) is None
    assert published.dense("model.norm.weight").tolist() == [1.0] * 256


def test_sizes_are_those_that_the_shapes_are_named_by():
    counts = {
        name: sum(int(np.prod(shape)) for shape in random_weights.parameters(config).values())
        for name, config in random_weights.SHAPES.items()
    }
    assert counts["8B"] == 8_030_261_248  # Llama 3.1's
    assert counts["100M"] == pytest.approx(100e6, rel=0.05)
