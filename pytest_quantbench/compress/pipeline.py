"""The artifact of a checkpoint and a recipe: found in the cache, or made there."""

import math
import shutil
from collections.abc import Callable
from pathlib import Path

from pytest_quantbench import quantizers
from pytest_quantbench.catalog.recipes import Recipe
from pytest_quantbench.compress import assignment
from pytest_quantbench.compress.artifact import Artifact, Reference, open_artifact
from pytest_quantbench.compress.calibration import CalibrationSet
from pytest_quantbench.compress.encoder import Job
from pytest_quantbench.compress.manifest import load_manifest
from pytest_quantbench.compress.streamed import Streamed
from pytest_quantbench.compress.writer import Build, manifest_of
from pytest_quantbench.engines.protocol import MEMORY_BYTES, Architecture
from pytest_quantbench.errors import DiskError, QuantbenchError
from pytest_quantbench.storage.cache import ARTIFACTS, LOCKS, UNFINISHED
from pytest_quantbench.storage.locks import held
from pytest_quantbench.storage.sealed_json import json_sha256

# Raised when the layout of an artifact changes, or what is made of the same weights and text by the same methods.
FORMAT = 4


def reference(source: Architecture, recipe: Recipe, cache: Path) -> Artifact:
    """The opened checkpoint itself as an artifact: identity on every matrix, nothing copied.

    Its size is that of the model in BF16, two bytes for a parameter, also where the source stores four (float32): what
    is saved is compared with that everywhere.
    """
    checkpoint = source.checkpoint
    kept = None if checkpoint.is_here else load_manifest(cache, checkpoint.sha256)
    if kept is not None and kept.versions.keys() >= set(source.engine.packages):  # else another engine's, by its names
        return Reference(kept, source)
    tensors = [item.tensor(2 * math.prod(item.shape), (item.name,), "") for item in assignment.plan(source, recipe)]
    stored = sum(tensor.stored_bytes for tensor in tensors)
    manifest = manifest_of(
        source,
        recipe,
        tensors,
        key=checkpoint.sha256,
        stored_bytes=stored,
        opens_in_mlx_lm=source.engine.paths_are_mlx_lms,
    )
    return Reference(manifest, source)


def compress(
    source: Architecture,
    recipe: Recipe,
    seed: int,
    cache: Path,
    calibration: Callable[[], CalibrationSet] | None = None,
    *,
    stored: bool = True,
    memory_bytes: int = MEMORY_BYTES,
) -> Artifact:
    """The artifact of an opened checkpoint and a recipe: found in the cache, or made layer by layer. Without
    `stored`, one that is not there is not written either, but encoded as it is needed (see streamed). `memory_bytes`:
    of the calibration text's hidden states; what is beyond goes to files.

    `calibration` gives the calibration text when a method wants one; None: there is none, which only methods that
    need none accept. Raises WeightError for NaN or infinite weights, QuantbenchError for a method without the
    calibration that it needs, DiskError where the cache cannot be written.
    """
    if recipe.is_identity:
        return reference(source, recipe, cache)
    checkpoint = source.checkpoint
    used = used_calibration(recipe, calibration)
    key = key_of(source, recipe, seed, used)
    directory, building = ARTIFACTS.of(cache, key), UNFINISHED.of(cache, key)
    job = Job(source=source, recipe=recipe, seed=seed, calibration=used, memory_bytes=memory_bytes)
    planned = assignment.plan(source, recipe) if checkpoint.is_here else ()
    with held(LOCKS.of(cache, key), f"compressing {checkpoint.directory.name} to {recipe.id}"):
        if (found := open_artifact(directory, source.config, planned, source.engine)) is not None:
            return found
        if not stored:
            return Streamed(job, key, cache)
        try:
            building.mkdir(parents=True, exist_ok=True)
            Build(job, building).run(key)
            building.rename(directory)
        except OSError as error:  # what is done stays, for when there is room
            reason = error.strerror or error
            raise DiskError(f"Cannot write {directory}: {reason}. Set QUANTBENCH_CACHE to another folder.") from error
        except DiskError:  # it says itself where there is no room
            raise
        except QuantbenchError:
            shutil.rmtree(building, ignore_errors=True)  # nothing that could go on
            raise
        made = open_artifact(directory, source.config, planned, source.engine)
    if made is None:
        raise DiskError(f"{directory} is not what was written a moment ago. Set QUANTBENCH_CACHE to another folder.")
    return made


def used_calibration(recipe: Recipe, calibration: Callable[[], CalibrationSet] | None) -> CalibrationSet | None:
    """The calibration text, where a method of the recipe wants one. Nothing is fitted of a candidate. Raises
    QuantbenchError where a method needs one and there is none.
    """
    if recipe.candidate is not None:
        return None
    wishes = {quantizers.get(part.quantizer).calibration for part in recipe.parts}
    if calibration is None and "hessian" in wishes:
        raise QuantbenchError(f"{recipe.id} needs calibration: give a text with --calibration FILE.")
    return calibration() if calibration is not None and wishes != {"none"} else None


def key_of(source: Architecture, recipe: Recipe, seed: int, calibration: CalibrationSet | None) -> str:
    """Hash of everything that the artifact's content depends on; of the reference, the checkpoint's own."""
    sha256 = source.checkpoint.sha256
    if recipe.is_identity:
        return sha256
    parts = [
        (part.quantizer, sorted(part.parameters.items()), quantizers.get(part.quantizer).version)
        for part in recipe.parts
    ]
    text = calibration.describe() if calibration else {}
    content = [FORMAT, sha256, parts, recipe.mix, text, seed, source.engine.version]
    return json_sha256(content, sort_keys=False)[:32]  # in the order that earlier versions have it in
