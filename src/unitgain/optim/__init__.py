"""Optimizers whose update is written out, adaptive gradient clipping, and parameter groups.

optimizers  SGD, Momentum, RMSProp, Adam, as torch.optim.Optimizer subclasses
agc         agc_ (a function on gradients), AGC (attached to an optimizer)
classifier  finds a model's output layer, which AGC does not clip
groups      which parameters are decayed: weights yes; gains, biases and skip gains no
unwrap      the torch optimizer inside accelerate's, DeepSpeed's or another one's wrapper, the module inside DDP's

Nothing here imports the rest of unitgain.
"""

from .agc import AGC, agc_
from .clipping import above_zero
from .groups import param_groups
from .optimizers import SGD, Adam, Momentum, RMSProp
from .unwrap import unwrapped, unwrapped_model

__all__ = [
    "AGC",
    "SGD",
    "Adam",
    "Momentum",
    "RMSProp",
    "agc_",
    "param_groups",
    "unwrapped",
    "unwrapped_model",
]
