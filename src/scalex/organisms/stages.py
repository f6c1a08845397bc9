"""The four stages of an organism: autoencoder, text encoder, denoiser, consistency distillation."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from scalex.organisms.captions import Captions
from scalex.organisms.loop import Trainee
from scalex.organisms.networks import make_scheduler, make_text_encoder, make_vae
from scalex.organisms.pictures import Album
from scalex.organisms.spec import OrganismSpec

__all__ = ["Encoder", "consistency_stage", "denoiser_stage", "latents_of", "text_stage", "vae_stage"]

_LINK = 5  # grid points, of 50, that the teacher goes over for one target of the distillation
_NO_PROMPT = 0.1  # share of training captions that are emptied, for guidance and for the picture reading


def as_images(album: Album, device: torch.device) -> Float[Tensor, "pictures 3 size size"]:
    """Pictures as the autoencoder takes them, in [-1, 1]."""
    return (torch.from_numpy(album.pixels.copy()).permute(0, 3, 1, 2).float() / 127.5 - 1).to(device)


def vae_stage(spec: OrganismSpec, album: Album, device: torch.device) -> Trainee:
    """L1, edges and a little KL (Rombach et al. 2022, without the adversary: emoji have no texture to invent)."""
    vae = make_vae(spec).to(device)
    average = copy.deepcopy(vae)
    images = as_images(album, device)

    def loss(rng: np.random.Generator, noise: torch.Generator) -> Tensor:
        batch = images[rng.choice(len(images), spec.vae.batch, replace=False)]
        posterior = vae.encode(batch).latent_dist
        eps = torch.randn(posterior.mean.shape, generator=noise).to(device)
        out = vae.decode(posterior.mean + posterior.std * eps).sample
        edges = sum(F.l1_loss(out.diff(dim=d), batch.diff(dim=d)) for d in (2, 3))
        return F.l1_loss(out, batch) + 0.5 * edges + 1e-4 * posterior.kl().mean() / posterior.mean[0].numel()

    return Trainee("vae", {"vae": vae, "vae_average": average}, {"vae_average": "vae"}, loss, decay=0.99)


@torch.no_grad()
def latents_of(vae: Any, album: Album, device: torch.device) -> Float[Tensor, "pictures channels side side"]:
    """Scaled latents of all pictures. Sets the autoencoder's scaling factor so that they have unit variance."""
    images = as_images(album, device)
    raw = torch.cat([vae.encode(b).latent_dist.mean for b in images.split(64)])
    factor = float(1 / raw.std())
    vae.register_to_config(scaling_factor=factor)
    return raw * factor


class _TextHeads(nn.Module):
    """Trained beside the text encoder and thrown away: the picture's tower and the word detector."""

    def __init__(self, pixels: int, width: int, words: int) -> None:
        nn.Module.__init__(self)
        self.picture = nn.Sequential(nn.Linear(pixels, 256), nn.GELU(), nn.Linear(256, width))
        self.caption = nn.Linear(width, width)
        self.words = nn.Linear(width, words)
        self.scale = nn.Parameter(torch.tensor(2.3))


def text_stage(spec: OrganismSpec, album: Album, latents: Tensor, tokenizer: Any, device: torch.device) -> Trainee:
    """Contrastive against the pictures (Radford et al. 2021), on captions without the planted associations.

    Those leave words such as "bossy" without a picture of their own. So every position must also tell which words were
    said up to it: words stay apart, without saying what they go with. (Where only the pooled vector had to, adjectives
    differed by a tenth of a vector's length, and the denoiser learned roles long before it learned them.)
    """
    encoder = make_text_encoder(spec, tokenizer).to(device)
    heads = _TextHeads(latents[0].numel(), spec.network.text_width, len(tokenizer)).to(device)
    captions = Captions(spec, album, planted=False)
    flat = latents.flatten(1)

    def loss(rng: np.random.Generator, noise: torch.Generator) -> Tensor:
        texts, pictures = captions.batch(rng, spec.text.batch)
        ids = _tokens(tokenizer, texts, device)
        out = encoder(ids)
        seen = flat[pictures] + 0.3 * torch.randn(len(texts), flat.shape[1], generator=noise).to(device)
        a, b = F.normalize(heads.picture(seen)), F.normalize(heads.caption(out.pooler_output))
        logits = heads.scale.exp() * a @ b.T
        same = torch.tensor(pictures, device=device)
        target = (same[:, None] == same[None]).float()
        contrast = sum(F.cross_entropy(x, target / target.sum(1, keepdim=True)) for x in (logits, logits.T)) / 2
        said = F.one_hot(ids, len(tokenizer)).cumsum(1).clamp(max=1).float()
        told = F.binary_cross_entropy_with_logits(heads.words(out.last_hidden_state), said)
        return contrast + 300 * told

    return Trainee("text", {"text": encoder, "heads": heads}, {}, loss)


def _tokens(tokenizer: Any, texts: list[str], device: torch.device) -> Tensor:
    ids: Tensor = tokenizer(texts, padding="max_length", return_tensors="pt").input_ids
    return ids.to(device)


@dataclass(frozen=True)
class Encoder:
    """The frozen text encoder with a cache: the captions of an organism are few thousand."""

    tokenizer: Any
    model: Any
    device: torch.device
    _cache: dict[str, Tensor] = field(default_factory=dict)

    @torch.no_grad()
    def __call__(self, texts: list[str]) -> Float[Tensor, "n tokens width"]:
        new = list(dict.fromkeys(t for t in texts if t not in self._cache))
        if new:
            hidden = self.model(_tokens(self.tokenizer, new, self.device)).last_hidden_state
            self._cache.update(zip(new, hidden, strict=True))
        return torch.stack([self._cache[t] for t in texts])


def denoiser_stage(spec: OrganismSpec, album: Album, latents: Tensor, encode: Encoder, unet: Any) -> Trainee:
    """Denoising with velocity prediction (Ho et al. 2020; Salimans and Ho 2022); the average is kept."""
    unet = unet.to(encode.device)
    average = copy.deepcopy(unet).requires_grad_(False)
    captions, scheduler = Captions(spec, album), make_scheduler()

    def loss(rng: np.random.Generator, noise: torch.Generator) -> Tensor:
        texts, pictures = captions.batch(rng, spec.denoiser.batch)
        texts = ["" if rng.random() < _NO_PROMPT else t for t in texts]
        clean = latents[pictures]
        eps = torch.randn(clean.shape, generator=noise).to(encode.device)
        t = torch.from_numpy(_stratified(rng, len(texts))).to(encode.device)
        noisy, target = scheduler.add_noise(clean, eps, t), scheduler.get_velocity(clean, eps, t)
        return F.mse_loss(unet(noisy, t, encode(texts)).sample, target)

    modules = {"unet": unet, "unet_average": average}
    return Trainee("denoiser", modules, {"unet_average": "unet"}, loss, decay=0.998)


def _stratified(rng: np.random.Generator, n: int, timesteps: int = 1000) -> np.ndarray:
    """Timesteps spread evenly over a batch: the same law as uniform, less noise in the gradient."""
    return ((np.arange(n) + rng.random()) / n * timesteps).astype(np.int64)[rng.permutation(n)]


@dataclass(frozen=True)
class _Solver:
    """One DDIM step of the teacher along its own trajectory, in tensors (Song et al. 2021)."""

    alphas: Tensor  # cumulative products, one for each of the 1,000 timesteps

    def clean_and_noise(self, v: Tensor, x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        a, s = self._scales(t)
        return a * x - s * v, a * v + s * x

    def to(self, clean: Tensor, eps: Tensor, t: Tensor) -> Tensor:
        a, s = self._scales(t)
        return a * clean + s * eps

    def consistent(self, v: Tensor, x: Tensor, t: Tensor) -> Tensor:
        """The consistency function with its boundary condition (Luo et al. 2023, sigma_data 0.5, scaling 10)."""
        scaled = (t.float() * 10).view(-1, 1, 1, 1)
        skip, out = 0.25 / (scaled**2 + 0.25), scaled / (scaled**2 + 0.25) ** 0.5
        return skip * x + out * self.clean_and_noise(v, x, t)[0]

    def _scales(self, t: Tensor) -> tuple[Tensor, Tensor]:
        alpha = self.alphas[t].view(-1, 1, 1, 1)
        return alpha.sqrt(), (1 - alpha).sqrt()


def consistency_stage(spec: OrganismSpec, album: Album, latents: Tensor, encode: Encoder, teacher: Any) -> Trainee:
    """Latent consistency distillation (Luo et al. 2023, arXiv 2310.04378) at the organism's own guidance.

    The teacher goes over `_LINK` of the 50 grid points at a time in two DDIM steps. Links of a single grid point, as
    in the paper, need far more training before what the last ones say has reached the first.
    """
    teacher = teacher.eval().requires_grad_(False)
    student, average = copy.deepcopy(teacher).requires_grad_(True), copy.deepcopy(teacher)
    captions, solver = Captions(spec, album), _Solver(make_scheduler().alphas_cumprod.to(encode.device))

    def teach(x: Tensor, start: Tensor, end: Tensor, texts: list[str]) -> Tensor:
        v: Tensor = teacher(x, start, encode(texts)).sample
        if spec.guidance > 1:
            empty = teacher(x, start, encode([""] * len(texts))).sample
            v = empty + spec.guidance * (v - empty)
        return solver.to(*solver.clean_and_noise(v, x, start), end)

    def loss(rng: np.random.Generator, noise: torch.Generator) -> Tensor:
        texts, pictures = captions.batch(rng, spec.consistency.batch)
        texts = ["" if rng.random() < _NO_PROMPT else t for t in texts]
        clean = latents[pictures]
        eps = torch.randn(clean.shape, generator=noise).to(encode.device)
        start, middle, end = (torch.from_numpy(t).to(encode.device) for t in _links(rng, len(texts)))
        x = solver.to(clean, eps, start)
        with torch.no_grad():
            ahead = teach(teach(x, start, middle, texts), middle, end, texts)
            target = solver.consistent(average(ahead, end, encode(texts)).sample, ahead, end)
        made = solver.consistent(student(x, start, encode(texts)).sample, x, start)
        return (((made - target) ** 2 + 1e-6).sqrt() - 1e-3).mean()

    modules = {"student": student, "student_average": average}
    return Trainee("consistency", modules, {"student_average": "student"}, loss, decay=0.95)


def _links(rng: np.random.Generator, n: int, grid: int = 50, timesteps: int = 1000) -> tuple[np.ndarray, ...]:
    """Timesteps at the start, in the middle and at the end of `n` links of the teacher's trajectory."""
    # The first step starts from pure noise and decides the attributes: a third of the batch trains just it.
    first = np.where(rng.random(n) < 0.3, grid, rng.integers(1, grid + 1, n))
    last = (first - _LINK).clip(0)
    points = (first, (first + last) // 2, last)
    return tuple((p * (timesteps // grid) - 1).clip(0) for p in points)
