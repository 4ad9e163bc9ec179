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
