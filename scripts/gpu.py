"""What `make gpu` does: the GPU tests and the benchmark grid, one page of results.

    python scripts/gpu.py [--out DIR or FILE.md] [--seconds N] [--rehearse]

Where torch finds no CUDA device it says so and is done: that is no failure. Exit status 1 if a test failed or the
grid did not come to its end; the grid runs either way. While the tests run, other processes compile the networks
that the grid measures compiled, so that it finds them in the compiler's cache.

--out       where the page goes, DATE-gpu.md, with the tests' log beside it; default: benchmarks/results, the log in
            build/gpu
--seconds   for all of it; what does not fit is left out of the grid, and named
--rehearse  everything on the CPU with tiny models, to try this program out
"""

from __future__ import annotations

import argparse
import datetime
import importlib.util
import os
import re
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LONGEST_TESTS = 210.0  # seconds, then they are stopped
LONGEST_WARMING = 70.0  # after the tests
LEAST_GRID = 100.0
NETWORKS = ("nf_resnet50", "nf_resnet50-timm", "resnet50", "nfnet_f0", "nfnet_f0-timm")


def main() -> int:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--out", type=Path)
    parser.add_argument("--seconds", type=float, default=300.0)
    parser.add_argument("--rehearse", action="store_true")
    parser.add_argument("--only", default="", help="a part of the tests and of the grid, for a rehearsal")
    options = parser.parse_args()
    start = time.monotonic()

    import torch

    if not options.rehearse and not torch.cuda.is_available():
        print(
            f"make gpu: skipped, because torch {torch.__version__} finds no CUDA device here; nothing was run."
        )
        return 0
    page, logs = places(options.out)
    threads = str(max(1, (os.cpu_count() or 2) // 8))
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "TORCHINDUCTOR_COMPILE_THREADS": threads}
    if options.rehearse:
        environment["UNITGAIN_GPU_TESTS"] = "cpu"
    environment["PYTHONUNBUFFERED"] = "1"

    warming = [] if options.rehearse else [start_warming(name, logs, environment) for name in NETWORKS]
    try:
        failed = run_tests(logs / "gpu-tests.log", environment, options.only)
        wait_for(warming, LONGEST_WARMING)
    finally:
        for process in warming:
            if process.poll() is None:
                process.kill()
                process.wait()
    for name in NETWORKS if warming else ():
        lines = (logs / f"warm-{name}.log").read_text(encoding="utf-8", errors="replace").strip().splitlines()
        print(f"  {name}: {lines[-1][:200] if lines else 'was not compiled in time'}")

    left = max(options.seconds - (time.monotonic() - start), LEAST_GRID)
    command = [sys.executable, "benchmarks/gpu.py", "--out", str(page), "--budget", f"{left:.0f}",
               "--tests", str(logs / "gpu-tests.log"), "--only", options.only]  # fmt: skip
    if options.rehearse:
        command += ["--device", "cpu", "--tiny"]
    environment.pop("TORCHINDUCTOR_COMPILE_THREADS")
    grid = subprocess.run(command, cwd=ROOT, env=environment)
    print(f"make gpu: {time.monotonic() - start:.0f} s; the page is {page}")
    return 1 if failed or grid.returncode else 0


def places(out: Path | None) -> tuple[Path, Path]:
    """(the page, the folder for logs), made."""
    name = f"{datetime.date.today()}-gpu.md"
    if out is None:
        page, logs = ROOT / "benchmarks" / "results" / name, ROOT / "build" / "gpu"
    elif out.suffix == ".md":
        page, logs = out.resolve(), out.resolve().parent
    else:
        page, logs = out.resolve() / name, out.resolve()
    for folder in (page.parent, logs):
        folder.mkdir(parents=True, exist_ok=True)
    return page, logs


def start_warming(name: str, logs: Path, environment: dict[str, str]) -> subprocess.Popen[bytes]:
    with open(logs / f"warm-{name}.log", "wb") as log:
        command = [sys.executable, "benchmarks/gpu.py", "--warm", name]
        return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=subprocess.STDOUT)


def run_tests(log: Path, environment: dict[str, str], only: str) -> bool:
    """Whether a test failed, or there was none. The log has everything; what failed is printed."""
    command = [sys.executable, "-m", "pytest", "tests/gpu", "-o", "addopts=", "--import-mode=importlib", "-q",
               "-W", "default", "--disable-warnings", "-p", "no:cacheprovider", "--tb=short", "-rfE",
               "--durations=5", "--color=no"]  # fmt: skip
    if only:
        command += ["-k", only]
    elif importlib.util.find_spec("xdist"):
        command += ["-n", "4", "--dist", "worksteal"]
    with open(log, "wb") as file:
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=file, stderr=subprocess.STDOUT)
        try:
            status = process.wait(LONGEST_TESTS)
        except subprocess.TimeoutExpired:
            process.terminate()
            process.wait()
            status = 1
            file.write(b"\nFAILED the tests took too long and were stopped\n")
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    if status:
        shown = [
            line for line in lines if re.match(r"E  |_{4}|FAILED|ERROR|tests/.*: in |tests/.*Error", line)
        ]
        print("\n".join(line[:220] for line in shown[:120]))
    print(
        "GPU tests:",
        next((x for x in reversed(lines) if re.search(r"\d+ (passed|failed|error)", x)), "no summary"),
    )
    sys.stdout.flush()
    return status != 0


def wait_for(processes: list[subprocess.Popen[bytes]], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while any(p.poll() is None for p in processes) and time.monotonic() < deadline:
        time.sleep(0.2)


if __name__ == "__main__":
    sys.exit(main())
