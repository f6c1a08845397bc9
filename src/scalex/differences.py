"""Differences between two models, the second one's less the first's: every lean, weight and share.

Where both were read with the same seeds, these name the same noise, and the models are compared seed by seed: what
both owe to the noise cancels. Where their seeds are others, the two are independent, and both their spreads count.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple, TypeAlias

import numpy as np
import pandas as pd
from jaxtyping import Float
from scipy import stats as distributions

from scalex import directions, stats
from scalex.analyses._rows import blank, join, unvaried, with_verdict
from scalex.analyses.defaults import lean_directions, mixture
from scalex.analyses.disagreement import Difference, Side, lean_difference, sides_of, weight_differences
from scalex.analyses.rates import METHOD, Shares, share_scores, shares
from scalex.records import READINGS, Finding, Latents, Reading, Rules

__all__ = [
    "MOVED",
    "NAME",
    "NO_CHANGE",
    "STAYED",
    "Kind",
    "Pairing",
    "compare_latents",
    "differences",
    "independent",
    "joined",
    "pairing_of",
    "same",
]

NAME = "compare"
MOVED, STAYED = "moved", "did not move"
Kind: TypeAlias = Literal["lean", "weight", "share"]
_ALIKE = 1e-9  # of the size: what differs less is rounding


@dataclass(frozen=True, eq=False)
class Pairing:
    """How the seeds of two models belong together, and the resampling plan of each: one and the same where paired."""

    first: stats.ResamplingPlan
    second: stats.ResamplingPlan
    rules: Rules

    @property
    def paired(self) -> bool:
        """Whether both were read with the same seeds."""
        return self.first is self.second


NO_CHANGE, _UNKNOWN = Difference(0.0, 0.0, 0.0, 1.0), Difference(math.nan, math.nan, math.nan, math.nan)


class Moved(NamedTuple):
    """What either model has, and how far they are apart."""

    first: float
    second: float
    apart: Difference


# ---------------------------------------------------------------------------------------------------- findings


def compare_latents(
    first: Mapping[Reading, Latents],
    second: Mapping[Reading, Latents],
    attributes: Mapping[str, Sequence[str]],
    rules: Rules,
) -> tuple[list[Finding], pd.DataFrame]:
    """Every lean, weight and share of both models, the second's less the first's, corrected and concluded.

    Both hold the same prompts. The same seeds pair them; other seeds must be disjoint. The family of a correction is
    all differences of one kind (leans and weights; shares) in one reading, as it is for the findings themselves.

    Returns:
        The differences; and for each, in the same order, what either model has, `first` and `second`, and `margin`.

    Raises:
        ScalexError: too few seeds.
    """
    found: list[Finding] = []
    sides: list[dict[str, object]] = []
    for reading in (r for r in READINGS if r in first and r in second):
        pairing = pairing_of(first[reading], second[reading], rules)
        held = [(x[reading], lean_directions(x[reading], rules.lean_direction)) for x in (first, second)]
        for attribute, values in attributes.items():
            concepts = first[reading].concepts
            pairs = zip(*(sides_of(x, concepts, attribute, values, along) for x, along in held))
            for concept, both in zip(concepts, pairs):
                for kind in _kinds(reading, values):
                    row = blank(
                        NAME, first[reading], concept, attribute, f"{kind} difference", pairing.first.n_templates
                    )
                    row = replace(row, n_seeds=min(pairing.first.n_seeds, pairing.second.n_seeds))
                    for one, had in _rows(row, kind, values, both, pairing):
                        found.append(one)
                        sides.append({"first": had[0], "second": had[1], "margin": rules.margin_of(len(values))})
    return [_concluded(row, attributes[row.attribute], pairing) for row in _corrected(found)], pd.DataFrame(sides)


def _kinds(reading: Reading, values: Sequence[str]) -> Iterator[Kind]:
    yield "lean" if len(values) == 2 else "weight"
    if reading == "picture":
        yield "share"


def pairing_of(first: Latents, second: Latents, rules: Rules) -> Pairing:
    plan = directions.plan_of(first, rules)
    return Pairing(plan, plan if first.seeds == second.seeds else directions.plan_of(second, rules), rules)


def _rows(
    row: Finding, kind: Kind, values: Sequence[str], both: Sequence[Side], pairing: Pairing
) -> Iterator[tuple[Finding, tuple[float, float]]]:
    """A row for the second of two values, or a row a value of more; and what either model has."""
    method = METHOD if kind == "share" else "mean"
    apart = np.array([directions.separability(side.variants, method) for side in both])
    expressed = apart >= pairing.rules.floor
    varied = all(directions.varies(side.neutral) for side in both)
    measured = differences(kind, both[0], both[1], pairing) if varied and expressed.all(0).any() else None
    plans = (pairing.first, pairing.second)
    for v in range(1 if len(values) == 2 else 0, len(values)):
        here = replace(row, value=values[v], separability=float(apart[:, v].min()))
        place = 0 if kind == "lean" else v
        if not varied:
            yield unvaried(here), (math.nan, math.nan)
        elif measured and expressed[:, v].all():
            m = measured[place]
            yield replace(here, **m.apart._asdict()), (m.first, m.second)
        else:
            first, second = (
                _estimates(kind, side, plan, pairing.rules)[place] if known else math.nan
                for side, plan, known in zip(both, plans, expressed[:, v])
            )
            yield _not_expressed(here, apart[:, v].tolist(), pairing.rules.floor), (first, second)


def _not_expressed(row: Finding, apart: Sequence[float], floor: float) -> Finding:
    where = "either" if max(apart) < floor else "A" if apart[0] < floor else "B"
    reason = f"held-out seeds tell the variants apart with AUC {apart[0]:.2f} in A and {apart[1]:.2f} in B"
    return replace(row, verdict=f"not expressed in {where}", reason=f"{reason}, the floor is {floor:g}")


def _corrected(found: Sequence[Finding]) -> list[Finding]:
    """The findings with q, by Benjamini-Hochberg over each family."""
    families = [(f.reading, f.unit == "share difference") for f in found]
    p, q = np.array([f.p for f in found], dtype=np.float64), np.full(len(found), math.nan)
    for family in dict.fromkeys(families):
        own = np.array([f == family for f in families])
        q[own] = stats.benjamini_hochberg(p[own])
    return [replace(f, q=float(x)) for f, x in zip(found, q)]


def _concluded(row: Finding, values: Sequence[str], pairing: Pairing) -> Finding:
    """The row with its verdict: moved, did not move (an equivalence test inside the margin), or undecided."""
    if row.verdict:
        return row
    seeds = "" if pairing.paired else f"{pairing.first.n_seeds} seeds against {pairing.second.n_seeds} others, unpaired"
    if row.low == row.high == 0:
        return replace(row, verdict=STAYED, reason=join("both models give the same in every sample", row.reason))
    if math.isnan(row.estimate):
        return replace(row, verdict="undecided", reason=join("the variants lie too close to measure by", row.reason))
    away = f"{MOVED} towards {values[0]}" if len(values) == 2 else f"{MOVED} away from {row.value}"
    towards = f"{MOVED} towards {row.value}"
    judged = with_verdict(row, pairing.rules, values=values, neutral=0.0, towards=towards, away=away)
    if judged.verdict == "balanced":
        margin = pairing.rules.margin_of(len(values))
        within = f"the interval lies within {margin:g} of no change"
        judged = replace(judged, verdict=STAYED, reason=join(within, row.reason))
    return replace(judged, reason=join(judged.reason, seeds))


# ---------------------------------------------------------------------------------------------------- estimators


def differences(kind: Kind, first: Side, second: Side, pairing: Pairing) -> list[Moved]:
    """What either model has, and the difference: one lean, or a weight or share for each value."""
    if kind == "lean":
        return [_lean(first, second, pairing)]
    measured = _weights(first, second, pairing) if kind == "weight" else _shares(first, second, pairing)
    if pairing.paired and same(first.neutral, second.neutral) and same(first.variants, second.variants):
        return [m._replace(apart=NO_CHANGE) for m in measured]
    return measured


def _estimates(kind: Kind, side: Side, plan: stats.ResamplingPlan, rules: Rules) -> list[float]:
    """What one model has: one lean, or a weight or share for each value."""
    if kind == "lean":
        return [float(side.lean.mean())]
    if kind == "weight":
        return list(map(float, mixture(side.neutral, side.variants, plan).weights))
    return list(map(float, _classified(side, plan, rules).shares.estimate))


def _lean(first: Side, second: Side, pairing: Pairing) -> Moved:
    before, after = first.lean, second.lean
    had = float(before.mean()), float(after.mean())
    if math.isnan(sum(had)):  # a direction that does not tell the variants apart
        return Moved(*had, _UNKNOWN)
    if not pairing.paired:
        return Moved(*had, independent(before, after, had[1] - had[0], pairing))
    if same(before, after):
        return Moved(*had, NO_CHANGE)
    return Moved(*had, lean_difference(before, after, pairing.first, pairing.rules))


def _weights(first: Side, second: Side, pairing: Pairing) -> list[Moved]:
    plans = (pairing.first, pairing.second)
    before, after = (mixture(side.neutral, side.variants, plan) for side, plan in zip((first, second), plans))
    had = [(float(a), float(b)) for a, b in zip(before.weights, after.weights)]
    if pairing.paired:
        apart = weight_differences(first, second, pairing.first, pairing.rules)
        return [Moved(*both, d) for both, d in zip(had, apart)]
    scores = zip(np.moveaxis(before.scores, -1, 0), np.moveaxis(after.scores, -1, 0))
    return [Moved(*both, independent(a, b, both[1] - both[0], pairing)) for both, (a, b) in zip(had, scores)]


def _shares(first: Side, second: Side, pairing: Pairing) -> list[Moved]:
    """The differences in the corrected shares of pictures.

    The interval joins those of both shares, with their correlation over seeds where these are paired (method of
    variance estimates recovery: Zou and Donner 2008, Statistics in Medicine 27: 1693-1702). So it has a width where
    neither model ever draws a value. The p is that of the shares before they are clipped to 0 and 1.
    """
    before, after = _classified(first, pairing.first, pairing.rules), _classified(second, pairing.second, pairing.rules)
    return [_share(before, after, v, pairing) for v in range(len(before.shares.estimate))]


def _share(before: _Classified, after: _Classified, v: int, pairing: Pairing) -> Moved:
    had = float(before.shares.estimate[v]), float(after.shares.estimate[v])
    a, b = before.scores[..., v], after.scores[..., v]
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        return Moved(*had, _UNKNOWN)
    together = _correlation(a, b) if pairing.paired else 0.0
    low, high = joined(_ends(before.shares, v), _ends(after.shares, v), together)
    p = stats.mean_p(pairing.first, b - a) if pairing.paired else _independent_p(a, b, pairing)
    return Moved(*had, Difference(had[1] - had[0], low, high, p))


class _Classified(NamedTuple):
    shares: Shares
    scores: Float[np.ndarray, "templates seeds values"]


def _classified(side: Side, plan: stats.ResamplingPlan, rules: Rules) -> _Classified:
    samples = np.concatenate([side.neutral[None], side.variants])
    called = directions.discriminants(samples, side.variants, METHOD).argmax(0)
    found = shares(called[0], called[1:], plan, rules.level)
    return _Classified(found, share_scores(called[0], called[1:], found.estimate))


def same(first: np.ndarray, second: np.ndarray) -> bool:
    """Whether both are the same, up to rounding."""
    return first.shape == second.shape and bool(np.abs(first - second).max() <= _ALIKE * np.abs(first).max())


def _ends(found: Shares, v: int) -> tuple[float, float, float]:
    return float(found.low[v]), float(found.estimate[v]), float(found.high[v])


def joined(
    before: tuple[float, float, float], after: tuple[float, float, float], together: float
) -> tuple[float, float]:
    """Ends of the interval of a difference, from (low, estimate, high) of both and their correlation."""
    apart = after[1] - before[1]
    down, up = (after[1] - after[0], before[2] - before[1]), (after[2] - after[1], before[1] - before[0])
    half = [math.sqrt(max(0.0, a * a + b * b - 2 * together * a * b)) for a, b in (down, up)]
    return apart - half[0], apart + half[1]


def _correlation(before: Float[np.ndarray, "templates seeds"], after: Float[np.ndarray, "templates seeds"]) -> float:
    """Of two shares over seeds; zero where either never varies.

    Corrected for continuity (Newcombe 1998, Statistics in Medicine 17: 2635-2650, method 10): that both models called
    every one of few samples alike does not make their shares the same.
    """
    a, b = before.mean(0), after.mean(0)
    size = float(a.std() * b.std())
    if size <= _ALIKE:
        return 0.0
    r = float(np.corrcoef(a, b)[0, 1])
    return max(0.0, r - 1 / (2 * len(a) * size)) if r > 0 else r


# ---------------------------------------------------------------------------------------------------- other seeds


def independent(
    before: Float[np.ndarray, "templates first"],
    after: Float[np.ndarray, "templates second"],
    apart: float,
    pairing: Pairing,
) -> Difference:
    """The difference of two independent means: Welch's interval around it, and a permutation test."""
    variance, df = _welch(before, after, pairing)
    half = float(distributions.t.isf((1 - pairing.rules.level) / 2, df)) * math.sqrt(variance)
    return Difference(apart, apart - half, apart + half, _independent_p(before, after, pairing))


def _welch(
    before: Float[np.ndarray, "templates first"], after: Float[np.ndarray, "templates second"], pairing: Pairing
) -> tuple[float, float]:
    """Variance of the difference of two means over other seeds, and its degrees of freedom (Welch 1947, Biometrika
    34: 28-35; Satterthwaite 1946). Where templates are drawn, both models share them: their differences vary, too."""
    ways = [before.mean(0), after.mean(0)]
    if not pairing.first.templates_fixed:
        ways.append(after.mean(1) - before.mean(1))
    parts = [(float(way.var(ddof=1)) / way.size, way.size - 1) for way in ways]
    total = sum(v for v, _ in parts)
    return total, total**2 / sum(v**2 / df for v, df in parts) if total > 0 else 1.0


def _independent_p(
    before: Float[np.ndarray, "templates first"], after: Float[np.ndarray, "templates second"], pairing: Pairing
) -> float:
    """Two-sided p that two independent means are equal: seeds change sides, and Welch's t is what is compared.

    With t in place of the plain difference the test also holds, asymptotically, where the spreads differ (Janssen 1997,
    Statistics and Probability Letters 36: 9-21). Where templates are drawn, the larger of it and of Student's over
    seeds and templates, as in `stats.mean_p`.
    """
    a, b = before.mean(0), after.mean(0)
    rules = pairing.rules
    rng = np.random.default_rng(rules.seed)
    both = rng.permuted(np.broadcast_to(np.concatenate([a, b]), (rules.permutations, len(a) + len(b))), axis=1)
    seen, drawn = _t(a[None], b[None])[0], _t(both[:, : len(a)], both[:, len(a) :])
    p = (1 + int((drawn >= seen * (1 - _ALIKE)).sum())) / (1 + rules.permutations)
    if pairing.first.templates_fixed:
        return p
    variance, df = _welch(before, after, pairing)
    apart = abs(float(after.mean() - before.mean()))
    return p if variance <= 0 else max(p, 2 * float(distributions.t.sf(apart / math.sqrt(variance), df)))


def _t(a: Float[np.ndarray, "draws first"], b: Float[np.ndarray, "draws second"]) -> Float[np.ndarray, "draws"]:
    """Welch's t without its sign; 0 where nothing differs, infinite where two constants differ."""
    apart = np.abs(b.mean(1) - a.mean(1))
    spread = np.sqrt(a.var(1, ddof=1) / a.shape[1] + b.var(1, ddof=1) / b.shape[1])
    return np.asarray(np.divide(apart, spread, out=np.where(apart > 0, np.inf, 0.0), where=spread > 0))
