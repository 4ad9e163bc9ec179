"""Exact statistics for BatchNorm: what a data set's mean and variance are, in place of running averages.

Running averages lag behind the weights, weigh the newest batches most, and start at 0 and 1. Two definitions
of better ones are in use, and their results differ:

    exact=True   every layer's statistics are those of the whole data set, concatenated, when all BatchNorm layers
                 before it normalize with theirs. It is what one forward pass in training mode over all the data as
                 a single batch would use, so the calibrated model in eval mode repeats that pass to rounding,
                 and how the data is cut into batches makes no difference. Layers are calibrated one after
                 the other, in execution order: one pass over the data for each, cut short at that layer.
    exact=False  one pass: all layers normalize with each batch's own statistics meanwhile, and a layer's are
                 those of all its inputs pooled ("precise BatchNorm", Wu and Johnson 2021, arXiv 2105.07576).
                 The first layer's are exact; later ones depend on the batches, less so the larger these are.

Means and variances are accumulated in float64 (float32 where a device has no float64) over chunks, by the update
of Chan, Golub and LeVeque 1983, which does not cancel. The variance is the population's: divided by the number
of values, not by one less.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from .._base import InputError
from .._batch import read_batch
from .evaluating import evaluating

_CHUNK = 1 << 20  # values converted to float64 at a time
_Model = TypeVar("_Model", bound=nn.Module)


class _Moments:
    """Count, mean and sum of squared deviations per channel, over everything added so far."""

    def __init__(self) -> None:
        self.count = 0
        self.mean: Any = 0.0
        self.squares: Any = 0.0

    def add(self, x: Tensor) -> None:
        """x: (N, C, *)."""
        kind = torch.float32 if x.device.type == "mps" else torch.float64
        examples = max(1, _CHUNK * len(x) // max(1, x.numel()))
        for chunk in x.detach().split(examples):
            values = chunk.to(kind).transpose(0, 1).flatten(1)  # (C, values)
            n = values.shape[1]
            if n == 0:  # an empty batch
                continue
            mean = values.mean(1)
            squares = (values - mean[:, None]).square().sum(1)
            total = self.count + n
            difference = mean - self.mean
            self.mean = self.mean + difference * (n / total)
            self.squares = self.squares + squares + difference.square() * (self.count * n / total)
            self.count = total


class _Reached(Exception):
    """Ends a forward pass at the layer that is being measured."""


@torch.no_grad()
def calibrate_(
    model: _Model,
    batches: Iterable[Any],
    *,
    exact: bool = True,
    forward: Callable[[_Model, Any], Any] | None = None,
) -> _Model:
    """Sets every BatchNorm layer's running_mean and running_var to the statistics of the data; returns the model.

    model    its BatchNorm layers (torch's 1d, 2d, 3d and Sync, and unitgain.nn's) that keep running statistics;
             layers that do not run, and those without such buffers, stay as they are
    batches  a list, DataLoader or other iterable of batches: tensors, tuples or lists of inputs and a last item that
             is the target and is not used, or mappings of keyword arguments (with a target or
             without). With exact=True it is read once for every layer, after its first batch has been read once, so it
             must give the same data each time (no random augmentation; the order may change)
    exact    which definition, see above
    forward  (model, batch) -> anything, for a model that is called in another way

    Dropout and the like are in eval mode meanwhile. Training flags are put back afterwards and, if anything raises,
    the buffers too. momentum and num_batches_tracked do not change. Works for any dtype of model and data.

    Raises InputError for no data, an iterator that can be read only once, values that are not finite, and
    (exact only) a layer that runs several times in one pass, for which the statistics are not defined.

    >>> data = [torch.randn(8, 3, generator=torch.manual_seed(0)) * 5 + 2 for _ in range(4)]
    >>> norm = calibrate_(nn.BatchNorm1d(3), data)
    >>> torch.allclose(norm.running_mean, torch.cat(data).mean(0))
    True
    """
    layers: dict[nn.Module, str] = {
        module: name
        for name, module in model.named_modules()
        if isinstance(module, _BatchNorm) and module.running_mean is not None
    }
    if not layers:
        return model
    call = forward or _call
    with _restoring(model, layers):
        if exact:
            order = _execution_order(model, batches, layers, call)
            for layer in order:
                _store(layer, layers[layer], _measure(model, batches, [layer], call, stop=True)[layer])
        else:
            for layer in layers:
                layer.train()
            measured = _measure(model, batches, list(layers), call, stop=False)
            for layer, moments in measured.items():
                if moments.count:
                    _store(layer, layers[layer], moments)
    return model


def _call(model: nn.Module, batch: Any) -> Any:
    found = read_batch(batch, model, "if required")
    return model(*found.args, **found.kwargs)


@contextmanager
def _restoring(model: nn.Module, layers: Mapping[nn.Module, str]) -> Iterator[None]:
    """Eval mode inside; training flags put back after, and the buffers too if something raised."""
    buffers = [(b, b.clone()) for layer in layers for b in layer.buffers(recurse=False)]
    counters = [getattr(layer, "num_batches_tracked", None) for layer in layers]
    counts = [(counter, counter.clone()) for counter in counters if counter is not None]
    try:
        with evaluating(model):
            yield
    except BaseException:
        for buffer, before in buffers:
            buffer.copy_(before)
        raise
    finally:
        for buffer, before in counts:
            buffer.copy_(before)  # batches seen in the one-pass form do not count as training


def _execution_order(
    model: nn.Module, batches: Iterable[Any], layers: Mapping[nn.Module, str], call: Callable[..., Any]
) -> list[nn.Module]:
    """The layers that run, in the order in which they do, by one batch."""
    if iter(batches) is batches:
        raise InputError(
            "calibrate_: batches is an iterator, which can be read only once; give a list or a DataLoader, "
            "or exact=False, which reads once"
        )
    order: list[nn.Module] = []
    hooks = [layer.register_forward_pre_hook(lambda module, args: order.append(module)) for layer in layers]
    try:
        for batch in batches:
            call(model, batch)
            break
        else:
            raise InputError("calibrate_: batches is empty; at least one batch is needed")
    finally:
        for hook in hooks:
            hook.remove()
    for layer in order:
        if order.count(layer) > 1:
            raise InputError(
                f"calibrate_: {layers[layer] or type(layer).__name__} runs {order.count(layer)} times in one pass, so "
                "that its statistics depend on themselves; use exact=False, which pools all its inputs"
            )
    return order


def _measure(
    model: nn.Module,
    batches: Iterable[Any],
    layers: list[nn.Module],
    call: Callable[..., Any],
    stop: bool,
) -> dict[nn.Module, _Moments]:
    """Moments of the layers' inputs over all batches; stop: each pass ends at the first of them."""
    moments = {layer: _Moments() for layer in layers}

    def observe(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        moments[module].add(args[0] if args else next(iter(kwargs.values())))
        if stop:
            raise _Reached

    hooks = [layer.register_forward_pre_hook(observe, with_kwargs=True) for layer in layers]
    read = 0
    try:
        for batch in batches:
            read += 1
            with suppress(_Reached):
                call(model, batch)
    finally:
        for hook in hooks:
            hook.remove()
    if not read:
        raise InputError("calibrate_: batches is empty; at least one batch is needed")
    return moments


def _store(layer: nn.Module, name: str, moments: _Moments) -> None:
    mean, variance = moments.mean, moments.squares / moments.count
    if not (mean.isfinite().all() and variance.isfinite().all()):
        raise InputError(
            f"calibrate_: the input of {name or type(layer).__name__} has values that are NaN or infinite; "
            "find the first place with ug.check(model, batch)"
        )
    layer.running_mean.copy_(mean)  # type: ignore[union-attr]
    layer.running_var.copy_(variance)  # type: ignore[union-attr]
