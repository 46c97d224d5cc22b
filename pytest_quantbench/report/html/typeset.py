"""How figures are written on the page: a minus sign that is as wide as a plus, a space before %, intervals that do not
break over lines.
"""

import math
import re

from pytest_quantbench.catalog.criteria import METRICS

LONGEST = 1e4  # of figures that are shown in full
LEAST_PERCENT = 0.01  # that a probability is told as
SPACE = "\u00a0"  # one that a line does not break at
HYPHEN = re.compile(r"(?<![\w.\-])-(?=\d)")
PERCENT = re.compile(r"(?<=\d) ?%")
INTERVAL = re.compile(r"\[([^\[\],\s]+), ([^\[\],\s]+)\]")


def typeset(text: str) -> str:
    """A sentence of a record or an answer as the page shows it: `drops by −0.1 [−1.8, 1.8] points, from 69.5 %`."""
    return INTERVAL.sub(rf"[\1,{SPACE}\2]", PERCENT.sub(f"{SPACE}%", HYPHEN.sub("−", text)))


def signed(value: float, digits: int, sign: str = "+") -> str:
    """A figure with so many digits behind its point, and a minus sign as wide as the plus sign; what is too long for a
    column as a power of ten. `sign`: "+" where figures above 0 have a sign, too, and nothing where they have none.
    """
    shown = f"{sign}z.{digits}f" if abs(value) < LONGEST else f"{sign}.2g"
    return format(value, shown).replace("-", "−")


def asked(metric: str, limit: float) -> str:
    """What a limit asks of a metric: `≥ 75 %`."""
    of = METRICS[metric]
    return f"{'≥' if of.better == 'higher' else '<'} {limit:g} {of.unit}".rstrip()


def share(probability: float) -> str:
    """A probability as percent, rounded up, so that "at most" stays true: `0.08 %`."""
    percent = 100 * probability
    return f"{max(math.ceil(percent * 100) / 100, LEAST_PERCENT):g}{SPACE}%"
