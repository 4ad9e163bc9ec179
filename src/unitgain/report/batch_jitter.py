"""BatchJitter: one example in many random batches, layer by layer."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .._base import InputError, card, did_you_mean, paragraph, table
from .json_report import dumps, plain
from .text import number

_ROUNDING = 1e-4  # of the spread between examples: batches of other sizes are computed in another order
_ROWS = 12  # of the card


@dataclass(frozen=True, eq=False)
class BatchJitter:
    """The outcome of `unitgain.batch_jitter`: how far the batch that an example is in moves it.

    print(result)     what was found, in a few lines
    result.plot()     a matplotlib Figure: the example's outputs in batch after batch, and the jitter over depth

    model, example, draws   class of the model; which example; batches of each size
    sizes    examples in a batch
    sites    leaf modules in execution order; norms: those that normalize by the batch
    jitter   {size: for each site the standard deviation of the example's values over the batches, relative to that
             over examples}; NaN where examples cannot be told apart
    outputs  {size: (batches, values) of the example's outputs}
    """

    model: str
    example: int
    draws: int
    sizes: tuple[int, ...]
    sites: tuple[str, ...]
    norms: tuple[str, ...]
    jitter: Mapping[int, tuple[float, ...]]
    outputs: Mapping[int, np.ndarray]
    versions: Mapping[str, str] = field(default_factory=dict)

    def at(self, site: str, size: int) -> float:
        """The jitter at one site for one batch size. Raises InputError for one that was not measured."""
        if site not in self.sites:
            raise InputError(f"batch_jitter: no site {site!r}{did_you_mean(site, self.sites)}")
        if size not in self.jitter:
            raise InputError(
                f"batch_jitter: no batches of {size}; there are {', '.join(map(str, self.sizes))}"
            )
        return self.jitter[size][self.sites.index(site)]

    @property
    def summary(self) -> str:
        """One or two sentences on it."""
        size = self.sizes[0]
        moved = [(name, value) for name, value in zip(self.sites, self.jitter[size]) if value > _ROUNDING]
        if not moved:
            return (
                f"Example {self.example} is the same in every batch: nothing here depends on its batch-mates."
            )
        name, value = moved[0]
        last = [(s, v) for s, v in zip(self.sites, self.jitter[size]) if math.isfinite(v)][-1]
        text = (
            f"In batches of {size}, example {self.example} is moved by {number(value)} of what tells examples apart "
            f"at layer {name}, the first that depends on the batch, and by {number(last[1])} at the last, {last[0]}."
        )
        if len(self.sizes) > 1:
            text += f" In batches of {self.sizes[-1]} it is {number(self.at(last[0], self.sizes[-1]))} there."
        return text

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "model": self.model,
            "example": self.example,
            "draws": self.draws,
            "sizes": list(self.sizes),
            "sites": list(self.sites),
            "norms": list(self.norms),
            "jitter": {str(size): list(row) for size, row in self.jitter.items()},
            "outputs": {str(size): rows.tolist() for size, rows in self.outputs.items()},
            "versions": dict(self.versions),
            "summary": self.summary,
        }

    def to_json(self, indent: int | None = None) -> str:
        """`to_dict` as strict JSON."""
        return dumps(plain(self.to_dict()), indent)

    def plot(self) -> Any:
        """A matplotlib Figure: `plots.batch_jitter(self)`."""
        from .plots import batch_jitter

        return batch_jitter(self)

    def __str__(self) -> str:
        return f"{self.model}: {self.summary}"

    def __repr__(self) -> str:
        return f"<BatchJitter {self.model}: {len(self.sites)} sites, batches of {', '.join(map(str, self.sizes))}>"

    def _repr_html_(self) -> str:
        """A notebook's card: what was found, and the layers where it changes."""
        rows = [
            (name, *(number(self.jitter[size][i]) for size in self.sizes))
            for i, name in enumerate(self.sites)
            if name in self.norms or i == len(self.sites) - 1
        ][-_ROWS:]
        numbers = table(("layer", *(f"batches of {size}" for size in self.sizes)), rows)
        return card(f"Jitter of the batch: {self.model}", "", [paragraph(self.summary), numbers])
