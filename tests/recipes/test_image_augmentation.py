"""Crops, mixing and RandAugment: what they may and may not do to images and targets."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from unitgain.recipes._batch_augment import (
    Mix,
    cutmix,
    mixup,
    normalize,
    random_resized_crop,
    smoothed,
    soft_labels,
)
from unitgain.recipes._rand_augment import OPERATIONS, RandAugment


def ramp(count: int, size: int = 64) -> torch.Tensor:
    """Channel 0 is the column, channel 1 the row, both 0..1 over pixel centres."""
    at = (torch.arange(size) + 0.5) / size
    one = torch.stack([at.expand(size, size), at[:, None].expand(size, size)])
    return one.expand(count, 2, size, size).clone()


def test_crops_show_the_stated_area_with_the_stated_shape() -> None:
    x = random_resized_crop(ramp(400), 32, (0.25, 0.9), flip=False)
    wide = (x[:, 0, 0, -1] - x[:, 0, 0, 0]) * 32 / 31  # of the image
    high = (x[:, 1, -1, 0] - x[:, 1, 0, 0]) * 32 / 31
    area, ratio = wide * high, wide / high
    assert 0.2 < area.min() < 0.3
    assert 0.8 < area.max() < 0.95
    assert 0.73 < ratio.min() < 0.8
    assert 1.25 < ratio.max() < 1.37
    assert x.min() < 0.03
    assert x.max() > 0.97  # every place is shown by some crop


def test_a_crop_of_everything_is_the_image_and_half_are_mirrored() -> None:
    images = ramp(200, 32)
    same = random_resized_crop(images, 32, (1, 1), ratio=(1, 1), flip=False)
    torch.testing.assert_close(same, images, atol=1e-5, rtol=0)
    mirrored = random_resized_crop(images, 32, (1, 1), ratio=(1, 1))[:, 0, 0, 0] > 0.5
    assert 60 < int(mirrored.sum()) < 140


def test_a_strong_reduction_does_not_alias() -> None:
    """Noise that is made ten times smaller is grey: picking pixels would leave it noise."""
    x = torch.rand(4, 3, 320, 320)
    assert random_resized_crop(x, 32, (0.9, 1.0)).std() < 0.1 * x.std() * 1.5


def test_normalize_gives_what_imagenet_networks_expect() -> None:
    x = torch.tensor([124, 116, 104], dtype=torch.uint8).view(1, 3, 1, 1)
    assert normalize(x).abs().max() < 0.02


@pytest.mark.parametrize("function", [mixup, cutmix])
def test_mixed_targets_say_what_is_in_the_image(function) -> None:
    """Image k is all k, so its mean tells the share of each class exactly."""
    x = torch.arange(8.0).view(8, 1, 1, 1).expand(8, 1, 16, 16)
    y = torch.eye(8)
    mixed, targets = function(x, y, 1.0)
    torch.testing.assert_close(targets.sum(1), torch.ones(8))
    torch.testing.assert_close(mixed.mean((1, 2, 3)), targets @ torch.arange(8.0), atol=1e-5, rtol=1e-5)
    assert (targets.max(1).values < 0.999).any()


def test_cutmix_replaces_a_share_that_is_uniform_for_alpha_1() -> None:
    x = torch.stack([torch.zeros(1, 32, 32), torch.ones(1, 32, 32)]).repeat(500, 1, 1, 1)
    _, targets = cutmix(x, torch.eye(2).repeat(500, 1), 1.0)
    share = 1 - targets[::2, 0]
    assert 0.25 < share.mean() < 0.45  # one half before the rectangles are cut at the borders
    assert share.max() > 0.8


def test_mix_gives_one_half_to_each_and_smoothing_keeps_sums() -> None:
    x, y = torch.rand(9, 3, 8, 8), soft_labels(torch.arange(9), 9)
    mixed, targets = Mix()(x, y)
    assert mixed.shape == x.shape
    assert torch.equal(targets[:4, 4:], torch.zeros(4, 5))  # partners come from the same half
    torch.testing.assert_close(smoothed(targets, 0.1).sum(1), torch.ones(9))
    torch.testing.assert_close(smoothed(y, 0.1), soft_labels(torch.arange(9), 9, 0.1))


def picture() -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(40, 200, (30, 40, 3)).astype(np.uint8))


def test_the_operations_are_those_of_the_paper() -> None:
    assert set(OPERATIONS) == {
        "identity", "autocontrast", "equalize", "rotate", "solarize", "color", "posterize", "contrast", "brightness",
        "sharpness", "shear_x", "shear_y", "translate_x", "translate_y",
    }  # fmt: skip


@pytest.mark.parametrize("name", OPERATIONS)
@pytest.mark.parametrize("sign", [1, -1])
def test_every_operation_keeps_the_size_and_does_something_at_any_magnitude(name: str, sign: int) -> None:
    image = picture()
    for magnitude in (0.5, 1.0, 1.5, 3.0):
        made = OPERATIONS[name](image, magnitude, sign)
        assert made.size == image.size
        assert made.mode == "RGB"
        assert name == "identity" or not np.array_equal(np.array(made), np.array(image))


@pytest.mark.parametrize(
    "name", sorted(set(OPERATIONS) - {"identity", "autocontrast", "equalize", "posterize"})
)
def test_magnitude_0_changes_nothing(name: str) -> None:
    assert np.array_equal(np.array(OPERATIONS[name](picture(), 0.0, 1)), np.array(picture()))


def test_two_sided_operations_undo_each_other_in_the_middle() -> None:
    image = picture().resize((120, 90))
    for name in ("rotate", "shear_x", "shear_y", "translate_x"):
        back = OPERATIONS[name](OPERATIONS[name](image, 0.3, 1), 0.3, -1)
        middle = (np.array(back).astype(int) - np.array(image))[35:55, 50:70]
        assert np.abs(middle).mean() < 8, name


def test_rand_augment_draws_from_torchs_generator() -> None:
    image, augment = picture(), RandAugment(2, 9)
    made = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        made.append(np.array(augment(image)))
    assert np.array_equal(made[0], made[1])
    assert not np.array_equal(made[0], made[2])
    assert np.array_equal(np.array(RandAugment(0)(image)), np.array(image))
