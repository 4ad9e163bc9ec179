"""init_: weights whose scale fits what stands before and after them.

Sources: Glorot and Bengio 2010; He et al. 2015 (arXiv 1502.01852); Saxe et al. 2013 (orthogonal); Jozefowicz et
al. 2015 for the forget gate's bias of 1. Deviations from torch.nn.init, each with its reason:

- With mode="fan_in" the gain is that of the activation BEFORE a weight, which made its input, with "fan_out"
  that of the one after it, through which its gradient comes. The usual calls take the one after in both cases;
  for equal activations in a deep stack that moves the same gains by one layer, but gives the first layer, whose
  input is data, a gain that it should not have, and the last one none.
- Gains are exact (tanh 1.5925, not 5/3) and known for any elementwise function; see `ug.theory.constants`.
- Gates and projections that are stacked in one tensor are drawn one by one; see fill.py.
- flat=True: deep stacks whose variance Kaiming's gain cannot hold get stable recipes (gains.py), and what this very
  draw does to the variance of standard normal noise, a few percent at each layer, is taken out.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import Tensor, nn

from .. import graph as graphs
from .._base import InputError, did_you_mean, names_given, opens_compiled
from .._batch import Batch
from ..graph import Elementwise, Graph, Node, role_of, walk
from . import fill
from .chains import depths, noise_like, trial_input
from .fill import Distribution, Mode, Scheme, Style
from .gains import Recipe, backward_gain, forward_gain, stable
from .lever import Lever
from .report import Change, RemedyReport, rms

_DEEP = 5  # layers in a plain row from which an unstable activation is given a stable recipe: 1.17^5 is 2.2
_DRAW = (0.75, 1.33)  # a correction beyond this is not the draw's doing


@opens_compiled
def init_(
    model: nn.Module,
    scheme: Scheme = "kaiming",
    activation: str | Elementwise = "auto",
    mode: Mode = "fan_in",
    distribution: Distribution = "normal",
    *,
    batch: Any = None,
    flat: bool = True,
    readout: float = 0.25,
    only: Sequence[str] = ("*",),
) -> RemedyReport:
    """Re-initializes every weight layer of a model, in place; returns what was set to which gain and why.

    scheme        "kaiming": std gain/sqrt(fan); "glorot": gain * sqrt(2/(fan_in + fan_out)); "orthogonal": orthogonal
                  rows or columns with Kaiming's std
    activation    "auto" finds it for every weight; else a name, function or module that stands between all layers
    mode          "fan_in" keeps the variance of activations, "fan_out" that of gradients
    distribution  "normal" or "uniform" (of the same std)
    batch         anything that `ug.check` takes, read for shapes and for what runs after what, never for its values.
                  Without it a pass on made-up inputs is tried; if the model does not take them, the order in which
                  modules were registered stands in for the order in which they run, and the report says so
    flat          see the module's text; False gives the textbook's draw. Only with mode "fan_in" and not for Glorot
    readout       factor on the last layer: outputs of std 0.25 instead of 1 leave a classifier's first loss within 0.03
                  of ln(C)
    only          fnmatch patterns of module paths to set; the others stay

    Set are Linear, Conv 1d to 3d, transposed and grouped ones, Embedding (std 1, or a head's where it shares its
    weight), RNN, LSTM and GRU (recurrent matrices orthogonal, forget bias 1), MultiheadAttention. Biases become 0.
    Norms, frozen parameters (requires_grad False) and bare parameters stay as they are. Weights come from torch's
    global random state.

    Raises InputError for an unknown option, and when the model cannot run the batch.

    >>> model = nn.Sequential(nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 10))
    >>> print(init_(model, batch=torch.randn(8, 64)))
    init_: kaiming, fan_in, normal
      0.weight  rms ... -> ...  gain 1, in front: data
      0.bias    rms ... -> ...  zero
      2.weight  rms ... -> ...  gain 1.414 x 0.25 (readout), behind ReLU
      2.bias    rms ... -> ...  zero
      note: weights scaled by ... to ... (1 of them), which takes out what this draw does to standard normal inputs
    """
    graphs.check_model("init_", model)
    style = Style(scheme, mode, distribution)
    if not (isinstance(readout, (int, float)) and math.isfinite(readout) and readout >= 0):
        raise InputError(f"init_: readout is {readout!r}; a number of at least 0 is right")
    given = None if isinstance(activation, str) and activation == "auto" else _resolved(activation)
    report = RemedyReport(f"init_: {scheme}, {mode}, {distribution}")
    graph, read = _traced(model, batch, report)
    flat = flat and mode == "fan_in" and scheme != "glorot"
    plan = _Plan(model, graph, style, given, flat, readout)
    before = {n: rms(p) for n, p in model.named_parameters(remove_duplicate=False)}
    done: set[int] = set()
    uses = [w.node for w in graph.weights()]
    by_module = {id(n.module): n for n in reversed(uses) if n.module is not None}
    only = names_given("init_(only=...)", only)
    paths = [path for path, _, _, _ in walk(model)]
    for pattern in only:
        if not any(fnmatchcase(path, pattern) for path in paths):
            raise InputError(
                f"init_(only=...): {pattern!r} matches no module{did_you_mean(pattern, filter(None, paths))}"
            )
    for path, module, leaf, _ in walk(model):
        chosen = any(fnmatchcase(path, pattern) for pattern in only)
        if leaf and chosen and role_of(module) in ("linear", "embedding", "recurrent", "attention"):
            _Setter(plan, report, path, module, by_module.get(id(module)), done).set()
    if flat and read is not None:
        _take_out_the_draw(model, plan, read, report, only)
    after = {n: rms(p) for n, p in model.named_parameters(remove_duplicate=False)}
    report.changes = [Change(c.name, before[c.name], after[c.name], c.reason) for c in report.changes]
    bare = [n for w in uses if w.module is None for n in w.parameters if before[n] == after[n]]
    if bare:
        report.notes.append(f"used as bare parameters and left as they are: {', '.join(dict.fromkeys(bare))}")
    growing = [b for b in graph.branches if not any(graph[n].role == "norm" for n in b.nodes)]
    if len(growing) > 2:
        report.notes.append(
            f"{len(growing)} residual branches have no norm, so that variance grows; follow with "
            "fixup_, scale_residual_branches_ or zero_residual_ends_"
        )
    return report


def _resolved(activation: str | Elementwise) -> Elementwise:
    from ..theory import NAMES, gain

    gain(activation)  # raises InputError for what is none
    return NAMES[activation] if isinstance(activation, str) else activation


def _traced(model: nn.Module, batch: Any, report: RemedyReport) -> tuple[Graph, Batch | None]:
    if batch is not None:
        read = graphs.read("init_", model, batch)
        with graphs.undisturbed(model, read):
            return graphs.follow(model, read), read
    trial = trial_input(model)
    if trial is not None:
        try:
            with graphs.undisturbed(model, trial):
                graph = graphs.follow(model, trial)
        except InputError as error:
            report.notes.append(f"made-up inputs of shape {trial.describe()} did not run: {error}")
        else:
            report.notes.append(
                f"no batch given: followed a pass on made-up inputs of shape {trial.describe()}"
            )
            return graph, trial
    report.notes.append(
        "no batch given: took the order in which modules were registered; activations called as functions, and "
        "branches, are not seen. Give batch=, or activation="
    )
    return graphs.registered(model), None


class _Plan:
    """Which recipe each weight gets."""

    def __init__(
        self,
        model: nn.Module,
        graph: Graph,
        style: Style,
        given: Elementwise | None,
        flat: bool,
        readout: float,
    ):
        self.model = model
        self.graph, self.style, self.given, self.flat, self.readout = graph, style, given, flat, readout
        self.weights = [w.node for w in graph.weights()]
        self.depth = depths(graph)
        self.first = self.weights[0] if self.weights else None

    def is_readout(self, node: Node) -> bool:
        return node.role == "linear" and len(self.weights) > 1 and self.graph.after(node).kind == "output"

    def recipe(self, node: Node | None, biased: bool) -> Recipe:
        """The gain of what stands before, with a stable recipe in deep plain rows."""
        if node is None:
            return Recipe(why="gain 1, does not run")
        found = self.graph.before(node)
        function, label = found.function, found.label
        if (
            self.given is not None
            and found.kind in ("activation", "linear", "other")
            and node is not self.first
        ):
            function, label = self.given, getattr(self.given, "__name__", type(self.given).__name__)
        if function is None and not label.lower().startswith("glu"):
            where = {"data": "in front: data"}.get(found.kind, f"behind {found.label}")
            return Recipe(why=where)
        deep = self.flat and self.depth.get(node.name, 0) >= _DEEP and function is not None
        if deep and not self.is_readout(node) and self.graph.norm_after(node) is None:
            assert function is not None
            return stable(function, label, biased)
        return forward_gain(function, label)

    def backward(self, node: Node | None) -> float:
        return 1.0 if node is None else backward_gain(self.given or self.graph.after(node).function)


class _Setter:
    """Sets the parameters of one module."""

    def __init__(
        self,
        plan: _Plan,
        report: RemedyReport,
        path: str,
        module: nn.Module,
        node: Node | None,
        done: set[int],
    ):
        self.plan, self.report, self.path, self.module, self.node, self.done = (
            plan,
            report,
            path,
            module,
            node,
            done,
        )

    def set(self) -> None:
        role = role_of(self.module)
        if role == "embedding":
            self._embedding()
        elif role == "recurrent":
            self._recurrent()
        elif role == "attention" and isinstance(self.module, nn.MultiheadAttention):
            self._attention()
        elif isinstance(getattr(self.module, "weight", None), Tensor) and self.module.weight.dim() >= 2:  # type: ignore[union-attr, operator]
            self._linear()

    def _mine(self, name: str) -> Tensor | None:
        """A parameter that may be set: there, trainable, and not set before through another module."""
        tensor = self.module._parameters.get(name)
        full = f"{self.path}.{name}" if self.path else name
        if tensor is None:
            if hasattr(self.module, name) and getattr(self.module, name) is not None:
                self.report.notes.append(f"{full} is computed (parametrized) and stays as it is")
            return None
        if id(tensor) in self.done:
            return None
        self.done.add(id(tensor))
        if not tensor.requires_grad:
            self.report.notes.append(f"{full} is frozen and stays as it is")
            return None
        return tensor

    def _note(self, name: str, reason: str) -> None:
        self.report.changes.append(Change(f"{self.path}.{name}" if self.path else name, 0.0, 0.0, reason))

    @torch.no_grad()
    def _zero(self, name: str) -> None:
        tensor = self._mine(name)
        if tensor is not None:
            tensor.zero_()
            self._note(name, "zero")

    @torch.no_grad()
    def _linear(self) -> None:
        lever = None if self.node is None else Lever(self.plan.model, self.node)
        weight = None if lever is not None and lever.standardized else self._mine("weight")
        bias = self.module._parameters.get("bias")
        recipe = self.plan.recipe(self.node, bias is not None and bias.requires_grad)
        why, factor = f"gain {recipe.gain:.4g}", 1.0
        if self.node is not None:
            if self.plan.is_readout(self.node):
                factor = self.plan.readout
                why += f" x {factor:g} (readout)"
            if (norm := self.plan.graph.norm_after(self.node)) is not None:
                recipe = Recipe(recipe.gain, why=f"{recipe.why}; moot, as {norm.label} follows")
        if recipe.centring < 1:
            why += f", {1 - math.sqrt(recipe.centring):.0%} of each row's mean taken out"
        if lever is not None and lever.standardized:
            self._gain(lever, recipe.gain * factor, why)
        if weight is not None:
            for matrix in fill.matrices(self.module, weight):
                std = fill.std_of(self.plan.style, matrix, recipe.gain, self.plan.backward(self.node))
                fill.draw_(matrix.rows, std * factor, self.plan.style, recipe.centring)
            self._note("weight", f"{why}, {recipe.why}" if recipe.why else why)
        if recipe.bias_variance and (tensor := self._mine("bias")) is not None:
            tensor.normal_(0, math.sqrt(recipe.bias_variance))
            self._note("bias", f"std {math.sqrt(recipe.bias_variance):.3g}, which makes variance 1 stable")
        else:
            self._zero("bias")

    def _gain(self, lever: Lever, wanted: float, why: str) -> None:
        """Of a standardized layer only the gain has a scale; its weight stays as it is."""
        gain = lever.gain
        if gain is None or not gain.requires_grad:
            self.report.notes.append(
                f"{self.path}.weight is standardized without a trainable gain and stays as it is"
            )
            return
        gain.fill_(wanted / lever.constant)
        name = next(n for n, p in self.module.named_parameters() if p is gain)
        self._note(name, f"{why}, of a standardized weight")

    @torch.no_grad()
    def _embedding(self) -> None:
        weight = self.module._parameters.get("weight")
        users = [n for n in self.plan.weights if n.module is not None and n.module is not self.module]
        if weight is not None and any(n.module._parameters.get("weight") is weight for n in users):  # type: ignore[union-attr]
            self.report.notes.append(
                f"{self.path}.weight is shared with a linear layer and drawn as that layer's"
            )
            return
        tensor = self._mine("weight")
        if tensor is not None:
            fill.draw_(tensor, 1.0, Style(distribution=self.plan.style.distribution))
            padding = getattr(self.module, "padding_idx", None)
            if padding is not None:
                tensor[padding] = 0
            self._note("weight", "embedding, std 1")

    @torch.no_grad()
    def _recurrent(self) -> None:
        style, count = self.plan.style, fill.gates(self.module)
        recipe = self.plan.recipe(self.node, False)
        for name in list(self.module._parameters):
            tensor = self._mine(name)
            if tensor is None:
                continue
            if name.startswith("weight_ih"):
                for gate in tensor.chunk(count):
                    matrix = fill.Matrix(gate, gate.shape[1], gate.shape[0])
                    first = name in ("weight_ih", "weight_ih_l0", "weight_ih_l0_reverse")
                    fill.draw_(gate, fill.std_of(style, matrix, recipe.gain if first else 1.0), style)
                self._note(name, f"gain {recipe.gain if first else 1.0:.4g} for each of {count} gates")
            elif name.startswith("weight_h"):
                for gate in tensor.chunk(count) if name.startswith("weight_hh") else [tensor]:
                    fill.draw_(gate, 1 / math.sqrt(max(gate.shape)), Style("orthogonal"))
                self._note(
                    name,
                    f"orthogonal, each of {count} gates" if name.startswith("weight_hh") else "orthogonal",
                )
            else:
                tensor.zero_()
                forget = count == 4 and name.startswith("bias_ih")
                if forget:
                    tensor.chunk(4)[1].fill_(1.0)
                self._note(name, "zero, forget gate 1" if forget else "zero")

    @torch.no_grad()
    def _attention(self) -> None:
        module, style = self.module, self.plan.style
        recipe = self.plan.recipe(self.node, False)
        for name in ("in_proj_weight", "q_proj_weight", "k_proj_weight", "v_proj_weight"):
            tensor = self._mine(name)
            if tensor is not None:
                parts = tensor.chunk(3) if name == "in_proj_weight" else (tensor,)
                for part in parts:
                    matrix = fill.Matrix(part, part.shape[1], part.shape[0])
                    fill.draw_(part, fill.std_of(style, matrix, recipe.gain), style)
                each = " for each of query, key and value" if len(parts) == 3 else ""
                self._note(name, f"gain {recipe.gain:.4g}{each}, {recipe.why}")
        self._zero("in_proj_bias")
        assert isinstance(module, nn.MultiheadAttention)
        _Setter(
            self.plan, self.report, f"{self.path}.out_proj".lstrip("."), module.out_proj, None, self.done
        )._output()

    @torch.no_grad()
    def _output(self) -> None:
        weight = self._mine("weight")
        if weight is not None:
            for matrix in fill.matrices(self.module, weight):
                fill.draw_(matrix.rows, fill.std_of(self.plan.style, matrix, 1.0), self.plan.style)
            self._note("weight", "gain 1, behind attention")
        self._zero("bias")


def _take_out_the_draw(
    model: nn.Module, plan: _Plan, batch: Batch, report: RemedyReport, only: Sequence[str]
) -> None:
    """One pass of noise; each layer of a plain row is scaled, as it runs, to pre-activations of mean square 1.

    The expectation over draws is 1 already. The single draw is off by some sqrt(5 / width) in square, which adds up
    over depth for ReLU, whose variance map has slope 1.
    """
    noise = noise_like(batch)
    if noise is None:
        return
    uses: dict[str, int] = {}
    for node in plan.weights:
        for name in node.parameters:
            uses[name] = uses.get(name, 0) + 1
    wanted = {n.name for n in plan.weights if plan.depth.get(n.name, 0) > 1 and not plan.is_readout(n)
              and plan.graph.norm_after(n) is None and all(uses[p] == 1 for p in n.parameters)
              and any(fnmatchcase(n.path, pattern) for pattern in only)}  # fmt: skip
    if not wanted:
        return
    factors: list[float] = []

    def visit(node: Node, tensor: Tensor, _: Any) -> Tensor | None:
        weight = node.module._parameters.get("weight") if node.module is not None else None
        if node.name not in wanted or weight is None or not weight.requires_grad:
            return None
        if Lever(model, node).standardized:
            return None
        square = float(tensor.float().square().mean())
        if not _DRAW[0] ** 2 < square < _DRAW[1] ** 2:
            return None
        factor = square**-0.5
        bias = node.module._parameters.get("bias")  # type: ignore[union-attr]
        if bias is not None and not bias.requires_grad and bias.any():
            return None
        weight.mul_(factor)
        if bias is not None:
            bias.mul_(factor)
        factors.append(factor)
        return tensor * factor

    try:
        with graphs.undisturbed(model, noise, sets_parameters=True):
            graphs.follow(model, noise, visit)
    except InputError as error:
        report.notes.append(f"the draw was not corrected: {error}")
        return
    if factors:
        report.notes.append(
            f"weights scaled by {min(factors):.3f} to {max(factors):.3f} ({len(factors)} of them), which takes out "
            "what this draw does to standard normal inputs"
        )
