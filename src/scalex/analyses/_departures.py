"""How far the settings of a choice depart from each other, and what that says of a finding.

A row says by how much the setting that differs most departs from the mean of the others (of two, the second from the
first), seed by seed. Its interval and p are corrected for having picked it of K: Bonferroni (1936), level
1 - (1 - level) / K, and K p; K is the number of settings, times the values where a finding has several. *Robust* is an
equivalence test, as *balanced* is: all K intervals lie inside the margin. Halves of the seeds differ by chance alone,
so nothing is tested there: the row says how far chance still reaches.

Shares are counts, and seeds that are all called alike under two settings do not make their shares the same. So each
setting is given half a call more of either kind in one seed, as Agresti and Min (2005, Statistics in Medicine 24:
729-740) do for matched proportions: an interval of n seeds that never differ still reaches about 2/n.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy import stats as distributions

from scalex import stats
from scalex.records import Finding, Rules

__all__ = ["CHOICES", "Held", "concluded", "departing", "halves"]

CHOICES = {
    "template": "template",
    "wording": "wording",
    "seeds": "half of the seeds",
    "step": "step",
    "reference": "reference",
}


class Held(NamedTuple):
    """A finding's numbers under one setting, V of them.

    Attributes:
        name: of the setting. scores: by seed; their mean is the number, their spread its uncertainty. shape (seeds, V)
        grain: how far a sample that is called otherwise moves the score of its seed; 0 for what is not counted.
            shape (V,)
        mark: the same for settings that have the same latents.
        labels: of the V numbers, for reasons; one empty text for one number.
    """

    name: str
    scores: Float[np.ndarray, "seeds values"]
    grain: Float[np.ndarray, "values"]
    mark: int = 0
    labels: tuple[str, ...] = ("",)


class Departure(NamedTuple):
    """How far one setting departs from the mean of the others."""

    name: str
    estimate: float
    low: float
    high: float
    p: float


def halves(whole: Held) -> list[Held]:
    """Even and odd seeds."""
    return [whole._replace(name=f"{name} seeds", scores=whole.scores[i::2]) for i, name in enumerate(("even", "odd"))]


def departing(
    row: Finding, choice: str, held: Sequence[Held], plan: stats.ResamplingPlan, margin: float, rules: Rules
) -> Finding:
    """The row with its numbers and, as its reason, the setting that differs most; before correction.

    Args:
        margin: in units of the finding.
    """
    if not all(np.isfinite(h.scores).all() for h in held):
        return replace(row, verdict="not expressed", reason="under a setting the variants are not told apart")
    if choice != "seeds" and len({h.mark for h in held}) == 1:
        return replace(row, verdict="undecided", reason="all settings gave the same latents: they read the same")
    found = _between_halves(held, rules.level) if choice == "seeds" else _departures(held, plan, rules.level)
    most = min(found, key=lambda d: (0.0 if math.isnan(d.p) else d.p, -abs(d.estimate)))
    low, high = min(d.low for d in found), max(d.high for d in found)
    alone = most.low <= -margin or margin <= most.high
    ends = (most.low, most.high) if alone else (low, high)  # robust is what all settings together leave inside
    setting = f"{most.name} ({most.estimate:+.2f})"
    return replace(row, estimate=most.estimate, low=ends[0], high=ends[1], p=most.p, reason=setting)


def concluded(row: Finding, choice: str, margin: float, level: float) -> Finding:
    """*Robust*, *depends on the ...* or *undecided*, once q is known."""
    if row.verdict:
        return row
    what, setting = row.unit.removesuffix(" difference"), row.reason
    if -margin < row.low and row.high < margin:
        return replace(row, verdict="robust", reason=f"no setting moves the {what} by {margin:g}; most: {setting}")
    if choice != "seeds" and row.q <= 1 - level:
        reason = f"q {row.q:.2g} after correction; differs: {setting}"
        return replace(row, verdict=f"depends on the {CHOICES[choice]}", reason=reason)
    return replace(row, verdict="undecided", reason=f"more seeds would decide; most: {setting}")


# ---------------------------------------------------------------------------------------------------- departures


def _departures(held: Sequence[Held], plan: stats.ResamplingPlan, level: float) -> list[Departure]:
    """Of each setting and value."""
    k, n_values = len(held), held[0].scores.shape[1]
    chosen = range(k) if k > 2 else (1,)
    tests = len(chosen) * n_values
    plan = replace(plan, template_counts=np.ones((len(plan.seed_counts), 1), np.int32))
    grains = np.array([h.grain for h in held])
    found = []
    for i in chosen:
        contrast = np.full(k, -1 / (k - 1))
        contrast[i] = 1.0
        scores = np.tensordot(contrast, np.array([h.scores for h in held]), 1)
        unseen = (contrast**2 @ grains**2) / 2
        for v in range(n_values):
            name = _named(held[i], v)
            found.append(_departure(name, scores[:, v], float(unseen[v]), plan, 1 - (1 - level) / tests, tests))
    return found


def _departure(
    name: str, scores: Float[np.ndarray, "seeds"], unseen: float, plan: stats.ResamplingPlan, level: float, tests: int
) -> Departure:
    middle = float(scores.mean())
    p = min(1.0, stats.sign_flip_p(plan, scores[None]) * tests)
    if unseen:
        n = len(scores)
        half = float(distributions.t.isf((1 - level) / 2, n - 1)) * math.sqrt(_variance(scores, unseen))
        return Departure(name, middle, middle - half, middle + half, p)
    low, high = stats.bootstrap_interval(plan, scores[None], level)
    return Departure(name, middle, middle, middle, 1.0) if math.isnan(low) else Departure(name, middle, low, high, p)


def _between_halves(held: Sequence[Held], level: float) -> list[Departure]:
    """Of the odd seeds from the even ones, with Welch's interval, since they share no seed."""
    even, odd = held
    level = 1 - (1 - level) / even.scores.shape[1]
    return [
        _welch(_named(odd, v), even.scores[:, v], odd.scores[:, v], float(grain) ** 2 / 2, level)
        for v, grain in enumerate(odd.grain)
    ]


def _welch(
    name: str, even: Float[np.ndarray, "even"], odd: Float[np.ndarray, "odd"], unseen: float, level: float
) -> Departure:
    middle = float(odd.mean() - even.mean())
    if not unseen and max(np.ptp(odd), np.ptp(even)) <= 1e-9 * max(np.abs(odd).max(), np.abs(even).max()):
        return Departure(name, middle, middle, middle, math.nan)
    parts = [(_variance(half, unseen), len(half) - 1) for half in (even, odd)]
    total = sum(v for v, _ in parts)
    df = total**2 / sum(v**2 / n for v, n in parts)
    half = float(distributions.t.isf((1 - level) / 2, df)) * math.sqrt(total)
    return Departure(name, middle, middle - half, middle + half, math.nan)


def _variance(scores: Float[np.ndarray, "seeds"], unseen: float) -> float:
    """Of the mean score, with the square that calls which were not seen add to the sum of squares."""
    n = len(scores)
    return (float(((scores - scores.mean()) ** 2).sum()) + unseen) / (n * (n - 1))


def _named(held: Held, value: int) -> str:
    return f"{held.name}, {held.labels[value]}" if held.labels[value] else held.name
