"""`quantbench report`: everything that is made of records, made again from the records alone."""

import argparse
from pathlib import Path

from pytest_quantbench.record import folder
from pytest_quantbench.report import terminal
from pytest_quantbench.report.publish import write_report

HELP = "rebuild combined.json, and the markdown report"
DESCRIPTION = "Reads the JSON records of a folder; nothing is measured."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The folder, and where the report goes."""
    parser.add_argument("directory", type=Path, help="a folder of records, such as results")
    parser.add_argument("--output", type=Path, help="the markdown file (default: in the folder)")


def run(chosen: argparse.Namespace) -> int:
    """Write them and print the summary."""
    directory: Path = chosen.directory
    records = folder.read_all(directory)
    print("\n".join(terminal.summary(records)))
    combined = folder.write_combined(records, directory)
    output = chosen.output or directory / "benchmark_int_quant.md"
    print(f"combined: {combined}")
    print(f"report: {write_report(records, output, [f'quantbench report {directory}'])}")
    return 0
