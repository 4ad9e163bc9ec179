from __future__ import annotations

import hashlib
import os
import random
from pathlib import Path

import pytest
import torch

from unitgain import InputError
from unitgain.data import CHARACTERS, load_names
from unitgain.data.names import EMBEDDED, encode, read_names

TEN = [f"name{c}" for c in "abcdefghij"]
MAKEMORE_SHA256 = "0a30b5557f192f32ab962680889aac5f6fda0f4cecf40a6d0b5694f58ea8cc4d"


@pytest.fixture(scope="module")
def makemore() -> Path:
    file = Path(os.environ.get("UNITGAIN_DATA", "")) / "names.txt"
    if not os.environ.get("UNITGAIN_DATA") or not file.is_file():
        pytest.skip("names.txt of the makemore project is not under UNITGAIN_DATA")
    if hashlib.sha256(file.read_bytes()).hexdigest() != MAKEMORE_SHA256:
        pytest.skip("names.txt under UNITGAIN_DATA is not that of the makemore project")
    return file


def write(path: Path, words: list[str]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(words) + "\n", encoding="utf-8")
    return path


def lecture_encoding(words: list[str]) -> tuple[torch.Tensor, torch.Tensor]:
    """The obvious way, character by character."""
    x, y = [], []
    for word in words:
        context = [0, 0, 0]
        for character in word + ".":
            x.append(context)
            y.append(CHARACTERS.index(character))
            context = [*context[1:], y[-1]]
    return torch.tensor(x), torch.tensor(y)


def test_the_makemore_split_is_the_lecture_s(makemore: Path) -> None:
    names = load_names(makemore)
    assert len(names.words) == 32_033
    assert [len(s) for s in (names.train, names.validation, names.test)] == [182_625, 22_655, 22_866]
    words = makemore.read_text().split()
    state = random.getstate()
    try:
        random.seed(42)
        random.shuffle(words)
    finally:
        random.setstate(state)
    assert list(names.words) == words
    x, y = lecture_encoding(words[25_626:28_829])
    assert torch.equal(names.validation.x, x)
    assert torch.equal(names.validation.y, y)


def test_encoding_equals_the_obvious_loop() -> None:
    words = ["emma", "a", "zoe", "xavier"]
    split = encode(words)
    x, y = lecture_encoding(words)
    assert torch.equal(split.x, x)
    assert torch.equal(split.y, y)
    assert split.x.dtype == split.y.dtype == torch.int64
    assert encode(words, context=1).x.shape == (len(y), 1)
    assert len(encode([])) == 0


def test_loading_leaves_the_random_states_alone(tmp_path: Path) -> None:
    python, torch_state = random.getstate(), torch.get_rng_state()
    load_names(write(tmp_path / "n", TEN))
    assert random.getstate() == python
    assert torch.equal(torch.get_rng_state(), torch_state)


def test_no_name_is_lost_or_in_two_parts(tmp_path: Path) -> None:
    names = load_names(write(tmp_path / "n", TEN))
    assert sorted(names.words) == TEN
    ends = [int((split.y == 0).sum()) for split in (names.train, names.validation, names.test)]
    assert ends == [8, 1, 1]


def test_order_of_places(own_machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert load_names().source == "built in: US first names of 2017"
    write(own_machine / "cache" / "names.txt", [*TEN, "cached"])
    assert "cached" in load_names().words
    write(own_machine / "data" / "names.txt", [*TEN, "own"])
    monkeypatch.setenv("UNITGAIN_DATA", str(own_machine / "data"))
    assert load_names().source == "UNITGAIN_DATA"
    explicit = write(own_machine / "mine", [*TEN, "explicit"])
    assert "explicit" in load_names(explicit).words
    assert load_names(explicit).source == str(explicit)


def test_a_mistyped_unitgain_data_is_not_silently_the_built_in_list(own_machine: Path, monkeypatch) -> None:
    monkeypatch.setenv("UNITGAIN_DATA", str(own_machine / "dtaa"))
    with pytest.raises(InputError, match=r"UNITGAIN_DATA=.*dtaa: not a folder"):
        load_names()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "0 names; at least 10"),
        (b"\n\n# only a comment\n", "0 names"),
        (b"anna\nbert\n", "2 names"),
        (b"anna\nb\xffrt\n", "line 2: not UTF-8"),
        ("anna\njosé\n".encode(), "line 2: 'josé' contains 'é'"),
        (b"anna\n\nanna maria\n", "line 3: 'anna maria' contains ' '"),
        (b"anna,5\n", "line 1: 'anna,5' contains ','"),
        (b"\x7fELF\x00\x00", "line 1"),
        (b"an.na\n", "contains '.'"),
        (b"x" * 10_000 + b"9", "..."),
        ("İpek\n".encode(), "line 1"),
    ],
)
def test_garbage_is_one_line_with_the_line_s_number(tmp_path: Path, content: bytes, words: str) -> None:
    (tmp_path / "garbage").write_bytes(content)
    with pytest.raises(InputError) as caught:
        load_names(tmp_path / "garbage")
    message = str(caught.value)
    assert message.startswith(str(tmp_path / "garbage"))
    assert words in message
    assert len(message.splitlines()) == 1
    assert len(message) < len(str(tmp_path)) + 250


def test_missing_file_and_folder_are_input_errors(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="No such file"):
        load_names(tmp_path / "nowhere")
    with pytest.raises(InputError, match="cannot be read"):
        load_names(tmp_path)


def test_capitals_windows_line_ends_and_byte_order_marks_are_fine(tmp_path: Path) -> None:
    (tmp_path / "n").write_bytes("\r\n".join(["\ufeffEMMA", "Zoe", *TEN]).encode())
    assert read_names(tmp_path / "n")[:2] == ["emma", "zoe"]


def test_the_embedded_list_says_what_it_is_and_is_small() -> None:
    text = EMBEDDED.read_text(encoding="utf-8")
    assert "2017" in text.splitlines()[0]
    assert "public domain" in text.splitlines()[1]
    assert EMBEDDED.stat().st_size < 150_000
    words = read_names(EMBEDDED)
    assert len(words) == len(set(words)) == 20_703
    assert words[:3] == ["emma", "liam", "olivia"]


def test_batches_continue_a_generator_as_the_lecture_does() -> None:
    split = encode(TEN)
    generator, same = torch.Generator().manual_seed(5), torch.Generator().manual_seed(5)
    batches = split.batches(4, generator)
    for _ in range(3):
        x, y = next(batches)
        rows = torch.randint(0, len(split), (4,), generator=same)
        assert torch.equal(x, split.x[rows])
        assert torch.equal(y, split.y[rows])
    with pytest.raises(InputError, match="batch size 0"):
        next(split.batches(0, generator))
