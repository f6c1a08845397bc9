"""The exact readout: what a generated picture shows is what the nearest training picture shows.

It belongs to the ground truth: analyses never see it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8

from scalex.errors import ScalexError
from scalex.models import Model
from scalex.organisms.pictures import Shown
from scalex.organisms.spec import OrganismSpec, load_organism_spec

__all__ = ["ALBUM", "PLANTED", "Readout", "Seen", "Truth", "load_truth", "save_truth"]

ALBUM = "album.safetensors"
PLANTED = "planted.json"

_QUANTILE = 0.05  # of the distances between a picture and the nearest one of another name


@dataclass(frozen=True)
class Truth:
    """What was planted, and the latents of the training pictures."""

    spec: OrganismSpec
    shown: tuple[Shown, ...]
    latents: Float[torch.Tensor, "pictures c h w"]


def save_truth(folder: Path, truth: Truth) -> None:
    """Writes the truth beside the weights."""
    from safetensors.torch import save_file

    save_file({"latents": truth.latents.half().contiguous()}, folder / ALBUM)
    rows = [[s.name, s.subgroup, s.emoji, s.gender, s.tone] for s in truth.shown]
    text = json.dumps({"spec": truth.spec.model_dump(mode="json"), "shown": rows}, ensure_ascii=False, indent=None)
    (folder / PLANTED).write_text(text, encoding="utf-8")


def load_truth(folder: Path) -> Truth:
    """The truth of an organism.

    Raises:
        ScalexError: the folder holds no organism.
    """
    from safetensors.torch import load_file

    if not (folder / PLANTED).is_file() or not (folder / ALBUM).is_file():
        raise ScalexError(
            f"{folder} is no organism: it has no {PLANTED} or no {ALBUM}", "Train one with `scalex organism train`"
        )
    data: dict[str, Any] = json.loads((folder / PLANTED).read_text(encoding="utf-8"))
    shown = tuple(Shown(*row) for row in data["shown"])
    return Truth(load_organism_spec(data["spec"]), shown, load_file(folder / ALBUM)["latents"].float())


@dataclass(frozen=True)
class Seen:
    """What pictures show: index of the nearest training picture, root-mean-square distance to it in [0, 2], and
    whether that is near enough to be anything at all."""

    nearest: Int[np.ndarray, "n"]
    distance: Float[np.ndarray, "n"]
    something: Bool[np.ndarray, "n"]
    shown: tuple[Shown, ...]

    @cached_property
    def names(self) -> np.ndarray:
        """The name seen in each picture, "" for nothing."""
        return np.array([self.shown[i].name if ok else "" for i, ok in zip(self.nearest, self.something, strict=True)])

    @cached_property
    def genders(self) -> Int[np.ndarray, "n"]:
        """0 man, 1 woman, -1 nobody."""
        return self._of([s.gender for s in self.shown])

    @cached_property
    def tones(self) -> Int[np.ndarray, "n"]:
        """Half of the tone scale: 0 light, 1 dark, 2 the middle, -1 nobody."""
        return self._of([{-1: -1, 0: 0, 1: 0, 2: 2, 3: 1, 4: 1}[s.tone] for s in self.shown])

    def _of(self, labels: list[int]) -> Int[np.ndarray, "n"]:
        return np.where(self.something, np.array(labels)[self.nearest], -1)


class Readout:
    """Reads pictures against the training pictures as the model's own autoencoder gives them back."""

    def __init__(self, truth: Truth, model: Model) -> None:
        self.truth = truth
        with torch.inference_mode():
            parts = [model.decode(b.to(model.device)) for b in truth.latents.split(64)]
        self._pictures = _flat(np.concatenate(parts))
        self.threshold = self._nothing_beyond()

    def read(self, pictures: UInt8[np.ndarray, "n size size 3"]) -> Seen:
        """What each picture shows."""
        parts = [self._distances(_flat(block)) for block in np.array_split(pictures, max(1, len(pictures) // 256))]
        distances = np.concatenate(parts)
        nearest = distances.argmin(1)
        best = distances[np.arange(len(distances)), nearest]
        return Seen(nearest, best, best <= self.threshold, self.truth.shown)

    def _distances(self, flat: Float[np.ndarray, "n pixels"]) -> Float[np.ndarray, "n pictures"]:
        a = torch.from_numpy(flat)
        return np.asarray(torch.cdist(a, torch.from_numpy(self._pictures)).numpy() / np.sqrt(flat.shape[1]))

    def _nothing_beyond(self) -> float:
        """The distance at which it is nothing: about that of the most similar training pictures of different names."""
        names = np.array([s.name for s in self.truth.shown])
        distances = self._distances(self._pictures)
        distances[names[:, None] == names[None]] = np.inf
        return float(np.quantile(distances.min(1), _QUANTILE))


def _flat(pictures: UInt8[np.ndarray, "n size size 3"]) -> Float[np.ndarray, "n pixels"]:
    return pictures.reshape(len(pictures), -1).astype(np.float32) / 127.5 - 1
