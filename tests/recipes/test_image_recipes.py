"""image-folder and imagenet on directories that the tests draw: they learn, resume, and draw what they did."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from unitgain import InputError
from unitgain.models import NormFreeNet
from unitgain.recipes import image_folder as recipe_of_folders
from unitgain.recipes import imagenet
from unitgain.recipes._image_figures import find_mistakes, show_batch, show_mistakes
from unitgain.recipes._image_training import ImageBatches
from unitgain.recipes._runs import RunFolder
from unitgain.recipes._settings import as_json

TINY = recipe_of_folders.ImageFolderConfig(
    model="nf_resnet_tiny", epochs=2, batch_size=8, lr=0.05, sizes=(16, 24), workers=0, smoothing=0.0, device="cpu",
    ema=0.9,
)  # fmt: skip
PAPER = replace(
    imagenet.PRESETS["nfnet_f0"], model="nfnet_tiny", epochs=2, batch_size=8, warm_up=1, train_size=24, eval_size=32,
    workers=0, precision="float32", device="cpu", ema=0.9, save_every=2,
)  # fmt: skip


def folder(path: Path, recipe: str, config, resume: bool = False) -> RunFolder:
    return RunFolder(path, recipe, as_json(config), resume)


def test_image_folder_learns_grows_its_images_and_draws(image_folder: Path, tmp_path: Path) -> None:
    config, said = replace(TINY, data=str(image_folder), epochs=6), []
    run = folder(tmp_path / "run", "image-folder", config)
    outcome = recipe_of_folders.train(config, run, say=said.append)
    assert outcome.metrics["accuracy"] == 1.0  # red or green
    assert outcome.metrics["unreadable"] == 0
    assert outcome.metrics["images_per_second"] > 0
    assert [line.rpartition("at ")[2] for line in said] == ["16 pixels"] * 3 + ["24 pixels"] * 3
    assert (run.path / "plots" / "batch.png").stat().st_size > 10_000
    assert not (run.path / "plots" / "mistakes.png").exists()


def test_evaluation_is_at_a_larger_size_than_training(image_folder: Path) -> None:
    config = replace(TINY, data=str(image_folder), sizes=(16,))
    learn = recipe_of_folders.learner(config)
    sizes = {True: set(), False: set()}
    learn.model.register_forward_hook(lambda m, x, y: sizes[m.training].add(x[0].shape[-1]))
    learn.fit(1)
    assert sizes[True] >= {16}
    assert sizes[False] >= {20}


@pytest.mark.parametrize("name", ["image-folder", "imagenet"])
def test_a_run_that_stopped_goes_on_with_the_same_bits(image_folder: Path, tmp_path: Path, name: str) -> None:
    recipe, config = {"image-folder": (recipe_of_folders, TINY), "imagenet": (imagenet, PAPER)}[name]
    config = replace(config, data=str(image_folder), save_every=2)
    whole = recipe.train(config, folder(tmp_path / "whole", name, config), say=str)
    run = folder(tmp_path / "parts", name, config)
    pieces = recipe.make_pieces(config, run, str)
    pieces.learn.callbacks.append(StopAt(4))
    with pytest.raises(KeyboardInterrupt):
        pieces.learn.fit(config.epochs)
    pieces.learn.record.close()
    parts = recipe.train(config, folder(tmp_path / "parts", name, config, resume=True), resume=True, say=str)
    for a, b in zip(whole.model.state_dict().values(), parts.model.state_dict().values()):
        assert torch.equal(a, b)


class StopAt(imagenet.Callback):
    order = 1000

    def __init__(self, steps: int):
        self.steps = steps

    def after_step(self, learn) -> None:
        if learn.steps == self.steps:
            raise KeyboardInterrupt


def test_imagenet_trains_with_everything_that_the_paper_has(image_folder: Path) -> None:
    config = replace(PAPER, data=str(image_folder))
    pieces = imagenet.make_pieces(config)
    learn = pieces.learn
    assert isinstance(learn.model, NormFreeNet)
    assert learn.model.wiring == "paper"
    assert {type(c).__name__ for c in learn.callbacks} >= {"Clip", "EMA", "Schedule", "ImageBatches"}
    groups = learn.optimizer.param_groups
    decays = {n: g["weight_decay"] for g in groups for n in g["param_names"]}
    assert all((decay == 0) == (name.endswith(("gain", "bias"))) for name, decay in decays.items())
    assert all(g["nesterov"] and g["momentum"] == 0.9 for g in groups)
    rates = []
    learn.callbacks.append(Watch(rates))
    learn.fit(config.epochs)
    peak = 0.1 * 8 / 256
    assert rates[0] == 0
    assert rates[3] == pytest.approx(peak)
    assert rates == sorted(rates[:4]) + sorted(rates[4:], reverse=True)
    assert learn.metrics["top5"] == 1.0  # of two classes


class Watch(imagenet.Callback):
    def __init__(self, rates: list):
        self.rates = rates

    def before_step(self, learn) -> None:
        self.rates.append(learn.optimizer.param_groups[0]["lr"])


@pytest.mark.parametrize("name", imagenet.PRESETS)
def test_presets_are_the_papers_settings(name: str) -> None:
    config = imagenet.PRESETS[name]
    assert config.model == name
    nfnet, resnet = name.startswith("nfnet"), name.startswith("nf_resnet")
    assert config.highest_lr == pytest.approx(1.6 if nfnet else 0.4)
    assert config.epochs == (90 if resnet else 360)
    assert bool(config.clipping) is nfnet
    assert bool(config.rand_augment) is nfnet
    assert (config.ema, bool(config.mixup)) == ((0.0, False) if resnet else (0.99999, True))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"data": ""}, "give the images"),
        ({"presize": 20}, "presize"),
        ({"sizes": ()}, "sizes"),
        ({"batch_size": 64}, "24 training images only"),
        ({"pretrained": "w.safetensors"}, "wiring=timm"),
        ({"model": "nf_resnet_tiyn"}, "did you mean 'nf_resnet_tiny'"),
        ({"model": "zzz"}, "unitgain models lists them"),
    ],
)
def test_settings_that_cannot_work_are_refused(image_folder: Path, settings: dict, said: str) -> None:
    with pytest.raises(InputError, match=said):
        recipe_of_folders.make_pieces(replace(TINY, **{"data": str(image_folder), **settings}))


def test_a_damaged_image_stops_training_or_is_counted(image_folder: Path) -> None:
    (image_folder / "train" / "red" / "003.jpg").write_bytes(b"\xff\xd8 cut off")
    config = replace(TINY, data=str(image_folder), epochs=1)
    with pytest.raises(InputError, match=r"red/003\.jpg"):
        recipe_of_folders.train(config, say=str)
    said = []
    outcome = recipe_of_folders.train(replace(config, corrupt="skip"), say=said.append)
    assert outcome.metrics["unreadable"] == 1
    assert any("003.jpg" in line for line in said)


def test_progressive_sizes_share_the_epochs_equally() -> None:
    batches = ImageBatches(2, (96, 128, 160))
    assert [batches.size(e, 7) for e in range(7)] == [96, 96, 96, 128, 128, 160, 160]
    assert batches.size(0, 0) == 96


class Sure(torch.nn.Module):
    """Says class 0 with a confidence that grows with the image's brightness."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        bright = x.mean((1, 2, 3))
        return torch.stack([bright, torch.zeros_like(bright)], 1)


def test_mistakes_are_the_most_confident_ones_over_all_batches() -> None:
    x = torch.linspace(1, 4, 12).view(12, 1, 1, 1).expand(12, 3, 4, 4)
    y = torch.tensor([0, 1] * 6)
    model = Sure().train()
    found = find_mistakes(model, list(zip(x.split(5), y.split(5))), count=3)
    assert model.training
    assert [round(float(m.image.mean()), 3) for m in found] == [
        round(float(x[i].mean()), 3) for i in (11, 9, 7)
    ]
    assert {(m.predicted, m.label) for m in found} == {(0, 1)}
    figure = show_mistakes(found, ("cat", "dog"))
    assert figure.axes[0].get_title() == f"cat {found[0].confidence:.0%}\nis dog"
    with pytest.raises(InputError, match="right about every image"):
        show_mistakes([])


def test_show_batch_names_labels_and_shares_of_mixed_ones() -> None:
    x = torch.randint(256, (3, 3, 8, 8), dtype=torch.uint8)
    assert [a.get_title() for a in show_batch(x, torch.tensor([1, 0, 1]), ("a", "b")).axes[:3]] == [
        "b",
        "a",
        "b",
    ]
    mixed = torch.tensor([[0.7, 0.3], [0.95, 0.05], [0.0, 1.0]])
    titles = [a.get_title() for a in show_batch(x, mixed, ("a", "b")).axes[:3]]
    assert titles == ["70% a\n30% b", "a", "b"]
    with pytest.raises(InputError, match="1 or 3 channels"):
        show_batch(torch.rand(2, 5, 8, 8), torch.tensor([0, 1]))
