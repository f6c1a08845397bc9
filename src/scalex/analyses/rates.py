"""Rates: the share of a concept's pictures that show each value, from the picture reading, without decoding one.

Every neutral sample is classified among the concept's own variants by classifiers that never saw its seed. The
variants' own samples, classified alike, give the confusion matrix, and the observed shares are corrected by it
(Rogan and Gladen 1978).

The correction takes the variants at their word: pictures of "a woman pilot" show women. Where the model draws some
of them otherwise, the confusion matrix holds its mistakes beside the classifier's, and the correction goes too far
by as much.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from scalex import directions, stats
from scalex.analyses._planted import Planted, leaning
from scalex.analyses._rows import blank, screened, with_verdict
from scalex.directions import Method, classify
from scalex.records import Finding, Latents, Reading, Rules

__all__ = [
    "DECISIVE",
    "METHOD",
    "NAME",
    "READINGS",
    "Shares",
    "analyse",
    "classify",
    "conclude",
    "planted",
    "share_estimate",
    "share_grain",
    "share_scores",
    "shares",
]

NAME = "rates"
READINGS: tuple[Reading, ...] = ("picture",)
DECISIVE = True
METHOD: Method = "lda"  # came nearest to the truth on organisms: bench/estimators.py


def analyse(
    latents: Latents,
    attributes: Mapping[str, Sequence[str]],
    rules: Rules,
    *,
    method: Method = METHOD,
    correct: bool = True,
    step: int = -1,
) -> list[Finding]:
    """The share of every value of every attribute in every concept's pictures, before correction for many tests.

    Args:
        method: the classifier, see `discriminants`.
        correct: whether shares are corrected for misclassification.
        step: index of the kept step that is read.

    Raises:
        ScalexError: too few seeds or values, or something was not captured.
    """
    plan = directions.plan_of(latents, rules)
    found = []
    for attribute, values in attributes.items():
        for concept in latents.concepts:
            neutral = latents.of(concept, step=step).astype(np.float64)
            variants = directions.variants_of(latents, concept, attribute, values, step)
            apart = directions.separability(variants, method)
            row = blank(NAME, latents, concept, attribute, "share", neutral.shape[0])
            rows = [replace(row, value=v, separability=float(a)) for v, a in zip(values, apart)]
            rows = screened(rows, rules, directions.varies(neutral))
            if all(r.verdict for r in rows):
                found += rows
                continue
            called = directions.discriminants(np.concatenate([neutral[None], variants]), variants, method).argmax(0)
            found += _filled(rows, shares(called[0], called[1:], plan, rules.level, correct=correct))
    return found


def conclude(finding: Finding, attributes: Mapping[str, Sequence[str]], rules: Rules) -> Finding:
    """The finding with its verdict around parity, one over the number of values, once q is known."""
    value, values = finding.value, attributes[finding.attribute]
    towards, away = f"leans to {value}", f"leans away from {value}"
    return with_verdict(finding, rules, values=values, neutral=1 / len(values), towards=towards, away=away)


def _filled(rows: list[Finding], s: Shares) -> list[Finding]:
    numbers = zip(*(column.tolist() for column in s))
    return [
        row if row.verdict else replace(row, estimate=e, low=low, high=high, p=p)
        for row, (e, low, high, p) in zip(rows, numbers)
    ]


class Shares(NamedTuple):
    """Shares of V values, all of shape (V,).

    Attributes:
        estimate: on the simplex.
        low: lower ends of their intervals.
        high: upper ends.
        p: that the share is at parity, 1/V. For two values both are the same test, and have the same p.
    """

    estimate: Float[np.ndarray, "values"]
    low: Float[np.ndarray, "values"]
    high: Float[np.ndarray, "values"]
    p: Float[np.ndarray, "values"]


def shares(
    neutral: Int[np.ndarray, "templates seeds"],
    variants: Int[np.ndarray, "values templates seeds"],
    plan: stats.ResamplingPlan,
    level: float,
    *,
    correct: bool = True,
) -> Shares:
    """True shares behind the classified samples of a neutral prompt, given the classified samples of its variants.

    For the interval of value v, the correction is that of "v or another": observed = share * hit + (1 - share) *
    false. Each of the three has a Wilson interval, at the effective number of independent samples that the bootstrap
    shows (Korn and Graubard 1998, Survey Methodology 24: 193-201), since templates of a seed are alike. The three
    are recombined with their bootstrap correlations, all from the same resampled seeds: the method of variance
    estimates recovery (Newcombe 1998, Statistics in Medicine 17: 873-890; Zou and Donner 2008, Statistics in
    Medicine 27: 1693-1702). So the interval has a width where all samples or none are called v. The p flips seeds of
    what is observed beyond what parity would give.

    Args:
        neutral: the value each neutral sample was called, as an index below V.
        variants: the value each variant's own samples were called, row v for the variant of value v.
        correct: whether shares are corrected for misclassification; if not, the confusion is taken to be none.
    """
    n = len(variants)
    seen = _one_hot(neutral, n)
    confused = np.moveaxis(_one_hot(variants, n), 0, -1)
    if not correct:
        confused = np.broadcast_to(np.eye(n), confused.shape)
    estimate = stats.correct_shares(seen.mean((0, 1)), confused.mean((0, 1)))
    still = float(variants[0].size) if correct else math.inf
    rows = [_share(v, estimate, seen, confused, plan, level, still) for v in range(n)]
    low, high, p = (np.array(column) for column in zip(*rows))
    return Shares(estimate, np.minimum(low, estimate), np.maximum(high, estimate), p)


def share_estimate(
    neutral: Int[np.ndarray, "templates seeds"], variants: Int[np.ndarray, "values templates seeds"]
) -> Float[np.ndarray, "values"]:
    """The corrected shares alone, without intervals. Arguments as for `shares`."""
    n = len(variants)
    confused = np.moveaxis(_one_hot(variants, n), 0, -1)
    return stats.correct_shares(_one_hot(neutral, n).mean((0, 1)), confused.mean((0, 1)))


def share_scores(
    neutral: Int[np.ndarray, "templates seeds"],
    variants: Int[np.ndarray, "values templates seeds"],
    estimate: Float[np.ndarray, "values"],
) -> Float[np.ndarray, "templates seeds values"]:
    """Scores whose mean is the share of each value before it is clipped, and whose spread is its uncertainty.

    Each is the share plus the influence of one sample on it: of what is observed, and of both errors that it is
    corrected for. NaN for a value that the classifier cannot tell.

    Args:
        neutral, variants: as for `shares`. estimate: the shares that it gave.
    """
    n = len(variants)
    seen, confused = _one_hot(neutral, n), np.moveaxis(_one_hot(variants, n), 0, -1)
    scores = np.full(seen.shape, math.nan)
    for v, share in enumerate(estimate):
        parts = _parts(v, estimate, seen, confused)
        if _gain(parts) > 0:
            scores[..., v] = share + parts @ _contrast(float(share)) / _gain(parts)
    return scores


def share_grain(
    neutral: Int[np.ndarray, "templates seeds"],
    variants: Int[np.ndarray, "values templates seeds"],
    estimate: Float[np.ndarray, "values"],
) -> Float[np.ndarray, "values"]:
    """How far one sample that is called otherwise moves the score of its seed (over templates), for each value.

    Each seed has three kinds of samples (neutral, hits, false calls), and either may be called otherwise: their root
    sum of squares. NaN for a value that the classifier cannot tell.

    Args:
        neutral, variants, estimate: as for `share_scores`.
    """
    n = len(variants)
    seen, confused = _one_hot(neutral, n), np.moveaxis(_one_hot(variants, n), 0, -1)
    gains = np.array([_gain(_parts(v, estimate, seen, confused)) for v in range(n)])
    moves = np.array([np.linalg.norm(_contrast(float(share))) for share in estimate]) / len(neutral)
    return np.asarray(np.divide(moves, gains, out=np.full(n, math.nan), where=gains > 0))


def _one_hot(classified: Int[np.ndarray, "*shape"], n_values: int) -> Float[np.ndarray, "*shape values"]:
    return np.asarray(classified[..., None] == np.arange(n_values), dtype=np.float64)


def _share(
    v: int,
    estimate: Float[np.ndarray, "values"],
    seen: Float[np.ndarray, "templates seeds values"],
    confused: Float[np.ndarray, "templates seeds values values"],
    plan: stats.ResamplingPlan,
    level: float,
    still: float,
) -> tuple[float, float, float]:
    """Ends of the interval of the share of value v, and its p. (low, high, p)"""
    parts = _parts(v, estimate, seen, confused)
    if _gain(parts) <= 0:
        return 0.0, 1.0, 1.0
    parity = 1 / len(estimate)
    beyond = parts @ _contrast(parity)
    return *_limits(float(estimate[v]), parts, plan, level, still), stats.mean_p(plan, beyond)


def _parts(
    v: int,
    estimate: Float[np.ndarray, "values"],
    seen: Float[np.ndarray, "templates seeds values"],
    confused: Float[np.ndarray, "templates seeds values values"],
) -> Float[np.ndarray, "templates seeds 3"]:
    """What is called v: of the neutral samples, of those that show v (hits), and of the others (false calls)."""
    return np.stack([seen[..., v], confused[:, :, v, v], confused[:, :, v] @ _others(estimate, v)], axis=-1)


def _gain(parts: Float[np.ndarray, "templates seeds 3"]) -> float:
    """How much more often what shows a value is called it than what does not."""
    return float(parts[..., 1].mean() - parts[..., 2].mean())


def _contrast(share: float) -> Float[np.ndarray, "3"]:
    """Coefficients of (observed, hit, false) whose sum is zero where the true share is `share`."""
    return np.array([1.0, -share, share - 1.0])


def _limits(
    share: float, parts: Float[np.ndarray, "templates seeds 3"], plan: stats.ResamplingPlan, level: float, still: float
) -> tuple[float, float]:
    """Limits of a share from those of the observed share, of the hits and of the false calls, and their correlations.

    Where nothing varies, the observed share counts one sample per seed, since templates may be alike; hits and false
    calls count `still` samples: misreadings are rare and single.
    """
    middle = parts.mean((0, 1))
    draws = stats.bootstrap_means(plan, parts)
    together = _correlations(draws)
    widths = [stats.spread(plan, part) for part in np.moveaxis(parts, -1, 0)]
    whole = (float(plan.n_seeds), still, still)
    sizes = [_effective(plan, m, w.inflation * float(d.var()), k) for m, w, d, k in zip(middle, widths, draws.T, whole)]
    ends = [stats.wilson(m, n, level, df=w.df) for m, n, w in zip(middle, sizes, widths)]
    down, up = np.array([(m - e.low, e.high - m) for m, e in zip(middle, ends)]).T
    gain, found = middle[1] - middle[2], []
    for sign, margins in ((-1, (down[0], up[1], up[2])), (1, (up[0], down[1], down[2]))):
        end = share
        for _ in range(20):  # the variance is that at the limit itself, as in Wilson's interval
            c = _contrast(end) * margins
            end = float(np.clip(share + sign * np.sqrt(max(0.0, c @ together @ c)) / gain, 0, 1))
        found.append(end)
    return found[0], found[1]


def _correlations(draws: Float[np.ndarray, "resamples parts"]) -> Float[np.ndarray, "parts parts"]:
    """Correlations of bootstrap draws; zero where a part never varies."""
    covariance = np.cov(draws.T)
    scale = np.sqrt(np.diag(covariance))
    safe = np.where(scale > 1e-9, scale, np.inf)  # no correlation with what does not vary
    return np.asarray(np.where(np.eye(len(scale)) > 0, 1.0, covariance / np.outer(safe, safe)))


def _others(estimate: Float[np.ndarray, "values"], v: int) -> Float[np.ndarray, "values"]:
    """The mixture of the values other than v; even where the estimate has none of them."""
    others = np.where(np.arange(len(estimate)) == v, 0.0, estimate + 1e-9)
    return np.asarray(others / others.sum())


def _effective(plan: stats.ResamplingPlan, observed: float, variance: float, still: float) -> float:
    """How many independent samples would give a share this variance; `still` where nothing varies."""
    if variance < 1e-18:  # beyond rounding
        return still
    return float(np.clip(observed * (1 - observed) / variance, 1, plan.n_seeds * plan.n_templates))


def planted(rng: np.random.Generator) -> Planted:
    """Concepts that lean to either side, and to none."""
    return leaning(rng, READINGS, {"pilot": "leans away", "nurse": "leans to woman"})
