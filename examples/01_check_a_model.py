"""Check a model before it is trained: what is wrong, what to do, and whether it helped.

    python examples/01_check_a_model.py

An image classifier with two classic mistakes: a softmax before cross entropy, and sigmoids with PyTorch's
default initialization, through which hardly any gradient comes back. Writes report-before.html and
report-after.html into the working directory.
"""

import torch
from torch import nn

import unitgain as ug


def sigmoid_network(depth: int = 6, width: int = 128) -> nn.Module:
    layers: list[nn.Module] = [nn.Flatten(), nn.Linear(784, width), nn.Sigmoid()]
    for _ in range(depth - 1):
        layers += [nn.Linear(width, width), nn.Sigmoid()]
    return nn.Sequential(*layers, nn.Linear(width, 10), nn.Softmax(dim=1))


def relu_network(depth: int = 6, width: int = 128) -> nn.Module:
    layers: list[nn.Module] = [nn.Flatten(), nn.Linear(784, width), nn.ReLU()]
    for _ in range(depth - 1):
        layers += [nn.Linear(width, width), nn.ReLU()]
    for layer in layers:
        if isinstance(layer, nn.Linear):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            nn.init.zeros_(layer.bias)
    return nn.Sequential(*layers, nn.Linear(width, 10))


def main() -> None:
    torch.manual_seed(0)
    images = torch.randn(128, 1, 28, 28)  # stands for a normalized batch of your own
    labels = torch.randint(0, 10, (128,))

    before = ug.check(sigmoid_network(), (images, labels))
    print(before)
    before.save("report-before.html")

    after = ug.check(relu_network(), (images, labels))
    print(f"\nAfter the repair: {after.verdict}")
    after.save("report-after.html")

    for finding in before.findings:
        print(f"  {finding.code} {finding.name}: {finding.remedy}")
    assert not before.ok
    assert after.ok


if __name__ == "__main__":
    main()
