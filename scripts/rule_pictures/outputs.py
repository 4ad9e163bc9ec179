"""Pictures of outputs, targets and the loss."""

from __future__ import annotations

import copy
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.axes import Axes
from torch import Tensor, nn

from ._example import Example
from ._paper import GUIDE, Draw, from_zero, guide, labels, matrix, percent, short, whole_numbers

SHOWN = 80  # points of a scatter: more make the file large and show no more


def confidence(axes: Axes, example: Example, ink: str) -> str:
    """The probability that an untrained classifier gives to the class that it holds for the likeliest."""
    chosen = example.outputs.softmax(1).amax(1)
    classes = example.outputs.shape[1]
    axes.hist(chosen.numpy(), bins=np.linspace(0, 1, 26).tolist(), color=ink, alpha=0.75)
    guide(axes, 1 / classes, "an even guess", upright=True)
    labels(axes, "probability of the likeliest class", "examples")
    return f"loss {short(example.loss(example.outputs, example.targets).item())}"


def each_output(axes: Axes, example: Example, ink: str) -> str:
    """Outputs of some examples, a row for each."""
    values = example.outputs[:16]
    matrix(axes, values.numpy(), ink, "output", "example", signed=True)
    spread = (values - values.mean(0)).abs().max().item()
    return "all rows the same" if spread < 1e-5 else "rows differ"


def histogram(low: float, high: float, label: str) -> Draw:
    def draw(axes: Axes, example: Example, ink: str) -> str:
        values = example.outputs.flatten()
        axes.hist(
            values.clamp(low, high).numpy(), bins=np.linspace(low, high, 31).tolist(), color=ink, alpha=0.75
        )
        labels(axes, label, "outputs")
        least, most = values.min().item(), values.max().item()
        return f"{short(least)} to {short(most)}" if least < most else f"all {short(most)}"

    return draw


def training(steps: int, floor: Callable[[Example], float], words: str) -> Draw:
    """The loss of the batch over steps of Adam on it, and what it cannot fall below."""

    def draw(axes: Axes, example: Example, ink: str) -> str:
        losses = example.trained(steps)[1]
        axes.plot(losses, color=ink)
        lowest = floor(example)
        if lowest > 1e-3:
            guide(axes, lowest, words, below=True)
        from_zero(axes)
        labels(axes, "step of Adam on the batch", "loss")
        return f"reaches {short(losses[-1])}" if losses[-1] > 0.005 else "reaches 0"

    return draw


def lowest_of_certain_answers(example: Example) -> float:
    """The loss of outputs that are as right as the model's last function lets them be."""
    last = example.model[-1] if isinstance(example.model, nn.Sequential) else nn.Identity()
    right = (
        F.one_hot(example.targets, example.outputs.shape[1])
        if example.targets.dtype == torch.long
        else example.targets
    )
    scores = 60.0 * (2 * right - 1)
    bounded = not isinstance(last, nn.Linear)
    return example.loss(last(scores) if bounded else scores, example.targets).item()


def against_targets(steps: int, alike: bool = True) -> Draw:
    """Outputs against targets after some training. alike: whether both axes have one scale."""

    def draw(axes: Axes, example: Example, ink: str) -> str:
        model, _ = example.trained(steps)
        with torch.no_grad():
            found = model(*example.inputs).flatten()
        wanted = example.targets.flatten()
        low, high = wanted.min().item(), wanted.max().item()
        axes.plot([low, high], [low, high], color=GUIDE, lw=1.1, ls=":")
        axes.plot(wanted[:SHOWN].numpy(), found[:SHOWN].numpy(), "o", color=ink, ms=3, alpha=0.6, mew=0)
        labels(axes, "target", f"output after {steps} steps")
        axes.locator_params(nbins=4)
        return f"rms error {short((found - wanted).square().mean().sqrt().item())}"

    return draw


def of_each_example(axes: Axes, example: Example, ink: str) -> str:
    """Each example's own loss, at its error; crosses where it is NaN."""
    errors = (example.outputs - example.targets).flatten()[:SHOWN]
    pairs = list(zip(example.outputs[:SHOWN], example.targets[:SHOWN]))
    losses = torch.stack([example.loss(out[None], target[None]) for out, target in pairs])
    finite = losses.isfinite()
    axes.plot(errors[finite].numpy(), losses[finite].numpy(), "o", color=ink, ms=3, mew=0, alpha=0.7)
    axes.plot(errors[~finite].numpy(), torch.full(((~finite).sum(),), -4.5).numpy(), "x", color=ink, ms=4)
    guide(axes, -4.1, "crosses: NaN", below=False)
    axes.set_ylim(-5, 2.5)
    labels(axes, "output minus target", "loss of one example")
    return f"NaN for {percent(1 - finite.float().mean().item())}" if not finite.all() else "finite"


def along(direction: Callable[[Example], Tensor], label: str, top: float, bottom: float = 0.0) -> Draw:
    """The loss of outputs that move along a direction, from `bottom` times it to `top` times."""

    def draw(axes: Axes, example: Example, ink: str) -> str:
        way = direction(example)
        distances = torch.linspace(bottom, top, 41)
        losses = [example.loss(t * way, example.targets).item() for t in distances]
        axes.plot(distances.numpy(), losses, color=ink)
        axes.locator_params(nbins=4)
        labels(axes, label, "loss")
        lowest = int(np.argmin(losses))
        if lowest in (0, len(losses) - 1) and losses[lowest] > -1e-6:
            return "falls to 0" if losses[lowest] < 1e-3 else f"falls to {short(losses[lowest])}"
        return "falls without end"

    return draw


def right_answers(example: Example) -> Tensor:
    """1 where the target is in the upper half of its range, -1 elsewhere."""
    return torch.where(example.targets > example.targets.mean(), 1.0, -1.0)


def turned(axes: Axes, example: Example, ink: str) -> str:
    """The loss of outputs that are turned from the opposite of the targets to the targets."""
    targets = example.targets
    across = torch.randn(targets.shape, generator=torch.Generator().manual_seed(1))
    across -= (across * targets).sum(1, keepdim=True) / targets.square().sum(1, keepdim=True) * targets
    across *= targets.norm(dim=1, keepdim=True) / across.norm(dim=1, keepdim=True)
    angles = torch.linspace(180, 0, 37)
    losses = [
        example.loss(a.deg2rad().cos() * targets + a.deg2rad().sin() * across, targets).item() for a in angles
    ]
    axes.plot(angles.numpy(), losses, color=ink)
    axes.set_xticks([0, 90, 180])
    labels(axes, "angle between output and target", "loss")
    return "highest at the targets" if losses[-1] > losses[0] else "lowest at the targets"


def directions(axes: Axes, example: Example, ink: str) -> str:
    """Variance of the targets along their main directions, and that of the likelihood that the loss is that of."""
    latent = example.record.facts.comparison.latent
    assert latent is not None
    values = torch.linalg.eigvalsh(torch.cov(example.targets.T)).flip(0)[:8]
    axes.plot(range(1, len(values) + 1), values.numpy(), "o", color=ink)
    guide(axes, latent.variance, "noise that the loss assumes", below=latent.variance > float(values[0]))
    from_zero(axes)
    whole_numbers(axes)
    labels(axes, "direction of the data", "variance")
    worth = int((values > latent.variance).sum())
    return f"{worth or 'no'} direction{'s' * (worth != 1)} worth coding"


def downhill(example: Example) -> Tensor:
    """Against the gradient of the loss on the outputs, of length one for each example on average."""
    outputs = example.outputs.clone().requires_grad_()
    (slope,) = torch.autograd.grad(example.loss(outputs, example.targets), outputs)
    return -slope / slope.square().sum(1).mean().sqrt()


def pull(low: float, high: float) -> Draw:
    """How strongly the loss pulls the right class's score up, over that score, where all others are zero."""

    def draw(axes: Axes, example: Example, ink: str) -> str:
        model = example.model
        last = (
            model[-1]
            if isinstance(model, nn.Sequential) and not isinstance(model[-1], nn.Linear)
            else nn.Identity()
        )
        classes = example.outputs.shape[1]
        labels_ = torch.zeros(1, dtype=torch.long)
        target = labels_ if example.targets.dtype == torch.long else F.one_hot(labels_, classes).float()
        scores = torch.linspace(low, high, 81)
        pulls = []
        for score in scores:
            row = F.pad(score[None, None], (0, classes - 1)).requires_grad_()
            (slope,) = torch.autograd.grad(example.loss(last(row), target), row)
            pulls.append(-slope[0, 0].item())
        axes.plot(scores.numpy(), pulls, color=ink)
        from_zero(axes)
        labels(axes, "score of the right class (others: 0)", "pull upwards")
        at = pulls[int(torch.searchsorted(scores, low / 2))]
        return f"pulls {at:.2g} at {low / 2:g}" if abs(at) > 1e-3 else f"no pull at {low / 2:g}"

    return draw


def pairs(axes: Axes, example: Example, ink: str) -> str:
    """Which output the loss compares with which target: its mixed second derivatives."""
    number = 16
    outputs = example.outputs.clone().requires_grad_()
    targets = example.targets.clone().requires_grad_()
    (slope,) = torch.autograd.grad(example.loss(outputs, targets), outputs, create_graph=True)
    rows = [
        torch.autograd.grad(slope.flatten()[i], targets, retain_graph=True)[0].flatten()[:number]
        for i in range(number)
    ]
    values = torch.stack(rows).abs()
    matrix(axes, (values > 0).float().numpy(), ink, "target of example", "output of example")
    return "each with all" if (values > 0).all() else "each with its own"


def label_counts(axes: Axes, example: Example, ink: str) -> str:
    counts = torch.bincount(example.targets, minlength=example.outputs.shape[1])
    axes.bar(range(len(counts)), counts.tolist(), color=ink, width=0.7)
    axes.set_xticks(range(len(counts)))
    labels(axes, "class", "labels in the batch")
    there = int((counts > 0).sum())
    return f"{there} class{'es' * (there > 1)} of {len(counts)}"


def shares_of_classes(axes: Axes, example: Example, ink: str) -> str:
    """Each class's share of the labels, and of the weights that the loss gives them."""
    counts = torch.bincount(example.targets).float()
    loss = example.given[2]
    parts = counts * loss.weight
    share, part = counts / counts.sum(), parts / parts.sum()
    places = np.arange(len(counts))
    axes.bar(places - 0.2, 100 * share.numpy(), 0.36, color=GUIDE, label="of the labels")
    axes.bar(places + 0.2, 100 * part.numpy(), 0.36, color=ink, label="of the loss")
    axes.set_xticks(places, [f"class {i}" for i in places])
    axes.legend(loc="upper right")
    labels(axes, "", "share in %")
    return (
        f"rare class {part[-1] * 100:.1f}% of the loss"
        if part[-1] < 0.1
        else f"rare class {percent(part[-1].item())}"
    )


def in_the_plane(steps: int) -> Draw:
    """Outputs after the example's own steps, on their first two principal axes."""

    def draw(axes: Axes, example: Example, ink: str) -> str:
        model, _ = example.trained(
            steps, lambda parameters: torch.optim.SGD(parameters, lr=0.01, momentum=0.9)
        )
        with torch.no_grad():
            outputs = model(*example.inputs)
        centred = outputs - outputs.mean(0)
        flat = centred @ torch.linalg.svd(centred, full_matrices=False)[2][:2].T
        axes.plot(flat[:SHOWN, 0].numpy(), flat[:SHOWN, 1].numpy(), "o", color=ink, ms=4, alpha=0.7, mew=0)
        axes.set(xlim=(-4, 4), ylim=(-4, 4))
        labels(axes, "first principal axis", f"second, after {steps} steps")
        return f"outputs {short(centred.square().sum(1).mean().sqrt().item())} apart"

    return draw


def read_and_asked(axes: Axes, example: Example, ink: str) -> str:
    """In how many texts the answer that is asked for at one step is the token that was read at another."""
    read, asked = example.inputs[0], example.targets
    same = (asked[:, :, None] == read[:, None, :]).float().mean(0)
    matrix(axes, same.numpy(), ink, "token that is read, step", "answer, step")
    return "just read" if same.diagonal().mean() > 0.99 else "one step ahead"


def counted(axes: Axes, example: Example, ink: str) -> str:
    """Which places the loss counts, by its gradient: real ones and padding."""
    outputs = example.outputs.clone().requires_grad_()
    (slope,) = torch.autograd.grad(example.loss(outputs, example.targets), outputs)
    counts, padding = slope.abs().sum(1) > 0, example.inputs[0] == 0
    order = (~padding).sum(1).argsort()[::3]
    values = (counts & padding).float() - (counts & ~padding).float()
    matrix(axes, -values[order].numpy(), ink, "step (orange: padding)", "example", signed=True)
    return f"{percent((counts & padding).sum().item() / counts.sum().item())} of the loss is padding"


def repeated(axes: Axes, example: Example, ink: str) -> str:
    """The outputs of one example in twelve passes in evaluation mode."""
    torch.manual_seed(0)
    model = example.model.eval()
    with torch.no_grad():
        draws = torch.stack([model(example.inputs[0][:1])[0] for _ in range(12)])
    model.train()
    return dots(axes, draws, ink, "another value each time", "the same each time")


def dots(axes: Axes, draws: Tensor, ink: str, differ: str, same: str) -> str:
    """(draw, output): a column of dots for each output."""
    for unit in range(draws.shape[1]):
        found = draws[:, unit].mul(1000).round().unique() / 1000
        axes.plot([unit] * len(found), found.numpy(), "o", color=ink, ms=4, alpha=0.7, mew=0)
    whole_numbers(axes)
    labels(axes, "output unit", "value for one example")
    return differ if draws.std(0).max() > 1e-5 else same


def both_modes(axes: Axes, example: Example, ink: str) -> str:
    """The loss of the batch in both modes."""
    losses = []
    for train in (True, False):
        model = copy.deepcopy(example.model).train(train)
        with torch.no_grad():
            losses.append(example.loss(model(*example.inputs), example.targets).item())
    places = axes.bar(["training", "evaluation"], losses, color=[GUIDE, ink], width=0.5)
    axes.bar_label(places, [short(loss) for loss in losses], fontsize=10)
    axes.set_yscale("log")
    axes.set_ylim(1e-4, 5)
    labels(axes, "mode", "loss of the batch")
    return f"{short(losses[1] / losses[0])} times the loss"
