"""A stand-in for the graph of a real pass, where there is no batch."""

from __future__ import annotations

from torch import nn

from . import activations, modules
from .graph import Graph
from .names import unique_name
from .node import Node
from .recorder import is_elementwise


def registered(model: nn.Module) -> Graph:
    """Leaf modules in the order in which they were registered, as if each took the output of the one before.

    Wrong at every branch, for activations called as functions, and where modules are registered out of order.

    >>> model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2))
    >>> [(w.name, w.before.label) for w in registered(model).weights()]
    [('0', 'data'), ('2', 'ReLU')]
    """
    names = {id(p): n for n, p in model.named_parameters()}
    paths = {path for path, *_ in modules.walk(model)}
    nodes = [Node(unique_name("input", "", paths), "", 1, 0, "input", "Tensor", "input")]
    for path, module, leaf, _ in modules.walk(model):
        if not leaf:
            continue
        elementwise = is_elementwise(module)
        before = (nodes[-1].name,)
        nodes.append(
            Node(
                path or "output", path, 1, len(nodes), "module", type(module).__name__,
                "activation" if elementwise else modules.role_of(module), inputs=before, sources=before,
                given_inputs=before, given_sources=before,
                parameters=tuple(dict.fromkeys(names[id(p)] for p in module.parameters())),
                activation=activations.of_module(module), function=module if elementwise else None,
                subtracts_mean=modules.subtracts_mean(module), site=True, module=module,
            )
        )  # fmt: skip
    return Graph(type(model).__name__, nodes, outputs=(nodes[-1].name,), output=nodes[-1].name)
