"""Plain rows of layers, and what to send through a model when there is no data."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from .._batch import Batch
from ..graph import Graph, Node, walk

_EXAMPLES = 256
_MOST_VALUES = 1 << 19
_SIDE = 32


def depths(graph: Graph) -> dict[str, int]:
    """Of every Linear or convolution in a plain row (weight, activation, weight, ..., with nothing between), the
    row's length. Norms, sums, pools and forks end a row."""
    previous: dict[str, str | None] = {}
    branched = frozenset(name for branch in graph.branches for name in branch.nodes)
    for weight in graph.weights():
        node = weight.node
        if node.role != "linear" or node.module is None or node.name in branched:
            continue
        found = _direct(graph, node)
        if found is None:
            continue
        previous[node.name] = None
        if found.role == "activation":
            source = _direct(graph, found)
            if source is not None and source.name in previous:
                previous[node.name] = source.name
            elif source is None or source.role not in ("linear", "input"):
                del previous[node.name]
    heads: dict[str, str] = {}
    for name, before in previous.items():
        heads[name] = heads[before] if before is not None and before in heads else name
    counts = {head: list(heads.values()).count(head) for head in set(heads.values())}
    return {name: counts[head] for name, head in heads.items()}


def _direct(graph: Graph, node: Node) -> Node | None:
    """The one node whose tensor came in as it was, reshaped or dropped out at most."""
    while len(node.sources) == 1 and node.inputs == node.sources:
        source = graph.nodes.get(node.sources[0])
        if source is None or source.role not in ("dropout", "reshape"):
            return source
        node = source
    return None


def trial_input(model: nn.Module) -> Batch | None:
    """A made-up batch that the first registered weight layer would take; None if there is none that we know."""
    for _, module, leaf, _ in walk(model):
        if not leaf or next(module.parameters(), None) is None:
            continue
        parameter = next(module.parameters())
        made = None
        if isinstance(module, nn.Linear):
            made = _noise((_EXAMPLES, module.in_features), parameter)
        elif isinstance(module, _ConvNd):
            dims = len(module.kernel_size)
            made = _noise((8, module.in_channels, *[_SIDE] * dims), parameter)
        elif isinstance(module, nn.Embedding):
            generator = torch.Generator().manual_seed(0)
            made = torch.randint(module.num_embeddings, (8, 8), generator=generator).to(parameter.device)
        return None if made is None else Batch(args=(made,))
    return None


def noise_like(batch: Batch) -> Batch | None:
    """The batch with standard normal noise as its one float input, and more examples if that is its only input.

    Batches of integers stay as they are; with several float inputs, which may be masks, None.
    """
    floats = batch.floating()
    if not floats:
        return batch
    (name, old), *others = floats.items()
    if others or old.is_nested or old.layout is not torch.strided or old.dim() < 2:
        return None
    shape = tuple(old.shape)
    if len(batch.inputs()) == 1:
        room = max(1, _MOST_VALUES * shape[0] // max(1, old.numel()))
        shape = (max(shape[0], min(_EXAMPLES, room)), *shape[1:])
    return batch.with_inputs({name: _noise(shape, old)})


def _noise(shape: tuple[int, ...], like: Tensor) -> Tensor:
    """Standard normal from a generator of its own, so that torch's global random state does not move."""
    generator = torch.Generator().manual_seed(0)
    return torch.randn(shape, generator=generator).to(like.device, like.dtype)
