"""Theory's moments of a tensor, and the laws by which calls change them.

signal.py     Signal: mean, variance, covariance of channels, autocorrelation, marginal; `measure` where theory begins
weights.py    convolutions and linear layers, with the weights that are there
pointwise.py  elementwise functions of any kind, by integrals and Hermite series
norms.py      batch, layer, group, instance and root-mean-square normalization
pools.py      means and maxima over positions
mixing.py     sums, products with gates, concatenations, parts, views
drawn.py      random values with a signal's or a gradient's moments, for calls without a formula: attention
gradient.py   Gradient: mean squares of a gradient; gradient_laws.py: the same calls backwards
laws.py       which of these a call is; Silent, with the reason, where none is
step.py       Step: what a law may ask of a call
"""

from .drawn import Source, draw_gradient
from .gradient import Gradient, measured_gradient
from .gradient_laws import groups_of, pull_back, slope
from .laws import predict
from .pointwise import mean_magnitude
from .signal import GRID_WEIGHTS, Signal, layout, measure
from .silent import Silent
from .step import Known, Step, given_tensor

__all__ = [
    "GRID_WEIGHTS",
    "Gradient",
    "Known",
    "Signal",
    "Silent",
    "Source",
    "Step",
    "draw_gradient",
    "given_tensor",
    "groups_of",
    "layout",
    "mean_magnitude",
    "measure",
    "measured_gradient",
    "predict",
    "pull_back",
    "slope",
]
