"""The command that says what is installed."""

from __future__ import annotations

import typer

from scalex.cli._help import REST, command
from scalex.cli._options import JsonOpt
from scalex.cli._say import say_json

__all__ = ["app"]

app = typer.Typer()


@command(app, group=REST, examples=["scalex doctor"])
def doctor(json_: JsonOpt = False) -> None:
    """Say what is installed, what is missing and what that means."""
    from scalex.doctor import examine

    rows = examine()
    if json_:
        say_json([row._asdict() for row in rows])
        return
    for row in rows:
        typer.echo(
            f"{'ok  ' if row.ok else 'miss'}  {row.name}: {row.found}" + (f". {row.way_out}" if row.way_out else "")
        )
