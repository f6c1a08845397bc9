"""Does the direction between two sets of images agree with the direction between prompts? Pure numbers, no model."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations, product
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.stats import t as student

from scalex import stats
from scalex.records import Latents, Rules

__all__ = ["Agreement", "Sets", "agreement", "matched", "prompt_direction"]

_LEAST = 2  # images of a kind, to carry a direction with an uncertainty
_CHANCE = 0.95  # of the shuffles stay below what is shown as chance
_FEW = 5  # groups; fewer are fixed, as few templates are, and images are what varies
_BLOCK = 1 << 21  # numbers held at once while shuffling: 16 MiB


class Agreement(NamedTuple):
    """How a direction of images goes with a direction of prompts. Numbers that are not to be had are NaN.

    Attributes:
        cosine: of the two directions. low, high: its interval.
        p: that labels have nothing to do with the images.
        chance: what 95 % of shuffled labels stay below, as a cosine of a direction as long as that of the true labels.
        ceiling: the cosine that two measurements of one and the same direction would have, as noisy as these are.
        separability: AUC with which the prompts' direction, which never saw an image, tells the two kinds apart.
    """

    cosine: float
    low: float
    high: float
    p: float
    chance: float
    ceiling: float
    separability: float


def prompt_direction(
    latents: Latents, attribute: str, value: str, others: Sequence[str]
) -> Float[np.ndarray, "seeds width"]:
    """What makes a prompt's picture one of `value`: its variants minus those of the others, by seed.

    The mean over concepts and templates, so that what is left is the attribute's own.

    Raises:
        ScalexError: a variant was not captured.
    """

    def mean(v: str) -> Float[np.ndarray, "seeds width"]:
        variants = [latents.of(c, attribute, v).astype(np.float64) for c in latents.concepts]
        return np.asarray(np.mean(variants, axis=(0, 1)))

    return np.asarray(mean(value) - np.mean([mean(v) for v in others], axis=0))


@dataclass(frozen=True)
class Sets:
    """Two sets of images, in groups: images are compared within their group alone.

    Attributes:
        x: latents, ordered by group. shows: which images show the value. group: of each image, counted from 0.
    """

    x: Float[np.ndarray, "images seeds width"]
    shows: Bool[np.ndarray, "images"]
    group: Int[np.ndarray, "images"]

    @property
    def groups(self) -> int:
        """How many groups there are."""
        return len(set(self.group.tolist()))

    @property
    def weights(self) -> Float[np.ndarray, "images"]:
        """1 or 0 as an image shows the value or not, less the share of its group that does.

        The direction is the sum of weights times latents: with one group the difference of both means, and with
        several the coefficient of the value beside a constant of each group (least squares).
        """
        share = np.bincount(self.group, self.shows) / np.bincount(self.group)
        return np.asarray(self.shows - share[self.group])


def matched(
    x: Float[np.ndarray, "images seeds width"], shows: Bool[np.ndarray, "images"], alike: Sequence[Hashable]
) -> Sets:
    """Groups of images that are alike in all else that is known of them, each with images of both kinds.

    Pictures differ in far more than one attribute. Where the sets are matched (the same roles as men and as women),
    comparing like with like takes that out of the noise, and out of the direction where sets are not balanced. Where
    more than half of the images have no match, all are one group.
    """
    numbers = {what: i for i, what in enumerate(dict.fromkeys(alike))}
    group = np.array([numbers[what] for what in alike], dtype=np.int64)
    inside = np.bincount(group, shows) if len(group) else np.zeros(0)
    mixed = (inside > 0) & (inside < np.bincount(group, minlength=len(inside)))
    kept = mixed[group]
    if 2 * kept.sum() < len(group):
        kept, group = np.ones(len(group), bool), np.zeros_like(group)
    order = np.flatnonzero(kept)[np.argsort(group[kept], kind="stable")]
    return Sets(x[order], shows[order], np.unique(group[order], return_inverse=True)[1])


def agreement(sets: Sets, along: Float[np.ndarray, "seeds width"], rules: Rules) -> Agreement:
    """Compares the direction of two sets of images with a direction of prompts.

    The p is that of a permutation test: labels are shuffled within groups (every arrangement where these are few). What
    is compared is the size of the image direction's part along the prompts', its cosine times its length: labels that
    were shuffled still agree a little with the true ones, and a cosine alone would not see how little. Two-sided; never
    0 (Phipson and Smyth 2010, Statistical Applications in Genetics and Molecular Biology 9: 39).

    The interval is Student's on Fisher's scale, artanh, with the variance of the jackknife over images, or over groups
    where there are five or more, and over seeds (Efron and Stein 1981, Annals of Statistics 9: 586-596). Noise in
    either direction pulls a cosine towards 0 (Spearman 1904, American Journal of Psychology 15: 72-101): `ceiling` says
    how far.

    Args:
        along: the seeds of the images are the first of its seeds.
    """
    target, x, weights = along.mean(0), sets.x.mean(1), sets.weights
    few = min(int(sets.shows.sum()), int((~sets.shows).sum())) < _LEAST
    if few or not target.any() or not np.ptp(x, axis=0).any():
        return Agreement(*[math.nan] * 7)
    cosine = _cosine(weights @ x, target)
    left = _left_out(x, weights, sets.group)
    low, high = _interval(cosine, [_cosine(left, target), _seeds_left_out(sets, along)], rules.level)
    # Groups' means drop out of sums of weights; without them numbers stay small, and kinds can be told apart.
    scores = (x - _group_means(x, sets.group)[sets.group]) @ target
    p, chance = _shuffled(scores, weights, sets.group, rules)
    apart = stats.auc(scores[~sets.shows], scores[sets.shows])
    scale = float(np.linalg.norm(weights @ x) * np.linalg.norm(target))
    return Agreement(cosine, low, high, p, chance / scale if scale else math.nan, _ceiling(left, along), apart)


def _cosine(a: Float[np.ndarray, "*n width"], b: Float[np.ndarray, "width"]) -> Any:
    """Cosines of rows with a vector; of one row a number. 0 where a row is 0."""
    norms = np.asarray(np.linalg.norm(a, axis=-1) * np.linalg.norm(b))
    cosines = np.clip(np.divide(a @ b, norms, out=np.zeros(norms.shape), where=norms > 0), -1, 1)
    return float(cosines) if cosines.ndim == 0 else cosines


def _group_means(
    x: Float[np.ndarray, "images width"], group: Int[np.ndarray, "images"]
) -> Float[np.ndarray, "groups width"]:
    starts = np.flatnonzero(np.diff(group, prepend=-1))
    return np.asarray(np.add.reduceat(x, starts) / np.bincount(group)[:, None])


# ---------------------------------------------------------------------------------------------------- shuffling


def _shuffled(
    along: Float[np.ndarray, "images"],
    weights: Float[np.ndarray, "images"],
    group: Int[np.ndarray, "images"],
    rules: Rules,
) -> tuple[float, float]:
    """The p of the permutation test, and what chance reaches: of images' places along the prompts' direction."""
    exact = _arrangements(weights, group, rules.permutations)
    blocks = [exact] if exact is not None else _shuffles(weights, group, rules)
    sizes = np.concatenate([np.abs(block @ along) for block in blocks])
    slack = 1e-9 * float(np.abs(weights * along).sum())  # what ties with the observed one counts, in spite of rounding
    count = int((sizes >= abs(weights @ along) - slack).sum())
    p = count / len(sizes) if exact is not None else (1 + count) / (1 + len(sizes))
    return p, float(np.quantile(sizes, _CHANCE))


def _arrangements(
    weights: Float[np.ndarray, "images"], group: Int[np.ndarray, "images"], most: int
) -> Float[np.ndarray, "arrangements images"] | None:
    """Every way to give the labels of each group to its images; None where there are too many."""
    parts = [weights[group == g] for g in range(group.max() + 1)]
    if math.prod(math.comb(len(part), int((part > 0).sum())) for part in parts) > most:
        return None
    ways = [list(_ways(part)) for part in parts]
    return np.array([np.concatenate(way) for way in product(*ways)])


def _ways(part: Float[np.ndarray, "images"]) -> Iterator[Float[np.ndarray, "images"]]:
    for chosen in combinations(range(len(part)), int((part > 0).sum())):
        way = np.full(len(part), part.min())
        way[list(chosen)] = part.max()
        yield way


def _shuffles(
    weights: Float[np.ndarray, "images"], group: Int[np.ndarray, "images"], rules: Rules
) -> Iterator[Float[np.ndarray, "shuffles images"]]:
    """Random ones, a block at a time: images are sorted by group, so a random key beside the group's number does it."""
    rng, size = np.random.default_rng(rules.seed), max(1, _BLOCK // len(group))
    for start in range(0, rules.permutations, size):
        keys = rng.random((min(size, rules.permutations - start), len(group)))
        yield weights[np.argsort(group + keys, axis=1)]


# ---------------------------------------------------------------------------------------------------- uncertainty


def _left_out(
    x: Float[np.ndarray, "images width"], weights: Float[np.ndarray, "images"], group: Int[np.ndarray, "images"]
) -> Float[np.ndarray, "units width"]:
    """The direction, up to scale the same for all, with each group left out, or with few groups each image.

    For an image the direction moves by its residual times its weight over one minus its leverage (Belsley, Kuh and
    Welsch 1980, Regression Diagnostics, chapter 2), which is exact.
    """
    total, whole = weights @ x, float(weights @ weights)
    if group.max() + 1 >= _FEW:
        starts = np.flatnonzero(np.diff(group, prepend=-1))
        own = np.add.reduceat(weights[:, None] * x, starts)
        return np.asarray((total - own) / (whole - np.add.reduceat(weights**2, starts))[:, None])
    residual = x - _group_means(x, group)[group] - np.outer(weights, total / whole)
    leverage = 1 / np.bincount(group)[group] + weights**2 / whole
    safe = np.maximum(1 - leverage, 1e-9)  # an image that is alone of its kind decides its part: no residual is left
    return np.asarray(total / whole - (weights / (whole * safe))[:, None] * residual)


def _seeds_left_out(sets: Sets, along: Float[np.ndarray, "seeds width"]) -> Float[np.ndarray, "seeds"]:
    """The cosine with each seed left out."""
    by_seed = np.einsum("i,isd->sd", sets.weights, sets.x)
    return np.array([_cosine(_without(by_seed, s), _without(along, s)) for s in range(len(along))])


def _without(rows: Float[np.ndarray, "seeds width"], seed: int) -> Float[np.ndarray, "width"]:
    """The mean over all other seeds, where this one is there and there are others."""
    kept = np.delete(rows, seed, 0) if seed < len(rows) and len(rows) > 1 else rows
    return np.asarray(kept.mean(0))


def _interval(cosine: float, left_out: Sequence[Float[np.ndarray, "_"]], level: float) -> stats.Interval:
    """Student's interval on Fisher's scale; degrees of freedom by Satterthwaite."""
    parts = [_fisher(part) for part in left_out if len(part) > 1]
    variances = np.array([(len(part) - 1) ** 2 / len(part) * part.var(ddof=1) for part in parts])
    if not variances.sum() > 0:
        return stats.Interval(math.nan, math.nan)
    df = variances.sum() ** 2 / sum(v**2 / (len(part) - 1) for v, part in zip(variances, parts))
    half = float(student.isf((1 - level) / 2, df)) * math.sqrt(variances.sum())
    middle = float(_fisher(np.array([cosine]))[0])
    return stats.Interval(math.tanh(middle - half), math.tanh(middle + half))


def _fisher(cosines: Float[np.ndarray, "n"]) -> Float[np.ndarray, "n"]:
    return np.asarray(np.arctanh(np.clip(cosines, -1 + 1e-9, 1 - 1e-9)))


def _ceiling(left: Float[np.ndarray, "units width"], along: Float[np.ndarray, "seeds width"]) -> float:
    """Square root of the product of both reliabilities: the share of each squared length that is no noise."""
    n, target = len(left), along.mean(0)
    gap = left.mean(0)
    noise = (n - 1) ** 2 / n * float(left.var(0, ddof=1).sum())
    shaky = float(along.var(0, ddof=1).sum()) / len(along)
    kept = [max(0.0, 1 - part / float(v @ v)) for part, v in ((noise, gap), (shaky, target)) if v.any()]
    return math.sqrt(math.prod(kept)) if len(kept) == 2 else math.nan
