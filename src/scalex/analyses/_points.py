"""Names as points: the directions that seeds reproduce, coordinates on them, and a map of two dimensions to look at."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

import numpy as np
from jaxtyping import Float, Int

from scalex import stats
from scalex.records import Latents, Role, Rules

__all__ = ["MOST", "Name", "Space", "carried", "flattened", "neighbours", "placed", "principal", "reproduced", "space"]

MOST = 4000  # names that are clustered; of more this many are drawn
_AXES = 50  # beyond about so many dimensions densities, and with them HDBSCAN, tell little
_FLIPS = 20  # sign flips of seeds: their greatest is the noise floor, about the 95 % quantile
_FEW = 50  # names up to which a map shows the first two components: neighbourhoods of so few mean little
_NEAR = 5  # neighbours that place a name which was not drawn

Name: TypeAlias = tuple[str, Role]


class Space(NamedTuple):
    """Names as points, those that are clustered and all.

    Attributes:
        names: with their roles. sample: the places of those that are clustered: all, or `MOST` drawn ones.
        points: of the sample. by_seed: the same before the means, by template only where templates are drawn.
        every: of all names. texts: of all names, by the text encoder; without axes where it tells none apart.
    """

    names: tuple[Name, ...]
    sample: Int[np.ndarray, "sampled"]
    points: Float[np.ndarray, "sampled axes"]
    by_seed: Float[np.ndarray, "sampled ways seeds axes"]
    every: Float[np.ndarray, "names axes"]
    texts: Float[np.ndarray, "names text_axes"]


def space(latents: Latents, names: tuple[Name, ...], rules: Rules) -> Space:
    """Names as points on the axes that seeds reproduce, and on the principal axes of the text encoder's embeddings."""
    rng = np.random.default_rng(rules.seed)
    drawn = rng.choice(len(names), MOST, replace=False) if len(names) > MOST else np.arange(len(names))
    sample = np.sort(drawn)
    some = [names[i] for i in sample]
    means = np.stack([_of(latents, name).mean(0) for name in some])
    axes, centre = reproduced(means, rng).T, means.mean(0, dtype=np.float64)
    del means  # it may be large, and is not needed any more
    ways = 1 if latents.n_templates < stats.MIN_TEMPLATES else latents.n_templates
    by_seed = np.stack([_ways(_of(latents, name) - centre, ways) @ axes for name in some])
    every = np.stack([(_of(latents, name).mean(0) - centre).mean(0) @ axes for name in names])
    return Space(names, sample, by_seed.mean((1, 2)), by_seed, every, _texts(latents, names, sample))


def _of(latents: Latents, name: Name) -> Float[np.ndarray, "templates seeds width"]:
    return latents.of(name[0], role=name[1])


def _ways(values: Float[np.ndarray, "templates seeds width"], ways: int) -> Float[np.ndarray, "ways seeds width"]:
    """By template where templates are drawn in resampling, else their mean."""
    return values if ways > 1 else values.mean(0, keepdims=True)


def _texts(
    latents: Latents, names: Sequence[Name], sample: Int[np.ndarray, "sampled"]
) -> Float[np.ndarray, "names axes"]:
    if latents.embeddings is None:
        return np.empty((len(names), 0))
    embedded = np.stack([latents.embedding(name, role=role).mean(0) for name, role in names]).astype(np.float64)
    embedded -= embedded[sample].mean(0)
    axes, sizes = principal(embedded[sample])
    return np.asarray(embedded @ axes[sizes > 1e-6 * sizes.max(initial=1e-6)].T)


# ---------------------------------------------------------------------------------------------------- axes


def reproduced(
    by_seed: Float[np.ndarray, "names seeds width"], rng: np.random.Generator
) -> Float[np.ndarray, "axes width"]:
    """The principal components of the names' means over seeds that are larger than what seeds alone make.

    A mean over seeds with balanced random signs holds the noise of the mean and nothing of the names: as many seeds
    speak for as against. The greatest variance that any direction has in 20 such means is the floor, and components
    above it are kept, 50 at most: parallel analysis (Horn 1965, Psychometrika 30: 179-185) by sign flips (Hong, Sheng
    and Dobriban 2020, arXiv:2012.02985), here of seeds. So seed noise is not taken for structure. The mean over names
    is subtracted seed by seed: what a seed does to all names alike cancels.

    Returns:
        Orthonormal axes, the largest first; none where nothing rises above the floor.
    """
    centred = by_seed - by_seed.mean(0, dtype=np.float64).astype(by_seed.dtype)
    axes, sizes = principal(centred.mean(1))
    even = centred[:, : centred.shape[1] // 2 * 2]
    floor = max(_greatest(_flipped(even, rng)) for _ in range(_FLIPS))
    floor *= float(np.sqrt(even.shape[1] / centred.shape[1]))  # a mean over one seed more has less noise
    rounding = 1e-6 * float(np.abs(by_seed).max())
    return axes[sizes > max(floor, rounding)]


def _flipped(
    by_seed: Float[np.ndarray, "names seeds width"], rng: np.random.Generator
) -> Float[np.ndarray, "names width"]:
    signs = rng.permutation(np.resize([1.0, -1.0], by_seed.shape[1])) / by_seed.shape[1]
    return np.asarray(np.einsum("nsw,s->nw", by_seed, signs.astype(by_seed.dtype)))


def _greatest(values: Float[np.ndarray, "rows columns"]) -> float:
    """The greatest singular value."""
    from scipy.sparse.linalg import svds

    if min(values.shape) < 16 or not values.any():
        return float(np.linalg.norm(values, 2))
    start = np.random.default_rng(0).normal(size=min(values.shape))
    return float(svds(values, k=1, v0=start, return_singular_vectors=False)[0])


def principal(
    points: Float[np.ndarray, "names width"],
) -> tuple[Float[np.ndarray, "axes width"], Float[np.ndarray, "axes"]]:
    """Principal axes of centred points, 50 at most, and their singular values."""
    from sklearn.decomposition import PCA

    if not points.any():
        return np.empty((0, points.shape[1])), np.empty(0)
    pca = PCA(min(_AXES, *points.shape), random_state=0).fit(points.astype(np.float64))
    return pca.components_, pca.singular_values_


# ---------------------------------------------------------------------------------------------------- neighbours


def flattened(points: Float[np.ndarray, "names axes"], seed: int) -> Float[np.ndarray, "names 2"]:
    """Two dimensions to look at, never to count with: t-SNE, which keeps neighbours, started from two components.

    Van der Maaten and Hinton (2008, Journal of Machine Learning Research 9: 2579-2605); the start, which keeps the
    whole, by Kobak and Linderman (2021, Nature Biotechnology 39: 156-157). Of few names the components themselves.
    """
    from sklearn.manifold import TSNE

    two = np.pad(points, ((0, 0), (0, max(0, 2 - points.shape[1]))))[:, :2]
    if len(points) < _FEW:
        return two
    start = (two / two[:, 0].std() * 1e-4).astype(np.float32)
    return np.asarray(TSNE(init=start, random_state=seed).fit_transform(points), dtype=np.float64)


def neighbours(points: Float[np.ndarray, "names axes"], number: int) -> Int[np.ndarray, "names number"]:
    """The nearest other names of each, the nearest first."""
    from sklearn.neighbors import NearestNeighbors

    return np.asarray(NearestNeighbors(n_neighbors=number).fit(points).kneighbors(return_distance=False))


def carried(
    every: Float[np.ndarray, "names axes"], sample: Int[np.ndarray, "sampled"], known: Int[np.ndarray, "sampled"]
) -> Int[np.ndarray, "names"]:
    """Labels of all names from those of a sample: each goes where most of its five nearest sampled names are."""
    from sklearn.neighbors import KNeighborsClassifier

    if len(sample) == len(every):
        return known
    labels = np.asarray(KNeighborsClassifier(_NEAR).fit(every[sample], known).predict(every))
    labels[sample] = known
    return labels


def placed(
    every: Float[np.ndarray, "names axes"], sample: Int[np.ndarray, "sampled"], flat: Float[np.ndarray, "sampled 2"]
) -> Float[np.ndarray, "names 2"]:
    """All names on the map of a sample: each amid its five nearest sampled names, nearer ones pulling more."""
    from sklearn.neighbors import KNeighborsRegressor

    if len(sample) == len(every):
        return flat
    return np.asarray(KNeighborsRegressor(_NEAR, weights="distance").fit(every[sample], flat).predict(every))
