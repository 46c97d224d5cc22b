"""The words in which kernels are written: numbers and vectors of LLVM, with Python's operators.

A loop of Python writes its body again and again (it is unrolled); `Code.loop` writes a loop of the machine. What lives
through such a loop is a `Variable`.
"""

from collections.abc import Iterator, Sequence
from typing import Any, TypeAlias

from llvmlite import ir

KINDS = {
    "i8": ir.IntType(8), "i16": ir.IntType(16), "i32": ir.IntType(32), "i64": ir.IntType(64),
    "f16": ir.HalfType(), "f32": ir.FloatType(), "pointer": ir.PointerType(),
}  # fmt: skip
CACHE_LINE = 64
PART = ir.FunctionType(ir.VoidType(), [KINDS["pointer"], KINDS["i64"], KINDS["i64"]])  # a job, first tile, last + 1
WHOLE = ir.FunctionType(ir.VoidType(), [KINDS["pointer"]])
Plain: TypeAlias = int | float


class Value:
    """A number, a vector of numbers, or an address, that the program has computed."""

    def __init__(self, code: "Code", held: Any) -> None:
        self.code, self.held = code, held

    @property
    def lanes(self) -> int:
        """How many numbers it has; 0: it is no vector."""
        return self.held.type.count if isinstance(self.held.type, ir.VectorType) else 0

    @property
    def is_float(self) -> bool:
        """Whether operators are those of floating point."""
        element = self.held.type.element if self.lanes else self.held.type
        return isinstance(element, ir.FloatType | ir.HalfType)

    def _with(self, other: "Value | Plain", integers: str, floats: str) -> "Value":
        method = getattr(self.code.builder, floats if self.is_float else integers)
        return Value(self.code, method(self.held, self.code.like(self, other).held))

    def __add__(self, other: "Value | Plain") -> "Value":
        return self._with(other, "add", "fadd")

    def __sub__(self, other: "Value | Plain") -> "Value":
        return self._with(other, "sub", "fsub")

    def __mul__(self, other: "Value | Plain") -> "Value":
        return self._with(other, "mul", "fmul")

    def __floordiv__(self, other: "Value | Plain") -> "Value":
        return self._with(other, "udiv", "fdiv")

    def __rshift__(self, other: int) -> "Value":
        return self._with(other, "lshr", "") if other else self

    def __lshift__(self, other: int) -> "Value":
        return self._with(other, "shl", "") if other else self

    def __and__(self, other: "Value | Plain") -> "Value":
        return self._with(other, "and_", "")

    def __or__(self, other: "Value | Plain") -> "Value":
        return self._with(other, "or_", "")

    def below(self, other: "Value | Plain") -> "Value":
        """Whether it is less, as signed integers."""
        return Value(self.code, self.code.builder.icmp_signed("<", self.held, self.code.like(self, other).held))

    def either(self, one: "Value", other: "Value") -> "Value":
        """Lane by lane, `one` where this is true, else `other`."""
        return Value(self.code, self.code.builder.select(self.held, one.held, other.held))

    def times_plus(self, factor: "Value", summand: "Value") -> "Value":
        """self · factor + summand, rounded once."""
        return self.code.intrinsic("fma", self.held.type, self, factor, summand)

    def spread(self, lanes: int) -> "Value":
        """A vector that has the number in every lane."""
        builder, empty = self.code.builder, ir.Constant(ir.VectorType(self.held.type, lanes), ir.Undefined)
        first = builder.insert_element(empty, self.held, ir.Constant(KINDS["i32"], 0))
        return Value(self.code, first).chosen([0] * lanes)

    def chosen(self, places: Sequence[int], other: "Value | None" = None) -> "Value":
        """The lanes of these places; those of `other` come after one's own."""
        rest = ir.Constant(self.held.type, ir.Undefined) if other is None else other.held
        mask = ir.Constant(ir.VectorType(KINDS["i32"], len(places)), list(places))
        return Value(self.code, self.code.builder.shuffle_vector(self.held, rest, mask))

    def with_lanes(self, first: int, numbers: "Sequence[Value]") -> "Value":
        """The vector with other numbers from a lane on."""
        held = self.held
        for lane, number in enumerate(numbers, first):
            held = self.code.builder.insert_element(held, number.held, ir.Constant(KINDS["i32"], lane))
        return Value(self.code, held)

    def to(self, kind: str, how: str) -> "Value":
        """Converted lane by lane: `zext`, `sext`, `trunc`, `uitofp`, `sitofp`, `fptosi`, `fpext`, or `bitcast`."""
        wanted = ir.VectorType(KINDS[kind], self.lanes) if self.lanes else KINDS[kind]
        return Value(self.code, getattr(self.code.builder, how)(self.held, wanted))

    def seen_as(self, kind: str, lanes: int) -> "Value":
        """The same bits as a vector of another type."""
        return Value(self.code, self.code.builder.bitcast(self.held, ir.VectorType(KINDS[kind], lanes)))

    def total(self) -> "Value":
        """The sum of a vector's lanes, in whatever order is fastest."""
        zero = ir.Constant(KINDS["f32"], -0.0)
        return self.code.intrinsic("vector.reduce.fadd", KINDS["f32"], Value(self.code, zero), self, loose=True)

    def at(self, index: "Value | int", kind: str) -> "Value":
        """The address of a number behind this one."""
        place = self.code.number(index) if isinstance(index, int) else index
        return Value(self.code, self.code.builder.gep(self.held, [place.held], source_etype=KINDS[kind]))

    def load(self, index: "Value | int", kind: str, lanes: int = 0) -> "Value":
        """The number, or the `lanes` numbers, from a place of an array on; it need not be aligned."""
        wanted = ir.VectorType(KINDS[kind], lanes) if lanes else KINDS[kind]
        return Value(self.code, self.code.builder.load(self.at(index, kind).held, align=1, typ=wanted))

    def prefetch(self, index: "Value | int") -> None:
        """Have a cache line fetched that will be read soon, from so many bytes behind this address on."""
        flags = [Value(self.code, ir.Constant(KINDS["i32"], flag)) for flag in (0, 3, 1)]  # to read, often, data
        arguments = [self.at(index, "i8"), *flags]
        types = [each.held.type for each in arguments]
        known = self.code.module.globals.get("llvm.prefetch.p0")
        function = known or ir.Function(self.code.module, ir.FunctionType(ir.VoidType(), types), "llvm.prefetch.p0")
        self.code.builder.call(function, [each.held for each in arguments])

    def store(self, index: "Value | int", value: "Value", kind: str) -> None:
        """The reverse of `load`."""
        self.code.builder.store(value.held, self.at(index, kind).held, align=1)


class Variable:
    """What changes while the program runs."""

    def __init__(self, code: "Code", first: Value) -> None:
        with code.builder.goto_entry_block():
            self._place = code.builder.alloca(first.held.type)
        self._code, self._type = code, first.held.type
        self.set(first)

    def get(self) -> Value:
        """As it is now."""
        return Value(self._code, self._code.builder.load(self._place, typ=self._type))

    def set(self, value: Value) -> None:
        """Change it."""
        self._code.builder.store(value.held, self._place)


class Code:
    """A function that is being written: of a job (an array of 64-bit numbers and addresses, the `slots`), and of the
    tiles of the matrix that it shall do, from `begin` to before `end`.
    """

    def __init__(self, slots: Sequence[str], module: ir.Module | None = None, name: str = "part") -> None:
        self.slots = slots
        self.module = ir.Module("kernel") if module is None else module
        self.function = ir.Function(self.module, PART if module is None else WHOLE, name)
        self.builder = ir.IRBuilder(self.function.append_basic_block("entry"))
        self.job, *tiles = (Value(self, argument) for argument in self.function.args)
        if tiles:
            self.begin, self.end = tiles
        self._loaded: dict[tuple[str, str], Value] = {}

    def beside(self, name: str) -> "Code":
        """Another function of the same module, of a job alone."""
        return Code(self.slots, self.module, name)

    def call(self, caller: "Code", begin: Value, end: Value) -> None:
        """Let another function, which ends with that, call this one for some tiles of its job."""
        caller.builder.call(self.function, [caller.job.held, begin.held, end.held])
        caller.builder.ret_void()

    def slot(self, name: str, kind: str = "i64") -> Value:
        """A number of the job, or an address (`pointer`)."""
        if (name, kind) not in self._loaded:
            with self.builder.goto_entry_block():
                self._loaded[name, kind] = self.job.at(self.slots.index(name), "i64").load(0, kind)
        return self._loaded[name, kind]

    def number(self, value: Plain, kind: str = "i64", lanes: int = 0) -> Value:
        """A number that is known while writing, or a vector full of it."""
        element = KINDS[kind]
        wanted = ir.VectorType(element, lanes) if lanes else element
        return Value(self, ir.Constant(wanted, [ir.Constant(element, value)] * lanes if lanes else value))

    def vector(self, values: Sequence[Plain], kind: str) -> Value:
        """A vector that is known while writing."""
        return Value(self, ir.Constant(ir.VectorType(KINDS[kind], len(values)), list(values)))

    def like(self, one: Value, other: Value | Plain) -> Value:
        """A plain number in the type of a value; a value as it is."""
        if isinstance(other, Value):
            return other
        element = one.held.type.element if one.lanes else one.held.type
        held = [ir.Constant(element, other)] * one.lanes if one.lanes else other
        return Value(self, ir.Constant(one.held.type, held))

    def variable(self, first: Value) -> Variable:
        """Something that changes, with what it is at first."""
        return Variable(self, first)

    def scratch(self, count: Value, kind: str) -> Value:
        """The address of memory for so many numbers, until the function ends. To be asked for outside of loops."""
        place = self.builder.alloca(KINDS[kind], size=count.held)
        place.type = KINDS["pointer"]  # anything may be stored there
        place.align = CACHE_LINE
        return Value(self, place)

    def intrinsic(self, name: str, returns: Any, *arguments: Value, loose: bool = False) -> Value:
        """What one of LLVM's own functions gives; `loose`: sums may be in any order."""
        types = [each.held.type for each in arguments]
        full = f"llvm.{name}" if name.startswith("x86.") else f"llvm.{name}.{_suffix(types[-1])}"
        known = self.module.globals.get(full)
        function = known or ir.Function(self.module, ir.FunctionType(returns, types), full)
        flags = ("reassoc",) if loose else ()
        return Value(self, self.builder.call(function, [each.held for each in arguments], fastmath=flags))

    def loop(self, start: Value, stop: Value, step: Value | int = 1) -> Iterator[Value]:
        """`for place in code.loop(…):` writes its body once, into a loop of the machine."""
        place = self.variable(start)
        head, body, done = (self.function.append_basic_block(name) for name in ("head", "body", "done"))
        self.builder.branch(head)
        self.builder.position_at_end(head)
        now = place.get()
        self.builder.cbranch(now.below(stop).held, body, done)
        self.builder.position_at_end(body)
        yield now
        place.set(now + step)
        self.builder.branch(head)
        self.builder.position_at_end(done)


def _suffix(of: Any) -> str:
    """How LLVM's overloaded functions name a type."""
    lanes, element = (f"v{of.count}", of.element) if isinstance(of, ir.VectorType) else ("", of)
    return lanes + (f"i{element.width}" if isinstance(element, ir.IntType) else "f32")
