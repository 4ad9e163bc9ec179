"""The data sets that unitgain knows: what is on this machine, from where, and how to get the rest.

What `unitgain data` prints and `unitgain data fetch NAME` does.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from .._base import InputError, did_you_mean
from .download import download
from .fashion_mnist import FILES, cache_folder, find_fashion_mnist, find_file
from .names import EMBEDDED, find_names
from .places import cache_root


@dataclass(frozen=True)
class RemoteFile:
    """A file to fetch: size in bytes, SHA-256 (gzipped: of what the gzip stream holds)."""

    name: str
    size: int
    sha256: str
    gzipped: bool = False


@dataclass(frozen=True)
class Dataset:
    """A data set that can be fetched. mirrors: addresses to which a file's name is appended, best first."""

    name: str
    description: str
    files: tuple[RemoteFile, ...]
    mirrors: tuple[str, ...]
    folder: Callable[[], Path]  # in the cache


@dataclass(frozen=True)
class Source:
    """One line of `unitgain data`.

    status: "present", "built in" (a smaller stand-in inside the package) or "absent"; source: in words, where
    it was found; path: the file or folder that is read, None if absent; size: bytes on disk, if absent bytes
    to fetch.
    """

    name: str
    description: str
    status: str
    path: Path | None
    source: str
    size: int


# The hashes of Fashion-MNIST are those of the unpacked files. Debian's archives are the project's own but for
# the file name and the time in the gzip header, so the archives' hashes differ. The sizes are the project's.
DATASETS: dict[str, Dataset] = {
    d.name: d
    for d in (
        Dataset(
            "names",
            "32,033 first names of the makemore project, one a line",
            (
                RemoteFile(
                    "names.txt", 228_145, "0a30b5557f192f32ab962680889aac5f6fda0f4cecf40a6d0b5694f58ea8cc4d"
                ),
            ),
            ("https://raw.githubusercontent.com/karpathy/makemore/master/",),
            cache_root,
        ),
        Dataset(
            "fashion-mnist",
            "70,000 grey 28x28 pictures of clothes in 10 classes",
            tuple(
                RemoteFile(f"{file}.gz", size, sha256, gzipped=True)
                for file, size, sha256 in zip(
                    FILES,
                    (26_421_880, 29_515, 4_422_102, 5_148),
                    (
                        "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
                        "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
                        "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
                        "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
                    ),
                )
            ),
            (
                "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
                "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
            ),
            cache_folder,
        ),
    )
}


def sources() -> list[Source]:
    """Every data set, and what of it is on this machine, judged by names and sizes of files alone."""
    return [_names_source(), _fashion_mnist_source()]


def fetch(
    name: str,
    *,
    mirrors: Sequence[str] | None = None,
    timeout: float = 30.0,
    progress: Callable[[str, int, int | None], None] | None = None,
) -> Path:
    """Downloads what is missing of a data set into the user's cache, and returns its file or folder there.

    mirrors: addresses to use instead of the known ones. progress is called with a file's name, the bytes so
    far and the bytes in all (None if unknown).

    Raises InputError if the data set is unknown, no mirror gives the right files, or the cache cannot be
    written.
    """
    dataset = DATASETS.get(name)
    if dataset is None:
        raise InputError(f"data set {name!r} is unknown{did_you_mean(name, DATASETS)}")
    folder = dataset.folder()
    for file in dataset.files:
        download(
            [mirror.rstrip("/") + "/" + file.name for mirror in (mirrors or dataset.mirrors)],
            folder / file.name,
            file.sha256,
            unpacked=file.gzipped,
            limit=2 * file.size,
            timeout=timeout,
            progress=None
            if progress is None
            else (lambda done, total, n=file.name: progress(n, done, total)),
        )
    return folder / dataset.files[0].name if len(dataset.files) == 1 else folder


def _names_source() -> Source:
    path, source = find_names()
    if path == EMBEDDED:
        return Source(
            "names",
            "20,703 US first names of 2017, one a line",
            "built in",
            path,
            source,
            path.stat().st_size,
        )
    return Source("names", "first names, one a line", "present", path, source, path.stat().st_size)


def _fashion_mnist_source() -> Source:
    dataset = DATASETS["fashion-mnist"]
    found = find_fashion_mnist()
    if found is None:
        return Source(
            dataset.name, dataset.description, "absent", None, "", sum(f.size for f in dataset.files)
        )
    folder, source = found
    size = sum(path.stat().st_size for file in FILES if (path := find_file(folder, file)) is not None)
    return Source(dataset.name, dataset.description, "present", folder, source, size)
