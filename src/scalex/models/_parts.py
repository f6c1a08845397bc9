"""The parts of a model: networks with all their weights, schedulers, LoRAs, and what the model recommends."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import diffusers
import torch
from safetensors import SafetensorError

from scalex.errors import ScalexError
from scalex.models._files import quiet, read_json, weight_files
from scalex.models._schedules import flows

__all__ = ["fuse_lora", "load_part", "load_scheduler", "load_tokenizer", "read_advice", "require_peft", "stem"]


def stem(role: str) -> str:
    """How the weight files of a part are called: as transformers calls them, or as diffusers does."""
    return "model" if role.startswith("text_encoder") else "diffusion_pytorch_model"


def load_part(kind: Any, folder: Path, role: str, **precision: torch.dtype) -> Any:
    """One network with its weights, all of them from safetensors, ready for inference.

    Raises:
        ScalexError: the configuration or the weights are missing, pickled, damaged or incomplete.
    """
    read_json(folder / "config.json")
    _, variant = weight_files(folder, stem(role))
    more = {"use_safetensors": True, "output_loading_info": True, "local_files_only": True, "variant": variant}
    try:
        with quiet():
            part, info = kind.from_pretrained(folder, **more, **precision)
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ScalexError(f"{folder} can't be loaded ({reason})", "Download or save the model again") from error
    if info["missing_keys"]:
        lost = f"{len(info['missing_keys'])} tensors, such as {sorted(info['missing_keys'])[0]}"
        raise ScalexError(f"the weights in {folder} lack {lost}", "Download or save the model again")
    return part.requires_grad_(False).eval()


def load_scheduler(path: Path, name: str | None, flow: bool = False) -> Any:
    """The scheduler of a configuration file, or another class with that configuration's noise schedule.

    Old files are corrected as `StableDiffusionPipeline` corrects them: latents are not clipped, steps start at 1.

    Raises:
        ScalexError: there is no such class, its noise is not a seed's own, or it is not of the kind that
            the model takes.
    """
    config = read_json(path)
    kind: Any = getattr(diffusers, str(name or config.get("_class_name")), None)
    if not (isinstance(kind, type) and issubclass(kind, diffusers.SchedulerMixin)):
        raise ScalexError(f"diffusers has no scheduler {name or config.get('_class_name')}", _choose("DDIMScheduler"))
    make: Any = kind.from_config  # type: ignore[attr-defined]  # a scheduler's class, as was just checked
    with quiet():
        scheduler = make(config)
        corrections = {"clip_sample": False, "steps_offset": 1}
        scheduler = make(scheduler.config, **{k: v for k, v in corrections.items() if k in scheduler.config})
    if "noise_sampler_seed" in scheduler.config:
        wrong = f"{kind.__name__} draws noise for a batch, not for a seed"
        raise ScalexError(wrong, _choose("DPMSolverMultistepScheduler"))
    if flows(scheduler) != flow or not (flow or hasattr(scheduler, "alphas_cumprod")):
        wrong = f"{kind.__name__} has no noise schedule of the {'flow matching' if flow else 'diffusion'} kind"
        raise ScalexError(wrong, _choose("FlowMatchEulerDiscreteScheduler" if flow else "DDIMScheduler"))
    return scheduler


def _choose(scheduler: str) -> str:
    """The way out of a scheduler that does not serve, wherever it was named."""
    return f"Try another: `scheduler: {scheduler}` in the spec, or `--scheduler {scheduler}`"


def load_tokenizer(kind: Any, folder: Path) -> Any:
    """A tokenizer of transformers.

    Raises:
        ScalexError: it is missing or damaged.
    """
    if not any((folder / name).is_file() for name in ("tokenizer.json", "vocab.json", "spiece.model")):
        raise ScalexError(f"{folder} holds no {kind.__name__}", "Download or save the model again")
    try:
        with quiet():
            return kind.from_pretrained(folder, local_files_only=True)
    except Exception as error:  # a bare Exception is what the tokenizers library raises
        raise ScalexError(f"{folder} can't be loaded ({error})", "Download or save the model again") from error


def require_peft() -> None:
    """Raises a ScalexError where the package that LoRAs need is missing."""
    if find_spec("peft") is None:
        raise ScalexError("a LoRA needs the package peft", "Install it: pip install 'peft>=0.15'")


def fuse_lora(pipe: Any, file: Path) -> None:
    """Adds a LoRA to the weights of a pipeline for good, so that it costs nothing at run time.

    Raises:
        ScalexError: the LoRA does not fit the model.
    """
    with quiet():
        try:
            pipe.load_lora_weights(file.parent, weight_name=file.name, use_safetensors=True, local_files_only=True)
        except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
            reason = str(error).strip().splitlines()[0]
            raise ScalexError(f"the LoRA {file} does not fit the model ({reason})", "Use a LoRA made for it") from error
        if not any(pipe.get_list_adapters().values()):
            raise ScalexError(f"the LoRA {file} changes no layer of the model", "Use a LoRA made for it")
        pipe.fuse_lora()
        pipe.unload_lora_weights()


def read_advice(path: Path | None) -> dict[str, float]:
    """The guidance and steps that a model's `scalex.json` recommends, where it has one."""
    found = read_json(path) if path else {}
    for key, value in found.items():
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if key not in ("guidance", "steps") or not number or value < 1:
            raise ScalexError(f"{path} says {key}: {value!r}", "It may say guidance and steps, numbers of at least 1")
    return found
