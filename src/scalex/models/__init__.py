"""Model families: an open set. A module of this folder, or an entry point, that has NAME, PIPELINES and load is one."""

from __future__ import annotations

import importlib
import pkgutil
import re
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import torch

from scalex.errors import ScalexError
from scalex.models._files import quiet, read_json, resolve
from scalex.models._schedules import clean_latent, mixture, timesteps
from scalex.models.base import (
    PRECISIONS,
    Condition,
    Family,
    Lively,
    Model,
    Options,
    Source,
    choose_device,
    choose_dtype,
)

__all__ = [
    "PRECISIONS",
    "Condition",
    "Family",
    "Lively",
    "Model",
    "Options",
    "Source",
    "around",
    "clean_latent",
    "families",
    "load_model",
    "mixture",
    "quiet",
    "timesteps",
]


@cache
def families() -> dict[str, Family]:
    """Every family by name: the modules of this folder first, then what others registered as `scalex.families`."""
    names = [m.name for m in pkgutil.iter_modules(__path__) if not m.name.startswith("_") and m.name != "base"]
    with quiet():  # transformers advises of packages that no audit needs
        found: list[Family] = [importlib.import_module(f"{__name__}.{name}") for name in names]
    found += [point.load() for point in entry_points(group="scalex.families")]
    return {family.NAME: family for family in reversed(found)}


def load_model(
    path_or_id: str | Path,
    *,
    unet: str | None = None,
    lora: str | None = None,
    scheduler: str | None = None,
    device: str | torch.device | None = None,
    dtype: str | torch.dtype | None = None,
    size: int | None = None,
    probe: str | None = None,
    compile: bool = False,
    offload: bool | None = None,
) -> Model:
    """Loads a diffusion model from a folder in diffusers' form, or from the hub by its id.

    Args:
        path_or_id: the folder or hub id of a pipeline.
        unet: another U-Net or transformer for it (a subfolder of the model, a folder, a hub id), with its scheduler if
            it has one.
        lora: LoRA weights to fuse into it (a file, a folder, a hub id), with their scheduler if they have one.
        scheduler: the name of another `diffusers` scheduler class, such as "LCMScheduler" for an LCM-LoRA.
        device: where it runs; by default CUDA if there is any, else the CPU.
        dtype: "fp32", "bf16" or "fp16"; by default fp16 on CUDA, else fp32.
        size: width and height of the pictures in pixels; by default what the denoiser was trained for.
        probe: the module whose output is read; by default the middle block. `Model.probes` lists them.
        compile: whether the denoiser's blocks are compiled at their first use (`torch.compile`): that takes a minute or
            more, and pays where many samples follow.
        offload: whether weights stay in the CPU's memory, each layer's being brought to the device while it is used;
            by default where they do not fit there.

    Raises:
        ScalexError: nothing is there, it is no diffusion model or one of an unknown kind, its weights are pickles or
            damaged, its parts do not fit together, or the device or the precision is not to be had.
    """
    chosen = choose_device(device)
    options = Options(chosen, choose_dtype(dtype, chosen), unet, lora, scheduler, size, probe, compile, offload)
    folder = resolve(path_or_id, pipeline=True)
    kind = _pipeline_class(folder)
    for family in families().values():
        if kind in family.PIPELINES:
            model = family.load(folder, options)
            told = (unet, lora, scheduler, model.precision, size, probe, compile, offload)
            model.source = Source(str(path_or_id), *told)
            return model
    known = ", ".join(p for family in families().values() for p in family.PIPELINES)
    raise ScalexError(f"{folder} holds a {kind}, which no family of scalex reads", f"It reads {known}")


_VARIANTS = re.compile("Img2Img|ControlNet")
"""What the names of pipelines say of other inputs; denoiser and probe are those of the plain pipeline."""


def around(pipe: Any, *, probe: str | None = None, fingerprint: bool = True) -> Model:
    """The model that a loaded pipeline of diffusers holds. Nothing of the pipeline is changed.

    Args:
        probe: the module to read; by default the middle block. fingerprint: whether the files that the pipeline was
            loaded from are read, to know the model again. (It is empty where they are not known.)

    Raises:
        ScalexError: it is no pipeline, one of no family, lacks a part, or is compiled where it is probed.
    """
    kind = type(pipe).__name__
    if not hasattr(pipe, "components"):
        raise ScalexError(
            f"a {kind} is no pipeline of diffusers", "Give one, such as `DiffusionPipeline.from_pretrained`"
        )
    for family in families().values():
        if _VARIANTS.sub("", kind) in family.PIPELINES and isinstance(family, Lively):
            return family.around(pipe, probe, fingerprint)
    known = ", ".join(p for f in families().values() if isinstance(f, Lively) for p in f.PIPELINES)
    raise ScalexError(f"no family of scalex reads a {kind}", f"They read {known}")


def _pipeline_class(folder: Path) -> str:
    if folder.is_file():
        raise ScalexError(
            f"{folder} is a file, but a model is a folder in diffusers' form",
            "Convert it: `StableDiffusionPipeline.from_single_file(file).save_pretrained(folder)`",
        )
    if (folder / "model_index.json").is_file():
        return str(read_json(folder / "model_index.json").get("_class_name"))
    raise ScalexError(f"{folder} is no diffusion model: it {_what(folder)}", "Give one that has a model_index.json")


def _what(folder: Path) -> str:
    """What a folder without a model_index.json seems to be, for the error message."""
    if (folder / "config.json").is_file():
        config = read_json(folder / "config.json")
        kind = config.get("_class_name") or (config.get("architectures") or [config.get("model_type")])[0]
        return f"holds a single {kind or 'part of a model'}"
    found = sorted(p.name for p in folder.iterdir())
    return f"holds {', '.join(found[:5])}{', ...' if len(found) > 5 else ''}" if found else "is empty"
