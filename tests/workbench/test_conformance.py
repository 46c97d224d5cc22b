"""`quantbench conform`: what is wrong is refused, each for its own reason, and what is sound is not."""

import re

import bad_quantizers
import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from pytest_quantbench import quantizers
from pytest_quantbench.cli.main import main
from pytest_quantbench.errors import ConformanceError, QuantbenchError
from pytest_quantbench.quantizers.rtn import Rtn
from pytest_quantbench.workbench import conformance, distortion, trials
from pytest_quantbench.workbench.side_by_side import methods

FLOOR, PLACES = "no_worse_than_rounding_with_as_many_bits", "errors_are_where_they_belong"
ALONE, BOUND = "needs_nothing_but_its_arrays", "beats_no_bound"
REFUSED = {
    "SignsOfFew": {PLACES: "wrong scales, offsets or signs"},
    "NextGrid": {FLOOR: "is needed", PLACES: "where plain rounding has"},
    "LastGroup": {FLOOR: "is needed", PLACES: r"1 of 4 column blocks \(3: cosine with the original 0.00\)"},
    "FewLevels": {FLOOR: r"SNR of [678]\.\d dB from 4.50 bits per weight, where rounding with as many has 20.8 dB"},
    "RemembersAll": {BOUND: "SNR of inf dB", PLACES: "untouched, to the last bit", ALONE: "KeyError"},
    "RemembersWithNoise": {ALONE: "is decoded to another one in a fresh process"},
    "KeepsFile": {BOUND: "no code of so many bits has more than 2", ALONE: "fails in a fresh process"},
    "FourArrays": {"stores_the_bits_that_it_says": r"takes 16.00 bits in all arrays together at a width of 4"},
    "HashSeeded": {ALONE: "is decoded to another one in a fresh process: values differ"},
    "TallSwapped": {PLACES: "it is permuted: row 1 holds what belongs in 2, row 2 holds what belongs in 1"},
    "ColumnsShifted": {PLACES: "it is permuted: column block 0 holds what belongs in 1"},
    "LargeUnsound": {PLACES: r"a Gaussian \(3072, 1536\) matrix has .* groups of 64 weights"},
    "OneRow": {PLACES: "1 of 256 rows of another size .128: 0.50 times the original"},
    "WritesIntoWeight": {"leaves_what_it_is_given": "encode writes into the weight"},
    "Offset": {PLACES: r"shifted as a whole: its mean error is 1\d% of the mean absolute weight"},
    "Shrunk": {PLACES: "too small as a whole: 1[01]% larger it would be nearer"},
    "Enlarged": {PLACES: "comes back 10% too large as a whole"},
    "Pops": {"leaves_what_it_is_given": r"decode changes the dict of arrays that it is given: \[\], not"},
    "Replaces": {"leaves_what_it_is_given": "layer changes the dict of arrays"},
    "OtherLayer": {"layer_agrees": r"the layer of a \(64, 64\) matrix on mlx differs from decode by"},
    "QuietRule": {"layer_agrees": r"the layer has an input rule, PerToken\(bits=8\), but has_input_rule is False"},
    "Crashes": {"shape_comes_back": "ZeroDivisionError: a row of one weight"},
}


def made(name):
    kind = getattr(bad_quantizers, name)
    return kind(bits=4) if issubclass(kind, Rtn) else kind()


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_wrong_is_refused_for_its_own_reason(name):
    quantizer = made(name)
    for check, reason in REFUSED[name].items():
        with pytest.raises((ConformanceError, ZeroDivisionError)) as raised:
            conformance.CHECKS[check](quantizer)
        told = dict(only(quantizer, check))[check]
        assert told is not None
        assert str(raised.value)[:40] in told
        assert re.search(reason, told), told


def only(quantizer, check):
    """`failures`, of one check."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(conformance, "CHECKS", {check: conformance.CHECKS[check]})
        return list(conformance.failures(quantizer))


def test_what_is_sound_passes_every_check():
    assert [found for found in conformance.failures(bad_quantizers.Sound()) if found[1]] == []


@settings(max_examples=60, deadline=None)
@given(
    st.data(),
    st.tuples(st.integers(1, 9), st.integers(1, 150)),
    st.sampled_from([Rtn(bits=2), Rtn(bits=4), *(made for name in ("nibble", "hqq") for *_, made in methods([name]))]),
)
def test_any_values_in_any_shape_come_back(data, shape, quantizer):
    """Whatever is in the matrix: its shape, finite values, none further away than the matrix is large. Where scales are
    below float32's smallest normal number they are zero, and so is what such weights can mean.
    """
    values = st.one_of(st.floats(-1, 1, width=16), st.sampled_from([0.0, 1e-39, -1e-39, 1e-20, 0.75, -3.0, 100.0, 1e4]))
    drawn = data.draw(arrays(np.float32, shape, elements=values, fill=st.sampled_from([0.0, 0.02, -0.5])))
    weight = drawn.astype(ml_dtypes.bfloat16)
    matrix, decoded = trials.floats(weight), trials.decode(quantizer, trials.encode(quantizer, weight))
    assert decoded.shape == shape
    assert np.isfinite(decoded).all()
    away, large = (np.linalg.norm(each.astype(np.float64)) for each in (decoded - matrix, matrix))
    assert away <= 1.001 * large + 256 * np.finfo(np.float32).tiny * matrix.size**0.5


def test_rounding_is_what_rounding_is_measured_against():
    """At its own bits the curve is rounding's SNR; between them a line; below and above, 6 dB a bit and nothing."""
    assert distortion.rounding_db(Rtn(bits=4), 4.5) == pytest.approx(20.8, abs=0.2)
    between = distortion.rounding_db(Rtn(bits=4), 5.0)
    assert between == pytest.approx(
        (distortion.rounding_db(Rtn(bits=4), 4.5) + distortion.rounding_db(Rtn(bits=4), 5.5)) / 2
    )
    lowest = distortion.rounding_db(Rtn(bits=4), 2.5)
    assert distortion.rounding_db(Rtn(bits=4), 1.5) == pytest.approx(lowest - 6.02, abs=0.01)
    assert distortion.rounding_db(Rtn(bits=4), 16) == distortion.rounding_db(Rtn(bits=4), 8.5)


def test_further_weights_cost_what_is_stored_for_each():
    assert distortion.marginal_bits(Rtn(bits=4)) == 4.5
    assert distortion.marginal_bits(bad_quantizers.FourArrays()) == 16
    vectors = next(made for _, bits, made in methods(["aqlm"]) if bits == 2)
    assert distortion.marginal_bits(vectors) < trials.trial(vectors, trials.MAIN).bits_per_weight


def test_widths_that_lose_the_same_are_told():
    with pytest.raises(ConformanceError, match="loses no less"):
        distortion.error_falls_with_bits([Rtn(bits=4), Rtn(bits=4)])


@pytest.mark.parametrize(
    ("named", "told"),
    [
        ("os:path", "'os:path' is no quantizer: it is a module, not a class"),
        ("math:pi", "it is a float, not a class"),
        ("nosuch:Name", "cannot be imported: No module named 'nosuch'"),
        ("os:Nothing", "cannot be imported: module 'os' has no attribute 'Nothing'"),
        ("bad_quantizers:Lacking", "lacks version, calibration, has_input_rule, encode, decode, layer, note"),
        ("bad_quantizers:Undeclared", "is no quantizer: it is no dataclass"),
        ("bad_quantizers:NeedsSomething", "cannot be made with bits = 2: .*something"),
        (":", "is not named as package.module:Class"),
        ("os:", "is not named as package.module:Class"),
        (".here:Name", "is not named as package.module:Class"),
        ("nothing", "Unknown quantizer 'nothing'. Choose from: aqlm"),
    ],
)
def test_what_is_no_quantizer_is_told_in_a_sentence(named, told, capsys):
    assert main(["conform", named]) == 2
    said = capsys.readouterr().err
    assert re.search(told, said), said
    assert "Traceback" not in said
    with pytest.raises(QuantbenchError):
        quantizers.make(quantizers_part(named))


def quantizers_part(named):
    from pytest_quantbench.catalog.recipes import Part

    return Part(quantizer=named)


def test_every_problem_is_a_line_and_the_exit_code_says_so(capsys):
    assert main(["conform", "bad_quantizers:FewLevels"]) == 2
    printed = capsys.readouterr()
    failed = [line for line in printed.out.splitlines() if line.startswith("FAILED")]
    assert any(FLOOR in line and "256" in line for line in failed)
    assert f"{len(failed)} checks failed for bad_quantizers:FewLevels" in printed.err
