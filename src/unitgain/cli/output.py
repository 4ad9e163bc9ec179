"""Which files a command may write, and writing them; what is shown while it works."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence

from .._base import InputError, console, write_atomically

HTML = (".html", ".htm")
FIGURE = (".png", ".svg", ".pdf")
_SUFFIXES = {"--html": HTML, "--json": (".json",), "--sarif": (".sarif",), "--junit": (".xml",)}


def check_folder(option: str, path: str) -> None:
    """Refuses a folder for several outputs that cannot be made or written, before the work is done."""
    if not path or path.startswith("-"):
        raise InputError(f"{option} {path!r}: a folder is expected after {option}")
    above = path if os.path.exists(path) else os.path.dirname(os.path.abspath(path))
    if not os.path.isdir(above):
        what = "this is a file" if os.path.exists(path) else f"there is no folder {above}"
        raise InputError(f"{option} {path}: {what}; give a folder, which is made if it is not there")
    if not os.access(above, os.W_OK | os.X_OK):
        raise InputError(f"{option} {path}: no permission to write there; choose another place")


def check_outputs(
    outputs: Mapping[str, str],
    inputs: Sequence[str | None] = (),
    suffixes: Mapping[str, tuple[str, ...]] | None = None,
) -> None:
    """Refuses an output that cannot be written, or would overwrite something, before the work is done.

    suffixes: {option: those that its file may have}, in addition to those of --html and --json.
    """
    allowed = {**_SUFFIXES, **(suffixes or {})}
    read = {os.path.realpath(path) for path in inputs if path}
    written: dict[str, str] = {}
    for option, path in outputs.items():
        if option == "--json" and path == "-":
            continue
        if not path or path.startswith("-"):
            raise InputError(f"{option} {path!r}: a file name is expected after {option}")
        endings = allowed.get(option)
        if endings and not path.lower().endswith(endings):
            raise InputError(f"{option} {path}: the name must end in {_either(endings)}")
        folder, real = os.path.dirname(path) or ".", os.path.realpath(path)
        if os.path.isdir(path):
            raise InputError(f"{option} {path}: this is a folder; give the name of a file in it")
        if not os.path.isdir(folder):
            raise InputError(f"{option} {path}: there is no folder {folder}; create it first")
        if not os.access(folder, os.W_OK | os.X_OK) or (
            os.path.exists(path) and not os.access(path, os.W_OK)
        ):
            raise InputError(f"{option} {path}: no permission to write there; choose another place")
        if option == "--record" and os.path.exists(path):
            raise InputError(f"{option} {path}: the file exists; choose a new name or delete it first")
        if real in read:
            raise InputError(f"{option} {path}: this is an input of the command; choose another name")
        if real in written:
            raise InputError(f"{option} {path}: {written[real]} writes the same file; choose another name")
        written[real] = option


def _either(words: Sequence[str]) -> str:
    """.png, .svg or .pdf"""
    return " or ".join(filter(None, (", ".join(words[:-1]), words[-1])))


def write_text(option: str, path: str, text: str) -> None:
    """Writes a file that an option names. Raises InputError if it cannot be written."""
    try:
        write_atomically(path, text)
    except OSError as error:
        raise InputError(f"{option} {path}: cannot be written: {error.strerror or error}") from error


@contextlib.contextmanager
def quiet_stdout(wanted: bool) -> Iterator[None]:
    """Nothing that a model prints goes into JSON."""
    with contextlib.redirect_stdout(sys.stderr) if wanted else contextlib.nullcontext():
        yield


@contextlib.contextmanager
def progress_bar() -> Iterator[Callable[[int, int, str], None]]:
    """A bar on the standard error, where that is a terminal: call what is given with (done, total, what is done)."""
    from rich.markup import escape
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    screen = console(stderr=True)
    columns = (
        BarColumn(),
        TextColumn("{task.completed}/{task.total}"),
        TimeRemainingColumn(),
        TextColumn("{task.description}"),
    )
    with Progress(*columns, console=screen, transient=True, disable=not screen.is_terminal) as progress:
        task = progress.add_task("checking", total=None)

        def tell(done: int, total: int, what: str) -> None:
            if done == 0:
                progress.reset(task)  # another stretch of work begins, at a pace of its own
            progress.update(task, completed=done, total=total, description=escape(what))

        yield tell
