"""The page of every recipe's own run: it opens in a browser, all its charts are drawn and nothing goes wrong."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import small_runs
import torch
from browser import in_browser, use
from torch import nn

import unitgain as ug
from unitgain import recipes
from unitgain.data.fashion_mnist import ImageSplit
from unitgain.recipes import fashion_mnist, imagenet
from unitgain.recipes.image_folder import ImageFolderConfig
from unitgain.record import Record
from unitgain.report import Report
from unitgain.rules import diagnose

pytestmark = in_browser

LOOK = """
  out.charts = $$("figure:not([hidden])").map(f => f.dataset.chart).sort();
  out.empty = $$("figure:not([hidden]) .plot").filter(p => !p.querySelector("svg path, svg image")).length;
  out.level = document.querySelector(".verdict").className;
  const layer = document.querySelector("a[data-layer]");
  layer?.click();
  out.marked = !layer || document.getElementById("selected-name").textContent !== "";
  out.sideways = document.documentElement.scrollWidth > innerWidth;
"""
OF_A_RUN = {"scale", "magnitudes", "metrics", "time", "updates", "ratios"}


def look(record: Record, folder: Path, width: int) -> dict:
    result, _, _ = use(Report(record, diagnose(record)).to_html(), folder, LOOK, width)
    assert result["empty"] == 0
    assert result["marked"]
    assert not result["sideways"]
    return result


@pytest.mark.parametrize("variant", ["tanh", "deep"])
def test_makemore(variant: str, tmp_path: Path) -> None:
    config = small_runs.config(small_runs.few_names(tmp_path), variant=variant)
    found = small_runs.train(None, config)
    assert set(look(found.record, tmp_path, 390)["charts"]) >= OF_A_RUN


def test_fashion_mnist(tmp_path: Path) -> None:
    images = ImageSplit(torch.randn(96, 1, 28, 28), torch.arange(96) % 10)
    config = replace(fashion_mnist.DEFAULT, batch_size=32, epochs=2, held_out=0, every=2)
    learn = fashion_mnist.make_learner(config, fashion_mnist.Images(images, images))
    learn.fit(2)
    assert set(look(learn.record, tmp_path, 1280)["charts"]) >= OF_A_RUN


def test_image_folder(image_folder: Path, tmp_path: Path) -> None:
    config = ImageFolderConfig(
        data=str(image_folder), model="nf_resnet_tiny", epochs=2, batch_size=8, sizes=(16,), workers=0,
        smoothing=0.0, device="cpu", ema=0.9, every=2,
    )  # fmt: skip
    outcome = recipes.get("image-folder").train(config, say=small_runs.silent)
    assert outcome.record is not None
    assert set(look(outcome.record, tmp_path, 1280)["charts"]) >= OF_A_RUN


def test_imagenet(image_folder: Path, tmp_path: Path) -> None:
    config = replace(
        imagenet.PRESETS["nfnet_f0"], data=str(image_folder), model="nfnet_tiny", epochs=2, batch_size=8, warm_up=1,
        train_size=24, eval_size=32, workers=0, precision="float32", device="cpu", ema=0.9,
    )  # fmt: skip
    outcome = recipes.get("imagenet").train(config, say=small_runs.silent)
    assert outcome.record is not None
    assert look(outcome.record, tmp_path, 390)["charts"] == ["metrics"]  # it measures layers only if asked to


def test_a_sick_run_says_so_and_colours_the_layers(tmp_path: Path) -> None:
    model = nn.Sequential(
        *[part for _ in range(6) for part in (nn.Linear(32, 32), nn.Tanh())], nn.Linear(32, 5)
    )
    with torch.no_grad():
        for p in model.parameters():
            p.mul_(20)
    report = ug.check(model, (torch.randn(64, 32), torch.arange(64) % 5))
    assert not report.ok
    script = LOOK + 'out.coloured = $$("td.sick, td.watch").length; out.blocks = $$(".flow a.sick").length'
    result, _, _ = use(report.to_html(), tmp_path, script)
    assert result["level"] == "verdict sick"
    assert result["coloured"] >= 3
