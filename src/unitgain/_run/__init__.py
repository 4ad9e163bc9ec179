"""Runs a model in place and puts everything back.

in_place.py       in_place(): the caller's own model runs, and afterwards all is what it was
snapshot.py       Snapshot: what a model and the like were at one moment, and the way back
walk.py           which objects that takes: what is followed, what is not, what cannot be rewound
values.py         python values as they were: containers, attributes, arrays, generators
tensors.py        tensors as they were: memory byte for byte, gradients, hooks
random_states.py  every random state: take, put, kept
loaders.py        where a loader's orders and random states are
settings.py       torch's global settings
optimizer.py      the optimizer of a rehearsal
"""

from . import random_states
from .in_place import NotPutBackError, Run, in_place, leaves_of, run_of
from .loaders import (
    AfterFirst,
    Replayed,
    first_batch,
    generator_states,
    is_stateful,
    loader_state,
    loaders_kept,
    seed_loader,
    set_generators,
    set_loader_state,
)
from .optimizer import OptimizerLike, optimizers_for
from .snapshot import Snapshot

__all__ = [
    "AfterFirst",
    "NotPutBackError",
    "OptimizerLike",
    "Replayed",
    "Run",
    "Snapshot",
    "first_batch",
    "generator_states",
    "in_place",
    "is_stateful",
    "leaves_of",
    "loader_state",
    "loaders_kept",
    "optimizers_for",
    "random_states",
    "run_of",
    "seed_loader",
    "set_generators",
    "set_loader_state",
]
