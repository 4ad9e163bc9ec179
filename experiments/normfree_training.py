"""Architectures with BatchNorm, stripped of it, and converted: trained side by side for a short while.

    python experiments/normfree_training.py --out results.md [--steps 150] [--batch 32] [--seeds 0 1]

Fashion-MNIST, enlarged to 32x32 and repeated to three channels, SGD with Nesterov momentum 0.9, cosine
schedule, the best of two learning rates for each arm by 1,000 held-out training images, then accuracy on 1,000 test
images. "stripped" is the network with its BatchNorms removed, biases and AGC; "converted" is `ug.normfree.convert` and
AGC. Short runs: they show what trains, not what is best.
"""

from __future__ import annotations

import argparse
import math
import time

import torch
from torch import Tensor, nn

import unitgain as ug
from unitgain.data import load_fashion_mnist
from unitgain.normfree import convert
from unitgain.targets import load_model

NETWORKS = ["timm:mobilenetv2_050", "timm:resnet10t", "timm:regnety_002"]
RATES = (0.05, 0.01)


def network(name: str) -> nn.Module:
    return load_model(name, {"num_classes": 10})


def stripped(model: nn.Module) -> nn.Module:
    for module in list(model.modules()):
        for key, child in module.named_children():
            if isinstance(child, nn.modules.batchnorm._BatchNorm):
                parts = [c for c in child.children() if not isinstance(c, nn.Identity)]
                setattr(module, key, nn.Sequential(*parts) if parts else nn.Identity())
    for module in model.modules():  # BatchNorm made the bias redundant
        if isinstance(module, nn.Conv2d) and module.bias is None:
            module.bias = nn.Parameter(torch.zeros(module.out_channels))
    return model


def train(
    model: nn.Module, data: tuple[Tensor, Tensor], steps: int, size: int, rate: float, agc: bool
) -> None:
    optimizer = torch.optim.SGD(model.parameters(), rate, momentum=0.9, nesterov=True)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: 0.5 * (1 + math.cos(math.pi * step / steps))
    )
    if agc:
        ug.optim.AGC(optimizer, model, clipping=0.02)
    model.train()
    order = torch.randperm(len(data[0]))
    for step in range(steps):
        chosen = order[torch.arange(step * size, (step + 1) * size) % len(order)]
        loss = nn.functional.cross_entropy(model(data[0][chosen]), data[1][chosen])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()


@torch.no_grad()
def accuracy(model: nn.Module, data: tuple[Tensor, Tensor]) -> float:
    model.eval()
    right = sum(int((model(x).argmax(1) == y).sum()) for x, y in zip(data[0].split(250), data[1].split(250)))
    return right / len(data[0])


def images(pixels: Tensor) -> Tensor:
    large = nn.functional.interpolate(pixels.float().reshape(-1, 1, 28, 28), size=32, mode="bilinear")
    return ((large - 0.286) / 0.353 if large.max() <= 1 else (large / 255 - 0.286) / 0.353).repeat(1, 3, 1, 1)


def main() -> None:
    parser = argparse.ArgumentParser(description="BatchNorm, stripped and converted, side by side")
    parser.add_argument("--out")
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1])
    parser.add_argument(
        "--networks", nargs="*", default=["timm:mobilenetv2_050", "timm:resnet10t", "timm:regnety_002"]
    )
    arguments = parser.parse_args()
    found = load_fashion_mnist()
    count = max(arguments.steps * arguments.batch, 64)
    training = images(found.train.images[:count]), found.train.labels[:count].long()
    held_out = images(found.train.images[-1000:]), found.train.labels[-1000:].long()
    test = images(found.test.images[:1000]), found.test.labels[:1000].long()

    def converted(model: nn.Module) -> nn.Module:
        return convert(model, training[0][:64]).model

    arms = {"BatchNorm": (lambda m: m, False), "stripped": (stripped, True), "converted": (converted, True)}
    rows = []
    for name in arguments.networks:
        for arm, (change, agc) in arms.items():
            scores, seconds = [], 0.0
            for seed in arguments.seeds:
                tried = []
                for rate in RATES:
                    torch.manual_seed(seed)
                    model = change(network(name))
                    torch.manual_seed(seed)
                    started = time.perf_counter()
                    train(model, training, arguments.steps, arguments.batch, rate, agc)
                    seconds = time.perf_counter() - started
                    tried.append((accuracy(model, held_out), rate, accuracy(model, test)))
                scores.append(max(tried))
            text = ", ".join(f"{score:.3f} (rate {rate:g})" for _, rate, score in scores)
            rows.append(f"| {name} | {arm} | {text} | {1000 * seconds / arguments.steps:.0f} ms |")
            print(rows[-1], flush=True)
    if arguments.out:
        head = (
            f"`python experiments/normfree_training.py --steps {arguments.steps} --batch {arguments.batch}`: "
            f"Fashion-MNIST at 32 x 32, seeds {arguments.seeds}, rates {RATES} chosen on held-out images. torch "
            f"{torch.__version__}, one core of a busy machine: step times are rough."
        )
        table = ["| network | arm | test accuracy by seed | a step |", "|---|---|---|---|", *rows]
        lines = ["# BatchNorm, stripped and converted", "", head, "", *table, ""]
        with open(arguments.out, "w", encoding="utf-8") as file:
            file.write("\n".join(lines))


if __name__ == "__main__":
    main()
