"""Exports of Tiny and of small random models, and what a format reads of them again."""

import numpy as np
import pytest
from builders import open_model

from pytest_quantbench import quantizers
from pytest_quantbench.catalog.candidates import Candidate
from pytest_quantbench.catalog.models import TINY_DIRECTORY
from pytest_quantbench.catalog.recipes import recipe_of_candidate
from pytest_quantbench.checkpoints.formats import open_candidate
from pytest_quantbench.compress.exports import get
from pytest_quantbench.compress.exports.protocol import Job
from pytest_quantbench.compress.external import External
from pytest_quantbench.compress.pipeline import compress


@pytest.fixture
def job(tmp_path):
    """`job("int4-rtn")` of Tiny, or of another model's directory: compressed, and ready to be exported."""

    def make(recipe_id, directory=TINY_DIRECTORY, **changes):
        source, chosen = open_model(directory), quantizers.recipe_of(recipe_id)
        artifact = compress(source, chosen, 0, tmp_path / "cache")
        fields = {"name": f"Small-{recipe_id}", "base_model": "owner/Small", "recipe": chosen}
        return Job(**fields | {"artifact": artifact, "source": source} | changes)

    return make


@pytest.fixture
def exported(tmp_path):
    """`exported(job, "mlx")`: the directory, and what was said of it."""

    def write(job, form):
        directory = tmp_path / f"{job.name}-{form}"
        directory.mkdir()
        get(form).check(job.recipe, job.source)
        return directory, get(form).write(job, directory)

    return write


@pytest.fixture
def read_again():
    """An export as an artifact, by the format that recognizes its files."""

    def read(directory, job):
        candidate = recipe_of_candidate(Candidate(name="export", source=str(directory)), 4)
        return External(open_candidate(directory), job.source, candidate, job.source.config)

    return read


@pytest.fixture
def differing():
    """The names of the parameters that two artifacts do not decode to the same float32 values."""

    def compare(artifact, other):
        assert set(artifact.names) == set(other.names)
        return [name for name in artifact.names if not np.array_equal(artifact.float32(name), other.float32(name))]

    return compare
