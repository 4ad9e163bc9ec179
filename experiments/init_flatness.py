"""How flat init_ keeps deep stacks, and what it does to their gradients.

    OMP_NUM_THREADS=1 python experiments/init_flatness.py [width] [seeds]

30 Linear layers of the width, each followed by the activation. Inputs: 512 normal examples whose norms vary by 15%
(log-normal), not used by init_. Printed: largest deviation of any layer's std from the median one, before and after
the activation; the std of the gradient at the input over that at the output; the worst of all seeds.
"""

from __future__ import annotations

import sys

import torch
from torch import nn

import unitgain as ug

ACTIVATIONS = {
    "tanh": nn.Tanh, "ReLU": nn.ReLU, "leaky ReLU (0.2)": lambda: nn.LeakyReLU(0.2), "GELU": nn.GELU, "SiLU": nn.SiLU,
    "SELU": nn.SELU, "Mish": nn.Mish, "GeneralReLU(0.1, 0.4)": lambda: ug.nn.GeneralReLU(0.1, 0.4),
    "GeneralReLU(0.1, 0.4, 2)": lambda: ug.nn.GeneralReLU(0.1, 0.4, 2.0),
}  # fmt: skip


def measure(activation, width: int, seed: int, depth: int = 30, **options) -> tuple[float, float, float]:
    torch.manual_seed(seed)
    model = nn.Sequential(*[m for _ in range(depth) for m in (nn.Linear(width, width), activation())])
    ug.init_(model, batch=torch.zeros(2, width), **options)
    x = torch.randn(512, width) * torch.exp(0.15 * torch.randn(512, 1))
    x = (x / x.std()).requires_grad_()
    stds, y = [], x
    for module in model:
        y = module(y)
        stds.append(y.detach().std())
    direction = torch.randn_like(y)
    y.backward(direction)
    assert x.grad is not None
    before, after = torch.stack(stds[::2]), torch.stack(stds[1::2])
    far = [float((s / s.median() - 1).abs().max()) for s in (before, after)]
    return far[0], far[1], float(x.grad.std() / direction.std())


if __name__ == "__main__":
    width, seeds = int((sys.argv[1:2] or ["512"])[0]), int((sys.argv[2:3] or ["5"])[0])
    print(
        "| activation | before | after | gradient | textbook: before | gradient |\n|---|---|---|---|---|---|"
    )
    for name, activation in ACTIVATIONS.items():
        rows = [measure(activation, width, seed) for seed in range(seeds)]
        plain = [measure(activation, width, seed, flat=False) for seed in range(seeds)]
        gradient, other = [r[2] for r in rows], [r[2] for r in plain]
        print(
            f"| {name} | {max(r[0] for r in rows):.1%} | {max(r[1] for r in rows):.1%} | "
            f"{min(gradient):.2g} to {max(gradient):.2g} | {max(r[0] for r in plain):.1%} | "
            f"{min(other):.2g} to {max(other):.2g} |",
            flush=True,
        )
