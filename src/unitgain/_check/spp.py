"""spp(): the signal propagation plot's numbers, measured on one batch, beside what theory says of the network.

Brock, De and Smith, "Characterizing signal propagation to close the performance gap in unnormalized ResNets" (2021).
At every block's end the average squared channel mean and the average channel variance, at every branch's end the
average channel variance (before stochastic depth, skip gain and alpha). All variances are biased, as in the authors'
code.

Where blocks and branches end is the graph's to say. Two passes: the first is followed and finds them, the second
measures the tensors there, while theory predicts every tensor from those that it was made from (graph/propagate.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from .. import graph as graphs
from .. import stats
from .._base import InputError, no_module, opens_compiled
from .._batch import Batch, check_devices, opened, read_batch, tensors_in
from .._run import Run, in_place
from .._version import __version__
from ..graph import BackwardPropagation, Graph, Listener, Propagation, Tracer
from ..probe import list_parameters, model_facts
from ..record import Facts, Record
from ..stats import Partial, finish
from .batch_norms import normalize_by_batch
from .spp_places import Place, places_of
from .spp_theory import backward_of, theory_of

_CLOSED = 0.01  # a gain whose every value is below gives its branch no say


@opens_compiled
def spp(
    model: nn.Module, batch: Any, *, open_gains: bool = False, backward: bool = False, to: str | None = None
) -> Record:
    """Measures how the signal's mean and variance grow from residual block to block. Changes nothing.

    model       any network; its residual sums are found while it runs, whatever library it is from. One without any is
                measured behind each layer with weights, where the next one begins
    batch       as for `check`: N(0, 1) noise (`torch.randn(8, 3, 224, 224)`) or real data; targets are not used
    open_gains  measure as if gains that were initialized at zero, or below 0.01 (of the norm or convolution at the end
                of a branch, skip gains, layer scales) were one: otherwise such branches give nothing, and every block
                is the identity
    backward    also measure and predict the gradient's mean square at each site, for a gradient of independent standard
                normal values at the model's output
    to          path of a new record file

    Runs in evaluation mode (no dropout, no stochastic depth) but for layers with running statistics, which normalize
    by the batch's. Everything is put back, bit for bit. The Record holds sites with attributes block = "stem", "block"
    or "branch"; draw it with `plots.spp`. meta["spp"] has what theory predicts of each ("predicted"), why it is silent
    ("silent"), the variance that branches add over that of the stream ("branch_to_stream"), the steps at which the
    variance departs from one, with the factor that mends each ("why"), and all nodes ("nodes").

    Raises InputError for a batch that does not fit, and for a network without layers.

    >>> class Block(nn.Linear):
    ...     def forward(self, x): return x + 0.2 * super().forward(torch.relu(x))
    >>> record = spp(nn.Sequential(Block(8, 8), Block(8, 8), nn.Linear(8, 2)), torch.randn(64, 8))
    >>> [(site.name, site.attributes["block"]) for site in record.sites("activation")]
    [('stem', 'stem'), ('0:branch', 'branch'), ('0', 'block'), ('1:branch', 'branch'), ('1', 'block')]
    """
    if not isinstance(model, nn.Module):
        raise no_module("model", model)
    for name, flag in (("open_gains", open_gains), ("backward", backward)):
        if not isinstance(flag, bool):
            raise InputError(f"{name}: expected True or False, got {flag!r}")
    model = graphs.unwrapped(model)
    batch = opened(batch, model)
    given = read_batch(batch, model, "if required").clone()
    check_devices(given, model)
    back: BackwardPropagation | None = None
    with in_place(model, batch=batch) as run:
        numbered = _Numbers()
        tracer = Tracer(model, numbered)
        _follow(tracer, given, open_gains)
        places = places_of(tracer.graph(), numbered.of_node)
        if not places:
            raise InputError(
                f"model: no residual sum and no layer with weights was found in this {type(model).__name__}, so "
                "there is nothing to plot"
            )
        run.rewind(quick=True)
        measure = _Measure({place.number: place.axis for place in places})
        tracer = Tracer(model, measure, theory=True)
        _follow(tracer, given, open_gains)
        graph = tracer.graph()
        if backward:
            run.rewind(quick=True)
            back = _backward(model, given, open_gains, run)
    record = Record(to)
    record.set_meta("model", type(model).__name__)
    record.set_meta("versions", {"unitgain": __version__, "torch": str(torch.__version__)})
    record.set_facts(Facts(mode="check", model=model_facts(model)))
    _fill(record, places, graph, measure, open_gains, back)
    return record


class _Numbers(Listener):
    """of_node: {node: number of its tensor in the pass}."""

    def __init__(self) -> None:
        self.of_node: dict[str, int] = {}

    def value(self, value: graphs.Value, tensor: Tensor, call: graphs.Call) -> None:
        if value.node is not None and tensor.is_floating_point() and tensor.dim() > 1:
            self.of_node[value.node] = value.number


class _Measure(Listener):
    """Summarizes the tensors where blocks and branches end, and lets theory predict every tensor.

    found    {number of the tensor in the pass: its summary}
    """

    def __init__(self, axes: Mapping[int, int | None]) -> None:
        self.found: dict[int, Partial] = {}
        self.theory = Propagation()
        self._axes = axes

    def function(self, function: Any, args: Any, out: Any) -> None:
        self.theory.function(function, args, out)

    def node(self, node: graphs.Node, tensor: Tensor, given: Any) -> None:
        self.theory.node(node, tensor, given)

    def value(self, value: graphs.Value, tensor: Tensor, call: graphs.Call) -> None:
        self.theory.value(value, tensor, call)
        if value.number in self._axes:
            shape, axis = tuple(tensor.shape), self._axes[value.number]
            if axis is None:
                axis = value.axis
            if axis is None or axis >= tensor.dim():
                axis = graphs.channel_axis(None, shape)
            self.found[value.number] = stats.summarize(tensor, channel_axis=axis)


@torch.no_grad()
def _follow(tracer: Tracer, batch: Batch, open_gains: bool) -> None:
    """One pass. In evaluation mode, but for layers with running statistics, which normalize by the batch's."""
    _set_up(tracer.model, open_gains)
    graphs.run(tracer, batch)


def _set_up(model: nn.Module, open_gains: bool) -> None:
    if open_gains:
        with torch.no_grad():
            _open(model)
    normalize_by_batch(model)


def _backward(model: nn.Module, batch: Batch, open_gains: bool, run: Run) -> BackwardPropagation:
    """One pass and back, from a gradient of independent standard normal values at the model's first output."""
    theory = BackwardPropagation()
    _set_up(model, open_gains)
    for p in list_parameters(model):
        if p.tensor.is_floating_point():
            p.tensor.requires_grad_(True)
    output = graphs.run(Tracer(model, theory, theory=True), batch)
    first = next((t for t in tensors_in(output) if t.is_floating_point() and t.requires_grad), None)
    if first is None:
        raise InputError(
            "model: no gradient flows back from its output, so there is nothing to show backwards"
        )
    generator = torch.Generator().manual_seed(0)
    arriving = torch.randn(first.shape, generator=generator).to(first)
    run.backward((first * arriving).sum())
    theory.predict_back()
    return theory


def _open(model: nn.Module) -> None:
    """Gains that start at zero, or next to it (ConvNeXt's layer scale at 1e-6), become one."""
    for p in list_parameters(model):
        if _is_gain(p) and bool((p.tensor.abs() < _CLOSED).all()):
            p.tensor.fill_(1)


def _is_gain(p: Any) -> bool:
    name = p.name.rpartition(".")[2]
    if not p.tensor.numel() or "bias" in name:
        return False
    of_norm = graphs.role_of(p.owner) == "norm" and name in ("weight", "gain", "gamma", "scale")
    return of_norm or p.tensor.numel() == 1 or any(word in name for word in ("gain", "gamma", "scale"))


def _fill(
    record: Record, places: list[Place], graph: Graph, measure: _Measure, open_gains: bool,
    back: BackwardPropagation | None,
) -> None:  # fmt: skip
    numbers = finish([measure.found[place.number] for place in places])
    rows = {}
    for position, place in enumerate(places, start=1):
        site = record.add_site(
            "activation", place.name, position=position, module=place.attributes["block"], shape=place.shape,
            channel_axis=place.axis, attributes={**place.attributes, "role": "block", "leaf": False},
        )  # fmt: skip
        rows[site.id] = {key: float(values[position - 1]) for key, values in numbers.items()}
    record.add_scalars(0, rows)
    named = {place.name: place.number for place in places}
    found = theory_of(graph, measure.theory, named)
    if back is not None:
        found["backward"] = backward_of(back, named)
    record.set_meta("spp", {**found, "open_gains": open_gains})
    record.commit()
