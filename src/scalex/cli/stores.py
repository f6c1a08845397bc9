"""Commands that list, check and clean captured latents."""

from __future__ import annotations

from typing import Annotated

import typer

from scalex.cli._help import Group, command
from scalex.cli._options import JsonOpt, StoreArg
from scalex.cli._say import say, say_json

__all__ = ["app"]

app = typer.Typer(cls=Group, help="Captured latents: list, check, clean.", no_args_is_help=True)


@command(app, "ls", examples=["scalex store ls runs/mine/store"])
def store_ls(folder: StoreArg, json_: JsonOpt = False) -> None:
    """List what a store holds: a line a recipe."""
    from scalex.store import Store

    held = Store.open(folder, create=False).recipes()
    if json_:
        say_json([{"id": s.recipe.id, **s.recipe.to_dict(), "rows": s.rows, "bytes": s.bytes} for s in held])
        return
    for s in held:
        r = s.recipe
        what = f"blocks of {r.moments} seeds" if r.moments else "samples"
        size = f"{s.rows:>9,} {what}  {s.bytes / 1e6:8.1f} MB"
        typer.echo(f"{r.id}  {size}  {r.reading:<8} {r.steps} steps  model {r.model[:12]}")


@command(app, "verify", examples=["scalex store verify runs/mine/store --repair"])
def store_verify(
    folder: StoreArg,
    repair: Annotated[bool, typer.Option("--repair", help="Drop what is damaged; it will be captured again.")] = False,
    json_: JsonOpt = False,
) -> None:
    """Read every sample and check it. Exit code 1 where something is wrong."""
    from dataclasses import asdict

    from scalex.store import Store

    found = Store.open(folder, create=False).verify(repair=repair)
    say([{**asdict(h), "ok": h.ok} for h in found], json_)
    if not all(h.ok for h in found):
        raise typer.Exit(1)


@command(app, "gc", examples=["scalex store gc runs/mine/store"])
def store_gc(folder: StoreArg, json_: JsonOpt = False) -> None:
    """Merge small files and remove old versions and leftovers."""
    from dataclasses import asdict

    from scalex.store import Store

    say(asdict(Store.open(folder, create=False).gc()), json_)
