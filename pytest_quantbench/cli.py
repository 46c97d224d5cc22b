"""`quantbench report RESULTS_DIR`: rebuild the report, combined.json and the plot from the JSON files alone."""

import argparse
import sys
from pathlib import Path

from pytest_quantbench import plots, report, results
from pytest_quantbench.errors import QuantbenchError
from pytest_quantbench.publish import write_report


def main(arguments: "list[str] | None" = None) -> int:
    """The command line. Returns 0, or 2 with one sentence on standard error."""
    parser = argparse.ArgumentParser(prog="quantbench", description="Reports on quantized models from their records.")
    commands = parser.add_subparsers(dest="command", required=True)
    reporting = commands.add_parser("report", help="rebuild combined.json, the markdown report and the plot")
    reporting.add_argument("directory", type=Path, help="a folder of records, such as results")
    reporting.add_argument("--output", type=Path, help="the markdown file (default: in the folder)")
    chosen = parser.parse_args(arguments)
    try:
        _report(chosen.directory, chosen.output or chosen.directory / "benchmark_int_quant.md")
    except QuantbenchError as error:
        print(f"quantbench: {error}", file=sys.stderr)
        return 2
    return 0


def _report(directory: Path, output: Path) -> None:
    records = results.read_all(directory)
    for line in [*map(report.terminal_line, records), *report.suite_lines(records), report.LEGEND]:
        print(line)
    combined = results.write_combined(records, directory)
    print(f"combined: {combined}")
    print(f"report: {write_report(records, output, f'quantbench report {directory}')}")
    print(plots.draw_or_say(records, directory / "quantbench.svg"))


if __name__ == "__main__":
    sys.exit(main())
