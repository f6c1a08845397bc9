"""Training of a sparse autoencoder on a stream of vectors, and how good it is on samples that it has not seen.

Loss of a batch: |x - x^|^2 over the variance, mean over the prefixes of a matryoshka dictionary (Bussmann et al. 2025,
arXiv 2503.17547), plus 1/32 of the auxiliary loss of Gao et al. (2024, arXiv 2406.04093): what the dictionary leaves
over is rebuilt from the latents that have been off for long, by which these come to life. Adam; gradients of the
decoder lose what would lengthen its rows, which have length 1. W_enc begins as the transpose of W_dec.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeAlias, cast

import numpy as np
import torch
from jaxtyping import Bool, Float, Int

from scalex.discovery._sae import KINDS, Kind, SparseAutoencoder, batch_top_k, top_k
from scalex.discovery._sae_streams import Stream, blocks, held_out, shuffled
from scalex.disk import disk_errors, write_atomic
from scalex.errors import ScalexError

__all__ = ["Quality", "Settings", "Trainer", "judge", "train"]

_TENSORS = ("encoder", "encoder_bias", "decoder", "bias")
_THRESHOLD_BATCHES = 32  # that a threshold is the mean over
_CHECKPOINT = "checkpoint.safetensors"

Progress: TypeAlias = Callable[[int, int], None]


@dataclass(frozen=True)
class Settings:
    """How a sparse autoencoder is made.

    Attributes:
        kind: "topk" or "batchtopk". k: latents that are on. latents: in all; None for four for each channel.
        prefixes: of a matryoshka dictionary, rising; the whole one is added to them. Empty for a plain one.
        steps: of training. passes: over the samples at most; of few there are fewer steps. batch: vectors a step.
        rate: of learning; None for 2e-4 / sqrt(latents / 2^14), as Gao et al. found. It falls to 0 over the last fifth.
        auxiliary: weight of the auxiliary loss. dead_after: vectors for which a latent is off until it counts as dead.
        held_out: share of the seeds that it is judged by.
        seed: of everything that is drawn.

    Raises:
        ScalexError: a value is out of its range.
    """

    kind: str = "batchtopk"
    k: int = 16
    latents: int | None = None
    prefixes: tuple[int, ...] = ()
    steps: int = 2000
    passes: int = 400
    batch: int = 256
    rate: float | None = None
    auxiliary: float = 1 / 32
    dead_after: int = 10_000
    held_out: float = 0.125
    seed: int = 0

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ScalexError(f"unknown kind of sparse autoencoder {self.kind!r}", f"Choose from {', '.join(KINDS)}")
        for name in ("k", "steps", "passes", "batch", "dead_after"):
            if getattr(self, name) < 1:
                raise ScalexError(f"{name} of a sparse autoencoder is {getattr(self, name)}", "It is at least 1")
        if not 0 < self.held_out < 1:
            raise ScalexError(f"held_out is {self.held_out}", "It is a share between 0 and 1")
        if self.latents is not None:
            self.checked(self.latents)

    def checked(self, latents: int) -> tuple[int, ...]:
        """The prefixes of a dictionary of so many latents, the whole one with them.

        Raises:
            ScalexError: they do not rise within it, or fewer latents are there than may be on.
        """
        if latents < self.k:
            raise ScalexError(f"{self.k} of {latents} latents can't be on", "Take a smaller k or more latents")
        ends = (*(one for one in self.prefixes if one != latents), latents)
        if not all(before < now for before, now in pairwise((0, *ends))):
            raise ScalexError(
                f"prefixes {list(self.prefixes)} do not rise from 1 to {latents}", "Order them, each once"
            )
        return ends


@dataclass(frozen=True)
class Quality:
    """How good a sparse autoencoder is on vectors of seeds that it has not seen.

    Attributes:
        explained: share of their variance. l0: latents on, of a vector. dead: share of latents that are on in none.
        vectors: that it was judged by.
        density: of each latent, the share of vectors in which it is on.
        worth: of each latent, what of the variance is left unexplained in addition when it alone is switched off.
    """

    explained: float
    l0: float
    dead: float
    vectors: int
    density: Float[np.ndarray, "latents"]
    worth: Float[np.ndarray, "latents"]


class Trainer:
    """A sparse autoencoder in training, in units in which vectors have a mean squared length of their width."""

    def __init__(self, settings: Settings, mean: Float[torch.Tensor, "width"], scale: float, device: str) -> None:
        width = len(mean)
        latents = settings.latents or 4 * width
        self.settings, self.prefixes, self.scale = settings, settings.checked(latents), scale
        generator = torch.Generator().manual_seed(settings.seed)
        decoder = torch.nn.functional.normalize(torch.randn(latents, width, generator=generator), dim=1)
        start = {
            "encoder": decoder.T.contiguous(),
            "encoder_bias": torch.zeros(latents),
            "decoder": decoder,
            "bias": mean.float() * scale,
        }
        self.parts = {name: value.clone().to(device).requires_grad_() for name, value in start.items()}
        rate = settings.rate or 2e-4 / (latents / 2**14) ** 0.5
        self.adam = torch.optim.Adam(list(self.parts.values()), lr=rate, eps=1e-8)
        self.idle = torch.zeros(latents, dtype=torch.int64, device=device)  # vectors since each latent was on
        self.rate, self.done = rate, 0

    @property
    def dead(self) -> Bool[torch.Tensor, "latents"]:
        """Which latents have been off for long."""
        return self.idle >= self.settings.dead_after

    def step(self, vectors: Float[torch.Tensor, "n width"], total: int) -> float:
        """Learns from a batch; returns its loss. `total` is how many steps there will be."""
        x = vectors.to(self.idle.device) * self.scale
        loss, active = self._loss(x)
        self.adam.zero_grad()
        loss.backward()
        self._keep_length()
        torch.nn.utils.clip_grad_norm_(list(self.parts.values()), 1.0)
        for group in self.adam.param_groups:
            group["lr"] = self.rate * min(1.0, (total - self.done) / max(1.0, 0.2 * total))
        self.adam.step()
        with torch.no_grad():
            self.parts["decoder"].div_(self.parts["decoder"].norm(dim=1, keepdim=True))
            self.idle += len(x)
            self.idle[active] = 0
        self.done += 1
        return float(loss.detach())

    def _loss(self, x: Float[torch.Tensor, "n width"]) -> tuple[torch.Tensor, Bool[torch.Tensor, "latents"]]:
        p = self.parts
        before = (x - p["bias"]) @ p["encoder"] + p["encoder_bias"]
        choose = top_k if self.settings.kind == "topk" else batch_top_k
        on = choose(before, self.settings.k)
        rebuilt, losses, start = p["bias"].expand_as(x), [], 0
        for end in self.prefixes:
            rebuilt = rebuilt + on[:, start:end] @ p["decoder"][start:end]
            losses.append((x - rebuilt).square().sum(1).mean() / x.shape[1])
            start = end
        loss = torch.stack(losses).mean()
        dead = self.dead
        if self.settings.auxiliary and bool(dead.any()):
            loss = loss + self.settings.auxiliary * self._auxiliary((x - rebuilt).detach(), before, dead)
        return loss, (on > 0).any(0)

    def _auxiliary(
        self, error: Float[torch.Tensor, "n width"], before: Float[torch.Tensor, "n latents"], dead: torch.Tensor
    ) -> torch.Tensor:
        """What is left of the error when it is rebuilt from dead latents, over its size."""
        some = max(1, min(error.shape[1] // 2, int(dead.sum())))
        on = top_k(before.masked_fill(~dead, -torch.inf), some)
        rest = (error - on @ self.parts["decoder"]).square().sum()
        return rest / error.square().sum().clamp(min=1e-12)

    def _keep_length(self) -> None:
        """Takes from the decoder's gradient what would lengthen its rows."""
        rows = self.parts["decoder"]
        assert rows.grad is not None
        with torch.no_grad():
            rows.grad -= (rows.grad * rows).sum(1, keepdim=True) * rows

    def made(self, threshold: float = 0.0) -> SparseAutoencoder:
        """What it has come to, in the units of the vectors. `threshold` in these units, too."""
        p = {name: part.detach().clone() for name, part in self.parts.items()}
        own = self.prefixes if len(self.prefixes) > 1 else ()
        kind, k = cast(Kind, self.settings.kind), self.settings.k
        biases = p["encoder_bias"] / self.scale, p["bias"] / self.scale
        return SparseAutoencoder(p["encoder"], biases[0], p["decoder"], biases[1], kind, k, threshold, own)

    # ------------------------------------------------------------------------------------------------ going on

    def save(self, file: Path, told: str) -> None:
        """Writes all that going on takes. `told` says what it is a checkpoint of."""
        from safetensors.torch import save

        tensors = {"idle": self.idle, "done": torch.tensor(self.done)}
        for name, part in self.parts.items():
            state = self.adam.state[part]
            tensors |= {name: part.detach(), f"{name}.first": state["exp_avg"], f"{name}.second": state["exp_avg_sq"]}
        with disk_errors(file.parent, option="--out"):
            file.parent.mkdir(parents=True, exist_ok=True)
            write_atomic(file, save({k: v.cpu().contiguous() for k, v in tensors.items()}, {"of": told}))

    def load(self, file: Path, told: str) -> None:
        """Goes on from a checkpoint.

        Raises:
            ScalexError: it is damaged, or one of another training.
        """
        from safetensors import SafetensorError, safe_open

        way_out = "Delete it, or train into another folder"
        try:
            with safe_open(file, "pt") as held:
                if (held.metadata() or {}).get("of") != told:
                    raise ScalexError(f"{file} is a checkpoint of another training", way_out)
                tensors = {name: held.get_tensor(name) for name in held.keys()}  # noqa: SIM118 - it is no mapping
        except (SafetensorError, OSError):
            raise ScalexError(f"the checkpoint {file} is damaged", way_out) from None
        device = self.idle.device
        self.idle, self.done = tensors["idle"].to(device), int(tensors["done"])
        for name, part in self.parts.items():
            with torch.no_grad():
                part.copy_(tensors[name])
            moments = {"exp_avg": tensors[f"{name}.first"], "exp_avg_sq": tensors[f"{name}.second"]}
            self.adam.state[part] = {k: v.to(device) for k, v in moments.items()} | {
                "step": torch.tensor(float(self.done))
            }


def train(
    stream: Stream,
    settings: Settings | None = None,
    *,
    folder: Path | None = None,
    every: int = 500,
    device: str = "cpu",
    progress: Progress | None = None,
) -> tuple[SparseAutoencoder, Quality]:
    """Trains a sparse autoencoder on a stream, of which a block at a time is in memory. The same samples and settings
    give the same one, to the last bit on the same machine.

    Args:
        folder: where a checkpoint lies while it is trained: a killed training goes on from it, to the same result.
        every: steps from one checkpoint to the next.
        progress: called with steps done and to do.

    Raises:
        ScalexError: the samples cannot be read, do not vary or have but one seed, the dictionary is too small for k, or
            the checkpoint is one of another training.
    """
    settings = settings or Settings()
    learned, held = held_out(stream, settings.held_out)
    mean, scale = _moments(stream, learned)
    trainer = Trainer(settings, mean, scale, device)
    total = _steps(settings, len(learned) * stream.positions)
    told = json.dumps([asdict(settings), len(learned), stream.positions, stream.width, scale, float(mean.sum())])
    file = folder / _CHECKPOINT if folder else None
    if file and file.exists():
        trainer.load(file, told)
    batches = shuffled(stream, learned, settings.batch, settings.seed, trainer.done)
    for vectors in batches if trainer.done < total else ():
        trainer.step(vectors, total)
        if progress:
            progress(trainer.done, total)
        if trainer.done == total:
            break
        if file and trainer.done % every == 0:
            trainer.save(file, told)
    sae = trainer.made(_threshold(trainer, stream, learned))
    found = judge(sae, stream, held)
    if file:
        file.unlink(missing_ok=True)
    return sae.to("cpu"), found


def _steps(settings: Settings, vectors: int) -> int:
    a_pass = max(1, vectors // min(settings.batch, vectors))
    return min(settings.steps, settings.passes * a_pass)


def _moments(stream: Stream, places: Int[np.ndarray, "n"]) -> tuple[Float[torch.Tensor, "width"], float]:
    """The mean, and what makes the mean squared distance from it the width."""
    count, total, squares = 0, torch.zeros(stream.width, dtype=torch.float64), 0.0
    for block in blocks(stream, places):
        count, total = count + len(block), total + block.double().sum(0)
    mean = total / count
    for block in blocks(stream, places):
        squares += float((block.double() - mean).square().sum())
    if squares / count < 1e-12 * max(1.0, float(mean.square().sum())):
        raise ScalexError("the latents do not vary", "Capture more prompts or seeds")
    return mean, float((stream.width * count / squares) ** 0.5)


def _threshold(trainer: Trainer, stream: Stream, places: Int[np.ndarray, "n"]) -> float:
    """Of BatchTopK: the least activation that a batch lets through, mean over batches (Bussmann et al. 2024)."""
    settings = trainer.settings
    if settings.kind == "topk":
        return 0.0
    made, least = trainer.made(), []
    for number, batch in enumerate(shuffled(stream, places, settings.batch, settings.seed + 1)):
        if number == _THRESHOLD_BATCHES:
            break
        before = (batch.to(made.bias.device) - made.bias) @ made.encoder + made.encoder_bias
        on = batch_top_k(before, settings.k)
        least += [float(on[on > 0].min())] if bool((on > 0).any()) else []
    return float(np.mean(least)) if least else 0.0


def judge(sae: SparseAutoencoder, stream: Stream, places: Int[np.ndarray, "n"]) -> Quality:
    """How good it is on these samples.

    Raises:
        ScalexError: they cannot be read.
    """
    device, count = sae.bias.device, 0
    sums: dict[str, Any] = {"x": torch.zeros(sae.width, dtype=torch.float64), "xx": 0.0, "left": 0.0, "l0": 0.0}
    on, worth = (torch.zeros(sae.latents, dtype=torch.float64) for _ in range(2))
    for block in blocks(stream, places):
        x = block.to(device)
        active = sae.encode(x)
        error = x - sae.decode(active)
        count += len(x)
        sums["x"] += x.double().sum(0).cpu()
        sums["xx"] += float((x - sae.bias).double().square().sum())
        sums["left"] += float(error.double().square().sum())
        sums["l0"] += float((active > 0).sum())
        on += (active > 0).sum(0).cpu()
        worth += (active * (active + 2 * error @ sae.decoder.T)).double().sum(0).cpu()
    offset = sums["x"] / count - sae.bias.double().cpu()
    variance = max(sums["xx"] - count * float(offset.square().sum()), 1e-12)
    return Quality(
        explained=1 - sums["left"] / variance,
        l0=sums["l0"] / count,
        dead=float((on == 0).double().mean()),
        vectors=count,
        density=(on / count).numpy(),
        worth=(worth / variance).numpy(),
    )
