"""Trains an organism from its spec and saves it as an ordinary `diffusers` folder."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch

from scalex.disk import write_atomic
from scalex.errors import ScalexError, resumable
from scalex.models import quiet
from scalex.models.base import choose_device
from scalex.organisms.captions import Captions
from scalex.organisms.loop import Progress, StageOutlook, Trainee, run_stage, saving, try_stage
from scalex.organisms.networks import make_denoiser, make_scheduler, make_tokenizer
from scalex.organisms.pictures import Album, make_album
from scalex.organisms.readout import Truth, save_truth
from scalex.organisms.spec import OrganismSpec, Schedule
from scalex.organisms.stages import Encoder, consistency_stage, denoiser_stage, latents_of, text_stage, vae_stage

__all__ = ["CONSISTENCY", "borrow", "claim", "pipeline_class", "train_organism", "training_outlook"]

CONSISTENCY = "lcm"  # subfolder of the distilled U-Net


def train_organism(
    spec: OrganismSpec, out: Path, device: str = "cpu", progress: Progress = lambda *_: None, start: Path | None = None
) -> Path:
    """Trains all stages that are not done yet and writes `out`.

    Checkpoints lie in `out/training` and every stage resumes from them: a killed run goes on where it was.

    Args:
        start: another organism whose autoencoder and text encoder are taken as they are, and whose denoiser is the
            starting point: other plants are then learned in a fraction of the steps.

    Raises:
        ScalexError: there is no such device, the folder cannot be written to or holds the checkpoints of another spec,
            the disk is full, the pictures cannot be made, or `start` does not know the spec's words.
    """
    where = choose_device(device)
    work = claim(out, spec)
    album = make_album(spec)
    with resumable(f"the last checkpoint of every stage is kept in {work}"):
        parts = _train(spec, album, partial(run_stage, seed=spec.seed, folder=work, progress=progress), where, start)
    with saving(out):
        _save(spec, album, parts, out)
    return out


def training_outlook(
    spec: OrganismSpec, out: Path, device: str = "cpu", start: Path | None = None
) -> tuple[list[StageOutlook], int]:
    """What `train_organism` would still take, by stage, and bytes of the organism itself, beside the checkpoints.

    Every stage is tried for a few steps, after stages that have learned nothing. Nothing is written.

    Raises:
        ScalexError: as `train_organism`, but for what only writing shows.
    """
    where, stages = choose_device(device), list[StageOutlook]()
    _check_claim(out, spec)

    def try_one(trainee: Trainee, schedule: Schedule) -> None:
        stages.append(try_stage(trainee, schedule, spec.seed, out / "training"))

    parts = _train(spec, make_album(spec), try_one, where, start)
    weights = sum(p.numel() for n in ("vae", "text_encoder", "unet", "student") for p in parts[n].parameters())
    return stages, 2 * (weights + parts["latents"].numel())  # all are kept in half precision


def claim(out: Path, spec: OrganismSpec) -> Path:
    """The folder of the checkpoints in `out`, marked as those of a spec.

    Raises:
        ScalexError: it holds those of another, or cannot be written to.
    """
    work, text = out / "training", spec.model_dump_json()
    mark = work / "spec.json"
    with saving(out):
        work.mkdir(parents=True, exist_ok=True)
        if not mark.exists():
            write_atomic(mark, text)
        _check_claim(out, spec)
    return work


def _check_claim(out: Path, spec: OrganismSpec) -> None:
    """Raises ScalexError where `out` holds the checkpoints of another spec."""
    mark = out / "training" / "spec.json"
    if mark.exists() and mark.read_text(encoding="utf-8") != spec.model_dump_json():
        raise ScalexError(
            f"{out} holds the checkpoints of another spec", "Choose another --out, or remove its training folder"
        )


def _train(
    spec: OrganismSpec,
    album: Album,
    take: Callable[[Trainee, Schedule], None],
    device: torch.device,
    start: Path | None,
) -> dict[str, Any]:
    """The networks after each stage was taken: trained, or tried."""

    def run(make: Any, schedule: Any, *args: Any) -> Any:
        _seed_weights(spec.seed)
        trainee = make(spec, album, *args)
        take(trainee, schedule)
        return trainee.modules

    if start is None:
        vae = run(vae_stage, spec.vae, device)["vae_average"].eval()
        tokenizer = make_tokenizer(spec, Captions(spec, album).words())
        latents = latents_of(vae, album, device)
        text = run(text_stage, spec.text, latents, tokenizer, device)["text"]
        _seed_weights(spec.seed)
        first = make_denoiser(spec)
    else:
        vae, tokenizer, text, first = borrow(start, Captions(spec, album), device)
        latents = latents_of(vae, album, device)
    encode = Encoder(tokenizer, text.eval().requires_grad_(False), device)
    unet = run(denoiser_stage, spec.denoiser, latents, encode, first)["unet_average"].eval()
    student = run(consistency_stage, spec.consistency, latents, encode, unet)["student_average"].eval()
    return {
        "vae": vae,
        "tokenizer": tokenizer,
        "text_encoder": text,
        "unet": unet,
        "student": student,
        "latents": latents,
    }


def borrow(start: Path, captions: Captions, device: torch.device) -> tuple[Any, Any, Any, Any]:
    """Autoencoder, tokenizer, text encoder and denoiser of another organism.

    Raises:
        ScalexError: there is none, or it does not know every word of the captions.
    """
    if not (start / "model_index.json").is_file():
        raise ScalexError(
            f"{start} holds no trained organism", "Name the folder that `scalex organism train --out` wrote"
        )
    pipe = pipeline_class().from_pretrained(start, dtype=torch.float32)
    new = sorted({w for w in captions.words() if len(pipe.tokenizer.tokenize(w)) != 1})
    if new:
        raise ScalexError(
            f"{start} does not know the words {', '.join(new[:8])}", "Train from scratch: leave out --from"
        )
    return pipe.vae.to(device).eval(), pipe.tokenizer, pipe.text_encoder.to(device), pipe.unet


def pipeline_class() -> Any:
    """`diffusers.StableDiffusionPipeline`."""
    with quiet():  # transformers says on import that torchvision is missing; nothing here needs it
        from diffusers import StableDiffusionPipeline
    return StableDiffusionPipeline


def _seed_weights(seed: int) -> None:
    # Initial weights come from the global generators of the libraries; nothing else in scalex draws from them.
    random.seed(seed)
    torch.manual_seed(seed)


def _save(spec: OrganismSpec, album: Album, parts: dict[str, Any], out: Path) -> None:
    student = parts["student"].half()
    halves = {n: parts[n].half() for n in ("vae", "text_encoder", "unet")}
    pipe = pipeline_class()(
        **halves,
        tokenizer=parts["tokenizer"],
        scheduler=make_scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipe.save_pretrained(out, safe_serialization=True)
    student.save_pretrained(out / CONSISTENCY, safe_serialization=True)
    make_scheduler(consistency=True).save_pretrained(out / CONSISTENCY)
    (out / CONSISTENCY / "scalex.json").write_text(json.dumps({"guidance": 1.0, "steps": 4}), encoding="utf-8")
    (out / "scalex.json").write_text(json.dumps({"guidance": spec.guidance, "steps": 25}), encoding="utf-8")
    save_truth(out, Truth(spec, album.shown, parts["latents"].cpu()))
