"""Which published tensors a parameter of Transformers' model is made of: its own table of conversions says it."""

from collections.abc import Mapping

from pytest_quantbench.engines.parameters import Origin
from pytest_quantbench.engines.torch.weight_names import Making

STACKING = ["MergeModulelist"]  # Transformers' name for it
TURNING = ["Transpose"]
MATRIX = 2  # dimensions


def origin(making: Making, *, turned: bool, shapes: Mapping[str, tuple[int, ...]]) -> Origin:
    """Where a parameter comes from. `turned`: its last two dimensions are exchanged after Transformers made it;
    `shapes`: of the published tensors.

    A stack whose matrices are joined from several tensors each, such as gate and up projection, is `made`.
    """
    sources = making.published
    matrix = len(shapes[sources[0]]) == MATRIX
    if len(sources) == 1 and making.operations in ([], TURNING):
        if (making.operations == TURNING) == turned:
            return Origin(form="same", sources=sources)
        if matrix:
            return Origin(form="turned", sources=sources)
    if making.operations == STACKING and matrix and not turned:
        return Origin(form="stack", sources=sources)
    return Origin(form="made", sources=sources)
