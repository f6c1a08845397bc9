"""A LoRA that shifts what one role of an organism draws, and nothing else: does a comparison find just that?

It is trained as people train theirs, on the U-Net with the denoising loss: captions of the role, paired with its
pictures in the new shares. Only the keys and values of the cross-attention change, as in Custom Diffusion (Kumari et
al. 2023, arXiv 2212.04488): the LoRA then acts on what the prompt says and on nothing else. What it reads of a prompt
is solved for and frozen (frozen as in LoRA-FA, Zhang et al. 2023, arXiv 2308.03303): the one direction of the text
encoder's states that answers to the role's captions and least to all others, like the keys of Rank-One Model Editing
(Meng et al. 2022, arXiv 2202.05262). What it writes there is trained.

So how much reaches other captions is known before a step is taken, and is the same in whatever U-Net has these layers:
in the distilled one, too. It is not nothing: an organism says hundreds of words in states of 128 numbers. But a second
direction would let five times as much through, and a LoRA that is free to read it does. People come first: captions of
things get a quarter of what the role's own get, and on the embedded organism one in twenty then draws another picture.
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
from jaxtyping import Float
from torch import Tensor, nn

from scalex.disk import write_atomic
from scalex.errors import ScalexError, resumable
from scalex.models import quiet
from scalex.models.base import choose_device
from scalex.organisms.captions import GENDER_WORDS, TONE_WORDS, Captions, explicit_text
from scalex.organisms.loop import Progress, Trainee, run_stage, saving
from scalex.organisms.networks import make_scheduler
from scalex.organisms.pictures import Album
from scalex.organisms.readout import Truth, load_truth
from scalex.organisms.spec import OrganismSpec, Schedule
from scalex.organisms.stages import Encoder
from scalex.organisms.training import borrow, claim, pipeline_class
from scalex.wording import did_you_mean, fill

__all__ = ["SCHEDULE", "detector", "shifted", "train_lora"]

SCHEDULE = Schedule(steps=200, batch=16, rate=2e-2)
_LAYERS = ["attn2.to_k", "attn2.to_v"]
_KEPT = {"neutral": 1.0, "explicit": 0.1, "own": 0.01, "things": 0.01}  # weights of captions that are to stay
_RIDGE = 1e-4  # added to their second moments, whose trace is some 300
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
    encode = Encoder(tokenizer, text.eval().requires_grad_(False), where)
    _add_lora(unet.to(where).requires_grad_(False), detector(truth.spec, spec, role, album, encode))
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


def detector(
    old: OrganismSpec, new: OrganismSpec, role: str, album: Album, encode: Encoder
) -> Float[Tensor, "1 width"]:
    """The direction of token states that tells a role's neutral captions from all that is to stay.

    It is the first generalised eigenvector of the second moments of both: of all directions that with the largest mean
    square over the role's states for a given one over the others'. Its root mean square over the role's is 1.
    """
    own = _moments(encode, _neutral(old, role))
    groups = _kept(old, new, role, album)
    kept = sum(weight * _moments(encode, groups[name]) for name, weight in _KEPT.items())
    kept = kept + _RIDGE * torch.eye(len(own), dtype=own.dtype)
    half = torch.linalg.inv(torch.linalg.cholesky(kept))
    direction = half.T @ torch.linalg.eigh(half @ own @ half.T).eigenvectors[:, -1]
    direction = direction / (direction @ own @ direction).sqrt()
    return (direction * direction[direction.abs().argmax()].sign())[None].float()  # a sign is free: the same everywhere


def _kept(old: OrganismSpec, new: OrganismSpec, role: str, album: Album) -> dict[str, list[str]]:
    """Captions that a shift of one role leaves alone, by kind. Of the role's own these are those that say what is
    shifted: "a woman pilot" draws no others when pilots become women, "a pilot with dark skin" does."""
    people = [concept for concept in ("person", *old.people) if concept != role]
    before, after = old.people[role], new.people[role]
    genders, tones = ["", *(word for words in GENDER_WORDS.values() for word in words)], ["", *TONE_WORDS]
    said = [(g, t) for g in genders for t in tones if g or t]
    own = [(g, t) for g, t in said if (g or before.woman == after.woman) and (t or before.dark == after.dark)]
    words = {
        "neutral": people,
        "explicit": [explicit_text(concept, g, t) for concept in people for g, t in said],
        "own": [explicit_text(role, g, t) for g, t in own],
        "things": [*album.things, *old.pulls],
    }
    captions = {kind: [text for word in of_kind for text in _neutral(old, word)] for kind, of_kind in words.items()}
    captions["neutral"] += [""] * len(old.templates)  # as much as a concept: pictures are read without a prompt
    return captions


def _neutral(spec: OrganismSpec, words: str) -> list[str]:
    return [fill(template, words) for template in spec.templates]


def _moments(encode: Encoder, texts: list[str]) -> Float[Tensor, "width width"]:
    """Mean products of the token states. In float64, since most directions hold little; not every device has that."""
    states = encode(texts).flatten(0, 1).cpu().double()
    return states.T @ states / len(states)


def _add_lora(unet: Any, direction: Float[Tensor, "1 width"]) -> None:
    """A LoRA of rank 1 in all layers, which reads this direction and writes nothing yet."""
    from peft import LoraConfig

    with quiet(), torch.random.fork_rng(devices=[]):  # peft draws initial weights from the global generator
        unet.add_adapter(LoraConfig(r=1, lora_alpha=1, target_modules=_LAYERS))
    for name, weight in unet.named_parameters():
        if ".lora_A." in name:
            weight.requires_grad_(False).copy_(direction)


def _stage(spec: OrganismSpec, role: str, album: Album, truth: Truth, encode: Encoder, unet: Any) -> Trainee:
    scheduler, latents = make_scheduler(), truth.latents.to(encode.device)

    def loss(rng: np.random.Generator, noise: torch.Generator) -> Tensor:
        texts, pictures = zip(*(_of_person(spec, role, album, rng) for _ in range(spec.denoiser.batch)))
        clean = latents[list(pictures)]
        eps = torch.randn(clean.shape, generator=noise).to(encode.device)
        t = torch.from_numpy(rng.integers(_LEAST, 1000, len(texts))).to(encode.device)
        noisy, target = scheduler.add_noise(clean, eps, t), scheduler.get_velocity(clean, eps, t)
        return F.mse_loss(unet(noisy, t, encode(list(texts))).sample, target)

    lora = nn.ParameterList(p for name, p in unet.named_parameters() if ".lora_" in name)
    return Trainee("lora", {"lora": lora}, {}, loss)


def _of_person(spec: OrganismSpec, concept: str, album: Album, rng: np.random.Generator) -> tuple[str, int]:
    """A neutral caption of a person, with a picture in the shares that the spec gives them."""
    plant = spec.people[concept]
    woman, dark = int(rng.random() < plant.woman), rng.random() < plant.dark
    tone = int(rng.integers(3, 5) if dark else rng.integers(2))
    shown = concept if concept in spec.roles else "person"
    return fill(spec.templates[rng.integers(len(spec.templates))], concept), album.people[shown, woman, tone]


def _save(unet: Any, spec: OrganismSpec, role: str, out: Path) -> None:
    from diffusers.utils import convert_state_dict_to_diffusers
    from peft.utils import get_peft_model_state_dict

    layers = convert_state_dict_to_diffusers(get_peft_model_state_dict(unet))
    pipeline_class().save_lora_weights(out, unet_lora_layers=layers, safe_serialization=True)
    told = {"organism": spec.name, "role": role, **spec.roles[role].model_dump(include={"woman", "dark"})}
    write_atomic(out / "shifted.json", json.dumps(told) + "\n")
