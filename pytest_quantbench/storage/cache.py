"""Where everything lies in the cache."""

import os
from pathlib import Path


def default_cache() -> Path:
    """`$QUANTBENCH_CACHE`, or `quantbench` in the user's cache directory."""
    chosen = os.environ.get("QUANTBENCH_CACHE")
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(chosen) if chosen else Path(base) / "quantbench"
