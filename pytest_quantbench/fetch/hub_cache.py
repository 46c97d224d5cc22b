"""The Hub's cache on this disk, and what an error of the Hub's library says first."""

import os
from pathlib import Path


def hub_cache() -> Path:
    """The Hub's cache directory, by its own variables."""
    variable = os.environ.get
    caches = variable("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    home = variable("HF_HOME") or f"{caches}/huggingface"
    chosen = variable("HF_HUB_CACHE") or variable("HUGGINGFACE_HUB_CACHE") or f"{home}/hub"
    return Path(os.path.expandvars(chosen)).expanduser()


def first_line(error: BaseException) -> str:
    """What an error says first, or its type's name."""
    return (str(error).splitlines() or [type(error).__name__])[0]
