"""The command that brings rates to targets."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from scalex.cli._options import (
    DeviceOpt,
    JsonOpt,
    LoraOpt,
    ModelArg,
    OutOpt,
    ProbeOpt,
    SchedulerOpt,
    SeedsOpt,
    SpecOpt,
    StepsOpt,
    StoreOpt,
    UnetOpt,
)
from scalex.cli._say import progress, say_notes, say_table

__all__ = ["app"]

app = typer.Typer()


@app.command()
def mitigate(
    model: ModelArg = None,
    attribute: Annotated[str, typer.Option("--attribute", help="Of the spec, such as gender.")] = "gender",
    target: Annotated[
        str, typer.Option("--target", help="Share of the second value, as 0.5; or a CSV of concept and shares.")
    ] = "0.5",
    out: OutOpt = Path("runs/mitigation"),
    spec: SpecOpt = None,
    value: Annotated[
        list[str] | None, typer.Option("--value", help="Two of the attribute's values, where it has more; repeat it.")
    ] = None,
    concept: Annotated[
        list[str] | None, typer.Option("--concept", help="Only this one; may be repeated. By default all.")
    ] = None,
    seeds: SeedsOpt = None,
    fresh: Annotated[int, typer.Option("--fresh", min=4, help="Seeds that the result is measured on.")] = 32,
    keep: Annotated[
        float, typer.Option("--keep", help="Share of pictures that must still show their concept, of those that do.")
    ] = 0.9,
    store: StoreOpt = None,
    unet: UnetOpt = None,
    lora: LoraOpt = None,
    scheduler: SchedulerOpt = None,
    probe: ProbeOpt = None,
    steps: StepsOpt = None,
    device: DeviceOpt = None,
    json_: JsonOpt = False,
) -> None:
    """Steer pictures so that rates reach a target; measure what is left of the bias, and what suffers."""
    from scalex.jobs import prepare
    from scalex.mitigation import evaluate, fit, notes_of, write_report
    from scalex.runs import make_folder, store_of
    from scalex.store import Store

    parts: dict[str, Any] = {"unet": unet, "lora": lora, "scheduler": scheduler, "probe": probe}
    parts |= {"steps": steps, "seeds": seeds}
    job = prepare(model, spec, device=device, **parts)
    held = Store.open(store_of(make_folder(out), store))
    with progress("calibrate", "evaluate") as (calibrated, evaluated):
        mitigation = fit(job, held, attribute, target, values=value, concepts=concept, keep=keep, progress=calibrated)
        mitigation.save_pretrained(out)
        first = max(mitigation.made.seeds) + 1_000_000
        found = evaluate(job, mitigation, held, seeds=range(first, first + fresh), progress=evaluated)
    files = write_report(job, mitigation, found, out)
    say_notes(list(notes_of(mitigation)))
    if json_:
        typer.echo(found.text)
        return
    for rows in (found.rows(), found.concept_rows()):
        say_table(list(rows))
        typer.echo("")
    typer.echo(f"Seen by the {found.readout}; change in {found.unit}. Pictures: {files[-1]}")
    typer.echo(f"In a pipeline: scalex.Mitigation.from_pretrained({str(out)!r})")
