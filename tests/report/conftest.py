"""What several tests of reports are shown."""

import generated_suite
import pytest


@pytest.fixture(scope="session")
def ten_models():
    """Ten models × eight recipes, and their references."""
    return generated_suite.records()
