"""Exit codes, and the one line that an error becomes.

0 fine; 1 findings at or above --fail-on; 2 the input is wrong: one line on stderr; 3 a defect in unitgain; 130 Ctrl-C,
or 143 SIGTERM: one line that says what is lost. `--debug` shows the traceback.
"""

from __future__ import annotations

import contextlib
import os
import platform
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from typing import Annotated, Any

import typer

from .._base import InputError, clear_line, note, one_line, printable, say
from .._version import __version__

FINDINGS, WRONG_INPUT, DEFECT, INTERRUPTED, BROKEN_PIPE, TERMINATED = 1, 2, 3, 130, 141, 143

# the option parser's words -> plain ones
_PLAIN = {
    "Input should be greater than or equal to": "it must be at least",
    "Input should be less than or equal to": "it must be at most",
    "Input should be a valid integer, unable to parse string as an integer": "it must be a whole number",
    "Input should be a valid number, unable to parse string as a number": "it must be a number",
}

Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]


def exit_code_of(run: Callable[[], object], debug: bool) -> int:
    """Runs a command and says how it ended; never raises, prints a traceback only with debug.

    A command that keeps something when it is interrupted raises KeyboardInterrupt with the line that says so.
    """
    with _sigterm_as_ctrl_c() as terminated:
        code = _code_of(run, debug)
        return TERMINATED if terminated and code == INTERRUPTED else code


def _code_of(run: Callable[[], object], debug: bool) -> int:
    try:
        run()
        sys.stdout.flush()
        return 0
    except typer.Exit as done:
        return done.exit_code
    except (KeyboardInterrupt, typer.Abort) as stop:
        clear_line()
        note(str(stop) or "interrupted; nothing was written")
        return INTERRUPTED
    except BrokenPipeError:  # the program that read our output, `head` for example, has ended
        with contextlib.suppress(OSError, ValueError):  # the flush at exit must have somewhere to go
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
    except InputError as error:
        return _fail(WRONG_INPUT, str(error), error, debug)
    except Exception as error:
        if hasattr(error, "format_message"):  # typer's own errors; their class depends on typer's version
            return _fail(WRONG_INPUT, _usage(error), error, debug)
        if _memory_is_full(error):
            line = "out of memory; use fewer or smaller examples (--batch, --shape)"
            return _fail(WRONG_INPUT, line, error, debug)
        import torch

        versions = f"unitgain {__version__}, torch {torch.__version__}, Python {platform.python_version()}"
        what = f"{type(error).__name__}: {printable(error)} ({versions})"
        line = f"a defect in unitgain, please report it with the output of --debug: {what}"
        return _fail(DEFECT, line, error, debug)


@contextlib.contextmanager
def _sigterm_as_ctrl_c() -> Iterator[list[int]]:
    """What a scheduler sends before it kills ends a command as Ctrl-C does: checkpoints and records are complete.

    The list that is given holds the signal once it came. Under torchrun, and where another handler is installed,
    nothing is changed.
    """
    came: list[int] = []
    us = os.getpid()

    def handle(number: int, frame: object) -> None:
        if os.getpid() != us:  # a worker that was forked
            os._exit(TERMINATED)
        came.append(number)
        signal.raise_signal(signal.SIGINT)

    free = threading.current_thread() is threading.main_thread() and "RANK" not in os.environ
    if not free or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield came
        return
    signal.signal(signal.SIGTERM, handle)
    try:
        yield came
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _fail(code: int, line: str, error: BaseException, debug: bool) -> int:
    if debug:
        say("".join(traceback.format_exception(error)).rstrip("\n"), file=sys.stderr, most=sys.maxsize)
    say(one_line(f"unitgain: {line}"), file=sys.stderr)  # also with --quiet
    return code


def _memory_is_full(error: Exception) -> bool:
    """torch says so with a class of its own on accelerators, and only in the message on a CPU."""
    name, text = type(error).__name__, printable(error)
    return (
        name in ("MemoryError", "OutOfMemoryError")
        or "can't allocate memory" in text
        or "not enough memory" in text
    )


def _usage(error: Any) -> str:
    """Typer's message about options and arguments, with the place where help is."""
    message = error.format_message().replace("Value error, ", "").strip().rstrip(".")
    for theirs, ours in _PLAIN.items():
        message = message.replace(theirs, ours)
    context = getattr(error, "ctx", None)
    path = context.command_path if context is not None else "unitgain"
    see = " See" if message.endswith("?") else "; see"
    return f"{message[:1].lower()}{message[1:]}{see} {path} --help"
