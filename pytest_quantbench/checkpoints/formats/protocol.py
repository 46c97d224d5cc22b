"""What a format is: one way in which files that somebody else made hold a quantized model.

A format recognizes its files and opens them as a `Holding`. Headers are read and checked then, values when they are
asked for, one tensor at a time; nothing that a file brings is executed. Tensors are asked for by the names that the
original checkpoint's tensors have (`published`), or by mlx-lm's names for them, where a format stores those.
"""

from __future__ import annotations

import math
import re
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol, TypeAlias

from pytest_quantbench.quantizers import Arrays, Codec

Naming: TypeAlias = Literal["published", "mlx-lm"]
IN_A_LAYER = re.compile(r"(?:^|\.)(?:layers|blk|blocks|h)\.\d+\.")  # of a stored tensor's name


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldTensor:
    """One tensor of the model as the files hold it.

    `kind` is what the format calls its encoding, such as `Q4_K` or `gptq`, and `parameters` go with it. `read` gives
    the arrays that `codec` decodes to the whole tensor of this shape: (out, in) for a matrix, (experts, out, in) for a
    stack of them, whose arrays have the experts first. Where `codec` is None they are one array, which is the tensor
    itself in 16 or 32 bits. `note` says what the files' scheme asks for beside these weights and is not done here.
    """

    name: str
    shape: tuple[int, ...]
    stored_bytes: int  # of all that stands for it: codes, scales, zero points, codebooks
    kind: str
    codec: Codec | None
    read: Callable[[], Arrays]
    parameters: Mapping[str, int | float | str] = field(default_factory=dict)
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Claims:
    """What files say of the model beside its weights; None where they do not say it.

    `config`: config.json without what it says of quantization, or what a GGUF's header says under the same keys.
    `tokens`: every token's text as the tokenizer's vocabulary has it, by id.
    """

    base_model: str | None = None  # the original, such as `owner/name`
    config: Mapping[str, Any] | None = None
    tokens: Sequence[str] | None = None
    chat_template: str | None = None
    special_tokens: Mapping[str, int] = field(default_factory=dict)  # such as bos_token_id, eos_token_id
    adds_bos: bool | None = None
    generation: Mapping[str, Any] = field(default_factory=dict)  # generation_config.json


class Holding(Protocol):
    """A candidate's files, opened and checked."""

    format: str  # its name: `gguf`
    naming: Naming
    files: Sequence[Path]  # of the weights

    @abstractmethod
    def tensor(self, name: str) -> HeldTensor | None:
        """The tensor of this name; None where the files hold none. Raises ModelError, naming file and tensor, for parts
        that do not fit together.
        """

    @abstractmethod
    def stored(self) -> Sequence[HeldTensor]:
        """All tensors, by the names that the files themselves have for them; nothing is read."""

    @abstractmethod
    def left_over(self, names: Sequence[str]) -> Sequence[str]:
        """What the files hold besides the tensors of these names, by the files' own names."""

    @abstractmethod
    def claims(self) -> Claims:
        """What the files say of the model beside its weights."""


class Format(Protocol):
    """One way of storing a model."""

    name: ClassVar[str]
    what: ClassVar[str]  # for who asks what is read: `GGUF files, one or split`

    def recognizes(self, source: Path) -> bool:
        """Whether this file or directory looks like one of the format's. Looks at names and config.json alone."""

    def open(self, source: Path) -> Holding:
        """Open it. Raises ModelError naming the file, and the tensor or key, that cannot be what it says."""


def bits_per_weight(tensors: Sequence[HeldTensor]) -> float:
    """8 × stored bytes ÷ values of all tensors that are encoded; where none is, of all matrices, and 16 without any."""
    coded = [tensor for tensor in tensors if tensor.codec is not None]
    coded = coded or [tensor for tensor in tensors if len(tensor.shape) > 1]
    values = sum(math.prod(tensor.shape) for tensor in coded)
    return 8 * sum(tensor.stored_bytes for tensor in coded) / values if values else 16.0


def layer_bits(tensors: Sequence[HeldTensor]) -> float:
    """8 × stored bytes ÷ values of all matrices of the decoder layers, encoded or not, where names tell which tensors
    are in these; else of all that are encoded.
    """
    matrices = [tensor for tensor in tensors if IN_A_LAYER.search(tensor.name) and len(tensor.shape) > 1]
    values = sum(math.prod(tensor.shape) for tensor in matrices)
    return 8 * sum(tensor.stored_bytes for tensor in matrices) / values if values else bits_per_weight(tensors)
