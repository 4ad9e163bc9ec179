"""Runs an example of a rule's file, and keeps what a picture may need: its report, model, batch, loss and steps."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any
from unittest.mock import patch

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim.optimizer import register_optimizer_step_pre_hook

import unitgain as ug
from unitgain.rules._rule import PRELUDE

NAMED_LOSSES: dict[str, Callable[..., Tensor]] = {
    "auto": F.cross_entropy, "mse": F.mse_loss, "bce_with_logits": F.binary_cross_entropy_with_logits,
}  # fmt: skip


@dataclass(frozen=True)
class Pass:
    """One backward pass of an example's own loop: the loss, the norm of all gradients after it, and the mode."""

    loss: float
    gradient: float
    training: bool


@dataclass
class Example:
    """What an example left behind.

    names     its variables
    model     the one that it checks or trains, as it is at the end
    given     positional and keyword arguments of its call of ug.check; empty for a loop of its own
    passes    backward passes of a loop of its own
    used      norms of the gradients that the optimizer's steps used, in the same loop
    """

    names: dict[str, Any] = field(default_factory=dict)
    given: tuple[Any, ...] = ()
    options: dict[str, Any] = field(default_factory=dict)
    passes: list[Pass] = field(default_factory=list)
    used: list[float] = field(default_factory=list)

    @property
    def model(self) -> nn.Module:
        return self.given[0] if self.given else self.names["model"]

    @property
    def record(self) -> ug.Record:
        for name in ("report", "probe", "learner"):
            record = getattr(self.names.get(name), "record", None)
            if isinstance(record, ug.Record):
                return record
        raise LookupError("the example makes no record")

    @cached_property
    def evidence(self) -> dict[str, Any]:
        """Of the one finding; empty where there is none."""
        findings = self.names["report"].findings
        return findings[0].evidence if findings else {}

    @property
    def inputs(self) -> tuple[Tensor, ...]:
        return tuple(self.given[1][:-1])

    @property
    def targets(self) -> Tensor:
        return self.given[1][-1]

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        given = self.given[2] if len(self.given) > 2 else self.options.get("loss", "auto")
        return (NAMED_LOSSES[given] if isinstance(given, str) else given)(outputs, targets)

    @cached_property
    def outputs(self) -> Tensor:
        """In training mode, as the example's model is."""
        torch.manual_seed(0)
        with torch.no_grad():
            return copy.deepcopy(self.model)(*self.inputs)

    def trained(
        self, steps: int, optimizer: Callable[[Any], torch.optim.Optimizer] | None = None
    ) -> tuple[nn.Module, list[float]]:
        """(a copy of the model after so many steps on the batch, the losses before each); Adam at 0.01 if not told."""
        torch.manual_seed(0)
        model, losses = copy.deepcopy(self.model), []
        stepper = (
            optimizer(model.parameters()) if optimizer else torch.optim.Adam(model.parameters(), lr=0.01)
        )
        for _ in range(steps):
            loss = self.loss(model(*self.inputs), self.targets)
            stepper.zero_grad()
            loss.backward()
            stepper.step()
            losses.append(loss.item())
        return model, losses


def run(source: str) -> Example:
    """Executes one example, after the lines that stand before every one on its page."""
    example = Example(names={"__name__": "example"})
    with _watched(example):
        exec(compile(PRELUDE + source, "example", "exec"), example.names)
    return example


@contextmanager
def _watched(example: Example) -> Iterator[None]:
    """Notes the arguments of ug.check, and the passes and steps of a loop that stands in the example itself."""
    check, backward = ug.check, Tensor.backward
    inside = False

    def noted_check(*given: Any, **options: Any) -> Any:
        nonlocal inside
        example.given, example.options, inside = given, options, True
        return check(*given, **options)

    def noted_backward(loss: Tensor, *given: Any, **options: Any) -> None:
        backward(loss, *given, **options)
        model = example.names.get("model")
        if not inside and isinstance(model, nn.Module):
            example.passes.append(Pass(loss.item(), _gradient_norm(model.parameters()), model.training))

    def noted_step(optimizer: torch.optim.Optimizer, given: Any, options: Any) -> None:
        if not inside:
            example.used.append(_gradient_norm(p for g in optimizer.param_groups for p in g["params"]))

    with ExitStack() as stack:
        stack.enter_context(patch.object(ug, "check", noted_check))
        stack.enter_context(patch.object(Tensor, "backward", noted_backward))
        stack.callback(register_optimizer_step_pre_hook(noted_step).remove)
        yield


def _gradient_norm(parameters: Any) -> float:
    gradients = [p.grad.norm() for p in parameters if p.grad is not None]
    return torch.stack(gradients).norm().item() if gradients else 0.0
