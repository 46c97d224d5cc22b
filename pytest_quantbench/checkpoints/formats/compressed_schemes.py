"""What the config of a compressed-tensors checkpoint says: which modules are quantized, and how each of them is.

Source: `QuantizationConfig`, `QuantizationScheme` and `QuantizationArgs` of the compressed-tensors package. Groups of
`config_groups` have targets (the names of modules, regular expressions after `re:`, or the names of classes such as
`Linear`), arguments for weights and for what comes in, and maybe a format of their own; `ignore` lists what is left
alone. Of several targets that match, a name goes before an expression, and that before a class; of expressions, the
first in the alphabet.

Where we differ: classes of modules are not known from files. An embedding is told by its name; every other module with
quantized tensors counts as `Linear`.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pytest_quantbench.checkpoints.safetensors_header import short
from pytest_quantbench.errors import ModelError

LARGEST = 2**31 - 1
EMBEDDINGS = ("embed_tokens", "wte", "word_embeddings", "tok_embeddings")
MOST_PATTERN = 300  # characters
# A repeated group, or many repeats, can take for ever to match; no targets need them.
REPEATED_GROUP, REPEAT, MOST_REPEATS = re.compile(r"\)[*+{]"), re.compile(r"[*+{]"), 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Arguments:
    """How numbers are written: of weights or of inputs."""

    bits: int
    type: str  # int or float
    symmetric: bool
    strategy: str
    group: int | None  # of a row
    block: tuple[int, int] | None  # rows and columns
    dynamic: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Scheme:
    """A group of the config."""

    name: str
    targets: Sequence[str]
    format: str
    weights: Arguments | None
    inputs: Arguments | None
    rounds_outputs: bool


class Targets:
    """The targets of all groups, or those that are ignored: which of them a module is."""

    def __init__(self, groups: Sequence[Sequence[str]]) -> None:
        # Of a target that several groups have, the last counts; of expressions, the first in the alphabet.
        self._groups = {target: number for number, targets in enumerate(groups) for target in targets}
        self._expressions = [
            (re.compile(target[3:]), target) for target in sorted(self._groups) if is_expression(target)
        ]

    def group_of(self, path: str) -> int | None:
        """The number of the group that this module belongs to; None where it is no target."""
        if path in self._groups:
            return self._groups[path]
        for expression, target in self._expressions:
            if expression.match(path):
                return self._groups[target]
        return self._groups.get("Embedding" if path.endswith(EMBEDDINGS) else "Linear")


def is_expression(target: str) -> bool:
    """Whether a target is a regular expression, and no name."""
    return target.startswith("re:")


class Schemes:
    """All groups, and what is ignored."""

    def __init__(self, file: Path, schemes: Sequence[Scheme], ignore: Sequence[str], *, caches: bool) -> None:
        self.schemes = schemes
        self.caches = caches  # whether keys and values are kept in few bits, too
        self._file = file
        self._targets, self._ignored = Targets([scheme.targets for scheme in schemes]), Targets([ignore])

    def of(self, path: str) -> Scheme:
        """The scheme of a module that has quantized tensors. Raises ModelError where it is ignored or no target."""
        if self._ignored.group_of(path) is not None:
            raise ModelError(f"{self._file} says that {short(path)} is not quantized, and its tensors are.")
        number = self._targets.group_of(path)
        if number is None:
            said = ", ".join(short(target) for scheme in self.schemes for target in scheme.targets)
            raise ModelError(f"{self._file} does not say how {short(path)} is quantized. Its targets are {said:.300}.")
        return self.schemes[number]


class Config:
    """Reads values of config.json. Every method raises ModelError, naming file and key, for one of a wrong kind."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def wrong(self, key: str, value: Any, wanted: str) -> ModelError:
        """The error for a value."""
        return ModelError(f"{self._file} says {key} = {short(value)}, and {wanted} is needed.")

    def schemes(self, table: Mapping[str, Any]) -> Schemes:
        """All that `quantization_config` says."""
        groups, form = table.get("config_groups"), table.get("format")
        if not isinstance(groups, dict) or not groups:
            raise self.wrong("config_groups", groups, "a table of groups")
        return Schemes(
            self._file,
            [self._scheme(name, group, form) for name, group in groups.items()],
            self._targets("ignore", table.get("ignore") or []),
            caches=bool(table.get("kv_cache_scheme")),
        )

    def _scheme(self, name: str, group: Any, usual_form: Any) -> Scheme:
        if not isinstance(group, dict):
            raise self.wrong(short(name), group, "a table with targets and weights")
        form = group.get("format") or usual_form
        if not isinstance(form, str):
            raise self.wrong("format", form, "the name of a format")
        return Scheme(
            name=name,
            targets=self._targets(f"targets of {short(name)}", group.get("targets")),
            format=form,
            weights=self._arguments(f"weights of {short(name)}", group.get("weights")),
            inputs=self._arguments(f"input_activations of {short(name)}", group.get("input_activations")),
            rounds_outputs=bool(group.get("output_activations")),
        )

    def _targets(self, key: str, value: Any) -> Sequence[str]:
        if not isinstance(value, list) or not all(isinstance(target, str) for target in value):
            raise self.wrong(key, value, "a list of names")
        for target in value:
            if is_expression(target):
                self._check_expression(key, target[3:])
        return value

    def _check_expression(self, key: str, pattern: str) -> None:
        repeats = len(REPEAT.findall(pattern))
        if len(pattern) > MOST_PATTERN or REPEATED_GROUP.search(pattern) or repeats > MOST_REPEATS:
            raise self.wrong(key, pattern, f"a pattern without repeated groups, of at most {MOST_REPEATS} repeats")
        try:
            re.compile(pattern)
        except (re.error, RecursionError, OverflowError) as error:
            raise self.wrong(key, pattern, "a regular expression") from error

    def _arguments(self, key: str, table: Any) -> Arguments | None:
        if table is None:
            return None
        if not isinstance(table, dict):
            raise self.wrong(key, table, "a table")
        group = self._group(key, table.get("group_size"))
        strategy = self._word(key, "strategy", table.get("strategy") or self._usual_strategy(group))
        return Arguments(
            bits=self._whole(f"num_bits in {key}", table.get("num_bits", 8), 32),
            type=self._word(key, "type", table.get("type", "int")),
            symmetric=self._flag(f"symmetric in {key}", table.get("symmetric", True)),
            strategy=strategy,
            group=group if group != -1 else None,
            block=self._block(key, table.get("block_structure")),
            dynamic=bool(table.get("dynamic", False)),
        )

    def _usual_strategy(self, group: int | None) -> str:
        return "tensor" if group is None else "channel" if group == -1 else "group"

    def _word(self, key: str, name: str, value: Any) -> str:
        if not isinstance(value, str):
            raise self.wrong(f"{name} in {key}", value, "a word")
        return value.lower()

    def _flag(self, key: str, value: Any) -> bool:
        if not isinstance(value, bool):
            raise self.wrong(key, value, "true or false")
        return value

    def _whole(self, key: str, value: Any, most: int) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= most:
            raise self.wrong(key, value, f"a whole number from 1 to {most}")
        return value

    def _group(self, key: str, value: Any) -> int | None:
        if value is None or (value == -1 and isinstance(value, int)):
            return value
        return self._whole(f"group_size in {key}", value, LARGEST)

    def _block(self, key: str, value: Any) -> tuple[int, int] | None:
        if value is None:
            return None
        if isinstance(value, str):  # as older versions wrote it: 128x128
            value = [int(part) if re.fullmatch(r"[0-9]{1,9}", part) else part for part in value.split("x")]
        if not isinstance(value, list) or len(value) != 2:
            raise self.wrong(f"block_structure in {key}", value, "a list of rows and columns")
        rows, columns = (self._whole(f"block_structure in {key}", part, LARGEST) for part in value)
        return rows, columns
