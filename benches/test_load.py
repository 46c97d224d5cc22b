"""Loading: fresh processes from the files to the first token, cold and warm. Only with `-m load`; nothing is judged."""

import math

import pytest

pytestmark = pytest.mark.load


def test_load(loading):
    assert all(seconds >= 0 and math.isfinite(seconds) for each in loading.loads for seconds in each.seconds.values())
    assert {each.cold for each in loading.loads} >= ({False} if loading.cold_lacks else {False, True})
