"""Commands that list, show and export directions that were saved."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from scalex.cli._help import Group, command
from scalex.cli._options import DeviceOpt, JsonOpt, UnetOpt
from scalex.cli._say import say_json, say_table
from scalex.errors import ScalexError

if TYPE_CHECKING:
    from scalex.library import Held
    from scalex.models import Model

__all__ = ["app"]

app = typer.Typer(cls=Group, help="Directions that were saved: list, show, export.", no_args_is_help=True)

FileArg = Annotated[str, typer.Argument(help="File of a direction, or its name in the library.")]
FolderOpt = Annotated[
    Path | None,
    typer.Option("--library", help="Folder of directions; else that of SCALEX_DIRECTIONS, or ./directions."),
]
ForOpt = Annotated[
    str | None,
    typer.Option("--model", help="Say whether it fits this model: folder, hub id, or `embedded`."),
]


@command(app, "ls", examples=["scalex directions ls runs/steer/directions --model path/to/model"])
def directions_ls(
    folder: Annotated[
        Path | None, typer.Argument(help="Folder of directions; else that of SCALEX_DIRECTIONS, or ./directions.")
    ] = None,
    model: ForOpt = None,
    unet: UnetOpt = None,
    device: DeviceOpt = None,
    json_: JsonOpt = False,
) -> None:
    """List the directions of a library: a line a file, and whether each fits a model."""
    from scalex.library import library_folder, listed

    place, held = library_folder(folder), listed(folder)
    loaded = _loaded(model, unet, device)
    rows = [_row(one, place, loaded) for one in held]
    if json_:
        say_json(rows)
        return
    if not rows:
        typer.echo(f"no directions in {place}")
        return
    say_table([_line(row, loaded is not None) for row in rows])


@command(app, "show", examples=["scalex directions show gender.safetensors"])
def directions_show(
    file: FileArg,
    folder: FolderOpt = None,
    model: ForOpt = None,
    unet: UnetOpt = None,
    device: DeviceOpt = None,
    json_: JsonOpt = False,
) -> None:
    """Say where a direction comes from and what it was seen to do. Exit code 2 where it does not fit the model."""
    from scalex.direction_files import load_direction
    from scalex.library import card, find
    from scalex.steering import check_steers

    path = find(file, folder)
    direction = load_direction(path)
    told = {"file": str(path), **card(direction)}
    if json_:
        say_json(told)
    else:
        said = {
            key: value for key, value in told.items() if value not in ("", (), None) and (key, value) != ("moments", 0)
        }
        say_table([(key, _said(key, value)) for key, value in said.items()])
    loaded = _loaded(model, unet, device)
    if loaded is not None:
        check_steers(direction, loaded)
        typer.echo(f"It fits {model}.", err=json_)


@command(app, "export", examples=["scalex directions export gender.safetensors --to npy"])
def directions_export(
    file: FileArg,
    to: Annotated[str | None, typer.Option("--to", help="npy, json or safetensors; else as --out ends.")] = None,
    out: Annotated[Path | None, typer.Option("--out", help="The file to write; else its name, in this folder.")] = None,
    folder: FolderOpt = None,
    json_: JsonOpt = False,
) -> None:
    """Write a direction for use without scalex: numpy's array, JSON, or safetensors with one tensor `vector`."""
    from scalex.direction_files import load_direction
    from scalex.library import SUFFIX, export_direction, find

    path = find(file, folder)
    if to is None and out is None:
        raise ScalexError("it is not said what to export to", "Say --to npy, --to json or --to safetensors")
    target = out or Path(f"{path.name.removesuffix(SUFFIX)}.{to}")
    if target.resolve() == path.resolve():
        raise ScalexError(f"{target} is the direction itself", "Name another file with --out")
    written = [str(one) for one in export_direction(load_direction(path), target, to)]
    say_json({"written": written}) if json_ else typer.echo("\n".join(written))


def _loaded(model: str | None, unet: str | None, device: str | None) -> Model | None:
    if model is None:
        return None
    from scalex.models import load_model
    from scalex.organisms import EMBEDDED, EMBEDDED_UNET

    if model == "embedded":
        return load_model(EMBEDDED, unet=unet or EMBEDDED_UNET, device=device)
    return load_model(model, unet=unet, device=device)


def _row(held: Held, place: Path, model: Model | None) -> dict[str, Any]:
    from scalex.library import card

    told = {"file": str(held.path.relative_to(place)), "wrong": held.wrong}
    told |= card(held.direction) if held.direction is not None else {}
    return told | ({"misfit": held.misfit(model)} if model is not None else {})


def _line(row: dict[str, Any], asked: bool) -> tuple[str, ...]:
    """File, name, how it was found, its model, what it was seen to do, and whether it fits."""
    fit = (("does not fit: " + row["misfit"] if row["misfit"] else "fits"),) if asked else ()
    if row["wrong"]:
        return (row["file"], "BROKEN", "", "", row["wrong"], *("",) * len(fit))
    found = f"{row['origin']}, {row['reading']} reading, step {row['step']}"
    model = f"model {row['model'][:12] or 'not told'}"
    seen = row["validation"]["verdict"] if row["validation"] else "not validated"
    return (row["file"], row["name"], found, model, seen, *fit)


def _said(key: str, value: Any) -> str:
    """A value of a card in words: seeds as their number and range, texts in a row."""
    if key == "seeds":
        return f"{len(value)} ({min(value)} to {max(value)})"
    if key == "validation":
        return (
            f"{value['verdict']}: {value['readout']} moves by {value['slope']:.3f} an alpha "
            f"({value['low']:.3f} to {value['high']:.3f})"
        )
    if isinstance(value, tuple):
        more = f", ... ({len(value)} in all)" if len(value) > 8 else ""
        return ", ".join(map(str, value[:8])) + more
    return f"{value:.4g}" if isinstance(value, float) else str(value)
