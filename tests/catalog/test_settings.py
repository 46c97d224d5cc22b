import pytest

from pytest_quantbench.catalog.disk_plans import DISK_PLANS
from pytest_quantbench.catalog.settings import Settings


@pytest.mark.parametrize("name", DISK_PLANS)
@pytest.mark.parametrize("kept", [False, True])
def test_compressed_models_are_written_where_the_plan_or_the_user_says(name, kept):
    writes = Settings(disk_plan=DISK_PLANS[name], keep_compressed=kept).writes
    assert writes.stores == (name != "S" or kept)
    assert (writes.name, writes.levels, writes.keeps_bf16) == (
        name,
        DISK_PLANS[name].levels,
        DISK_PLANS[name].keeps_bf16,
    )
