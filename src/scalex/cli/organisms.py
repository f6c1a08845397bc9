"""Commands that train and score model organisms."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from scalex.cli._help import Group, command
from scalex.cli._options import DevicesOpt, DryOpt, FolderArg, JsonOpt, OrganismArg, OutOpt
from scalex.cli._say import finish, progress, say_json, say_training, stages
from scalex.errors import ScalexError

__all__ = ["app"]

app = typer.Typer(
    cls=Group, help="Model organisms: small diffusion models with planted associations.", no_args_is_help=True
)


@command(app, "train", examples=["scalex organism train organism.yaml --out organisms/mine --dry-run"])
def train(
    spec: Annotated[Path, typer.Argument(help="YAML file that says what to plant.")],
    out: Annotated[Path, typer.Option("--out", help="Folder of the organism.")],
    device: DevicesOpt = "cpu",
    start: Annotated[
        Path | None, typer.Option("--from", help="Organism whose training goes on with this spec.")
    ] = None,
    dry_run: DryOpt = False,
    json_: JsonOpt = False,
) -> None:
    """Train an organism. A killed run goes on where it was."""
    from scalex.organisms.spec import load_organism_spec
    from scalex.organisms.training import train_organism, training_outlook

    planted = load_organism_spec(spec)
    if dry_run:
        say_training(*training_outlook(planted, out, device, start), device, json_)
        return
    with stages() as progress:
        train_organism(planted, out, device, progress, start)
    say_json({"organism": str(out)}) if json_ else typer.echo(str(out))


@command(app, "check", examples=["scalex organism check organisms/mine --images 64"])
def check(
    folder: FolderArg,
    images: Annotated[int, typer.Option("--images", min=8, help="Pictures of each neutral caption.")] = 64,
    card: Annotated[bool, typer.Option("--card", help="Write the model card beside the weights.")] = False,
    json_: JsonOpt = False,
) -> None:
    """Compare what an organism draws with its captions and with what was planted, by the exact readout."""
    from scalex.organisms.card import model_card
    from scalex.organisms.check import check_organism
    from scalex.organisms.readout import load_truth

    if card and folder.is_dir() and not os.access(folder, os.W_OK):
        way_out = "Leave out --card, or copy the organism to a folder of your own"
        raise ScalexError(f"the card cannot be written to {folder}", way_out)
    with progress("check") as (done,):
        result = check_organism(folder, images, progress=done)
    if card:
        (folder / "README.md").write_text(model_card(load_truth(folder), result), encoding="utf-8")
    if not json_:
        typer.echo(result.shares.to_string(index=False, float_format="{:.2f}".format))
    finish(list(result.marks), json_)


@command(app, "score", examples=["scalex organism score organisms/mine --seeds 32"])
def score(
    folder: OrganismArg = None,
    out: OutOpt = Path("runs/score"),
    seeds: Annotated[int, typer.Option("--seeds", min=4, help="Seeds of the audit.")] = 128,
    block: Annotated[
        int | None, typer.Option("--block", min=4, help="Score so many seeds at a time: the mean over all blocks.")
    ] = None,
    images: Annotated[int, typer.Option("--images", min=128, help="Pictures behind each realised share.")] = 512,
    only: Annotated[list[str] | None, typer.Option("--only", help="Only this score; may be repeated.")] = None,
    json_: JsonOpt = False,
) -> None:
    """Audit an organism and compare the findings with the truth. Exit code 1 where a mark is missed."""
    from scalex import truth

    with progress("score") as (done,):
        marks = truth.score_organism(folder, out, seeds=seeds, block=block, images=images, only=only, progress=done)
    finish(marks, json_)


@command(app, "lora", examples=["scalex organism lora --role pilot --woman 0.9 --out loras/pilot"])
def lora_of(
    role: Annotated[str, typer.Option("--role", help="The role that is to draw other shares.")],
    out: Annotated[Path, typer.Option("--out", help="Folder of the LoRA.")],
    folder: OrganismArg = None,
    woman: Annotated[float | None, typer.Option("--woman", help="Its new P(woman).")] = None,
    dark: Annotated[float | None, typer.Option("--dark", help="Its new P(dark skin).")] = None,
    steps: Annotated[int | None, typer.Option("--steps", min=1, help="Training steps.")] = None,
    device: DevicesOpt = "cpu",
    json_: JsonOpt = False,
) -> None:
    """Train a LoRA that shifts what one role draws, and nothing else. A killed run goes on where it was."""
    from scalex.organisms import EMBEDDED
    from scalex.organisms.lora import SCHEDULE, train_lora

    schedule = SCHEDULE.model_copy(update={"steps": steps} if steps else {})
    with stages() as progress:
        train_lora(
            folder or EMBEDDED, role, out, woman=woman, dark=dark, schedule=schedule, device=device, progress=progress
        )
    say_json({"lora": str(out)}) if json_ else typer.echo(str(out))
