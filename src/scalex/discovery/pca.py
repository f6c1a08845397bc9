"""Principal components of H-space over samples (Haas et al. 2023, arXiv 2303.11073).

Their models take no text, so that all samples are of one kind. Here each prompt is a kind of its own: its mean over
seeds is taken out first, and what is left is what noise alone decides. Else the first components tell prompts apart.

Samples go by in batches, by the incremental SVD of Ross et al. (2008, Incremental learning for robust visual tracking)
that scikit-learn offers: memory holds one batch, however many samples there are. In one batch it is exact.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from jaxtyping import Float
from sklearn.decomposition import IncrementalPCA

from scalex import scratch
from scalex.discovery import Found, Material, check_count
from scalex.discovery._titles import oriented, title
from scalex.records import Latents

__all__ = ["NAME", "SHARE", "components", "discover"]

NAME = "pca"
SHARE = "the variance that seeds give the latents of a prompt"
_MORE = 32  # components that are followed beside those asked for, so that batches cut off little
_BATCH = 128 << 20  # bytes of a batch in float64


def discover(seen: Material, n: int, rng: np.random.Generator) -> list[Found]:
    """The first n principal components of the plan's latents at every kept step. Nothing is drawn.

    Raises:
        ScalexError: there are fewer, or as capturing and the store raise.
    """
    width = seen.plan.width(seen.model)
    check_count(n, min(width, len(seen.prompts) * (len(seen.seeds) - 1)), "of so many samples, each prompt centred")
    latents = seen.latents()
    found = []
    for k, step in enumerate(latents.steps):
        vectors, shares = components(latents, n, k)
        for i, (vector, share) in enumerate(zip(vectors, shares), start=1):
            name = title(seen, NAME, i, step)
            found.append(Found(seen.direction(vector, name, NAME, step, seeds=latents.seeds), float(share)))
    return found


def components(
    latents: Latents, n: int, step: int = -1, batch: int = _BATCH
) -> tuple[Float[np.ndarray, "n width"], Float[np.ndarray, "n"]]:
    """The first n components, of length 1, and their shares of the variance within prompts.

    Args:
        step: index of the kept step. batch: bytes that are held at once, at least.
    """
    most = min(latents.values.shape[-1], len(latents.prompts) * (len(latents.seeds) - 1))
    follow = min(n + _MORE, most)
    pca = IncrementalPCA(n_components=follow)
    for samples in _batches(latents, step, follow, batch):
        pca.partial_fit(samples)
    return oriented(pca.components_[:n]), np.asarray(pca.explained_variance_ratio_[:n])


def _batches(latents: Latents, step: int, least: int, size: int) -> Iterator[Float[np.ndarray, "samples width"]]:
    """Samples, each less the mean of its prompt: whole prompts, of at least so many samples."""
    _, seeds, _, width = latents.values.shape
    rows = max(-(-least // seeds), size // (8 * seeds * width))
    waiting: list[Float[np.ndarray, "samples width"]] = []
    for block in scratch.blocks(latents.values, rows):
        values = latents.values[block, :, step].astype(np.float64)
        waiting.append((values - values.mean(1, keepdims=True)).reshape(-1, width))
        if block.stop == len(latents.values) or block.stop + rows <= len(latents.values):
            yield np.concatenate(waiting)
            waiting = []
