"""The server of the live page: starlette under uvicorn, read-only.

    GET /                        the page
    GET /page/NAME               its script, its style, plotly.js (from the plotly package)
    GET /api/runs                all runs: state, metrics, update ratios, findings
    GET /api/heat?run=0&quantity=std[&known=VERSION]     one quantity of every layer over the steps
    GET /api/site?run=0&quantity=std&row=3               one layer

Handlers are plain functions, which starlette runs in threads: reading a record waits for a disk.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Sequence
from functools import cache
from importlib.resources import files
from typing import Any

from .._base import InputError, not_installed
from . import data
from .guard import Guard, is_loopback
from .judging import Judge
from .run import Run, name_apart

PAGE = {"view.js": "text/javascript", "view.css": "text/css", "plotly.js": "text/javascript"}


def make_app(
    runs: Sequence[Run], *, host: str = "127.0.0.1", token: str | None = None, judge: Judge | None = None
) -> Any:
    """The ASGI application.

    host    the address that it is served at, which decides the names that it answers to
    token   what every request must show; needed where host is not this machine's own address
    judge   what says what the rules find; None: one is started

    Raises InputError without the package starlette, and for a host beyond this machine without a token.
    """
    try:
        from starlette.applications import Starlette
        from starlette.requests import Request
        from starlette.responses import Response
        from starlette.routing import Route
    except ImportError as error:
        raise not_installed("unitgain view", "starlette", "view") from error
    if token is None and not is_loopback(host):
        raise InputError(f"--host {host}: other machines can reach this address, so a token is needed")
    name_apart(runs)
    judging = judge or Judge(runs).start()

    def answer(make: Callable[[Request], Any]) -> Callable[[Request], Response]:
        def handler(request: Request) -> Response:
            try:
                body = json.dumps(make(request), allow_nan=False, separators=(",", ":"))
                return Response(body, media_type="application/json", headers={"cache-control": "no-store"})
            except (InputError, KeyError, ValueError) as error:
                said = (
                    str(error) if isinstance(error, InputError) else "the address asks for something unknown"
                )
                return Response(json.dumps({"error": said}), 400, media_type="application/json")

        return handler

    def run_of(request: Request) -> Run:
        number = int(request.query_params.get("run", "0"))
        if not 0 <= number < len(runs):
            raise InputError(f"run {number}: there are {len(runs)}")
        return runs[number]

    def overview(request: Request) -> Any:
        return data.overview(runs, [judging.of(run) for run in runs])

    def heat(request: Request) -> Any:
        run = run_of(request)
        run.refresh()
        if request.query_params.get("known") == str(run.version):
            return {"same": True}
        return data.heat(run, request.query_params["quantity"])

    def one_site(request: Request) -> Any:
        given = request.query_params
        return data.site(run_of(request), int(given["row"]), given["quantity"])

    def index(request: Request) -> Response:
        return Response(page("view.html"), media_type="text/html", headers={"cache-control": "no-store"})

    def part(request: Request) -> Response:
        name = request.path_params["name"]
        if name not in PAGE:
            return Response("There is no such part.", 404, media_type="text/plain")
        return Response(page(name), media_type=PAGE[name], headers={"cache-control": "max-age=3600"})

    routes = [
        Route("/", index), Route("/page/{name}", part), Route("/api/runs", answer(overview)),
        Route("/api/heat", answer(heat)), Route("/api/site", answer(one_site)),
    ]  # fmt: skip
    return Guard(Starlette(routes=routes), host, token)


@cache
def page(name: str) -> str:
    """A part of the page as text."""
    if name == "plotly.js":
        from plotly.offline import get_plotlyjs

        return get_plotlyjs()
    return (files("unitgain.view") / "page" / name).read_text(encoding="utf-8")


def serve(
    runs: Sequence[Run],
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    token: bool = False,
    ready: Callable[[str], None],
) -> None:
    """Serves the live page until it is interrupted.

    port   0: a free one
    token  ask for a token on this machine too, which other people use; beyond it one is always asked for
    ready  is given the address to open, once it can be opened

    Raises InputError without the packages of the extra `view`, and for an address that cannot be used.
    """
    import socket

    try:
        import uvicorn
    except ImportError as error:
        raise not_installed("unitgain view", "uvicorn", "view") from error
    secret = secrets.token_urlsafe(24) if token or not is_loopback(host) else None
    judge = Judge(runs)
    app = make_app(runs, host=host, token=secret, judge=judge)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        bound = socket.socket(family, socket.SOCK_STREAM)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((host, port))
        bound.listen()  # who opens the address before the server runs waits, and is not refused
    except (OSError, OverflowError) as error:
        raise InputError(f"--host {host} --port {port}: cannot be used: {error}") from error
    number = bound.getsockname()[1]
    shown = socket.gethostname() if host in ("0.0.0.0", "::") else f"[{host}]" if ":" in host else host
    settings = uvicorn.Config(app, log_level="warning", access_log=False, server_header=False, lifespan="off")
    judge.start()
    try:
        ready(f"http://{shown}:{number}/" + (f"?token={secret}" if secret else ""))
        uvicorn.Server(settings).run(sockets=[bound])
    finally:
        judge.stop()
        bound.close()
