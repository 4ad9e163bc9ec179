"""Page size and time to the first chart of the report page and the live page, for 10, 300 and 1,000 sites.

    python benchmarks/pages.py          # Chromium has to be installed

The record is that of 30 sampled steps of a plain network of linear layers with random statistics. The time is what a
new headless Chromium measures itself, from the beginning of the navigation until the first chart is drawn (`data-
first`). The live page's size is what the server sends in all, plotly.js among it, which a browser keeps.
"""

from __future__ import annotations

import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.request import urlopen

import numpy as np

from unitgain import Record
from unitgain.report import Report
from unitgain.rules import diagnose

SITES, STEPS, TRIES = (10, 300, 1000), 30, 5
LATE = 8.0  # seconds
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
PARTS = (
    "",
    "page/view.css",
    "page/view.js",
    "page/plotly.js",
    "api/runs",
    "api/heat?run=0&quantity=std&known=",
)


def record_of(sites: int, path: Path) -> Record:
    random, record = np.random.default_rng(0), Record(path)
    made = [
        record.add_site(
            "activation", f"block{i // 2}.layer{i % 2}", module="Linear", shape=(64, 32), channel_axis=1
        )
        for i in range(sites)
    ]
    gradients = [record.add_site("gradient", site.name, module="Linear", shape=(64, 32)) for site in made]
    for step in range(STEPS):
        rows = {
            site.id: {
                "count": 2048.0,
                "mean": mean,
                "std": std,
                "rms": std,
                "min": -3.0,
                "max": 3.0,
                "absmax": 3.0,
            }
            for site, mean, std in zip(
                [*made, *gradients], random.normal(0, 0.1, 2 * sites), random.uniform(0.8, 1.2, 2 * sites)
            )
        }
        record.add_scalars(step, rows)
        record.log(step, loss=2.3 - 0.01 * step + random.normal(0, 0.02))
    record.commit()
    return record


class Relay(BaseHTTPRequestHandler):
    """The live page, with a picture that comes late: a headless Chromium looks at a page when it has loaded, which is
    before the charts are there."""

    source = ""

    def do_GET(self) -> None:
        if self.path == "/late.png":
            time.sleep(LATE)
            self.send_error(404)
            return
        with urlopen(self.source.rstrip("/") + self.path) as reply:
            body, kind = reply.read(), reply.headers["content-type"]
        if self.path == "/":
            body = body.replace(b"</body>", b'<img src="/late.png" alt=""></body>')
        self.send_response(200)
        self.send_header("content-type", kind)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def served(folder: Path) -> Iterator[tuple[str, str]]:
    """(address of a run's live page, address of the same with a late picture)."""
    command = [sys.executable, "-m", "unitgain", "view", str(folder), "--port", "0"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    relay = ThreadingHTTPServer(("127.0.0.1", 0), Relay)
    threading.Thread(target=relay.serve_forever, daemon=True).start()
    try:
        assert server.stdout is not None
        Relay.source = next(
            found.group() for line in server.stdout if (found := re.search(r"http://\S+", line))
        )
        yield Relay.source, f"http://127.0.0.1:{relay.server_port}/"
    finally:
        relay.shutdown()
        server.terminate()
        server.wait()


def seconds(address: str) -> float:
    """Until the first chart is there, as a new browser measures it."""
    assert CHROMIUM is not None
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={profile}"]
        command += ["--timeout=20000", "--dump-dom", address]
        dom = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = re.search(r'data-first="(\d+)"', dom)
    if found is None:
        raise SystemExit(f"{address}: no chart within 20 s")
    return int(found.group(1)) / 1000


def row(name: str, sites: int, size: int, address: str) -> str:
    took = sorted(seconds(address) for _ in range(TRIES))
    return (
        f"| {name} | {sites:,} | {size / 1e6:.2f} MB | {statistics.median(took):.2f} s | "
        f"{took[0]:.2f} to {took[-1]:.2f} s |"
    )


def main() -> None:
    if CHROMIUM is None:
        raise SystemExit("Chromium is not installed")
    print("| page | layers | size | first chart, median of five | smallest and largest |", flush=True)
    print("|---|---|---|---|---|")
    for sites in SITES:
        with tempfile.TemporaryDirectory() as folder:
            record = record_of(sites, Path(folder) / "record.sqlite")
            page = Path(folder) / "report.html"
            Report(record, diagnose(record)).save(page)
            print(row("report", sites, page.stat().st_size, page.as_uri()), flush=True)
            with served(Path(folder)) as (address, relayed):
                size = sum(len(urlopen(address + part).read()) for part in PARTS)
                print(row("live", sites, size, relayed), flush=True)
            record.close()
    print(f"\nload of the last minute: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")


if __name__ == "__main__":
    main()
