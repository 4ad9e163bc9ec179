"""unitgain rules and unitgain models: what there is."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from .._base import InputError, console, did_you_mean, say, table_of
from .errors import Debug


def rules(
    code: Annotated[
        str | None,
        typer.Argument(metavar="[CODE]", help="A rule's code or name, or a prefix: UG1."),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="All rules, or this one, as JSON.")] = False,
    debug: Debug = False,
) -> None:
    """List the rules, those of a prefix, or explain one.

    \b
    Examples:
      unitgain rules UG101
      unitgain rules UG1
    """
    from ..rules import CATALOGUE, as_data, explain, resolve

    chosen = sorted(CATALOGUE) if code is None else sorted(resolve([code], "rules"))
    several = code is None or len(chosen) > 1
    if json:
        import json as codec

        rows = [row for row in as_data() if row["code"] in chosen]
        say(codec.dumps(rows if several else rows[0], indent=2, ensure_ascii=False), most=sys.maxsize)
        return

    if not several:
        (code,) = chosen
        text = explain(code)
        if sys.stdout.isatty():  # a pipe gets the Markdown
            from rich.markdown import Markdown

            console().print(Markdown(text))
        else:
            say(text, most=sys.maxsize)
        return
    rules = (CATALOGUE[code] for code in chosen)
    console().print(table_of(("code", "name", "seen"), [(e.code, e.name, e.seen) for e in rules]))


def models(
    pattern: Annotated[str, typer.Argument(metavar="[PATTERN]", help="Like char*.")] = "*",
    debug: Debug = False,
) -> None:
    """List the built-in models: parameters, and multiply-adds (in billions) of one image at the size they are made for.

    \b
    Example:
      unitgain models 'nf_resnet*'
    """
    from .. import models as registry

    names = registry.names(pattern)
    if not names:
        raise InputError(
            f"pattern {pattern!r}: no built-in model matches{did_you_mean(pattern, registry.names())}"
        )
    known = registry.costs()
    rows = []
    for name in names:
        cost = known.get(name) or registry.cost(name)
        macs = [_giga(cost.train_macs, cost.train_size), _giga(cost.test_macs, cost.test_size)]
        rows.append((name, f"{cost.parameters:,}", *macs, registry.describe(name)))
    columns = ("name", ">parameters", ">GMAC, train", ">GMAC, test", "description")
    console().print(table_of(columns, rows))


def _giga(macs: int | None, size: int | None) -> str:
    return "" if macs is None else f"{macs / 1e9:.2f} @{size}"
