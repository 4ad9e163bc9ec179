"""Reading image folders: what is found, what is refused, what happens to damaged files, and the crops."""

from __future__ import annotations

import sys
import types
from pathlib import Path

import numpy as np
import pytest
import torch
from drawn_images import draw
from PIL import Image

from unitgain import InputError
from unitgain.recipes._images import CentreCrop, ImageItems, Presize, RandomCrop, find_images, make_loader


def test_labels_are_the_sorted_places_of_the_training_classes_also_where_validation_lacks_one(
    image_folder,
) -> None:
    draw(image_folder / "train", ("blue",), 3, seed=2)
    split = find_images(str(image_folder))
    assert split.classes == ("blue", "green", "red")
    assert {split.valid.label(i) for i in range(len(split.valid))} == {1, 2}
    assert len(split.train), len(split.valid) == (27, 8)


@pytest.mark.parametrize("name", ["valid", "test"])
def test_other_names_of_the_validation_part(image_folder: Path, name: str) -> None:
    (image_folder / "val").rename(image_folder / name)
    assert len(find_images(str(image_folder)).valid) == 8


def test_a_single_level_is_split_the_same_way_each_time_with_every_class_in_both_parts(image_folder) -> None:
    root = str(image_folder / "train")
    first, again, other = find_images(root), find_images(root), find_images(root, seed=1)
    names = [[s.valid.name(i) for i in range(len(s.valid))] for s in (first, again, other)]
    assert names[0] == names[1] != names[2]
    assert [sorted({p.label(i) for i in range(len(p))}) for p in (first.train, first.valid)] == [
        [0, 1],
        [0, 1],
    ]
    train = {first.train.name(i) for i in range(len(first.train))}
    assert not train & set(names[0])
    assert len(train) + len(names[0]) == 24


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda root: (root / "val").rename(root / "later"), "val/, valid/"),
        (
            lambda root: (root / "val" / "red").rename(root / "val" / "rde"),
            "'rde' is in val/ but not in train/",
        ),
        (lambda root: [f.rename(f.with_suffix(".txt")) for f in root.rglob("*.jpg")], "no images"),
        (lambda root: root.rename(root.parent / "elsewhere"), "no such directory"),
    ],
)
def test_what_is_missing_is_named(image_folder: Path, change, said: str) -> None:
    change(image_folder)
    with pytest.raises(InputError, match=said):
        find_images(str(image_folder))


def test_a_damaged_image_is_named_or_its_neighbour_taken_and_counted(image_folder: Path) -> None:
    bad = image_folder / "train" / "green" / "001.jpg"
    bad.write_bytes(bad.read_bytes()[:300])
    source = find_images(str(image_folder)).train
    with pytest.raises(InputError, match=r"green/001\.jpg: this image cannot be read"):
        ImageItems(source, Presize(16))[1]
    items = ImageItems(source, Presize(16), "skip")
    assert items[1][2] == 2
    assert items.unreadable == [str(bad)]
    for file in (image_folder / "train").rglob("*.jpg"):
        file.write_bytes(b"")
    with pytest.raises(InputError, match="none of 24 images can be read"):
        ImageItems(source, Presize(16), "skip")[0]


def test_a_worker_process_names_a_damaged_image_without_its_traceback(image_folder: Path) -> None:
    (image_folder / "train" / "red" / "000.jpg").write_bytes(b"no image")
    items = ImageItems(find_images(str(image_folder)).train, Presize(16))
    with pytest.raises(InputError) as caught:
        list(make_loader(items, 8, train=True, workers=1))
    assert str(caught.value).startswith(
        f"{image_folder / 'train' / 'red' / '000.jpg'}: this image cannot be read"
    )
    assert "Traceback" not in str(caught.value)


def test_damage_is_counted_when_worker_processes_read(image_folder: Path) -> None:
    (image_folder / "train" / "red" / "000.jpg").write_bytes(b"no image")
    items = ImageItems(find_images(str(image_folder)).train, Presize(16), "skip")
    batches = list(make_loader(items, 8, train=True, workers=1))
    assert [x.shape for x, _ in batches] == [(8, 3, 16, 16)] * 3
    assert [Path(name).name for name in items.unreadable] == ["000.jpg"]


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "CMYK", "I;16"])
def test_every_mode_becomes_three_channels(tmp_path: Path, mode: str) -> None:
    for name in "ab":
        (tmp_path / name).mkdir()
        for i in range(2):
            grey = np.full((20, 30), 200, dtype=np.uint16 if mode == "I;16" else np.uint8)
            image = Image.fromarray(grey)
            (image if mode in ("L", "I;16") else image.convert(mode)).save(tmp_path / name / f"{i}.tiff")
    items = ImageItems(find_images(str(tmp_path)).train, CentreCrop(8, 4))
    assert items[0][0].shape == (3, 8, 8)
    assert items[0][0].dtype == torch.uint8


def test_prepared_images_have_their_size_whatever_the_shape() -> None:
    for shape in ((40, 300), (300, 40), (33, 33), (7, 9)):
        image = Image.new("RGB", shape, (10, 20, 30))
        for prepare in (Presize(24), CentreCrop(24), CentreCrop(24, squash=True), RandomCrop(24)):
            made = prepare(image)
            assert made.size == (24, 24)
            assert np.array(made).reshape(-1, 3).std(0).max() < 2


def test_a_random_crop_shows_at_least_the_stated_area_and_all_of_the_image_in_time() -> None:
    boxes = [RandomCrop(8, least_area=0.3)._box(100, 80) for _ in range(300)]
    shares = [(r - l) * (b - t) / 8000 for l, t, r, b in boxes]
    assert min(shares) > 0.28
    assert max(shares) <= 1
    assert min(b[0] for b in boxes) == 0
    assert max(b[2] for b in boxes) >= 98


def test_centre_crop_squashes_or_keeps_proportions() -> None:
    image = Image.new("RGB", (200, 100), (0, 0, 0))
    image.paste((255, 255, 255), (0, 0, 30, 100))  # a bar of 15% on the left
    kept = np.array(CentreCrop(96, 4)(image))[50, :, 0]
    squashed = np.array(CentreCrop(96, 4, squash=True)(image))[50, :, 0]
    assert (kept > 128).sum() == 0  # outside of the middle square
    assert 11 <= (squashed > 128).sum() <= 14


class FakeColumn(list):
    pass


class FakeRows:
    """The part of datasets.Dataset that is used."""

    def __init__(self, images, labels):
        self.images, self.labels = images, labels
        kind = type("Image", (), {})
        names = type("ClassLabel", (), {"names": ["cat", "dog"]})
        self.features = {"picture": kind(), "kind": names()}

    def __getitem__(self, key):
        return self.labels if key == "kind" else {"picture": self.images[key], "kind": self.labels[key]}

    def select(self, rows):
        return FakeRows([self.images[i] for i in rows], [self.labels[i] for i in rows])


def test_hugging_face_datasets_are_read_by_the_types_of_their_columns(monkeypatch) -> None:
    images = [Image.new("RGB", (20, 20), (i, 0, 0)) for i in range(10)]
    module = types.SimpleNamespace(load_dataset=lambda name: {"train": FakeRows(images, [0, 1] * 5)})
    monkeypatch.setitem(sys.modules, "datasets", module)
    split = find_images("hf:someone/pets")
    assert split.classes == ("cat", "dog")
    assert (len(split.train), len(split.valid)) == (8, 2)
    assert ImageItems(split.train, Presize(8))[0][0].shape == (3, 8, 8)


def test_a_missing_package_is_named_with_the_extra_that_brings_it(monkeypatch, image_folder: Path) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(InputError, match=r"unitgain\[data\]"):
        find_images("hf:someone/pets")
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(InputError, match=r"unitgain\[data\]"):
        find_images(str(image_folder))
