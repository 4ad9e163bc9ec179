"""What the optimizers share: which parameters are updated, how an update is applied, what is refused."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from .._base import InputError


class Optimizer(torch.optim.Optimizer):
    """A torch optimizer whose formula is written once, for a list of tensors.

    With foreach=True the formula gets all tensors of one device and dtype at once (few kernel launches, and
    temporaries as large as all of them); with foreach=False one tensor at a time. None takes the first on an
    accelerator and the second on a CPU, where it is faster: a tensor stays in the cache. On a CPU both give the
    same bits.

    State lies in each parameter's own dtype, as in torch. Complex parameters are updated as pairs of real ones.
    With maximize=True the objective grows instead of falling: gradients count with the opposite sign.
    """

    state_keys: tuple[str, ...] = ()  # what `_move` keeps of each parameter

    def __init__(self, params: Any, defaults: dict[str, Any]):
        super().__init__(params, defaults)

    def load_state_dict(self, state_dict: Any) -> None:
        """Takes what state_dict of the same class returned.

        Raises InputError for another optimizer's state (torch's Adam, say), which would be kept and not used: all
        averages would start from zero.
        """
        foreign = {key for state in state_dict["state"].values() for key in state} - set(self.state_keys)
        if foreign:
            name = type(self).__name__
            raise InputError(
                f"{name}.load_state_dict: the state holds {', '.join(sorted(foreign))}, which is another optimizer's; "
                f"{name} keeps {', '.join(self.state_keys) or 'nothing'}. Load it into the optimizer that wrote it, or "
                "start with fresh averages"
            )
        super().load_state_dict(state_dict)
        for group in self.param_groups:
            for key, value in self.defaults.items():
                group.setdefault(key, value)  # written by a version that did not have it
            self._check(group)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        super().add_param_group(param_group)
        try:
            self._check(self.param_groups[-1])
        except InputError:
            self.param_groups.pop()
            raise

    def _check(self, group: dict[str, Any]) -> None:
        """Raises InputError for a hyperparameter that cannot be right; subclasses add theirs."""
        name, lr = type(self).__name__, group["lr"]
        if isinstance(lr, Tensor) and lr.numel() != 1:
            raise InputError(f"{name}(lr=...): a tensor of shape {tuple(lr.shape)}; expected one number")
        self._check_number(group, "lr", lambda v: v >= 0, "at least 0")
        self._check_number(group, "weight_decay", lambda v: v >= 0, "at least 0")
        if not isinstance(group["maximize"], bool):
            raise InputError(f"{name}(maximize={group['maximize']!r}): expected True or False")

    def _check_number(self, group: dict[str, Any], key: str, right: Callable[[Any], Any], words: str) -> None:
        value = group[key]
        if isinstance(value, bool) or not isinstance(value, (int, float, Tensor)) or not bool(right(value)):
            raise InputError(f"{type(self).__name__}({key}={value!r}): expected a number {words}")

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:  # type: ignore[override]
        """One update of every parameter that has a gradient. closure: evaluates the model again, returns the loss.

        Raises InputError, before anything has changed, for sparse gradients.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        due = [[p for p in group["params"] if p.grad is not None] for group in self.param_groups]
        for number, parameters in enumerate(due):
            for p in parameters:
                self._refuse_sparse(p, number)
        for group, parameters in zip(self.param_groups, due):
            for bucket in _buckets(parameters, group["foreach"]):
                self._update(bucket, group)
        return loss

    def _refuse_sparse(self, p: Tensor, number: int) -> None:
        if p.grad is not None and p.grad.layout is not torch.strided:
            raise InputError(
                f"{type(self).__name__}: a parameter of group {number}, of shape {tuple(p.shape)}, has a sparse "
                "gradient; make it dense (nn.Embedding(..., sparse=False)), or give it to torch.optim.SparseAdam"
            )

    def _update(self, parameters: list[Tensor], group: dict[str, Any]) -> None:
        gradients = [p.grad for p in parameters if p.grad is not None]
        if group["maximize"]:
            gradients = list(torch._foreach_neg(gradients))
        if group["weight_decay"] != 0:
            decay = 1 - group["lr"] * group["weight_decay"]
            torch._foreach_mul_(
                parameters, decay if not isinstance(decay, Tensor) else _on(decay, parameters)
            )
        self._move([_real(p) for p in parameters], [_real(g) for g in gradients],
                   [self.state[p] for p in parameters], group)  # fmt: skip

    @abstractmethod
    def _move(
        self, params: list[Tensor], grads: list[Tensor], states: list[dict[str, Any]], group: dict[str, Any]
    ) -> None:
        """The formula: changes params (real, detached views) by grads; states are the parameters' own."""


def subtract(params: list[Tensor], lr: float | Tensor, direction: Sequence[Tensor]) -> None:
    """params -= lr * direction. A learning rate in a tensor is not read on the host, so nothing waits for the
    accelerator."""
    if isinstance(lr, Tensor):
        torch._foreach_sub_(params, torch._foreach_mul(list(direction), _on(lr, params)))
    else:
        torch._foreach_add_(params, list(direction), alpha=-lr)


def _on(number: Tensor, tensors: list[Tensor]) -> Tensor:
    return number.detach().reshape(()).to(tensors[0].device, non_blocking=True)


def _real(tensor: Tensor) -> Tensor:
    return torch.view_as_real(tensor) if tensor.is_complex() else tensor


def _buckets(parameters: Iterable[Tensor], foreach: bool | None) -> list[list[Tensor]]:
    """Lists of parameters to update at once."""
    found: dict[Any, list[Tensor]] = {}
    for p in parameters:
        together = p.device.type != "cpu" if foreach is None else foreach
        # DTensors and other subclasses do not mix with plain tensors in one call
        key = (p.device, p.dtype, type(p.data)) if together else id(p)
        found.setdefault(key, []).append(p)
    return list(found.values())
