"""Operations cost a launch each on a GPU, which decides the time of small ones: their numbers are bounded here.

`python tests/accelerator/test_operation_counts.py` prints the numbers for whole networks.
"""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from pretended import moved, there, watched
from torch import Tensor, nn

import unitgain as ug


def of_a_step(model: nn.Module, x: Tensor) -> int:
    """Operations of forward and backward."""
    with watched() as watch:
        model(x).sum().backward()
    return watch.launches


@pytest.mark.parametrize(("eps_mode", "most"), [("additive", 4), ("clamp", 12)])
@pytest.mark.parametrize("channels_last", [False, True])
def test_standardizing_a_weight_costs_no_more_operations_than_as_one_batch_norm(
    eps_mode: str, most: int, channels_last: bool
) -> None:
    """timm's is 4 in all: gain times constant, batch norm, and their backward passes."""
    layer = ug.nn.ScaledStdConv2d(8, 8, 3, eps_mode=eps_mode)
    if channels_last:
        layer = layer.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    x = there(torch.randn(2, 8, 5, 5))
    plain = of_a_step(moved(layer.folded()), x)
    assert of_a_step(moved(layer), x) - plain <= most


def test_the_number_of_operations_of_a_sampled_step_is_kept_small() -> None:
    torch.manual_seed(0)
    model = moved(ug.models.create("resnet_tiny", num_classes=5))
    x, y = there(torch.randn(8, 3, 32, 32)), there(torch.randint(0, 5, (8,)))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, foreach=True)

    def step() -> None:
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()

    with watched() as watch:
        step()
        watch.forget()
        step()
        bare = watch.launches
        with ug.Probe(model, optimizer, strict=True, every=1) as probe:
            step()
            step()
            watch.forget()
            step()
            extra = watch.launches - bare
        sites = sum(len(probe.record.values(kind, 2)) for kind in ("activation", "gradient", "update"))
    assert extra < 15 * sites, f"{extra} operations for {sites} sites beside the step's own {bare}"
