"""Commands that train sparse autoencoders and switch their latents off."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from scalex.cli._help import INSIDE, command
from scalex.cli._options import JsonOpt, ModelArg, OutOpt, ScorerOpt
from scalex.cli._say import progress, records, say_json, say_table
from scalex.cli._taking import JOB, Given, job_of, kept_step, taking
from scalex.errors import resumable

__all__ = ["app"]

app = typer.Typer()


@command(app, "train-sae", group=INSIDE, examples=["scalex train-sae path/to/model --spec audit.yaml --out runs/sae"])
@taking(JOB, without=("seeds",))
def train_sae(
    given: Given,
    model: ModelArg = None,
    out: OutOpt = Path("runs/sae"),
    seeds: Annotated[int, typer.Option("--seeds", min=4, help="Seeds of each prompt.")] = 8,
    reading: Annotated[str, typer.Option("--reading", help="text or picture.")] = "text",
    keep: Annotated[str, typer.Option("--keep", help="Denoising steps: all, first, last, or a number from 0.")] = "all",
    pooling: Annotated[
        str, typer.Option("--pooling", help="full: a vector at every position; mean: one a sample; grid:N.")
    ] = "full",
    kind: Annotated[str, typer.Option("--kind", help="topk or batchtopk.")] = "batchtopk",
    k: Annotated[int, typer.Option("--k", min=1, help="Latents that are on.")] = 16,
    latents: Annotated[
        int | None, typer.Option("--latents", min=2, help="Latents in all; four for each channel if absent.")
    ] = None,
    prefix: Annotated[
        list[int] | None, typer.Option("--prefix", help="First latents that are a dictionary too; may be repeated.")
    ] = None,
    training: Annotated[int, typer.Option("--training", min=1, help="Steps of training.")] = 2000,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of the training.")] = 0,
    json_: JsonOpt = False,
) -> None:
    """Train a sparse autoencoder on a model's latents, in SAELens' layout. A killed run goes on where it was."""
    from scalex.discovery.sparse_autoencoder import Settings, train_on
    from scalex.errors import ScalexError
    from scalex.records import READINGS
    from scalex.store import Store

    if reading not in READINGS:
        raise ScalexError(f"unknown reading {reading!r}", f"Choose from {', '.join(READINGS)}")
    told = Settings(kind, k, latents, tuple(prefix or ()), steps=training, seed=seed)
    job = job_of(model, given, seeds=seeds, analyses=["defaults"])
    place = Store.open(given["store"] or out / "store")
    asked: dict[str, Any] = {"reading": reading, "keep": kept_step(keep), "pooling": pooling}
    with progress("capture", "train") as (capturing, learning):
        trained, quality = train_on(job, place, out, told, capturing=capturing, training=learning, **asked)
    figures = {"explained": quality.explained, "l0": quality.l0, "dead": quality.dead, "vectors": quality.vectors}
    best = trained.table.dropna(subset=["auc"]).sort_values("auc", ascending=False).groupby(["attribute", "value"])
    found = best.head(1)[["attribute", "value", "latent", "auc", "auc_held"]].sort_values(["attribute", "value"])
    if json_:
        say_json({"sae": str(out), **figures, "best": records(found)})
        return
    typer.echo(
        f"{trained.sae.latents} latents, {quality.dead:.1%} of them dead. Of {quality.vectors:,} unseen vectors "
        f"{quality.explained:.1%} of the variance is explained, by {quality.l0:.1f} latents each"
    )
    for row in records(found):
        says = f"{row['attribute']}={row['value']}"
        typer.echo(f"{says}: latent {row['latent']}, AUROC {row['auc']:.3f}, on unseen seeds {row['auc_held']:.3f}")
    typer.echo(str(out))


@command(
    app,
    "ablate",
    group=INSIDE,
    examples=[
        "scalex ablate runs/sae --attribute gender --value woman",
        "scalex ablate --direction runs/steer/directions/gender.safetensors --concept nurse",
    ],
)
@taking(JOB, without=("store", "seeds"))
def ablate(
    given: Given,
    sae: Annotated[Path | None, typer.Argument(help="Folder of a sparse autoencoder.")] = None,
    model: Annotated[
        str | None, typer.Option("--model", help="Folder or hub id; the embedded organism if absent.")
    ] = None,
    out: OutOpt = Path("runs/ablation"),
    latent: Annotated[
        list[int] | None, typer.Option("--latent", help="A latent to switch off; may be repeated.")
    ] = None,
    attribute: Annotated[
        str | None, typer.Option("--attribute", help="Of the spec: its variants are tried, too.")
    ] = None,
    value: Annotated[str | None, typer.Option("--value", help="Switch off the latents that tell it best.")] = None,
    top: Annotated[int, typer.Option("--top", min=1, help="How many of these.")] = 5,
    scale: Annotated[
        float, typer.Option("--scale", help="What latents are multiplied by: 0 is off, -1 turns them round.")
    ] = 0.0,
    direction: Annotated[
        list[Path] | None, typer.Option("--direction", help="File of a direction to erase; may be repeated.")
    ] = None,
    concept: Annotated[list[str] | None, typer.Option("--concept", help="Of the spec; may be repeated.")] = None,
    seeds: Annotated[int, typer.Option("--seeds", min=4, help="Pictures of each prompt.")] = 16,
    first_seed: Annotated[int, typer.Option("--first-seed", min=0, help="Where seeds begin.")] = 1000,
    scorer: ScorerOpt = None,
    json_: JsonOpt = False,
) -> None:
    """Switch latents or directions off while pictures are made, and say what leaves and what stays.

    Without --scorer an organism's pictures are read by its exact readout; of other models it is only said how far they
    move.
    """
    from scalex.drawings import Drawings
    from scalex.runs import make_folder
    from scalex.store import Store
    from scalex.switching import switch_off

    job = job_of(model, given, seeds=seeds, first_seed=first_seed, analyses=["defaults"])
    asked: dict[str, Any] = {"latents": latent or (), "directions": direction or (), "concepts": concept or None}
    asked |= {"attribute": attribute, "value": value, "top": top, "scale": scale}
    asked |= {"scorers": scorer, "drawings": Drawings.open(make_folder(out))}
    if scorer == "picture":
        asked["store"] = Store.open(out / "store")
    with progress("capture", "pictures") as (captured, done), resumable(f"what was drawn is kept in {out}"):
        found = switch_off(job, sae, capturing=captured, progress=done, **asked)
    found.save(out)
    rows = records(found.table)
    if json_:
        say_json({"folder": str(out), "table": rows})
        return
    say_table([("off", "prompts", "attribute", "before", "after", "change", "verdict"), *map(_line, rows)])
    typer.echo(str(out))


def _line(row: dict[str, object]) -> tuple[str, ...]:
    """A row of the table in words."""
    what = f"{row['attribute']}={row['value']}"
    ends = "" if row["low"] is None else f" ({row['low']:+.2f} to {row['high']:+.2f})"
    numbers = (f"{row['before']:.2f}", f"{row['after']:.2f}", f"{row['change']:+.2f}{ends}")
    return str(row["off"]), str(row["prompts"]), what, *numbers, str(row["verdict"])
