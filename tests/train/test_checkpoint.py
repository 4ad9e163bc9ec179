"""Checkpoint files: what goes in comes out, and what is no good is refused with the way out."""

from __future__ import annotations

import json
import math
import os
import random
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from unitgain import InputError
from unitgain._run import random_states
from unitgain.train import checkpoint
from unitgain.train.tree import pack, unpack

LEAVES = (
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.text(max_size=5)
    | st.binary(max_size=5)
)
KEYS = st.text(max_size=4) | st.integers() | st.sampled_from(["$tensor", "$"])
TREES = st.recursive(
    LEAVES,
    lambda t: st.lists(t, max_size=3) | st.tuples(t, t) | st.dictionaries(KEYS, t, max_size=3),
    max_leaves=12,
)


def same(a, b) -> bool:
    if isinstance(a, torch.Tensor):
        bits = [t.contiguous().view(-1).view(torch.uint8) for t in (a, b)]
        return a.dtype == b.dtype and a.shape == b.shape and torch.equal(*bits)
    if isinstance(a, float):
        return a == b or (math.isnan(a) and math.isnan(b))
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[k], b[k]) for k in a)
    if isinstance(a, (list, tuple)):
        return type(a) is type(b) and len(a) == len(b) and all(map(same, a, b))
    return type(a) is type(b) and a == b


@given(TREES)
@settings(deadline=None, max_examples=60)
def test_any_state_survives_json(tree) -> None:
    body, tensors = pack(tree)
    assert same(unpack(json.loads(json.dumps(body, allow_nan=False)), tensors), tree)


@pytest.mark.parametrize(
    "dtype",
    [torch.float32, torch.float64, torch.bfloat16, torch.float16, torch.int64, torch.uint8, torch.bool],
)
def test_every_bit_of_a_tensor_survives(tmp_path: Path, dtype) -> None:
    raw = torch.randint(0, 2 if dtype is torch.bool else 256, (64,), dtype=torch.uint8)
    tensor = raw.view(dtype) if dtype is not torch.bool else raw.bool()
    state = {
        "a": tensor,
        "scalar": tensor[3],
        "empty": tensor[:0],
        "strided": tensor[::2],
        "tied": tensor,
        "view": tensor[:4],
    }
    checkpoint.write(tmp_path / "c.safetensors", state)
    assert same(checkpoint.read(tmp_path / "c.safetensors"), state)


def test_a_counter_and_numbers_of_numpy() -> None:
    body, tensors = pack(
        {"milestones": Counter({3: 2}), "n": np.float64(0.1), "i": np.int64(4), "t": torch.float16}
    )
    assert unpack(body, tensors) == {"milestones": Counter({3: 2}), "n": 0.1, "i": 4, "t": torch.float16}


def test_what_cannot_be_stored_is_named_with_its_place() -> None:
    with pytest.raises(InputError, match=r"state\.callbacks\.Mine\[1\]: a function cannot be stored"):
        pack({"callbacks": {"Mine": [1, lambda: 0]}})


def test_random_states_go_on_where_they_were() -> None:
    def draw():
        return random.gauss(0, 1), np.random.normal(), float(torch.rand(())), random.random()  # noqa: NPY002

    draw()
    body, tensors = pack(random_states.take())
    expected = [draw() for _ in range(3)]
    random_states.put(unpack(json.loads(json.dumps(body)), tensors))
    assert [draw() for _ in range(3)] == expected


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for steps in (10, 20, 30):
        checkpoint.write(tmp_path / checkpoint.name_of(steps), {"steps": steps, "w": torch.arange(100.0)})
    return tmp_path


def truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 40)


def empty(path: Path) -> None:
    os.truncate(path, 0)


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-10] ^= 1
    path.write_bytes(content)


def flip_json(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content.replace(b"steps", b"stops", 1))


def foreign(path: Path) -> None:
    save_file({"w": torch.zeros(3)}, path)


def newer(path: Path) -> None:
    save_file(load_file(path), path, {"format": "unitgain checkpoint", "version": "2", "unitgain": "9.0"})


def pickled(path: Path) -> None:
    torch.save({"w": torch.zeros(3)}, path)


@pytest.mark.parametrize(("spoil", "says"), [
    (truncate, "damaged"), (empty, "damaged"), (flip, "does not match its checksum"), (flip_json, "checksum"),
    (foreign, "not a checkpoint of unitgain"), (newer, r"newer unitgain \(9.0, format 2"), (pickled, "damaged, or not"),
    (Path.unlink, "no such file"),
])  # fmt: skip
def test_a_bad_checkpoint_is_refused_and_the_last_good_one_named(folder: Path, spoil, says: str) -> None:
    last = folder / checkpoint.name_of(30)
    spoil(last)
    flip(folder / checkpoint.name_of(20))
    with pytest.raises(InputError, match=says) as error:
        checkpoint.read(last)
    assert f"the last good one is {folder / checkpoint.name_of(10)} (" in str(error.value)
    assert "\n" not in str(error.value)


def test_a_place_that_cannot_be_written_is_an_input_error_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        checkpoint.write(tmp_path / "file" / "c.safetensors", {})


def test_a_write_that_fails_keeps_the_old_file(folder: Path, monkeypatch) -> None:
    path = folder / checkpoint.name_of(30)
    old = path.read_bytes()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(InputError, match="No space left"):
        checkpoint.write(path, {"steps": 31})
    assert path.read_bytes() == old
    assert not list(folder.glob(".*"))
