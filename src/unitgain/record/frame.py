"""Frame: the rows of a Record as tidy columns, without pandas."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from .._base import printable


class Frame(Mapping[str, np.ndarray]):
    """Tidy columns of equal length: `frame["std"]` is an array, `frame.to_pandas()` a DataFrame.

    >>> frame = Frame({"step": np.array([0, 1]), "std": np.array([0.5, 0.25])})
    >>> len(frame), frame.columns, float(frame["std"][1])
    (2, ('step', 'std'), 0.25)
    """

    def __init__(self, columns: Mapping[str, np.ndarray]):
        self._columns = dict(columns)

    def __getitem__(self, column: str) -> np.ndarray:
        try:
            return self._columns[column]
        except KeyError:
            raise KeyError(f"no column {column!r}; there are {', '.join(self._columns)}") from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._columns)

    def __len__(self) -> int:
        """Number of rows."""
        return len(next(iter(self._columns.values()), ()))

    @property
    def columns(self) -> tuple[str, ...]:
        return tuple(self._columns)

    def where(self, **equal: Any) -> Frame:
        """The rows in which every named column equals the given value: `frame.where(site="fc1")`."""
        keep = np.ones(len(self), dtype=bool)
        for column, value in equal.items():
            keep &= self[column] == value
        return Frame({name: values[keep] for name, values in self._columns.items()})

    def to_pandas(self) -> Any:
        """A pandas DataFrame; pandas must be installed."""
        import pandas  # type: ignore[import-not-found]

        return pandas.DataFrame(self._columns)

    def __repr__(self) -> str:
        head = [f"Frame: {len(self)} rows", "  ".join(self._columns)]
        for row in range(min(len(self), 8)):
            cells = (values[row] for values in self._columns.values())
            head.append("  ".join(f"{c:.4g}" if isinstance(c, float) else printable(c, 200) for c in cells))
        return "\n".join(head + (["..."] if len(self) > 8 else []))
