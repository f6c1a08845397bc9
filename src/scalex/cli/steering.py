"""Commands that act: pictures along a direction."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from scalex.cli._help import DIRECTIONS, command
from scalex.cli._options import JsonOpt, ModelArg
from scalex.cli._say import progress, say_json
from scalex.cli._taking import JOB, Given, job_of, numbers, taking
from scalex.errors import ScalexError

if TYPE_CHECKING:
    from scalex.direction_files import Direction
    from scalex.jobs import Job

__all__ = ["app"]

app = typer.Typer()

_SHOWN = 4  # concepts, where none is named


@command(
    app,
    group=DIRECTIONS,
    examples=[
        "scalex steer --attribute gender --concept pilot",
        "scalex steer path/to/model --spec audit.yaml --attribute gender --start man --alphas=-1,0,1",
    ],
)
@taking(JOB)
def steer(
    given: Given,
    model: ModelArg = None,
    concept: Annotated[
        list[str] | None, typer.Option("--concept", help="Of the spec; may be repeated. By default its first four.")
    ] = None,
    attribute: Annotated[
        str | None, typer.Option("--attribute", help="To steer along, each concept by its own direction.")
    ] = None,
    values: Annotated[
        str | None, typer.Option("--values", help="From the first to the second, as man,woman: if there are more.")
    ] = None,
    direction: Annotated[
        Path | None, typer.Option("--direction", help="File of a direction, instead of an attribute.")
    ] = None,
    alpha: Annotated[
        str, typer.Option("--alphas", "--alpha", help="How far: 1 is from the first variant to the second.")
    ] = "-1,-0.5,0,0.5,1",
    start: Annotated[
        str | None, typer.Option("--start", help="Begin with the prompt of this value, not with the neutral one.")
    ] = None,
    pictures: Annotated[int, typer.Option("--pictures", min=1, help="Of each concept and alpha, a seed each.")] = 3,
    keep_norm: Annotated[bool, typer.Option("--keep-norm", help="Keep the length of what is steered.")] = False,
    out: Annotated[Path, typer.Option("--out", help="Folder of the grid and the directions.")] = Path("runs/steer"),
    json_: JsonOpt = False,
) -> None:
    """Draw pictures along a direction, side by side, and keep the direction as a file, to steer pipelines by."""
    from scalex import runs
    from scalex.direction_files import load_direction
    from scalex.prompts import concepts_of
    from scalex.report.grid import save_grid
    from scalex.steered import draw_steered
    from scalex.steering import check_alphas
    from scalex.store import Store

    alphas = numbers(alpha, "--alpha")
    check_alphas(alphas)
    if (attribute is None) == (direction is None):
        raise ScalexError("it is not said what to steer along", "Name --attribute or --direction, one of the two")
    job = job_of(model, given, analyses=["defaults"])
    concepts = list(concept or concepts_of(job.spec)[:_SHOWN])
    asked: dict[str, Any] = {
        "seeds": job.seeds[:pictures],
        "start": _start(job, attribute, start),
        "keep_norm": keep_norm,
    }
    with progress("capture", "draw") as (captured, drawn):
        if direction is None:
            kept = Store.open(runs.store_of(runs.make_folder(out), given["store"]))
            found, ends = _own(job, kept, str(attribute), values, concepts, captured)
        else:
            found, ends = dict.fromkeys(concepts, load_direction(direction)), None
        done = draw_steered(job, found, alphas, progress=drawn, **asked)
    files = _saved(found, out) if direction is None else [direction]
    picture = save_grid(done.image(ends), out / "steered.png")
    if json_:
        say_json({"grid": str(picture), "directions": list(map(str, files)), "texts": done.texts, "alphas": alphas})
        return
    for line in (*(f"direction: {file}" for file in files), f"pictures: {picture}"):
        typer.echo(line)


def _own(
    job: Job, store: Any, attribute: str, values: str | None, concepts: list[str], captured: Any
) -> tuple[dict[str, Direction], tuple[str, str]]:
    """Each concept's own direction, and what it leads from and to."""
    from scalex.steering_vectors import pair_of, steering_vectors

    pair = pair_of(job, attribute, [v.strip() for v in values.split(",")] if values else None)
    found = steering_vectors(job, store, attribute, pair, concepts=concepts, progress=captured)
    return {name: vector.direction for name, vector in found.items()}, pair


def _saved(found: dict[str, Direction], out: Path) -> list[Path]:
    """A file a direction."""
    from scalex.direction_files import save_direction
    from scalex.wording import file_name

    return [save_direction(one, out / "directions" / f"{file_name(one.name)}.safetensors") for one in found.values()]


def _start(job: Job, attribute: str | None, value: str | None) -> tuple[str, str] | None:
    """Attribute and value of the variant that pictures begin with."""
    if value is None:
        return None
    having = [name for name, values in job.spec.attribute_values.items() if value in values]
    found = attribute if attribute in having else next(iter(having), None)
    if found is None:
        known = [v for values in job.spec.attribute_values.values() for v in values]
        raise ScalexError(f"no attribute of the spec has a value {value!r}", f"Values: {', '.join(known)}")
    return found, value
