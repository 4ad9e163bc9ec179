"""Metrics: losses and other numbers of each pass, over all its examples and all ranks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..._base import InputError
from ..._batch import find_logits
from ..callback import Callback

if TYPE_CHECKING:
    from ..learner import Learner


def accuracy(outputs: Tensor, targets: Tensor) -> Tensor:
    """Fraction of examples whose largest output is the target's.

    >>> accuracy(torch.tensor([[2.0, 1.0], [0.0, 1.0]]), torch.tensor([0, 0]))
    tensor(0.5000)
    """
    return (outputs.argmax(1) == targets).float().mean()


class Mean:
    """A function of (outputs, targets) averaged over examples, so that a batch counts by its size. On the device."""

    def __init__(self, function: Callable[[Any, Any], Any] | None = None):
        self.function = function
        self.reset()

    def reset(self) -> None:
        self.total: Tensor | None = None
        self.count = 0

    def add(self, value: Any, count: int) -> None:
        value = torch.as_tensor(value).detach().float() * count
        self.total = value if self.total is None else self.total + value
        self.count += count

    def compute(self, over_ranks: Callable[[Tensor], Tensor]) -> float:
        total = torch.zeros(()) if self.total is None else self.total
        both = over_ranks(torch.stack([total.double().cpu(), torch.tensor(float(self.count)).double()]))
        return float(both[0] / both[1]) if both[1] else float("nan")


class Metrics(Callback):
    """Fills learn.metrics at the end of every epoch: train_loss, valid_loss, and each metric of the validation pass
    under its name.

    metrics  functions of (outputs, targets), or (logits, labels) where the model takes its labels itself, that give a
             mean over the batch, or objects with update, compute and reset, as torchmetrics has them; by position under
             their own names, by keyword under the keyword
    train    compute them in training passes too, as train_NAME

    >>> Metrics(accuracy, top=accuracy).names
    ['accuracy', 'top']
    """

    order = 50
    essential = False

    def __init__(self, *metrics: Any, train: bool = False, **named: Any):
        chosen: dict[str, Any] = {}
        for metric in metrics:
            name = getattr(metric, "__name__", type(metric).__name__)
            if name in chosen:
                raise InputError(
                    f"Metrics: two are called {name}; give one by keyword: Metrics(other={name})"
                )
            chosen[name] = metric
        chosen.update(named)
        for name, metric in chosen.items():
            if not _is_object(metric) and not callable(metric):
                raise InputError(
                    f"Metrics({name}=...): expected a function of (outputs, targets), or an object with update, "
                    "compute and reset"
                )
        self.names = list(chosen)
        self.metrics = {n: m if _is_object(m) else Mean(m) for n, m in chosen.items()}
        self._loss, self.train = Mean(), train

    def before_fit(self, learn: Learner) -> None:
        device = next((p.device for p in learn.model.parameters()), torch.device("cpu"))
        for metric in self.metrics.values():
            if isinstance(metric, torch.nn.Module):
                metric.to(device)

    def before_epoch(self, learn: Learner) -> None:
        learn.metrics = {}

    def before_pass(self, learn: Learner) -> None:
        self._loss.reset()
        for metric in self.metrics.values():
            metric.reset()

    def after_loss(self, learn: Learner) -> None:
        count = learn.examples
        self._loss.add(learn.loss, count)
        if learn.training and not self.train:
            return
        outputs, target = _judged(learn)
        with torch.no_grad():
            for metric in self.metrics.values():
                if isinstance(metric, Mean):
                    assert metric.function is not None
                    metric.add(metric.function(outputs, target), count)
                else:
                    metric.update(outputs, target)

    def after_pass(self, learn: Learner) -> None:
        prefix = "train_" if learn.training else ""
        learn.metrics["train_loss" if learn.training else "valid_loss"] = self._loss.compute(learn.over_ranks)
        if learn.training and not self.train:
            return
        for name, metric in self.metrics.items():
            value = metric.compute(learn.over_ranks) if isinstance(metric, Mean) else metric.compute()
            learn.metrics.update({prefix + key: number for key, number in _numbers(name, value)})

    def after_epoch(self, learn: Learner) -> None:
        learn.history.append(dict(learn.metrics))

    def state_dict(self) -> dict[str, Any]:
        """The running sums, so that a resumed epoch's means cover all of it. Objects store their own state."""
        means = {"loss": self._loss, **{n: m for n, m in self.metrics.items() if isinstance(m, Mean)}}
        return {name: [m.total, m.count] for name, m in means.items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        for name, (total, count) in state.items():
            mean = self._loss if name == "loss" else self.metrics.get(name)
            if isinstance(mean, Mean):
                mean.total, mean.count = total, count


def _numbers(name: str, value: Any) -> Iterator[tuple[str, float]]:
    """A metric's value under its name; each of a collection's (torchmetrics' MetricCollection gives a dict) under its
    own, each of a vector's (one per class) under its number. Larger ones, confusion matrices, are left out."""
    if isinstance(value, Mapping):
        for key, one in value.items():
            yield from _numbers(str(key), one)
        return
    flat = torch.as_tensor(value)
    if flat.dim() == 0:
        yield name, float(flat)
    elif flat.dim() == 1:
        yield from ((f"{name}_{number}", float(one)) for number, one in enumerate(flat))


def _judged(learn: Learner) -> tuple[Any, Any]:
    """Outputs and target; where the model takes its labels itself, as Hugging Face's do, its logits and the labels."""
    outputs, batch = learn.outputs, learn.parsed
    target = batch.target
    if batch.passed is not None or (target is None and batch.labels is not None):
        logits = find_logits(outputs)
        outputs, target = outputs if logits is None else logits, batch.labels
    return outputs.detach() if isinstance(outputs, Tensor) else outputs, target


def _is_object(metric: Any) -> bool:
    return not isinstance(metric, type) and all(hasattr(metric, n) for n in ("update", "compute", "reset"))
