"""The pages that people read, README.md and those of docs/, and their examples: found, checked and run in one way.

A page's blocks are taken in order, as a reader does. One that begins with a file's name as a comment (`# test_it.py`)
is that file; one marked `bash` is typed into a shell.
"""

import os
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import yaml
from markdown_it import MarkdownIt

from pytest_quantbench.cli import main as command_line

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
PAGES = (README, *sorted((ROOT / "docs").rglob("*.md")))
NAMES = {str(page.relative_to(ROOT)): page for page in PAGES}
TAGGED = ("bash", "python", "toml", "yaml")
OURS = ("quantbench", "pytest")
OTHERS = {"cat", "cd", "git", "make", "mkdir", "pip", "python3", "source"}  # tools whose lines are not ours to check
NAMED = re.compile(r"# ([\w./-]+\.(?:py|toml|yml|yaml))\n")
EXPRESSION = re.compile(r"\$\{\{.*?\}\}")  # that GitHub replaces in a workflow


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """One example. `kind` is what its fence says; empty: an indented block, or a fence that says nothing."""

    page: str
    line: int
    kind: str
    text: str

    @property
    def file(self):
        """The name of the file that this block is, or None."""
        found = NAMED.match(self.text) if self.kind in ("python", "toml", "yaml") else None
        return found and found.group(1)

    @property
    def where(self):
        return f"{self.page}:{self.line}"


def tokens(page):
    return MarkdownIt().enable("table").parse(NAMES[page].read_text(encoding="utf-8"))


def blocks(page):
    return [
        Block(page=page, line=token.map[0] + 1, kind=token.info.strip(), text=token.content)
        for token in tokens(page)
        if token.type in ("fence", "code_block")
    ]


def the_block(page, kind):
    """The one block of a kind on the page."""
    (found,) = [block.text for block in blocks(page) if block.kind == kind]
    return found


def inline_code(page):
    """What stands between backticks in sentences and tables."""
    children = [child for token in tokens(page) for child in token.children or ()]
    return [child.content for child in children if child.type == "code_inline"]


def _lines(script):
    """The commands of a shell script, each on a line of its own, without comments."""
    joined = re.sub(r"\\\n\s*", "", script).splitlines()
    return [line.strip() for line in joined if line.strip() and not line.strip().startswith("#")]


def workflow_commands(workflow):
    """Of each `run:` of a workflow the commands, with what GitHub puts in its place taken out."""
    jobs = yaml.safe_load(workflow)["jobs"].values()
    steps = [step["run"] for job in jobs for step in job["steps"] if "run" in step]
    return [EXPRESSION.sub("x", line) for step in steps for line in _lines(step)]


def ours(line):
    return line.startswith(tuple(f"{tool} " for tool in OURS))


def commands(page):
    """Every command line on a page that is ours: of shell blocks, of indented ones, and of workflows."""
    found = []
    for block in blocks(page):
        if block.kind in ("", "bash"):
            found += [(block.where, line) for line in _lines(block.text) if ours(line)]
        elif block.kind == "yaml" and "jobs:" in block.text:
            found += [(block.where, line) for line in workflow_commands(block.text)]
    return found


def _as_typed(command):
    """Without what a shell does with output and exit code; of a synopsis such as `[--to mlx|gguf]` one case."""
    for mark in (">>", " && ", " || "):
        command = command.partition(mark)[0]
    return re.sub(r"(\w+)(\|\w+)+", r"\1", re.sub(r"\[(--[^\]]*)\]", r"\1", command))


def take(command, config):
    """Raise, or exit, unless the parsers of this package and of pytest take a command. `config` is pytester's
    `parseconfig`, in a folder of its own.
    """
    tool, *arguments = shlex.split(_as_typed(command), comments=True)
    tool = Path(tool).name
    if tool == "quantbench":
        chosen = command_line._chosen(arguments)
        arguments = [*chosen.rest, *getattr(chosen, "told", ())] if chosen.passes_on else []
    elif tool == "make":
        (target,) = arguments
        assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE)
    elif tool != "pytest":
        assert tool in OTHERS, f"{tool}: neither ours nor among those that a page may use"
    if tool in OURS:
        for file in re.findall(r"[\w.-]+\.(?:raw|jsonl|yaml|txt)\b", command):
            Path(file).write_text("a text")
        config("-p", "pytest_quantbench.plugin.short_options", *_without_folders(arguments))


def _without_folders(arguments):
    """A folder of tests that stands on a page is not there."""
    return [argument for argument in arguments if argument not in ("benches", "gates", "test_gate.py")]


def tools(folder):
    """A folder for PATH in which `quantbench`, `pytest`, `python` and `mlx_lm.convert` are of this environment."""
    folder.mkdir()
    modules = {"quantbench": "pytest_quantbench.cli", "pytest": "pytest", "mlx_lm.convert": "mlx_lm convert"}
    lines = {"python": "", **{name: f" -m {module}" for name, module in modules.items()}}
    for name, more in lines.items():
        (folder / name).write_text(f'#!/bin/sh\nexec "{sys.executable}"{more} "$@"\n')
        (folder / name).chmod(0o755)
    return folder


def walk_through(page, folder, seconds=900):
    """Do what a page says, in an empty folder: write its files, type its commands. Returns what was printed."""
    script = ["set -e"]
    for block in blocks(page):
        if block.file:
            script.append(f"mkdir -p {Path(block.file).parent}")
            script.append(f"cat > {block.file} <<'END OF FILE'\n{block.text}END OF FILE")
        elif block.kind == "bash":
            script.append(block.text)
    known = {name: value for name, value in os.environ.items() if name != "PYTEST_PLUGINS"}
    known["PATH"] = f"{tools(folder.parent / f'{folder.name}-tools')}{os.pathsep}{known['PATH']}"
    typed = subprocess.run(
        ["bash", "-c", "\n".join(script)], cwd=folder, env=known, capture_output=True, text=True, timeout=seconds
    )
    assert typed.returncode == 0, typed.stdout + typed.stderr
    return typed.stdout
