"""Two sessions never take the same samples at once: the second waits for the first, and finds them in the cache.

What differs in recipe, text, questions or how many of them goes on side by side.
"""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from pytest_quantbench.kept import key_of
from pytest_quantbench.locks import held


@contextmanager
def alone(cache: Path, wanted: Mapping[str, Mapping[str, Any]]) -> Iterator[None]:
    """Hold the locks of all these samples. `wanted`: by what a waiting session says that it is doing, all that the
    samples depend on. Every session takes its locks in the same order, so that no two wait for each other.
    """
    paths = {cache / "locks" / f"measuring-{key_of(content)}": doing for doing, content in wanted.items()}
    with ExitStack() as locks:
        for path in sorted(paths):
            locks.enter_context(held(path, paths[path]))
        yield
