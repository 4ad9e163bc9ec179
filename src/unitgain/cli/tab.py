"""Tab in bash, zsh and fish: the answer to a shell that asks, and the scripts that make it ask (shells/).

A script starts unitgain with _UNITGAIN_COMPLETE=SHELL and the line so far: zsh and fish give its words, the last of
them as far as it is typed; bash gives the line up to the cursor and the signs at which it ends words of its own. The
answer is a line for each word that is offered, in zsh and fish "word<tab>remark", or ":files" where the shell should
offer its files.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import typer

from .._base import InputError, note, say
from .completion import FILES, Given, Offer, offers

ASKING = "_UNITGAIN_COMPLETE"
_HERE = Path(__file__).with_name("shells")
# shell -> (the script's place under HOME, the file read at the shell's start and the line that it needs there)
_PLACES = {
    "bash": (".bash_completions/unitgain.sh", ".bashrc", "source ~/.bash_completions/unitgain.sh"),
    "zsh": (".zfunc/_unitgain", ".zshrc", "fpath+=~/.zfunc; autoload -Uz compinit; compinit"),
    "fish": (".config/fish/completions/unitgain.fish", None, ""),
}


def answer(shell: str, arguments: Sequence[str], command: Any) -> str:
    """What the shell is told. arguments: as the shell's script gives them; command: the whole program's."""
    if shell == "bash":
        line, breaks = arguments
        *words, typed = _split(line)
        begins = next((k for k, word in enumerate(words) if os.path.basename(word) == "unitgain"), 0)
        found = _offered(command, words[begins + 1 :], typed)
        if found == FILES:
            return ":files"
        kept = max(
            (typed.rfind(sign) + 1 for sign in ":=" if sign in breaks), default=0
        )  # bash has these already
        return "\n".join(_escaped(word[kept:]) for word, _ in found)
    *words, typed = arguments or [""]
    return "\n".join(word + (f"\t{told}" if told else "") for word, told in _offered(command, words, typed))


def script(shell: str | None) -> str:
    """The script for a shell. Raises InputError for a shell that there is none for."""
    if shell not in _PLACES:
        raise InputError(
            f"completion: there is none for {shell or 'this shell'}; there is for {', '.join(_PLACES)}"
        )
    return (_HERE / f"unitgain.{shell}").read_text(encoding="utf-8")


def install(shell: str | None) -> None:
    """Writes the script where the shell finds it, and a line into the file that it reads at its start."""
    text = script(shell)
    place, start, line = _PLACES[str(shell)]
    home = Path.home()
    (home / place).parent.mkdir(parents=True, exist_ok=True)
    (home / place).write_text(text, encoding="utf-8")
    if start is not None:
        file = home / start
        before = file.read_text(encoding="utf-8") if file.exists() else ""
        if line not in before.splitlines():
            file.write_text(f"{before.rstrip()}\n{line}\n".lstrip(), encoding="utf-8")
    say(f"Tab completion for {shell} is in ~/{place}" + (f", which ~/{start} reads" if start else ""))
    note("it works in the next shell that you open")


def this_shell() -> str | None:
    """The name of the shell that started us, else of the login shell."""
    try:
        from shellingham import detect_shell

        return detect_shell()[0]
    except Exception:  # not installed, or its own error where it finds none
        return os.path.basename(os.environ.get("SHELL", "")) or None


def _offered(command: Any, words: Sequence[str], typed: str) -> list[Offer]:
    """Walks the words from command to command, then option by option to the one that is being typed."""
    path = ""
    given: dict[str, list[str]] = {}
    places: list[Any] = []  # arguments without an option that are still to come
    awaited = None  # the option whose value comes next
    only_values = False  # after --
    for word in words:
        if awaited is not None:
            given.setdefault(awaited.name, []).append(word)
            awaited = None
        elif word == "--":
            only_values = True
        elif word.startswith("-") and not only_values:
            option, equals, value = word.partition("=")
            awaited = _option(command, option)
            if equals and awaited is not None:
                given.setdefault(awaited.name, []).append(value)
                awaited = None
        elif word in getattr(command, "commands", {}):
            command, path = command.commands[word], word
            places = [p for p in command.params if p.param_type_name == "argument"]
        elif places:
            given.setdefault(places[0].name, []).append(word)
            if places[0].nargs != -1:
                places.pop(0)
    if awaited is not None:
        return _values(command, awaited, awaited.opts[0], path, typed, given)
    if typed.startswith("-") and not only_values:
        option, equals, value = typed.partition("=")
        if not equals:
            return _options(command, typed)
        named = _option(command, option)
        found = [] if named is None else _values(command, named, option, path, value, given)
        return found if found == FILES else [(f"{option}={word}", told) for word, told in found]
    if hasattr(command, "commands"):
        shown = command.commands.values()
        return [(c.name, c.get_short_help_str(100)) for c in shown if c.name.startswith(typed)]
    return _values(command, places[0], "", path, typed, given) if places else []


def _option(command: Any, name: str) -> Any:
    """The option of this name that takes a value; None of a flag and of what is not known."""
    for parameter in command.params:
        if name in parameter.opts and not parameter.is_flag:
            return parameter
    return None


def _options(command: Any, typed: str) -> list[Offer]:
    found = [("--help", "Show what the command does.")]
    for parameter in command.params:
        if parameter.param_type_name == "option":
            names = [*parameter.opts, *(name.lstrip("/ ") for name in parameter.secondary_opts)]
            remark = re.split(r"(?<=[a-z])[.:;] |\.$", parameter.help or "")[0]
            found += [(name, remark) for name in names if name.startswith("--") or typed == name]
    return [offer for offer in found if offer[0].startswith(typed)]


def _values(command: Any, parameter: Any, option: str, path: str, typed: str, given: Given) -> list[Offer]:
    if (
        parameter.metavar is None and parameter.param_type_name == "option"
    ):  # one of a few words, which typer knows
        return [
            (item.value, item.help or "") for item in parameter.shell_complete(typer.Context(command), typed)
        ]
    return offers(parameter.metavar or "", option, path, typed, given)


def _split(line: str) -> list[str]:
    """The words of a line of bash, the last one as far as it is typed (nothing after a space). Quotes are taken off.

    >>> _split("unitgain check 'my model.py:net' --data a\\\\ b")
    ['unitgain', 'check', 'my model.py:net', '--data', 'a b']
    >>> _split("unitgain ")
    ['unitgain', '']
    """
    words = [""]
    for whole, escaped, single, double in re.findall(r"(\\(.)|'([^']*)'?|\"([^\"]*)\"?|.)", line):
        if whole.isspace():
            words += [""] if words[-1] else []
        else:
            words[-1] += escaped or single or double or ("" if whole[0] in "\\'\"" else whole)
    return words


def _escaped(word: str) -> str:
    return re.sub(r"([\s'\"\\$`&|;<>()*?\[\]{}!#~])", r"\\\1", word)
