"""trace(): one batch through a model, followed; nothing changed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from .._base import InputError, no_module, one_line, opens_compiled, original
from .._batch import Batch, check_devices, read_batch
from .._run import in_place, random_states
from . import modules
from .graph import Graph
from .node import Node
from .tracer import Listener, Tracer

Visit = Callable[[Node, Tensor, Any], "Tensor | None"]


@opens_compiled
def trace(model: nn.Module, batch: Any) -> Graph:
    """What runs after what in a model, from one pass of a batch. The model is left as it was.

    model  any nn.Module; of a compiled one, what it was made from is followed
    batch  as for `ug.check`; only shapes matter, and what control flow depends on

    The pass is as in training, without dropout and without gradients.

    Raises InputError for a batch that does not fit, a scripted model, or lazy parameters.

    >>> class Block(nn.Module):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.norm, self.fc = nn.LayerNorm(8), nn.Linear(8, 8)
    ...     def forward(self, x):
    ...         return x + 0.5 * self.fc(torch.relu(self.norm(x)))
    >>> graph = trace(nn.Sequential(nn.Linear(4, 8), Block(), nn.Linear(8, 2)), torch.randn(3, 4))
    >>> [(b.sum, b.start, b.nodes, b.scale, b.order) for b in graph.branches]
    [('1:add', '0', ('1.norm', '1:relu', '1.fc'), 0.5, 'pre')]
    """
    model = unwrapped(model)
    found = read("trace", model, batch)
    with undisturbed(model, found):
        return follow(model, found)


def unwrapped(model: nn.Module) -> nn.Module:
    """What a data-parallel or compiled model was made from."""
    model = original(model)
    if isinstance(model, (nn.DataParallel, nn.parallel.DistributedDataParallel)):
        model = model.module
    return original(model)


def read(caller: str, model: nn.Module, batch: Any) -> Batch:
    """The batch, checked against the model. Raises InputError naming what is wrong."""
    check_model(caller, model)
    found = read_batch(batch, model)
    check_devices(found, model)
    return found


def check_model(caller: str, model: nn.Module) -> None:
    """Raises InputError, which begins with the caller's name, for what is no model, or one that cannot be followed:
    scripted, or with lazy parameters."""
    if not isinstance(model, nn.Module):
        raise no_module(f"{caller}: model", model)
    if modules.is_scripted(model):
        raise InputError(
            f"{caller}: model: it is scripted, which cannot be followed; give the one it was made from"
        )
    if any(nn.parameter.is_lazy(p) for p in model.parameters()):
        raise InputError(
            f"{caller}: model: it has lazy parameters without a shape yet; run it once on a batch first"
        )


@contextmanager
def undisturbed(model: nn.Module, batch: Batch, *, sets_parameters: bool = False) -> Iterator[None]:
    """As in training, without gradients and dropout; everything is put back afterwards.

    Training mode because that is what normalizes by batch statistics, and because eval mode takes shortcuts
    around the modules of a TransformerEncoderLayer.

    sets_parameters  what is set inside are the parameters' new values: they stay, unless an exception ends the work
    """
    with in_place(model, batch=batch) as run, torch.no_grad():
        model.train()
        for module in model.modules():
            if modules.role_of(module) == "dropout":
                module.eval()
            elif isinstance(rate := getattr(module, "dropout", None), float) and rate:
                module.dropout = 0.0  # type: ignore[assignment]  # attention and recurrent modules drop out themselves
        yield
        if sets_parameters:
            run.accept(model.parameters())


class _Visitor(Listener):
    def __init__(self, visit: Visit | None):
        self._visit = visit

    def node(self, node: Node, tensor: Tensor, given: Any) -> Tensor | None:
        return self._visit(node, tensor, given) if self._visit is not None and node.kind != "input" else None


def follow(model: nn.Module, batch: Batch, visit: Visit | None = None) -> Graph:
    """One pass of the batch, followed. Call it inside `undisturbed`.

    visit  called with each module's and function's node, its tensor, and (args, kwargs) of a module's call. A tensor
           that it returns goes on in the place of a module's output

    Raises InputError when the model raises.
    """
    tracer = Tracer(model, _Visitor(visit), theory=True)
    run(tracer, batch)
    return tracer.graph()


def run(tracer: Tracer, batch: Batch) -> Any:
    """One pass of the batch, with the same random masks as every other; the model's output. Raises InputError when the
    model raises."""
    given = batch.clone()
    try:
        with random_states.kept(), tracer.armed_for(given.args, given.kwargs) as end:
            output = tracer.model(*given.args, **given.kwargs)
            end(output)
            return output
    except InputError:
        raise
    except Exception as error:
        text = one_line(error) or "no message"
        raise InputError(
            f"the model raised {type(error).__name__} in forward on inputs of shape {batch.describe()}: {text}"
        ) from error
