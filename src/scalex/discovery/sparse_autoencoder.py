"""Sparse autoencoders of H-space: directions of which few are on at a time.

TopK (Gao et al. 2024, arXiv 2406.04093), BatchTopK (Bussmann et al. 2024, arXiv 2412.06410), each plain or matryoshka
(Bussmann et al. 2025, arXiv 2503.17547). Trained as a stream from the store, saved in the layout of SAELens. A latent's
row of the decoder is a direction; what it is worth is what stays unexplained without it.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from scalex import scratch
from scalex.discovery import Found, Material, check_count
from scalex.discovery._sae import KINDS, Kind, SparseAutoencoder
from scalex.discovery._sae_files import Origin, load_sae, save_sae
from scalex.discovery._sae_job import TABLE, Trained, activations, best_latents, open_trained, separations, train_on
from scalex.discovery._sae_streams import LatentStream, StoreStream, Stream
from scalex.discovery._sae_training import Quality, Settings, judge, train
from scalex.discovery._titles import title
from scalex.records import Latents

__all__ = [
    "KINDS",
    "NAME",
    "SETTINGS",
    "SHARE",
    "TABLE",
    "Kind",
    "LatentStream",
    "Origin",
    "Quality",
    "Settings",
    "SparseAutoencoder",
    "StoreStream",
    "Stream",
    "Trained",
    "activations",
    "best_latents",
    "discover",
    "judge",
    "load_sae",
    "open_trained",
    "save_sae",
    "separations",
    "train",
    "train_on",
]

NAME = "sparse_autoencoder"
SHARE = "the variance of unseen samples: what is left unexplained without it"
SETTINGS = Settings(k=8, steps=600)


def discover(seen: Material, n: int, rng: np.random.Generator) -> list[Found]:
    """The n latents at every kept step that explain most, by a sparse autoencoder of that step.

    It is trained on means over the map, from which each prompt's mean over seeds was taken: what noise decides. Else
    most of its latents tell prompts apart, and those of single positions tell positions apart. The dictionary is a
    matryoshka of two latents a channel, so that the first ones stand for much. The maps go by once, in blocks of the
    store; what is trained on is a number a channel.

    Raises:
        ScalexError: the dictionary has not so many latents, there is but one seed, or as capturing and the store raise.
    """
    channels = seen.model.probe_shape[0]
    check_count(n, 2 * channels, "latents in the dictionary")
    nested = tuple(sorted({max(1, channels // 8), max(1, channels // 2)}))
    settings = replace(SETTINGS, seed=int(rng.integers(1 << 31)), latents=2 * channels, prefixes=nested)
    latents = _what_seeds_change(seen, channels)
    found = []
    for at, step in enumerate(latents.steps):
        sae, quality = train(LatentStream(latents, at), settings)
        for rank, latent in enumerate(np.argsort(-quality.worth, kind="stable")[:n], start=1):
            vector = sae.decoder[latent].double().numpy()
            direction = seen.direction(vector, title(seen, NAME, rank, step), NAME, step, "mean", seen.seeds)
            found.append(Found(direction, float(np.clip(quality.worth[latent], 0, 1))))
    return found


def _what_seeds_change(seen: Material, channels: int) -> Latents:
    """Means over the map less each prompt's mean over seeds; beyond a budget of memory they lie in a file."""
    keep = seen.recipe().keep
    means = scratch.array((len(seen.prompts), len(seen.seeds), len(keep), channels), np.float32)
    done = 0
    for latents in seen.blocks():
        for rows in scratch.blocks(latents.values):
            maps = latents.values[rows]
            own = maps.reshape(*maps.shape[:3], channels, -1).mean(-1)
            means[done : done + len(own)] = own - own.mean(1, keepdims=True)
            done += len(own)
    return Latents(means, seen.prompts, seen.seeds, keep, seen.reading)
