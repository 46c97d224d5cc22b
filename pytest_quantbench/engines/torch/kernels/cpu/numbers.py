"""How codes and scales become float32 numbers, many at a time."""

from dataclasses import dataclass
from typing import Literal, TypeAlias

from pytest_quantbench.engines.torch.kernels.cpu.machine_code import Instructions
from pytest_quantbench.engines.torch.kernels.cpu.writing import Code, Value
from pytest_quantbench.quantizers.numerics.microscaled_formats import E2M1

Form: TypeAlias = Literal["integers", "E2M1", "E4M3"]
SCALES = {"float16": "i16", "bfloat16": "i16", "float32": "f32", "E8M0": "i8", "E4M3": "i8"}  # as they are stored
SMALLEST = 0x00400000  # the bits of 2^-127, which E8M0's 0 stands for: in float32 it is below the normal numbers


@dataclass(frozen=True, slots=True, kw_only=True)
class Numbers:
    """What codes stand for: integers less `middle`, or the small floats of Microscaling Formats 1.0, §5.3."""

    form: Form = "integers"
    middle: int = 0

    def table(self, bits: int) -> list[float]:
        """By code."""
        return E2M1.tolist() if self.form == "E2M1" else [float(code - self.middle) for code in range(2**bits)]

    def decoded(self, code: Code, words: list[Value], place: int, bits: int, cpu: Instructions) -> Value:
        """The numbers of one code of every lane, whose stream of codes is in these 32-bit words."""
        word, shift = divmod(place * bits, 32)
        if shift + bits > 32:
            shifts = code.number(shift, "i32", words[0].lanes)
            shifted = code.intrinsic("fshr", words[0].held.type, words[word + 1], words[word], shifts)
        else:
            shifted = words[word] >> shift
        if cpu.looks_up_words and bits <= 5:
            return _looked_up(code, self.table(bits), shifted)
        return self._computed(code, shifted & (2**bits - 1))

    def _computed(self, code: Code, codes: Value) -> Value:
        if self.form == "E4M3":
            return e4m3(codes)
        if self.form == "integers":
            numbers = codes.to("f32", "uitofp")
            return numbers - float(self.middle) if self.middle else numbers
        bits = ((codes & 7) << 22) + (126 << 23) | ((codes & 8) << 28)  # right but for 0 and ½
        small = ((codes & 1).to("f32", "uitofp") * 0.5).to("i32", "bitcast") | ((codes & 8) << 28)
        return (codes & 6).below(1).either(small, bits).to("f32", "bitcast")


def _looked_up(code: Code, table: list[float], codes: Value) -> Value:
    """By the lowest four bits, or five, of each lane, whatever is above them."""
    wanted = code.number(0.0, "f32", 16).held.type
    if len(table) == 32:
        low, high = code.vector(table[:16], "f32"), code.vector(table[16:], "f32")
        return code.intrinsic("x86.avx512.vpermi2var.ps.512", wanted, low, codes, high)
    return code.intrinsic("x86.avx512.permvar.sf.512", wanted, code.vector(table * (16 // len(table)), "f32"), codes)


def e4m3(codes: Value) -> Value:
    """8-bit floating point in 32-bit lanes: its exponent and fraction in float32's place stand for 2^-120 of it."""
    bits = ((codes & 0x7F) << 20) | ((codes & 0x80) << 24)
    return bits.to("f32", "bitcast") * 2.0**120


def scale_of(scales: Value, place: Value, kind: str, lanes: int) -> Value:
    """The scales, or the biases, of consecutive rows from a place on."""
    stored = scales.load(place, SCALES[kind], lanes)
    if kind == "float32":
        return stored
    if kind == "float16":
        return stored.to("f16", "bitcast").to("f32", "fpext")
    wide = stored.to("i32", "zext")
    if kind == "E4M3":
        return e4m3(wide)
    if kind == "bfloat16":
        return (wide << 16).to("f32", "bitcast")
    smallest = scales.code.number(SMALLEST, "i32", lanes)
    return wide.below(1).either(smallest, wide << 23).to("f32", "bitcast")
