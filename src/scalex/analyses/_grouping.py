"""Groups of points: HDBSCAN or k-means, whether there is structure at all, how alike two groupings are, and words.

Points are compared by their cosines, on all axes that seeds reproduce (see `_points`), never on the two of a map.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple, TypeAlias

import numpy as np
from jaxtyping import Float, Int
from scipy.stats import norm

from scalex.analyses._points import unit

__all__ = [
    "NONE",
    "Groups",
    "Method",
    "Structure",
    "best_overlaps",
    "central",
    "distinguishing",
    "group",
    "likeness",
    "quality",
    "structure",
]

Method: TypeAlias = Literal["hdbscan", "k-means"]
NONE = -1  # the label of a point that belongs to no group
_STARTS, _MORE_STARTS, _FEW = 3, 100, 1000  # of k-means while looking for a number; of a given one, for so few points
_MOST = 200  # groups that k-means looks for
_EXCEEDED = 5  # draws beyond the observed value after which a test has seen enough
_Z = float(norm.isf(0.025))
_WORKING = 64  # MiB of distances held at once
_TELLING = 4  # distinguishing words named of a group
_WORD = re.compile(r"\w+(?:['’-]\w+)*")


# ---------------------------------------------------------------------------------------------------- groups


class Groups(NamedTuple):
    """Points in groups.

    Attributes:
        labels: from 0, the largest group first; -1 for points that belong to none.
        method: what found them.
    """

    labels: Int[np.ndarray, "points"]
    method: Method

    @property
    def number(self) -> int:
        """How many groups there are."""
        return int(self.labels.max(initial=NONE)) + 1


def group(
    points: Float[np.ndarray, "points axes"], method: Method | None = None, n_groups: int | None = None
) -> Groups:
    """Groups of points by HDBSCAN (Campello, Moulavi and Sander 2013, PAKDD); by k-means where it finds none.

    Both see the points at length one, so that distances are those of cosines.

    HDBSCAN takes groups from max(3, sqrt(n) / 4) points on. k-means takes the number of groups with the best silhouette
    (Rousseeuw 1987, Journal of Computational and Applied Mathematics 20: 53-65).

    Args:
        method: one of the two alone. n_groups: of k-means.
    """
    points = unit(points)
    if method != "k-means":
        labels = _hdbscan(points)
        if method == "hdbscan" or labels.max() > NONE:
            return Groups(_by_size(labels), "hdbscan")
    return Groups(_by_size(_kmeans(points, n_groups)), "k-means")


def _hdbscan(points: Float[np.ndarray, "points axes"]) -> Int[np.ndarray, "points"]:
    from sklearn.cluster import HDBSCAN

    least = max(3, round(np.sqrt(len(points)) / 4))
    return np.asarray(HDBSCAN(min_cluster_size=least, min_samples=min(3, least), copy=True).fit(points).labels_)


def _kmeans(points: Float[np.ndarray, "points axes"], n_groups: int | None) -> Int[np.ndarray, "points"]:
    """By the number of groups that is asked for, or else has the best silhouette, looked for from coarse to fine."""
    from sklearn.cluster import KMeans

    tried: dict[int, tuple[float, Int[np.ndarray, "points"]]] = {}
    most = min(len(np.unique(points, axis=0)) - 1, max(2, len(points) // 3), _MOST)

    def fit(k: int) -> float:
        if k not in tried:
            labels = KMeans(k, n_init=_STARTS, random_state=0).fit(points).labels_
            tried[k] = (quality(points, labels), labels)
        return tried[k][0]

    if n_groups is not None:
        starts = _MORE_STARTS if len(points) <= _FEW else _STARTS
        return np.asarray(KMeans(n_groups, n_init=starts, random_state=0).fit(points).labels_)
    if most < 2:
        return np.full(len(points), NONE)
    grid = np.unique(np.geomspace(2, most, 1 + int(2 * np.log2(most))).astype(int))
    best = max(grid.tolist(), key=fit)
    for step in (4, 2, 1):
        near = range(max(2, best - 2 * step), min(most, best + 2 * step) + 1, step)
        best = max(near, key=fit)
    return tried[best][1]


def _by_size(labels: Int[np.ndarray, "points"]) -> Int[np.ndarray, "points"]:
    """Labels anew, the largest group first, ties by their first point."""
    found, first, sizes = np.unique(labels[labels > NONE], return_index=True, return_counts=True)
    order = np.lexsort((first, -sizes))
    new = np.full(labels.max(initial=NONE) + 2, NONE)  # the last place is that of the label -1
    new[found[order]] = np.arange(len(found))
    return np.asarray(new[labels])


def quality(points: Float[np.ndarray, "points axes"], labels: Int[np.ndarray, "points"]) -> float:
    """The mean silhouette over all points, one that belongs to no group counting 0; 0 for fewer than two groups."""
    from sklearn import config_context
    from sklearn.metrics import silhouette_samples

    held, points = labels > NONE, unit(points)
    if not 2 <= len(np.unique(labels[held])) < held.sum():
        return 0.0
    with config_context(working_memory=_WORKING):
        return float(silhouette_samples(points[held], labels[held]).sum() / len(labels))


class Structure(NamedTuple):
    """Whether points are in groups at all: their quality, and p under one normal cloud of the same covariance."""

    quality: float
    p: float


def structure(
    points: Float[np.ndarray, "points axes"],
    rng: np.random.Generator,
    draws: int,
    grouped: Callable[[Float[np.ndarray, "points axes"]], Groups] = group,
) -> Structure:
    """Test of structure by Monte Carlo: the same search for groups in draws from one normal of the same covariance.

    The null is that of SigClust (Liu, Hayes, Nobel and Marron 2008, Journal of the American Statistical Association
    103: 1281-1293), the statistic the silhouette of whatever groups are found, which sees many groups as well as two.
    Draws stop once 5 of them have done as well (Besag and Clifford 1991, Biometrika 78: 301-304): the p stays exact.
    """
    observed = quality(points, grouped(points).labels)
    centre, covariance = points.mean(0), np.atleast_2d(np.cov(points.T))
    beyond = 0
    for drawn in range(1, draws + 1):
        cloud = rng.multivariate_normal(centre, covariance, len(points))
        beyond += quality(cloud, grouped(cloud).labels) >= observed
        if beyond == _EXCEEDED:
            return Structure(observed, beyond / drawn)
    return Structure(observed, (1 + beyond) / (1 + draws))


def likeness(first: Int[np.ndarray, "points"], second: Int[np.ndarray, "points"]) -> float:
    """The adjusted Rand index (Hubert and Arabie 1985, Journal of Classification 2: 193-218) of two groupings.

    A point that belongs to no group is alone: it is with nobody, not with the others that belong to none.
    """
    from sklearn.metrics import adjusted_rand_score

    return float(adjusted_rand_score(_alone(first), _alone(second)))


def _alone(labels: Int[np.ndarray, "points"]) -> Int[np.ndarray, "points"]:
    return np.where(labels > NONE, labels, labels.max(initial=NONE) + 1 + np.arange(len(labels)))


def best_overlaps(of: Int[np.ndarray, "points"], others: Int[np.ndarray, "points"]) -> Float[np.ndarray, "groups"]:
    """For each group the greatest Jaccard index |A & B| / |A | B| with any of the other groups (Hennig 2007)."""
    rows, columns = int(of.max(initial=NONE)) + 1, int(others.max(initial=NONE)) + 1
    if not columns:
        return np.zeros(rows)
    both = (of > NONE) & (others > NONE)
    shared = np.zeros((rows, columns))
    np.add.at(shared, (of[both], others[both]), 1)
    either = np.bincount(of[of > NONE], minlength=rows)[:, None] + np.bincount(others[others > NONE], minlength=columns)
    return np.asarray((shared / (either - shared)).max(1))


# ---------------------------------------------------------------------------------------------------- names of groups


def central(
    points: Float[np.ndarray, "points axes"], labels: Int[np.ndarray, "points"], most: int = 1
) -> list[list[int]]:
    """For each group its most central points: the medoid, with the least sum of distances to the others (Kaufman and
    Rousseeuw 1990, Finding Groups in Data, chapter 2), and those that are next."""
    from sklearn.metrics import pairwise_distances

    found = []
    for label in range(int(labels.max(initial=NONE)) + 1):
        members = np.flatnonzero(labels == label)
        sums = pairwise_distances(unit(points[members])).sum(0)
        found.append(members[np.argsort(sums, kind="stable")[:most]].tolist())
    return found


def distinguishing(texts: Sequence[str], labels: Int[np.ndarray, "points"]) -> list[list[str]]:
    """For each group the words that its texts hold more often than all others do, the surest first, at most four.

    Log-odds ratios with an informative Dirichlet prior (Monroe, Colaresi and Quinn 2008, Political Analysis 16:
    372-403, equations 16-22): the prior is the words of all texts, weighed as one group of mean size. A word counts
    where its z is beyond 1.96 and two texts of the group hold it; one that a single text holds is left out throughout.
    """
    bags = [frozenset(_WORD.findall(text.lower())) for text in texts]
    often = Counter(word for bag in bags for word in bag)
    places = {word: i for i, word in enumerate(sorted(word for word, times in often.items() if times > 1))}
    n_groups = int(labels.max(initial=NONE)) + 1
    counts = np.zeros((n_groups + 1, len(places)))  # the last row is that of the label -1
    for label, bag in zip(labels, bags):
        counts[label, [places[word] for word in bag if word in places]] += 1
    words, found = list(places), []
    for own, z in zip(counts[:n_groups], _log_odds(counts)):
        telling = [i for i in np.argsort(-z, kind="stable") if z[i] > _Z and own[i] > 1]
        found.append([words[i] for i in telling[:_TELLING]])
    return found


def _log_odds(counts: Float[np.ndarray, "groups words"]) -> Float[np.ndarray, "groups words"]:
    """z of each word's log-odds in each group against all others."""
    every = counts.sum(0)
    prior = every / len(counts)
    ours, theirs = counts + prior, every - counts + prior
    odds = [np.log(side / np.maximum(side.sum(1, keepdims=True) - side, 1e-9)) for side in (ours, theirs)]
    return np.asarray((odds[0] - odds[1]) / np.sqrt(1 / ours + 1 / theirs))
