"""`quantbench compare`: what got worse from one run to another, beyond the noise."""

import argparse
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path

from pytest_quantbench.errors import QuantbenchError

HELP = "did anything get worse from one run to another? `quantbench compare BASE NEW`"
DESCRIPTION = (
    "Compares cells of two results folders, or two records, on the same tokens, questions and prompts. Returns 0 where "
    "nothing got worse beyond the noise, 1 for a regression, 2 where anything of BASE that is judged could not be "
    "compared."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Both sides, what is chosen of them, and how it is told."""
    parser.add_argument("base", type=Path, metavar="BASE", help="a results folder, or one record (.json)")
    parser.add_argument("new", type=Path, metavar="NEW", help="another one, which is judged")
    parser.add_argument("--model", action="append", default=[], metavar="NAME", help="only this one (repeatable)")
    parser.add_argument(
        "--as",
        action="append",
        default=[],
        dest="renamed",
        metavar="OLD=NEW",
        help="compare the recipe or candidate OLD of BASE with NEW of NEW (repeatable)",
    )
    parser.add_argument(
        "--allow",
        action="append",
        default=[],
        metavar="FIGURE=X",
        help="a worsening of so much is none: size=PERCENT, perplexity=X, kl=NATS, accuracy=POINTS, throughput=PERCENT "
        "(repeatable)",
    )
    parser.add_argument(
        "--without",
        action="append",
        default=[],
        metavar="FIGURE",
        help="leave this figure out, such as throughput on another machine (repeatable)",
    )
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="also write it as a page")
    parser.add_argument("--json", action="store_true", help="print it as JSON, for programs")


def run(chosen: argparse.Namespace) -> int:
    """Print the answer and the table. Returns 0, or 1 for a regression, or 2 where not all of BASE was compared."""
    import msgspec

    from pytest_quantbench.record.folder_comparison import compare
    from pytest_quantbench.report import changes
    from pytest_quantbench.storage.files import write_atomically

    found = compare(
        chosen.base,
        chosen.new,
        models=chosen.model,
        renamed=_pairs("--as", "OLD=NEW", chosen.renamed),
        allowed={name: _number(name, text) for name, text in _pairs("--allow", "FIGURE=X", chosen.allow).items()},
        without=chosen.without,
    )
    if chosen.json:
        counts = {"regressions": len(found.regressions), "compared": found.compared, "uncompared": found.uncompared}
        told = msgspec.to_builtins(found) | counts
        sys.stdout.write(msgspec.json.format(msgspec.json.encode(told)).decode() + "\n")
    else:
        print("\n".join(changes.terminal(found)))
    if chosen.markdown is not None:
        page = changes.markdown(found, [_command(chosen)])
        write_atomically(chosen.markdown, page.encode())
    return 1 if found.regressions else 0 if found.whole else 2


REPEATED = {"--model": "model", "--as": "renamed", "--allow": "allow", "--without": "without"}


def _command(chosen: argparse.Namespace) -> str:
    """What was typed, to be typed again."""
    words = ["quantbench", "compare", str(chosen.base), str(chosen.new)]
    for option, name in REPEATED.items():
        words += [word for value in getattr(chosen, name) for word in (option, value)]
    return shlex.join([*words, "--markdown", str(chosen.markdown)])


def _pairs(option: str, form: str, given: "list[str]") -> Mapping[str, str]:
    """Names with their values. Raises QuantbenchError for what has not this form."""
    found = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not name or not equals or not value:
            raise QuantbenchError(f"{option} {text}: give {form}.")
        found[name] = value
    return found


def _number(name: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError as error:
        raise QuantbenchError(f"--allow {name}={text}: give a number of at least 0.") from error
    if not 0 <= value < float("inf"):
        raise QuantbenchError(f"--allow {name}={text}: give a number of at least 0.")
    return value
