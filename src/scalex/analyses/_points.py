"""Names as points: noise-normalised coordinates on the axes that seeds reproduce, and a map of two dimensions to see.

How alike two names are is the cosine of their points. Three steps make a point of the mean over seeds and templates,
less the mean over names:
- noise normalisation: distances are counted in what seeds alone make of one name, by the covariance within names,
  shrunk. What varies from picture to picture of the same words anyway, such as who is drawn for "a pilot", then parts
  names less (Walther et al. 2016, NeuroImage 137: 188-200, for the representations of brains);
- the principal axes of the normalised points that rise above what seeds alone make (`reproduced`), 50 at most;
- each axis weighed by the square root of its size: U S^(1/2) in place of U S, since a few gross contrasts, such as
  people against things, else hide all others (Levy, Goldberg and Dagan 2015, Transactions of the ACL 3: 211-225).
The text encoder's embeddings are given the same axes and weights. They have no seeds, and so no noise to count in.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple, TypeAlias

import numpy as np
from jaxtyping import Float, Int

from scalex import scratch, stats
from scalex.records import Latents, Role, Rules

__all__ = [
    "MOST",
    "Name",
    "Space",
    "carried",
    "flattened",
    "neighbours",
    "placed",
    "principal",
    "reproduced",
    "space",
    "unit",
]

MOST = 4000  # names that are clustered; of more this many are drawn
_AXES = 50  # beyond about so many dimensions densities, and with them HDBSCAN, tell little
_WIDE = 2000  # numbers in a latent beyond which it is projected at random to so many
_ROWS, _NUMBERS = 10_000, 1 << 22  # samples that the covariance within names is learned from; numbers of theirs
_FLIPS = 20  # sign flips of seeds: the greatest of them is the noise floor, about the 95 % quantile
_FEW = 50  # names up to which a map shows the first two components: neighbourhoods of so few mean little
_APIECE, _HELD = 8192, 256  # names that are placed at once; whose latents are held, where these lie in a file
_INSIDE = 0.99  # of a group, beyond whose distances from each other a name is too far from it
_NEAR = 5  # neighbours that place a name which was not drawn

Name: TypeAlias = tuple[str, Role]


class Space(NamedTuple):
    """Names as points, those that are clustered and all. The cosines of points count, not their lengths.

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
    """The points of names, in latents and in the text encoder's embeddings."""
    rng = np.random.default_rng(rules.seed)
    drawn = rng.choice(len(names), MOST, replace=False) if len(names) > MOST else np.arange(len(names))
    sample = np.sort(drawn)
    some = [names[i] for i in sample]
    means = np.empty((len(some), len(latents.seeds), latents.values.shape[-1]), np.float32)
    for own, one in zip(means, _each(latents, some)):
        own[:] = one.mean(0)
    onto, centre = reproduced(means, rng), means.mean(0, dtype=np.float64)
    del means  # it may be large, and is not needed any more
    ways = 1 if latents.n_templates < stats.MIN_TEMPLATES else latents.n_templates
    by_seed = np.stack([_ways(one - centre, ways) @ onto for one in _each(latents, some)])
    every = np.empty((len(names), onto.shape[1]))
    for rows in scratch.blocks(every, _APIECE):
        every[rows] = [(one.mean(0) - centre).mean(0) @ onto for one in _each(latents, names[rows])]
    return Space(names, sample, by_seed.mean((1, 2)), by_seed, every, _texts(latents, names, sample))


def unit(points: Float[np.ndarray, "names axes"]) -> Float[np.ndarray, "names axes"]:
    """The points at length one: their distances then are those of cosines."""
    lengths = np.linalg.norm(points, axis=1, keepdims=True)
    return np.asarray(points / np.maximum(lengths, np.finfo(float).tiny))


def _each(latents: Latents, names: Sequence[Name]) -> Iterator[Float[np.ndarray, "templates seeds width"]]:
    """The latents of each name; now and then what was held of those before is let go."""
    for i, (name, role) in enumerate(names):
        if i % _HELD == 0:
            scratch.let_go(latents.values)
        yield latents.of(name, role=role)


def _ways(values: Float[np.ndarray, "templates seeds width"], ways: int) -> Float[np.ndarray, "ways seeds width"]:
    """By template where templates are drawn in resampling, else their mean."""
    return values if ways > 1 else values.mean(0, keepdims=True)


def _texts(
    latents: Latents, names: Sequence[Name], sample: Int[np.ndarray, "sampled"]
) -> Float[np.ndarray, "names axes"]:
    if latents.embeddings is None:
        return np.empty((len(names), 0))
    some = _said(latents, [names[i] for i in sample])
    centre = some.mean(0)
    axes, sizes = principal(some - centre)
    told = sizes > 1e-6 * sizes.max(initial=1e-6)
    onto = _weighed(axes[told], sizes[told])
    placed_ = np.empty((len(names), onto.shape[1]))
    for rows in scratch.blocks(placed_, _APIECE):
        placed_[rows] = (_said(latents, names[rows]) - centre) @ onto
    return placed_


def _said(latents: Latents, names: Sequence[Name]) -> Float[np.ndarray, "names dim"]:
    """The text encoder's embeddings of names, over templates."""
    return np.stack([latents.embedding(name, role=role).mean(0) for name, role in names]).astype(np.float64)


# ---------------------------------------------------------------------------------------------------- axes


def reproduced(
    by_seed: Float[np.ndarray, "names seeds width"], rng: np.random.Generator
) -> Float[np.ndarray, "width axes"]:
    """What takes centred latents to their coordinates on the axes that seeds reproduce.

    A mean over seeds with balanced random signs holds the noise of the mean and nothing of the names: as many seeds
    speak for as against. Principal axes of the names' means are kept as long as they are larger than the largest of any
    of 20 such means: parallel analysis (Horn 1965, Psychometrika 30: 179-185) by sign flips (Hong, Sheng and Dobriban
    2020, arXiv:2012.02985), here of seeds. So seed noise is not taken for structure. Both are normalised by a
    covariance that is learned on neither. The mean over names is subtracted seed by seed: what a seed does to all names
    alike cancels.

    Returns:
        The largest axis first; none where nothing rises above the floor.
    """
    centred = by_seed - by_seed.mean(0, dtype=np.float64).astype(by_seed.dtype)
    narrow = _narrowing(centred.shape[2], rng)
    centred = centred @ narrow if narrow is not None else centred
    means = centred.mean(1, dtype=np.float64)
    normal = _normalising(_within(centred, means))
    axes, sizes = principal(means @ normal)
    rounding = 1e-6 * float(np.abs(by_seed).max() * np.abs(normal).max())
    kept = min([_above(means, centred, signs) for signs in _signs(centred.shape[1], rng)] + [(sizes > rounding).sum()])
    onto = normal @ _weighed(axes[:kept], sizes[:kept])
    return np.asarray(onto if narrow is None else narrow @ onto)


def _weighed(
    axes: Float[np.ndarray, "axes width"], sizes: Float[np.ndarray, "axes"]
) -> Float[np.ndarray, "width axes"]:
    return np.asarray(axes.T / np.sqrt(sizes))


def _narrowing(width: int, rng: np.random.Generator) -> Float[np.ndarray, "width narrow"] | None:
    """A random projection, which keeps distances (Johnson and Lindenstrauss 1984); None for what is narrow already."""
    return rng.normal(size=(width, _WIDE)) / np.sqrt(_WIDE) if width > _WIDE else None


def _signs(n_seeds: int, rng: np.random.Generator) -> list[Float[np.ndarray, "seeds"]]:
    """Different patterns of as many plus as minus ones, 20 or all there are; of an odd number the last seed is 0."""
    half = np.resize([1.0, -1.0], n_seeds // 2 * 2)
    rest = np.zeros(n_seeds % 2)
    drawn = (rng.permutation(half) for _ in range(5 * _FLIPS))
    patterns = {tuple(signs * signs[0]): np.concatenate([signs, rest]) for signs in drawn}
    return list(patterns.values())[:_FLIPS]


def _above(
    means: Float[np.ndarray, "names width"],
    centred: Float[np.ndarray, "names seeds width"],
    signs: Float[np.ndarray, "seeds"],
) -> int:
    """How many axes of the means are larger than the largest of one flip, in units of all that is neither."""
    n_flipped, n_seeds = np.abs(signs).sum(), len(signs)
    flipped = np.einsum("nsw,s->nw", centred, (signs / n_flipped).astype(centred.dtype))
    names, seeds = _some(centred)
    normal = _normalising(_within(centred, means) - flipped[names] * signs[seeds, None])
    floor = _greatest(flipped @ normal) * np.sqrt(n_flipped / n_seeds)  # a mean over one seed more has less noise
    return int((principal(means @ normal)[1] > floor).sum())


def _some(centred: Float[np.ndarray, "names seeds width"]) -> tuple[Int[np.ndarray, "rows"], Int[np.ndarray, "rows"]]:
    """Names and seeds of the samples that covariances are learned from: evenly spread, 10,000 at most.

    Wide latents take fewer, but at least two for each number of one.
    """
    names, seeds, width = centred.shape
    most = min(_ROWS, max(2 * width, _NUMBERS // width))
    return np.divmod(np.arange(0, names * seeds, -(-names * seeds // most)), seeds)


def _within(
    centred: Float[np.ndarray, "names seeds width"], means: Float[np.ndarray, "names width"]
) -> Float[np.ndarray, "rows width"]:
    """What is left of some samples when the mean of their name is taken off."""
    names, seeds = _some(centred)
    return np.asarray(centred[names, seeds] - means[names], dtype=np.float64)


def _normalising(rows: Float[np.ndarray, "rows width"]) -> Float[np.ndarray, "width width"]:
    """What makes the spread within names round: an inverse root of their covariance, shrunk by Ledoit and Wolf (2004,
    Journal of Multivariate Analysis 88: 365-411)."""
    from scipy.linalg import cholesky, solve_triangular
    from sklearn.covariance import LedoitWolf

    width = rows.shape[1]
    if not rows.any():
        return np.eye(width)
    covariance = LedoitWolf(assume_centered=True).fit(rows).covariance_
    covariance += 1e-9 * np.trace(covariance) / width * np.eye(width)
    return np.asarray(solve_triangular(cholesky(covariance, lower=True), np.eye(width), lower=True).T)


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

    points = unit(points)
    if len(points) < _FEW or points.shape[1] < 3:
        return np.pad(points, ((0, 0), (0, max(0, 2 - points.shape[1]))))[:, :2]
    two = points[:, :2]
    start = (two / two[:, 0].std() * 1e-4).astype(np.float32)
    return np.asarray(TSNE(init=start, random_state=seed).fit_transform(points), dtype=np.float64)


def neighbours(points: Float[np.ndarray, "names axes"], number: int) -> Int[np.ndarray, "names number"]:
    """The nearest other names of each, the nearest first."""
    from sklearn.neighbors import NearestNeighbors

    return np.asarray(NearestNeighbors(n_neighbors=number).fit(unit(points)).kneighbors(return_distance=False))


def carried(
    every: Float[np.ndarray, "names axes"], sample: Int[np.ndarray, "sampled"], known: Int[np.ndarray, "sampled"]
) -> Int[np.ndarray, "names"]:
    """Labels of all names from those of a sample: each goes where most of its five nearest sampled names are.

    Where some of the sample belong to no group, -1, so does a name that is further from the nearest of its group than
    99 % of the group's own are from each other.
    """
    from sklearn.neighbors import KNeighborsClassifier

    if len(sample) == len(every):
        return known
    some = unit(every[sample])
    vote, reach = KNeighborsClassifier(_NEAR).fit(some, known), _reach(some, known)
    labels = np.empty(len(every), dtype=known.dtype)
    for rows in scratch.blocks(every, _APIECE):
        points = unit(every[rows])
        labels[rows] = vote.predict(points)
        apart, near = vote.kneighbors(points)
        of_group = np.where(known[near] == labels[rows, None], apart, np.inf).min(1)
        labels[rows][of_group > reach[labels[rows]]] = -1
    labels[sample] = known
    return labels


def _reach(points: Float[np.ndarray, "sampled axes"], known: Int[np.ndarray, "sampled"]) -> Float[np.ndarray, "groups"]:
    """How far nearly all of each group are from the nearest of their group; the last is that of the label -1.

    Infinite where every point is in a group: then none is too far from all of them.
    """
    from sklearn.neighbors import NearestNeighbors

    reach = np.full(known.max(initial=-1) + 2, np.inf)
    for label in range(len(reach) - 1) if (known == -1).any() else ():
        own = points[known == label]
        if len(own) > 1:
            apart, _ = NearestNeighbors(n_neighbors=1).fit(own).kneighbors()
            reach[label] = np.quantile(apart, _INSIDE)
    return reach


def placed(
    every: Float[np.ndarray, "names axes"], sample: Int[np.ndarray, "sampled"], flat: Float[np.ndarray, "sampled 2"]
) -> Float[np.ndarray, "names 2"]:
    """All names on the map of a sample: each amid its five nearest sampled names, nearer ones pulling more."""
    from sklearn.neighbors import KNeighborsRegressor

    if len(sample) == len(every):
        return flat
    mean = KNeighborsRegressor(_NEAR, weights="distance").fit(unit(every[sample]), flat)
    parts = [mean.predict(unit(every[rows])) for rows in scratch.blocks(every, _APIECE)]
    return np.asarray(np.concatenate(parts))
