"""Other processes for the tests of files and locks. They import unitgain._base alone, without torch, in 0.1 s."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import unitgain

_ALONE = f"""
import sys, types
package = types.ModuleType("unitgain")
package.__path__ = [{str(Path(unitgain.__file__).parent)!r}]
sys.modules["unitgain"] = package
"""


def start(code: str, *arguments: object, torch: bool = False) -> subprocess.Popen[str]:
    """Runs code with sys.argv[1:] = arguments; torch: with all of unitgain."""
    program = code if torch else _ALONE + code
    return subprocess.Popen(
        [sys.executable, "-c", program, *map(str, arguments)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def finish(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    """(exit code, standard output, standard error)"""
    out, err = process.communicate(timeout=60)
    return process.returncode, out, err


def said(process: subprocess.Popen[str]) -> str:
    """The next line that it prints."""
    assert process.stdout is not None
    return process.stdout.readline().strip()
