"""A fresh process that loads a model by one of our engines and gives its first token: started by `measures.load.ways`.

What is loaded is the original's files as they are published, or the directory of an artifact, without comparing its
files with their hashes once more: the session that asks has done so.
"""

import builtins
import importlib
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pytest_quantbench.engines import process_memory
from pytest_quantbench.engines.runtimes.child import Refused, answer_with
from pytest_quantbench.engines.runtimes.frames import Message
from pytest_quantbench.errors import QuantbenchError


class AsPublished:
    """An opened checkpoint's weights (of an `Architecture`), to be run as they are."""

    def __init__(self, source: Any) -> None:
        self.config, self._source = source.config, source

    @property
    def names(self) -> Sequence[str]:
        """Every parameter's path."""
        names: Sequence[str] = self._source.names
        return names

    def dense(self, name: str) -> Any:
        """The parameter in the engine's own form, lazily read."""
        return self._source.tensor(name)

    def encoding(self, name: str) -> None:
        """None: everything was left as it was."""

    def inputs(self, name: str) -> None:
        """Nothing is done to any inputs."""


class Imports:
    """How long modules are imported, whoever asks for them: libraries bring most of theirs when they are first used, in
    the middle of other work. What a module imports in turn is counted with it.
    """

    def __init__(self) -> None:
        self.seconds, self._depth = 0.0, 0

    def watch(self) -> None:
        """From now on, for as long as the process lives."""
        builtins.__import__ = self._timed(builtins.__import__)
        importlib.import_module = self._timed(importlib.import_module)

    def _timed(self, does: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*given: Any, **named: Any) -> Any:
            self._depth += 1
            began = time.monotonic()
            try:
                return does(*given, **named)
            finally:
                self._depth -= 1
                if not self._depth:
                    self.seconds += time.monotonic() - began

        return timed


class Loader:
    """Loads one model. `seconds` by stage, from when it was asked; imports are the start's, whenever they happen."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._imports = Imports()
        self._imports.watch()

    def first_token(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        """Load what is asked for, and generate one token. Raises QuantbenchError for what cannot be loaded."""
        self._began, self._imported = time.monotonic(), self._imports.seconds
        told: dict[str, Any] = {"asked_at": self._began}
        from pytest_quantbench import engines
        from pytest_quantbench.checkpoints.tokenizer import frame_of, load_tokenizer

        engine = engines.get(asked["engine"], asked["activations"])
        told["had_bytes"] = process_memory.resident()
        self._done("start")
        weights, directory = _weights(engine, asked)
        self._done("opening")
        tokenizer = load_tokenizer(directory)
        ids = frame_of(tokenizer).opened(tokenizer, asked["prompt"])
        self._done("tokenizer")
        engine.reset_peak()
        model = engine.load(weights, "timed")
        self._done("weights")
        told["token"] = model.timed(ids, 1).tokens[0]
        self._done("first token")
        return told | {"seconds": self.seconds, "device_bytes": _device_bytes(engine)}

    def _done(self, stage: str) -> None:
        """The stage ends here, and the next one begins."""
        now, imported = time.monotonic(), self._imports.seconds
        importing = imported - self._imported
        self.seconds[stage] = now - self._began - importing
        self.seconds["start"] += importing
        self._began, self._imported = now, imported


def _device_bytes(engine: Any) -> int | None:
    """The most that the model took of an accelerator's memory; None on a CPU."""
    return None if engine.backend == "cpu" else int(engine.peak_bytes())


def _weights(engine: Any, asked: Mapping[str, Any]) -> tuple[Any, Path]:
    """The opened weights, and where their tokenizer lies."""
    from pytest_quantbench.checkpoints.checkpoint import Checkpoint
    from pytest_quantbench.compress.artifact import opened_unverified

    if asked["artifact"]:
        directory = Path(asked["artifact"])
        return opened_unverified(directory, engine), directory
    checkpoint = Checkpoint(Path(asked["original"]), sha256=asked["sha256"])
    return AsPublished(engine.open(checkpoint)), checkpoint.directory


def _answered(loader: Loader, request: Message) -> Message:
    try:
        return Message(values=loader.first_token(request.values))
    except QuantbenchError as error:
        raise Refused(str(error).rstrip(".")) from error


if __name__ == "__main__":
    answer_with(Loader, {"load": _answered})
