"""llama.cpp in a process of its own, by the package llama-cpp-python: `python -m` this module, started by `process`.

Only llama.cpp's C functions are used, as they are documented in its llama.h: a model, a context, batches whose tokens
say which of them want logits. Everything is left as llama.cpp has it by default (devices, memory mapping, matrices
repacked for the processor, keys and values in F16, flash attention where it can) but for the number of threads and
positions, and what `options` say for comparisons.
"""

import ctypes
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import llama_cpp
import numpy as np

from pytest_quantbench.engines.runtimes.child import BATCH_TOKENS, Ids, Refused, Rows, serve

COMPLAINTS = (3, 4)  # levels of its log: warnings and errors
CACHE_TYPES = {"F16": llama_cpp.GGML_TYPE_F16, "F32": llama_cpp.GGML_TYPE_F32}
FLASH = {"auto": llama_cpp.LLAMA_FLASH_ATTN_TYPE_AUTO, "off": llama_cpp.LLAMA_FLASH_ATTN_TYPE_DISABLED}
SAID_KEPT = 2  # lines of its log


class LlamaCpp:
    """A `Runner`."""

    def __init__(self) -> None:
        os.environ.setdefault("GGML_NO_BACKTRACE", "1")  # a failed assertion would start a debugger
        self._said: list[str] = []
        self._log = llama_cpp.llama_log_callback(self._heard)  # kept: llama.cpp calls it as long as it runs
        llama_cpp.llama_log_set(self._log, ctypes.c_void_p(0))
        llama_cpp.llama_backend_init()
        self._context: Any = None
        self._batch: Any = None
        self._vocabulary = self._position = self._positions = 0

    def _heard(self, level: int, text: bytes, _: Any) -> None:
        """Keep what it complains of, to be told if it fails."""
        if level in COMPLAINTS:
            self._said = [*self._said, text.decode(errors="replace").strip()][-SAID_KEPT:]

    def load(self, source: Path, *, context: int, threads: int, options: Mapping[str, Any]) -> Mapping[str, Any]:
        """Load a GGUF file; the other parts of a split one are found beside it."""
        model = llama_cpp.llama_model_load_from_file(bytes(source), llama_cpp.llama_model_default_params())
        if not model:
            raise Refused(f"it cannot load {source} ({self._complaint()})")
        cache, flash = options.get("cache", "F16"), options.get("flash", "auto")
        wanted = llama_cpp.llama_context_default_params()
        wanted.n_ctx, wanted.n_batch, wanted.n_ubatch = context, BATCH_TOKENS, BATCH_TOKENS
        wanted.n_threads = wanted.n_threads_batch = threads
        wanted.type_k = wanted.type_v = CACHE_TYPES[cache]
        wanted.flash_attn_type = FLASH[flash]
        self._context = llama_cpp.llama_init_from_model(model, wanted)
        if not self._context:
            raise Refused(f"it cannot run {source} with {context} positions ({self._complaint()})")
        self._positions = int(llama_cpp.llama_n_ctx(self._context))
        self._vocabulary = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(model))
        self._batch = llama_cpp.llama_batch_init(BATCH_TOKENS, 0, 1)
        system = llama_cpp.llama_print_system_info().decode(errors="replace").strip(" |")
        told = f"{threads} threads, keys and values in {cache}, flash attention {flash}; {system}"
        return {"vocabulary": self._vocabulary, "told": told}

    def forget(self) -> None:
        """Empty the cache."""
        llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(self._context), True)
        self._position = 0

    def read(self, ids: Ids, scored: int) -> Rows:
        """One batch."""
        batch, count = self._batch, len(ids)
        if self._position + count > self._positions:  # which llama.cpp ends the process for
            raise Refused(
                f"it cannot read {count} tokens at position {self._position}: it has {self._positions} positions"
            )
        batch.n_tokens = count
        for place, token in enumerate(ids.tolist()):
            batch.token[place], batch.pos[place] = token, self._position + place
            batch.n_seq_id[place], batch.seq_id[place][0] = 1, 0
            batch.logits[place] = place >= count - scored
        failed = llama_cpp.llama_decode(self._context, batch)
        if failed:
            raise Refused(f"it cannot read {count} tokens at position {self._position}: {failed} ({self._complaint()})")
        self._position += count
        if not scored:
            return np.zeros((0, self._vocabulary), np.float32)
        logits = llama_cpp.llama_get_logits(self._context)
        return np.ctypeslib.as_array(logits, shape=(scored, self._vocabulary))

    def _complaint(self) -> str:
        return " ".join(self._said) or "it does not say why"


if __name__ == "__main__":
    serve(LlamaCpp)
