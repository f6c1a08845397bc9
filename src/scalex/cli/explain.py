"""The command that says what moves a classifier of images."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from scalex.cli._help import INSIDE, command
from scalex.cli._options import DeviceOpt, JsonOpt, SpecOpt, StepsOpt, UnetOpt
from scalex.cli._say import progress, say_json, say_table
from scalex.errors import ScalexError
from scalex.wording import did_you_mean

__all__ = ["app"]

app = typer.Typer()


@command(
    app,
    "explain",
    group=INSIDE,
    examples=["scalex explain path/to/classifier --class pilot --concepts person --hierarchy semantics.yaml"],
)
def explain_(
    classifier: Annotated[Path, typer.Argument(help="Local folder of an image-classification model (transformers).")],
    target: Annotated[str, typer.Option("--class", help="The class whose probability is watched.")],
    concepts: Annotated[str, typer.Option("--concepts", help="What pictures are drawn of: a,b,c.")],
    hierarchy: Annotated[Path, typer.Option("--hierarchy", help="YAML or JSON file of semantics, coarse to fine.")],
    out: Annotated[Path, typer.Option("--out", help="Folder of table, pictures and latents.")] = Path("runs/explain"),
    model: Annotated[
        str | None, typer.Option("--model", help="What draws: folder or hub id; the embedded organism if absent.")
    ] = None,
    spec: SpecOpt = None,
    unet: UnetOpt = None,
    steps: StepsOpt = None,
    seeds: Annotated[int, typer.Option("--seeds", help="Of each level's pictures, for each concept.")] = 16,
    vectors: Annotated[int, typer.Option("--vectors", min=4, help="Seeds that directions are estimated from.")] = 16,
    beam: Annotated[int, typer.Option("--beam", min=1, help="Semantics that are opened at each level.")] = 3,
    top: Annotated[int, typer.Option("--top", min=1, help="Semantics that are pictured and controlled.")] = 3,
    alpha: Annotated[float, typer.Option("--alpha", help="How far: 1 is the distance between the prompts.")] = 1.0,
    by: Annotated[str, typer.Option("--by", help="steering, or words: say semantics in the prompt.")] = "steering",
    device: DeviceOpt = None,
    json_: JsonOpt = False,
) -> None:
    """Rank which semantics, steered into pictures, move a classifier's decision: from coarse to fine."""
    from scalex.explanations import GRID, TABLE, as_dict, explain_classifier, in_rows

    if by not in ("steering", "words"):
        raise ScalexError(f"--by {by} is not understood", did_you_mean(by, ("steering", "words"), "Ways"))
    asked: dict[str, Any] = {"model": model, "spec": spec, "unet": unet, "steps": steps, "device": device}
    how: dict[str, Any] = {"seeds": seeds, "vectors": vectors, "beam": beam, "top": top, "alpha": alpha, "edit": by}
    listed = [part.strip() for part in concepts.split(",") if part.strip()]
    with progress("test") as (tested,):
        found = explain_classifier(classifier, target, hierarchy, listed, out=out, progress=tested, **asked, **how)
    if json_:
        say_json(as_dict(found))
        return
    say_table(in_rows(found))
    if found.pruned:
        typer.echo(
            f"Not tested: {len(found.pruned)} finer ones, of {', '.join({p.below.name: 0 for p in found.pruned})}"
        )
    typer.echo(f"Pictures: {out / GRID}. Table: {out / TABLE}")
