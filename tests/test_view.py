"""The live page: over HTTP while a training writes, in a browser, and what it refuses."""

# pyright: reportMissingImports=false
from __future__ import annotations

import io
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import unitgain as ug
from unitgain import InputError
from unitgain._base import console
from unitgain.record import Record
from unitgain.view import Run, find_run, make_app, show
from unitgain.view import data as view_data
from unitgain.view.guard import Guard
from unitgain.view.judging import Judge, thinned
from unitgain.view.run import name_apart
from unitgain.view.series import MOST_COLUMNS, MOST_POINTS, columns, line

sys.path.insert(0, str(Path(__file__).parent / "_base"))
from browser import dump, in_browser, root_of

pytest.importorskip("starlette")
pytest.importorskip("uvicorn")
httpx = pytest.importorskip("httpx")


def train(path: Path, steps: int, rate: float = 0.1, overwrite: bool = False, pause: float = 0.0) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 3))
    optimizer = torch.optim.SGD(model.parameters(), rate)
    record = Record(path, overwrite=overwrite)
    with ug.Probe(model, optimizer, every=1, to=record) as probe:
        for _ in range(steps):
            loss = nn.functional.cross_entropy(model(torch.randn(32, 8)), torch.randint(3, (32,)))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            probe.log(loss=loss.item())
            time.sleep(pause)
    record.close()


@pytest.fixture
def recorded(tmp_path: Path) -> Path:
    train(tmp_path / "run.sqlite", 12)
    return tmp_path / "run.sqlite"


def client(runs: list[Run], **more):
    judge = more.pop("judge", None) or Judge(runs)
    app = make_app(runs, judge=judge, **more)
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://127.0.0.1:8000")


def ask(runs: list[Run], path: str, method: str = "GET", headers: dict | None = None, **more):
    import anyio

    async def once():
        async with client(runs, **more) as opened:
            return await opened.request(method, path, headers=headers)

    return anyio.run(once)


# ---- numbers -------------------------------------------------------------------------------------------------


def test_a_thinned_line_keeps_every_spike_and_gap() -> None:
    values = np.ones(100_000)
    values[54_321], values[70_000] = 9.0, np.nan
    steps, kept = line(np.arange(100_000), values)
    assert len(steps) <= MOST_POINTS * 1.1
    assert kept[steps.index(54_321)] == 9.0
    assert kept[steps.index(70_000)] is None
    assert (steps[0], steps[-1]) == (0, 99_999)
    assert steps == sorted(set(steps))


def test_columns_stay_the_same_while_a_run_grows() -> None:
    before, after = (set(columns(list(range(n)))[:-1]) for n in (10_000, 10_400))
    assert before <= after
    assert len(columns(list(range(100_000)))) <= MOST_COLUMNS + 1


def test_rules_are_given_a_part_of_a_long_record_and_say_the_same() -> None:
    record = Record()
    relu = {"role": "activation", "function": "relu"}
    sites = [
        record.add_site("activation", f"l{i}", position=i, shape=(8, 4), attributes=relu) for i in range(3)
    ]
    for step in range(900):
        record.add_scalars(step, {s.id: {"rms": 1.0, "std": 1.0, "units": 4.0, "dead": 0.0} for s in sites})
        record.log(step, loss=float(np.exp(-step / 300)))
    copy = thinned(record, record.steps())
    steps = copy.steps()
    assert len(steps) <= 320
    assert steps[:3] == [0, 1, 2]
    assert steps[-2:] == [898, 899]
    assert copy.values("activation", 899) == record.values("activation", 899)
    assert len(copy.metric("loss")[0]) == 900
    assert ug.diagnose(copy).verdict == ug.diagnose(record).verdict


# ---- a run ---------------------------------------------------------------------------------------------------


def test_a_run_that_began_anew_under_the_same_name_is_read_anew(tmp_path: Path) -> None:
    path = tmp_path / "run.sqlite"
    train(path, 20)
    run = Run(path)
    assert (len(run.steps), len(run.metrics["loss"][0])) == (20, 20)
    train(path, 6, overwrite=True)
    run.refresh(force=True)
    assert (len(run.steps), len(run.metrics["loss"][0])) == (6, 6)
    path.unlink()
    run.refresh(force=True)
    assert run.trouble == "the record is gone"
    assert run.state() == "waiting"
    assert len(run.steps) == 6  # what was read stays


def test_a_run_that_was_resumed_shows_what_is_in_the_record_now(tmp_path: Path) -> None:
    path = tmp_path / "run.sqlite"
    train(path, 20)
    run = Run(path)
    assert len(run.steps) == 20
    again = Record.reopen(path, before=8)
    again.log(8, loss=77.0)
    again.close()
    run.refresh(force=True)
    assert run.steps == list(range(8))
    assert run.metrics["loss"][1][-1] == 77.0


def test_new_steps_are_read_and_old_ones_are_not_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "run.sqlite"
    record = Record(path)
    site = record.add_site("activation", "a")
    record.add_scalars(0, {site.id: {"std": 1.0}})
    record.log(0, loss=1.0)
    record.commit()
    run = Run(path)
    assert run.steps == [0]
    asked: list[int | None] = []
    plain = Record.steps
    monkeypatch.setattr(Record, "steps", lambda self, after=None: asked.append(after) or plain(self, after))
    for step in range(1, 5):
        record.add_scalars(step, {site.id: {"std": float(step)}})
        record.log(step, loss=1.0 + step)
    record.commit()
    run.refresh(force=True)
    assert run.steps == [0, 1, 2, 3, 4]
    assert run.metrics["loss"][1].tolist() == [1, 2, 3, 4, 5]
    assert run.table("activation", ["a", "missing"], "std", [0, 4])[0].tolist() == [1.0, 4.0]
    assert None not in asked
    record.close()


def test_a_folder_without_a_record_yet_is_waited_for_and_what_is_neither_is_refused(tmp_path: Path) -> None:
    run = find_run(str(tmp_path))
    assert run.state() == "waiting"
    assert run.steps == []
    train(tmp_path / "record.sqlite", 3)
    run.refresh(force=True)
    assert len(run.steps) == 3
    for wrong in ("missing", __file__):
        with pytest.raises(InputError):
            find_run(str(tmp_path / wrong))


def test_runs_are_called_by_what_tells_them_apart(tmp_path: Path) -> None:
    runs = [Run(tmp_path / f"{a}/record.sqlite", f"{tmp_path}/{a}") for a in ("x/tanh", "y/tanh", "y/relu")]
    name_apart(runs)
    assert [run.name for run in runs] == ["x/tanh", "y/tanh", "y/relu"]
    twice = [Run(tmp_path / "a", "a"), Run(tmp_path / "a", "a")]
    name_apart(twice)
    assert [run.name for run in twice] == ["a (1)", "a (2)"]


# ---- over HTTP -----------------------------------------------------------------------------------------------


def test_what_the_page_asks_for_is_strict_json_of_the_record(recorded: Path) -> None:
    runs = [Run(recorded)]
    judge = Judge(runs)
    judge.judge()
    body = json.loads(ask(runs, "/api/runs", judge=judge).text)
    (found,) = body["runs"]
    assert (found["state"], found["step"], found["sampled"], found["sites"]) == ("ended", 11, 12, 5)
    assert len(found["metrics"]["loss"][0]) == 12
    assert found["verdict"]
    assert len(found["updates"]["middle"]) >= 11
    for quantity in view_data.QUANTITIES:
        heat = ask(runs, f"/api/heat?run=0&quantity={quantity}").json()
        assert all(len(row) == len(heat["steps"]) for row in heat["values"])
    assert ask(runs, "/api/heat?run=0&quantity=std").json()["sites"][1] == "1 · Tanh"
    one = ask(runs, "/api/site?run=0&quantity=std&row=1").json()
    assert one["site"] == "1 · Tanh"
    assert "saturated" in one["lines"]


@pytest.mark.parametrize(
    "path",
    ["/api/heat?run=0&quantity=none", "/api/heat?run=7&quantity=std", "/api/heat?run=x&quantity=std", "/api/heat?run=0",
     "/api/site?run=0&quantity=std&row=99", "/api/site?run=0&quantity=std&row=-1"],
)  # fmt: skip
def test_an_address_that_asks_for_nothing_known_is_a_400_with_a_reason(recorded: Path, path: str) -> None:
    reply = ask([Run(recorded)], path)
    assert reply.status_code == 400
    assert reply.json()["error"]


@pytest.mark.parametrize(
    "path",
    ["/page/../view.html", "/page/%2e%2e%2fserver.py", "/page/view.html", "/etc/passwd", "/page//etc/passwd"],
)
def test_no_file_but_the_page_s_own_parts_can_be_asked_for(recorded: Path, path: str) -> None:
    assert ask([Run(recorded)], path).status_code == 404


def test_the_page_and_its_parts_come_with_a_policy(recorded: Path) -> None:
    for path in ("/", "/page/view.js", "/page/view.css", "/page/plotly.js"):
        reply = ask([Run(recorded)], path)
        assert reply.status_code == 200
        assert "default-src 'none'" in reply.headers["content-security-policy"]
        assert reply.headers["x-content-type-options"] == "nosniff"
    assert "http" not in ask([Run(recorded)], "/").text.replace("http-equiv", "")


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
def test_nothing_but_reading_is_answered(recorded: Path, method: str) -> None:
    assert ask([Run(recorded)], "/api/runs", method).status_code == 405


REFUSED = [
    ({"host": "evil.example"}, 421), ({"host": "evil.example:8000"}, 421), ({"host": "127.0.0.1.evil.example"}, 421),
    ({"host": ""}, 421), ({"origin": "http://evil.example"}, 403), ({"origin": "null"}, 403),
    ({"origin": "http://127.0.0.1:9999"}, 403), ({"sec-fetch-site": "cross-site"}, 403),
    ({"sec-fetch-site": "same-site"}, 403),
    ({"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate", "sec-fetch-dest": "iframe"}, 403),
]  # fmt: skip


@pytest.mark.parametrize(("headers", "status"), REFUSED)
def test_another_site_s_page_can_read_nothing(recorded: Path, headers: dict, status: int) -> None:
    assert ask([Run(recorded)], "/api/runs", headers=headers).status_code == status


ANSWERED = [
    {}, {"host": "localhost:8000"}, {"host": "[::1]:8000"}, {"origin": "http://127.0.0.1:8000"},
    {"sec-fetch-site": "same-origin"},
    {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate", "sec-fetch-dest": "document"},
]  # fmt: skip


@pytest.mark.parametrize("headers", ANSWERED)
def test_the_page_itself_is_answered(recorded: Path, headers: dict) -> None:
    assert ask([Run(recorded)], "/api/runs", headers=headers).status_code == 200


def test_beyond_this_machine_a_token_is_needed(recorded: Path) -> None:
    runs, secret = [Run(recorded)], "s3cret"
    with pytest.raises(InputError, match="token"):
        make_app(runs, host="0.0.0.0", judge=Judge(runs))
    given = {"host": "0.0.0.0", "token": secret}
    elsewhere = {"host": "192.168.1.5:8000"}
    assert ask(runs, "/api/runs", headers=elsewhere, **given).status_code == 401
    assert ask(runs, "/?token=wrong", headers=elsewhere, **given).status_code == 401
    entry = ask(runs, f"/?token={secret}", headers=elsewhere, **given)
    assert (entry.status_code, entry.headers["location"]) == (303, "/")
    assert "HttpOnly" in entry.headers["set-cookie"]
    assert "SameSite=Strict" in entry.headers["set-cookie"]
    cookie = entry.headers["set-cookie"].partition(";")[0]
    assert ask(runs, "/api/runs", headers={**elsewhere, "cookie": cookie}, **given).status_code == 200
    bearer = {**elsewhere, "authorization": f"Bearer {secret}"}
    assert ask(runs, "/api/runs", headers=bearer, **given).status_code == 200
    assert ask(runs, "/api/runs", headers={**bearer, "host": "evil.example"}, **given).status_code == 421
    assert ask(runs, "/page/view.js", headers=elsewhere, **given).status_code == 401


def test_websockets_are_not_answered(recorded: Path) -> None:
    import anyio

    async def app(*_):
        raise AssertionError("it must not get there")

    sent: list = []

    async def send(message):
        sent.append(message)

    anyio.run(Guard(app, "127.0.0.1", None), {"type": "websocket", "headers": []}, None, send)
    assert sent == []


class Server:
    """unitgain view in a process of its own."""

    def __init__(self, *arguments: str):
        self.process = subprocess.Popen(
            [sys.executable, "-m", "unitgain", "view", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        self.address = self.process.stdout.readline().strip()

    def __enter__(self) -> Server:
        assert self.address.startswith("http://"), self.process.communicate()
        return self

    def __exit__(self, *_) -> None:
        self.process.send_signal(signal.SIGINT)
        try:
            self.process.communicate(timeout=30)
        except subprocess.TimeoutExpired:
            self.process.kill()

    def get(self, path: str):
        return httpx.get(self.address + path, timeout=30)


@pytest.mark.skipif(os.name == "nt", reason="SIGINT")
def test_a_training_that_writes_is_watched_and_its_death_is_survived(tmp_path: Path) -> None:
    path = tmp_path / "run.sqlite"
    here = f"import sys, pathlib; sys.path.insert(0, {str(Path(__file__).parent)!r}); import test_view"
    code = f"{here}; test_view.train(pathlib.Path({str(path)!r}), 100_000, pause=0.005)"
    writer = subprocess.Popen([sys.executable, "-c", code])
    try:
        until(lambda: path.exists() and path.stat().st_size > 0)
        with Server(str(path)) as server:

            def now():
                return server.get("api/runs").json()["runs"][0]

            until(lambda: now()["sampled"] > 5)
            first = now()
            assert first["state"] == "running"
            until(lambda: now()["step"] > first["step"])
            until(lambda: now()["verdict"] != "")
            writer.kill()
            writer.wait()
            until(lambda: now()["state"] == "stopped")
            dead = now()
            assert dead["sampled"] >= first["sampled"]
            assert server.get("api/heat?run=0&quantity=std").json()["values"]
            for part in (path, path.with_name("run.sqlite-wal"), path.with_name("run.sqlite-shm")):
                part.unlink(missing_ok=True)
            until(lambda: now()["state"] == "waiting")
            train(path, 4)
            until(lambda: now()["sampled"] == 4)
            assert now()["state"] == "ended"
    finally:
        writer.kill()
        writer.wait()


def until(holds, seconds: float = 60.0) -> None:
    """Waits for what another process does; a limit keeps a failure from hanging."""
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.2)


# ---- terminal and command line -------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [60, 80, 140])
def test_the_terminal_shows_state_loss_and_verdict_in_any_width(recorded: Path, width: int) -> None:
    stream = io.StringIO()
    show([Run(recorded), Run(recorded)], screen=console(file=stream, width=width))
    text = stream.getvalue()
    assert "ended" in text
    assert "step 11" in text
    assert "loss" in text
    assert "(1)" in text
    assert max(map(len, text.splitlines())) <= width


def test_a_terminal_is_drawn_until_the_run_has_ended(recorded: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("unitgain.view.terminal.EVERY", 0.01)
    stream = io.StringIO()
    show([Run(recorded)], screen=console(file=stream, width=80, force_terminal=True))
    assert "ended" in stream.getvalue()


def test_a_port_that_is_taken_and_a_missing_run_are_one_line(recorded: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        for arguments in (
            [str(recorded), "--port", port],
            ["no/such/run"],
            [str(recorded), "--terminal", "--port", "80"],
        ):
            done = subprocess.run(
                [sys.executable, "-m", "unitgain", "view", *arguments], capture_output=True, text=True
            )
            assert done.returncode == 2
            assert len(done.stderr.splitlines()) == 1


# ---- in a browser --------------------------------------------------------------------------------------------


class TestInChromium:
    pytestmark = in_browser

    @pytest.mark.parametrize("width", [500, 1280])
    def test_two_runs_are_drawn_while_one_is_written(self, tmp_path: Path, width: int) -> None:
        first, second = tmp_path / "a<b>.sqlite", tmp_path / "second.sqlite"
        train(first, 12)
        writer = threading.Thread(target=train, args=(second, 200), kwargs={"pause": 0.02})
        writer.start()
        try:
            until(lambda: second.exists() and second.stat().st_size > 0)
            with Server(str(first), str(second)) as server:
                dom, log = dump(server.address, tmp_path, width, budget=9000)
        finally:
            writer.join()
        root = root_of(dom)
        assert root["data-ready"] == "true"
        assert "data-errors" not in root, root["data-errors"]
        assert not [text for text in log.splitlines() if "CONSOLE" in text], log
        assert "a&lt;b&gt;.sqlite" in dom
        assert "<b>.sqlite" not in dom
        for chart in ("metric-plot", "update-plot", "heat-plot"):
            assert "main-svg" in dom.partition(f'id="{chart}"')[2].partition("</section>")[0]
