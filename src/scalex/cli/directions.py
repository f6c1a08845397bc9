"""Commands that say what directions and images mean."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from scalex.cli._help import DIRECTIONS, INSIDE, command
from scalex.cli._options import DeviceOpt, JsonOpt, ModelArg, MovedOpt, RunArg, ScorerOpt
from scalex.cli._say import SHOWN, progress, records, say_json, say_table
from scalex.cli._taking import JOB, Given, job_of, kept_step, numbers, taking

__all__ = ["app"]

app = typer.Typer()


@command(app, group=INSIDE, examples=["scalex discover path/to/model --spec audit.yaml --method pca --method sefa"])
@taking(JOB)
def discover(
    given: Given,
    model: ModelArg = None,
    method: Annotated[
        list[str] | None,
        typer.Option("--method", help="pca, sefa, jacobian, ...; may be repeated. By default pca."),
    ] = None,
    n: Annotated[int, typer.Option("--n", help="Directions of each method.")] = 16,
    out: Annotated[Path, typer.Option("--out", help="Folder of the directions.")] = Path("directions"),
    reading: Annotated[str, typer.Option("--reading", help="text or picture.")] = "picture",
    keep: Annotated[str, typer.Option("--keep", help="The step: first, last, all, or a number from 0.")] = "last",
    pooling: Annotated[str, typer.Option("--pooling", help="Of latents: full, grid:N or mean.")] = "full",
    validate: Annotated[
        bool, typer.Option("--validate", help="Push along each of them: which attributes do pictures follow by?")
    ] = False,
    scorer: Annotated[
        str, typer.Option("--scorer", help="What reads pushed pictures, as for `scalex validate`.")
    ] = "picture",
    json_: JsonOpt = False,
) -> None:
    """Find directions without prompts for them, name those that have a name, and save them as files."""
    from scalex.discovering import discover_directions
    from scalex.store import Store
    from scalex.validation.discovered import validate_discovered

    job = job_of(model, given, analyses=["naming"])
    options: dict[str, Any] = {"reading": reading, "keep": kept_step(keep), "pooling": pooling}
    with progress("capture", "learn", "push") as (captured, learned, pushed):
        done = discover_directions(job, out, method or ["pca"], n, store=given["store"], progress=captured, **options)
        if validate:
            held = Store.open(given["store"]) if given["store"] else None
            asked: dict[str, Any] = {"scorer": scorer, "store": held, "capturing": learned, "pushing": pushed}
            done = validate_discovered(job, done, **asked).discovered
    rows = records(done.table)
    if json_:
        say_json(rows)
        return
    say_table([_found(row) for row in rows])
    for what in dict.fromkeys((row["method"], row["share_of"]) for row in rows):
        typer.echo(f"{what[0]}: shares are of {what[1]}")
    typer.echo(f"Directions: {done.folder / 'directions.csv'}")


def _found(row: dict[str, Any]) -> tuple[str, ...]:
    """A direction in words."""
    moves = (f"moves {row['moves']}" if row["moves"] else "moves nothing",) if "moves" in row else ()
    return row["name"], f"{row['share']:.1%}", row["words"] or f"({row['reason']})", *moves


@command(app, group=DIRECTIONS, examples=["scalex images photos --run runs/mine"])
def images(
    folder: Annotated[Path, typer.Argument(help="Folder of images; subfolders and labels.csv label them.")],
    run: Annotated[Path, typer.Option("--run", help="Folder of the run whose prompts they are held against.")],
    attribute: Annotated[
        list[str] | None, typer.Option("--attribute", help="Only this one; may be repeated. By default all labelled.")
    ] = None,
    labels: Annotated[
        Path | None, typer.Option("--labels", help="CSV with a column `file` and labels, if not labels.csv there.")
    ] = None,
    seeds: Annotated[int, typer.Option("--seeds", min=1, help="Seeds of the noise that images are read at.")] = 8,
    draw: Annotated[
        int, typer.Option("--draw", min=0, help="Pictures drawn anew of each prompt, to tell how true names are.")
    ] = 1,
    store: MovedOpt = None,
    device: DeviceOpt = None,
    json_: JsonOpt = False,
) -> None:
    """Hold images against a run's prompts: do directions agree, and what is each image called?"""
    from scalex.validation.image_conditioning import condition

    with progress("read", "draw") as (read, drawn):
        done = condition(
            folder,
            run,
            labels=labels,
            attributes=attribute or (),
            seeds=seeds,
            draw=draw,
            store=store,
            device=device,
            progress=read,
            drawing=drawn,
        )
    for line in done.warnings(SHOWN):
        typer.echo(f"scalex: warning: {line}", err=True)
    for line in [done.text] if json_ else done.lines(SHOWN):
        typer.echo(line)


@command(
    app,
    group=DIRECTIONS,
    examples=["scalex validate runs/mine --most 4", "scalex validate runs/mine --concept nurse --attribute gender"],
)
def validate(
    run: RunArg,
    attribute: Annotated[list[str] | None, typer.Option("--attribute", help="Only this one; may be repeated.")] = None,
    concept: Annotated[
        list[str] | None,
        typer.Option("--concept", help="Only this one, whether it leans or not; may be repeated."),
    ] = None,
    most: Annotated[int, typer.Option("--most", min=1, help="Findings to try, the strongest first.")] = 12,
    alphas: Annotated[
        str | None,
        typer.Option("--alphas", "--alpha", help="To push by, as -1,-0.5,0,0.5,1: 1 is from one value to the other."),
    ] = None,
    seeds: Annotated[int, typer.Option("--seeds", help="Pictures at each alpha.")] = 16,
    start: Annotated[
        str, typer.Option("--start", help="Push prompts that spell out this value, not neutral ones.")
    ] = "",
    controls: Annotated[
        int, typer.Option("--controls", min=0, help="Random directions to compare with, and as many shuffled ones.")
    ] = 2,
    probe: Annotated[
        str | None,
        typer.Option("--probe", help="The block to push at, not the one that was read: see `probe-sweep --patch`."),
    ] = None,
    calibrate: Annotated[
        int,
        typer.Option(
            "--calibrate",
            min=0,
            help="Pictures of each value's own prompts that tell what the scorer gets wrong, to take it out of slopes.",
        ),
    ] = 0,
    scorer: ScorerOpt = "picture",
    store: MovedOpt = None,
    device: DeviceOpt = None,
    json_: JsonOpt = False,
) -> None:
    """Push along the directions of a run's strongest findings: do pictures change as they say, and what else does?"""
    from scalex.validation.dose_response import Doses, validate

    pushed_by = numbers(alphas, "--alphas") if alphas else Doses.alphas
    doses = Doses(pushed_by, seeds, start=start, controls=controls, probe=probe, calibrate=calibrate)
    with progress("capture directions", "push") as (learned, pushed):
        done = validate(
            run,
            attributes=attribute or (),
            concepts=concept or (),
            most=most,
            doses=doses,
            scorer=scorer or "picture",
            store=store,
            device=device,
            capturing=learned,
            pushing=pushed,
        )
    for line in [done.text] if json_ else [*done.lines(), f"Report: {run / 'report.html'}"]:
        typer.echo(line)


@command(
    app,
    "name",
    group=DIRECTIONS,
    examples=[
        "scalex name runs/mine --attribute gender --save gender.safetensors",
        "scalex name runs/mine --direction gender.safetensors --reading picture",
    ],
)
def name_(
    run: RunArg,
    direction: Annotated[Path | None, typer.Option("--direction", help="File of a direction.")] = None,
    attribute: Annotated[str | None, typer.Option("--attribute", help="An attribute of the run.")] = None,
    concept: Annotated[str | None, typer.Option("--concept", help="A concept or word of the run.")] = None,
    reading: Annotated[str | None, typer.Option("--reading", help="text or picture; by default both.")] = None,
    top: Annotated[int, typer.Option("--top", min=1, help="Words at each pole.")] = 10,
    save: Annotated[Path | None, typer.Option("--save", help="Write the direction to this file.")] = None,
    json_: JsonOpt = False,
) -> None:
    """Name a direction in the words that a run captured, or say that none fits; without the model."""
    from scalex import naming

    asked: dict[str, Any] = {"direction": direction, "attribute": attribute, "concept": concept, "reading": reading}
    found = naming.name_run(run, **asked, top=top, save=save)
    if json_:
        say_json([naming.as_row(one) for one in found])
        return
    for line in (line for one in found for line in naming.in_lines(one)):
        typer.echo(line)


@command(app, "nearest", group=DIRECTIONS, examples=["scalex nearest runs/mine --concept nurse --top 5"])
def nearest_(
    run: RunArg,
    direction: Annotated[Path | None, typer.Option("--direction", help="File of a direction.")] = None,
    attribute: Annotated[str | None, typer.Option("--attribute", help="An attribute of the run.")] = None,
    concept: Annotated[str | None, typer.Option("--concept", help="A concept or word of the run.")] = None,
    reading: Annotated[str | None, typer.Option("--reading", help="text or picture; by default both.")] = None,
    top: Annotated[int, typer.Option("--top", min=1, help="Words at each pole.")] = 10,
    json_: JsonOpt = False,
) -> None:
    """Say which of a run's words lie nearest to a direction, of millions too: whether that is near, `name` says."""
    from scalex.nearest import nearest

    asked: dict[str, Any] = {"direction": direction, "attribute": attribute, "concept": concept, "reading": reading}
    found = nearest(run, **asked, top=top)
    poles = [[("+", one.plus), ("-", one.minus)] for one in found]
    rows = [
        (one.direction, one.reading, pole, rank, word, float(cosine))
        for one, ends in zip(found, poles)
        for pole, near in ends
        for rank, (word, cosine) in enumerate(zip(near.words, near.cosines), start=1)
    ]
    if json_:
        say_json([dict(zip(("direction", "reading", "pole", "rank", "word", "cosine"), row)) for row in rows])
        return
    for one in found:
        typer.echo(f"{one.direction} ({one.reading} reading), nearest of {one.n_words:,} words:")
        mine = [row for row in rows if row[:2] == (one.direction, one.reading)]
        say_table([(f"  {pole}", f"{cosine:+.2f}", word) for _, _, pole, _, word, cosine in mine])
