"""The whole suite as other processors would run it: fewer instructions, other sums, one thread and two.

Nothing that unitgain promises may rest on how one processor rounds. What can be changed from outside is: the
instructions of torch's own kernels, of oneDNN's (convolutions) and of MKL's (matrix products, vectorized functions),
and the number of threads.

    python scripts/test_anywhere.py                   all settings
    python scripts/test_anywhere.py aten-avx2 mkl-compatible
    python scripts/test_anywhere.py threads-1 -- tests/recipes -x    arguments of pytest after --

Prints a line per setting, and the tests that failed. The exit code is the number of settings with failures.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time

SETTINGS: dict[str, dict[str, str]] = {
    "as-it-is": {},
    "aten-default": {"ATEN_CPU_CAPABILITY": "default"},
    "aten-avx2": {"ATEN_CPU_CAPABILITY": "avx2"},
    "onednn-sse41": {"ONEDNN_MAX_CPU_ISA": "SSE41"},
    "onednn-avx2": {"ONEDNN_MAX_CPU_ISA": "AVX2"},
    "mkl-compatible": {"MKL_CBWR": "COMPATIBLE"},
    "mkl-avx2": {"MKL_CBWR": "AVX2"},
    "threads-1": {"OMP_NUM_THREADS": "1"},
    "threads-2": {"OMP_NUM_THREADS": "2", "OMP_WAIT_POLICY": "PASSIVE"},
}


def run(name: str, arguments: list[str]) -> bool:
    began = time.monotonic()
    environment = {**os.environ, **SETTINGS[name]}
    processes = max(1, (os.cpu_count() or 1) // int(environment.get("OMP_NUM_THREADS", "1")))
    command = [sys.executable, "-m", "pytest", "-n", str(processes), "--dist", "worksteal", *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    lines = done.stdout.splitlines()
    summary = next(
        (line for line in reversed(lines) if re.search(r"\d (passed|failed|error)", line)), done.stderr
    )
    print(f"{name:15} {summary.strip()} ({time.monotonic() - began:.0f} s)", flush=True)
    for line in lines:
        if line.startswith(("FAILED", "ERROR")):
            print(f"    {line}", flush=True)
    return done.returncode == 0


def main(arguments: list[str]) -> int:
    cut = arguments.index("--") if "--" in arguments else len(arguments)
    names, further = arguments[:cut] or list(SETTINGS), arguments[cut + 1 :]
    unknown = [name for name in names if name not in SETTINGS]
    if unknown:
        sys.exit(f"{unknown[0]}: no such setting; there are {', '.join(SETTINGS)}")
    return sum(not run(name, further) for name in names)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
