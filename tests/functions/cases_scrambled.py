"""Cases of UG204: inputs that were reshaped where they should have been transposed."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from function_rows import CE, MSE, Arguments, Net, healthy, labels, sick
from torch import Tensor, nn


def painted(n: int = 48, channels: int = 3, size: int = 16) -> Tensor:
    """Smooth pictures (N, C, H, W) with some noise, of channels that are alike, as those of photographs are."""
    base = F.interpolate(torch.randn(n, 1 + channels, 4, 4), size=(size, size), mode="bicubic")
    x = base[:, :1] + 0.5 * base[:, 1:] + 0.05 * torch.randn(n, channels, size, size)
    return (x - x.mean()) / x.std()


def look(x: Tensor) -> Arguments:
    channels = x.shape[1]
    model = nn.Sequential(
        nn.Conv2d(channels, 12, 3, 2, 1), nn.GELU(), nn.Conv2d(12, 12, 3, 2, 1), nn.GELU(), nn.AdaptiveAvgPool2d(2),
        nn.Flatten(), nn.Linear(48, 4),
    )  # fmt: skip
    return model, (x, labels(x)), {"loss": CE}


def waves(n: int = 60, steps: int = 16, features: int = 1) -> Tensor:
    """Windows (N, T, F) of oscillations with their own phases and frequencies."""
    phase, rate = 6.3 * torch.rand(n, 1, features), 0.2 + 0.4 * torch.rand(n, 1, features)
    x = torch.sin(phase + rate * torch.arange(steps).view(1, -1, 1)) * 1.4
    return x + 0.02 * torch.randn(x.shape)


def listen(x: Tensor) -> Arguments:
    model = Net(
        lambda net, x: net.head(net.rnn(x)[0][:, -1]), rnn=nn.GRU(x.shape[2], 16, batch_first=True),
        head=nn.Linear(16, 1),
    )  # fmt: skip
    return model, (x, x[:, -1, :1].clone()), {"loss": MSE}


@sick("UG204")
def colours_read_as_rows() -> Arguments:
    x = painted().permute(0, 2, 3, 1).contiguous()
    return look(x.reshape(48, 3, 16, 16))


@sick("UG204")
def two_bands_viewed() -> Arguments:
    x = painted(32, 2, 20).permute(0, 2, 3, 1).contiguous()
    return look(x.view(32, 2, 20, 20))


@sick("UG204")
def four_channels_with_opacity() -> Arguments:
    x = painted(32, 4, 12).permute(0, 2, 3, 1).contiguous()
    return look(x.view(32, 4, 12, 12))


@sick("UG204")
def windows_viewed_time_first() -> Arguments:
    x = waves()
    return listen(x.reshape(16, 60, 1).transpose(0, 1).contiguous())


@sick("UG204")
def windows_of_two_features_viewed() -> Arguments:
    x = waves(50, 12, 2)
    return listen(x.reshape(12, 50, 2).transpose(0, 1).contiguous())


@sick("UG204")
def walks_viewed() -> Arguments:
    x = torch.randn(40, 20, 1).cumsum(1) + 3 * torch.randn(40, 1, 1)
    x = (x - x.mean()) / x.std()
    return listen(x.view(20, 40, 1).transpose(0, 1).contiguous())


# ---- healthy -----------------------------------------------------------------------------------------------------


@healthy("UG204")
def colours_in_front() -> Arguments:
    return look(painted())


@healthy("UG204")
def noise_of_three_channels() -> Arguments:
    return look(torch.randn(48, 3, 16, 16))


@healthy("UG204")
def grey_pictures_three_times() -> Arguments:
    return look(painted(48, 1).expand(-1, 3, -1, -1).contiguous())


@healthy("UG204")
def windows_as_they_are() -> Arguments:
    return listen(waves())


@healthy("UG204")
def windows_that_overlap_in_order() -> Arguments:
    walk = torch.sin(torch.arange(80) * 0.3) + 0.1 * torch.randn(80)
    return listen(walk.unfold(0, 16, 1)[:60, :, None].contiguous())


@healthy("UG204")
def the_same_course_in_all_examples() -> Arguments:
    """Hours of the day, say: neighbours in the batch are alike, and steps are not."""
    course = torch.randn(1, 16, 1)
    return listen(course + 0.1 * torch.randn(60, 16, 1))
