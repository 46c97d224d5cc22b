"""One model under test with all that measuring it needs: its weights, its texts, its tasks, the calibration text."""

from collections.abc import Callable, Hashable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pytest_quantbench import engines
from pytest_quantbench.catalog.candidates import Candidate
from pytest_quantbench.catalog.models import Model
from pytest_quantbench.catalog.recipes import REFERENCE
from pytest_quantbench.catalog.settings import Settings
from pytest_quantbench.checkpoints.checkpoint import Checkpoint
from pytest_quantbench.checkpoints.formats import open_candidate
from pytest_quantbench.checkpoints.formats.protocol import Holding
from pytest_quantbench.checkpoints.tokenizer import frame_of, load_tokenizer
from pytest_quantbench.compress.calibration import CalibrationSet
from pytest_quantbench.compress.calibration_text import Writer, calibration_set
from pytest_quantbench.compress.pipeline import reference
from pytest_quantbench.engines.opening import opened
from pytest_quantbench.engines.parameters import Capacity
from pytest_quantbench.engines.protocol import Architecture
from pytest_quantbench.errors import QuantbenchError
from pytest_quantbench.fetch import candidates
from pytest_quantbench.fetch.download import fetch
from pytest_quantbench.fetch.evicted import find
from pytest_quantbench.fetch.texts import Text, read_text
from pytest_quantbench.progress import stage

T = TypeVar("T")


class Inputs:
    """Everything is fetched or read when first asked for, and kept. What cannot be had is found out once, too: the
    ModelError or OfflineError is raised again for whoever asks.
    """

    def __init__(self, model: Model, settings: Settings) -> None:
        self.model = model
        self.settings = settings
        self.engine = engines.get(settings.engine, settings.activations)
        self._made: dict[Hashable, Any] = {}

    def once(self, key: Hashable, make: Callable[[], T]) -> T:
        """What `make` gives, made for the first who asks by this key; what it raises is raised again."""
        if key not in self._made:
            try:
                self._made[key] = make()
            except QuantbenchError as error:
                self._made[key] = error
        found: T | QuantbenchError = self._made[key]
        if isinstance(found, QuantbenchError):
            raise found
        return found

    @property
    def checkpoint(self) -> Checkpoint:
        """The files of the original weights."""
        return self.opened.checkpoint

    @property
    def opened(self) -> Architecture:
        """The original weights, fetched, checked and opened; what keeps them from being had is found out once."""
        return self.once("opened", self._opened)

    @property
    def capacity(self) -> Capacity:
        """Which tokens and how many the model takes."""
        return self.once("capacity", lambda: self.engine.capacity(self.opened.config))

    @property
    def is_opened(self) -> bool:
        """Whether the weights were asked for, and could be had."""
        return not isinstance(self._made.get("opened", QuantbenchError()), QuantbenchError)

    def _opened(self) -> Architecture:
        settings = self.settings
        with stage("fetch"):
            known = None if settings.fresh else find(settings.cache, self.model, settings.offline)
            return opened(self.engine, known or Checkpoint(*fetch(self.model, settings.offline)))

    def holding(self, candidate: Candidate) -> Holding:
        """A candidate's files, fetched, opened and checked."""
        place = candidate.source, self.settings.offline
        return self.once(("candidate", candidate), lambda: open_candidate(candidates.find(*place)))

    @property
    def tasks(self) -> tuple[str, ...]:
        """T3's tasks; the first one is judged."""
        return self.settings.tasks or self.model.tasks

    @property
    def texts(self) -> tuple[Text, ...]:
        """The texts of T2; the first one is judged."""
        settings = self.settings
        chosen = (settings.corpus or self.model.corpus, *settings.other_corpora)
        return self.once(("texts", chosen), lambda: self._read(chosen))

    def _read(self, chosen: Sequence[str | Path]) -> tuple[Text, ...]:
        with stage("fetch"):
            return tuple(read_text(each, self.settings.offline) for each in chosen)

    @property
    def tokenizer(self) -> Any:
        """The model's own."""
        return self.once("tokenizer", lambda: load_tokenizer(self.checkpoint.directory))

    @property
    def around_texts(self) -> dict[str, tuple[str, ...]]:
        """The tokens that every text begins with, and those that the tokenizer would put behind it, by name."""
        return self.once("around texts", lambda: frame_of(self.tokenizer).named(self.tokenizer))

    @property
    def calibration_text(self) -> Text:
        """The text that recipes are fitted to."""
        return self.calibration.text

    @property
    def calibration(self) -> CalibrationSet:
        """The same, with how many sequences of it are run."""
        return self.once("calibration", self._calibration)

    def _calibration(self) -> CalibrationSet:
        settings, model = self.settings, self.model
        return calibration_set(
            settings.calibration,
            model.calibration,
            Writer(
                name=model.name,
                engine=self.engine,
                reference=lambda: reference(self.opened, REFERENCE, settings.cache),
                tokenizer=lambda: self.tokenizer,
                cache=settings.cache,
                seed=settings.seed,
            ),
            sequences=settings.calibration_sequences,
            usual=model.calibration_sequences,
            offline=settings.offline,
        )
