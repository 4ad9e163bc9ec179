"""A View: one record, arranged for rules.

Rules ask for the activations, gradients or parameters of the step that they judge, in execution order, for what feeds
what, for the recorded losses, and for facts. Each table is read from the record once.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ..record import Record, Site


@dataclass(frozen=True)
class Measured:
    """A site with its statistics at one step; `measured["rms"]` is NaN where rms was not measured."""

    site: Site
    stats: Mapping[str, float]

    def __getitem__(self, statistic: str) -> float:
        return self.stats.get(statistic, math.nan)

    @property
    def name(self) -> str:
        return self.site.name

    @property
    def position(self) -> int:
        return self.site.position

    @property
    def role(self) -> str:
        return str(self.site.attributes.get("role", "other"))

    @property
    def path(self) -> str:
        """Of the module that made this tensor, or that owns this parameter."""
        return str(self.site.attributes.get("path", ""))

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of the tensors that went in directly."""
        return tuple(self.site.attributes.get("inputs", ()))

    @property
    def sources(self) -> tuple[str, ...]:
        """The same, also through arithmetic between modules; `inputs` where that was not followed."""
        return tuple(self.site.attributes.get("sources") or self.inputs)

    @property
    def is_output(self) -> bool:
        return bool(self.site.attributes.get("output", False))

    @property
    def is_sparse(self) -> bool:
        """Whether only the values that are not zero are stored."""
        return bool(self.site.attributes.get("sparse", False))

    @property
    def is_mask(self) -> bool:
        """Whether an input is a mask, by its name. Additive ones hold minus infinity on purpose."""
        return "mask" in self.name.lower()

    @property
    def function(self) -> str | None:
        """The activation function's name ("relu")."""
        return self.site.attributes.get("function")

    @property
    def bounds(self) -> tuple[float | None, ...]:
        """Lowest and highest value that the activation function can give; None where there is none."""
        return tuple(self.site.attributes.get("bounds") or (None, None))

    @property
    def subtracts_channel_mean(self) -> bool:
        """Whether it is a norm that subtracts each channel's own mean: BatchNorm, InstanceNorm."""
        return self.site.attributes.get("subtracts_mean") == "channel"

    @property
    def ends_branch(self) -> bool:
        """Whether it is the end of a residual branch, before the sum."""
        return self.site.attributes.get("block") == "branch"

    @property
    def ends_block(self) -> bool:
        """Whether it is the output of a block: of a module that is one, or of the last module inside it."""
        return self.role == "block" or self.site.attributes.get("block") == "block"

    @property
    def trainable(self) -> bool:
        return bool(self.site.attributes.get("trainable", True))

    @property
    def owner(self) -> str | None:
        """Of a parameter: the first site that the module which owns it made."""
        return self.site.attributes.get("site")

    @property
    def examples(self) -> int:
        """Examples in the batch, 1 where the batch axis is not known."""
        axis = self.site.attributes.get("batch_axis")
        return self.site.shape[axis] if axis is not None and axis < len(self.site.shape) else 1

    @property
    def positions(self) -> int:
        """Values per example and channel: pixels of a feature map, tokens of a sequence; 1 for a vector."""
        axis = self.site.channel_axis
        channels = self.site.shape[axis] if axis is not None and axis < len(self.site.shape) else 1
        return max(1, math.prod(self.site.shape) // max(1, channels * self.examples))

    @property
    def broken(self) -> bool:
        """Holds NaN or infinity."""
        return self["nonfinite"] > 0


class View:
    """What the rules see of a record.

    step     the step judged: the first sampled one, since a check is about the model as it was given; in a
             training run the last complete one (a forward pass after the training is none)
    training   whether it is of a training run
    rehearsal  whether it is of a check that made steps on its batch
    breaks   functions between modules that made NaN or infinity out of finite tensors
    facts    what is known beyond the sites: record/facts.py
    """

    def __init__(self, record: Record, *, first: bool = False):
        """first: of a training run, as it was at the first sampled step."""
        self.record = record
        self.facts = record.facts
        self.breaks = record.breaks
        self.training = self.facts.mode == "training"
        self.rehearsal = bool(self.facts.rehearsed_steps)
        steps = record.steps()
        self.steps = steps[:1] if first else steps
        self.step = self._judged_step() if self.steps else 0

    def _judged_step(self) -> int:
        if not self.training:
            return self.steps[0]
        kind = next((k for k in ("parameter_gradient", "gradient") if self.record.sites(k)), None)
        complete = (s for s in reversed(self.steps) if kind is None or self.record.values(kind, s))
        return next(complete, self.steps[-1])

    @property
    def loss(self) -> float:
        """The loss of the first pass; NaN where it is not known."""
        return math.nan if self.facts.loss.value is None else self.facts.loss.value

    def _rows(self, kind: str) -> list[Measured]:
        values = self.record.values(kind, self.step)
        if self.training and kind == "activation":
            for (
                name,
                row,
            ) in values.items():  # a Probe measures cosines at some steps only: the last one known
                if "cosine" not in row:
                    known = self.record.series(kind, name, "cosine")[1]
                    known = known[np.isfinite(known)]
                    if known.size:
                        row["cosine"] = float(known[-1])
        return [Measured(s, values[s.name]) for s in self.record.sites(kind) if s.name in values]

    @cached_property
    def losses(self) -> tuple[np.ndarray, np.ndarray]:
        """(steps, recorded losses), ascending."""
        return self.record.metric("loss", optional=True)

    @cached_property
    def inputs(self) -> list[Measured]:
        return self._rows("input")

    @cached_property
    def activations(self) -> list[Measured]:
        return self._rows("activation")

    @cached_property
    def gradients(self) -> list[Measured]:
        return self._rows("gradient")

    @cached_property
    def parameters(self) -> list[Measured]:
        return self._rows("parameter")

    @cached_property
    def parameter_gradients(self) -> list[Measured]:
        return self._rows("parameter_gradient")

    @cached_property
    def _tensors(self) -> dict[str, Measured]:
        return {m.name: m for m in [*self.inputs, *self.activations]}

    @cached_property
    def _consumers(self) -> dict[str, list[Measured]]:
        found: dict[str, list[Measured]] = defaultdict(list)
        for measured in self.activations:
            for name in measured.inputs:
                found[name].append(measured)
        return found

    def tensor(self, name: str | None) -> Measured | None:
        """The activation or input of this name."""
        return None if name is None else self._tensors.get(name)

    def feeds(self, measured: Measured) -> list[Measured]:
        """The sites into which this tensor goes directly. Arithmetic between modules is not seen."""
        return self._consumers.get(measured.name, [])

    def fed_by(self, measured: Measured) -> list[Measured]:
        """The measured tensors that go directly into this site."""
        return [self._tensors[name] for name in measured.inputs if name in self._tensors]

    def parameter(self, name: str) -> Measured | None:
        return next((p for p in self.parameters if p.name == name), None)

    def own_parameters(self, measured: Measured | None, role: str | None = None) -> list[Measured]:
        """The parameters of the module that made this tensor; role: only its "weight", say."""
        owned = () if measured is None else measured.site.attributes.get("parameters", ())
        return [p for p in self.parameters if p.name in owned and (role is None or p.role == role)]

    @property
    def output(self) -> Measured | None:
        """The site whose tensor the loss is given."""
        named = self.tensor(self.facts.output.site)
        return named or next((m for m in reversed(self.activations) if m.is_output), None)

    def over_steps(self, kind: str, statistic: str, before: int | None = None) -> dict[str, np.ndarray]:
        """{site name: the statistic at every sampled step (before this one), ascending}."""
        frame = self.record.frame(kind)
        found: dict[str, list[float]] = defaultdict(list)
        for name, step, value in zip(frame["site"], frame["step"], frame[statistic]):
            if before is None or step < before:
                found[name].append(value)
        return {name: np.array(values) for name, values in found.items()}
