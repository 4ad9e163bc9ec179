"""What --help prints: plain text, options and commands in groups.

A group is named by `rich_help_panel`, which Typer has for its boxes; here it is a heading.
"""

from __future__ import annotations

from typing import Any

import typer.core

MODEL, REPORT, OWN, GENERAL = "The model and the batch", "The report", "A model of your own", "General"
LOOK, CHANGE, TRAIN, MORE = "Look", "Change", "Train", "More"  # groups of commands
_ALWAYS = ("help", "debug", "quiet")


class Command(typer.core.TyperCommand):
    """A command whose options are listed in groups: its own, then the shared ones."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        try:
            return super().parse_args(ctx, args)
        except (
            Exception
        ) as error:  # typer's own; some of them do not know their command, whose help is named then
            if getattr(error, "ctx", ctx) is None:
                error.ctx = ctx  # type: ignore[attr-defined]
            raise

    def format_options(self, ctx: Any, formatter: Any) -> None:
        groups: dict[str, list[tuple[str, str]]] = {"Arguments": [], "Options": []}
        last: list[tuple[str, str]] = []
        for parameter in self.get_params(ctx):
            row = parameter.get_help_record(ctx)
            if row is None:
                continue
            if parameter.param_type_name == "argument":
                groups["Arguments"].append(row)
            elif parameter.name in _ALWAYS:
                last.append(row)
            else:
                groups.setdefault(getattr(parameter, "rich_help_panel", None) or "Options", []).append(row)
        for title, rows in {**groups, GENERAL: last}.items():
            if rows:
                with formatter.section(title):
                    formatter.write_dl(rows)


class Group(typer.core.TyperGroup):
    """Commands in groups, in the order in which they were added."""

    def list_commands(self, ctx: Any) -> list[str]:
        return list(self.commands)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Says what was probably meant by a first word that is no command."""
        word = args[0]
        if self.get_command(ctx, word) is None and (meant := self._meant(ctx, word)):
            ctx.fail(f"no such command {word!r}. Did you mean {meant}?")
        return super().resolve_command(ctx, args)

    def _meant(self, ctx: Any, word: str) -> str:
        if word == "help" or (word == "version" and ctx.parent is None):
            return f"{ctx.command_path} --{word}"
        if "check" in self.commands and (":" in word or word.endswith(".py")):
            return f"{ctx.command_path} check {word}"
        begun = [repr(name) for name in self.list_commands(ctx) if word and name.startswith(word)]
        return " or ".join(begun)

    def format_options(self, ctx: Any, formatter: Any) -> None:
        Command.format_options(self, ctx, formatter)  # type: ignore[arg-type]
        self.format_commands(ctx, formatter)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        groups: dict[str, list[Any]] = {}
        for name in self.list_commands(ctx):
            command: Any = self.get_command(ctx, name)
            if command is not None and not command.hidden:
                groups.setdefault(getattr(command, "rich_help_panel", None) or "Commands", []).append(command)
        widest = max((len(command.name) for group in groups.values() for command in group), default=0)
        for title, commands in groups.items():
            with formatter.section(title):
                room = formatter.width - 6 - widest
                formatter.write_dl([(c.name.ljust(widest), c.get_short_help_str(room)) for c in commands])
