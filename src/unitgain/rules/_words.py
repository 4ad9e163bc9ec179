"""Numbers, names and counts as they stand in messages."""

from __future__ import annotations

import sys
from collections.abc import Iterable

WRITTEN_OUT = 1_000_000  # digits of a larger number tell a reader nothing
MOST_KEPT = 50  # names that evidence keeps of a longer list


def show(value: float) -> str:
    """A number for a message: three significant digits.

    >>> show(0.0123456), show(27.8817), show(1e-9)
    ('0.0123', '27.9', '1e-09')
    """
    return f"{value:.3g}"


def amount(value: float) -> str:
    """A loss for a message: two decimals, or three significant digits where nobody reads all of them.

    >>> amount(27.8817), amount(5.97e11)
    ('27.88', '5.97e+11')
    """
    return f"{value:,.2f}" if value < WRITTEN_OUT else show(value)


def fold(decades: float) -> float:
    """By which factor something changes over so many decades, up or down; never infinite.

    >>> fold(-2.0), fold(1e6)
    (100.0, 1e+308)
    """
    return 10.0 ** min(abs(decades), sys.float_info.max_10_exp)


def as_layer(name: str) -> str:
    """A layer's name in a sentence; one that is a number is not to be read as an amount.

    >>> as_layer("3"), as_layer("encoder.fc")
    ('layer 3', 'encoder.fc')
    """
    return f"layer {name}" if name.partition("#")[0].isdigit() else name


def listed(names: Iterable[str], most: int = 4, total: int | None = None) -> str:
    """Names for a message; total: how many there are, where not all of them are given.

    >>> listed(["a", "b", "c"], most=2)
    'a, b and 1 more'
    >>> listed(["a", "b"], total=9)
    'a, b and 7 more'
    """
    names = list(names)
    more = (len(names) if total is None else total) - len(names[:most])
    return ", ".join(names[:most]) + (f" and {more} more" if more > 0 else "")


def along(first: str, last: str, text: str) -> str:
    """What to do, and over which layers.

    >>> along("0", "8", "Initialize for the activation function.")
    'From layer 0 to layer 8: initialize for the activation function.'
    >>> along("head", "head", "Scale it down.")
    'At head: scale it down.'
    """
    where = f"At {as_layer(first)}" if first == last else f"From {as_layer(first)} to {as_layer(last)}"
    return f"{where}: {text[:1].lower()}{text[1:]}"


def plural(number: int, noun: str) -> str:
    """A counted noun.

    >>> plural(1, "error"), plural(3, "layer"), plural(2, "bias")
    ('1 error', '3 layers', '2 biases')
    """
    return f"{number} {noun}{'' if number == 1 else 'es' if noun.endswith('s') else 's'}"
