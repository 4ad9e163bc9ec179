"""What is needed to fetch a data set, and fetching one into the user's cache."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from .download import download


@dataclass(frozen=True)
class RemoteFile:
    """A file to fetch: size in bytes, SHA-256 (gzipped: of what the gzip stream holds)."""

    name: str
    size: int
    sha256: str
    gzipped: bool = False


@dataclass(frozen=True)
class Source:
    """One line of `unitgain data`.

    status: "present", "built in" (a smaller stand-in inside the package) or "absent"; source: a description of
    where it was found; path: the file or folder that is read, None if absent; size: bytes on disk, if absent bytes
    to fetch.
    """

    name: str
    description: str
    status: str
    path: Path | None
    source: str
    size: int


@dataclass(frozen=True)
class Dataset:
    """A data set that can be fetched.

    mirrors  addresses to which a file's name is appended, best first
    folder   its folder in the cache, which need not exist
    look     what of it is on this machine, by the names and sizes of files
    """

    name: str
    description: str
    files: tuple[RemoteFile, ...]
    mirrors: tuple[str, ...]
    folder: Callable[[], Path]
    look: Callable[[], Source]

    def fetch(
        self,
        *,
        mirrors: Sequence[str] | None = None,
        timeout: float = 30.0,
        progress: Callable[[str, int, int | None], None] | None = None,
    ) -> Path:
        """Downloads what is missing, and returns the file (of several: the folder). Arguments and errors as `fetch`."""
        folder = self.folder()
        for file in self.files:
            download(
                [mirror.rstrip("/") + "/" + file.name for mirror in (mirrors or self.mirrors)],
                folder / file.name,
                file.sha256,
                unpacked=file.gzipped,
                limit=2 * file.size,
                timeout=timeout,
                progress=None
                if progress is None
                else (lambda done, total, n=file.name: progress(n, done, total)),
            )
        return folder / self.files[0].name if len(self.files) == 1 else folder
