"""unitgain ladder and unitgain recipes: results beside published ones, and what can be trained."""

from __future__ import annotations

import dataclasses
import inspect
import re
import shlex
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .._base import console, note, table_of
from .errors import FINDINGS, Debug
from .output import check_outputs, write_text
from .train import RecipeSettings

if TYPE_CHECKING:
    from ..recipes import Recipe


def ladder(
    name: Annotated[str, typer.Argument(metavar="RECIPE", help="makemore or fashion-mnist.")],
    settings: RecipeSettings = None,
    seeds: Annotated[int | None, typer.Option(metavar="N", min=1, help="Seeds per rung.")] = None,
    short: Annotated[
        bool, typer.Option("--short", help="A few steps of everything, to see that it runs.")
    ] = False,
    out: Annotated[str | None, typer.Option(metavar="FILE", help="Write the tables: .md.")] = None,
    debug: Debug = False,
) -> None:
    """Train a recipe's rungs one after the other and set the results beside the published ones.

    Ends with 1 if a figure is not what it should be.

    \b
    Examples:
      unitgain ladder makemore --out ladder.md
      unitgain ladder makemore --short
    """
    if out is not None:
        check_outputs({"--out": out}, suffixes={"--out": (".md",)})
    from .. import recipes
    from ..recipes import LadderOptions

    done: list[str] = []

    def tell(line: str) -> None:
        done.append(line)
        note(line)

    try:
        result = recipes.ladder(name)(LadderOptions(tuple(settings or ()), seeds, short), tell)
    except KeyboardInterrupt:
        kept = "the lines above are all there is" if done else "nothing was measured yet"
        raise KeyboardInterrupt(f"interrupted; {kept}, no table was written") from None
    screen = console()
    for table in result.tables:
        screen.print(f"\n{table.title}")
        screen.print(table_of(table.columns, table.rows))
        for line in table.notes:
            screen.print(line)
    if not result.missed:
        screen.print(f"\n{result.good}")
    for line in result.missed:
        note(line)
    if out is not None:
        words = ["unitgain", "ladder", name, *(f"--set={pair}" for pair in settings or ())]
        words += [f"--seeds={seeds}"] * (seeds is not None) + ["--short"] * short
        write_text("--out", out, result.markdown(shlex.join(words)))
        note(f"tables written: {out}")
    if result.missed:
        raise typer.Exit(FINDINGS)


def list_recipes(
    name: Annotated[str | None, typer.Argument(metavar="[RECIPE]", help="A recipe's name.")] = None,
    debug: Debug = False,
) -> None:
    """List the recipes, or the settings and presets of one.

    \b
    Example:
      unitgain recipes makemore
    """
    from .. import recipes

    screen = console()
    if name is None:
        rows = [(r.name, r.summary) for r in map(recipes.get, recipes.names())]
        screen.print(table_of(("name", "what it trains"), rows))
        return
    recipe = recipes.get(name)
    explained = _explained(recipe.config)
    rows = [
        (f.name, _value(getattr(recipe.config, f.name)), explained.get(f.name, "")) for f in _fields(recipe)
    ]
    screen.print(f"{name}: {recipe.summary}\n")
    screen.print(table_of(("--set", "default", ""), rows))
    if recipe.presets:
        rows = [(key, _differs(recipe, config)) for key, config in recipe.presets.items()]
        screen.print()
        screen.print(table_of(("--set preset=", "differs in"), rows))


def _fields(recipe: Recipe[Any]) -> tuple[dataclasses.Field[Any], ...]:
    return tuple(f for f in dataclasses.fields(recipe.config) if f.name != "preset")


def _differs(recipe: Recipe[Any], config: Any) -> str:
    changed = [f.name for f in _fields(recipe) if getattr(config, f.name) != getattr(recipe.config, f.name)]
    return ", ".join(f"{key}={_value(getattr(config, key))}" for key in changed) or "nothing: the default"


def _value(value: Any) -> str:
    """As it is written after --set."""
    if isinstance(value, (bool, type(None))):
        return str(value).lower()
    return '""' if value == "" else str(value)


def _explained(config: Any) -> dict[str, str]:
    """{field: text} from the lines "field  text" or "field, field  text" of the settings' docstring; indented lines go
    on with the text."""
    found: dict[str, str] = {}
    last: list[str] = []
    texts = [
        inspect.cleandoc(vars(kind).get("__doc__") or "") for kind in reversed(type(config).__mro__[:-1])
    ]
    for line in "\n".join(texts).splitlines():
        begins = re.match(r"(\w+(?:, \w+)*) {2,}(\S.*)", line)
        goes_on = re.match(r" {4,}(\S.*)", line)
        if begins:
            last = begins[1].split(", ")
            found.update(dict.fromkeys(last, begins[2]))
        elif goes_on:
            found.update({name: f"{found[name]} {goes_on[1]}" for name in last})
        else:
            last = []
    return found
