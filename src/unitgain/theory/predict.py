"""Std and correlation of every layer of a stack, before any of it is run.

For weights N(0, weight_std^2) and biases N(0, bias_std^2) drawn independently, and layers wide enough for the
central limit theorem, a layer's pre-activations are Gaussian with the variance and correlation that the maps
of `maps` give; the prediction follows them layer by layer from the input's mean square. A single network of
width n scatters around it by about sqrt(1/n) per layer, which adds up with depth.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from .._base import InputError
from .elementwise import Activation, resolve
from .gains import check_scale, moments
from .quadrature import pair_expectation, smooth_parts


@dataclass(frozen=True)
class Layer:
    """A weight layer and what follows it.

    fan_in      inputs of one unit: in_features, or (in_channels / groups) * kernel size
    weight_std  std of one weight
    bias_std    std of one bias
    activation  after the layer; None for a linear one, such as the last
    """

    fan_in: int
    weight_std: float
    bias_std: float = 0.0
    activation: Activation | None = None


@dataclass(frozen=True)
class Prediction:
    """One layer's output at initialization.

    pre_std          std of the pre-activations
    pre_correlation  cosine of two examples' pre-activations
    mean, std, rms   of the layer's output (after its activation)
    cosine           of two examples' outputs
    """

    pre_std: float
    pre_correlation: float
    mean: float
    std: float
    rms: float
    cosine: float

    @property
    def sq_channel_mean(self) -> float:
        """Average squared channel mean over many examples that are as similar as the two of the input."""
        return self.rms**2 * self.cosine

    @property
    def channel_var(self) -> float:
        """Average channel variance over such examples."""
        return self.rms**2 * (1 - self.cosine)


def predict(layers: Sequence[Layer], input_rms: float = 1.0, input_cosine: float = 0.0) -> list[Prediction]:
    """What every layer gives, from the input's root mean square and the cosine between two different inputs.

    Independent standard normal inputs have rms 1 and cosine 0. Raises InputError for impossible numbers.

    >>> relu = predict([Layer(512, (2 / 512) ** 0.5, activation="relu")] * 3)
    >>> [(round(p.pre_std, 3), round(p.cosine, 3)) for p in relu]
    [(1.414, 0.318), (1.414, 0.494), (1.414, 0.605)]
    """
    check_scale("input_rms", input_rms)
    if not -1 <= input_cosine <= 1:
        raise InputError(f"input_cosine is {input_cosine}; it lies in -1..1")
    square, both = input_rms**2, input_rms**2 * input_cosine  # E x^2, and E x1 x2 of two examples
    predictions = []
    for number, layer in enumerate(layers, start=1):
        if layer.fan_in < 1:
            raise InputError(f"layer {number}: fan_in is {layer.fan_in}; expected at least 1")
        check_scale(f"layer {number}: weight_std", layer.weight_std)
        check_scale(f"layer {number}: bias_std", layer.bias_std)
        power = layer.fan_in * layer.weight_std**2
        variance = power * square + layer.bias_std**2
        correlation = (power * both + layer.bias_std**2) / variance if variance else 0.0
        correlation = min(max(correlation, -1.0), 1.0)  # rounding
        std = math.sqrt(variance)
        mean, out_std, rms, cosine = 0.0, std, std, correlation
        if layer.activation is not None and std > 0:
            f = resolve(layer.activation)
            out = moments(f, std)
            mean, out_std, rms = out.mean, out.std, out.rms
            cosine = pair_expectation(f, smooth_parts(f, std), correlation, std) / rms**2 if rms else 0.0
        elif layer.activation is not None:
            out = moments(layer.activation, 0.0)
            mean, out_std, rms, cosine = out.mean, 0.0, out.rms, 1.0 if out.rms else 0.0
        predictions.append(Prediction(std, correlation, mean, out_std, rms, cosine))
        square, both = rms**2, rms**2 * cosine
    return predictions


def predict_stack(
    activation: Activation,
    depth: int,
    sigma_w: float = 1.0,
    sigma_b: float = 0.0,
    input_rms: float = 1.0,
    input_cosine: float = 0.0,
) -> list[Prediction]:
    """`predict` for `depth` equal layers with weights of std sigma_w / sqrt(fan_in) and biases of std sigma_b.

    >>> round(predict_stack("tanh", 50, sigma_w=5 / 3)[-1].std, 3)
    0.651
    """
    if depth < 1:
        raise InputError(f"depth is {depth}; expected at least 1 layer")
    f = resolve(activation)
    return predict([Layer(1, sigma_w, sigma_b, f)] * depth, input_rms, input_cosine)
