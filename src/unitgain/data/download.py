"""Downloads one file; its name never belongs to incomplete or wrong content.

The bytes go into `NAME.part` beside the target. When they are complete and have the right SHA-256, one atomic
rename gives them their name. An interrupted download leaves `NAME.part`, and the next one continues from there,
if the server can do that. The checksum is over the whole file in every case.
"""

from __future__ import annotations

import gzip
import hashlib
import http.client
import os
import re
import threading
import urllib.error
import urllib.request
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from .._base import FileLock, InputError, move_into_place
from .._version import __version__

Progress = Callable[
    [int, "int | None"], None
]  # (bytes so far, bytes in all or None if the server does not say)

_one_thread = threading.Lock()
_CHUNK = 1 << 16
_TRIES = 3  # per mirror; each continues where the last one was cut off


class _MirrorError(Exception):
    """This try failed; `final` if another try at the same mirror is pointless."""

    def __init__(self, reason: str, final: bool = False) -> None:
        super().__init__(reason)
        self.final = final


def download(
    urls: Sequence[str],
    target: str | os.PathLike[str],
    sha256: str,
    *,
    unpacked: bool = False,
    limit: int = 1 << 30,
    timeout: float = 30.0,
    progress: Progress | None = None,
) -> Path:
    """Fetches target from the first of urls that gives the right bytes; does nothing if target has them already.

    sha256: of the file; with unpacked=True of what its gzip stream holds, since mirrors repack.
    limit: bytes at which a download is given up, so that a wrong server cannot fill the disk.
    timeout: seconds without a byte after which a try is given up.

    Raises InputError, with each mirror's reason, if none gives it, or if the folder cannot be written.
    """
    target = Path(target)
    part = target.with_name(target.name + ".part")
    reasons = []
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        # one at a time, or two would write into the same .part
        with _one_thread, FileLock(target.parent / ".lock", str(target.parent), wait=True):
            if _matches(target, sha256, unpacked):
                return target
            for url in urls:
                try:
                    _from_mirror(url, part, sha256, unpacked, limit, timeout, progress)
                except _MirrorError as error:
                    reasons.append(f"{url}: {error}")
                    continue
                move_into_place(part, target)
                return target
    except OSError as error:
        raise InputError(f"{target}: cannot be written: {error.strerror or error}") from error
    raise InputError(f"{target.name} could not be fetched ({'; '.join(reasons) or 'no mirror is known'})")


def _from_mirror(
    url: str, part: Path, sha256: str, unpacked: bool, limit: int, timeout: float, progress: Progress | None
) -> None:
    """Completes part from one mirror, or raises _MirrorError."""
    for attempt in range(_TRIES):
        start = part.stat().st_size if part.exists() else 0
        try:
            _transfer(url, part, start, limit, timeout, progress)
        except _MirrorError as error:
            if error.final or attempt == _TRIES - 1:
                raise
            continue
        if _matches(part, sha256, unpacked):
            return
        part.unlink(missing_ok=True)
        if not start:  # the whole file came from this mirror, so it has another file
            raise _MirrorError("sent other content than expected (SHA-256 differs)", final=True)
        # Otherwise the first piece may have come from elsewhere: try again from the beginning.
    raise _MirrorError("sent other content than expected (SHA-256 differs)", final=True)


def _transfer(
    url: str, part: Path, start: int, limit: int, timeout: float, progress: Progress | None
) -> None:
    request = urllib.request.Request(url, headers={"User-Agent": f"unitgain/{__version__}"})
    if start:
        request.add_header("Range", f"bytes={start}-")
    try:
        response = urllib.request.urlopen(request, timeout=timeout)
    except urllib.error.HTTPError as error:
        error.close()
        if (
            error.code == 416 and start
        ):  # nothing after `start`: the piece is the whole file, or not part of it
            return
        raise _MirrorError(f"HTTP {error.code} {error.reason}", final=400 <= error.code < 500) from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise _MirrorError(_reason(error)) from error
    with response:
        # 206 says which bytes come; 200 means that the server ignored the request for a range and sends them
        # all
        resumed = response.status == 206 and _range_start(response) == start
        if response.status == 206 and not resumed:
            part.unlink(missing_ok=True)
            raise _MirrorError("answered with a range that was not requested")
        done = start if resumed else 0
        length = response.headers.get("Content-Length", "")
        total = done + int(length) if length.isdigit() else None
        with part.open("ab" if resumed else "wb") as file:
            for chunk in _chunks(response):
                done += len(chunk)
                if done > limit:
                    break
                file.write(chunk)
                if progress is not None:
                    progress(done, total)
    if done > limit:
        part.unlink()
        raise _MirrorError(f"sends more than {limit:,} bytes", final=True)
    if total is not None and done < total:
        raise _MirrorError(f"the connection ended after {done:,} of {total:,} bytes")


def _chunks(response: http.client.HTTPResponse) -> Iterator[bytes]:
    """Errors of the network become _MirrorError here, so that an OSError elsewhere is one of the disk."""
    while True:
        try:
            chunk = response.read(_CHUNK)
        except (OSError, http.client.HTTPException) as error:
            raise _MirrorError(_reason(error)) from error
        if not chunk:
            return
        yield chunk


def _range_start(response: http.client.HTTPResponse) -> int | None:
    match = re.match(r"bytes (\d+)-", response.headers.get("Content-Range", ""))
    return int(match[1]) if match else None


def _reason(error: Exception) -> str:
    reason = getattr(error, "reason", None) or error  # a URLError wraps the cause
    return "no answer in time" if isinstance(reason, TimeoutError) else str(reason) or type(reason).__name__


def _matches(path: Path, sha256: str, unpacked: bool) -> bool:
    digest = hashlib.sha256()
    try:
        with path.open("rb") as raw:
            file: BinaryIO = gzip.GzipFile(fileobj=raw) if unpacked else raw  # type: ignore[assignment]
            while chunk := file.read(_CHUNK):
                digest.update(chunk)
    except (FileNotFoundError, EOFError, gzip.BadGzipFile, zlib.error):
        return False
    return digest.hexdigest() == sha256
