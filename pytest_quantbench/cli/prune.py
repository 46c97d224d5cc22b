"""`quantbench prune`: what the cache holds, and how it is emptied."""

import argparse

from pytest_quantbench.storage import prune
from pytest_quantbench.storage.cache import default_cache
from pytest_quantbench.storage.files import GB

HELP = "show what the cache holds, and delete it"
DESCRIPTION = "Without a kind nothing is deleted."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which kinds of files."""
    parser.add_argument("kind", nargs="*", help="artifacts, unfinished, samples, damaged, or all (none: show only)")


def run(chosen: argparse.Namespace) -> int:
    """Show, or delete and say how much that freed."""
    cache = default_cache()
    if not chosen.kind:
        print("\n".join(prune.listed(cache)))
    else:
        print(f"{prune.prune(cache, chosen.kind) / GB:.3f} GB freed at {cache}")
    return 0
