"""T1 in full: by batch, depth and length, sampled at a temperature, several requests at once. Only with `--sweep`.

Nothing is judged by it: the figures stand in the record, in the report and in charts.
"""

import pytest

pytestmark = pytest.mark.sweep


def test_sweep(cell):
    found = cell.samples("sweep")
    told = [f"{each.point.name}: {each.skipped}" for each in found.points]
    assert any(each.runs for each in found.points), "no point could be measured:\n" + "\n".join(told)
