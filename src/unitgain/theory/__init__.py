"""What an activation function does to signals, before anything is run: gains, maps, depth scales, predictions.

    gain, centered_gain, backward_gain, mean_shift, moments     one activation, one layer
    variance_map, fixed_points, correlation_map, chi,
    correlation_fixed_point, edge_of_chaos, depth_scale         the same layer, repeated
    predict, predict_stack                                      std and correlation, layer by layer
    zero_mean_relu                                              the sub that centres GeneralReLU, and its gain
    constants                                                   constants of other libraries, and the exact ones

An activation is a name ("relu"), a torch function, any elementwise callable or an nn.Module. Everything is
computed by quadrature in float64; nothing is sampled.
"""

from .constants import Constant, constants
from .elementwise import NAMES, evaluate
from .gains import Moments, backward_gain, centered_gain, gain, mean_shift, moments
from .general_relu import ZeroMeanReLU, zero_mean_relu
from .maps import (
    CorrelationFixedPoint,
    DepthScale,
    EdgeOfChaos,
    FixedPoint,
    FixedPoints,
    chi,
    correlation_fixed_point,
    correlation_map,
    depth_scale,
    edge_of_chaos,
    fixed_points,
    variance_map,
)
from .predict import Layer, Prediction, predict, predict_stack

__all__ = [
    "NAMES",
    "Constant",
    "CorrelationFixedPoint",
    "DepthScale",
    "EdgeOfChaos",
    "FixedPoint",
    "FixedPoints",
    "Layer",
    "Moments",
    "Prediction",
    "ZeroMeanReLU",
    "backward_gain",
    "centered_gain",
    "chi",
    "constants",
    "correlation_fixed_point",
    "correlation_map",
    "depth_scale",
    "edge_of_chaos",
    "evaluate",
    "fixed_points",
    "gain",
    "mean_shift",
    "moments",
    "predict",
    "predict_stack",
    "variance_map",
    "zero_mean_relu",
]
