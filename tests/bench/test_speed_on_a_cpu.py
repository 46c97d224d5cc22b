"""T1 on a CPU with the engine on PyTorch: judged by the same rules, and Tiny bound by overhead."""

from dataclasses import replace

import pytest

pytest.importorskip("torch")

from pytest_quantbench.bench.subject import Subject
from pytest_quantbench.catalog.models import MODELS
from pytest_quantbench.catalog.settings import Settings
from pytest_quantbench.judge.roofline import BY_OVERHEAD
from pytest_quantbench.record.state import judges_speed


@pytest.mark.slow
def test_tiny_is_timed_beside_its_reference_and_bound_by_overhead(tmp_path):
    settings = replace(Settings(cache=tmp_path), engine="torch:cpu", runs=1)
    cell = Subject(MODELS["Tiny"], settings).cell("int4-rtn")
    verdict = cell.judge("throughput")
    assert verdict.not_judged == BY_OVERHEAD or verdict.outcome == "undecided"  # other load may blur it
    assert "The reference reaches" in verdict.sentence or verdict.sentence.startswith("No speed ratio: ")
    record = cell.record()
    assert judges_speed(record)  # the engine would; it is Tiny that cannot be judged
    assert (record.machine.engine, record.machine.backend) == ("torch", "cpu")
    speed = record.throughput
    assert speed.interleaved
    assert speed.bytes_per_token < 3e6  # of 7.3 MB in BF16
    assert speed.bound_share > 0
    assert speed.reference_bound_share > 0
    assert speed.bound_tps == pytest.approx(1e9 * speed.read_gb_per_sec / speed.bytes_per_token)
    assert sum(speed.kernels.values()) >= 28
    prompts = cell.raw()["throughput/reference_prompt"].tolist()
    assert prompts == [0, 1, 2, 3, 4] * (len(prompts) // 5)  # more runs where it was undecided at first
