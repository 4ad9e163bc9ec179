"""Node: one step of a forward pass that matters."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from .activations import Activation

Elementwise = Callable[[Tensor], Tensor]

WEIGHTED = ("linear", "embedding", "recurrent", "attention")
# What leaves the scale of a signal as it is, or nearly so.
TRANSPARENT = ("dropout", "reshape", "pool")


@dataclass(frozen=True)
class Node:
    """One tensor of a pass: an input, a module's output, or what a function made of others.

    name          unique: the module's path ("layer1.0.conv1"), "#2" for its second call, ":tanh" for a function called
                  in it ("layer1.0:tanh"), "[1]" or "[key]" for further outputs. Inputs: "input", "input[1]",
                  "input[key]"
    path, call    of the module (of the one that called the function), and which of its calls this is, from 1
    position      execution order, from 0
    kind          input, module, function; block: a module whose output is made by nodes inside it; sum, concat,
                  product: of two or more signals; opaque: a compiled or scripted module, whose inside cannot be
                  followed
    type          the module's class or the function's name: "Conv2d", "tanh", "add"
    role          linear, norm, activation, pool, dropout, reshape, embedding, recurrent, attention, softmax, loss,
                  mix (Fourier transforms), block, sum, concat, product, input or other
    shape, dtype  of the tensor: (64, 3, 8, 8), "float32"
    channel_axis, batch_axis   None where they are not known
    inputs        names of the nodes whose tensors came in unchanged, but for their shape
    sources       these, and nodes from which what came in was computed by functions that are no nodes (2 * x, x[:, 0])
    given_inputs, given_sources   of a block, whose inputs and sources lie inside it: the same for what the module was
                  given; of other nodes equal to inputs and sources
    parameters    names of the parameters used
    activation    what is known of the elementwise function: its name, bounds, flat parts
    function      the elementwise function itself, callable on a tensor, slopes and all
    subtracts_mean  norms: "channel", "group" or "layer"
    site          whether a Probe measures it
    module        the module itself; None for inputs and functions

    The output of a node goes by the node's name: `sources=("conv1",)` is the tensor that conv1 returned.
    """

    name: str
    path: str
    call: int
    position: int
    kind: str
    type: str
    role: str
    shape: tuple[int, ...] = ()
    dtype: str = ""
    channel_axis: int | None = None
    batch_axis: int | None = None
    inputs: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()
    given_inputs: tuple[str, ...] = ()
    given_sources: tuple[str, ...] = ()
    parameters: tuple[str, ...] = ()
    activation: Activation | None = None
    function: Elementwise | None = field(default=None, compare=False, repr=False)
    subtracts_mean: str | None = None
    site: bool = False
    leaf: bool = True
    module: nn.Module | None = field(default=None, compare=False, repr=False)

    @property
    def label(self) -> str:
        """What a person would call it: "LeakyReLU(negative_slope=0.2)", "Conv2d", "tanh", "data"."""
        if self.kind == "input":
            return "data"
        if self.role == "activation" and self.module is not None:
            given = self.module.extra_repr().replace("inplace=True", "").strip(", ")
            return self.type + (f"({given})" if given else "")
        return self.type

    @property
    def weighted(self) -> bool:
        """Whether it uses a weight: a layer, or a product with bare parameters."""
        return (
            self.role in WEIGHTED
            and self.kind != "block"
            and (self.module is not None or bool(self.parameters))
        )

    @property
    def transparent(self) -> bool:
        """Whether questions for what stands before or after go through it."""
        return (
            self.role in TRANSPARENT or self.kind == "block" or (self.kind, self.role) == ("module", "other")
        )

    def to_dict(self) -> dict[str, Any]:
        """JSON-able; see docs/reference/graph.md. Keys without content are left out."""
        row: dict[str, Any] = {
            "name": self.name, "path": self.path, "call": self.call, "position": self.position, "kind": self.kind,
            "type": self.type, "role": self.role, "shape": list(self.shape), "dtype": self.dtype,
            "channel_axis": self.channel_axis, "batch_axis": self.batch_axis, "inputs": list(self.inputs),
            "sources": list(self.sources),
        }  # fmt: skip
        if self.parameters:
            row["parameters"] = list(self.parameters)
        if self.activation is not None:
            row["activation"] = self.activation.name
        if self.subtracts_mean is not None:
            row["subtracts_mean"] = self.subtracts_mean
        return row


@dataclass(frozen=True)
class Neighbour:
    """What stands before or after a node.

    kind      data, activation, norm, linear, sum, product, concat, output or other
    function  of an activation
    node      None where it is not known
    """

    kind: str
    label: str
    function: Elementwise | None = field(default=None, compare=False)
    node: Node | None = None


@dataclass(frozen=True)
class Weight:
    """One use of a weight: its node, what made its input, what takes its output first, and the norm that takes its
    output alone (which makes its scale moot), if there is one."""

    node: Node
    before: Neighbour
    after: Neighbour
    norm: Node | None

    @property
    def name(self) -> str:
        return self.node.name


@dataclass(frozen=True)
class Norm:
    """A norm: what feeds it, and the parameter whose effect it undoes because it subtracts the mean: a bias that does
    nothing."""

    node: Node
    fed_by: Neighbour
    absorbs: str | None
