"""Two sessions never take the same samples at once: the second waits for the first, and finds them in the cache.

What differs in recipe, text, questions or how many of them goes on side by side. The reference is taken along on every
recipe's walk, so nobody waits for it alone: what another session is measuring of it is measured here once more.
"""

from collections.abc import Iterator, Mapping, Set
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from pytest_quantbench.storage.cache import LOCKS
from pytest_quantbench.storage.locks import held
from pytest_quantbench.storage.samples_cache import key_of


@contextmanager
def alone(cache: Path, wanted: Mapping[str, Mapping[str, Any]], along: Set[str]) -> Iterator[None]:
    """Hold the locks of all these samples. `wanted`: by what a waiting session says that it is doing, all that the
    samples depend on; `along`: those of it that are not waited for. Every session takes its locks in the same order, so
    that no two wait for each other.
    """
    paths = {LOCKS.of(cache, f"measuring-{key_of(content)}"): doing for doing, content in wanted.items()}
    with ExitStack() as locks:
        for path in sorted(paths):
            locks.enter_context(held(path, paths[path], waits=paths[path] not in along))
        yield
