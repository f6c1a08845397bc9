"""The command that says where to read a model, and where to push it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from scalex.cli._help import AUDIT, command
from scalex.cli._options import JsonOpt, ModelArg
from scalex.cli._say import progress, records, say_json, say_table
from scalex.cli._taking import JOB, Given, job_of, taking

if TYPE_CHECKING:
    from scalex.patching import Carried
    from scalex.sweep import Sweep

__all__ = ["app"]

app = typer.Typer()


@command(app, "probe-sweep", group=AUDIT, examples=["scalex probe-sweep path/to/model --spec audit.yaml --patch"])
@taking(JOB, without=("store", "probe"))
def probe_sweep(
    given: Given,
    model: ModelArg = None,
    concepts: Annotated[
        int, typer.Option("--concepts", min=1, help="How many of the spec's concepts to ask about.")
    ] = 8,
    patch: Annotated[
        bool,
        typer.Option(
            "--patch", help="And which block carries it into pictures: its value is exchanged, and they follow."
        ),
    ] = False,
    json_: JsonOpt = False,
) -> None:
    """Say which block of a model tells the variants of an attribute apart best, and so where to read it."""
    from scalex import patching, sweep

    job = job_of(model, given)
    with progress("sweep", "exchange") as (done, drawn):
        found = sweep.probe_sweep(job, concepts=concepts, progress=done)
        carried = patching.carried(job, concepts=concepts, progress=drawn) if patch else None
    if json_:
        told: dict[str, Any] = {"best": records(found.best()), "table": records(found.table)}
        say_json(told | ({"carried": records(carried.table)} if carried else {}))
        return
    _say_sweep(found, job.model.probe)
    if carried:
        _say_carried(carried, job.model.probe)


def _say_sweep(found: Sweep, used: str) -> None:
    kept = found.table[found.table.kept]
    columns = ["reading", "step", "attribute", "probe", "auc", "least", "effect"]
    rows = [tuple(f"{x:.3f}" if isinstance(x, float) else str(x) for x in row) for row in kept[columns].to_numpy()]
    say_table([("reading", "step", "attribute", "probe", "AUC", "worst", "effect"), *rows])
    for row in found.best().itertuples(index=False):
        way_out = " (as it is)" if row.probe == used else f": --probe {row.probe}"
        typer.echo(f"{row.reading} reading: {row.probe} tells variants apart best, AUC {row.auc:.3f}{way_out}")


def _say_carried(found: Carried, used: str) -> None:
    rows: list[tuple[str, ...]] = [("attribute", "values", "probe", "carries", "interval", "aside")]
    most = {(row["attribute"], row["second"]): row for row in records(found.most())}
    said = []
    for row in records(found.table):
        name, way, probe, share = row["attribute"], f"{row['first']} to {row['second']}", row["probe"], row["carries"]
        span = "" if row["low"] is None else f"{row['low']:.2f} to {row['high']:.2f}"
        rows.append((name, way, probe, _number(share), span, _number(row["aside"])))
        best = most.get((name, row["second"]))
        if probe == used and best:
            other = f"{best['probe']} carries most, {_number(best['carries'])}: --probe {best['probe']}"
            where = "no block carries more" if best["probe"] == used else other
            said.append(f"{name}, {way}: {used} carries {_number(share)} of the way; {where}")
    say_table(rows)
    for line in said:
        typer.echo(line)


def _number(share: float | None) -> str:
    return "" if share is None else f"{share:.2f}"
