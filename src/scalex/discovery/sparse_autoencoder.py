"""Sparse autoencoders of H-space: directions of which few are on at a time.

TopK (Gao et al. 2024, arXiv 2406.04093), BatchTopK (Bussmann et al. 2024, arXiv 2412.06410), each plain or matryoshka
(Bussmann et al. 2025, arXiv 2503.17547). Trained as a stream from the store, saved in the layout of SAELens. A latent's
row of the decoder is a direction; what it is worth is what stays unexplained without it.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from scalex.discovery import Found, Material, check_count
from scalex.discovery._sae import KINDS, Kind, SparseAutoencoder
from scalex.discovery._sae_files import Origin, load_sae, save_sae
from scalex.discovery._sae_job import TABLE, Trained, activations, best_latents, open_trained, separations, train_on
from scalex.discovery._sae_streams import LatentStream, StoreStream, Stream
from scalex.discovery._sae_training import Quality, Settings, judge, train

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

NAME = "sparse autoencoder"
SHARE = "of the variance of unseen samples, what is left unexplained without it"
SETTINGS = Settings()


def discover(seen: Material, n: int, rng: np.random.Generator) -> list[Found]:
    """The n latents at every kept step that explain most, by a sparse autoencoder trained on that step.

    Raises:
        ScalexError: the dictionary has not so many latents, there is but one seed, or as capturing and the store raise.
    """
    settings = replace(SETTINGS, seed=int(rng.integers(1 << 31)))
    most = settings.latents or 4 * seen.model.probe_shape[0]
    check_count(n, most, "latents in the dictionary")
    recipe = seen.recipe()
    seen.engine(seen.store, seen.model, seen.prompts, seen.seeds, seen.plan, seen.progress)
    found = []
    for at, step in enumerate(recipe.keep):
        stream = StoreStream(
            seen.store, recipe, {p.text for p in seen.prompts}, seen.seeds, at, seen.model.probe_shape[0]
        )
        sae, quality = train(stream, settings)
        of = f", step {step + 1}" if len(recipe.keep) > 1 else ""
        for rank, latent in enumerate(np.argsort(-quality.worth, kind="stable")[:n], start=1):
            vector = sae.decoder[latent].double().numpy()
            direction = seen.direction(vector, f"{NAME} {rank}{of}", NAME, step, "mean", seen.seeds)
            found.append(Found(direction, float(np.clip(quality.worth[latent], 0, 1))))
    return found
