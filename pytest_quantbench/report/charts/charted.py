"""What a chart is drawn of."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pytest_quantbench.record.schema import Record


@dataclass(frozen=True, slots=True, kw_only=True)
class Charted:
    """A cell's record, and its raw samples by `part/name` (see record.folder.read_arrays); empty where there are
    none.
    """

    record: Record
    arrays: Mapping[str, Any] = field(default_factory=dict)
