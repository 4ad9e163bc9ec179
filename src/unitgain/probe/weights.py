"""Parameters, their gradients and updates in one step of training."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from .. import stats
from .optimizer import held_by
from .options import FLAT_SAMPLE, MOST_OF_UPDATE, Options
from .parameters import Parameter, Updates, cosine, gradient_norms, list_parameters, parts_of, unscaled
from .sharded import can_place, is_sharded, piece, squares
from .step import Step


class Weights:
    """Measures parameters and gradients before the optimizer's step, and what the step changed after it.

    step  what is measured goes there; the Probe sets it
    """

    def __init__(
        self, model: nn.Module, options: Options, optimizers: Sequence[torch.optim.Optimizer], step: Step
    ):
        self._model, self._options, self._optimizers = model, options, tuple(optimizers)
        self.step = step
        self._parameters: list[Parameter] = []
        self._listed_ids: list[int] = []
        self._updates = Updates(MOST_OF_UPDATE if options.limit is None else FLAT_SAMPLE)

    def listed(self) -> list[Parameter]:
        if not self._parameters:
            chosen = (p for p in list_parameters(self._model) if self._options.selects(p.name))
            self._parameters = [p for p in chosen if not is_sharded(p.tensor) or can_place(p.tensor)]
            self._listed_ids = parts_of(self._model)[1]
        return self._parameters

    def renew(self, now: list[int]) -> bool:
        """Whether parameters have been added or replaced; they are listed anew then. now: as `parts_of` gives them."""
        changed = bool(self._listed_ids) and now != self._listed_ids
        if changed:
            self._parameters = []
        return changed

    def forget(self) -> None:
        """A step that has begun will not be made."""
        self._updates.forget()

    def _of(self, optimizer: torch.optim.Optimizer | None) -> list[Parameter]:
        """What is measured at its step: what it holds; what no optimizer holds at the first one's."""
        if len(self._optimizers) < 2 or optimizer is None:
            return self.listed()
        others = (o for o in self._optimizers if o is not optimizer)
        theirs = held_by(others) if optimizer is self._optimizers[0] else None
        own = held_by([optimizer])
        return [
            p
            for p in self.listed()
            if id(p.tensor) in own or (theirs is not None and id(p.tensor) not in theirs)
        ]

    def hook_gradients(self, guard: Callable[..., Callable[..., None]]) -> list[RemovableHandle]:
        """Without an optimizer nothing says when gradients are complete: each is measured when it changed."""
        if self._optimizers or "parameter_gradient" not in self._options.signals:
            return []

        def measure(p: Parameter, tensor: Tensor) -> None:
            if tensor.grad is not None:
                self._measure_gradients({p.name: tensor.grad})

        return [
            p.tensor.register_post_accumulate_grad_hook(guard(functools.partial(measure, p)))
            for p in self.listed()
            if p.tensor.requires_grad and p.tensor.is_leaf
        ]

    def measure_gradients(self, optimizer: torch.optim.Optimizer) -> None:
        """Gradients as the optimizer is given them, in the place of those that were measured in this step before."""
        if "parameter_gradient" in self._options.signals:
            named = {
                p.name: unscaled(p.tensor.grad, optimizer)
                for p in self._of(optimizer)
                if p.tensor.grad is not None and p.tensor.numel()
            }
            self._measure_gradients(named)

    def after_step(self, optimizer: torch.optim.Optimizer | None) -> None:
        if "update" not in self._options.signals:
            return
        # of a fused optimizer under a GradScaler, whose verdict is on the device: the writer heeds it when it has come.
        # (Of an optimizer that is not fused the scaler does not even call `step`.)
        found = getattr(optimizer, "found_inf", None)
        if isinstance(found, Tensor):
            known, found = self.step.skipped, found.detach().clone()
            self.step.skipped = found if known is None else torch.maximum(known, found.to(known))
        exact = self._options.limit is None  # else the writer has both, and compares many at once
        sharded = {p.name for p in self.listed() if is_sharded(p.tensor)}
        for name, (change, before) in self._updates.changes(self._of(optimizer)).items():
            if name in sharded:
                self._add_piece("update", name, change)
            else:
                self._add("update", name, change, cosine(change, before) if exact else None)

    def without_gradients(self) -> bool:
        """Whether none of the optimizers' parameters has a gradient: there is nothing to step on."""
        assert self._optimizers
        return all(p.grad is None for p in self.trained())

    def trained(self) -> Iterator[Tensor]:
        """What the optimizers hold."""
        return (p for o in self._optimizers for group in o.param_groups for p in group["params"])

    def measure_values(self, optimizer: torch.optim.Optimizer | None = None, *, compare: bool = True) -> None:
        """Parameters as they are now; compare: with those after the step, by `after_step`."""
        plain = [p for p in self._of(optimizer) if p.tensor.numel() and not nn.parameter.is_lazy(p.tensor)]
        signals, exact = self._options.signals, self._options.limit is None
        taken: dict[str, Tensor] = {}
        if not exact or (compare and "update" in signals):
            taken = self._updates.take(plain)
        if "parameter" in signals:
            for p in plain:
                if is_sharded(p.tensor):
                    self._add_piece("parameter", p.name, self._updates.values(p))
                else:
                    self._add("parameter", p.name, p.tensor if exact else taken[p.name])

    def _measure_gradients(self, named: dict[str, Tensor]) -> None:
        """Exactly without a limit, else a sample and the norm of all."""
        kind, sample, step = "parameter_gradient", self._options.sample, self.step
        for name in [name for name, gradient in named.items() if is_sharded(gradient)]:
            gradient = named.pop(name)
            if can_place(gradient):
                step.set(kind, name, piece(gradient, self._updates.size))
                step.pieces.add((kind, name))
                step.norms[name] = squares(gradient)
        whole = {n: g.detach() if stats.is_plain(g) else stats.stored(g) for n, g in named.items()}
        if self._options.limit is None:
            for name, gradient in whole.items():
                step.set(kind, name, stats.summarize(gradient, sample=sample))
            return
        for name, gradient in whole.items():
            step.set(kind, name, stats.take_sample(gradient, FLAT_SAMPLE))
        large = {n: g for n, g in whole.items() if g.numel() > FLAT_SAMPLE}
        for name, (norm, count) in gradient_norms(large).items():
            if norm.device.type == "cpu" and not math.isfinite(norm.item()):  # perhaps outside of the sample
                step.set(kind, name, stats.summarize(large[name], sample=sample))
            else:
                step.norms[name] = norm, count

    def _add_piece(self, kind: str, name: str, values: Tensor) -> None:
        self.step.add_flat(kind, name, values)
        self.step.pieces.add((kind, name))

    def _add(self, kind: str, name: str, values: Tensor, cosine: Tensor | None = None) -> None:
        if self._options.limit is None:
            partial = stats.summarize(values, sample=self._options.sample)
            if cosine is not None:
                partial.scalars["cosine"] = cosine
            self.step.add(kind, name, partial)
        else:
            self.step.add_flat(kind, name, values)
