"""How a model is opened by the engine that was chosen, and what is said where that does not know the architecture.

The engines know different ones. So whoever is refused learns what each says that is installed, and which one to choose.
"""

from pytest_quantbench.checkpoints.checkpoint import Checkpoint
from pytest_quantbench.engines.protocol import Architecture, Engine
from pytest_quantbench.engines.registry import installed
from pytest_quantbench.errors import ArchitectureError, QuantbenchError


def opened(engine: Engine, checkpoint: Checkpoint) -> Architecture:
    """The model of these files. Raises what the engine raises; ArchitectureError with what the other engines say of an
    architecture that it does not know. Nothing is taken in its place: another engine's samples are others.
    """
    try:
        return engine.open(checkpoint)
    except ArchitectureError as error:
        others = [other for other in installed() if other.name != engine.name]
        told = [f"{str(error).rstrip('.')}.", *(_what_it_says(other, checkpoint) for other in others)]
        raise ArchitectureError(" ".join(told)) from error


def _what_it_says(other: Engine, checkpoint: Checkpoint) -> str:
    """Whether another engine opens the model, as a sentence."""
    try:
        other.open(checkpoint)
    except ArchitectureError as error:
        return f"The engine {other.name!r} does not know it either: {error}"
    except QuantbenchError as error:
        return f"The engine {other.name!r} knows it, and does not open this model: {error}"
    return f"The engine {other.name!r} knows it: choose --engine {other.name}."
