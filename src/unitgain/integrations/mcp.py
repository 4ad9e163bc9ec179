"""An MCP server: an agent checks a model, has a finding explained, tries repairs and reads a run, by `unitgain mcp`.

https://modelcontextprotocol.io. Each call is a run of the command line in a process of its own: an agent edits a model
and checks it again, and a module that had been imported before would still be the old one; what the model prints goes
nowhere near the protocol; a crash ends that process alone.
"""

# the libraries are optional
# pyright: reportMissingImports=false
from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from functools import partial
from typing import Any, Literal

from .._base import InputError, not_installed, printable

_INSTRUCTIONS = """Measures PyTorch models: what is wrong with initialization, activations, gradients, loss and
optimizer, and what to change at which line. Start with `check` on the model and one batch; `explain` gives a rule's
reasons and thresholds; `fix` tries repairs and puts everything back; `read_run` judges a training that was recorded.
Checking a model runs its code on this machine. After a change to the code, check again: each call reads files anew."""

_LONGEST = 100_000  # characters of one answer

DataSet = Literal["names", "fashion-mnist"]


def serve(*, write: bool = False, timeout: float = 600.0) -> None:
    """Answers on the standard input and output until they are closed.

    write    let `fix` write repaired weights; otherwise nothing is ever written
    timeout  seconds that one call may take

    Raises InputError without the package mcp.
    """
    make_server(write=write, timeout=timeout).run("stdio")


def make_server(*, write: bool = False, timeout: float = 600.0) -> Any:
    """The server with its tools. What agents are told of arguments is in the tools' docstrings."""
    try:
        from anyio import to_thread
        from mcp.types import ToolAnnotations

        try:
            from mcp.server.mcpserver import MCPServer as Server
            from mcp.server.mcpserver.exceptions import ToolError
        except ImportError:  # before version 2 of the package
            from mcp.server.fastmcp import FastMCP as Server  # pyright: ignore
            from mcp.server.fastmcp.exceptions import ToolError  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise not_installed("unitgain mcp", "mcp", "mcp") from error
    server = Server("unitgain", instructions=_INSTRUCTIONS)
    reads = ToolAnnotations.model_validate({"readOnlyHint": True, "openWorldHint": False})

    async def run(*arguments: str) -> str:
        try:
            return await to_thread.run_sync(partial(command, arguments, timeout))
        except InputError as error:  # of other exceptions an agent is not told the text
            raise ToolError(str(error)) from error

    @server.tool(annotations=reads)
    async def check(
        target: str,
        data: str | None = None,
        dataset: DataSet | None = None,
        shape: str | None = None,
        tokens: int | None = None,
        loss: str = "auto",
        steps: int = 0,
        optimizer: Literal["sgd", "adam", "adamw"] | None = None,
        lr: float | None = None,
        prove: bool = False,
        settings: dict[str, Any] | None = None,
        select: str | None = None,
        ignore: str | None = None,
    ) -> str:
        """Measures a model on one batch and says what is wrong, why, and what to change where. Changes nothing.

        target: path/to/file.py:callable, package.module:callable, timm:NAME, torchvision:NAME or a built-in model.
        The batch is one of data (a .npz or .safetensors file with inputs and targets, or a folder of images), dataset,
        and shape (random input, examples first: "64,3,32,32"; with tokens=V random token numbers below V). Real data
        finds more than random input.
        loss: auto, cross_entropy, mse, bce_with_logits, nll, l1 or smooth_l1.
        steps: so many optimizer steps are rehearsed and taken back, so that optimizer and lr are judged too (20).
        prove: the advice is tried by short trainings; slower. settings: keyword arguments of the callable.
        select, ignore: codes of rules, "UG101,UG3".
        """
        return await run(
            "check", "--format=markdown", "--fail-on=never",
            *options(data=data, dataset=dataset, shape=shape, tokens=tokens, loss=loss, steps=steps or None,
                     optimizer=optimizer, lr=lr, prove=prove, select=select, ignore=ignore),
            *settings_of(settings), "--", target,
        )  # fmt: skip

    @server.tool(annotations=reads)
    async def explain(code: str) -> str:
        """Explains a rule by its code (UG303): what it sees, why that matters, its source, how it is measured, its
        thresholds, what to do."""
        return await run("rules", "--", code)

    @server.tool(annotations=None if write else reads)
    async def fix(
        target: str,
        data: str | None = None,
        dataset: DataSet | None = None,
        shape: str | None = None,
        loss: str = "auto",
        only: str | None = None,
        settings: dict[str, Any] | None = None,
        out: str | None = None,
    ) -> str:
        """Tries every repair that can be made mechanically, measures again, trains a little, and reports what helped.
        The model and its files stay as they are.

        Arguments as for check. only: repair only these findings, "UG101,UG3". out: write the repaired weights to this
        .safetensors file; refused unless the server was started with --write.
        """
        if out is not None and not write:
            raise ToolError(
                "out: this server writes nothing; start it with unitgain mcp --write, or omit out"
            )
        return await run(
            "fix", "--format=markdown", "--fail-on=never", "--dry-run" if out is None else f"--out={out}",
            *options(data=data, dataset=dataset, shape=shape, loss=loss, only=only), *settings_of(settings),
            "--", target,
        )  # fmt: skip

    @server.tool(annotations=reads)
    async def read_run(run_path: str, select: str | None = None, ignore: str | None = None) -> str:
        """Judges a training that was recorded or logged, also one that is still running.

        run_path: a record (.sqlite), the folder of a run, or a log: .csv, .jsonl, trainer_state.json, TensorBoard's
        event files or their folder, a .wandb file or the folder of an offline run.
        """
        return await run(
            "check",
            "--format=markdown",
            "--fail-on=never",
            *options(select=select, ignore=ignore),
            "--",
            run_path,
        )

    return server


def options(**given: Any) -> list[str]:
    """--name=value of everything that was given; no value can be taken for an option of its own."""
    found = []
    for name, value in given.items():
        if value is True:
            found.append(f"--{name}")
        elif value is not None and value is not False:
            found.append(f"--{name}={value}")
    return found


def settings_of(given: Mapping[str, Any] | None) -> list[str]:
    return [f"--set={key}={value!r}" if isinstance(value, (list, tuple, bool)) else f"--set={key}={value}"
            for key, value in (given or {}).items()]  # fmt: skip


def command(arguments: tuple[str, ...], timeout: float) -> str:
    """What the command line prints, with its notes at the end. Raises InputError with its one line where it fails."""
    environment = {**os.environ, "PYTHONIOENCODING": "utf-8", "COLUMNS": "120"}
    try:
        done = subprocess.run(
            [sys.executable, "-m", "unitgain", *arguments], capture_output=True, text=True, encoding="utf-8",
            errors="replace", timeout=timeout, env=environment, stdin=subprocess.DEVNULL,
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        late = f"unitgain {arguments[0]}: not done after {timeout:g} seconds; a smaller batch may help"
        raise InputError(late) from error
    if done.returncode not in (0, 1):
        lines = done.stderr.strip().splitlines() or [f"ended with exit code {done.returncode}"]
        raise InputError(next((line for line in reversed(lines) if line.startswith("unitgain:")), lines[-1]))
    return printable(done.stdout.strip(), _LONGEST, keep_lines=True)
