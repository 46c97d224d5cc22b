"""Codebooks whose words are fetched one by one: those along the outputs, and those along the inputs with many words.

Along the inputs a word of a row is multiplied by the vector of inputs that it belongs to, lane by lane, and a row's
lanes are added up at the end. Along the outputs the lanes of a word are rows, and it is multiplied by one input.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

from pytest_quantbench.engines.torch.kernels.cpu.machine_code import Instructions
from pytest_quantbench.engines.torch.kernels.cpu.numbers import scale_of
from pytest_quantbench.engines.torch.kernels.cpu.writing import Code, Value, Variable

ROWS = 32  # of a tile
ABREAST = 8  # rows, or vectors of rows, that are added up at once
CODES = {"uint8": "i8", "uint16": "i16"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Words:
    """Codebooks, as products with their words are written."""

    along_inputs: bool
    stages: int
    words: int
    length: int
    codes: str  # the type of codes
    numbers: str  # the type of the words' numbers: float16 or float32
    scales: str  # the type of the rows' scales

    def grid(self, cpu: Instructions) -> "WordsGrid":
        """What writes them."""
        return AlongInputs(self, cpu) if self.along_inputs else AlongOutputs(self, cpu)


class WordsGrid(ABC):
    """What both directions have in common."""

    rows, together = ROWS, 4
    slots = ("codes", "words", "scales", "vectors")  # `vectors`: how many codes a row, or a vector of rows, has

    def __init__(self, kind: Words, cpu: Instructions) -> None:
        self.kind, self.lanes = kind, cpu.lanes

    def reserve(self, code: Code) -> None:
        """A tile's sums for every token."""
        self.sums = code.scratch(code.number(ROWS * self.together), "f32")

    def before(self, code: Code, inputs: Sequence[Value]) -> None:  # noqa: B027
        """Nothing: words need no preparation, in either kind."""

    def word(self, code: Code, stage: int, codes: Value, place: Value) -> Value:
        """The word of the code at a place, as float32."""
        index = codes.load(place, CODES[self.kind.codes]).to("i64", "zext")
        start = (index + stage * self.kind.words) * self.kind.length
        words = code.slot("words", "pointer")
        if self.kind.numbers == "float32":
            return words.load(start, "f32", self.kind.length)
        return words.load(start, "i16", self.kind.length).to("f16", "bitcast").to("f32", "fpext")

    def tile(self, code: Code, tile: Value, inputs: Sequence[Value]) -> list[list[Variable]]:
        """Sum up, then scale the rows."""
        abreast = ABREAST if len(inputs) == 1 else ABREAST // 2
        per_tile = ROWS if self.kind.along_inputs else ROWS // self.kind.length
        count = min(abreast, per_tile)
        codes = code.slot("codes", "pointer")
        tile_codes = code.slot("vectors") * (self.kind.stages * per_tile)
        for first in code.loop(code.number(0), code.number(per_tile), count):
            here = codes.at(tile * tile_codes + first, CODES[self.kind.codes])
            self.some(code, here, inputs, first, count, per_tile)
        products: list[list[Variable]] = []
        for token in range(len(inputs)):
            products.append([])
            for part in range(0, ROWS, self.lanes):
                scale = scale_of(code.slot("scales", "pointer"), tile * ROWS + part, self.kind.scales, self.lanes)
                total = self.sums.load(token * ROWS + part, "f32", self.lanes)
                products[token].append(code.variable(total * scale))
        return products

    def some(self, code: Code, codes: Value, inputs: Sequence[Value], first: Value, count: int, per_tile: int) -> None:
        """The sums of `count` rows, or vectors of rows, of a tile; the codes of consecutive ones lie side by side."""
        zero, length = code.number(0.0, "f32", self.kind.length), self.kind.length
        totals = [[code.variable(zero) for _ in range(count)] for _ in inputs]
        for vector in code.loop(code.number(0), code.slot("vectors")):
            x = [self.factor(source, vector) for source in inputs]
            for stage in range(self.kind.stages):
                line = (vector * self.kind.stages + stage) * per_tile
                for each in range(count):
                    word = self.word(code, stage, codes, line + each)
                    for token, value in enumerate(x):
                        totals[token][each].set(word.times_plus(value, totals[token][each].get()))
        for token, sums in enumerate(totals):
            for each, total in enumerate(sums):
                if self.kind.along_inputs:
                    self.sums.store(first + (each + token * ROWS), total.get().total(), "f32")
                else:
                    self.sums.store((first + each) * length + token * ROWS, total.get(), "f32")

    @abstractmethod
    def factor(self, source: Value, vector: Value) -> Value:
        """What a word is multiplied by."""


class AlongInputs(WordsGrid):
    """A vector of inputs."""

    def factor(self, source: Value, vector: Value) -> Value:
        """As many inputs as a word has numbers."""
        return source.load(vector * self.kind.length, "f32", self.kind.length)


class AlongOutputs(WordsGrid):
    """One input."""

    def factor(self, source: Value, vector: Value) -> Value:
        """It, for every row of a word."""
        return source.load(vector, "f32").spread(self.kind.length)
