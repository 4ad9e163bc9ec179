"""Words and numbers for people: short, and safe to print whatever a module is called."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from .._base import printable
from ..record import Facts


def not_rewound(facts: Facts) -> str:
    """What the check found in the model and could not put back after running it; "" if there was nothing."""
    return ", ".join(printable(path) for path in facts.not_rewound or ())


_SHAPES = ("compared",)  # keys of evidence that do not end in "shape" and hold one


def shorten(text: str, width: int) -> str:
    """The text without its middle if it is wider than `width` columns: sites differ at the ends of their names.

    >>> shorten("layers.3.block.conv", 12)
    'layer…k.conv'
    """
    from rich.cells import cell_len, set_cell_size

    if cell_len(text) <= width:
        return text
    if width <= 1:
        return "…"[:width]
    tail_width = width // 2
    tail = ""
    for character in reversed(text):
        if cell_len(character + tail) > tail_width:
            break
        tail = character + tail
    return set_cell_size(text, width - 1 - cell_len(tail)).rstrip() + "…" + tail


def number(value: float | None, digits: int = 3) -> str:
    """A number with `digits` significant digits, as short as it can be said.

    >>> number(0.0), number(1.5925), number(-0.000123), number(27.8817), number(123456.0)
    ('0', '1.59', '-1.2e-4', '27.9', '1.2e5')
    >>> number(float("nan"))
    'NaN'
    >>> number(None)
    ''
    """
    if value is None:
        return ""
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "inf" if value > 0 else "-inf"
    if value == 0:
        return "0"
    if isinstance(value, int) or (float(value).is_integer() and abs(value) < 10**digits):
        return f"{int(value):,}"
    magnitude = abs(value)
    if 0.01 <= magnitude < 10**digits:
        decimals = max(0, digits - 1 - math.floor(math.log10(magnitude)))
        return f"{value:.{min(decimals, digits)}f}"
    mantissa, exponent = f"{value:.{max(0, digits - 2)}e}".split("e")
    return f"{mantissa}e{int(exponent)}"


def percent(fraction: float | None) -> str:
    """A fraction as whole per cent; what is not nothing is never called 0%, nor what is not all 100%.

    >>> percent(0.3649), percent(0.0004), percent(0.9999), percent(0.0)
    ('36%', '<1%', '>99%', '0%')
    """
    if fraction is None or math.isnan(fraction):
        return ""
    if 0 < fraction < 0.01:
        return "<1%"
    if 0.99 < fraction < 1:
        return ">99%"
    return f"{100 * fraction:.0f}%"


def shape_text(shape: tuple[int, ...]) -> str:
    """
    >>> shape_text((32, 3, 28, 28))
    '32×3×28×28'
    """
    return "×".join(str(n) for n in shape)


def value_text(value: Any, items: int = 6) -> str:
    """Any value of a finding's evidence in a few words.

    >>> value_text({"loss": 27.88171, "sites": ["a", "b"]})
    'loss 27.88, sites a, b'
    >>> value_text({"1": {"units": 8, "dead": 2}, "3": {"units": 8, "dead": 1}})
    '1: units 8, dead 2; 3: units 8, dead 1'
    >>> value_text(list(range(9)))
    '0, 1, 2, 3, 4, 5 and 3 more'
    >>> value_text([[64, 64], [64]])
    '(64, 64), (64)'
    """
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (int, float)):
        text = number(value, 4)
        return text.rstrip("0").rstrip(".") if "." in text and "e" not in text else text
    between = ", "
    if isinstance(value, Mapping) and any(isinstance(v, Mapping) for v in value.values()):
        parts, between = [f"{printable(k)}: {value_text(v, items)}" for k, v in value.items()], "; "
    elif isinstance(value, Mapping):
        parts = [f"{label(k)} {value_text(v, items)}" for k, v in value.items()]
    elif isinstance(value, (list, tuple)):
        parts = [
            f"({value_text(v, items)})" if isinstance(v, (list, tuple)) else value_text(v, items)
            for v in value
        ]
    else:
        return printable("none" if value is None else value)
    left = len(parts) - items
    return between.join(parts[:items]) + (f" and {left} more" if left > 0 else "")


def measured_rows(evidence: Mapping[str, Any]) -> list[tuple[str, str]]:
    """A finding's evidence as (name, value); what does not apply (None) is left out.

    >>> measured_rows({"expected_loss": 2.3026, "killed_by": None})
    [('expected loss', '2.303')]
    """
    return [(label(key), measured_text(key, value)) for key, value in evidence.items() if value is not None]


def measured_text(key: str, value: Any) -> str:
    """A number of a finding's evidence by its key: shapes as Python writes them.

    >>> measured_text("target_shape", [128]), measured_text("units", [1, 2])
    ('(128,)', '1, 2')
    """
    if isinstance(value, (list, tuple)) and (key.endswith("shape") or key in _SHAPES):
        return str(tuple(value))
    return value_text(value)


def label(key: object) -> str:
    """An evidence key as words.

    >>> label("expected_loss")
    'expected loss'
    """
    return printable(key).replace("_", " ")


def count(n: int, noun: str) -> str:
    """
    >>> count(1, "error"), count(2, "error")
    ('1 error', '2 errors')
    """
    return f"{n:,} {noun}" + ("" if n == 1 else "s")
