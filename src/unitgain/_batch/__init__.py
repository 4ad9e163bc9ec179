"""A batch in every form that people have one, and what is minimized on it.

tree.py       nested containers: which there are, and how to make each anew
batch.py      Batch: clone, move, select, replace inputs, describe
arrays.py     NumPy arrays as tensors
reading.py    from people's forms, and what a model's forward takes, to a Batch
losses.py     losses by name, and targets that they cannot take
objective.py  a loss as it is given, or the one that a model returns itself
"""

from .batch import TARGET_NAMES, Batch, axis_of_examples, check_devices, describe_tensor
from .losses import (
    IGNORED_TARGET,
    LOSSES,
    Loss,
    broadcasts,
    class_axis,
    kind_of,
    without_broadcast_warning,
)
from .objective import OWN, Judged, Objective, describe_output, find_logits, own_loss
from .reading import Forward, Reader, is_loader, opened, read_batch
from .tree import map_tensors, named_inputs, named_tensors, tensors_in

__all__ = [
    "IGNORED_TARGET",
    "LOSSES",
    "OWN",
    "TARGET_NAMES",
    "Batch",
    "Forward",
    "Judged",
    "Loss",
    "Objective",
    "Reader",
    "axis_of_examples",
    "broadcasts",
    "check_devices",
    "class_axis",
    "describe_output",
    "describe_tensor",
    "find_logits",
    "is_loader",
    "kind_of",
    "map_tensors",
    "named_inputs",
    "named_tensors",
    "opened",
    "own_loss",
    "read_batch",
    "tensors_in",
    "without_broadcast_warning",
]
