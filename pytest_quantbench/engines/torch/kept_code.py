"""Functions in machine code that is kept between processes, beside their module or in the user's cache.

Compiling takes seconds of a process's first token. numba's own cache has an index, which is written before the code
that it names: where the disk is full in between, or two processes write at once, the next process may be given the code
of an older source. So there is no index here: a file's name is a hash of everything that its code depends on, and the
file begins with the hash of what follows. What is missing, damaged or of something else is compiled anew.
"""

import hashlib
import pickle
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import llvmlite
import numba
from numba import njit
from numba.core import serialize
from numba.core.caching import FunctionCache

from pytest_quantbench.errors import DiskError
from pytest_quantbench.storage.files import file_sha256, write_atomically

# Sums may be taken in any order, so that they are vectorized; infinities and NaN keep their meaning.
HOW: Any = {"fastmath": {"reassoc", "contract", "nsz", "arcp"}, "nogil": True, "error_model": "numpy"}
DIGEST = 32  # bytes of a SHA-256


class Files:
    """Where the code of one function lies, a file for each kind of arguments and of processor. Stands in for numba's
    index in a `FunctionCache`, with the same methods. `source` is a hash of what was compiled, and of this module.
    """

    def __init__(self, folder: Path, stem: str, source: str) -> None:
        self._folder, self._stem, self._source = folder, stem, source

    def at(self, key: object) -> Path:
        """Where the code lies for a key of numba's: types of the arguments, processor, bytecode."""
        told = repr((key, self._source, numba.__version__, llvmlite.__version__, sys.version))
        return self._folder / f"{self._stem}-{hashlib.sha256(told.encode()).hexdigest()[:32]}.code"

    def load(self, key: object) -> Any:
        """What was saved; None where nothing was, or where it cannot be read or is damaged."""
        try:
            whole = self.at(key).read_bytes()
        except OSError:
            return None
        digest, content = whole[:DIGEST], whole[DIGEST:]
        return pickle.loads(content) if hashlib.sha256(content).digest() == digest else None

    def save(self, key: object, reduced: object) -> None:
        """Write it down, whole or not at all. Raises DiskError."""
        content: bytes = serialize.dumps(reduced)  # type: ignore[no-untyped-call]
        write_atomically(self.at(key), hashlib.sha256(content).digest() + content)


class Kept(FunctionCache):
    """numba's cache of one function, with `Files`. Raises RuntimeError where there is no folder that this user may
    write in, and OSError where the function's source cannot be read.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__(function)  # type: ignore[no-untyped-call]
        source = "".join(file_sha256(Path(file)) for file in (function.__code__.co_filename, __file__))
        files: Any = Files(Path(self.cache_path), self._impl.filename_base, source)
        self._cache_file = files

    def save_overload(self, sig: Any, data: Any) -> None:
        """Write down what was compiled for these types. On a full disk it is compiled by every process."""
        with suppress(OSError, DiskError):
            super().save_overload(sig, data)  # type: ignore[no-untyped-call]


def compiled(function: Callable[..., Any]) -> Any:
    """The function in machine code, made when it is first called with arguments of a kind."""
    made: Any = njit(**HOW)(function)
    with suppress(RuntimeError, OSError):
        made._cache = Kept(function)
    return made
