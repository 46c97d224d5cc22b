"""Which text calibrates a model: the one asked for, the model's own default, or what the model writes itself.

Never the text of another world than the model's: methods that look at data would fit the model to what it never sees.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pytest_quantbench.compress import self_written_text
from pytest_quantbench.compress.artifact import Artifact
from pytest_quantbench.compress.calibration import CalibrationSet
from pytest_quantbench.engines.protocol import Engine
from pytest_quantbench.errors import OfflineError
from pytest_quantbench.fetch.texts import read_text

SELF = "self"  # --calibration self
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Writer:
    """A model that can write its own calibration text. `reference` and `tokenizer` are called when it does."""

    name: str
    engine: Engine
    reference: Callable[[], Artifact]
    tokenizer: Callable[[], Any]
    cache: Path
    seed: int


def calibration_set(
    asked: str | Path | None, default: str, writer: Writer, *, sequences: int | None, usual: int, offline: bool
) -> CalibrationSet:
    """The calibration text and how much of it is used: `sequences`, or else `usual` of a given text.

    Without `asked` it is the `default`, or what the model itself writes where that cannot be had, which is told.
    Raises OfflineError or CorpusError for a text that was asked for and cannot be had.
    """
    if asked != SELF:
        try:
            text = read_text(asked or default, offline, option="--calibration")
            return CalibrationSet(text=text, sequences=sequences or usual)
        except OfflineError as error:
            if asked is not None:
                raise
            log.warning("%s Until then %s is calibrated on text that it writes itself.", error, writer.name)
    return _self_written(writer, sequences or self_written_text.SEQUENCES)


def _self_written(writer: Writer, sequences: int) -> CalibrationSet:
    length = self_written_text.SEQUENCE_TOKENS
    text = self_written_text.sampled_text(
        writer.engine,
        writer.reference(),
        writer.tokenizer(),
        writer.name,
        writer.cache,
        tokens=round(sequences * length * 1.1),  # what is decoded and encoded again may be fewer tokens
        length=length,
        seed=writer.seed,
    )
    return CalibrationSet(text=text, sequences=sequences, sequence_tokens=length)
