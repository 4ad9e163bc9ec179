"""What is minimized: a loss by name, a function of (outputs, targets), or the loss that the model returns itself."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .._base import InputError, one_line
from . import losses
from .batch import Batch, describe_tensor
from .reading import PassTarget
from .tree import has_fields, is_mapping, parts

OWN = "the model's own"  # the name of a loss that the model returns itself


@dataclass(frozen=True)
class Judged:
    """What came of one pass.

    loss    a scalar; None where there is nothing to compare with and the model returns none
    name    of the loss
    logits  the tensor that a loss by name looks at, None if the model returns a loss alone
    target  what it was compared with
    kind    "cross_entropy", "mse" or "other"; found out only when asked for
    function, compared   what computed the loss, if not the model, and from which outputs
    """

    loss: Tensor | None
    name: str | None
    logits: Tensor | None
    target: Any
    kind: str | None = None
    function: losses.Loss | None = None
    compared: Any = None


class Objective:
    """A loss in any of the forms that `check` and a Learner take: "auto", a name, a callable, None.

    Raises InputError for an unknown name or something that cannot be called.
    """

    def __init__(self, loss: str | losses.Loss | None = "auto"):
        losses.check_loss(loss)
        self.given = loss

    @property
    def pass_target(self) -> PassTarget:
        """When the target of a batch goes into the model (see `Reader`)."""
        if self.given is None:
            return "always"
        return "by name" if self.given == "auto" else "if required"

    def compute(self, outputs: Any, batch: Batch) -> tuple[str, Tensor] | None:
        """(name, loss) as it was returned; None where there is no target and no loss.

        A loss that was given is used, whatever the model returns; a loss by name on the logits in it. "auto" and None
        take the loss that the model returns; "auto" else compares with the target by its type.
        Raises InputError where the loss needs a target and there is none, where there is one and no loss, and where a
        loss by name would compare all outputs with all targets.
        """
        chosen = self._choose(outputs, batch)
        if chosen is None:
            return None
        if isinstance(self.given, str):  # nobody means to train on all outputs against all targets
            losses.check_shapes(chosen.name, chosen.outputs, chosen.target)
        return chosen.name, chosen.compute()

    def judge(self, outputs: Any, batch: Batch, loss: Tensor | None = None) -> Judged:
        """`compute` with everything that a report wants to know of it, and errors that name the loss.

        loss  where it has been computed already
        """
        logits, target = find_logits(outputs), batch.labels
        try:
            chosen = self._choose(outputs, batch)
            value: Any = loss
            if chosen is not None and loss is None:
                ignored = getattr(chosen.function, "ignore_index", losses.IGNORED_TARGET)
                losses.check_targets(chosen.name, chosen.outputs, chosen.target, ignored, chosen.function)
                value = chosen.compute()
        except InputError:
            raise
        except Exception as error:
            if logits is None:
                raise InputError(f"model: {no_tensor(outputs)}") from error
            against = "no targets" if target is None else f"targets of shape {_shape(target)}"
            text = one_line(error)
            raise InputError(
                f"loss {loss_name(self.given)}: raised {type(error).__name__} for outputs of shape {_shape(logits)} "
                f"and {against}: {text}"
            ) from error
        if chosen is None:
            if logits is None:
                raise InputError(f"model: {no_tensor(outputs)}")
            return Judged(None, None, logits, target)
        if not isinstance(value, Tensor) or value.numel() != 1:
            raise InputError(f"loss {chosen.name}: {_no_loss(value)}")
        if chosen.own is logits:  # the loss is all that the model returned
            logits = None
        value = value.reshape(())
        kind = chosen.kind(value, logits, target)
        return Judged(value, chosen.name, logits, target, kind, chosen.function, chosen.outputs)

    def _choose(self, outputs: Any, batch: Batch) -> _Choice | None:
        loss, target = self.given, batch.target
        if loss is None or loss == "auto":
            own = own_loss(outputs, anywhere=target is None or batch.passed is not None, target=target)
            if own is not None:
                return _Choice(OWN, own=own)
            if target is None:
                return None
            if loss is None:
                raise InputError(
                    f"loss=None: the model returned no loss of its own but {describe_output(outputs)}; give a loss, or "
                    "a batch without targets"
                )
        elif not isinstance(loss, str):
            function = losses.of_outputs_alone(loss) if target is None else None
            return _Choice(loss_name(loss), function or loss, outputs, batch.labels)
        else:
            target = batch.labels
            if target is None:
                raise InputError(
                    f"loss {loss}: the batch holds nothing to compare with; give (inputs, targets), or leave the loss "
                    "out"
                )
        assert isinstance(loss, str)
        name, function = losses.by_name(loss, target)
        if not isinstance(target, Tensor):
            raise InputError(
                f"loss {name}: the target is a {type(target).__name__}, which it cannot compare with; give loss=, a "
                "function of (outputs, targets)"
            )
        logits = find_logits(outputs)
        if logits is None:
            raise InputError(f"loss {name}: {no_tensor(outputs)}")
        return _Choice(name, function, logits, target)


@dataclass(frozen=True)
class _Choice:
    """A loss and what it is computed from; or one that the model has computed."""

    name: str
    function: losses.Loss | None = None
    outputs: Any = None
    target: Any = None
    own: Tensor | None = None

    def compute(self) -> Any:
        return self.own if self.function is None else self.function(self.outputs, self.target)

    def kind(self, value: Tensor, logits: Tensor | None, target: Any) -> str:
        if self.function is None:
            return losses.kind_of("", None, value, *_as_compared(logits, target, value))
        return losses.kind_of(self.name, self.function, value, self.outputs, self.target)


def own_loss(outputs: Any, *, anywhere: bool = True, target: Any = None) -> Tensor | None:
    """The loss in what a model returned, None if there is none.

    A scalar; what is called "loss" in a mapping, or as an attribute; of a mapping of nothing but scalars, as detection
    models return in training, the sum of those with "loss" in their name, or of all if there are none.

    anywhere  also the scalar among the elements of a tuple, as in (logits, loss) and (loss, logits), if it is the only
              one: right where the model has seen its target, or there is none, and not one of two terms
    target    a bare scalar is no loss if it has as many values: one output for one example

    >>> import torch
    >>> x = torch.ones(2, 3, requires_grad=True)
    >>> own_loss((x, x.sum())), own_loss({"loss_box": x.mean(), "loss_class": x.sum()})
    (tensor(6., grad_fn=<SumBackward0>), tensor(7., grad_fn=<AddBackward0>))
    """
    if isinstance(outputs, Tensor):
        single = isinstance(target, Tensor) and target.numel() == 1 and not anywhere
        return outputs if _is_scalar(outputs) and not single else None
    named = _named(outputs)
    if named is not None:
        own = named.get("loss")
        if isinstance(own, Tensor):
            return own if own.numel() == 1 and own.is_floating_point() else None
        scalars = {str(k): v for k, v in named.items() if _is_scalar(v)}
        if not scalars or len(scalars) < len(named) or not any(v.requires_grad for v in scalars.values()):
            return None
        chosen = [v for k, v in scalars.items() if "loss" in k.lower()] or list(scalars.values())
        return functools.reduce(torch.add, chosen)
    if anywhere and isinstance(outputs, (tuple, list)):
        scalars = [value for value in outputs if _is_scalar(value)]
        return scalars[0] if len(scalars) == 1 else None
    return None


def find_logits(outputs: Any) -> Tensor | None:
    """The tensor that a loss looks at: "logits" by name, else the first floating one with axes, else a bare scalar."""
    if isinstance(outputs, Tensor):
        return outputs if outputs.is_floating_point() else None
    named = _named(outputs)
    if named is not None and isinstance(named.get("logits"), Tensor):
        return named["logits"]
    values = named.values() if named is not None else outputs
    if isinstance(values, (str, bytes)) or not hasattr(values, "__iter__"):
        return None
    for value in values:
        found = value if isinstance(value, Tensor) else find_logits(value)
        if found is not None and found.is_floating_point() and found.dim():
            return found
    return None


def loss_name(loss: Any) -> str:
    return loss if isinstance(loss, str) else getattr(loss, "__name__", type(loss).__name__)


def no_tensor(outputs: Any) -> str:
    return f"its output, a {type(outputs).__name__}, holds no floating-point tensor to measure"


def describe_output(outputs: Any) -> str:
    if isinstance(outputs, Tensor):
        return f"a tensor {describe_tensor(outputs)}"
    named = _named(outputs)
    inside = f" with {', '.join(map(str, named))}" if named else ""
    return f"a {type(outputs).__name__}{inside}"


def _named(outputs: Any) -> Mapping[Any, Any] | None:
    """What a model returned by names: a mapping, a named tuple, a dataclass."""
    if is_mapping(outputs) or has_fields(outputs) or hasattr(outputs, "_fields"):
        return dict(parts(outputs) or ())
    return None


def _is_scalar(value: Any) -> bool:
    return isinstance(value, Tensor) and value.dim() == 0 and value.is_floating_point()


def _as_compared(logits: Tensor | None, target: Any, own: Tensor) -> tuple[Any, Any]:
    """Logits and labels as the model's own loss compared them: causal language models shift by one token."""
    if not isinstance(logits, Tensor) or not isinstance(target, Tensor) or target.is_floating_point():
        return logits, target
    if logits.dim() == 3 and logits.shape[:2] == target.shape:
        pair = logits[:, :-1], target[:, 1:]
        if pair[1].numel() and losses.kind_of("", None, own, *pair) == "cross_entropy":
            return pair
    return logits, target


def _no_loss(value: Any) -> str:
    """What is wrong with this value as a loss, and what would be right."""
    if isinstance(value, Tensor):
        return f"gave {_shape(value)}, not one number; reduce it, with reduction='mean' say"
    if value is None:
        return "gave None, not a tensor of one number; does the function return the loss?"
    if isinstance(value, int | float):
        return (
            f"gave a Python {type(value).__name__}, through which no gradient can come; return the tensor itself, "
            "without .item() or float()"
        )
    return f"gave {type(value).__name__}, not a tensor of one number; return the loss alone"


def _shape(value: Any) -> str:
    return str(tuple(value.shape)) if isinstance(value, Tensor) else type(value).__name__
