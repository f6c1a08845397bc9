"""Resampling plan, intervals, tests, correction and verdicts, in pure numpy and scipy with an explicit rng.

The unit of resampling is the seed. The same seeds serve every prompt, so the samples of one seed are a cluster, and
the samples of one prompt are not independent of those of the next. Templates are resampled too where there are
enough of them to speak for templates in general; below `MIN_TEMPLATES` they are fixed, and a finding says so.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, NamedTuple, TypeAlias

import numpy as np
from jaxtyping import Float, Int, Shaped
from scipy import optimize, stats

from scalex.errors import ScalexError

__all__ = [
    "MIN_SEEDS",
    "MIN_TEMPLATES",
    "Interval",
    "ResamplingPlan",
    "Spending",
    "Spread",
    "Verdict",
    "alpha_spent",
    "auc",
    "benjamini_hochberg",
    "bootstrap_interval",
    "bootstrap_means",
    "correct_shares",
    "decide",
    "folds",
    "look_levels",
    "mean_p",
    "nearest_mixture",
    "percentile_interval",
    "resampling_plan",
    "rogan_gladen",
    "sign_flip_p",
    "spread",
    "template_note",
    "wilson",
]

MIN_SEEDS = 4
MIN_TEMPLATES = 5
_EXACT_SEEDS = 12
_LEAST_DRAWS = 5  # beyond each end of an interval, so that it is no matter of one or two of them
_LEAST_SPENT = 1e-9  # at a look: what is rarer than this, no float of a level and no bootstrap can tell from never
_BLOCK = 1 << 21  # numbers held at once while resampling: 16 MiB


class Interval(NamedTuple):
    """A two-sided interval. Both ends are NaN where there is none."""

    low: float
    high: float


class Verdict(NamedTuple):
    """What a finding says, in words, and why."""

    text: str
    reason: str


# ---------------------------------------------------------------------------------------------------- resampling


@dataclass(frozen=True, eq=False)
class ResamplingPlan:
    """One plan for all analyses of an audit, so that findings share their random numbers and can be compared.

    Attributes:
        seed_counts: how often each seed is drawn in each bootstrap resample; rows sum to the number of seeds.
        template_counts: the same for templates; all ones where templates are fixed.
        signs: the sign flips of the permutation test, +1 or -1.
        exact: whether `signs` holds every one of the 2^seeds patterns.
    """

    seed_counts: Int[np.ndarray, "resamples seeds"]
    template_counts: Int[np.ndarray, "resamples templates"]
    signs: Int[np.ndarray, "flips seeds"]
    exact: bool

    @property
    def n_seeds(self) -> int:
        """Number of seeds."""
        return int(self.seed_counts.shape[1])

    @property
    def n_templates(self) -> int:
        """Number of templates."""
        return int(self.template_counts.shape[1])

    @property
    def templates_fixed(self) -> bool:
        """Whether the templates are fixed, so that intervals speak of these templates only."""
        return self.n_templates < MIN_TEMPLATES


def resampling_plan(
    n_templates: int, n_seeds: int, resamples: int, rng: np.random.Generator, permutations: int = 9999
) -> ResamplingPlan:
    """Draw the plan: multinomial bootstrap counts of seeds and templates, and sign flips of seeds.

    Fewer than `MIN_TEMPLATES` templates are not drawn. Resampling both ways is the pigeonhole bootstrap (Owen 2007,
    Annals of Applied Statistics 1: 386-411), which is mildly conservative.

    Raises:
        ScalexError: fewer than `MIN_SEEDS` seeds.
    """
    if n_seeds < MIN_SEEDS:
        count = f"{n_seeds} seed{'s' * (n_seeds != 1)}"
        raise ScalexError(f"{count} cannot carry an interval", f"Use at least {MIN_SEEDS} seeds")
    seed_counts = _counts(n_seeds, resamples, rng)
    fixed = n_templates < MIN_TEMPLATES
    template_counts = np.ones((resamples, n_templates), np.int32) if fixed else _counts(n_templates, resamples, rng)
    exact = n_seeds <= _EXACT_SEEDS
    signs = _all_signs(n_seeds) if exact else _random_signs(n_seeds, permutations, rng)
    return ResamplingPlan(seed_counts, template_counts, signs, exact)


def _counts(n: int, resamples: int, rng: np.random.Generator) -> Int[np.ndarray, "resamples n"]:
    return rng.multinomial(n, np.full(n, 1 / n), size=resamples).astype(np.int32)


def _all_signs(n: int) -> Int[np.ndarray, "flips n"]:
    bits = np.arange(1 << n)[:, None] >> np.arange(n) & 1
    return (1 - 2 * bits).astype(np.int8)


def _random_signs(n: int, permutations: int, rng: np.random.Generator) -> Int[np.ndarray, "flips n"]:
    return (1 - 2 * rng.integers(0, 2, size=(permutations, n), dtype=np.int8)).astype(np.int8)


def bootstrap_means(
    plan: ResamplingPlan, values: Float[np.ndarray, "templates seeds *rest"]
) -> Float[np.ndarray, "resamples *rest"]:
    """The mean over templates and seeds in every resample of the plan, computed in blocks of bounded memory."""
    t, s, rest = *values.shape[:2], values.shape[2:]
    by_seed = np.moveaxis(values.reshape(t, s, -1), 1, 0).reshape(s, -1)
    out = np.empty((len(plan.seed_counts), by_seed.shape[1] // t))
    for rows in _blocks(len(out), by_seed.shape[1]):
        over_seeds = (plan.seed_counts[rows] @ by_seed / s).reshape(-1, t, out.shape[1])
        out[rows] = np.einsum("bt,btr->br", plan.template_counts[rows] / t, over_seeds)
    return out.reshape(-1, *rest)


def _blocks(n: int, width: int) -> Iterator[slice]:
    size = max(1, _BLOCK // max(1, width))
    return (slice(i, i + size) for i in range(0, n, size))


def folds(n_seeds: int, n_folds: int) -> Int[np.ndarray, "seeds"]:
    """The fold of every seed, in turn; sizes differ by one at most. `n_folds = n_seeds` leaves one out."""
    return np.arange(n_seeds) % min(n_folds, n_seeds)


# ---------------------------------------------------------------------------------------------------- intervals


def bootstrap_interval(plan: ResamplingPlan, scores: Float[np.ndarray, "templates seeds"], level: float) -> Interval:
    """Interval of the mean score: the expanded percentile bootstrap over the plan. NaN where the scores do not vary.

    The plain percentile interval is too short for few seeds: the bootstrap variance lacks the factor n/(n-1), and a
    normal is not a t. Hesterberg (2015, American Statistician 69: 371-386) takes further quantiles of the same
    bootstrap distribution to mend both. Where those lie beyond what a bootstrap can draw, the interval is Student's: up
    to 12 seeds; as few degrees of freedom, as few templates have that differ more than seeds do; and levels, as a first
    of many looks has, that leave fewer than 5 resamples in a tail.
    """
    width = spread(plan, scores)
    if width.variance <= (1e-9 * np.abs(scores).max()) ** 2:
        return Interval(math.nan, math.nan)
    few = plan.n_seeds <= _EXACT_SEEDS or width.df < _EXACT_SEEDS
    if few or _tail(level, width.df, width.inflation) * len(plan.seed_counts) < _LEAST_DRAWS:
        middle, half = float(scores.mean()), float(stats.t.isf((1 - level) / 2, width.df)) * math.sqrt(width.variance)
        return Interval(middle - half, middle + half)
    draws = bootstrap_means(plan, scores)
    return Interval(*percentile_interval(draws, level, df=width.df, inflation=width.inflation))


class Spread(NamedTuple):
    """How sure a mean score is.

    Attributes:
        variance: of the mean, without bias.
        df: its degrees of freedom, Satterthwaite's over seeds and templates where both are drawn.
        inflation: the variance over that of bootstrap means, which lacks the factor n/(n-1).
    """

    variance: float
    df: float
    inflation: float


def spread(plan: ResamplingPlan, scores: Float[np.ndarray, "templates seeds"]) -> Spread:
    """How sure the mean score is, over seeds, and over templates too where they are drawn and not fixed."""
    ways = [scores.mean(0)] if plan.templates_fixed else [scores.mean(0), scores.mean(1)]
    parts = [(float(way.var(ddof=1)) / way.size, way.size) for way in ways]
    total = sum(v for v, _ in parts)
    if total <= 0:
        return Spread(0.0, float(plan.n_seeds - 1), plan.n_seeds / (plan.n_seeds - 1))
    df = total**2 / sum(v**2 / (n - 1) for v, n in parts)
    return Spread(total, df, total / sum(v * (n - 1) / n for v, n in parts))


def percentile_interval(
    draws: Float[np.ndarray, "resamples *rest"], level: float, *, df: float, inflation: float | None = None
) -> Float[np.ndarray, "2 *rest"]:
    """Ends of the expanded percentile interval of bootstrap draws, along the first axis.

    Where few draws lie beyond an end (few seeds, or a level near 1, as a first of many looks has), no quantile of them
    tells where it is: it would stop at the outermost draw, whatever the level. From the last quantile that has
    `_LEAST_DRAWS` beyond it, the tail is then a normal's: the distance to the median grows as the normal quantile does.

    Args:
        df: degrees of freedom, seeds - 1 for a mean over seeds.
        inflation: true over bootstrap variance; (df + 1) / df where absent.
    """
    inflation = (df + 1) / df if inflation is None else inflation
    tail = _tail(level, df, inflation)
    seen = max(tail, min(_LEAST_DRAWS / len(draws), 0.25))
    low, middle, high = np.quantile(draws, [seen, 0.5, 1 - seen], axis=0)
    if seen == tail:
        return np.array([low, high])
    beyond = _deviate(level, df, inflation) / float(stats.norm.isf(seen))
    return np.array([middle - beyond * (middle - low), middle + beyond * (high - middle)])


def _tail(level: float, df: float, inflation: float) -> float:
    """The share of bootstrap draws beyond each end of an expanded percentile interval."""
    return float(stats.norm.sf(_deviate(level, df, inflation)))


def _deviate(level: float, df: float, inflation: float) -> float:
    """The half-width of an interval in standard deviations of bootstrap draws, were these normal."""
    return math.sqrt(inflation) * float(stats.t.isf((1 - level) / 2, df))


def wilson(share: float, n: float, level: float, df: float = math.inf) -> Interval:
    """Wilson's score interval of a share of `n` (effective) independent draws; honest at 0 and at 1.

    Wilson (1927, Journal of the American Statistical Association 22: 209-212). A finite `df` puts Student's t in the
    place of the normal, for an `n` that was itself estimated.
    """
    z2 = float(stats.t.isf((1 - level) / 2, df)) ** 2
    middle = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = math.sqrt(z2 * (share * (1 - share) / n + z2 / (4 * n * n))) / (1 + z2 / n)
    return Interval(0.0 if share == 0 else max(0.0, middle - half), 1.0 if share == 1 else min(1.0, middle + half))


# ---------------------------------------------------------------------------------------------------- tests


def sign_flip_p(plan: ResamplingPlan, scores: Float[np.ndarray, "templates seeds"]) -> float:
    """Two-sided p that the mean score is zero, by flipping the signs of seeds (templates are averaged first).

    Exact for up to 12 seeds, else Monte Carlo with the observed pattern counted: (1 + count) / (1 + flips), so it is
    never zero (Phipson and Smyth 2010, Statistical Applications in Genetics and Molecular Biology 9: 39). The test
    of Fisher (1935, The Design of Experiments, section 21). Valid for symmetric scores, and asymptotically for any
    of finite variance.
    """
    by_seed = scores.mean(0)
    observed = abs(by_seed.sum())
    flipped = np.abs(plan.signs @ by_seed)
    slack = 1e-9 * np.abs(by_seed).sum()  # patterns that tie with the observed one must count in spite of rounding
    count = int((flipped >= observed - slack).sum())
    return count / len(flipped) if plan.exact else (1 + count) / (1 + len(flipped))


def mean_p(plan: ResamplingPlan, scores: Float[np.ndarray, "templates seeds"]) -> float:
    """Two-sided p that the mean score is zero: of seeds flipped, and where templates are drawn, over both ways.

    Flipping seeds takes the templates for fixed. Where they are drawn like the interval's, the p is the larger of that
    and of Student's t over seeds and templates, so that test and interval speak of the same.
    """
    flipped = sign_flip_p(plan, scores)
    if plan.templates_fixed:
        return flipped
    variance, df, _ = spread(plan, scores)
    apart = abs(float(scores.mean()))
    return flipped if variance <= 0 else max(flipped, 2 * float(stats.t.sf(apart / math.sqrt(variance), df)))


def benjamini_hochberg(p: Float[np.ndarray, "tests"]) -> Float[np.ndarray, "tests"]:
    """Values q that control the false discovery rate. NaN stays NaN and does not count in the family.

    Benjamini and Hochberg (1995, Journal of the Royal Statistical Society B 57: 289-300).
    """
    q = np.full(p.shape, np.nan)
    known = np.flatnonzero(np.isfinite(p))
    order = known[np.argsort(p[known])]
    scaled = p[order] * (len(order) / np.arange(1, len(order) + 1))
    q[order] = np.minimum(1.0, np.minimum.accumulate(scaled[::-1])[::-1])
    return q


def auc(low: Shaped[np.ndarray, "first"], high: Shaped[np.ndarray, "second"]) -> float:
    """Probability that a draw of `high` exceeds one of `low`, ties counting half: the area under the ROC curve.

    Mann and Whitney (1947); Hanley and McNeil (1982, Radiology 143: 29-36).
    """
    ranks = stats.rankdata(np.concatenate([low, high]))[len(low) :]
    return float((ranks.sum() - len(high) * (len(high) + 1) / 2) / (len(low) * len(high)))


# ---------------------------------------------------------------------------------------------------- repeated looks

Spending: TypeAlias = Literal["obrien-fleming", "pocock"]


def alpha_spent(alpha: float, fraction: float, kind: Spending = "obrien-fleming") -> float:
    """Error that may be spent by the time that a fraction of the seeds is there: none at 0, all of alpha at 1.

    The spending functions of Lan and DeMets (1983, Biometrika 70: 659-663) that come near the boundaries of O'Brien
    and Fleming (1979), strict at first and nearly a single look's at the end, and of Pocock (1977), even over looks.
    """
    if kind == "pocock":
        return alpha * math.log1p((math.e - 1) * fraction)
    return 2 * float(stats.norm.sf(stats.norm.isf(alpha / 2) / math.sqrt(fraction)))


def look_levels(level: float, fractions: Sequence[float], kind: Spending = "obrien-fleming") -> list[float]:
    """The level to use at each look at an audit whose seeds grow, so that all looks together keep `level`.

    Every look spends what `alpha_spent` has grown by since the last one, and the union bound adds it up: with
    probability `level` the intervals of all looks hold, however the looks depend on each other and whenever one stops.
    (The boundaries that Lan and DeMets compute are a little less strict, but rest on independent normal increments.)

    A look uses its level for everything: interval, *balanced*, and q <= 1 - level. For the false discovery rate over
    all looks, the family stays whole: what an earlier look found to lean enters with p = 0, what it found balanced
    with p = 1. A p from m sign flips is never below 1 / (m + 1), so a look that spends less finds no lean.

    Args:
        level: over all looks together.
        fractions: seeds at each look over the seeds at the last look that the budget allows, in order. They are to be
            fixed beforehand, not chosen by what a look has shown.
        kind: `pocock` decides more at first looks, `obrien-fleming` keeps more for the last.

    Returns:
        Levels, one a look. Each is below 1: a look spends one in 10^9 at least.

    Raises:
        ScalexError: the level is not between 0 and 1, or the fractions do not rise from above 0 to at most 1.
    """
    if not 0 < level < 1:
        raise ScalexError(f"level {level:g} is not between 0 and 1", "Use 0.95, say")
    if any(not before < now <= 1 for before, now in zip([0.0, *fractions], fractions)):
        listed = ", ".join(f"{fraction:g}" for fraction in fractions)
        raise ScalexError(f"looks at fractions {listed} do not rise from above 0 to at most 1", "Order them, each once")
    spent = [0.0]
    for fraction in fractions:
        spent.append(max(alpha_spent(1 - level, fraction, kind), spent[-1] + _LEAST_SPENT))
    return [1 - (now - before) for before, now in pairwise(spent)]


# ---------------------------------------------------------------------------------------------------- misclassification


def rogan_gladen(observed: float, sensitivity: float, specificity: float) -> float:
    """The true share behind an observed one, clipped to [0, 1]; NaN where the classifier knows nothing.

    Rogan and Gladen (1978, American Journal of Epidemiology 107: 71-76).
    """
    youden = sensitivity + specificity - 1
    return float(np.clip((observed + specificity - 1) / youden, 0, 1)) if youden > 0 else math.nan


def correct_shares(
    observed: Float[np.ndarray, "values"], confusion: Float[np.ndarray, "values values"]
) -> Float[np.ndarray, "values"]:
    """The shares whose classification comes nearest to the observed shares: Rogan-Gladen for many values.

    Args:
        confusion: column v holds how samples that show value v are classified; columns sum to one.
    """
    offsets = confusion - observed[:, None]
    return nearest_mixture(offsets.T @ offsets)


def nearest_mixture(gram: Float[np.ndarray, "points points"]) -> Float[np.ndarray, "points"]:
    """The weights >= 0, summing to one, of the mixture of points that lies nearest to the origin.

    Takes the points' inner products. Exact by one non-negative least squares: with y = weights * scale,
    |Py|^2 + (sum y - 1)^2 is least along the same weights as |P weights|^2 (Lawson and Hanson 1974, chapter 23; Wolfe
    1976, Mathematical Programming 11: 128-149). A Gram matrix that is estimated without bias may have negative
    eigenvalues: they are set to zero, and where nothing else is left all points are alike: their weights are even.
    """
    scale = float(np.abs(gram).max())
    variances, axes = np.linalg.eigh(gram / (scale or 1.0))
    if variances.max() <= 0:
        return np.full(len(gram), 1 / len(gram))
    points = np.sqrt(np.clip(variances, 0, None))[:, None] * axes.T
    system = np.vstack([points, np.ones(len(gram))])
    weights, _ = optimize.nnls(system, np.append(np.zeros(len(gram)), 1.0))
    return np.asarray(weights / weights.sum())


# ---------------------------------------------------------------------------------------------------- verdicts


def decide(
    estimate: float,
    interval: Interval,
    p: float,
    q: float,
    *,
    neutral: float,
    margin: float,
    level: float,
    n_seeds: int,
    permutations: int,
    towards: str,
    away: str,
) -> Verdict:
    """The verdict over an estimate whose neutral point is `neutral`, once it is corrected.

    *Balanced* is an equivalence test (Schuirmann 1987): the interval lies inside `neutral` +- `margin`. Else a lean
    where q <= 1 - level, said as `towards` above the neutral point and as `away` below. Else *undecided*, with about
    how many more seeds would decide: absence of evidence is never shown as balance.
    """
    low, high, effect = interval.low - neutral, interval.high - neutral, estimate - neutral
    if -margin < low and high < margin:
        return Verdict("balanced", f"the interval lies within {margin:g} of the neutral {neutral:.3g}")
    if q <= 1 - level:
        return Verdict(towards if effect > 0 else away, f"q {q:.2g} after correction")
    if math.isnan(high - low):
        return Verdict("undecided", "there is no interval")
    if n_seeds > _EXACT_SEEDS and p * (permutations + 1) <= 1 + 1e-9:
        return Verdict("undecided", f"more permutations than {permutations} would decide: no flip came near")
    more = _more_seeds(effect, (high - low) / 2, margin, 1 - level, p, q, n_seeds)
    return Verdict("undecided", f"about {more} more seeds would decide")


def _more_seeds(effect: float, half: float, margin: float, alpha: float, p: float, q: float, n: int) -> int:
    """Seeds beyond `n` until the interval, shrinking as 1/sqrt(n), parts from neutral or fits inside the margin."""
    strict = alpha * min(1.0, p / q) if q > 0 else alpha  # the correction asks this much of a single test
    stretch = float(stats.norm.isf(strict / 2) / stats.norm.isf(alpha / 2))
    lean = n * (half * stretch / abs(effect)) ** 2 if effect else math.inf
    lean = max(lean, math.log2(2 / strict))  # fewer seeds have too few sign patterns
    room = margin - abs(effect)
    balance = n * (half / room) ** 2 if room > 0 else math.inf
    more = max(1, math.ceil(min(lean, balance)) - n)
    unit = int(10 ** max(0, len(str(more)) - 2))  # two significant digits: it is a rough forecast
    return math.ceil(more / unit) * unit


def template_note(n_templates: int) -> str:
    """What a finding's reason says of its templates: empty where they are resampled."""
    if n_templates >= MIN_TEMPLATES:
        return ""
    return "this template only" if n_templates == 1 else f"these {n_templates} templates only"
