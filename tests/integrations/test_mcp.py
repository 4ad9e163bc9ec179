"""The server for agents, asked by the real client of the package mcp over standard input and output."""

# the libraries are optional
# pyright: reportMissingImports=false
from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from unitgain import InputError
from unitgain.integrations.mcp import command, options, settings_of

SOURCE = Path(__file__).parents[2] / "src"
NET = """
from torch import nn

print("printed while it is imported")


def make(std=5.0):
    net = nn.Sequential(nn.Linear(16, 32), nn.Tanh(), nn.Linear(32, 4))
    nn.init.normal_(net[0].weight, std=std)
    return net
"""


@pytest.fixture
def ask(tmp_path):
    """Calls tools of a fresh server in a project's folder: [(name, arguments), ...] -> [(text, failed), ...]."""
    mcp = pytest.importorskip("mcp")
    anyio = pytest.importorskip("anyio")
    from mcp.client.stdio import stdio_client

    (tmp_path / "net.py").write_text(NET)

    def call(*calls, arguments=(), between=lambda number: None):
        environment = {**os.environ, "PYTHONPATH": str(SOURCE)}
        server = mcp.StdioServerParameters(
            command=sys.executable,
            args=["-m", "unitgain", "mcp", *arguments],
            env=environment,
            cwd=str(tmp_path),
        )

        async def session():
            async with (
                stdio_client(server) as (reading, writing),
                mcp.ClientSession(reading, writing) as client,
            ):
                await client.initialize()
                tools = (await client.list_tools()).tools
                answers = []
                for number, (name, given) in enumerate(calls):
                    between(number)
                    found = await client.call_tool(name, given)
                    failed = getattr(found, "is_error", getattr(found, "isError", None))
                    answers.append(("".join(part.text for part in found.content), failed))
                return tools, answers

        return anyio.run(session)

    return call


CHECK = {"target": "net.py:make", "shape": "64,16", "loss": "cross_entropy"}


@pytest.mark.filterwarnings("ignore")
def test_an_agent_checks_edits_and_checks_again(ask, tmp_path) -> None:
    def edit(number: int) -> None:
        if number == 2:
            (tmp_path / "net.py").write_text(NET.replace("std=5.0", "std=0.25"))

    tools, answers = ask(("check", CHECK), ("explain", {"code": "saturated"}), ("check", CHECK), between=edit)
    assert {tool.name for tool in tools} == {"check", "explain", "fix", "read_run"}
    assert all(tool.description and tool.annotations is not None for tool in tools)
    first, rule, second = (text for text, failed in answers if not failed)
    assert first.startswith("# unitgain: sick")
    assert "UG303" in first
    assert "printed while" not in first
    assert rule.startswith("# UG303 saturated")
    assert "UG303 saturated, UG" in second or "UG303" not in second.partition("## Ruled out")[0]


@pytest.mark.filterwarnings("ignore")
def test_nothing_is_written_unless_the_server_may(ask, tmp_path) -> None:
    before = sorted(p.name for p in tmp_path.iterdir())
    _, answers = ask(
        ("fix", CHECK),
        ("fix", {**CHECK, "out": "w.safetensors"}),
        ("check", {**CHECK, "target": "--html=evil.html"}),
        ("check", {**CHECK, "data": "nowhere.npz", "shape": None}),
        ("check", {**CHECK, "settings": {"std": 0.25}}),
        ("read_run", {"run_path": "nowhere.sqlite"}),
    )
    assert [failed for _, failed in answers] == [False, True, True, True, False, True]
    assert "start it with unitgain mcp --write" in answers[1][0]
    assert "nowhere.npz" in answers[3][0]
    assert sorted(p.name for p in tmp_path.iterdir() if p.name != "__pycache__") == before


@pytest.mark.filterwarnings("ignore")
def test_weights_are_written_where_that_is_allowed(ask, tmp_path) -> None:
    _, ((text, failed),) = ask(("fix", {**CHECK, "out": "w.safetensors"}), arguments=["--write"])
    assert not failed, text
    assert (tmp_path / "w.safetensors").exists()


def test_values_cannot_become_options() -> None:
    assert options(data="--html=x", prove=True, lr=None, steps=0) == [
        "--data=--html=x",
        "--prove",
        "--steps=0",
    ]
    assert settings_of({"width": 3, "sizes": [1, 2], "bias": False}) == [
        "--set=width=3", "--set=sizes=[1, 2]", "--set=bias=False"
    ]  # fmt: skip


def test_a_call_that_takes_too_long_ends(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "slow.py").write_text("import time\ntime.sleep(60)\n")
    with pytest.raises(InputError, match="not done after 1 seconds"):
        command(("check", "--shape=2,2", "--", "slow.py:make"), 1.0)
