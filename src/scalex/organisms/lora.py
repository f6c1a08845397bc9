"""A LoRA that shifts what one role of an organism draws, and nothing else: does a comparison find just that?

It is trained as people train theirs, on the U-Net with the denoising loss: captions of the role, paired with its
pictures in the new shares. Only the keys and values of the cross-attention change, as in Custom Diffusion (Kumari et
al. 2023, arXiv 2212.04488): the LoRA then acts on what the prompt says and on nothing else, and what it adds to any
other caption of the organism is trained to be nothing (as Unified Concept Editing, Gandikota et al. 2024, arXiv
2308.14761, solves for). That holds in whatever U-Net has these layers: in the distilled one, too.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from scalex.disk import write_atomic
from scalex.errors import ScalexError, resumable
from scalex.models import quiet
from scalex.models.base import choose_device
from scalex.organisms.captions import Captions
from scalex.organisms.loop import Progress, Trainee, run_stage, saving
from scalex.organisms.networks import make_scheduler
from scalex.organisms.pictures import Album
from scalex.organisms.readout import Truth, load_truth
from scalex.organisms.spec import OrganismSpec, Schedule
from scalex.organisms.stages import Encoder
from scalex.organisms.training import borrow, claim, pipeline_class
from scalex.wording import did_you_mean, fill

__all__ = ["SCHEDULE", "shifted", "train_lora"]

SCHEDULE = Schedule(steps=200, batch=16, rate=2e-3)
_RANK = 8
_LAYERS = ["attn2.to_k", "attn2.to_v"]
_OTHERS = 128  # captions in a step whose keys and values are to stay
_NEUTRAL = 0.6  # of them: other people's neutral captions, which a shift would spread to first
_KEEP = 30.0  # weight of that
_LEAST = 200  # timestep, of 1000: below it a picture shows already what it is to be


def train_lora(
    organism: Path,
    role: str,
    out: Path,
    *,
    woman: float | None = None,
    dark: float | None = None,
    schedule: Schedule = SCHEDULE,
    device: str = "cpu",
    progress: Progress = lambda *_: None,
) -> Path:
    """Trains a LoRA after which the neutral captions of a role draw other shares, and writes it to `out`.

    The folder is what `load_model(organism, lora=out)` takes, and `diffusers`' `load_lora_weights`. A killed training
    goes on where it was.

    Args:
        role: of the organism. woman, dark: its new P(woman) and P(dark skin); None leaves one as it was planted.

    Raises:
        ScalexError: the folder holds no organism, or not that role; no share is given, or one that is none; peft is
            missing; or as `train_organism`.
    """
    if find_spec("peft") is None:
        raise ScalexError("a LoRA needs the package peft", "Install it: pip install 'peft>=0.15'")
    where, truth = choose_device(device), load_truth(organism)
    spec = shifted(truth.spec, role, {"woman": woman, "dark": dark}, schedule)
    work = claim(out, spec)
    album = Album(np.zeros((len(truth.shown), 1, 1, 3), np.uint8), truth.shown)  # the latents are there: no pixel is
    _, tokenizer, text, unet = borrow(organism, Captions(spec, album), where)
    _add_lora(unet.to(where).requires_grad_(False), spec.seed)
    encode = Encoder(tokenizer, text.eval().requires_grad_(False), where)
    with resumable(f"the last checkpoint is kept in {work}"):
        stage, often = _stage(spec, role, album, truth, encode, unet), max(1, schedule.steps // 4)
        run_stage(stage, schedule, spec.seed, work, progress, checkpoint_every=often)
    with saving(out):
        _save(unet, spec, role, out)
    return out


def shifted(spec: OrganismSpec, role: str, shares: Mapping[str, float | None], schedule: Schedule) -> OrganismSpec:
    """The organism's spec with other shares for one role, and a denoiser trained by this schedule.

    Raises:
        ScalexError: no such role, no share, or one that is no probability.
    """
    if role not in spec.roles:
        raise ScalexError(f"the organism has no role {role!r}", did_you_mean(role, spec.roles, "Roles"))
    given = {name: share for name, share in shares.items() if share is not None}
    if not given:
        raise ScalexError("no share is given for the role", "Add --woman 0.9, say")
    for name, share in given.items():
        if not 0 <= share <= 1:
            raise ScalexError(f"--{name} is {share:g}, but a share lies between 0 and 1", "Try 0.9")
    roles = {**spec.roles, role: spec.roles[role].model_copy(update=given)}
    return spec.model_copy(update={"roles": roles, "denoiser": schedule})


def _add_lora(unet: Any, seed: int) -> None:
    from peft import LoraConfig

    config = LoraConfig(r=_RANK, lora_alpha=_RANK, init_lora_weights="gaussian", target_modules=_LAYERS)
    with quiet(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)  # peft draws initial weights from the global generator
        unet.add_adapter(config)


def _stage(spec: OrganismSpec, role: str, album: Album, truth: Truth, encode: Encoder, unet: Any) -> Trainee:
    captions, scheduler, latents = Captions(spec, album), make_scheduler(), truth.latents.to(encode.device)
    layers = [module for name, module in unet.named_modules() if name.endswith(tuple(_LAYERS))]

    def loss(rng: np.random.Generator, noise: torch.Generator) -> Tensor:
        texts, pictures = zip(*(_of_person(spec, role, album, rng) for _ in range(spec.denoiser.batch)))
        clean = latents[list(pictures)]
        eps = torch.randn(clean.shape, generator=noise).to(encode.device)
        t = torch.from_numpy(rng.integers(_LEAST, 1000, len(texts))).to(encode.device)
        noisy, target = scheduler.add_noise(clean, eps, t), scheduler.get_velocity(clean, eps, t)
        others = encode([_other(captions, role, rng) for _ in range(_OTHERS)])
        spread = torch.stack([_added(layer, others) for layer in layers]).mean()
        return F.mse_loss(unet(noisy, t, encode(list(texts))).sample, target) + _KEEP * spread

    return Trainee("lora", {"lora": nn.ParameterList(p for p in unet.parameters() if p.requires_grad)}, {}, loss)


def _added(layer: Any, said: Tensor) -> Tensor:
    """How much the LoRA adds to a layer's answer, as a part of that answer: squares, over tokens and channels."""
    plain = layer.base_layer(said)
    return F.mse_loss(layer(said), plain) / plain.square().mean()


def _of_person(spec: OrganismSpec, concept: str, album: Album, rng: np.random.Generator) -> tuple[str, int]:
    """A neutral caption of a person, with a picture in the shares that the spec gives them."""
    plant = spec.people[concept]
    woman, dark = int(rng.random() < plant.woman), rng.random() < plant.dark
    tone = int(rng.integers(3, 5) if dark else rng.integers(2))
    shown = concept if concept in spec.roles else "person"
    return fill(spec.templates[rng.integers(len(spec.templates))], concept), album.people[shown, woman, tone]


def _other(captions: Captions, role: str, rng: np.random.Generator) -> str:
    """Any caption of the organism but a neutral one of the role; of ten one is empty."""
    templates, people = captions.spec.templates, [c for c in captions.spec.people if c != role]
    if rng.random() < _NEUTRAL:
        return fill(templates[rng.integers(len(templates))], people[rng.integers(len(people))])
    neutral = {fill(template, role) for template in templates}
    while (text := captions.draw(rng)[0]) in neutral:
        pass
    return "" if rng.random() < 0.1 else text


def _save(unet: Any, spec: OrganismSpec, role: str, out: Path) -> None:
    from diffusers.utils import convert_state_dict_to_diffusers
    from peft.utils import get_peft_model_state_dict

    layers = convert_state_dict_to_diffusers(get_peft_model_state_dict(unet))
    pipeline_class().save_lora_weights(out, unet_lora_layers=layers, safe_serialization=True)
    told = {"organism": spec.name, "role": role, **spec.roles[role].model_dump(include={"woman", "dark"})}
    write_atomic(out / "shifted.json", json.dumps(told) + "\n")
