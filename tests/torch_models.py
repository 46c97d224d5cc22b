"""Small random models as the engine on PyTorch opens them, and the modules that it builds, filled with weights."""

import pytest

torch = pytest.importorskip("torch")

from pytest_quantbench import engines  # noqa: E402
from pytest_quantbench.checkpoints.checkpoint import Checkpoint  # noqa: E402


def opened(directory):
    """A model directory as the engine on PyTorch opens it."""
    return engines.get("torch").open(Checkpoint(directory))


def filled(directory):
    """The model that is built for a directory, with all weights as the engine reads them, in float32."""
    found = opened(directory)
    model = found.model
    model.load_state_dict({name: found.tensor(name).float() for name in found.names}, strict=False, assign=True)
    model.tie_weights()
    assert not [name for name, held in model.state_dict().items() if held.is_meta]
    return model


def stored(directory, change):
    """Write the tensors of a model directory anew, as `change` makes them: {published name: tensor} → the same."""
    from safetensors.torch import load_file, save_file

    file = directory / "model.safetensors"
    changed = {name: tensor.contiguous().clone() for name, tensor in change(load_file(file)).items()}
    save_file(changed, file, metadata={"format": "pt"})
