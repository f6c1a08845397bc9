"""Arguments and options that several commands take."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = [
    "ASKED",
    "MACHINE",
    "MODEL",
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
    "LeanDirectionOpt",
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


ASKED, MODEL, MACHINE = "What is asked", "The model", "How it runs"  # groups of options


ModelArg = Annotated[str | None, typer.Argument(help="Folder or hub id; the embedded organism if absent.")]


SpecOpt = Annotated[Path | None, typer.Option("--spec", help="YAML file that says what to ask.", rich_help_panel=ASKED)]


OutOpt = Annotated[Path, typer.Option("--out", help="Folder of the run.")]


StoreOpt = Annotated[
    str | None,
    typer.Option(
        "--store", help="Of the latents: a folder, by default in the run's, or s3://, gs:// or az://BUCKET/..."
    ),
]


SeedsOpt = Annotated[
    int | None, typer.Option("--seeds", help="How many seeds, instead of the spec's.", rich_help_panel=ASKED)
]


FirstSeedOpt = Annotated[
    int | None,
    typer.Option(
        "--first-seed", help="Where seeds begin: others repeat an audit on other pictures.", rich_help_panel=ASKED
    ),
]


StepsOpt = Annotated[
    int | None, typer.Option("--steps", help="Denoising steps, instead of the spec's.", rich_help_panel=ASKED)
]


UnetOpt = Annotated[
    str | None,
    typer.Option("--unet", help="Another U-Net for the model, such as a distilled one.", rich_help_panel=MODEL),
]


SchedulerOpt = Annotated[
    str | None,
    typer.Option("--scheduler", help="A diffusers scheduler class in place of the model's.", rich_help_panel=MODEL),
]


LoraOpt = Annotated[
    str | None, typer.Option("--lora", help="LoRA weights to fuse into the model.", rich_help_panel=MODEL)
]


ProbeOpt = Annotated[
    str | None,
    typer.Option("--probe", help="The block to read, of those that `scalex probe-sweep` lists.", rich_help_panel=MODEL),
]


BatchOpt = Annotated[
    int | None,
    typer.Option("--batch", help="Samples in a batch; by default what suits the device.", rich_help_panel=MACHINE),
]


CompileOpt = Annotated[
    bool,
    typer.Option(
        "--compile", help="Compile the denoiser's blocks: a minute or more, for a faster run.", rich_help_panel=MACHINE
    ),
]


OffloadOpt = Annotated[
    bool | None,
    typer.Option(
        "--offload/--no-offload",
        help="Stream weights to the device; by default where they do not fit there.",
        rich_help_panel=MACHINE,
    ),
]


WorkersOpt = Annotated[
    int | None,
    typer.Option(
        "--workers", help="Processes that capture side by side: one a GPU, or one a core.", rich_help_panel=MACHINE
    ),
]


EngineOpt = Annotated[
    str | None,
    typer.Option(
        "--engine",
        help="What captures: local, processes or ray; by default as --workers says.",
        rich_help_panel=MACHINE,
    ),
]


AddressOpt = Annotated[
    str | None,
    typer.Option(
        "--address", help="HOST:PORT of a Ray cluster; without, --engine ray starts one here.", rich_help_panel=MACHINE
    ),
]


DeviceOpt = Annotated[str | None, typer.Option("--device", help="cpu, cuda, cuda:1, ...", rich_help_panel=MACHINE)]


DtypeOpt = Annotated[str | None, typer.Option("--dtype", help="Of numbers: fp32, bf16 or fp16.", rich_help_panel=MODEL)]


MomentsOpt = Annotated[
    int | None,
    typer.Option(
        "--moments",
        help="Keep mean and variance of so many seeds at a time, in place of single samples.",
        rich_help_panel=ASKED,
    ),
]


PrecisionOpt = Annotated[
    float | None,
    typer.Option(
        "--precision",
        help="Add seeds to undecided concepts, until decided or known to +- this, as 0.05.",
        rich_help_panel=ASKED,
    ),
]


BudgetOpt = Annotated[
    int | None,
    typer.Option(
        "--budget", help="Most seeds a concept may get with --precision; by default 8 x --seeds.", rich_help_panel=ASKED
    ),
]


LeanDirectionOpt = Annotated[
    str | None,
    typer.Option("--lean-direction", help="What leans are measured along: own, shared, lda or pooled."),
]


AnalysisOpt = Annotated[
    list[str] | None,
    typer.Option(
        "--analysis", help="Only this one, or `all`, instead of the spec's; may be repeated.", rich_help_panel=ASKED
    ),
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
