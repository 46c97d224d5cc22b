"""Codebooks of at most 256 words along the inputs, by tables: no word is ever put together.

For every vector of inputs and every codebook, the products with all its words are computed once, into a table; then a
code of any row is one number looked up. With AVX-512 VBMI, 64 rows look up a byte of theirs in a few instructions.
There numbers of a table are integers of 23 bits, in three planes of bytes, all in one unit, which the largest possible
product gives. Their sums are exact; what is lost is less than float32's rounding of a few products. Elsewhere a table
has float32 numbers, which are read one by one.

A chunk of tables is made at a time, so that they stay in the second cache while all rows read them.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

from pytest_quantbench.engines.torch.kernels.cpu.machine_code import TILES, Instructions
from pytest_quantbench.engines.torch.kernels.cpu.numbers import scale_of
from pytest_quantbench.engines.torch.kernels.cpu.writing import CACHE_LINE, KINDS, Code, Value, Variable

ROWS, HALF = 128, 64  # of a tile; that look up together
WORDS = 256  # places of a table
PLANES = 3
AHEAD = 4096  # bytes of codes that are fetched before they are needed
CHUNK = 256  # tables: so many bytes can be added in 16 bits
FETCHED = 6  # cache lines of codes, while 64 numbers of a table are made
MAGIC = 1.5 * 2**23  # added to a number, it leaves it rounded in the lowest bits
ZERO = 2**22  # what stands there for zero
TINY = 1e-30


@dataclass(frozen=True, slots=True, kw_only=True)
class Tables:
    """Codebooks, as products with them are written."""

    stages: int
    words: int
    length: int
    scales: str  # the type of the rows' scales

    def grid(self, cpu: Instructions) -> "TablesGrid":
        """What writes them."""
        return BytePlanes(self, cpu) if cpu.looks_up_bytes else FloatTables(self, cpu)


class TablesGrid(ABC):
    """What both forms of tables have in common."""

    rows, together = ROWS, 1
    slots = ("codes", "words", "word_norm", "scales", "vectors")

    def __init__(self, kind: Tables, cpu: Instructions) -> None:
        self.kind, self.lanes = kind, cpu.lanes
        self.chunk = self.most // kind.stages * kind.stages  # tables

    def reserve(self, code: Code) -> None:
        """Sums of the rows, a chunk of tables, and their unit."""
        self.sums = code.scratch((code.end - code.begin) * ROWS, "f32")
        self.tables = code.scratch(code.number(self.chunk * self.table_bytes), "i8")
        self.unit = code.scratch(code.number(1), "f32")

    def before(self, code: Code, inputs: Sequence[Value]) -> None:
        """All products of one token, without scales."""
        (source,) = inputs
        for row in code.loop(code.number(0), (code.end - code.begin) * ROWS, self.lanes):
            self.sums.store(row, code.number(0.0, "f32", self.lanes), "f32")
        factor = self.measured(code, source)
        lookups = code.slot("vectors") * self.kind.stages
        for first in code.loop(code.number(0), lookups, self.chunk):
            rest = lookups - first
            count = rest.below(self.chunk).either(rest, code.number(self.chunk))
            codes = code.slot("codes", "pointer").at((first * code.slot(TILES) + count * code.begin) * ROWS, "i8")
            self._fill(code, source, factor, first // self.kind.stages, count // self.kind.stages, codes)
            for tile in code.loop(code.number(0), code.end - code.begin):
                self.look_up(code, codes.at(tile * count * ROWS, "i8"), self.sums.at(tile * ROWS, "f32"), count)

    def _fill(self, code: Code, source: Value, factor: Value, first: Value, count: Value, codes: Value) -> None:
        """Make the tables of some vectors of inputs, while the codes that will look there up come from memory."""
        ahead = code.variable(codes)
        length, stages, lanes = self.kind.length, self.kind.stages, self.lanes
        words, size = code.slot("words", "pointer"), self.table_bytes
        for vector in code.loop(code.number(0), count):
            start = (first + vector) * length
            x = [(source.load(start + place, "f32") * factor).spread(lanes) for place in range(length)]
            for stage in range(stages):
                table = self.tables.at((vector * stages + stage) * size, "i8")
                for word in code.loop(code.number(0), code.number(-(-self.kind.words // 64) * 64), 64):
                    for line in range(FETCHED):
                        ahead.get().prefetch(line * CACHE_LINE)
                    ahead.set(ahead.get().at(FETCHED * CACHE_LINE, "i8"))
                    products = []
                    for part in range(0, 64, lanes):
                        product = code.number(0.0, "f32", lanes)
                        for place, value in enumerate(x):
                            at = word + ((stage * length + place) * WORDS + part)
                            product = words.load(at, "f32", lanes).times_plus(value, product)
                        products.append(product)
                    self.put(table, word, products)

    def tile(self, code: Code, tile: Value, inputs: Sequence[Value]) -> list[list[Variable]]:
        """Scale the sums of a tile's rows."""
        unit, products = self.unit.load(0, "f32").spread(self.lanes), []
        for part in range(0, ROWS, self.lanes):
            scale = scale_of(code.slot("scales", "pointer"), tile * ROWS + part, self.kind.scales, self.lanes)
            total = self.sums.load((tile - code.begin) * ROWS + part, "f32", self.lanes)
            products.append(code.variable(total * unit * scale))
        return [products]

    table_bytes: int
    most: int  # tables of a chunk

    @abstractmethod
    def measured(self, code: Code, source: Value) -> Value:
        """What inputs are multiplied by, so that tables have numbers in the unit, which is stored."""

    @abstractmethod
    def put(self, table: Value, word: Value, products: Sequence[Value]) -> None:
        """Store the products with 64 words in a table."""

    @abstractmethod
    def look_up(self, code: Code, codes: Value, sums: Value, count: Value) -> None:
        """Add what `count` codes of each row of a tile find to the rows' sums."""


class BytePlanes(TablesGrid):
    """Integers, of which each byte lies in a plane of its own. A tile's row i and row i + 32 are neighbours there."""

    table_bytes, most = PLANES * WORDS, CHUNK

    def measured(self, code: Code, source: Value) -> Value:
        """The unit: 2^-22 of the longest input vector times the longest word, which no product exceeds."""
        longest, length = code.variable(code.number(TINY, "f32")), self.kind.length
        for vector in code.loop(code.number(0), code.slot("vectors")):
            total = code.number(0.0, "f32")
            for place in range(length):
                value = source.load(vector * length + place, "f32")
                total = value.times_plus(value, total)
            longest.set(code.intrinsic("maxnum", KINDS["f32"], total, longest.get()))
        norm = code.intrinsic("sqrt", KINDS["f32"], longest.get())
        bound = norm * code.slot("word_norm", "pointer").load(0, "f32")
        largest = float(ZERO - 256)  # what rounding adds stays below
        self.unit.store(0, bound // largest, "f32")
        return code.number(largest, "f32") // bound

    def put(self, table: Value, word: Value, products: Sequence[Value]) -> None:
        """As integers, byte by byte."""
        first, second, third, fourth = ((product + MAGIC).seen_as("i8", 64) for product in products)
        for plane in range(PLANES):
            every_fourth = [4 * number + plane for number in range(32)] * 2
            low, high = first.chosen(every_fourth, second), third.chosen(every_fourth, fourth)
            table.store(word + plane * WORDS, low.chosen([*range(32), *range(96, 128)], high), "i8")

    def look_up(self, code: Code, codes: Value, sums: Value, count: Value) -> None:
        """In 16-bit lanes: sums of whole lanes, from which those of their upper bytes are taken away at the end."""
        nothing = code.number(0, "i16", HALF // 2)
        both, upper = ([[code.variable(nothing) for _ in range(PLANES)] for _ in range(ROWS // HALF)] for _ in range(2))
        for lookup in code.loop(code.number(0), count):
            table = self.tables.at(lookup * self.table_bytes, "i8")
            planes = [
                [table.load(plane * WORDS + start, "i8", 64) for start in range(0, self.kind.words, 64)]
                for plane in range(PLANES)
            ]
            for half in range(ROWS // HALF):
                codes.prefetch(lookup * ROWS + (half * HALF + AHEAD))
                places = codes.load(lookup * ROWS + half * HALF, "i8", HALF)
                for plane, parts in enumerate(planes):
                    found = _found(code, parts, places).seen_as("i16", HALF // 2)
                    both[half][plane].set(both[half][plane].get() + found)
                    upper[half][plane].set(upper[half][plane].get() + (found >> 8))
        zeros = (count * ZERO).to("i32", "trunc").spread(HALF // 2)
        for half in range(ROWS // HALF):
            odd = [each.get() for each in upper[half]]
            even = [each.get() - (other << 8) for each, other in zip(both[half], odd, strict=True)]
            for part, planes_of in enumerate((even, odd)):
                low, middle, high = (each.to("i32", "zext") for each in planes_of)
                total = (low + (middle << 8) + (high << 16) - zeros).to("f32", "sitofp")
                place = half * HALF + part * HALF // 2
                sums.store(place, sums.load(place, "f32", HALF // 2) + total, "f32")


def _found(code: Code, parts: Sequence[Value], places: Value) -> Value:
    """64 bytes of a table, in vectors of 64 of its places, by 64 indices."""
    two = "x86.avx512.vpermi2var.qi.512"
    kind = places.held.type
    if len(parts) == 1:
        return code.intrinsic("x86.avx512.permvar.qi.512", kind, parts[0], places)
    low = code.intrinsic(two, kind, parts[0], places, parts[1])
    if len(parts) == 2:
        return low
    high = code.intrinsic(two, kind, parts[2], places, parts[-1])
    return places.below(0).either(high, low)  # the highest bit


class FloatTables(TablesGrid):
    """Numbers as they are, read one by one."""

    table_bytes, most = WORDS * 4, CHUNK // 4
    abreast = 8  # rows

    def measured(self, code: Code, source: Value) -> Value:
        """The unit is one."""
        self.unit.store(0, code.number(1.0, "f32"), "f32")
        return code.number(1.0, "f32")

    def put(self, table: Value, word: Value, products: Sequence[Value]) -> None:
        """As they are."""
        for part, product in enumerate(products):
            table.store(word + part * self.lanes, product, "f32")

    def look_up(self, code: Code, codes: Value, sums: Value, count: Value) -> None:
        """A few rows at a time."""
        for row in code.loop(code.number(0), code.number(ROWS), self.abreast):
            totals = [code.variable(sums.load(row + each, "f32")) for each in range(self.abreast)]
            for lookup in code.loop(code.number(0), count):
                table = self.tables.at(lookup * WORDS, "f32")
                for each, total in enumerate(totals):
                    place = codes.load(lookup * ROWS + row + each, "i8").to("i64", "zext")
                    total.set(total.get() + table.load(place, "f32"))
            for each, total in enumerate(totals):
                sums.store(row + each, total.get(), "f32")
