"""Forward passes that leave no trace but what a remedy means to leave."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from .._base import InputError
from .._batch.batch import Batch, check_devices, read_batch
from .._run import in_place, random_states
from ..probe import modules
from .tracer import Tracer
from .wiring import Node, Wiring

Visit = Callable[[Node, Tensor, Any], "Tensor | None"]


@contextmanager
def at_work(model: nn.Module, batch: Batch, *, sets_parameters: bool = False) -> Iterator[None]:
    """As in training, without gradients and dropout; everything is put back afterwards.

    Training mode because that is what normalizes by batch statistics, and because eval mode takes shortcuts
    around the modules of a TransformerEncoderLayer.

    sets_parameters  what is set inside are the parameters' new values: they stay, unless an exception ends the work
    """
    with in_place(model, batch=batch) as run, torch.no_grad():
        model.train()
        for module in model.modules():
            if modules.role(module) == "dropout":
                module.eval()
            elif isinstance(rate := getattr(module, "dropout", None), float) and rate:
                module.dropout = 0.0  # type: ignore[assignment]  # attention and recurrent modules drop out themselves
        yield
        if sets_parameters:
            run.accept(model.parameters())


def read(remedy: str, model: nn.Module, batch: Any) -> Batch:
    """The batch, checked against the model. Raises InputError naming what is wrong."""
    check_model(remedy, model)
    found = read_batch(batch)
    check_devices(found, model)
    return found


def check_model(remedy: str, model: nn.Module) -> None:
    if not isinstance(model, nn.Module):
        raise InputError(f"{remedy}: model: expected an nn.Module, got {type(model).__name__}")
    if any(nn.parameter.is_lazy(p) for p in model.parameters()):
        raise InputError(
            f"{remedy}: model: it has lazy parameters without a shape yet; run it once on a batch first"
        )


def follow(model: nn.Module, batch: Batch, visit: Visit | None = None) -> Wiring:
    """One pass of the batch, followed. Call it inside `at_work`. Raises InputError when the model raises."""
    given = batch.fresh()
    try:
        with random_states.kept():  # every pass draws the same masks
            return Tracer(model, visit).run(
                lambda: model(*given.args, **given.kwargs), (given.args, given.kwargs)
            )
    except InputError:
        raise
    except Exception as error:
        text = " ".join(str(error).split()) or "no message"
        raise InputError(
            f"the model raised {type(error).__name__} in forward on inputs of shape {batch.describe()}: {text}"
        ) from error


def wiring_of(model: nn.Module, batch: Any) -> Wiring:
    """What runs after what in a model, from one pass; see `Wiring`. The model is left as it was.

    >>> model = nn.Sequential(nn.Linear(8, 16), nn.LeakyReLU(0.2), nn.Linear(16, 4))
    >>> wiring = wiring_of(model, torch.randn(5, 8))
    >>> [(w.name, wiring.before(w).label, wiring.after(w).label) for w in wiring.weights()]
    [('0', 'data', 'LeakyReLU(negative_slope=0.2)'), ('2', 'LeakyReLU(negative_slope=0.2)', "the model's output")]
    """
    found = read("wiring_of", model, batch)
    with at_work(model, found):
        return follow(model, found)
