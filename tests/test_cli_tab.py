"""Tab: what is offered for a line, and the scripts that make bash, zsh and fish ask."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from unitgain.cli import app, main
from unitgain.cli.tab import answer, install

MODELS = """
class Net:
    def __init__(self, width=3): ...
def small(depth, width=3): ...
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "m.py").write_text(MODELS)
    return tmp_path


_TYPED = {  # line -> one of the words that are offered
    "unitgain wha": "whatif\tTrain one network in several settings, side by side.",
    "unitgain check char_mlp_de": "char_mlp_deep",
    "unitgain check m": "m.py:",
    "unitgain check m.py:": "m.py:Net",
    "unitgain check m.py:Net --data b": ":files",
    "unitgain check m.py:small --set ": "depth=",
    "unitgain train m.py:Net --set ": "width=",
    "unitgain check x --dataset fash": "fashion-mnist",
    "unitgain check x --dataset=fash": "--dataset=fashion-mnist",
    "unitgain check x --select UG1": "UG101\tconfident-at-init",
    "unitgain check x --select UG101,sat": "UG101,saturated\tUG303",
    "unitgain check x --fail": "--fail-on\tExit with 1 for findings this severe",
    "unitgain check x --fail-on w": "warning",
    "unitgain rules satur": "saturated\tUG303",
    "unitgain train make": "makemore",
    "unitgain train makemore --set varian": "variant=",
    "unitgain train makemore --set variant=k": "variant=kaiming",
    "unitgain recipes im": "imagenet",
    "unitgain data fetch ": "names",
    "unitgain -q whatif x --vary nor": "norm=\tnone,batch,layer,group,scaled-ws",
}


def test_tab_offers_what_there_is_without_torch(here: Path) -> None:
    """One process answers all lines: a shell would start one for each."""
    ask = (
        "import sys, json, typer\nfrom unitgain.cli.commands import app\nfrom unitgain.cli.tab import answer\n"
        "program = typer.main.get_command(app)\n"
        "print(json.dumps([answer('zsh', line.split(' ')[1:], program).splitlines() for line in sys.argv[1:]]))\n"
        "assert 'torch' not in sys.modules"
    )
    asked = [sys.executable, "-c", ask, *_TYPED]
    told = subprocess.run(asked, capture_output=True, text=True, timeout=60, check=True)
    for (line, offered), words in zip(_TYPED.items(), json.loads(told.stdout)):
        assert offered in words, line


def test_tab_in_bash_gives_what_bash_has_not_yet(here: Path) -> None:
    """bash ends words at = and :, of which it keeps what is there; spaces have to be escaped."""
    Path("a b").mkdir()
    Path("a b/m.py").write_text("def good(): ...")
    program = typer.main.get_command(app)
    assert answer("bash", ["X=1 unitgain whatif x --vary norm=", " \n=:"], program).startswith("none,")
    assert answer("bash", ["unitgain check a", " \n=:"], program) == "a\\ b/"
    assert answer("bash", ["unitgain check a\\ b/m.py:g", " \n=:"], program) == "good"
    assert answer("bash", ["unitgain check 'a b/m", " \n"], program) == "a\\ b/m.py:"


def test_completion_is_installed_once(tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".bashrc").write_text("PS1='$ '")
    for shell in ("bash", "bash", "zsh", "fish"):
        install(shell)
    assert (tmp_path / ".bashrc").read_text() == "PS1='$ '\nsource ~/.bash_completions/unitgain.sh\n"
    assert (tmp_path / ".config/fish/completions/unitgain.fish").exists()
    assert main(["--show-completion", "zsh"]) == 0
    assert capsys.readouterr().out.endswith((tmp_path / ".zfunc/_unitgain").read_text())
    assert main(["--show-completion", "csh"]) == 2
    assert "bash, zsh, fish" in capsys.readouterr().err
