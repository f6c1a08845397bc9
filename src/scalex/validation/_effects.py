"""From readouts of pushed pictures to effects and verdicts. Pure numbers, no model.

A readout is a number in 0..1 for each alpha, template and seed: 0 shows the first value, 1 the second, 1/2 neither. All
alphas share their seeds, so everything is compared within a seed, and seeds are what is resampled.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy.stats import rankdata

from scalex import stats
from scalex.records import Rules

__all__ = [
    "CONCEPT",
    "Drift",
    "Effect",
    "Evidence",
    "Trend",
    "drift",
    "effect",
    "position",
    "slopes",
    "trend",
    "verdict",
]

CONCEPT = "the concept"  # as something that should stay
_BLOCK = 1 << 21  # numbers held at once while shuffling: 16 MiB

Curve = Float[np.ndarray, "alphas templates seeds"]


def position(scores: Float[np.ndarray, "*n values"], first: int, second: int) -> Float[np.ndarray, "*n"]:
    """Where between two values what is shown stands: 0 at the first, 1 at the second, 1/2 where it is neither or
    nothing was recognised."""
    shown = np.nan_to_num(scores, nan=0.0)
    return np.asarray((1 + shown[..., second] - shown[..., first]) / 2)


class Effect(NamedTuple):
    """What a push does to a readout, per step of alpha.

    Attributes:
        slope: of the least-squares line. low, high: its interval over seeds. p: that it is 0.
    """

    slope: float
    low: float
    high: float
    p: float


def slopes(alphas: Sequence[float], curve: Curve) -> Float[np.ndarray, "templates seeds"]:
    """The slope of each sample's own line; their mean is the slope of the mean curve."""
    centred = np.asarray(alphas, dtype=np.float64) - np.mean(alphas)
    return np.asarray(np.tensordot(centred / (centred @ centred), curve, axes=1))


def effect(alphas: Sequence[float], curve: Curve, rules: Rules) -> Effect:
    """The slope with its interval (bootstrap over seeds) and its p (sign flips of seeds).

    Where all seeds agree there is nothing to resample. Wilson's interval then says how many other seeds would agree, of
    which the rest is taken not to respond at all.

    Raises:
        ScalexError: fewer seeds than carry an interval.
    """
    each = slopes(alphas, curve)
    plan = _plan(each, rules)
    low, high = stats.bootstrap_interval(plan, each, rules.level)
    slope = float(each.mean())
    if math.isnan(low):
        agree = stats.wilson(1.0, float(plan.n_seeds), rules.level).low
        low, high = sorted((agree * slope, slope))
    return Effect(slope, low, high, stats.mean_p(plan, each))


def _plan(scores: Float[np.ndarray, "templates seeds"], rules: Rules) -> stats.ResamplingPlan:
    rng = np.random.default_rng(rules.seed)
    return stats.resampling_plan(scores.shape[0], scores.shape[1], rules.resamples, rng, rules.permutations)


class Trend(NamedTuple):
    """Whether a readout rises all the way.

    Attributes:
        rho: rank correlation of alpha and the mean readout; NaN where the readout never changes.
        p: that alphas do not matter, against a rise.
        fall: how far the mean readout falls at most, from any alpha to a greater one. fall_p: that seeds do not change
            between these two, all pairs of alphas counted (Bonferroni); 1 where it never falls.
    """

    rho: float
    p: float
    fall: float
    fall_p: float


def trend(alphas: Sequence[float], curve: Curve, rules: Rules) -> Trend:
    """Page's test for ordered alternatives, seeds as blocks (Page 1963, Journal of the American Statistical Association
    58: 216-230).

    Readouts tie often, so its p is not from tables: alphas are shuffled within seeds. Never 0 (Phipson and Smyth 2010).
    """
    order = np.argsort(alphas)
    by_seed, mean = curve[order].mean(1), curve[order].mean((1, 2))
    ranks = rankdata(by_seed, axis=0)
    places = np.arange(1, len(ranks) + 1) - (len(ranks) + 1) / 2
    observed, rng = float((places @ ranks).sum()), np.random.default_rng(rules.seed)
    count, size = 0, max(1, _BLOCK // ranks.size)
    for start in range(0, rules.permutations, size):
        keys = rng.random((min(size, rules.permutations - start), *ranks.shape))
        shuffled = np.take_along_axis(np.broadcast_to(ranks, keys.shape), keys.argsort(1), 1)
        count += int((np.einsum("a,nas->n", places, shuffled) >= observed - 1e-9).sum())
    p = (1 + count) / (1 + rules.permutations)
    return Trend(_correlation(places, rankdata(mean)), p, *_fall(curve[order], rules))


def _fall(curve: Curve, rules: Rules) -> tuple[float, float]:
    """The greatest fall between two alphas of a curve in order, and its p."""
    mean, n = curve.mean((1, 2)), len(curve)
    falls = {(i, j): float(mean[i] - mean[j]) for j in range(n) for i in range(j)}
    (before, after), fall = max(falls.items(), key=lambda pair: pair[1])
    if fall <= 0:
        return 0.0, 1.0
    change = curve[before] - curve[after]
    return fall, min(1.0, len(falls) * stats.mean_p(_plan(change, rules), change))


def _correlation(a: Float[np.ndarray, "n"], b: Float[np.ndarray, "n"]) -> float:
    return float(np.corrcoef(a, b)[0, 1]) if np.ptp(b) else math.nan


class Drift(NamedTuple):
    """How something that should stay changed at one alpha, against no push.

    Attributes:
        what: the attribute; "the concept" for whether pictures still show it. alpha: where it changed most.
        shift: mean change of its readout. p: that it is 0. churn: mean size of the changes, whichever way.
    """

    what: str
    alpha: float
    shift: float
    p: float
    churn: float


def drift(what: str, alphas: Sequence[float], curve: Curve, ends: Sequence[float], rules: Rules) -> Drift:
    """The greatest mean change at one of the `ends`, which are among the alphas, as 0 is. Of `the concept` that is the
    greatest loss: pictures that show it more clearly than before do no harm. The p counts every end that was looked at
    (Bonferroni)."""
    places = {alpha: i for i, alpha in enumerate(alphas)}
    found = []
    for end in ends:
        change = curve[places[end]] - curve[places[0.0]]
        p = min(1.0, len(ends) * stats.mean_p(_plan(change, rules), change))
        found.append(Drift(what, end, float(change.mean()), p, float(np.abs(change).mean())))
    return max(found, key=lambda d: -d.shift if what == CONCEPT else abs(d.shift))


@dataclass(frozen=True)
class Evidence:
    """Everything that a verdict rests on.

    Attributes:
        effect, q: of the target, corrected over all cases. trend: of the target.
        compared: the slope over the alphas at which controls were tried. controls: theirs, by kind.
        drifts: of all that should stay.
    """

    effect: Effect
    q: float
    trend: Trend
    compared: float
    controls: dict[str, list[float]]
    drifts: list[Drift]

    @property
    def off_target(self) -> float:
        """The greatest change of what should stay, as a share; 0 for a concept that shows more clearly than before."""
        sizes = [max(0.0, -d.shift) if d.what == CONCEPT else abs(d.shift) for d in self.drifts]
        return max(sizes, default=math.nan)

    @property
    def chance(self) -> float:
        """The greatest slope, either way, of a direction that means nothing; NaN where none was tried."""
        return max((abs(s) for slopes in self.controls.values() for s in slopes), default=math.nan)

    def dragged(self, rules: Rules) -> list[Drift]:
        """What changed beyond the margin and beyond chance."""
        q = stats.benjamini_hochberg(np.array([d.p for d in self.drifts], dtype=np.float64))
        lost = [d.shift < 0 or d.what != CONCEPT for d in self.drifts]
        sure = [d for d, one, own in zip(self.drifts, q, lost) if own and one <= 1 - rules.level]
        return [d for d in sure if abs(d.shift) >= rules.margin]


def verdict(evidence: Evidence, rules: Rules) -> stats.Verdict:
    """`acts`, `acts but drags X along`, or `does not act`, and why.

    A direction acts where its slope is above 0 (q <= 1 - level) and at least the rules' margin, the readout rises with
    alpha and nowhere falls by the margin beyond chance, and the slope is twice that of every direction that means
    nothing. It drags along what changes by the margin or more at alpha -1 or 1, beyond chance (q over all that should
    stay).
    """
    why = _idle(evidence, rules)
    if why:
        return stats.Verdict("does not act", why)
    said = f"{_told(evidence)}; off target at most {_shares(evidence.off_target)}"
    dragged = evidence.dragged(rules)
    if not dragged:
        return stats.Verdict("acts", said)
    named = " and ".join(d.what for d in dragged)
    moved = ", ".join(f"{d.what} {_shares(d.shift, sign=True)} at alpha {d.alpha:g}" for d in dragged)
    return stats.Verdict(f"acts but drags {named} along", f"{_told(evidence)}; {moved}")


def _idle(evidence: Evidence, rules: Rules) -> str:
    """Why a direction does not act; empty where it does."""
    slope, trend, limit = evidence.effect.slope, evidence.trend, 1 - rules.level
    each = f"{_shares(slope, sign=True)} per alpha"
    reasons = {
        f"a slope of {each} is no more than chance gives, q {evidence.q:.2g}": not evidence.q <= limit,
        f"it goes the other way, {each}": slope <= 0,
        f"{each} is less than the margin of {_shares(rules.margin)}": slope < rules.margin,
        f"what is shown does not rise with alpha, p {trend.p:.2g}": not trend.p <= limit,
        f"it does not rise all the way: it falls by {_shares(trend.fall)} on its way": (
            trend.fall >= rules.margin and trend.fall_p <= limit
        ),
        f"directions that mean nothing do as much: {_shares(evidence.chance)} per alpha": (
            evidence.compared < 2 * evidence.chance
        ),
    }
    return next((reason for reason, holds in reasons.items() if holds), "")


def _told(evidence: Evidence) -> str:
    chance = evidence.chance
    beside = "" if math.isnan(chance) else f"; random and shuffled directions at most {_shares(chance)}"
    return f"q {evidence.q:.2g}, rank correlation with alpha {evidence.trend.rho:.2f}{beside}"


def _shares(number: float, *, sign: bool = False) -> str:
    if math.isnan(number):
        return "unknown"
    return f"{100 * number:+.0f} %" if sign else f"{100 * number:.0f} %"
