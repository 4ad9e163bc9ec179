"""Architectures as libraries have them; `make normfree` runs all, `make normfree-table` many more."""

from __future__ import annotations

import copy
from collections import Counter

import pytest
import torch
from normfree_networks import drawn
from torch import nn

from unitgain._batch import tensors_in
from unitgain.normfree import convert
from unitgain.normfree.proving import distance
from unitgain.targets import load_model

# what becomes of each norm: read off the definitions of the architectures, not off the converter
NETWORKS = [
    ("timm:mobilenetv3_small_100", 64, {"absorbed": 34}),
    ("torchvision:shufflenet_v2_x0_5", 64, {"absorbed": 56}),
    pytest.param("timm:resnetv2_50", 64, {"absorbed": 32, "affine": 17}, marks=pytest.mark.slow),
    pytest.param("timm:densenet121", 64, {"absorbed": 59, "affine": 62}, marks=pytest.mark.slow),
    pytest.param("timm:repvgg_a0", 64, {"absorbed": 44, "affine": 17}, marks=pytest.mark.slow),
    pytest.param("timm:mixnet_s", 64, {"absorbed": 49}, marks=pytest.mark.slow),
    pytest.param("timm:levit_128s", 224, {"absorbed": 50, "affine": 2}, marks=pytest.mark.slow),
    pytest.param("timm:dpn68", 64, {"absorbed": 45, "affine": 27}, marks=pytest.mark.slow),
    pytest.param("timm:mobileone_s0", 64, {"absorbed": 191, "affine": 35}, marks=pytest.mark.slow),
    pytest.param("timm:skresnet18", 64, {"absorbed": 36}, marks=pytest.mark.slow),
]


@pytest.mark.reference
@pytest.mark.usefixtures("torchvision_operators")
@pytest.mark.parametrize(("name", "size", "counts"), NETWORKS)
def test_a_library_s_network_is_converted_in_all_three_modes(
    name: str, size: int, counts: dict[str, int]
) -> None:
    pytest.importorskip(name.partition(":")[0])
    model = drawn(load_model(name, {"num_classes": 5}))
    x = torch.randn(2, 3, size, size)
    wide = copy.deepcopy(model).double()
    wanted = outputs(wide, x)
    report = convert(wide, x.double(), "preserve")
    assert Counter(c.how for c in report.changes) == counts
    assert distance(outputs(wide, x), wanted) < 1e-9
    report = convert(wide, x.double(), "fold")
    assert report.classes_left == []
    assert report.batch_norms[1] == 0
    assert distance(outputs(wide, x), wanted) < 1e-9
    report = convert(model, x)
    assert report.refused == []
    assert report.batch_norms[1] == 0
    assert report.coupling[1] is None or report.coupling[1] < 1e-4
    assert all(0.5 <= b.after <= 2 for b in report.blocks)


def outputs(model: nn.Module, x: torch.Tensor) -> list[torch.Tensor]:
    with torch.no_grad():
        return list(tensors_in(model.eval()(x.double())))
