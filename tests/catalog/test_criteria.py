import pytest

from pytest_quantbench.catalog import criteria
from pytest_quantbench.catalog.recipes import LEVELS


@pytest.mark.parametrize("level", LEVELS)
def test_limits_are_the_most_specific_ones(level):
    base = criteria.limit_for("perplexity_delta", "M", level, level, {})
    assert base == {"int4": 1.0, "int3": 2.5, "int2": 8.0}.get(level)
    overrides = {
        level: {"perplexity_delta": 3},
        "M": {"perplexity_delta": 2.0},
        f"M-{level}": {"perplexity_delta": 0.5},
    }
    assert criteria.limit_for("perplexity_delta", "M", level, level, overrides) == 0.5
    assert criteria.limit_for("perplexity_delta", "N", level, level, overrides) == 3.0
    assert criteria.limit_for("perplexity_delta", "M", f"{level}-x", level, overrides) == 2.0
    silenced = {"M": {"perplexity_delta": "informational"}}
    assert criteria.limit_for("perplexity_delta", "M", level, level, silenced) is None
