"""Which samples a session waits for while another one takes them."""

import time

import pytest
from lock_holder import lock_holder

from pytest_quantbench.bench.sample_store import alone
from pytest_quantbench.storage.samples_cache import key_of


@pytest.mark.slow
def test_samples_of_the_reference_are_waited_for_only_where_nothing_else_is_wanted(tmp_path):
    contents = {"measuring T2 of Tiny-bf16": {"recipe": "bf16"}, "measuring T2 of Tiny-int4": {"recipe": "int4"}}
    path = tmp_path / "locks" / f"measuring-{key_of(contents['measuring T2 of Tiny-bf16'])}"
    path.parent.mkdir()
    holder = lock_holder(path, 2)
    assert holder.stdout.readline() == "in\n"
    began = time.monotonic()
    with alone(tmp_path, contents, {"measuring T2 of Tiny-bf16"}):
        assert time.monotonic() - began < 1.5
    with alone(tmp_path, dict([next(iter(contents.items()))]), set()):
        assert holder.wait(timeout=10) == 0
    holder.communicate()
