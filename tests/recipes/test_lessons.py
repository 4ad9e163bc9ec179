"""unitgain lesson: chapters whose numbers are measured, on the lecturers' data or on one's own."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from unitgain import InputError, recipes
from unitgain.cli import main
from unitgain.data.names import EMBEDDED, read_names
from unitgain.recipes import _lesson
from unitgain.recipes._lessons import fashion_mnist, makemore


@pytest.fixture
def names(tmp_path: Path) -> str:
    (tmp_path / "few.txt").write_text("\n".join(read_names(EMBEDDED)[:400]))
    return str(tmp_path / "few.txt")


@pytest.fixture
def images(tmp_path: Path) -> str:
    generator = np.random.default_rng(0)
    labels = np.arange(400) % 4
    pixels = generator.integers(0, 90, size=(400, 16, 16), dtype=np.uint8)
    for i, label in enumerate(labels):
        pixels[i, 4 * label : 4 * label + 4] += 120
    np.savez(tmp_path / "images.npz", x=pixels, y=labels)
    return str(tmp_path / "images.npz")


def test_every_plan_names_networks_that_there_are() -> None:
    for module in (makemore, fashion_mnist):
        used = {name for plan in module.PLANS for name in (plan.before, plan.after)}
        assert used == set(module.NETWORKS)


def test_makemore_on_words_of_ones_own(
    names: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page, numbers = tmp_path / "page.html", tmp_path / "numbers.json"
    assert (
        main(["lesson", "makemore", "--data", names, "--short", "--html", str(page), "--json", str(numbers)])
        == 0
    )
    shown = capsys.readouterr().out
    body = json.loads(numbers.read_text())
    assert len(body["chapters"]) == len(makemore.PLANS)
    first = body["chapters"][0]
    assert first["findings"][0]["code"] == "UG101"
    assert "ln 27 = 3.30" in first["symptom"]
    assert body["chapters"][1]["findings"][0]["code"] == "UG303"
    for number, plan in enumerate(makemore.PLANS, start=1):
        assert f"{number}. {plan.title}" in shown
    text = page.read_text()
    assert "<script" not in text
    assert text.count("<img") == 2 * sum(len(plan.rows) for plan in makemore.PLANS)
    assert len(text) < 1_000_000


def test_images_of_ones_own_in_bytes_without_a_channel(images: str) -> None:
    raw, normalized = fashion_mnist._sources(images)
    assert raw.train[0].shape == (320, 1, 16, 16)
    assert 0.5 < float(raw.train[0].max()) <= 1.0
    assert abs(float(normalized.train[0].mean())) < 1e-4
    told: list[str] = []
    found = recipes.lesson("fashion-mnist")(recipes.LessonOptions(images, short=True), told.append)
    assert len(found.chapters) == len(fashion_mnist.PLANS)
    assert "320 images (1, 16, 16) of 4 classes" in told[0]
    assert "not finite" in found.chapters[4].gained or "loss" in found.chapters[4].gained


def test_a_difference_within_the_noise_is_no_gain() -> None:
    source = makemore.Source(*_tiny(), 16, 0)
    networks = {"a": makemore.NETWORKS["gain 5/3"], "b": makemore.NETWORKS["gain 5/3"]}
    result = _lesson.Trainings(networks, {"": source}, 4, 2).pair("a", "b")
    chapter = _lesson.Chapter("same", "", "", "", result, ("loss",), ())
    assert "do not tell these losses apart" in chapter.gained


def _tiny() -> tuple[tuple[torch.Tensor, torch.Tensor], tuple[torch.Tensor, torch.Tensor]]:
    x, y = torch.randint(0, 27, (80, 3)), torch.randint(0, 27, (80,))
    return (x, y), (x[:20], y[:20])


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (["lesson", "mackmore"], "did you mean 'makemore'"),
        (["lesson", "makemore", "--data", "nowhere.txt"], "nowhere.txt"),
        (["lesson", "makemore", "--html", "page.pdf"], "--html page.pdf"),
        (["lesson", "makemore", "--seeds", "0"], "seeds"),
        (["lesson"], "LESSON"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_mistake_is_one_line(given: list[str], words: str, tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(given) == 2
    shown = capsys.readouterr()
    assert words in shown.err
    assert shown.err.count("\n") == 1


def test_data_without_labels_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", x=np.zeros((30, 8, 8), dtype=np.float32))
    with pytest.raises(InputError, match="whole-number labels"):
        recipes.lesson("fashion-mnist")(recipes.LessonOptions(str(tmp_path / "x.npz")), lambda line: None)


def test_an_interrupted_lesson_keeps_its_chapters(names: str, tmp_path: Path, monkeypatch, capsys) -> None:
    def pair(self, before: str, after: str):
        if after == makemore.PLANS[1].after:
            raise KeyboardInterrupt
        return whole(self, before, after)

    whole = _lesson.Trainings.pair
    monkeypatch.setattr(_lesson.Trainings, "pair", pair)
    page = tmp_path / "page.html"
    assert main(["lesson", "makemore", "--data", names, "--short", "--html", str(page)]) == 130
    assert capsys.readouterr().err.splitlines()[-1] == f"interrupted; 1 of 6 chapters are done and in {page}"
    assert "the last 5 chapters are missing" in page.read_text()
