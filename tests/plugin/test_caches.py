"""Recipes of the key-value cache on the command line: which cells there are, what is left out, what is refused."""

import pytest

from pytest_quantbench.catalog.recipes import CACHES, USUAL_CACHES

SOURCE = """
import pytest

@pytest.mark.size
def test_size(cell): pass

@pytest.mark.weights
def test_weights(cell): pass

@pytest.mark.t1
def test_speed(cell): pass

@pytest.mark.t2
def test_perplexity(cell): pass

@pytest.mark.t2
@pytest.mark.depth
def test_depth(cell): pass

@pytest.mark.t3
def test_accuracy(cell): pass
"""
OF_WEIGHTS = {"test_size", "test_weights", "test_speed", "test_perplexity", "test_accuracy"}
OF_A_CACHE = {"test_perplexity", "test_depth", "test_accuracy"}
OF_BOTH = {"test_size", "test_weights", "test_perplexity", "test_depth", "test_accuracy"}


def listed(suite, *arguments):
    """The tests of each cell."""
    found: dict[str, set[str]] = {}
    for line in suite(SOURCE, "--collect-only", "-q", "-k", "Tiny", *arguments).outlines:
        if "::" in line:
            test, _, cell = line.partition("::")[2].rstrip("]").partition("[")
            found.setdefault(cell, set()).add(test)
    return found


def test_checks_that_say_nothing_of_what_is_quantized_are_left_out(suite):
    found = listed(suite, "--recipe", "kv8", "--recipe", "int4+kv8", "--recipe", "int4")
    assert found == {
        "Tiny-bf16": OF_WEIGHTS,
        "Tiny-kv8": OF_A_CACHE,
        "Tiny-int4+kv8": OF_BOTH,
        "Tiny-int4": OF_WEIGHTS,
    }


def test_the_level_has_the_usual_caches_and_is_asked_for(suite):
    assert set(listed(suite, "-m", "kv")) == {f"Tiny-{name}" for name in USUAL_CACHES}
    assert set(listed(suite, "-m", "kv and depth", "--recipe", "kv2")) == {"Tiny-kv2"}
    assert not {f"Tiny-{name}" for name in CACHES} & set(listed(suite))
    assert set(USUAL_CACHES) <= set(CACHES)


@pytest.mark.parametrize("plan", ["A", "C", "S"])
def test_a_cache_needs_no_disk_whatever_the_plan(suite, plan):
    assert "Tiny-kv8" in listed(suite, "--recipe", "kv8", "--disk-plan", plan)


def test_a_recipe_that_does_not_exist_names_those_that_do(suite):
    result = suite(SOURCE, "--recipe", "kv9")
    result.stderr.fnmatch_lines(["*Unknown recipe 'kv9'. Choose from:*kivi2*kv4-rot*kv8*int4+kv8*"])


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("bf16+kv8", "weights in 16 bits need no name; it is kv8."),
        ("kv8+int4", "the weights come first, as in int4+kv8."),
        ("kv8+kv4", "it takes one recipe of the weights and one of the cache, as in int4+kv4."),
        ("int4+kv8+kv4", "it takes one recipe of the weights and one of the cache, as in int4+kv4."),
        ("+kv8", "it takes one recipe of the weights and one of the cache, as in int4+kv8."),
        ("int4+kv9", "'kv9' is no recipe of the key-value cache; those are kv8, kv4, *, and kv4-METHOD."),
        ("int4+", "'' is no recipe of the key-value cache; those are kv8, kv4, *, and kv4-METHOD."),
    ],
)
def test_what_joins_no_weights_and_no_cache_says_why(suite, name, why):
    suite(SOURCE, "--recipe", name).stderr.fnmatch_lines([f"*Unknown recipe '{name}': {why}"])


def test_eight_windows_are_drawn_at_least_unless_a_number_of_tokens_is_given(suite):
    source = (
        "def test_it(quantbench_run):\n"
        "    settings = quantbench_run.settings\n"
        "    assert (settings.fewest_windows, settings.growing_windows) == ({}, {})\n"
    )
    for arguments, fewest, growing in (
        (("--context", "4096", "--stride", "4096"), 8, 16),
        (("--context", "4096", "--stride", "4096", "--tokens", "8192"), 0, 0),
        (("--max-tokens", "9000"), 8, 0),
        (("--sampling", "head", "--context", "4096", "--stride", "4096"), 0, 0),
    ):
        suite(source.format(fewest, growing), *arguments).assert_outcomes(passed=1)
