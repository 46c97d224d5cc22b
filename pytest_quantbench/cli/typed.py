"""How a verb reads an option's value as the suite does, and tells what is wrong with it in the reader's own words."""

import argparse
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def typed(read: Callable[[str], T]) -> Callable[[str], T]:
    """A reader of `plugin.option_values` for argparse, which has words of its own for a ValueError."""

    def reading(text: str) -> T:
        try:
            return read(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(f"{text!r}: {error}") from error

    return reading
