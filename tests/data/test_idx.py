from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from unitgain import InputError
from unitgain.data import read_idx


def idx(array: np.ndarray, kind: int = 8) -> bytes:
    return bytes([0, 0, kind, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


IMAGES = np.arange(3 * 28 * 28).astype(np.uint8).reshape(3, 28, 28)
LABELS = np.array([3, 1, 2], dtype=np.uint8)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(0, 5), min_size=1, max_size=4), st.booleans())
def test_what_was_written_is_read(tmp_path_factory, shape: list[int], packed: bool) -> None:
    array = np.arange(int(np.prod(shape))).astype(np.uint8).reshape(shape)
    file = tmp_path_factory.mktemp("idx") / "file"
    file.write_bytes(gzip.compress(idx(array)) if packed else idx(array))
    assert torch.equal(read_idx(file), torch.from_numpy(array))


def test_the_content_decides_whether_a_file_is_gzipped_not_its_name(tmp_path: Path) -> None:
    (tmp_path / "labels.gz").write_bytes(idx(LABELS))
    assert read_idx(tmp_path / "labels.gz", (3,)).tolist() == [3, 1, 2]


PACKED = gzip.compress(idx(IMAGES))
BROKEN = {
    "empty": (b"", "empty"),
    "empty gzip": (gzip.compress(b""), "empty"),
    "text": (b"<html>not found</html>", "not an IDX file"),
    "cut in its magic": (b"\0\0", "not an IDX file"),
    "cut in its header": (idx(IMAGES)[:9], "truncated"),
    "cut in its data": (idx(IMAGES)[:-1], "only 2,351 follow"),
    "too long": (idx(IMAGES) + b"\0", "more follow"),
    "floats": (idx(IMAGES, kind=0x0D), "0x0d"),
    "no dimensions": (b"\0\0\x08\0", "without dimensions"),
    "more promised than memory": (b"\0\0\x08\x03" + b"\xff" * 12 + b"abc", "only 3 follow"),
    "gzip cut": (PACKED[: len(PACKED) // 2], "truncated"),
    "gzip without its checksum": (PACKED[:-8], "truncated"),
    "gzip with a wrong checksum": (PACKED[:-8] + b"\0\0\0\0" + PACKED[-4:], "damaged"),
    "gzip with damaged data": (PACKED[:40] + bytes(40) + PACKED[80:], "damaged"),
    "gzip header only": (b"\x1f\x8b", "truncated"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_file_is_one_line_that_names_it(tmp_path: Path, case: str) -> None:
    content, words = BROKEN[case]
    (tmp_path / "broken").write_bytes(content)
    with pytest.raises(InputError) as caught:
        read_idx(tmp_path / "broken")
    message = str(caught.value)
    assert str(tmp_path / "broken") in message
    assert words in message
    assert "\n" not in message


def test_swapped_images_and_labels_are_called_so(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(idx(LABELS))
    with pytest.raises(
        InputError, match=r"labels .3. instead of images .Nx28x28.; are the images and labels swapped"
    ):
        read_idx(tmp_path / "a", (None, 28, 28))
    (tmp_path / "a").write_bytes(idx(IMAGES))
    with pytest.raises(InputError, match="swapped"):
        read_idx(tmp_path / "a", (3,))
    with pytest.raises(InputError, match="its shape is 3x28x28; expected Nx32x32"):
        read_idx(tmp_path / "a", (None, 32, 32))


def test_a_missing_file_or_a_folder_is_an_input_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="No such file"):
        read_idx(tmp_path / "nowhere")
    with pytest.raises(InputError, match="cannot be read"):
        read_idx(tmp_path)
