"""The errors a user can meet. Each message names the thing, what is wrong with it, and the way out."""


class QuantbenchError(Exception):
    """Something the user can mend; its message is one or two whole sentences."""


class UnknownNameError(QuantbenchError):
    """A model, recipe, level, quantizer, metric or task that does not exist; the message lists those that do."""


class ModelError(QuantbenchError):
    """A model directory or one of its files cannot be used."""


class ArchitectureError(ModelError):
    """An engine does not know a model's architecture. Another one may."""


class WeightError(QuantbenchError):
    """One weight cannot be quantized as it is (NaN, infinite, or of a shape that the method cannot take)."""


class CorpusError(QuantbenchError):
    """A text or a task's documents cannot be used."""


class OfflineError(QuantbenchError):
    """Something would have to be fetched, and there is no network or it was not allowed."""


class DiskError(QuantbenchError):
    """Not enough room, or a folder that cannot be written."""


class RecordError(QuantbenchError):
    """A record on disk cannot be read."""


class ComparisonError(QuantbenchError):
    """Two sets of samples that may not be compared: other tokens, other questions, or the very same weights."""


class RunnerError(QuantbenchError):
    """The runtime that a file is made for (llama.cpp, mlx-lm) is not installed, or fails on it."""


class SandboxError(QuantbenchError):
    """Programs that a model wrote cannot be run here at all."""


class ConformanceError(QuantbenchError):
    """A quantizer or an engine does not keep to what is asked of every one (`workbench/`)."""


def first_line(error: BaseException) -> str:
    """What an error says first, or its type's name."""
    return (str(error).splitlines() or [type(error).__name__])[0]


def unknown(kind: str, name: str, choices: "list[str] | tuple[str, ...]", hint: str = "") -> UnknownNameError:
    """The error for a name that is not among the choices."""
    return UnknownNameError(f"Unknown {kind} {name!r}. Choose from: {', '.join(sorted(choices))}.{hint and ' ' + hint}")
