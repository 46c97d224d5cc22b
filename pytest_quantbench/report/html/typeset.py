"""How figures are written on the page: a minus sign that is as wide as a plus, a space before %, intervals that do not
break over lines.
"""

import math
import re

LONGEST = 1e4  # of figures that are shown in full
LEAST = 1e-3  # below it a figure is a power of ten
RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
SPACE = "\u00a0"  # one that a line does not break at
HYPHEN = re.compile(r"(?<![\w.\-])-(?=\d)")
PERCENT = re.compile(r"(?<=\d) ?%")
INTERVAL = re.compile(r"\[([^\[\],\s]+), ([^\[\],\s]+)\]")


def typeset(text: str) -> str:
    """A sentence of a record or an answer as the page shows it: `drops by −0.1 [−1.8, 1.8] points, from 69.5 %`."""
    return INTERVAL.sub(rf"[\1,{SPACE}\2]", PERCENT.sub(f"{SPACE}%", HYPHEN.sub("−", text)))


def signed(value: float, digits: int, sign: str = "+") -> str:
    """With a minus sign as wide as the plus sign; what is too long for a column as a power of ten."""
    shown = f"{sign}.{digits}f" if abs(value) < LONGEST else f"{sign}.2g"
    return format(value, shown).replace("-", "−")


def significant(value: float, digits: int = 2) -> str:
    """So many digits that count: `0.36`, `0.0015`, `1.6·10⁻⁶`; of a figure from 1 on one more."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    if abs(value) < LEAST:
        shown, power = f"{value:.{digits - 1}e}".split("e")
        return f"{shown}·10{str(int(power)).translate(RAISED)}".replace("-", "−")
    places = max(0, digits - 1 - math.floor(math.log10(abs(value)))) if abs(value) < 1 else digits
    return format(value, f".{places}f").replace("-", "−")
