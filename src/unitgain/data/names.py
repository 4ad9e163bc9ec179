"""Names, for character models: finding the file, the vocabulary, the split, contexts and targets.

The tensors equal those of the third makemore lecture (A. Karpathy, "Neural Networks: Zero to Hero", makemore
part 3) bit for bit when names.txt of that project is found: the same vocabulary, the same padding, the same
shuffle and split.

A names file is UTF-8 text with one name a line. Empty lines and lines that begin with # are skipped,
capitals become small letters.
"""

from __future__ import annotations

import itertools
import os
import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from .._base import InputError
from .fetching import Dataset, RemoteFile, Source
from .places import cache_root, data_root

CHARACTERS = ".abcdefghijklmnopqrstuvwxyz"
"""A character's number is its position; "." begins and ends a name."""
CONTEXT = 3
EMBEDDED = Path(__file__).with_name("us_first_names_2017.txt")  # written by scripts/build_names.py
_FILE = "names.txt"
_FEWEST = 10  # below this, a 80/10/10 split may leave a part empty
_SHUFFLE_SEED = 42


@dataclass(frozen=True)
class NameSplit:
    """One part of the names. x: (N, context) int64, the characters before; y: (N,) int64, the next one."""

    x: Tensor
    y: Tensor

    def __len__(self) -> int:
        return len(self.y)

    def batches(self, size: int, generator: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
        """Endless batches (x, y), drawn with replacement by one torch.randint each, as in the lecture."""
        if size < 1:
            raise InputError(f"batch size {size}: at least 1 is needed")
        while True:
            rows = torch.randint(0, len(self), (size,), generator=generator)
            yield self.x[rows], self.y[rows]


@dataclass(frozen=True)
class Names:
    """The names in shuffled order, cut 80/10/10 by names, and where they came from."""

    words: tuple[str, ...]
    train: NameSplit
    validation: NameSplit
    test: NameSplit
    source: str


def load_names(path: str | os.PathLike[str] | None = None, *, context: int = CONTEXT) -> Names:
    """Reads, shuffles (seed 42), splits and encodes names.

    Looked for, in this order: path; names.txt under $UNITGAIN_DATA; names.txt in the user's cache; the list
    inside the package (US first names of 2017).

    Raises InputError if the file cannot be read, is not UTF-8 text, holds a line that is not a name, or
    fewer than 10 names.

    >>> names = load_names(EMBEDDED)
    >>> names.train.x.shape[1], len(names.words)
    (3, 20703)
    """
    if context < 1:
        raise InputError(f"context {context}: at least 1 character is needed")
    file, source = (Path(path), os.fspath(path)) if path is not None else find_names()
    words = read_names(file)
    random.Random(_SHUFFLE_SEED).shuffle(words)
    cuts = [0, int(0.8 * len(words)), int(0.9 * len(words)), len(words)]
    train, validation, test = (encode(words[a:b], context) for a, b in itertools.pairwise(cuts))
    return Names(tuple(words), train, validation, test, source)


def find_names() -> tuple[Path, str]:
    """The names file that is used when none is given, and a description of it."""
    root = data_root()
    if root is not None and (root / _FILE).is_file():
        return root / _FILE, "UNITGAIN_DATA"
    cached = cache_root() / _FILE
    if cached.is_file():
        return cached, "cache"
    return EMBEDDED, "built in: US first names of 2017"


def read_names(path: str | os.PathLike[str]) -> list[str]:
    """The names in a file, in its order. Raises InputError as load_names does."""
    path = Path(path)
    try:
        text = path.read_bytes().decode(
            "utf-8-sig"
        )  # -sig: some editors put a byte order mark before the text
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise InputError(f"{path}, line {line}: not UTF-8 text; one name a line was expected") from error
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from error
    words = []
    for number, line in enumerate(text.split("\n"), start=1):
        word = line.strip()
        if not word or word.startswith("#"):
            continue
        if word.isascii():
            word = word.lower()
        strange = next((c for c in word if c not in CHARACTERS[1:]), None)
        if strange is not None:
            shown = word if len(word) <= 40 else word[:37] + "..."
            raise InputError(
                f"{path}, line {number}: {shown!r} contains {strange!r}; "
                "names are made of the letters a to z, one name a line"
            )
        words.append(word)
    if len(words) < _FEWEST:
        raise InputError(f"{path}: {len(words)} names; at least {_FEWEST} are needed to split them 80/10/10")
    return words


def encode(words: Iterable[str], context: int = CONTEXT) -> NameSplit:
    """Every character of every name, and the end after it, with the `context` characters before.

    >>> encode(["ab"]).x
    tensor([[0, 0, 0],
            [0, 0, 1],
            [0, 1, 2]])
    >>> encode(["ab"]).y
    tensor([1, 2, 0])
    """
    # One long line: `context` dots before every name and one after it. Each window of context + 1
    # characters is an example, unless its last character is one of the dots before a name.
    number = {character: i for i, character in enumerate(CHARACTERS)}
    line: list[int] = []
    is_target: list[bool] = []
    for word in words:
        line += [0] * context + [number[c] for c in word] + [0]
        is_target += [False] * context + [True] * (len(word) + 1)
    if not line:
        return NameSplit(torch.empty(0, context, dtype=torch.int64), torch.empty(0, dtype=torch.int64))
    windows = torch.tensor(line).unfold(0, context + 1, 1)  # (len(line) - context, context + 1)
    examples = windows[torch.tensor(is_target[context:])]
    return NameSplit(examples[:, :-1].contiguous(), examples[:, -1].contiguous())


def _look() -> Source:
    path, source = find_names()
    built_in = path == EMBEDDED
    what = "20,703 US first names of 2017, one a line" if built_in else "first names, one a line"
    status = "built in" if built_in else "present"
    return Source("names", what, status, path, source, path.stat().st_size)


NAMES = Dataset(
    "names",
    "32,033 first names of the makemore project, one a line",
    (RemoteFile(_FILE, 228_145, "0a30b5557f192f32ab962680889aac5f6fda0f4cecf40a6d0b5694f58ea8cc4d"),),
    ("https://raw.githubusercontent.com/karpathy/makemore/master/",),
    cache_root,
    _look,
)
