"""Whether several weights in series compute an affine function, which one of them could as well. For rule UG803.

The graph decides whether it is worth asking: no function that is known to be nonlinear may stand before any weight.
Then f(a) + f(b) - f(a + b) - f(0) is computed at the last weight's output, in float64 and evaluation mode, for inputs
of the batch's scale, ten and a hundred times as large. For an affine f it is zero but for rounding. In float32 the
rounding of a deep affine network looks like a nonlinear function, and at one scale alone a Hardtanh inside its range
looks like a linear one.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from .._batch import Batch
from .._run import Run, random_states
from ..graph import Graph, Node
from ..record import LinearFacts
from ..stats import is_plain

_NONLINEAR = ("activation", "softmax", "attention", "recurrent", "product", "loss")
_SCALES = (1.0, 10.0, 100.0)
_ROWS = 4


def linear_facts(
    model: nn.Module, graph: Graph, batch: Batch, run: Run, called: nn.Module | None = None
) -> LinearFacts:
    """called: the module that takes the batch, if that is not the model but one inside of it.

    Rewinds `run` if the model is tested, which the graph of few models asks for."""
    neighbours = _neighbours(batch)
    series, last = _in_series(graph, neighbours)
    if last is None or not last.path:
        return LinearFacts()
    narrow = _is_narrow([graph[name] for name in series], last)
    facts = {"layers": tuple(series), "narrow": narrow}
    try:
        with torch.no_grad(), random_states.kept(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            deviation, change = _measure(model, last.path, batch.few(_ROWS), run, neighbours, called)
    except _Untestable as reason:
        return LinearFacts(**facts, reason=str(reason))
    except Exception as error:  # it does not run in float64, on part of the batch, or in evaluation mode
        return LinearFacts(**facts, reason=f"in float64 and eval mode it raised {type(error).__name__}")
    return LinearFacts(**facts, deviation=deviation, change=change)


class _Untestable(Exception):
    """The reason why the model cannot be tested."""


# ---- the graph's part ------------------------------------------------------------------------------------------


def _neighbours(batch: Batch) -> frozenset[str]:
    """The inputs that say which nodes are neighbours, beside others with the nodes' features: square, and not negative.
    A graph network is linear if it is so in the features, whatever the neighbours."""
    floating = batch.floating()
    found = {
        n for n, t in batch.inputs().items() if is_plain(t) and _is_square(t) and not bool((t < 0).any())
    }
    return frozenset(found) if floating.keys() - found else frozenset()


def _is_square(t: Tensor) -> bool:
    return t.dim() > 1 and t.shape[-1] == t.shape[-2] > 1 and not t.is_complex()


def _in_series(graph: Graph, given: frozenset[str] = frozenset()) -> tuple[list[str], Node | None]:
    """(the weights that follow each other, the last of them); none where something nonlinear stands before a weight.
    given: inputs that are held; a matrix product of what is computed from them alone and something else is linear."""
    held = set(given)
    weights_before: dict[str, frozenset[str]] = {}
    after_nonlinear: set[str] = set()
    series: dict[str, None] = {}
    last = None
    for node in graph:
        if node.sources and not node.weighted and all(s in held for s in node.sources):
            held.add(node.name)
        before = frozenset().union(*(weights_before.get(s, frozenset()) for s in node.sources))
        nonlinear = any(s in after_nonlinear for s in node.sources)
        if node.weighted and node.role == "linear":
            if nonlinear:
                return [], None
            if before and node.module is not None:
                series.update(dict.fromkeys([*sorted(before, key=lambda n: graph[n].position), node.name]))
                last = node
            before |= {node.name}
        mixes = node.role == "product" and node.type == "matmul" and any(s in held for s in node.sources)
        if nonlinear or (_is_nonlinear(node) and not mixes and node.name not in held):
            after_nonlinear.add(node.name)
        weights_before[node.name] = before
    return list(series), last


def _is_nonlinear(node: Node) -> bool:
    if node.role == "norm":
        return not (isinstance(node.module, _BatchNorm) and node.module.track_running_stats)
    return node.role in _NONLINEAR


def _is_narrow(series: list[Node], last: Node) -> bool | None:
    """Whether a layer between has fewer outputs than the first has inputs and the last outputs."""
    weights = [
        w for n in series if isinstance(w := getattr(n.module, "weight", None), Tensor) and w.dim() == 2
    ]
    if len(weights) != len(series) or len(weights) < 2:
        return None
    between = min(len(w) for w in weights[:-1])
    return between < min(weights[0].shape[1], len(weights[-1]))


# ---- the test --------------------------------------------------------------------------------------------------


def _measure(
    model: nn.Module,
    path: str,
    batch: Batch,
    run: Run,
    held: frozenset[str],
    called: nn.Module | None = None,
) -> tuple[float, float]:
    """(largest relative deviation, relative change of the output with its input)."""
    run.rewind()
    embeddings = [m for m in model.modules() if isinstance(m, (nn.Embedding, nn.EmbeddingBag))]
    floating = batch.floating()
    if not floating and not embeddings:
        raise _Untestable("it has no input of floating point and no embedding")
    try:
        model.double().eval()
        given = batch.with_inputs({name: t.double() for name, t in floating.items()})
        function = _Function(called or model, model.get_submodule(path), given, embeddings, held)
        zero = function(0, 0, 1)
        worst = change = 0.0
        for scale in _SCALES:
            a, b, both = (function(*point, scale) for point in ((1, 0), (0, 1), (1, 1)))
            if not all(bool(t.isfinite().all()) for t in (a, b, both, zero)):
                raise _Untestable("its outputs are not finite")
            size = max(float(t.abs().max()) for t in (a, b, both, zero))
            if size:
                worst = max(worst, float((a + b - both - zero).abs().max()) / size)
                change = max(change, float((a - zero).abs().max()) / size)
        return worst, change
    finally:
        run.rewind()


class _Function:
    """The output of one module as a function of inputs (or embeddings) a x + b y, y being x with its examples moved on
    by one; inputs that are held stay as they are."""

    def __init__(
        self,
        model: nn.Module,
        at: nn.Module,
        batch: Batch,
        embeddings: list[Any],
        held: frozenset[str] = frozenset(),
    ):
        self.model, self.at, self.batch = model, at, batch
        floating = batch.floating()
        self.inputs = {name: t for name, t in floating.items() if name not in held}
        self.embeddings = [] if floating else embeddings

    def __call__(self, a: float, b: float, scale: float) -> Tensor:
        def point(x: Tensor) -> Tensor:
            other = x.roll(1, 0) if len(x) > 1 else x.flip(-1)
            return scale * (a * x + b * other)

        given = self.batch.with_inputs({n: point(t) for n, t in self.inputs.items()}).clone()
        with self._hooked(point) as seen:
            self.model(*given.args, **given.kwargs)
        return seen[-1]

    @contextmanager
    def _hooked(self, point: Callable[[Tensor], Tensor]) -> Iterator[list[Tensor]]:
        seen: list[Tensor] = []

        def look(_m: nn.Module, _i: Any, output: Any) -> None:
            if not isinstance(output, Tensor) or output.dtype != torch.float64:
                raise _Untestable("it does not compute in float64")
            seen.append(output.clone())

        handles = [self.at.register_forward_hook(look)]
        handles += [m.register_forward_hook(lambda _m, _i, output: point(output)) for m in self.embeddings]
        try:
            yield seen
        finally:
            for handle in handles:
                handle.remove()
