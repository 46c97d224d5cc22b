"""A compressed model that never lies on disk: a group of parameters is encoded when it is asked for, then forgotten.

Whoever goes through a model in the order of its layers, as a walk does, has each of them encoded once. Going back
costs: a calibrated recipe begins again, for a layer is fitted to what the encoded layers before it make of the text.
What lies outside the decoder layers is asked for at both ends of a walk, and is kept.
"""

import logging
import time
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

from pytest_quantbench.compress.artifact import Artifact
from pytest_quantbench.compress.assignment import Tensor
from pytest_quantbench.compress.encoder import Encoded, Encoder, Job
from pytest_quantbench.compress.manifest import Manifest, load_manifest, save_manifest
from pytest_quantbench.compress.writer import manifest_of
from pytest_quantbench.errors import DiskError
from pytest_quantbench.quantizers import Arrays

log = logging.getLogger(__name__)


class Streamed(Artifact):
    """A checkpoint at a recipe, encoded anew by everyone who goes through it; its manifest, once known, is kept."""

    def __init__(self, job: Job, key: str, cache: Path) -> None:
        self.config, self.recipe_id, self.decoder = job.source.config, job.recipe.id, job.source.engine
        self._job, self._key, self._cache = job, key, cache
        self._at = -1  # the last group that this encoder has encoded and carried the calibration text through
        self._held: dict[int, Encoded] = {}  # the first group, and the one that was asked for last
        self._known: dict[str, Tensor] = {}
        self._seconds: dict[int, float] = {}  # of encoding, by group

    @cached_property
    def _encoder(self) -> Encoder:
        """Made when first needed: what is kept of earlier sessions is known without the weights."""
        return Encoder(self._job)

    @cached_property
    def _place(self) -> dict[str, int]:
        """Every parameter's group."""
        return {item.name: place for place, group in enumerate(self._encoder.groups) for item in group}

    @property
    def names(self) -> Sequence[str]:
        """Every parameter's path."""
        return list(self._place)

    @cached_property
    def manifest(self) -> Manifest:
        """What it would be on disk, but for the files' headers. Encodes what has not been encoded yet."""
        if (kept := load_manifest(self._cache, self._key)) is not None:
            return kept
        for place in range(len(self._encoder.groups)):
            if place not in self._seconds:
                self._group(place)
        calibration = self._job.calibration
        tensors = [self._known[name] for name in self._place]
        made = manifest_of(
            self._job.source,
            self._job.recipe,
            tensors,
            key=self._key,
            stored_bytes=sum(tensor.stored_bytes for tensor in tensors),
            opens_in_mlx_lm=False,
            seconds=sum(self._seconds.values()),
            calibration=calibration.describe() if calibration else {},
        )
        try:
            save_manifest(self._cache, made)
        except DiskError as error:
            log.warning("The manifest of %s is not kept for later sessions. %s", self.recipe_id, error)
        return made

    def tensor(self, name: str) -> Tensor:
        """What would be stored for a parameter."""
        if name not in self._known:
            self._group(self._place[name])
        return self._known[name]

    def arrays(self, name: str) -> Arrays:
        """The encoded arrays of a parameter."""
        group = self._group(self._place[name])
        return {array.rpartition(".")[2]: group.arrays[array] for array in self._known[name].arrays}

    def _group(self, place: int) -> Encoded:
        """One group's encodings. Only a calibrated recipe needs the groups before it."""
        if place not in self._held and not self._encoder.calibrated:
            self._hold(place)
        elif place not in self._held:
            if place <= self._at:
                self._begin_again()
            for each in range(self._at + 1, place + 1):
                self._hold(each)
                began = time.perf_counter()
                self._encoder.carry_on(self._encoder.groups[each])
                self._seconds[each] += time.perf_counter() - began
                self._at = each
        return self._held[place]

    def _hold(self, place: int) -> None:
        """Encode a group, and forget the others but the first."""
        began = time.perf_counter()
        made = self._encoder.encode(self._encoder.groups[place])
        self._seconds[place] = time.perf_counter() - began
        self._known |= {tensor.name: tensor for tensor in made.tensors}
        self._held = {first: held for first, held in self._held.items() if first == 0} | {place: made}
        self._job.source.engine.release()

    def _begin_again(self) -> None:
        """Carry the calibration text from its start, through the first group as it was encoded."""
        self._encoder = Encoder(self._job)
        self._encoder.take_up(self._held[0].tensors, self._held[0].arrays)
        self._encoder.carry_on(self._encoder.groups[0])
        self._at = 0
