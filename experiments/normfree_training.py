"""Small networks with BatchNorm, stripped of it, and converted: trained from scratch side by side, and fine-tuned.

    python experiments/normfree_training.py --out results.md [--runs runs.jsonl] [--parts 128 4 turned faded] [--finer]
                                            [--networks residual dense mobile] [--arms BatchNorm ...] [--minutes 10]
                                            [--seeds 3]

Fashion-MNIST at 28x28 in one channel, SGD with Nesterov momentum 0.9, cosine schedule. Each arm's rate is the best by
2,000 held-out training images with the first seed: of three, and of more by steps of 4 as long as the best is the
largest or the smallest tried; with --finer also twice and half the best. Then --seeds seeds with that rate, accuracy on
the 10,000 test images. Parts "128" and "4" are batch sizes of training from scratch. "turned" and "faded" are
fine-tuning at batch 2: networks trained with BatchNorm at batch 128 go on with images turned upside down, or with
images of two fifths of the contrast that are brighter by as much, for which frozen statistics are wrong. "single" is
"turned" with one image a step, "noisy" is "turned" with three tenths of the training labels drawn at random.

    BatchNorm    as it is
    stripped     its BatchNorms removed, biases added, AGC (the rate decides whether it trains)
    converted    ug.normfree.convert(model, batch), AGC on all parameters, the head's too
    preserved    ug.normfree.convert(model, batch, "preserve"), AGC with ug.normfree.clipping_for(batch size)
    frozen       BatchNorm in evaluation mode while it trains
    frozen, AGC  likewise, with the clipping that the preserved network has
    GroupNorm    each BatchNorm replaced by GroupNorm with weight and bias copied
    ..., 0.02    AGC with that factor
    ..., re-estimated    after statistics have been measured anew on 512 of the images to come, without labels

A file of --runs keeps every finished training, so that one that was interrupted (or stopped by --minutes) goes on.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import unitgain as ug
from unitgain.data import load_fashion_mnist

RATES = {"128": (0.2, 0.05, 0.0125), "4": (0.05, 0.0125, 0.003), "turned": (0.02, 0.005, 0.00125)}
RATES |= dict.fromkeys(("faded", "single", "noisy"), RATES["turned"])
AGC_RATES = {"128": 16, "4": 4, "turned": 4, "faded": 4, "single": 4, "noisy": 4}  # times as much with AGC
WIDER = 4  # between one rate and the next
MOST_RATES = 6
STEPS = {"128": 200, "4": 600, "turned": 600, "faded": 600, "single": 1200, "noisy": 600}
SIZES = {"128": 128, "4": 4, "turned": 2, "faded": 2, "single": 1, "noisy": 2}
NOISE = {"noisy": 0.3}  # the share of the training labels that are drawn at random


# ---- networks ----------------------------------------------------------------------------------------------


def conv(channels: int, out: int, size: int = 3, stride: int = 1, groups: int = 1) -> nn.Conv2d:
    return nn.Conv2d(channels, out, size, stride, size // 2, groups=groups, bias=False)


class Residual(nn.Module):
    """ResNet's basic block."""

    def __init__(self, channels: int, out: int, stride: int):
        super().__init__()
        self.conv1, self.norm1 = conv(channels, out, 3, stride), nn.BatchNorm2d(out)
        self.conv2, self.norm2 = conv(out, out), nn.BatchNorm2d(out)
        same = stride == 1 and channels == out
        self.skip = (
            nn.Identity() if same else nn.Sequential(conv(channels, out, 1, stride), nn.BatchNorm2d(out))
        )

    def forward(self, x: Tensor) -> Tensor:
        branch = self.norm2(self.conv2(F.relu(self.norm1(self.conv1(x)))))
        return F.relu(branch + self.skip(x))


class Inverted(nn.Module):
    """MobileNetV2's inverted residual."""

    def __init__(self, channels: int, out: int, stride: int, wider: int = 4):
        super().__init__()
        inside = channels * wider
        self.layers = nn.Sequential(
            conv(channels, inside, 1), nn.BatchNorm2d(inside), nn.ReLU6(),
            conv(inside, inside, 3, stride, groups=inside), nn.BatchNorm2d(inside), nn.ReLU6(),
            conv(inside, out, 1), nn.BatchNorm2d(out),
        )  # fmt: skip
        self.residual = stride == 1 and channels == out

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x) if self.residual else self.layers(x)


class Dense(nn.Module):
    """DenseNet's layer: its output is concatenated to its input."""

    def __init__(self, channels: int, growth: int):
        super().__init__()
        inside = 2 * growth
        self.norm1, self.conv1 = nn.BatchNorm2d(channels), conv(channels, inside, 1)
        self.norm2, self.conv2 = nn.BatchNorm2d(inside), conv(inside, growth)

    def forward(self, x: Tensor) -> Tensor:
        new = self.conv2(F.relu(self.norm2(self.conv1(F.relu(self.norm1(x))))))
        return torch.cat([x, new], 1)


def _head(channels: int) -> list[nn.Module]:
    return [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 10)]


def residual() -> nn.Module:
    """ResNet-14: three stages of two blocks."""
    layers: list[nn.Module] = [conv(1, 16, 3, 2), nn.BatchNorm2d(16), nn.ReLU()]
    channels = 16
    for out, stride in ((16, 1), (16, 1), (32, 2), (32, 1), (64, 2), (64, 1)):
        layers.append(Residual(channels, out, stride))
        channels = out
    return nn.Sequential(*layers, *_head(64))


def mobile() -> nn.Module:
    """MobileNetV2 with 9 blocks."""
    layers: list[nn.Module] = [conv(1, 8, 3, 2), nn.BatchNorm2d(8), nn.ReLU6()]
    channels = 8
    for out, stride in ((8, 1), (12, 2), (12, 1), (12, 1), (24, 2), (24, 1), (24, 1), (32, 1), (32, 1)):
        layers.append(Inverted(channels, out, stride))
        channels = out
    return nn.Sequential(*layers, conv(32, 96, 1), nn.BatchNorm2d(96), nn.ReLU6(), *_head(96))


def dense() -> nn.Module:
    """DenseNet with three stages of five layers, 33 convolutions."""
    layers: list[nn.Module] = [conv(1, 16, 3, 2)]
    channels = 16
    for stage in range(3):
        for _ in range(5):
            layers.append(Dense(channels, 8))
            channels += 8
        if stage < 2:
            layers += [nn.BatchNorm2d(channels), nn.ReLU(), conv(channels, channels // 2, 1), nn.AvgPool2d(2)]
            channels //= 2
    return nn.Sequential(*layers, nn.BatchNorm2d(channels), nn.ReLU(), *_head(channels))


NETWORKS: dict[str, Callable[[], nn.Module]] = {"residual": residual, "dense": dense, "mobile": mobile}


# ---- arms --------------------------------------------------------------------------------------------------


def exchanged(model: nn.Module, other: Callable[[nn.BatchNorm2d], nn.Module]) -> nn.Module:
    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, nn.BatchNorm2d):
                setattr(module, name, other(child))
    return model


def stripped(model: nn.Module, images: Tensor) -> nn.Module:
    exchanged(model, lambda norm: nn.Identity())
    for module in model.modules():  # BatchNorm made the bias redundant
        if isinstance(module, nn.Conv2d) and module.bias is None:
            module.bias = nn.Parameter(torch.zeros(module.out_channels))
    return model


def group_norm(model: nn.Module, images: Tensor) -> nn.Module:
    def other(norm: nn.BatchNorm2d) -> nn.Module:
        made = nn.GroupNorm(math.gcd(8, norm.num_features), norm.num_features)
        made.load_state_dict({"weight": norm.weight, "bias": norm.bias})
        return made

    return exchanged(model, other)


class Frozen(nn.BatchNorm2d):
    """In evaluation mode for ever."""

    def train(self, mode: bool = True) -> Frozen:
        return super().train(False)


def frozen(model: nn.Module, images: Tensor) -> nn.Module:
    def other(norm: nn.BatchNorm2d) -> nn.Module:
        made = Frozen(norm.num_features)
        made.load_state_dict(norm.state_dict())
        return made.eval()

    return exchanged(model, other)


def _same(model: nn.Module, images: Tensor) -> nn.Module:
    return model


def preserved(model: nn.Module, images: Tensor) -> nn.Module:
    return ug.normfree.convert(model, images[:64], "preserve").model


@torch.no_grad()
def re_estimated(model: nn.Module, images: Tensor) -> nn.Module:
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the mean over batches
    model.train()
    for some in images.split(64):
        model(some)
    for norm, momentum in zip(norms, momenta):
        norm.momentum = momentum
    return model


Arm = tuple[Callable[[nn.Module, Tensor], nn.Module], dict[str, Any] | None]  # the change; AGC's arguments
AGC: dict[str, Any] = {}
FROM_SCRATCH: dict[str, Arm] = {
    "BatchNorm": (_same, None),
    "stripped": (stripped, AGC),
    "converted": (
        lambda model, images: ug.normfree.convert(model, images[:64]).model,
        {**AGC, "exclude": ()},
    ),
}
TUNED: dict[str, Arm] = {
    "BatchNorm": (_same, None),
    "frozen": (frozen, None),
    "frozen, AGC": (frozen, AGC),
    "frozen, re-estimated": (lambda model, images: frozen(re_estimated(model, images), images), None),
    "GroupNorm": (group_norm, None),
    "preserved, no AGC": (preserved, None),
    "preserved": (preserved, AGC),
    "preserved, 0.02": (preserved, {"clipping": 0.02}),
    "preserved, re-estimated": (lambda model, images: preserved(re_estimated(model, images), images), AGC),
}
SHIFTS: dict[str, Callable[[Tensor], Tensor]] = {
    **dict.fromkeys(("turned", "single", "noisy"), lambda x: x.flip(2)),
    "faded": lambda x: 0.4 * x + 0.4 * (1 - 0.286) / 0.353,  # white, 1 before normalizing, is 0.8 of the way
}


# ---- training ----------------------------------------------------------------------------------------------


def train(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    steps: int,
    size: int,
    rate: float,
    clipping: Mapping[str, Any] | None,
) -> float:
    """Trains in place; seconds a step."""
    optimizer = torch.optim.SGD(model.parameters(), rate, momentum=0.9, nesterov=True)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: 0.5 * (1 + math.cos(math.pi * step / steps))
    )
    if clipping is not None:
        ug.optim.AGC(optimizer, model, **clipping)
    model.train()
    order = torch.randperm(len(x))
    started = time.process_time()
    for step in range(steps):
        chosen = order[torch.arange(step * size, (step + 1) * size) % len(order)]
        loss = F.cross_entropy(model(x[chosen]), y[chosen])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if not loss.isfinite():
            break
    return (time.process_time() - started) / steps


@torch.no_grad()
def accuracy(model: nn.Module, x: Tensor, y: Tensor) -> float:
    model.eval()
    return sum(int((model(a).argmax(1) == b).sum()) for a, b in zip(x.split(500), y.split(500))) / len(x)


class Runs:
    """Finished trainings, in a file of JSON lines."""

    def __init__(self, path: str | None, minutes: float):
        self.path = Path(path) if path else None
        self.end = time.monotonic() + 60 * minutes
        kept = self.path.read_text(encoding="utf-8").splitlines() if self.path and self.path.exists() else []
        self.done = {tuple(row["key"]): row for row in map(json.loads, kept)}

    def get(self, key: tuple[object, ...], work: Callable[[], dict[str, float]]) -> dict[str, float]:
        if key not in self.done:
            if time.monotonic() > self.end:
                raise TimeoutError
            row = {"key": list(key), **work()}
            self.done[key] = row
            print(row, flush=True)
            if self.path:
                with self.path.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(row) + "\n")
        return self.done[key]


class Data:
    def __init__(self) -> None:
        found = load_fashion_mnist()

        def images(pixels: Tensor) -> Tensor:
            x = pixels.float().reshape(-1, 1, 28, 28)
            return ((x if x.max() <= 1 else x / 255) - 0.286) / 0.353

        self.x, self.y = images(found.train.images[:-2000]), found.train.labels[:-2000].long()
        self.held_out = images(found.train.images[-2000:]), found.train.labels[-2000:].long()
        self.test = images(found.test.images), found.test.labels.long()


def trained(name: str, seed: int, data: Data, kept: dict[tuple[str, int], nn.Module]) -> nn.Module:
    """A network trained with BatchNorm at batch 128, to go on from."""
    if (name, seed) not in kept:
        torch.manual_seed(seed)
        model = NETWORKS[name]()
        train(model, data.x, data.y, STEPS["128"], 128, 0.2, None)
        kept[name, seed] = model
    return copy.deepcopy(kept[name, seed])


def _noisy(y: Tensor, share: float) -> Tensor:
    """The same labels are wrong for every arm and seed."""
    own = torch.Generator().manual_seed(0)
    wrong = torch.rand(len(y), generator=own) < share
    return torch.where(wrong, torch.randint(10, y.shape, generator=own), y)


def one(
    part: str, name: str, arm: str, rate: float, seed: int, data: Data, kept: dict[tuple[str, int], nn.Module]
) -> dict[str, float]:
    tune = part in SHIFTS
    change, clipping = (TUNED if tune else FROM_SCRATCH)[arm]
    turned = SHIFTS.get(part, lambda x: x)
    torch.manual_seed(seed)
    model = trained(name, seed, data, kept) if tune else NETWORKS[name]()
    model = change(model, turned(data.x[-512:]))
    torch.manual_seed(seed)
    if clipping is not None:
        clipping = {"clipping": ug.normfree.clipping_for(SIZES[part]), **clipping}
    x, y = turned(data.x), _noisy(data.y, NOISE.get(part, 0.0))
    seconds = train(model, x, y, STEPS[part], SIZES[part], rate, clipping)
    found = {"seconds": seconds}
    for split, (x, y) in (("held_out", data.held_out), ("test", data.test)):
        found[split] = accuracy(model, turned(x), y)
    return found


def tuned(rates: list[float], score: Callable[[float], float], finer: bool) -> float:
    """The best of the rates, largest first; they get more where the best one is at an end. finer: twice and half it."""
    while True:
        best = max(rates, key=score)
        if best not in (rates[0], rates[-1]) or len(rates) >= MOST_RATES:
            break
        if best == rates[0]:
            rates.insert(0, round(best * WIDER, 6))
        else:
            rates.append(round(best / WIDER, 6))
    if finer:
        rates[:] = sorted({*rates, round(best * 2, 6), round(best / 2, 6)}, reverse=True)
    return max(rates, key=score)


def rows_of(
    part: str, names: Sequence[str], arms: Sequence[str], finer: bool, runs: Runs, data: Data, seeds: int
) -> list[str]:
    rows, kept = [], {}
    for name in names:
        for arm in TUNED if part in SHIFTS else FROM_SCRATCH:
            clipping = (TUNED if part in SHIFTS else FROM_SCRATCH)[arm][1]
            if arms and arm not in arms:
                continue
            rates = [rate if clipping is None else AGC_RATES[part] * rate for rate in RATES[part]]

            def result(rate: float, seed: int, name: str = name, arm: str = arm) -> dict[str, float]:
                return runs.get(
                    (part, name, arm, rate, seed), lambda: one(part, name, arm, rate, seed, data, kept)
                )

            best = tuned(rates, lambda rate: result(rate, 0)["held_out"], finer)
            found = [result(best, seed) for seed in range(seeds)]
            test = [100 * row["test"] for row in found]
            spread = f"{statistics.mean(test):.1f} ({min(test):.1f} to {max(test):.1f})"
            step = 1000 * statistics.median(row["seconds"] for row in found)
            others = ", ".join(f"{rate:g}: {100 * result(rate, 0)['held_out']:.1f}" for rate in rates)
            rows.append(f"| {name} | {arm} | {spread} | {best:g} | {others} | {step:.1f} |")
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description="BatchNorm, stripped and converted, side by side")
    parser.add_argument("--out")
    parser.add_argument("--runs", help="a file that keeps finished trainings")
    parser.add_argument("--parts", nargs="*", default=list(STEPS))
    parser.add_argument("--networks", nargs="*", default=list(NETWORKS))
    parser.add_argument("--arms", nargs="*", default=[], help="only these")
    parser.add_argument("--finer", action="store_true", help="also twice and half the best rate")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--minutes", type=float, default=math.inf)
    arguments = parser.parse_args()
    data, runs = Data(), Runs(arguments.runs, arguments.minutes)
    titles = {
        "128": "From scratch at batch 128",
        "4": "From scratch at batch 4",
        "turned": "Fine-tuning at batch 2 on images turned upside down",
        "faded": "Fine-tuning at batch 2 on faded images",
        "single": "Fine-tuning with one image a step on images turned upside down",
        "noisy": "Fine-tuning at batch 2 on images turned upside down with wrong labels",
    }
    lines = [
        "# BatchNorm, stripped and converted",
        "",
        f"`python experiments/normfree_training.py`: Fashion-MNIST, {STEPS['128']} steps at batch 128, {STEPS['4']} at "
        f"batch 4, {STEPS['turned']} fine-tuning at batch 2. torch {torch.__version__}, one "
        "core of a busy machine (milliseconds of processor time). Test accuracy in percent, mean and range of "
        f"{arguments.seeds} seeds, at the rate that was best on held-out images with the first seed; the column of "
        "held-out accuracies has every rate that was tried.",
    ]
    for part in arguments.parts:
        head = "| network | arm | test accuracy | rate | held out, by rate | a step, ms |"
        rows = rows_of(part, arguments.networks, arguments.arms, arguments.finer, runs, data, arguments.seeds)
        lines += ["", f"## {titles[part]}", "", head, "|---|---|---|---|---|---|", *rows]
    print("\n".join(lines))
    if arguments.out:
        Path(arguments.out).write_text("\n".join([*lines, ""]), encoding="utf-8")


if __name__ == "__main__":
    main()
