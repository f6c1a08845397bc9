"""Defaults: where a neutral prompt stands between its variants.

Two values give one lean per concept and attribute: -1/2 is "the same as the first", +1/2 "the same as the second".
More values give one barycentric weight per value: the mixture of variants that comes nearest to the neutral prompt.

Both are ratios of U-statistics: every inner product joins two *different* seeds, since the product of a seed with
itself holds its own noise (this is cross-fitting with one seed left out, symmetrised). So the lean is not pulled
towards zero by the noise of the direction, and distances between variants are not inflated. Their scores are
jackknife pseudo-values (Arvesen 1969, Annals of Mathematical Statistics 40: 2076-2100), whose variance includes that
of the direction itself.

A lean is measured along a direction, which `Rules.lean_direction` names:

- `own`: the concept's own mean difference, the design's formula;
- `shared`: the mean difference of the other concepts;
- `lda`: the concept's own, whitened by the covariance within its two variants (Fisher's discriminant);
- `pooled`: the concept's own, whitened by the covariance within all variants of all concepts, which many more samples
  show.

What is whitened (see `scalex.whitening`) is the neutral prompt's place and the variants' difference alike, so that
noise which is large counts for little. The metric is learned on other folds of seeds, and taken as given. A neutral
prompt that lies aside of its variants is nearest to another point between them in another metric. Where seeds are added
look by look, "all concepts" are those of the same look.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache
from itertools import repeat
from typing import NamedTuple, TypeAlias

import numpy as np
from jaxtyping import Float

from scalex import directions, stats
from scalex.analyses._planted import Planted, leaning
from scalex.analyses._rows import blank, join, screened, with_verdict
from scalex.records import Finding, Latents, LeanDirection, Reading, Rules
from scalex.whitening import Whitening, variants_in, whitening

__all__ = [
    "DECISIVE",
    "NAME",
    "READINGS",
    "Along",
    "AlongOf",
    "Mixture",
    "Weights",
    "analyse",
    "conclude",
    "lean_directions",
    "lean_scores",
    "mixture",
    "mixture_intervals",
    "mixture_p",
    "mixture_scores",
    "mixture_weights",
    "planted",
    "weight_scores",
]

NAME = "defaults"
READINGS: tuple[Reading, ...] = ("text", "picture")
DECISIVE = True
Along: TypeAlias = Float[np.ndarray, "templates seeds width"] | Whitening | None
AlongOf: TypeAlias = Callable[[str, Sequence[str]], Iterator[Along]]


def analyse(
    latents: Latents,
    attributes: Mapping[str, Sequence[str]],
    rules: Rules,
    *,
    step: int = -1,
) -> list[Finding]:
    """Leans (two values) or weights (more) of every concept, before correction.

    Args:
        step: index of the kept step that is read.

    Raises:
        ScalexError: too few seeds or values, or something was not captured.
    """
    plan = directions.plan_of(latents, rules)
    found, along = [], lean_directions(latents, rules.lean_direction, step)
    for attribute, values in attributes.items():
        two = len(values) == 2
        for concept, one in zip(latents.concepts, along(attribute, values)):
            neutral = latents.of(concept, step=step).astype(np.float64)
            variants = directions.variants_of(latents, concept, attribute, values, step)
            row = blank(NAME, latents, concept, attribute, "lean" if two else "weight", neutral.shape[0])
            if two:
                found.append(_lean(row, values, neutral, variants, one, plan, rules))
            else:
                found += _weights(row, values, neutral, variants, plan, rules)
    return found


def conclude(finding: Finding, attributes: Mapping[str, Sequence[str]], rules: Rules) -> Finding:
    """The finding with its verdict, once q is known. A finding that is already *not expressed* stays so."""
    values = attributes[finding.attribute]
    two = finding.unit == "lean"
    away = f"leans to {values[0]}" if two else f"leans away from {finding.value}"
    neutral = 0.0 if two else 1 / len(values)
    towards = f"leans to {finding.value}"
    return with_verdict(finding, rules, values=values, neutral=neutral, towards=towards, away=away)


# ---------------------------------------------------------------------------------------------------- estimators


def lean_scores(
    neutral: Float[np.ndarray, "templates seeds width"],
    first: Float[np.ndarray, "templates seeds width"],
    second: Float[np.ndarray, "templates seeds width"],
    along: Along = None,
) -> Float[np.ndarray, "templates seeds"]:
    """Scores whose mean is the lean and whose spread over seeds is its uncertainty.

    With d = neutral - (first + second)/2 and w = second - first, lean = <d, w> / <w, w>, products over different seeds.

    Args:
        along: samples whose mean takes the place of the concept's own mean difference, w, as a direction:
            <d, along> / <w, along>; their noise counts as that of w does. Or a whitening, A: <A d, w> / <A w, w>, where
            A is taken as given.

    Returns:
        Scores in units of the distance between the variants; NaN where the direction does not tell the variants
        apart.
    """
    d, w = neutral - (first + second) / 2, second - first
    along = w if along is None else along
    if isinstance(along, Whitening):
        above, below = (directions.pseudo_products(x, w) for x in np.split(along(np.concatenate([d, w])), 2))
    else:
        above, below = directions.pseudo_products(d, along), directions.pseudo_products(w, along)
    gap = below.mean()
    if gap <= 1e-12 * max(float((w**2).sum(-1).mean()), np.finfo(float).tiny):
        return np.full(above.shape, math.nan)
    lean = above.mean() / gap
    return np.asarray(lean + (above - lean * below) / gap)


def lean_directions(latents: Latents, direction: LeanDirection, step: int = -1) -> AlongOf:
    """What gives, of an attribute and its values, `along` of `lean_scores` for every concept in turn.

    Of more than two values that is None. What a direction takes of all concepts is learned once.

    Raises:
        ScalexError: (what is given raises it) `shared`, and there is but one concept; `pooled`, and the latents are too
            wide; or a variant was not captured.
    """
    n = len(latents.concepts)
    pooled = cache(lambda: whitening(latents, variants_in(latents), step))

    def along(attribute: str, values: Sequence[str]) -> Iterator[Along]:
        def gaps() -> Iterator[Float[np.ndarray, "templates seeds width"]]:
            for concept in latents.concepts:
                first, second = directions.variants_of(latents, concept, attribute, values, step)
                yield second - first

        if direction == "own" or len(values) != 2:
            return repeat(None, n)
        if direction == "pooled":
            return repeat(pooled(), n)
        if direction == "shared":
            return directions.shared_directions(gaps)
        return (whitening(latents, [(c, attribute, v) for v in values], step) for c in latents.concepts)

    return along


def weight_scores(
    neutral: Float[np.ndarray, "templates seeds width"],
    variants: Float[np.ndarray, "values templates seeds width"],
) -> Float[np.ndarray, "templates seeds values"]:
    """Scores of the weights that only sum to one: their mean is the weight, their spread its uncertainty."""
    return _affine_scores(_gram_pseudo(variants - neutral))


class Weights(NamedTuple):
    """Barycentric weights of a concept's variants. V values.

    Attributes:
        estimate: weights >= 0 that sum to one. shape (V,)
        low: lower ends of their intervals. shape (V,)
        high: upper ends. shape (V,)
        p: that the unconstrained weight equals parity, 1/V. shape (V,)
        residual: distance from the mixture, in units of the variants' spread (root mean square around their centre).
    """

    estimate: Float[np.ndarray, "values"]
    low: Float[np.ndarray, "values"]
    high: Float[np.ndarray, "values"]
    p: Float[np.ndarray, "values"]
    residual: float


class Mixture(NamedTuple):
    """What weights and their uncertainty are made of. V values, R resamples.

    Attributes:
        gram: inner products of the variants' offsets from the neutral prompt. shape (V, V)
        weights: of the nearest mixture. shape (V,)
        draws: the same for every bootstrap resample. shape (R, V)
        scores: of the weights that only sum to one; their mean is that weight. shape (templates, seeds, V)
    """

    gram: Float[np.ndarray, "values values"]
    weights: Float[np.ndarray, "values"]
    draws: Float[np.ndarray, "resamples values"]
    scores: Float[np.ndarray, "templates seeds values"]


def mixture(
    neutral: Float[np.ndarray, "templates seeds width"],
    variants: Float[np.ndarray, "values templates seeds width"],
    plan: stats.ResamplingPlan,
) -> Mixture:
    """The mixture of variants nearest to the neutral prompt, with its bootstrap and its scores."""
    pseudo = _gram_pseudo(variants - neutral)
    gram = pseudo.mean((0, 1))
    draws = np.array([stats.nearest_mixture(g) for g in stats.bootstrap_means(plan, pseudo)])
    return Mixture(gram, stats.nearest_mixture(gram), draws, _affine_scores(pseudo))


def mixture_scores(
    neutral: Float[np.ndarray, "templates seeds width"], variants: Float[np.ndarray, "values templates seeds width"]
) -> Float[np.ndarray, "templates seeds values"]:
    """Scores whose mean are the weights of the nearest mixture, with the spread of those that only sum to one."""
    pseudo = _gram_pseudo(variants - neutral)
    scores = _affine_scores(pseudo)
    return np.asarray(scores - scores.mean((0, 1)) + stats.nearest_mixture(pseudo.mean((0, 1))))


def mixture_weights(
    neutral: Float[np.ndarray, "templates seeds width"],
    variants: Float[np.ndarray, "values templates seeds width"],
    plan: stats.ResamplingPlan,
    level: float,
) -> Weights:
    """The mixture of variants nearest to the neutral prompt, with bootstrap intervals.

    Estimate and interval come from the simplex; the interval bootstraps the inner products and solves again each
    time. The p is that of the weights that only sum to one: they are smooth, so their pseudo-values can be flipped,
    and for two values this is the test of the lean.
    """
    m = mixture(neutral, variants, plan)
    ends = np.clip(mixture_intervals(m.draws, m.scores, plan, level), 0, 1)
    low, high = np.minimum(ends[0], m.weights), np.maximum(ends[1], m.weights)
    parity = 1 / len(m.weights)
    return Weights(
        m.weights, low, high, mixture_p(m.weights - parity, m.scores - parity, plan), _residual(m.gram, m.weights)
    )


def mixture_intervals(
    draws: Float[np.ndarray, "resamples values"],
    scores: Float[np.ndarray, "templates seeds values"],
    plan: stats.ResamplingPlan,
    level: float,
) -> Float[np.ndarray, "2 values"]:
    """Ends of the intervals of weights: their bootstrap draws, with the degrees of freedom that their scores show.

    Where draws are too few for the level, the ends are extrapolated (`percentile_interval`) and may lie outside of what
    weights can be.
    """
    widths = [stats.spread(plan, one) for one in np.moveaxis(scores, -1, 0)]
    ends = [stats.percentile_interval(d, level, df=w.df, inflation=w.inflation) for d, w in zip(draws.T, widths)]
    return np.array(ends).T


def mixture_p(
    beyond: Float[np.ndarray, "values"],
    scores: Float[np.ndarray, "templates seeds values"],
    plan: stats.ResamplingPlan,
) -> Float[np.ndarray, "values"]:
    """The p of every weight, given how far the weights are beyond neutral, and their scores beyond it.

    The weights on the simplex are claimed, those that only sum to one are tested. Where the two lie on different sides
    of neutral (the neutral prompt is then far outside of its variants) nothing is tested: p is 1.
    """
    tested = np.moveaxis(scores, -1, 0)
    return np.array([stats.mean_p(plan, s) if s.mean() * b >= 0 else 1.0 for s, b in zip(tested, beyond)])


def _gram_pseudo(
    offsets: Float[np.ndarray, "values templates seeds width"],
) -> Float[np.ndarray, "templates seeds values values"]:
    """Pseudo-values of the inner products between the offsets of variants, over different seeds."""
    n = len(offsets)
    pairs = [[directions.pseudo_products(offsets[u], offsets[v]) for v in range(n)] for u in range(n)]
    return np.moveaxis(np.array(pairs), (0, 1), (2, 3))


def _affine_scores(
    gram: Float[np.ndarray, "templates seeds values values"],
) -> Float[np.ndarray, "templates seeds values"]:
    """Scores of the weights that only sum to one, by the influence of each sample's inner products on them.

    The weights a solve G a = m 1, sum a = 1; so da = -P dG a, with P the inverse of G on the plane sum a = 0.
    """
    mean = gram.mean((0, 1))
    n = len(mean)
    plane = np.linalg.svd(np.ones((1, n)))[2][1:].T  # orthonormal basis of the plane sum = 0
    inverse = plane @ np.linalg.pinv(plane.T @ mean @ plane) @ plane.T
    parity = np.full(n, 1 / n)
    weights = parity - inverse @ mean @ parity
    return np.asarray(weights - np.einsum("uv,tsvw,w->tsu", inverse, gram - mean, weights))


def _residual(gram: Float[np.ndarray, "values values"], weights: Float[np.ndarray, "values"]) -> float:
    spread = np.trace(gram) / len(gram) - gram.mean()
    return float(np.sqrt(max(0.0, weights @ gram @ weights) / spread)) if spread > 0 else math.nan


# ---------------------------------------------------------------------------------------------------- rows


def _lean(
    row: Finding,
    values: Sequence[str],
    neutral: Float[np.ndarray, "templates seeds width"],
    variants: Float[np.ndarray, "2 templates seeds width"],
    along: Along,
    plan: stats.ResamplingPlan,
    rules: Rules,
) -> Finding:
    apart = float(directions.separability(variants)[0])
    [row] = screened([replace(row, value=values[1], separability=apart)], rules, directions.varies(neutral))
    if row.verdict:
        return row
    scores = lean_scores(neutral, variants[0], variants[1], along)
    if not np.isfinite(scores).all():
        reason = "the direction does not tell the variants apart"
        return replace(row, verdict="not expressed", reason=reason)
    low, high = stats.bootstrap_interval(plan, scores, rules.level)
    p = math.nan if math.isnan(low) else stats.mean_p(plan, scores)
    return replace(row, estimate=float(scores.mean()), low=low, high=high, p=p)


def _weights(
    row: Finding,
    values: Sequence[str],
    neutral: Float[np.ndarray, "templates seeds width"],
    variants: Float[np.ndarray, "values templates seeds width"],
    plan: stats.ResamplingPlan,
    rules: Rules,
) -> list[Finding]:
    apart = directions.separability(variants)
    rows = [replace(row, value=v, separability=float(a)) for v, a in zip(values, apart)]
    rows = screened(rows, rules, directions.varies(neutral))
    if all(r.verdict for r in rows):
        return rows
    w = mixture_weights(neutral, variants, plan, rules.level)
    note = join(f"residual {w.residual:.2g} of the variants' spread", row.reason)
    numbers = zip(*(column.tolist() for column in (w.estimate, w.low, w.high, w.p)))
    return [
        r if r.verdict else replace(r, estimate=e, low=low, high=high, p=p, reason=note)
        for r, (e, low, high, p) in zip(rows, numbers)
    ]


def planted(rng: np.random.Generator) -> Planted:
    """Concepts that lean to either side, and to none."""
    return leaning(rng, READINGS, {"pilot": "leans to man", "nurse": "leans to woman"})
