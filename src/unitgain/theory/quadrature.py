"""Expectations under a Gaussian, exact at kinks and jumps.

Gauss-Hermite quadrature is accurate for smooth functions only: on ReLU^2 100 nodes still err at 1e-3. Here
the line is cut into panels, each integrated with 16 Gauss-Lobatto nodes, and cut in half again wherever the
halves disagree with the whole. Around a kink the panels shrink until it carries no weight; on smooth parts
the rule is exact to rounding at once. Lobatto nodes include the panel's ends, so that a kink between an
end and the first inner node is seen too. The panels that shrank most say where the kinks are, which the
two-dimensional integrals of the correlation map use.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from .._base import InputError

REACH = 12.0  # standard deviations to either side; the density there is 2e-32 of its peak
_FARTHEST = 36.0  # for functions that grow like exp(10 x); beyond it the density leaves float64
_PANEL_TOLERANCE = 1e-15  # of the integral of the magnitude, for one panel
_ACCEPTED = 1e-6  # of the same, for all panels: a worse estimate is refused
_MOST_HALVINGS = 60
_MOST_PANELS = 8192
_DEEP = 9  # halvings after which a panel is taken to hold a kink


def _lobatto(n: int) -> tuple[np.ndarray, np.ndarray]:
    """Nodes and weights on -1..1, both ends included, exact for polynomials up to degree 2n - 3."""
    last = np.polynomial.legendre.Legendre.basis(n - 1)
    nodes = np.concatenate([[-1.0], np.sort(last.deriv().roots().real), [1.0]])
    return nodes, 2.0 / (n * (n - 1) * last(nodes) ** 2)


_NODES, _WEIGHTS = _lobatto(16)
_GAUSS_NODES, _GAUSS_WEIGHTS = np.polynomial.legendre.leggauss(12)


@dataclass(frozen=True)
class Panels:
    """The final panels of an adaptive integral, from left to right: edges, and how often each was halved."""

    left: np.ndarray
    right: np.ndarray
    halvings: np.ndarray

    def kinks(self) -> np.ndarray:
        """Places where the integrand is not smooth: the narrowest panel of every run of deep ones."""
        deep = np.flatnonzero(self.halvings >= _DEEP)
        runs = np.split(deep, np.flatnonzero(np.diff(deep) > 1) + 1) if len(deep) else []
        narrowest = [run[np.argmax(self.halvings[run])] for run in runs]
        return np.array([(self.left[i] + self.right[i]) / 2 for i in narrowest])

    def edges(self) -> np.ndarray:
        """The edges of the panels on which the integrand is smooth, with the kinks in place of deep panels."""
        smooth = self.halvings < _DEEP
        return np.unique(np.concatenate([self.left[smooth], self.right[smooth], self.kinks()]))


def integrate(integrands: Callable[[np.ndarray], np.ndarray], edges: np.ndarray) -> tuple[np.ndarray, Panels]:
    """Integrals of k functions over edges[0]..edges[-1]: (n,) -> (k, n) gives (k,).

    Raises InputError if the values are not finite, or if halving does not help: too many jumps, or a function
    that computes in low precision.
    """

    def rule(left: np.ndarray, right: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        half = (right - left) / 2
        x = ((left + right) / 2)[:, None] + half[:, None] * _NODES  # (panels, nodes)
        y = integrands(x.reshape(-1))
        if not np.isfinite(y).all():
            raise InputError("the activation grows too fast: its variance under a Gaussian is not finite")
        y = y.reshape(len(y), *x.shape)
        return (y @ _WEIGHTS) * half, (np.abs(y) @ _WEIGHTS) * half  # each (k, panels)

    left, right, level = edges[:-1], edges[1:], 0
    whole, magnitude = rule(left, right)
    size = magnitude.sum(1)
    total, error = np.zeros(len(size)), np.zeros(len(size))
    leaves: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    while len(left):
        middle = (left + right) / 2
        (a, _), (b, _) = rule(left, middle), rule(middle, right)
        difference = np.abs(a + b - whole)
        fine = (difference <= _PANEL_TOLERANCE * size[:, None]).all(0) | (middle <= left) | (middle >= right)
        if (
            level == _MOST_HALVINGS
            or 2 * (~fine).sum() + sum(map(len, (x for x, _, _ in leaves))) > _MOST_PANELS
        ):
            fine[:] = True
        total += (a + b)[:, fine].sum(1)
        error += difference[:, fine].sum(1)
        leaves.append((left[fine], right[fine], np.full(fine.sum(), level)))
        again = ~fine
        left, right = (
            np.concatenate([left[again], middle[again]]),
            np.concatenate([middle[again], right[again]]),
        )
        whole = np.concatenate([a[:, again], b[:, again]], axis=1)
        level += 1
    relative = np.max(error / np.maximum(size, 1e-300))
    if relative > _ACCEPTED:
        raise InputError(
            f"the integral over the activation does not converge (relative error {relative:.1e}): "
            "it has very many jumps or kinks, or computes in low precision"
        )
    joined = [np.concatenate(column) for column in zip(*leaves)]
    order = np.argsort(joined[0])
    return total, Panels(*(column[order] for column in joined))


def density(z: np.ndarray) -> np.ndarray:
    """The standard normal density."""
    return np.exp(-0.5 * z * z) / math.sqrt(2 * math.pi)


def _starting_edges(mean: float, std: float, reach: float, shift: float = 0.0) -> np.ndarray:
    """Panels half a standard deviation wide, and, for activations, powers of two in x to either side of 0.

    The second kind matters when std is large: on tanh(1e6 z) wide panels would see a constant.
    """
    uniform = np.linspace(-reach, reach, int(4 * reach) + 1)[1:-1] + shift
    edges = [np.array([-reach]), uniform, np.array([reach])]
    if std > 0:
        top = math.log2(abs(mean) + std * reach)
        powers = 2.0 ** np.arange(-6.0, max(top, -6.0) + 1.0)
        edges += [(sign * powers - mean) / std + shift for sign in (-1, 1)]
        edges += [np.array([-mean / std + shift])]
    joined = np.unique(np.concatenate(edges))
    return joined[(joined >= -reach) & (joined <= reach)]


def expectation(
    functions: Callable[[np.ndarray, np.ndarray], np.ndarray], std: float = 1.0, mean: float = 0.0
) -> np.ndarray:
    """E of k functions of (x, z), where z is standard normal and x = mean + std * z; (n,), (n,) -> (k, n)."""

    def integrands(z: np.ndarray) -> np.ndarray:
        with np.errstate(over="ignore", invalid="ignore"):  # what is not finite is refused in `integrate`
            return functions(mean + std * z, z) * density(z)

    reach = REACH
    while True:
        total, _ = integrate(integrands, _starting_edges(mean, std, reach))
        ends = np.abs(integrands(np.array([-reach, reach]))).max(1)
        if (ends <= 1e-14 * np.maximum(np.abs(total), 1e-300)).all() or (ends < 1e-25).all():
            return total
        if reach >= _FARTHEST:
            raise InputError("the activation grows too fast: its variance under a Gaussian is not finite")
        reach += 6.0


def smooth_parts(function: Callable[[np.ndarray], np.ndarray], std: float) -> Panels:
    """The panels (in x) on which a function is smooth within reach of a Gaussian of this std.

    The starting panels are shifted by an odd amount, so that a kink at 0 or at 1 lies inside one and is found.
    """

    def integrands(z: np.ndarray) -> np.ndarray:
        y = function(std * z)
        return np.stack([y, y * y]) * density(z)

    _, panels = integrate(
        integrands, _starting_edges(0.0, std, REACH, shift=0.0183 * math.pi / max(std, 1.0))
    )
    return Panels(panels.left * std, panels.right * std, panels.halvings)


def pair_expectation(
    function: Callable[[np.ndarray], np.ndarray], parts: Panels, correlation: float, std: float
) -> float:
    """E f(x1) f(x2) for two Gaussians of this std and correlation.

    With independent normals v and w, x1 = std (a w + b v) and x2 = std (a w - b v), where a^2 = (1 + c)/2 and
    b^2 = (1 - c)/2. For each v the panels in w end at both functions' kinks; as a function of v the inner
    integral is smooth but where two kinks meet, and panels end there too. Even in v: half of the line is enough.
    """
    a, b = math.sqrt((1 + correlation) / 2), math.sqrt((1 - correlation) / 2)
    reach = 10.0
    kinks, edges = parts.kinks() / std, parts.edges() / std
    powers = 2.0 ** np.arange(-10.0, 0.0)
    meetings = np.abs(kinks[:, None] - kinks[None, :]).reshape(-1) / max(2 * b, 1e-300)
    outer = np.concatenate([np.arange(0, reach + 0.5, 0.5), powers, meetings])
    outer = np.unique(outer[outer <= reach])
    half = np.diff(outer) / 2
    v = (((outer[:-1] + outer[1:]) / 2)[:, None] + half[:, None] * _GAUSS_NODES).reshape(-1)
    v_weights = (half[:, None] * _GAUSS_WEIGHTS).reshape(-1) * density(v)

    uniform = np.linspace(-reach, reach, int(2 * reach) + 1)
    total = 0.0
    for start in range(0, len(v), 64):  # in blocks, to keep memory small
        some, weights = v[start : start + 64, None], v_weights[start : start + 64]
        cuts = np.concatenate([edges - b * some, edges + b * some], axis=1) / max(a, 1e-300)
        cuts = np.concatenate([cuts, np.broadcast_to(uniform, (len(some), len(uniform)))], axis=1)
        cuts = np.sort(np.clip(cuts, -reach, reach), axis=1)  # (v, panels + 1)
        width = np.diff(cuts, axis=1)[:, :, None] / 2
        w = (cuts[:, :-1, None] + width) + width * _GAUSS_NODES  # (v, panels, nodes)
        shift = b * some[:, :, None]
        product = function((std * (a * w + shift)).reshape(-1)) * function(
            (std * (a * w - shift)).reshape(-1)
        )
        inner = (product.reshape(w.shape) * density(w) * width) @ _GAUSS_WEIGHTS
        total += float(weights @ inner.sum(1))
    return 2 * total
