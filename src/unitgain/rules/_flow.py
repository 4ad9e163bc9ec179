"""What comes before and after a site, which sites are the ends of blocks, and whether the model is trained."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

from ._rule import Threshold
from ._view import Measured, View

TRAINED = Threshold(0.7, "of the loss of the best constant output: a loss below it was learnt")

_TRANSPARENT = ("dropout", "reshape", "pool")


def is_additive_mask(view: View, measured: Measured) -> bool:
    """Whether an input holds minus infinity on purpose: by its name, or because all that is not finite in it is minus
    infinity and ends in a softmax, so that nothing computed from it is infinite or NaN."""
    if measured.is_mask:
        return True
    harmless = view.output is not None and not math.isinf(view.loss) and not math.isnan(view.loss)
    return (
        bool(measured.site.attributes.get("minus_infinity"))
        and harmless
        and not any(m.broken for m in [*view.activations, *view.parameter_gradients])
    )


def followers(view: View, measured: Measured) -> Iterator[Measured]:
    """Every site that is computed from this one, also through arithmetic between modules, in execution order."""
    reached = {measured.name}
    for site in view.activations:
        if site.name not in reached and reached.intersection(made_of(site, reached)):
            reached.add(site.name)
            yield site


def leaders(view: View, measured: Measured) -> list[Measured]:
    """Every site that this one is computed from, last first."""
    wanted, found = {measured.name}, []
    names = {m.name for m in view.activations if m.position < measured.position}
    for site in reversed(view.activations):
        if site.name in wanted:
            wanted.update(made_of(site, names))
            if site.name != measured.name:
                found.append(site)
    return found


def made_of(site: Measured, among: Iterable[str]) -> set[str]:
    """What goes into a site; into a block also what it contains, since its output is made of that."""
    made = set(site.sources)
    if site.role == "block":
        inside = f"{site.site.attributes.get('path', site.name)}."
        made.update(name for name in among if name.startswith(inside))
    return made


def norm_follows(view: View, measured: Measured) -> bool:
    """Whether anything computed from this site is normalized later, so that its scale does not matter."""
    return any(site.role == "norm" for site in followers(view, measured))


def mean_is_subtracted_later(view: View, measured: Measured) -> bool:
    """Whether a later norm subtracts each channel's mean, and with it what the examples share."""
    return any(site.subtracts_channel_mean for site in followers(view, measured))


def block_ends(view: View) -> list[Measured]:
    """Outputs of blocks (residual blocks, transformer layers) in execution order, the model's output left out."""
    return [m for m in view.activations if m.ends_block and not m.is_output and not m.broken]


def gates(rows: Iterable[Measured]) -> list[Measured]:
    """Layers that give a vector in the middle of a convolutional network, of all sites in execution order: gates
    computed from pooled features, as in squeeze-and-excite blocks."""
    rows = list(rows)
    maps = [i for i, m in enumerate(rows) if not _is_vector(m)]
    inside = rows[maps[0] : maps[-1]] if maps else []
    return [m for m in inside if m.role == "linear" and _is_vector(m)]


def _is_vector(m: Measured) -> bool:
    """One value per example and channel; where the batch axis is not known (a list of images) the first may be it."""
    return m.positions == 1 or (m.examples == 1 and m.positions == m.site.shape[0])


def has_residual_branches(view: View) -> bool:
    return any(m.ends_branch for m in view.activations)


def next_functions(view: View, measured: Measured) -> list[Measured]:
    """The sites that this one goes into directly, through dropout, reshaping and pooling."""
    found: list[Measured] = []
    for site in view.feeds(measured):
        found += next_functions(view, site) if site.role in _TRANSPARENT else [site]
    return found


def previous(view: View, measured: Measured) -> Measured | None:
    """The first site that goes into this one directly, through dropout, reshaping and pooling."""
    for site in view.fed_by(measured):
        return previous(view, site) if site.role in _TRANSPARENT and site.position else site
    return None


def why_trained(view: View) -> str | None:
    """Why the weights are taken for trained ones, or None."""
    if view.training:
        return "the weights are in training"
    if any(row.tracked > 0 for row in view.facts.batch_norms or ()):
        return "the weights are trained: BatchNorm has seen batches before"
    learnt = view.loss < TRAINED * view.facts.loss_of_a_constant
    return "the loss is that of a trained model" if learnt else None


def columns(view: View) -> float:
    """How many columns of numbers go into the network, where all that goes in are vectors; else infinity."""
    vectors = [m for m in view.inputs if len(m.site.shape) == 2 and not m.site.attributes.get("integer")]
    if not vectors or len(vectors) < len(view.inputs):
        return math.inf
    return float(sum(m.site.shape[1] for m in vectors))
