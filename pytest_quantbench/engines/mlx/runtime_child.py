"""mlx-lm in a process of its own, as it runs a quantized model: `python -m` this module, started by `runtimes`.

The model is mlx-lm's, loaded by mlx-lm from the candidate's folder: its quantized layers multiply by MLX's kernels, in
the type that the files' scales and norms have. No code that a folder brings is run.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
from mlx_lm.models.cache import make_prompt_cache
from mlx_lm.utils import load_model

from pytest_quantbench.engines.runtimes.child import Ids, Refused, Rows, serve
from pytest_quantbench.errors import first_line


class MlxLm:
    """A `Runner`."""

    def __init__(self) -> None:
        self._model: Any = None
        self._cache: list[Any] = []

    def load(self, source: Path, *, context: int, threads: int, options: Mapping[str, Any]) -> Mapping[str, Any]:
        """Load a folder. MLX chooses its threads itself, and its cache grows with the text."""
        try:
            self._model, config = load_model(source)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise Refused(f"it cannot load {source} ({first_line(error)})") from error
        self.forget()
        logits = self._model(mx.array([[0]]))
        mx.eval(logits)
        types = str(logits.dtype).removeprefix("mlx.core.")
        told = f"{mx.default_device()}, activations in {types}, quantization {config.get('quantization')}"
        return {"vocabulary": logits.shape[-1], "told": told}

    def forget(self) -> None:
        """A new cache."""
        self._cache = make_prompt_cache(self._model)

    def read(self, ids: Ids, scored: int) -> Rows:
        """One batch."""
        logits = self._model(mx.array(ids)[None], cache=self._cache)[0]
        mx.eval(logits)
        return np.array(logits[logits.shape[0] - scored :].astype(mx.float32))


if __name__ == "__main__":
    serve(MlxLm)
