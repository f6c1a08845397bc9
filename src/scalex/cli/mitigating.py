"""The command that brings rates to targets."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from scalex.cli._help import DIRECTIONS, command
from scalex.cli._options import JsonOpt, ModelArg, OutOpt
from scalex.cli._say import progress, say_notes, say_table
from scalex.cli._taking import JOB, Given, job_of, taking
from scalex.errors import resumable

__all__ = ["app"]

app = typer.Typer()


@command(
    app, group=DIRECTIONS, examples=["scalex mitigate path/to/model --spec audit.yaml --attribute gender --target 0.5"]
)
@taking(JOB)
def mitigate(
    given: Given,
    model: ModelArg = None,
    attribute: Annotated[str, typer.Option("--attribute", help="Of the spec, such as gender.")] = "gender",
    target: Annotated[
        str, typer.Option("--target", help="Share of the second value, as 0.5; or a CSV of concept and shares.")
    ] = "0.5",
    out: OutOpt = Path("runs/mitigation"),
    value: Annotated[
        list[str] | None, typer.Option("--value", help="Two of the attribute's values, where it has more; repeat it.")
    ] = None,
    concept: Annotated[
        list[str] | None, typer.Option("--concept", help="Only this one; may be repeated. By default all.")
    ] = None,
    fresh: Annotated[int, typer.Option("--fresh", min=4, help="Seeds that the result is measured on.")] = 32,
    keep: Annotated[
        float, typer.Option("--keep", help="Share of pictures that must still show their concept, of those that do.")
    ] = 0.9,
    json_: JsonOpt = False,
) -> None:
    """Steer pictures so that rates reach a target; measure what is left of the bias, and what suffers."""
    from scalex.drawings import Drawings
    from scalex.mitigation import evaluate, fit, notes_of, write_report
    from scalex.runs import make_folder, store_of
    from scalex.store import Store

    job = job_of(model, given)
    held, drawn = Store.open(store_of(make_folder(out), given["store"])), Drawings.open(out)
    asked: dict[str, Any] = {"values": value, "concepts": concept, "keep": keep, "drawings": drawn}
    with (
        progress("calibrate", "evaluate") as (calibrated, evaluated),
        resumable(f"what was captured and drawn is kept in {out}"),
    ):
        mitigation = fit(job, held, attribute, target, **asked, progress=calibrated)
        mitigation.save_pretrained(out)
        first = max(mitigation.made.seeds) + 1_000_000
        numbers = range(first, first + fresh)
        found = evaluate(job, mitigation, held, seeds=numbers, drawings=drawn, progress=evaluated)
        files = write_report(job, mitigation, found, out, drawn)
    say_notes(list(notes_of(mitigation)))
    if json_:
        typer.echo(found.text)
        return
    for rows in (found.rows(), found.concept_rows()):
        say_table(list(rows))
        typer.echo("")
    typer.echo(f"Seen by the {found.readout}; change in {found.unit}. Pictures: {files[-1]}")
    typer.echo(f"In a pipeline: scalex.Mitigation.from_pretrained({str(out)!r})")
