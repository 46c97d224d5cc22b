"""What a candidate's files hold beside the tensors that its original's parameters are made of.

Some of it is known to change nothing, and may be there: what is not run of the original, such as what looks at
pictures; the output head once more where it is the embeddings; and biases of zero, which some packers write for every
layer. Anything else makes another model of it, and is refused.
"""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from pytest_quantbench.checkpoints.formats.protocol import HeldTensor, Holding
from pytest_quantbench.engines.parameters import Origin
from pytest_quantbench.engines.protocol import Architecture
from pytest_quantbench.errors import ModelError
from pytest_quantbench.quantizers import Array
from pytest_quantbench.quantizers.encoding import Encoding

HEAD = "lm_head.weight"


def refuse_beyond(
    holding: Holding,
    source: Architecture,
    origins: Mapping[str, Origin],
    held: Mapping[str, Sequence[HeldTensor]],
    place: str,
) -> None:
    """Raise ModelError for tensors that the original does not have. `origins` and `held`: by the engine's paths, what
    each parameter is made of, by name and as it lies there.
    """
    names = {name for origin in origins.values() for name in origin.sources}
    idle = {_owner(name) for name in source.checkpoint.shapes} - {_owner(name) for name in (*names, HEAD)}
    embeddings = [held[each.path][0] for each in source.parameters if each.kind == "embedding"]
    found = holding.left_over(sorted(names))  # by the files' own names, of which the head's may be another
    head = next((name for name in found if name.endswith(HEAD)), HEAD)
    if found and head not in names and _is_tied_head(holding, head, embeddings, place):
        found = holding.left_over(sorted({*names, head}))
    beyond = [each for each in found if _owner(each) not in idle]
    for name in beyond:
        if not _is_zero_bias(holding, name):
            more = f" (and {len(beyond) - 1} more)" if len(beyond) > 1 else ""
            raise ModelError(f"{place} holds {name}{more}, which the reference does not have.")


def _is_zero_bias(holding: Holding, name: str) -> bool:
    """Whether a tensor adds nothing."""
    bias = holding.tensor(name) if name.endswith(".bias") else None
    return bias is not None and not decoded(bias).any()


def _is_tied_head(holding: Holding, name: str, embeddings: Iterable[HeldTensor], place: str) -> bool:
    """Whether a tensor is the embeddings once more. Raises ModelError for an output head that is not."""
    head = holding.tensor(name)
    alike = next((each for each in embeddings if head is not None and each.shape == head.shape), None)
    if head is None or alike is None:
        return False
    if not np.array_equal(decoded(head), decoded(alike)):
        raise ModelError(
            f"{place} has an output head ({name}) that is not its embeddings; in the reference they are one."
        )
    return True


def _owner(name: str) -> str:
    """The path of the layer that a tensor belongs to."""
    return name.rpartition(".")[0]


def decoded(tensor: HeldTensor) -> Array:
    """A tensor's values: in float32, or as they are stored."""
    arrays = tensor.read()
    if tensor.codec is None:
        return next(iter(arrays.values()))
    return Encoding(codec=tensor.codec, arrays=arrays, shape=tensor.shape).dense()
