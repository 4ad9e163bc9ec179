"""Which gain, centring and bias keep the variance at one behind an activation, layer after layer.

Kaiming's gain makes 1 a fixed point of the variance map V(q) = g^2 E f(sqrt(q) z)^2. Whether a stack stays there is
another matter: for GELU, SiLU and Mish the fixed point is unstable (V'(1) = 1.14, 1.17, 1.08), so that every
deviation, of the draw or of one example's norm, is multiplied by that factor at every layer. Two further numbers
make it stable:

    centring  k in 0..1: of the mean square of the activation's mean, the share k is kept; each unit's weights have
              1 - sqrt(k) of their mean subtracted, k = 1 being ordinary weights and k = 0 rows that sum to zero
    bias      biases drawn with variance b instead of zero

    V(q) = g^2 (Var f + k (E f)^2) + b,   with V(1) = 1,   V'(1) = 0.95,   chi_1 = g^2 E f'^2 = 1

The last condition, the edge of chaos, keeps gradients as well. Three conditions, three numbers, closed form. What
was measured is in docs/decisions/0010-initialization.md. Source of the maps: see theory.maps.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

from .. import theory
from .._base import InputError
from ..graph import Elementwise

_SLOPE = 0.95  # V'(1): deviations fall by half in 14 layers, which costs less bias than a steeper slope
_STEEP = (
    1.25  # chi_1 of Kaiming's gain beyond which gradients explode (tanh has 1.17: 11-fold over 30 layers)
)
_STEP = 1e-3  # of the variance, for central differences
_FAR = (0.5, 2.0)  # variances from which a stack has to come back, or at least stay


@dataclass(frozen=True)
class Recipe:
    """For the weight behind an activation: std = gain / sqrt(fan_in), with this centring and variance of the biases."""

    gain: float = 1.0
    centring: float = 1.0
    bias_variance: float = 0.0
    why: str = ""

    @property
    def plain(self) -> bool:
        return self.centring == 1.0 and self.bias_variance == 0.0


def forward_gain(function: Elementwise | None, label: str = "") -> Recipe:
    """Kaiming's gain of the activation that made the input, 1 for anything else.

    >>> import torch
    >>> round(forward_gain(torch.relu).gain, 4)
    1.4142
    """
    if label.lower().startswith("glu"):
        return Recipe(theory.gain("sigmoid"), why="behind GLU, which halves and gates")
    if function is None:
        return Recipe()
    try:
        return Recipe(_gain(function), why=f"behind {label or theory_name(function)}")
    except InputError as error:
        return Recipe(why=f"gain 1: {error}")


def backward_gain(function: Elementwise | None) -> float:
    """What keeps the gradient's variance on its way back through an activation, 1 for anything else."""
    if function is None:
        return 1.0
    try:
        return theory.backward_gain(function)
    except InputError:
        return 1.0


def keeps_variance(function: Elementwise) -> bool:
    """Whether a deep stack with Kaiming's gain comes back to variance 1 from 1/2 and 2, or at least does not go on.

    >>> import torch.nn.functional as F
    >>> [keeps_variance(f) for f in (F.relu, F.tanh, F.selu, F.gelu, F.silu, F.mish)]
    [True, True, True, False, False, False]
    """
    gain = _gain(function)
    for variance in _FAR:
        after = theory.variance_map(function, variance, gain)
        if abs(math.log(after)) > abs(math.log(variance)) + 1e-6:
            return False
    return True


def stable(function: Elementwise, label: str = "", biased: bool = True) -> Recipe:
    """The recipe for a deep stack of this activation: Kaiming's where that keeps both directions, else see above.

    biased: whether the layer has a bias. Without one nothing but Kaiming's gain is left: rows that sum to zero
    alone would make gradients grow some 15% at every layer.

    >>> import torch.nn.functional as F
    >>> recipe = stable(F.gelu)
    >>> round(recipe.gain, 3), round(recipe.centring, 3), round(recipe.bias_variance, 3)
    (1.481, 0.552, 0.145)
    """
    plain = forward_gain(function, label)
    try:
        slope = theory.backward_gain(function) ** -2  # E f'^2
        if not biased or (keeps_variance(function) and plain.gain**2 * slope < _STEEP):
            return plain
        at_one = theory.moments(function)
        more = theory.moments(function, math.sqrt(1 + _STEP))
        less = theory.moments(function, math.sqrt(1 - _STEP))
    except (InputError, ValueError):
        return plain
    variance, square = at_one.std**2, at_one.mean**2
    variance_slope = (more.std**2 - less.std**2) / (2 * _STEP)
    square_slope = (more.mean**2 - less.mean**2) / (2 * _STEP)
    centring = (_SLOPE * slope - variance_slope) / square_slope if square_slope > 1e-9 else 0.0
    centring = min(max(centring, 0.0), 1.0)
    kept = variance + centring * square
    bias = 1 - kept / slope
    if not 0 < bias < 0.5:
        return plain
    why = f"behind {label or theory_name(function)}, stabilized"
    return Recipe(math.sqrt((1 - bias) / kept), centring, bias, why)


def theory_name(function: Elementwise) -> str:
    return getattr(function, "__name__", type(function).__name__)


def _gain(function: Elementwise) -> float:
    try:
        return _cached_gain(function)
    except TypeError:  # not hashable
        return theory.gain(function)


@lru_cache(maxsize=256)
def _cached_gain(function: Elementwise) -> float:
    return theory.gain(function)
