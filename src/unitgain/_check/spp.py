"""spp(): the signal propagation plot's numbers, measured on one batch, beside what theory says of the network.

Brock, De and Smith, "Characterizing signal propagation to close the performance gap in unnormalized ResNets" (2021).
At every block's end the average squared channel mean and the average channel variance, at every branch's end the
average channel variance (before stochastic depth, skip gain and alpha). All variances are biased, as in the authors'
code.

Where blocks and branches end is the graph's to say. Two passes: the first is followed and finds them, the second
measures the tensors there.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from .. import graph as graphs
from .. import stats
from .._base import InputError, opens_compiled
from .._batch import Batch, check_devices, opened, read_batch
from .._run import in_place
from .._version import __version__
from ..graph import Branch, Graph, Listener, Scale, Tracer
from ..probe import list_parameters, model_facts
from ..record import Facts, Record
from ..stats import Partial, finish


@opens_compiled
def spp(model: nn.Module, batch: Any, *, open_gains: bool = False, to: str | None = None) -> Record:
    """Measures how the signal's mean and variance grow from residual block to block. Changes nothing.

    model       any network with residual sums; they are found while it runs, whatever library it is from
    batch       as for `check`: N(0, 1) noise (`torch.randn(8, 3, 224, 224)`) or real data; targets are not used
    open_gains  measure as if gains that were initialized at zero (of the norm or convolution at the end of a branch,
                skip gains) were one: otherwise such branches give nothing, and every block is the identity
    to          path of a new record file

    Runs in evaluation mode (no dropout, no stochastic depth) but for layers with running statistics, which normalize
    by the batch's. Everything is put back, bit for bit. The Record holds sites with
    attributes block = "stem", "block" or "branch", and predictions in meta["spp"]; draw it with `plots.spp`.

    Raises InputError for a batch that does not fit, and for a network without residual sums.

    >>> class Block(nn.Linear):
    ...     def forward(self, x): return x + 0.2 * super().forward(torch.relu(x))
    >>> record = spp(nn.Sequential(Block(8, 8), Block(8, 8), nn.Linear(8, 2)), torch.randn(64, 8))
    >>> [(site.name, site.attributes["block"]) for site in record.sites("activation")]
    [('stem', 'stem'), ('0:branch', 'branch'), ('0', 'block'), ('1:branch', 'branch'), ('1', 'block')]
    """
    if not isinstance(model, nn.Module):
        raise InputError(f"model: expected an nn.Module, got {type(model).__name__}")
    model = graphs.unwrapped(model)
    batch = opened(batch, model)
    given = read_batch(batch, model, "if required").clone()
    check_devices(given, model)
    measure = _Measure()
    tracer = Tracer(model, measure)
    with in_place(model, batch=batch) as run:
        _follow(tracer, given, open_gains)
        graph = tracer.graph()
        measure.look_for(graph)
        run.rewind(quick=True)
        _follow(tracer, given, open_gains)
    if not graph.branches:
        raise InputError(
            f"model: no residual sum x + f(x) was found in this {type(model).__name__}, so there are no blocks to "
            "plot; ug.check measures any network layer by layer"
        )
    record = Record(to)
    record.set_meta("model", type(model).__name__)
    record.set_meta("versions", {"unitgain": __version__, "torch": str(torch.__version__)})
    record.set_facts(Facts(mode="check", model=model_facts(model)))
    _fill(record, graph, measure, open_gains)
    return record


class _Measure(Listener):
    """Summarizes the tensors where blocks and branches end, and how large the weights are that made them.

    found   {number of the tensor in the pass: its summary}
    scales  {node at which a branch or a transition ends: its scale}
    starts  {residual sum: number of the tensor at which its stream starts} where that is not the block before
    """

    def __init__(self) -> None:
        self.found: dict[int, Partial] = {}
        self.scales: dict[str, Scale] = {}
        self.starts: dict[str, int | None] = {}
        self._axes: dict[int, int | None] = {}
        self._ends: dict[str, bool] = {}  # whether they are batch norms

    def look_for(self, graph: Graph) -> None:
        before: int | None = None
        for number, branches in enumerate(graph.residual_sums()):
            start, _, block = branches[0].places
            if start is not None and (number == 0 or start != before):
                self._axes.setdefault(start, None)
            if number and start != before:
                self.starts[branches[0].sum] = start
            before = block
        for branch in graph.branches:
            _, end, block = branch.places
            self._axes.update({end: branch.axis, block: branch.axis})
            for name in filter(None, (branch.end, branch.skip_end)):
                self._ends[name] = graphs.is_batch_norm(graph[name])

    def value(self, value: graphs.Value, tensor: Tensor, call: graphs.Call) -> None:
        if value.number in self._axes:
            shape, axis = tuple(tensor.shape), self._axes[value.number]
            if axis is None:
                axis = value.axis
            if axis is None or axis >= tensor.dim():
                axis = graphs.channel_axis(None, shape)
            self.found[value.number] = stats.summarize(tensor, channel_axis=axis)
        module, function, _ = (value.node or "").partition(":")
        for name in {value.node or "", module} & self._ends.keys() if function else ():
            self._note(name, call)

    def node(self, node: graphs.Node, tensor: Tensor, given: Any) -> None:
        weight = getattr(node.module, "weight", None)
        if node.name in self._ends and node.name not in self.scales:
            if self._ends[node.name]:
                self.scales[node.name] = Scale.of_gain(weight)
            elif isinstance(weight, Tensor) and weight.dim() > 1:
                self.scales[node.name] = Scale.of_weight(weight)

    def _note(self, name: str, call: graphs.Call) -> None:
        """The weight that a function used, which a layer may have computed from its own."""
        if self._ends[name]:
            self.scales[name] = Scale.of_gain(call.get(3, "weight"))
            return
        weight = call.get(1, "weight")
        if isinstance(weight, Tensor) and weight.dim() > 1:
            self.scales[name] = Scale.of_weight(weight)


@torch.no_grad()
def _follow(tracer: Tracer, batch: Batch, open_gains: bool) -> None:
    """One pass. In evaluation mode, but for layers with running statistics, which normalize by the batch's."""
    model = tracer.model
    if open_gains:
        _open(model)
    model.eval()
    for module in model.modules():
        if getattr(module, "running_mean", None) is not None:
            module.train()
    graphs.run(tracer, batch)


def _open(model: nn.Module) -> None:
    """Gains that are all zero become one."""
    for p in list_parameters(model):
        if _is_gain(p) and not bool((p.tensor != 0).any()):
            p.tensor.fill_(1)


def _is_gain(p: Any) -> bool:
    name = p.name.rpartition(".")[2]
    if not p.tensor.numel() or "bias" in name:
        return False
    of_norm = graphs.role_of(p.owner) == "norm" and name in ("weight", "gain", "gamma", "scale")
    return of_norm or p.tensor.numel() == 1 or any(word in name for word in ("gain", "gamma", "scale"))


def _fill(record: Record, graph: Graph, measure: _Measure, open_gains: bool) -> None:
    sums = graph.residual_sums()
    first = sums[0][0]
    places: list[tuple[str, Partial, dict[str, Any], Branch | None]] = []
    names: list[tuple[str, list[str]]] = []  # of each block and its branches
    repeats: Counter[str] = Counter()
    stem = measure.found.get(first.places[0]) if first.places[0] is not None else None
    if stem is not None:
        places.append(("stem", stem, {"block": "stem", "path": first.path}, None))
    for number, branches in enumerate(sums, start=1):
        branch = branches[0]
        base = branch.path if branch.last else f"{branch.path}:add"
        repeats[base] += 1
        name = base if repeats[base] == 1 else f"{base}#{repeats[base]}"
        ends = [f"{name}:branch" + (f"#{i}" if i > 1 else "") for i in range(1, len(branches) + 1)]
        names.append((name, ends))
        shared = {"path": branch.path, "call": branch.call, "number": number}
        for end, each in zip(ends, branches):
            what = {**shared, "block": "branch", "of": name, **_alpha(each)}
            places.append((end, measure.found[each.places[1]], what, each))
        what = {"block": "block", "branch": ends[0], "transition": branch.transition, "after": branch.after}
        alpha = _alpha(branch) if len({b.scale for b in branches}) == 1 else {}
        places.append((name, measure.found[branch.places[2]], {**shared, **what, **alpha}, branch))
    numbers = finish([partial for _, partial, _, _ in places])
    rows = {}
    for position, (name, _, attributes, branch) in enumerate(places, start=1):
        site = record.add_site(
            "activation", name, position=position, module=attributes["block"],
            shape=branch.shape if branch is not None else (), channel_axis=branch.axis if branch is not None else None,
            attributes={**attributes, "role": "block", "leaf": False},
        )  # fmt: skip
        rows[site.id] = {key: float(values[position - 1]) for key, values in numbers.items()}
    record.add_scalars(0, rows)
    start = _moments_of(next(iter(rows.values()))) if stem is not None else None
    law, expected = graphs.block_moments(graph, measure.scales, start, _starts(measure))
    predicted = {}
    for (block, ends), values in zip(names, expected):
        if values.block is not None:
            predicted[block] = {"channel_var": values.block[0], "sq_channel_mean": values.block[1]}
        for end, brought in zip(ends, values.branches):
            if brought is not None:
                predicted[end] = {"channel_var": brought[0]}
    record.set_meta("spp", {"law": law, "predicted": predicted, "open_gains": open_gains})
    record.commit()


def _starts(measure: _Measure) -> dict[str, tuple[float, float] | None]:
    """Moments where a stream starts that is not the block before."""
    known = {
        name: measure.found[n] for name, n in measure.starts.items() if n is not None and n in measure.found
    }
    numbers = finish(list(known.values())) if known else {}
    found: dict[str, tuple[float, float] | None] = dict.fromkeys(measure.starts)
    for i, name in enumerate(known):
        found[name] = _moments_of({key: float(values[i]) for key, values in numbers.items()})
    return found


def _alpha(branch: Branch) -> dict[str, float]:
    return {} if branch.scale is None else {"alpha": branch.scale}


def _moments_of(row: Mapping[str, float]) -> tuple[float, float] | None:
    if math.isnan(row.get("channel_var", math.nan)):
        return None
    return row["channel_var"], row["sq_channel_mean"]
