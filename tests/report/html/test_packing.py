"""What is packed is opened again, what is inline ends no element, the policy names scripts by their hashes."""

import base64
import gzip
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_quantbench.report.html import packing


def unpacked(text):
    return gzip.decompress(base64.b64decode(text)).decode()


@given(st.text())
def test_what_is_packed_is_opened_again(text):
    assert unpacked(packing.packed(text)) == text


def test_the_same_content_is_packed_alike():
    """A report of the same records is the same file."""
    assert packing.packed("a" * 1000) == packing.packed("a" * 1000)


@given(
    st.recursive(
        st.text() | st.integers(-9, 9) | st.none(), lambda each: st.lists(each) | st.dictionaries(st.text(), each)
    )
)
def test_what_is_inline_is_the_same_json_and_ends_no_element(values):
    inline = packing.inline_json(values)
    assert json.loads(inline) == values
    assert not set(inline) & set("<>&\u2028\u2029")


def test_an_element_cannot_be_ended_from_within():
    assert "</script>" not in packing.inline_json({"name": "</script><script>alert(1)</script>"})


def test_arrays_and_what_is_no_number_become_json():
    values = {"a": np.arange(3), "b": np.float32(0.5), "c": float("inf"), "d": float("nan")}
    assert json.loads(unpacked(packing.packed_json(values))) == {"a": [0, 1, 2], "b": 0.5, "c": None, "d": None}


def test_what_cannot_stand_in_a_page_is_refused():
    with pytest.raises(NotImplementedError, match="complex cannot stand in a page"):
        packing.packed_json({"a": 1j})


def test_the_policy_lets_these_scripts_run_and_nothing_load():
    """The hash is that of the browsers' rule: SHA-256 of the script's text in base64."""
    told = dict(rule.split(" ", 1) for rule in packing.policy(["alert(1)"]).split("; "))
    assert told["script-src"] == "'sha256-bhHHL3z2vDgxUt0W3dWQOrprscmda2Y5pLsLg4GF+pI='"
    assert told["default-src"] == "'none'"
    assert "http" not in packing.policy(["a", "b"])
    assert packing.policy(["a", "b"]).count("sha256-") == 2
