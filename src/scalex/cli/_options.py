"""Arguments and options that several commands take."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = [
    "AddressOpt",
    "AnalysisOpt",
    "BatchOpt",
    "BudgetOpt",
    "CompileOpt",
    "DeviceOpt",
    "DevicesOpt",
    "DryOpt",
    "DtypeOpt",
    "EngineOpt",
    "FirstSeedOpt",
    "FolderArg",
    "JsonOpt",
    "LoraOpt",
    "ModelArg",
    "MomentsOpt",
    "MovedOpt",
    "OffloadOpt",
    "OrganismArg",
    "OutOpt",
    "PrecisionOpt",
    "ProbeOpt",
    "RunArg",
    "SchedulerOpt",
    "ScorerOpt",
    "SeedsOpt",
    "SideArg",
    "SpecOpt",
    "StepsOpt",
    "StoreArg",
    "StoreOpt",
    "UnetOpt",
    "WorkersOpt",
]


ModelArg = Annotated[str | None, typer.Argument(help="Folder or hub id; the embedded organism if absent.")]


SpecOpt = Annotated[Path | None, typer.Option("--spec", help="YAML file that says what to ask.")]


OutOpt = Annotated[Path, typer.Option("--out", help="Folder of the run.")]


StoreOpt = Annotated[
    str | None,
    typer.Option(
        "--store", help="Of the latents: a folder, by default in the run's, or s3://, gs:// or az://BUCKET/..."
    ),
]


SeedsOpt = Annotated[int | None, typer.Option("--seeds", help="How many seeds, instead of the spec's.")]


FirstSeedOpt = Annotated[
    int | None, typer.Option("--first-seed", help="Where seeds begin: others repeat an audit on other pictures.")
]


StepsOpt = Annotated[int | None, typer.Option("--steps", help="Denoising steps, instead of the spec's.")]


UnetOpt = Annotated[str | None, typer.Option("--unet", help="Another U-Net for the model, such as a distilled one.")]


SchedulerOpt = Annotated[
    str | None, typer.Option("--scheduler", help="A diffusers scheduler class in place of the model's.")
]


LoraOpt = Annotated[str | None, typer.Option("--lora", help="LoRA weights to fuse into the model.")]


ProbeOpt = Annotated[
    str | None, typer.Option("--probe", help="The block to read, of those that `scalex probe-sweep` lists.")
]


BatchOpt = Annotated[int | None, typer.Option("--batch", help="Samples in a batch; by default what suits the device.")]


CompileOpt = Annotated[
    bool, typer.Option("--compile", help="Compile the denoiser's blocks: a minute or more, for a faster run.")
]


OffloadOpt = Annotated[
    bool | None,
    typer.Option(
        "--offload/--no-offload", help="Stream weights to the device; by default where they do not fit there."
    ),
]


WorkersOpt = Annotated[
    int | None, typer.Option("--workers", help="Processes that capture side by side: one a GPU, or one a core.")
]


EngineOpt = Annotated[
    str | None, typer.Option("--engine", help="What captures: local, processes or ray; by default as --workers says.")
]


AddressOpt = Annotated[
    str | None, typer.Option("--address", help="HOST:PORT of a Ray cluster; without, --engine ray starts one here.")
]


DeviceOpt = Annotated[str | None, typer.Option("--device", help="cpu, cuda, cuda:1, ...")]


DtypeOpt = Annotated[str | None, typer.Option("--dtype", help="Of numbers: fp32, bf16 or fp16.")]


MomentsOpt = Annotated[
    int | None,
    typer.Option("--moments", help="Keep mean and variance of so many seeds at a time, in place of single samples."),
]


PrecisionOpt = Annotated[
    float | None,
    typer.Option("--precision", help="Add seeds to undecided concepts, until decided or known to +- this, as 0.05."),
]


BudgetOpt = Annotated[
    int | None, typer.Option("--budget", help="Most seeds a concept may get with --precision; by default 8 x --seeds.")
]


AnalysisOpt = Annotated[
    list[str] | None,
    typer.Option("--analysis", help="Only this one, or `all`, instead of the spec's; may be repeated."),
]


DryOpt = Annotated[bool, typer.Option("--dry-run", help="Say what it would take, and stop.")]


JsonOpt = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]


MovedOpt = Annotated[str | None, typer.Option("--store", help="Folder of the latents, if they were moved.")]


DevicesOpt = Annotated[str, typer.Option("--device", help="cpu or cuda.")]


ScorerOpt = Annotated[
    str | None,
    typer.Option(
        "--scorer",
        help="What reads pictures: `picture` (the model's own reading), `exact` (of an organism), clip:FOLDER, "
        "classifier:FOLDER, or package.module:function.",
    ),
]


RunArg = Annotated[Path, typer.Argument(help="Folder of a run.")]


SideArg = Annotated[
    str, typer.Argument(help="Folder of a run, folder or hub id of a model, or `embedded` for the embedded organism.")
]


FolderArg = Annotated[Path, typer.Argument(help="Folder of an organism.")]


OrganismArg = Annotated[Path | None, typer.Argument(help="Folder of an organism; the embedded one if absent.")]


StoreArg = Annotated[str, typer.Argument(help="Folder of the store, or s3://, gs:// or az://BUCKET/FOLDER.")]
