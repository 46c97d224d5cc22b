"""Every registered method for the key-value cache, at every width, against what is asked of all; and that what is
asked finds what is wrong.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest

from pytest_quantbench.catalog.recipes import CACHES, Part
from pytest_quantbench.cli.main import main
from pytest_quantbench.errors import ConformanceError, QuantbenchError
from pytest_quantbench.quantizers import kv
from pytest_quantbench.quantizers.kv import CacheForm, Grid, Stage
from pytest_quantbench.workbench.cache_conformance import CHECKS, failures, widths

ALL = [(name, kv.make(part)) for name, part in CACHES.items()]
ALL += [each for name in kv.names() for each in widths(name)]
METHODS = {method: name for name, method in reversed(ALL)}  # each once, under its recipe's name where it has one


@pytest.mark.parametrize("method", METHODS, ids=METHODS.values())
def test_every_method_keeps_to_it(method):
    told = {check: problem for check, problem in failures(method) if problem}
    assert not told


def test_more_bits_are_stored_and_less_is_lost():
    rng = np.random.default_rng(0)
    numbers = rng.standard_normal((2, 256, 64)).astype(np.float32)
    for method in ("affine", "token", "channel", "kivi"):
        parts = [Part(quantizer=method, parameters={"bits": bits}) for bits in (8, 4, 2)]
        forms = [kv.make(part).form(64) for part in parts]
        bits = [form.keys[0].rounding.stored_bits(256, 64) for form in forms]
        errors = [np.square(form.given_back("keys", 0, numbers) - numbers).mean() for form in forms]
        assert bits == sorted(bits, reverse=True)
        assert errors == sorted(errors)


class AllTokens:
    """Rounds with the mean of all tokens that it is given, whichever they are."""

    token_group = 1
    looks = False

    def rounded(self, numbers, queries=None, keys=None):
        return numbers - numbers.mean(axis=1, keepdims=True) if numbers.size else numbers

    def stored_bits(self, tokens, channels):
        return tokens * channels


class InPlace(AllTokens):
    def rounded(self, numbers, queries=None, keys=None):
        numbers *= 2
        return numbers


class Infinite(AllTokens):
    def rounded(self, numbers, queries=None, keys=None):
        with np.errstate(divide="ignore", invalid="ignore"):
            return numbers / np.abs(numbers).max(axis=2, keepdims=True, initial=0)


class AllHeads(AllTokens):
    def rounded(self, numbers, queries=None, keys=None):
        return numbers - numbers.mean(axis=(0, 2), keepdims=True) if numbers.size else numbers


class Free(AllTokens):
    def rounded(self, numbers, queries=None, keys=None):
        return np.rint(numbers)

    def stored_bits(self, tokens, channels):
        return 0


class Nothing(AllTokens):
    def rounded(self, numbers, queries=None, keys=None):
        return numbers


class Drawn(AllTokens):
    def rounded(self, numbers, queries=None, keys=None):
        return numbers + np.random.default_rng().random(numbers.shape, np.float32)


class Flat(AllTokens):
    def rounded(self, numbers, queries=None, keys=None):
        return numbers.reshape(-1, numbers.shape[2])


@dataclass(frozen=True, slots=True, kw_only=True)
class Wrong:
    """A method whose rounding does one thing wrong."""

    rounding: type
    name: ClassVar[str] = "wrong"
    version: ClassVar[int] = 1

    def form(self, channels):
        stage = Stage(rounding=self.rounding())
        return CacheForm(keys=(stage,), values=(stage,))


@pytest.mark.parametrize(
    ("rounding", "check", "told"),
    [
        (AllTokens, "is_causal", "depends on tokens behind it"),
        (InPlace, "shapes_come_back", "writes into what it is given"),
        (Infinite, "odd_numbers_stay_finite", "zeros come back with NaN"),
        (AllHeads, "heads_are_apart", "otherwise beside another one"),
        (Free, "bits_are_counted", "take 0 bits"),
        (Nothing, "engages", "still come back as they were computed"),
        (Drawn, "is_deterministic", "come back as others"),
        (Flat, "shapes_come_back", "come back as"),
    ],
)
def test_what_is_asked_finds_what_is_wrong(rounding, check, told):
    with pytest.raises(ConformanceError, match=told):
        CHECKS[check](Wrong(rounding=rounding))


def test_a_stage_that_would_look_behind_a_query_cannot_be():
    with pytest.raises(QuantbenchError, match="32 are rounded together: a query would see"):
        Stage(rounding=Grid(bits=4, group=32, along="tokens"), chunk=16)
    with pytest.raises(QuantbenchError, match="age = -1"):
        Stage(rounding=None, age=-1)


def test_the_command_line_names_every_check(capsys):
    assert main(["conform", "--kv", "token"]) == 0
    printed = capsys.readouterr().out
    assert "ok     token at 4 bits: is_causal" in printed
    assert "FAILED" not in printed


def test_the_command_line_fails_for_what_is_no_method(capsys):
    assert main(["conform", "--kv", "pytest_quantbench.quantizers.rtn:Rtn"]) == 2
    assert "is no KV-cache quantizer: it lacks form" in capsys.readouterr().err
