"""What runs after what in a model, from one pass: nodes, what goes into what, residual branches.

trace        a model and a batch -> Graph
Graph        nodes, weights, norms, branches, and what stands before and after each
Tracer       follows passes of a model while they run; a Listener is told of every node
Propagation  theory's moments carried through a pass, each tensor predicted from those that it was made from
"""

from .activations import ACTIVATIONS, Activation
from .activations import of_function as activation_of_function
from .backward import BackwardPropagation
from .branch import Branch
from .departure import Departure, branch_to_stream, departures
from .graph import Graph
from .listener import Listener
from .modules import (
    batch_axis,
    channel_axis,
    is_compiled,
    is_scripted,
    measured_children,
    named_parameters,
    outputs_of,
    role_of,
    subtracts_mean,
    walk,
)
from .node import Elementwise, Neighbour, Node, Norm, Weight
from .operations import Call
from .propagate import Claim, Propagation
from .registered import registered
from .stack import fan_in_of, layers
from .trace import check_model, follow, read, run, trace, undisturbed, unwrapped
from .tracer import Tracer, in_backward, in_vmap
from .values import Value

__all__ = [
    "ACTIVATIONS",
    "Activation",
    "BackwardPropagation",
    "Branch",
    "Call",
    "Claim",
    "Departure",
    "Elementwise",
    "Graph",
    "Listener",
    "Neighbour",
    "Node",
    "Norm",
    "Propagation",
    "Tracer",
    "Value",
    "Weight",
    "activation_of_function",
    "batch_axis",
    "branch_to_stream",
    "channel_axis",
    "check_model",
    "departures",
    "fan_in_of",
    "follow",
    "in_backward",
    "in_vmap",
    "is_compiled",
    "is_scripted",
    "layers",
    "measured_children",
    "named_parameters",
    "outputs_of",
    "read",
    "registered",
    "role_of",
    "run",
    "subtracts_mean",
    "trace",
    "undisturbed",
    "unwrapped",
    "walk",
]
