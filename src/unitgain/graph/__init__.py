"""What runs after what in a model, from one pass: nodes, what goes into what, residual branches.

trace        a model and a batch -> Graph
Graph        nodes, weights, norms, branches, and what stands before and after each
Tracer       follows passes of a model while they run; a Listener is told of every node
propagate    theory's moments carried through a graph
"""

from .activations import ACTIVATIONS, Activation
from .activations import of_function as activation_of_function
from .branch import Branch
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
from .propagate import Scale, block_moments, fan_in_of, is_batch_norm, layers
from .registered import registered
from .trace import check_model, follow, read, run, trace, undisturbed, unwrapped
from .tracer import Tracer, in_backward
from .values import Value

__all__ = [
    "ACTIVATIONS",
    "Activation",
    "Branch",
    "Call",
    "Elementwise",
    "Graph",
    "Listener",
    "Neighbour",
    "Node",
    "Norm",
    "Scale",
    "Tracer",
    "Value",
    "Weight",
    "activation_of_function",
    "batch_axis",
    "block_moments",
    "channel_axis",
    "check_model",
    "fan_in_of",
    "follow",
    "in_backward",
    "is_batch_norm",
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
