"""The recipe on a few small made-up images: everything but the accuracies, which the committed results show."""

from __future__ import annotations

import math
import os
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unitgain import InputError
from unitgain.data import fashion_mnist as source
from unitgain.data.fashion_mnist import ImageSplit
from unitgain.recipes import LadderOptions, fashion_mnist
from unitgain.recipes import _fashion_models as models
from unitgain.recipes._augment import Augment
from unitgain.recipes._ladders import fashion_mnist as fashion_ladder
from unitgain.recipes._runs import RunFolder
from unitgain.recipes._settings import as_json, from_text
from unitgain.recipes.fashion_mnist import BEST, DEFAULT, PRESETS, RECIPE, RUNGS, Images, evaluate, train

FEW = {"batch_size": 32, "epochs": 2, "held_out": 0}


def split(count: int, seed: int) -> ImageSplit:
    """Ten classes told apart by where a bright patch lies."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(10, (count,), generator=generator)
    images = torch.randn(count, 1, 28, 28, generator=generator) * 0.3
    for i, label in enumerate(labels.tolist()):
        row, column = divmod(label, 5)
        images[i, 0, 4 + 12 * row : 10 + 12 * row, 2 + 5 * column : 7 + 5 * column] += 2
    return ImageSplit(images, labels)


@pytest.fixture
def images() -> Images:
    return Images(split(160, 1), split(64, 2))


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_trains_and_its_optimizer_holds_every_parameter(name: str, images: Images) -> None:
    small: dict[str, Any] = {"best": {"widths": (8, 16), "depths": (1, 1), "bfloat16": False}}
    small |= {f"rung{n}": {"widths": (4, 8)} for n in (15, 16, 17)}
    small |= {"rung14": {"widths": (4, 4, 4, 4, 8)}}  # its last convolution expects 2x2 positions
    config = replace(PRESETS[name], batch_size=80, epochs=1, late_epochs=0, every=0, **small.get(name, {}))
    learn = fashion_mnist.make_learner(config, images)
    held = {id(p) for group in learn.optimizer.param_groups for p in group["params"]}
    assert held == {id(p) for p in learn.model.parameters()}
    before = [p.detach().clone() for p in learn.model.parameters()]
    learn.fit(1, valid=False)
    assert learn.steps == 2
    assert all(p.isfinite().all() for p in learn.model.parameters())
    assert any(not torch.equal(a, b) for a, b in zip(before, learn.model.parameters()))


def test_the_default_learns_and_says_what_it_recorded(images: Images) -> None:
    lines: list[str] = []
    outcome = train(replace(DEFAULT, batch_size=16, epochs=4, every=5), images=images, say=lines.append)
    assert outcome.metrics["test_accuracy"] > 0.9
    assert len(lines) == 4
    record = outcome.record
    assert record is not None
    assert record.metric("loss")[0].tolist() == list(range(40))
    assert record.metric("loss")[1][0] == pytest.approx(math.log(10), abs=0.15)
    assert set(record.frame("activation")["step"]) == set(range(0, 40, 5))
    assert record.metric("test_accuracy")[1].tolist() == [outcome.metrics["test_accuracy"]]


def test_measuring_changes_no_bit_of_the_weights(images: Images) -> None:
    config = replace(DEFAULT, **FEW)
    with_probe = train(replace(config, every=3), images=images, say=_silent).model
    without = train(replace(config, every=0), images=images, say=_silent).model
    assert all(torch.equal(a, b) for a, b in zip(with_probe.parameters(), without.parameters()))


@pytest.mark.parametrize("name", ["shift", "shift_test", "erase"])
def test_moving_or_blanking_whole_images_is_refused(name: str) -> None:
    with pytest.raises(InputError, match=f"{name}=28: expected less than the 28 pixels"):
        replace(DEFAULT, **{name: 28})
    replace(DEFAULT, **{name: 27})


class _Killed(BaseException):
    """Stands for the machine going down."""


@pytest.mark.parametrize(
    ("preset", "changes"),
    [
        ("rung8", {"epochs": 1, "late_epochs": 2}),  # killed in the second of two fits
        (
            "best",
            {"epochs": 3, "widths": (8, 8), "depths": (1, 1), "bfloat16": False},
        ),  # augmentation, moving average
    ],
)
def test_a_killed_run_goes_on_to_the_same_weights_bit_for_bit(
    preset: str, changes: dict, images: Images, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = replace(PRESETS[preset], batch_size=32, every=4, save_every=3, **changes)

    def folder(name: str, resume: bool) -> RunFolder:
        return RunFolder(tmp_path / name, "fashion-mnist", as_json(config), resume=resume)

    whole = train(config, folder("whole", False), images=images, say=_silent)
    step, count = torch.optim.Optimizer.step, [0]
    learner = fashion_mnist.make_learner

    def mortal(*args, **kwargs):
        learn = learner(*args, **kwargs)
        taken = learn.take_step

        def take_step() -> None:
            count[0] += 1
            if count[0] == 9:
                raise _Killed
            taken()

        learn.take_step = take_step
        return learn

    monkeypatch.setattr(fashion_mnist, "make_learner", mortal)
    with pytest.raises(_Killed):
        train(config, folder("parts", False), images=images, say=_silent)
    monkeypatch.setattr(fashion_mnist, "make_learner", learner)
    parts = train(config, folder("parts", True), resume=True, images=images, say=_silent)
    for (name, a), b in zip(whole.model.state_dict().items(), parts.model.state_dict().values()):
        assert torch.equal(a, b), name
    assert parts.metrics == whole.metrics
    assert whole.record is not None
    assert parts.record is not None
    assert parts.record.metric("loss")[1].tolist() == whole.record.metric("loss")[1].tolist()
    assert step is torch.optim.Optimizer.step


def test_a_diverged_run_is_an_error_that_says_what_to_do(images: Images) -> None:
    with pytest.raises(InputError, match="a new run with a lower rate"):
        train(replace(PRESETS["rung1"], batch_size=16, lr=1e20, epochs=3), images=images, say=_silent)


def test_the_same_seed_gives_the_same_run_and_another_one_another(images: Images) -> None:
    losses = [train(replace(BEST, **FEW, seed=s, widths=(4,), depths=(1,), bfloat16=False, every=0),
                    images=images, say=_silent).metrics["train_loss"] for s in (0, 0, 1)]  # fmt: skip
    assert losses[0] == losses[1] != losses[2]


def test_held_out_images_are_none_of_those_trained_on(monkeypatch: pytest.MonkeyPatch) -> None:
    data = source.FashionMNIST(split(50, 1), split(10, 2), source.CLASSES, "made up")
    monkeypatch.setattr(fashion_mnist, "load_fashion_mnist", lambda folder, normalize: data)
    found = fashion_mnist.load(replace(DEFAULT, held_out=20))
    assert (len(found.train), len(found.test)) == (30, 20)
    together = torch.cat([found.train.images, found.test.images]).flatten(1)
    assert len(together.unique(dim=0)) == 50
    assert len(torch.cat([together, data.test.images.flatten(1)]).unique(dim=0)) == 60
    with pytest.raises(InputError, match="held_out=50"):
        fashion_mnist.load(replace(DEFAULT, held_out=50))


def test_settings_of_a_rung_by_its_number_and_clear_words_for_wrong_ones() -> None:
    assert from_text(RECIPE.config, ["rung=7"], RECIPE.presets) == RUNGS[7][1]
    for wrong, words in (("lr=0", "above 0"), ("ema=1.5", "below 1"), ("network=resent", "one of plain"),
                         ("batch_size=1", "at least 2")):  # fmt: skip
        with pytest.raises(InputError, match=words):
            from_text(RECIPE.config, [wrong], RECIPE.presets)
    with pytest.raises(InputError, match="depths"):
        replace(BEST, depths=(1,))


def test_a_shift_moves_and_a_flip_mirrors_whole_images_and_erasing_blanks_a_square() -> None:
    x = torch.rand(64, 2, 12, 12) + 1
    (moved, y) = Augment(shift=2, flip=True)((x, torch.arange(64)))
    assert y.tolist() == list(range(64))
    padded = torch.nn.functional.pad(x, (2, 2, 2, 2))
    mirrored = 0
    for before, after in zip(padded, moved):
        cuts = [before[:, i : i + 12, j : j + 12] for i in range(5) for j in range(5)]
        plain = any(torch.equal(after, cut) for cut in cuts)
        assert plain or any(torch.equal(after, cut.flip(2)) for cut in cuts)
        mirrored += not plain
    assert 16 <= mirrored <= 48
    (erased,) = Augment(erase=5, fill=-1.0)((x,))
    for before, after in zip(x, erased):
        gone = (after == -1).all(0)
        assert torch.equal(after[:, ~gone], before[:, ~gone])
        rows, columns = gone.any(1).nonzero().flatten(), gone.any(0).nonzero().flatten()
        assert int(gone.sum()) == len(rows) * len(columns)
        assert 1 <= len(rows) <= 5 >= len(columns)
    assert ((erased == -1).all(1).sum((1, 2)) == 25).sum() > 10


def test_normalizer_free_networks_hold_their_variance_at_the_start() -> None:
    x = torch.randn(64, 1, 28, 28)
    model = models.normfree((64, 128, 256))
    for i, layer in enumerate(model):
        x = layer(x)
        if isinstance(layer, torch.nn.Conv2d):
            assert 0.7 < x[..., 1:-1, 1:-1].std() < 1.3, i
    h = torch.randn(32, 1, 28, 28)
    residual = models.nf_resnet((64, 128), (2, 2)).eval()
    for name, layer in residual.named_children():
        h = layer(h)
        if name.startswith(("stem", "stage")):
            assert 0.35 < h.std() < 1.4, name


def test_the_last_network_sees_channels_last_from_its_first_layer_on() -> None:
    model = models.nf_resnet((8, 16), (1, 1)).to(memory_format=torch.channels_last)
    seen = []
    for module in model.modules():
        if isinstance(module, torch.nn.Conv2d):
            module.register_forward_hook(
                lambda m, i, o: seen.append(o.is_contiguous(memory_format=torch.channels_last))
            )
    model(torch.randn(4, 1, 28, 28))
    assert all(seen)
    assert len(seen) == 6


def test_evaluation_is_over_all_images_and_leaves_flags_alone(images: Images) -> None:
    model = models.plain((4, 4, 8, 8), norm="batch").train()
    accuracy, loss = evaluate(model, images.test, batch_size=7)
    assert model.training
    model.eval()
    with torch.no_grad():
        logits = model(images.test.images)
    assert accuracy == pytest.approx(float((logits.argmax(1) == images.test.labels).float().mean()))
    assert loss == pytest.approx(
        float(torch.nn.functional.cross_entropy(logits, images.test.labels)), rel=1e-5
    )
    one = evaluate(model, ImageSplit(images.test.images.flip(3), images.test.labels), flip=True)
    assert one == pytest.approx(evaluate(model, images.test, flip=True))


def test_evaluation_averages_over_an_image_and_four_moved_ones(images: Images) -> None:
    class Corner(nn.Module):
        """The pixel at (0, 1) is class 1's logit."""

        def __init__(self) -> None:
            super().__init__()
            self.unused = nn.Parameter(torch.zeros(1))

        def forward(self, x: Tensor) -> Tensor:
            return F.pad(x[:, :, 0, 1], (1, 8))

    x = torch.randn(6, 1, 28, 28)
    y = torch.randint(10, (6,))
    above = torch.full((6,), -7.0)  # what is moved in from outside
    mean = torch.stack([x[:, 0, 0, 1], x[:, 0, 1, 1], above, x[:, 0, 0, 2], x[:, 0, 0, 0]]).mean(0)
    expected = F.cross_entropy(F.pad(mean[:, None], (1, 8)), y)
    assert evaluate(Corner(), ImageSplit(x, y), shift=1, fill=-7.0)[1] == pytest.approx(
        float(expected), rel=1e-5
    )


def test_the_ladder_judges_means_and_says_what_missed(
    monkeypatch: pytest.MonkeyPatch, images: Images
) -> None:
    monkeypatch.setattr(fashion_mnist, "load", lambda config: images)
    short = fashion_ladder.run(LadderOptions(("rungs=[1,7]",), short=True), _silent)
    assert not short.comparable
    assert not short.missed
    assert [row[0] for row in short.tables[0].rows] == ["1", "7"]
    known = {"test_accuracy": 0.86}

    def pretend(config, images, say):
        return fashion_mnist.Outcome(
            "fashion-mnist", config, torch.nn.Identity(), known, 1.0, source_record()
        )

    def source_record():
        from unitgain.record import Record

        return Record()

    monkeypatch.setattr(fashion_mnist, "train", pretend)
    found = fashion_ladder.run(LadderOptions(("rungs=[3,4]",), seeds=2), _silent)
    assert found.comparable
    assert found.missed == ["rung 4: 86.00%, published 87.20%"]
    for wrong in ("rungs=[18]", "seed=3"):
        with pytest.raises(InputError):
            fashion_ladder.run(LadderOptions((wrong,)), _silent)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("optimizer", "within"),
    [("torch_sgd", 1e-5), ("adamw", 1e-3)],  # Adam divides by gradients of the size of rounding, too
)
def test_two_ranks_give_the_single_process_s_losses(tmp_path: Path, optimizer: str, within: float) -> None:
    if source.find_fashion_mnist() is None:
        pytest.skip("Fashion-MNIST is not on this machine")
    from unitgain.record import Record

    settings = ["--set", "held_out=58000", "--set", "epochs=1", "--set", "every=5"]
    settings += ["--set", f"optimizer={optimizer}"]
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", f"--master_port={port}"]
    for name, launcher in (("one", [sys.executable]), ("two", torchrun)):
        command = [
            *launcher,
            "-m",
            "unitgain",
            "train",
            "fashion-mnist",
            *settings,
            "-r",  # torchrun takes --run for its own --run-path
            str(tmp_path / name),
        ]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        subprocess.run(command, check=True, capture_output=True, env=environment, timeout=280)
    curves = [Record.load(tmp_path / name / "record.sqlite").metric("loss")[1] for name in ("one", "two")]
    assert len(curves[0]) == 8
    assert curves[1].tolist() == pytest.approx(curves[0].tolist(), abs=within)


def _silent(_: str) -> None:
    pass
