"""Does a candidate have the reference's tensors, in its shapes? What differs is said in the model's own words first."""

from collections.abc import Iterable, Mapping, Sequence

from pytest_quantbench.engines.protocol import Architecture
from pytest_quantbench.errors import ModelError

SHOWN = 3
Shape = tuple[int, ...]


def refuse_other_shapes(reference: Architecture, shapes: Mapping[str, Shape], place: str) -> None:
    """Raise ModelError for a candidate at this place whose tensors, by the engine's paths, are not the reference's:
    which are missing or beyond, how many, and which have another shape.
    """
    wanted = {each.path: tuple(each.shape) for each in reference.parameters}
    missing = [path for path in wanted if path not in shapes]
    beyond = [path for path in shapes if path not in wanted]
    other = [path for path in wanted if path in shapes and tuple(shapes[path]) != wanted[path]]
    if not (missing or beyond or other):
        return
    told = []
    if sizes := list(_sizes(reference, shapes)):
        told.append(f"it has {', '.join(sizes)}")
    if missing:
        told.append(f"it lacks {_named(missing)}")
    if beyond:
        told.append(f"it holds {_named(beyond)}, which the reference does not have")
    if other:
        first = other[0]
        more = f" (and {len(other) - 1} more)" if len(other) > 1 else ""
        told.append(f"{first} has shape {tuple(shapes[first])} against {wanted[first]}{more}")
    raise ModelError(
        f"{place} is not the reference's: {'; '.join(told)}. Name the original that it was made from with --model "
        f"(judge: --reference)."
    )


def _sizes(reference: Architecture, shapes: Mapping[str, Shape]) -> Iterable[str]:
    """`vocabulary 49152 against 151936`: what whole rows of tensors have in common."""
    for each in reference.parameters:
        found = shapes.get(each.path)
        if each.kind == "embedding" and found is not None and len(found) == len(each.shape):
            for what, mine, other in zip(("vocabulary", "hidden size"), found, each.shape, strict=True):
                if mine != other:
                    yield f"{what} {mine} against {other}"
            break
    if reference.layers:
        stem = reference.layers[0].removesuffix("0.")
        mine = len({path[len(stem) :].partition(".")[0] for path in shapes if path.startswith(stem)})
        if mine != len(reference.layers):
            yield f"{mine} layers against {len(reference.layers)}"


def _named(paths: Sequence[str]) -> str:
    several = f"{len(paths)} tensors, such as " if len(paths) > 1 else ""
    return several + ", ".join(paths[:SHOWN])
