"""Workflows, on the pages and this repository's own: they have what GitHub asks for, and we take their commands."""

import re

import pytest
import yaml
from pages import NAMES, ROOT, blocks, take, workflow_commands

SHOWN = [block.text for page in NAMES for block in blocks(page) if block.kind == "yaml" and "jobs:" in block.text]
OWN = [file.read_text() for file in sorted((ROOT / ".github/workflows").glob("*.yml"))]
PINNED = re.compile(r"actions/[\w/-]+@v\d+")


def name_of(workflow):
    return yaml.safe_load(workflow)["name"]


def jobs_of(workflow):
    return yaml.safe_load(workflow)["jobs"]


@pytest.fixture(params=[*SHOWN, *OWN], ids=name_of)
def workflow(request):
    return request.param


def test_it_says_when_it_runs_and_may_only_read(workflow):
    told = yaml.safe_load(workflow)
    assert {"name", True, "permissions", "jobs"} <= set(told)  # YAML reads `on` as true
    assert told["permissions"] == {"contents": "read"}


def test_its_jobs_have_keys_that_github_knows(workflow):
    for job in jobs_of(workflow).values():
        assert {"runs-on", "steps"} <= set(job)
        assert set(job) <= {"runs-on", "steps", "timeout-minutes", "strategy", "needs", "if", "env"}
        assert job.get("needs", next(iter(jobs_of(workflow)))) in jobs_of(workflow)


def test_its_steps_either_use_a_released_action_or_run_something(workflow):
    for step in [step for job in jobs_of(workflow).values() for step in job["steps"]]:
        assert ("uses" in step) != ("run" in step)
        assert set(step) <= {"uses", "run", "with", "if", "name", "id"}
        assert "uses" not in step or PINNED.fullmatch(step["uses"])


def test_it_names_all_of_its_matrix_and_nothing_else(workflow):
    for job in jobs_of(workflow).values():
        named = set(re.findall(r"matrix\.(\w+)", yaml.safe_dump(job)))
        assert named == set(job.get("strategy", {}).get("matrix", ()))


def test_its_commands_are_taken(workflow, pytester):
    for command in workflow_commands(workflow):
        take(command, pytester.parseconfig)
