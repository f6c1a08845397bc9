"""Statistics that hold: p, intervals, corrections and verdicts over thousands of simulated audits, and against oracles.

All thresholds were fixed before the first run, and follow from the number of audits. Over N independent audits, how
often something of chance `rate` happens is binomial: `at_least` and `at_most` are its limits, each passed with chance
`RISK` where the code is right. A Kolmogorov-Smirnov test at the same risk tells distributions apart that differ by
1.95 / sqrt(N): 0.044 for 2,000 audits, 0.031 for 4,000. Generators are seeded, so a check passes always or never.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import pytest
from jaxtyping import Float
from scipy import stats as scipy_stats
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import proportion_confint

from scalex import stats
from scalex.analyses import defaults, rates
from scalex.analyses._planted import attributes_of, planted
from scalex.errors import ScalexError
from scalex.records import Rules

RISK = 0.001
KINDS = ("symmetric", "heavy", "skewed")


def at_most(rate: float, n: int) -> float:
    """The share of n audits that something of this chance passes with chance RISK only."""
    return float(scipy_stats.binom.isf(RISK, n, rate)) / n


def at_least(rate: float, n: int) -> float:
    """The share of n audits that something of this chance stays below with chance RISK only."""
    return float(scipy_stats.binom.ppf(RISK, n, rate)) / n


def scores(
    rng: np.random.Generator, kind: str, n: int, n_templates: int, n_seeds: int, between: float = 0.0
) -> Float[np.ndarray, "audits templates seeds"]:
    """Scores of mean zero: of the seed, which all templates share, plus of the sample, plus normal template effects."""
    draw = {
        "symmetric": lambda *shape: rng.normal(size=shape),
        "heavy": lambda *shape: rng.standard_t(3, size=shape),
        "skewed": lambda *shape: rng.exponential(size=shape) - 1,
    }[kind]
    return draw(n, 1, n_seeds) + draw(n, n_templates, n_seeds) + between * rng.normal(size=(n, n_templates, 1))


def plans(
    rng: np.random.Generator, n: int, n_templates: int, n_seeds: int, resamples: int = 1, permutations: int = 999
) -> Iterator[stats.ResamplingPlan]:
    """A plan for every audit, a new one every 20 audits, so that luck of one plan is not what is measured."""
    for i in range(n):
        if i % 20 == 0:
            plan = stats.resampling_plan(n_templates, n_seeds, resamples, rng, permutations)
        yield plan


def edgeworth(alpha: float, n_seeds: int, n_templates: int) -> float:
    """How much oftener than alpha a t test of the skewed scores errs, to the order 1/n (Hall 1992, section 2.6).

    The mean over T templates of a seed's exponential plus the sample's own has cumulants 1 + T^(1-k) times those of
    an exponential: 1, 2 and 6.
    """
    z, variance = scipy_stats.norm.isf(alpha / 2), 1 + 1 / n_templates
    skewness = 2 * (1 + n_templates**-2.0) / variance**1.5
    kurtosis = 6 * (1 + n_templates**-3.0) / variance**2
    terms = skewness**2 * (z**4 + 2 * z**2 - 3) / 18 - kurtosis * (z**2 - 3) / 12
    return float(2 * z * scipy_stats.norm.pdf(z) * terms / n_seeds)


# ------------------------------------------------------------------------------------------------ p under the null


@pytest.mark.parametrize(("kind", "n_seeds"), [("symmetric", 16), ("heavy", 32), ("skewed", 64)])
def test_p_of_fixed_templates_is_uniform_under_the_null(kind: str, n_seeds: int) -> None:
    """2,000 audits. Skewed scores keep the level only as seeds grow: at 64 they err in 0.056 instead of 0.05."""
    n, rng = 2000, np.random.default_rng(1)
    found = scores(rng, kind, n, 2, n_seeds)
    p = np.array([stats.mean_p(plan, x) for plan, x in zip(plans(rng, n, 2, n_seeds), found)])
    assert scipy_stats.kstest(p, "uniform").pvalue >= RISK
    for alpha in (0.05, 0.2):
        excess = edgeworth(alpha, n_seeds, 2) if kind == "skewed" else 0.0
        assert at_least(alpha, n) <= (p <= alpha).mean() <= at_most(alpha + excess, n)


@pytest.mark.parametrize("n_seeds", [16, 32])
def test_p_of_skewed_scores_errs_by_no_more_than_the_order_1_over_n(n_seeds: int) -> None:
    """4,000 audits of strong skewness (1.4 for the mean of a seed): 0.076 at 16 seeds and 0.063 at 32, not 0.05."""
    n, rng = 4000, np.random.default_rng(2)
    found = scores(rng, "skewed", n, 2, n_seeds)
    p = np.array([stats.sign_flip_p(plan, x) for plan, x in zip(plans(rng, n, 2, n_seeds), found)])
    assert (p <= 0.05).mean() <= at_most(0.05 + edgeworth(0.05, n_seeds, 2), n)


@pytest.mark.parametrize("n_seeds", [4, 6, 8])
@pytest.mark.parametrize("kind", ["symmetric", "heavy"])
def test_exact_p_takes_all_its_values_equally_often(kind: str, n_seeds: int) -> None:
    """4,000 audits. Of 2^n patterns each and its mirror tie: p is one of 2^(n-1) values, at least 31 audits each."""
    n, rng, cells = 4000, np.random.default_rng(3), 2 ** (n_seeds - 1)
    plan = stats.resampling_plan(3, n_seeds, 1, rng)
    p = np.array([stats.sign_flip_p(plan, x) for x in scores(rng, kind, n, 3, n_seeds)])
    steps = np.rint(p * cells).astype(int)
    assert plan.exact
    assert np.allclose(p * cells, steps, atol=1e-9)
    assert steps.min() >= 1
    assert scipy_stats.chisquare(np.bincount(steps, minlength=cells + 1)[1:]).pvalue >= RISK
    assert scipy_stats.kstest(p, "uniform", alternative="greater").pvalue >= RISK


@pytest.mark.parametrize("n_seeds", [8, 20])
def test_p_of_scores_that_tie_is_never_too_small(n_seeds: int) -> None:
    """4,000 audits of scores +-1/2, as single pictures give: p is coarse, so it may only be larger than uniform."""
    n, rng = 4000, np.random.default_rng(4)
    found = rng.integers(0, 2, size=(n, 1, n_seeds)) - 0.5
    p = np.array([stats.sign_flip_p(plan, x) for plan, x in zip(plans(rng, n, 1, n_seeds), found)])
    assert scipy_stats.kstest(p, "uniform", alternative="greater").pvalue >= RISK
    for alpha in (0.01, 0.05, 0.1):
        assert (p <= alpha).mean() <= at_most(alpha, n)


def test_monte_carlo_p_of_few_flips_takes_all_its_values_equally_often() -> None:
    """4,000 audits with a plan of 19 flips each: p is 1/20, ..., 20/20, 200 audits each, and so never zero."""
    n, rng = 4000, np.random.default_rng(5)
    found = scores(rng, "symmetric", n, 2, 24)
    p = np.array([stats.sign_flip_p(stats.resampling_plan(2, 24, 1, rng, permutations=19), x) for x in found])
    counts = np.bincount(np.rint(p * 20).astype(int), minlength=21)
    assert counts[0] == 0
    assert scipy_stats.chisquare(counts[1:]).pvalue >= RISK


@pytest.mark.parametrize(("n_templates", "n_seeds"), [(1, 5), (2, 8), (4, 12), (6, 11)])
def test_exact_p_equals_scipy(n_templates: int, n_seeds: int) -> None:
    rng = np.random.default_rng(6)
    plan = stats.resampling_plan(n_templates, n_seeds, 1, rng)
    for kind in KINDS:
        for shifted in scores(rng, kind, 3, n_templates, n_seeds) + 0.4:
            expected = scipy_p(shifted)
            assert stats.sign_flip_p(plan, shifted) == pytest.approx(expected, abs=1e-12)


def test_monte_carlo_p_equals_scipy_but_for_its_flips() -> None:
    """Of 9,999 flips the standard error is sqrt(p (1 - p) / 9,999); 4.5 of them are passed once in 150,000."""
    rng = np.random.default_rng(7)
    for kind in KINDS:
        for shifted in scores(rng, kind, 3, 2, 15) + np.array([0.0, 0.4, 0.8])[:, None, None]:
            expected = scipy_p(shifted)
            found = stats.sign_flip_p(stats.resampling_plan(2, 15, 1, rng), shifted)
            assert abs(found - expected) <= 4.5 * math.sqrt(expected * (1 - expected) / 9999) + 1 / 9999


def scipy_p(one: Float[np.ndarray, "templates seeds"]) -> float:
    """The exact p of scipy, which flips the signs of seeds alike."""
    result = scipy_stats.permutation_test(
        (one.mean(0),),
        lambda x, axis: np.mean(x, axis=axis),
        permutation_type="samples",
        n_resamples=np.inf,
        alternative="two-sided",
        vectorized=True,
        batch=4096,
    )
    return float(result.pvalue)


@pytest.mark.parametrize(("kind", "between"), [("symmetric", 0.0), ("symmetric", 0.5), ("heavy", 0.5), ("skewed", 0.5)])
def test_p_of_drawn_templates_is_uniform_or_conservative_under_the_null(kind: str, between: float) -> None:
    """2,000 audits of 6 templates. The samples' own spread counts in both ways: p may be larger, never smaller."""
    n, rng = 2000, np.random.default_rng(8)
    found = scores(rng, kind, n, 6, 48, between)
    p = np.array([stats.mean_p(plan, x) for plan, x in zip(plans(rng, n, 6, 48), found)])
    assert scipy_stats.kstest(p, "uniform", alternative="greater").pvalue >= RISK
    excess = edgeworth(0.05, 48, 6) if kind == "skewed" else 0.0
    assert (p <= 0.05).mean() <= at_most(0.05 + excess, n)


def test_p_of_drawn_templates_is_uniform_where_templates_are_all_that_differs() -> None:
    """2,000 audits in which seeds hardly matter: then this is Student's t over templates, and exact."""
    n, rng = 2000, np.random.default_rng(9)
    found = scores(rng, "symmetric", n, 6, 32, between=5.0)
    p = np.array([stats.mean_p(plan, x) for plan, x in zip(plans(rng, n, 6, 32), found)])
    assert scipy_stats.kstest(p, "uniform").pvalue >= RISK
    assert at_least(0.05, n) <= (p <= 0.05).mean() <= at_most(0.05, n)


@pytest.mark.parametrize(("n_templates", "n_seeds"), [(2, 16), (2, 8), (5, 16)])
def test_p_of_a_lean_is_uniform_under_the_planted_null(n_templates: int, n_seeds: int) -> None:
    """2,000 audits from latents to p: a concept that shows both values equally often, and lies aside of both."""
    n, even = 2000, {"pilot": {"gender": {"man": 0.5, "woman": 0.5}}}
    found = []
    for i in range(n):
        x = planted(even, np.random.default_rng([10, i]), n_seeds=n_seeds, n_templates=n_templates, width=6)
        found += defaults.analyse(x, attributes_of(even), Rules(resamples=40, permutations=999, seed=i))
    p = np.array([f.p for f in found])
    assert len(p) == n
    assert scipy_stats.kstest(p, "uniform", alternative="greater").pvalue >= RISK
    assert (p <= 0.05).mean() <= at_most(0.05, n)
    if n_templates < stats.MIN_TEMPLATES:
        assert (p <= 0.05).mean() >= at_least(0.05, n)


# ------------------------------------------------------------------------------------------------ intervals


@pytest.mark.parametrize("n_seeds", [8, 16, 32])
@pytest.mark.parametrize("kind", ["symmetric", "skewed"])
def test_intervals_cover_at_their_level(kind: str, n_seeds: int) -> None:
    """2,000 audits. Of skewed scores, intervals may miss as often as Student's does to the order 1/n."""
    n, rng = 2000, np.random.default_rng(11)
    found = scores(rng, kind, n, 2, n_seeds)
    drawn = list(plans(rng, n, 2, n_seeds, resamples=1000, permutations=1))
    for level in (0.8, 0.95):
        ends = np.array([stats.bootstrap_interval(plan, x, level) for plan, x in zip(drawn, found)])
        covered = ((ends[:, 0] <= 0) & (ends[:, 1] >= 0)).mean()
        excess = edgeworth(1 - level, n_seeds, 2) if kind == "skewed" else 0.0
        assert at_least(level - excess, n) <= covered <= at_most(level, n)


@pytest.mark.parametrize("n_seeds", [4, 8, 12])
def test_interval_of_few_seeds_equals_scipy(n_seeds: int) -> None:
    rng = np.random.default_rng(12)
    plan = stats.resampling_plan(3, n_seeds, 50, rng)
    [x] = scores(rng, "skewed", 1, 3, n_seeds)
    for level in (0.8, 0.95, 0.999):
        expected = scipy_stats.ttest_1samp(x.mean(0), 0).confidence_interval(level)
        assert np.allclose(stats.bootstrap_interval(plan, x, level), expected)


@pytest.mark.parametrize("between", [0.5, 5.0])
@pytest.mark.parametrize("n_templates", [5, 8])
def test_intervals_over_drawn_templates_cover_at_their_level(n_templates: int, between: float) -> None:
    """2,000 audits of normal scores. Conservative where the samples' own spread counts, exact where templates rule."""
    n, rng = 2000, np.random.default_rng(13)
    found = scores(rng, "symmetric", n, n_templates, 32, between)
    drawn = plans(rng, n, n_templates, 32, resamples=1000, permutations=1)
    ends = np.array([stats.bootstrap_interval(plan, x, 0.95) for plan, x in zip(drawn, found)])
    covered = ((ends[:, 0] <= 0) & (ends[:, 1] >= 0)).mean()
    assert covered >= at_least(0.95, n)
    assert between < 1 or covered <= at_most(0.95, n)


@pytest.mark.parametrize("level", [0.99, 0.999, 1 - 1e-6])
def test_intervals_cover_at_levels_beyond_what_resamples_can_show(level: float) -> None:
    """A first look asks for such levels. 4,000 audits of 32 seeds with 400 resamples; and as wide as Student's is."""
    n, rng = 4000, np.random.default_rng(14)
    found = scores(rng, "symmetric", n, 1, 32)
    drawn = plans(rng, n, 1, 32, resamples=400, permutations=1)
    ends = np.array([stats.bootstrap_interval(plan, x, level) for plan, x in zip(drawn, found)])
    covered = ((ends[:, 0] <= 0) & (ends[:, 1] >= 0)).mean()
    assert at_least(level, n) <= covered <= at_most(level, n)
    student = 2 * scipy_stats.t.isf((1 - level) / 2, 31) * found.mean(1).std(1, ddof=1) / math.sqrt(32)
    assert np.median((ends[:, 1] - ends[:, 0]) / student) == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize("level", [0.5, 0.8, 0.95, 0.999])
@pytest.mark.parametrize("n", [1, 2, 7, 32, 500])
def test_wilson_equals_statsmodels_at_every_count(n: int, level: float) -> None:
    for count in range(n + 1):
        expected = proportion_confint(count, n, alpha=1 - level, method="wilson")
        assert np.allclose(stats.wilson(count / n, float(n), level), expected, atol=1e-12)


@pytest.mark.parametrize("n", [8, 16, 32])
def test_wilson_covers_at_its_level_over_all_shares(n: int) -> None:
    """No simulation: binomial sums. Its mean coverage lies within 0.015 of 0.95 (Agresti and Coull 1998)."""
    level = 0.95
    shares, counts = np.linspace(0.005, 0.995, 199)[:, None], np.arange(n + 1)
    low, high = np.array([stats.wilson(count / n, float(n), level) for count in counts]).T
    chances = scipy_stats.binom.pmf(counts, n, shares)
    covered = (chances * ((low <= shares) & (shares <= high))).sum(1)
    assert covered.mean() == pytest.approx(level, abs=0.015)


# ------------------------------------------------------------------------------------------------ misclassification


def called(
    rng: np.random.Generator, shown: Float[np.ndarray, "*shape"], hit: float, false: float
) -> Float[np.ndarray, "*shape"]:
    """What a classifier calls samples that show value 1 or 0: 1 with chance `hit` or `false`."""
    return (rng.random(shown.shape) < np.where(shown, hit, false)).astype(np.int64)


@pytest.mark.parametrize("share", [0.2, 0.5, 0.8])
def test_rogan_gladen_recovers_the_share_and_its_interval_covers(share: float) -> None:
    """20,000 audits of 64 samples. The corrected Wilson interval covers as the sum over binomial chances says.

    The mean of the corrected shares is the true one, within 3.3 standard errors sqrt(seen (1 - seen) / 64) / youden.
    """
    n, size, hit, false, rng = 20000, 64, 0.9, 0.15, np.random.default_rng(15)
    seen = share * hit + (1 - share) * false
    counts = rng.binomial(size, seen, size=n)
    table = np.array([
        [stats.rogan_gladen(x, hit, 1 - false) for x in (k / size, *stats.wilson(k / size, float(size), 0.95))]
        for k in range(size + 1)
    ])  # fmt: skip
    estimate, low, high = table[counts].T
    error = math.sqrt(seen * (1 - seen) / size / n) / (hit - false)
    assert estimate.mean() == pytest.approx(share, abs=3.3 * error)
    assert ((low <= share) & (share <= high)).mean() == pytest.approx(0.95, abs=0.02)


@pytest.mark.parametrize("share", [0.2, 0.5, 0.8])
def test_intervals_of_corrected_shares_cover_where_the_confusion_is_estimated(share: float) -> None:
    """1,000 audits of 32 seeds and 2 templates that are alike in half of all samples.

    The limits are recovered from three others and may miss by 0.01 more than their level; they may be conservative.
    """
    n, hit, false, rng = 1000, 0.9, 0.15, np.random.default_rng(16)
    covered, estimates = [], []
    for plan in plans(rng, n, 2, 32, resamples=400, permutations=99):
        alike, u = rng.random(32) < 0.5, rng.random((2, 32))
        neutral = called(rng, np.where(alike, u[:1], u) < share, hit, false)
        variants = called(rng, np.broadcast_to(np.arange(2)[:, None, None], (2, 2, 32)) == 1, hit, false)
        found = rates.shares(neutral, variants, plan, 0.95)
        covered.append(found.low[1] <= share <= found.high[1])
        estimates.append(found.estimate[1])
    assert at_least(0.94, n) <= np.mean(covered) <= at_most(0.975, n)
    assert np.mean(estimates) == pytest.approx(share, abs=0.015)


# ------------------------------------------------------------------------------------------------ many tests


def test_benjamini_hochberg_equals_statsmodels_with_unknown_tests_and_ties() -> None:
    rng = np.random.default_rng(17)
    for i in range(300):
        p = rng.random(rng.integers(1, 200)) ** rng.integers(1, 4)
        p = p.round(2) if i % 3 == 0 else p
        p[rng.random(len(p)) < 0.2] = np.nan
        known = np.isfinite(p)
        q = stats.benjamini_hochberg(p)
        assert np.array_equal(np.isfinite(q), known)
        if known.any():
            assert np.allclose(q[known], multipletests(p[known], method="fdr_bh")[1], atol=1e-14)


def shared_noise(
    rng: np.random.Generator, n: int, n_tests: int, n_seeds: int, rho: float, mixed: bool
) -> Float[np.ndarray, "audits tests seeds"]:
    """Normal noise of correlation rho between the tests of an audit, since they share seeds; or +-rho where mixed."""
    loads = np.where(np.arange(n_tests) % 2 == 0, 1.0, -1.0 if mixed else 1.0)[:, None]
    own = rng.normal(size=(n, n_tests, n_seeds))
    return math.sqrt(rho) * loads * rng.normal(size=(n, 1, n_seeds)) + math.sqrt(1 - rho) * own


def false_share(rejected: np.ndarray, null: np.ndarray) -> Float[np.ndarray, "audits"]:
    """The false discovery proportion of every audit: 0 where nothing is rejected."""
    return (rejected & null).sum(-1) / np.maximum(rejected.sum(-1), 1)


def most_false(rate: float, n: int) -> float:
    """Limit of the mean of n shares whose expectation is `rate`: no share of that mean varies more than 0 and 1 do."""
    return rate + float(scipy_stats.norm.isf(RISK)) * math.sqrt(rate * (1 - rate) / n)


@pytest.mark.parametrize("rho", [0.0, 0.3, 0.8])
@pytest.mark.parametrize("mixed", [False, True])
def test_false_discoveries_keep_their_rate_under_dependence(rho: float, mixed: bool) -> None:
    """2,000 audits of 40 tests at 0.1, half of them null: the rate is 0.1 * 1/2, exactly so for independent tests.

    (Benjamini and Yekutieli 2001, Annals of Statistics 29: 1165-1188.) Without correction it is 0.09 or more.
    """
    n, level, rng = 2000, 0.1, np.random.default_rng(18)
    null = np.arange(40) < 20
    found = shared_noise(rng, n, 40, 16, rho, mixed) + np.where(null, 0, 0.7 * (-1) ** (np.arange(40) // 2))[:, None]
    p = scipy_stats.ttest_1samp(found, 0, axis=-1).pvalue
    q = np.array([stats.benjamini_hochberg(one) for one in p])
    rate = false_share(q <= level, null).mean()
    assert rate <= most_false(level / 2, n)
    assert rho > 0 or rate >= 2 * level / 2 - most_false(level / 2, n)
    assert (q <= level)[:, ~null].mean() >= 0.3  # there is power, so that there is something to be false among
    assert false_share(p <= level, null).mean() > most_false(level / 2, n)  # and without correction it fails


@pytest.mark.parametrize("mixed", [False, True])
def test_false_discoveries_of_flipped_seeds_keep_their_rate(mixed: bool) -> None:
    """500 audits of 20 tests at 0.1 by `mean_p` with one plan for all tests of an audit, as audits have."""
    n, level, rng = 500, 0.1, np.random.default_rng(19)
    null = np.arange(20) < 10
    found = shared_noise(rng, n, 20, 24, 0.5, mixed) + np.where(null, 0, 0.6 * (-1) ** (np.arange(20) // 2))[:, None]
    q = []
    for x in found:
        plan = stats.resampling_plan(1, 24, 1, rng, permutations=999)
        q.append(stats.benjamini_hochberg(np.array([stats.mean_p(plan, one[None]) for one in x])))
    rejected = np.array(q) <= level
    assert false_share(rejected, null).mean() <= most_false(level / 2, n)
    assert rejected[:, ~null].mean() >= 0.3


# ------------------------------------------------------------------------------------------------ verdicts

WORDS = {"permutations": 999, "towards": "leans to b", "away": "leans to a", "neutral": 0.0, "margin": 0.1}


def judged(plan: stats.ResamplingPlan, x: Float[np.ndarray, "templates seeds"], level: float) -> str:
    """The verdict over a single test."""
    interval, p = stats.bootstrap_interval(plan, x, level), stats.mean_p(plan, x)
    return stats.decide(float(x.mean()), interval, p, p, level=level, n_seeds=plan.n_seeds, **WORDS).text


@pytest.mark.parametrize("n_seeds", [8, 16, 32])
@pytest.mark.parametrize(("kind", "truth"), [("symmetric", 0.1), ("skewed", 0.1), ("skewed", -0.1)])
def test_a_truth_at_the_margin_is_seldom_called_balanced(kind: str, truth: float, n_seeds: int) -> None:
    """2,000 audits whose standard error is a quarter of the margin, so that balance could well be found.

    Each end of the interval misses in (1 - level) / 2. Where scores are skewed the upper end misses oftener than the
    lower, and both together in 1 - level and what Student's misses more; that is its limit.
    """
    n, rng, level = 2000, np.random.default_rng(20), 0.95
    noise = scores(rng, kind, n, 2, n_seeds) * 0.025 * math.sqrt(n_seeds / 1.5)
    drawn = list(plans(rng, n, 2, n_seeds, resamples=1000, permutations=99))
    called = np.array([judged(plan, truth + x, level) == "balanced" for plan, x in zip(drawn, noise)]).mean()
    limit = 0.025 if kind == "symmetric" or truth < 0 else 0.05 + edgeworth(0.05, n_seeds, 2)
    assert called <= at_most(limit, n)
    assert kind != "symmetric" or called >= at_least(0.015, n)  # not for want of power
    neutral = [judged(plan, x, level) == "balanced" for plan, x in zip(drawn[:200], noise)]
    assert np.mean(neutral) >= 0.8


# ------------------------------------------------------------------------------------------------ repeated looks


def test_spending_functions_are_those_of_lan_and_demets() -> None:
    """0.05 over five even looks, worked out apart from 2 - 2 Phi(1.95996 / sqrt(t)) and 0.05 ln(1 + (e - 1) t)."""
    fractions = (0.2, 0.4, 0.6, 0.8, 1.0)
    strict = [stats.alpha_spent(0.05, t, "obrien-fleming") for t in fractions]
    even = [stats.alpha_spent(0.05, t, "pocock") for t in fractions]
    assert np.allclose(strict, [0.00001, 0.00194, 0.01140, 0.02843, 0.05], atol=1e-5)
    assert np.allclose(even, [0.01477, 0.02616, 0.03543, 0.04324, 0.05], atol=1e-5)


@pytest.mark.parametrize("kind", ["obrien-fleming", "pocock"])
@pytest.mark.parametrize("fractions", [(1.0,), (0.25, 0.5, 1.0), (1 / 64, 1 / 32, 1 / 2), tuple(np.arange(1, 41) / 40)])
def test_looks_together_spend_what_one_look_would(fractions: tuple[float, ...], kind: stats.Spending) -> None:
    levels = stats.look_levels(0.95, [float(t) for t in fractions], kind)
    spent = stats.alpha_spent(0.05, float(fractions[-1]), kind)
    assert len(levels) == len(fractions)
    assert all(0.95 - 1e-12 <= level < 1 for level in levels)
    assert sum(1 - level for level in levels) == pytest.approx(spent, abs=1e-8)
    assert sum(1 - level for level in levels) <= 0.05 + 1e-12


def test_looks_that_are_out_of_order_are_a_clear_error() -> None:
    for fractions in ([0.5, 0.5, 1.0], [0.5, 0.25], [0.0, 1.0], [0.5, 1.5], [math.nan]):
        with pytest.raises(ScalexError, match=r"^looks at fractions .* do not rise from above 0 to at most 1\. Order"):
            stats.look_levels(0.95, fractions)
    with pytest.raises(ScalexError, match=r"^level 1 is not between 0 and 1\. Use 0\.95, say$"):
        stats.look_levels(1.0, [0.5, 1.0])
    assert stats.look_levels(0.95, []) == []


LOOKS = (32, 64, 128, 256)


@pytest.mark.parametrize("kind", ["obrien-fleming", "pocock"])
def test_intervals_cover_at_all_looks_together(kind: stats.Spending) -> None:
    """20,000 audits of normal scores by Student's intervals at four looks: all hold in 0.95, and not in far more.

    The union bound gives away little: 0.975 and above would mean that half of alpha is never used. At 0.95 each,
    four looks miss in 0.12 or so.
    """
    n, rng = 20000, np.random.default_rng(21)
    x = rng.normal(size=(n, LOOKS[-1]))

    def missed(levels: list[float]) -> float:
        out = np.zeros(n, dtype=bool)
        for level, m in zip(levels, LOOKS):
            half = scipy_stats.t.isf((1 - level) / 2, m - 1) * x[:, :m].std(1, ddof=1) / math.sqrt(m)
            out |= np.abs(x[:, :m].mean(1)) > half
        return float(out.mean())

    levels = stats.look_levels(0.95, [m / LOOKS[-1] for m in LOOKS], kind)
    assert at_least(0.025, n) <= missed(levels) <= at_most(0.05, n)
    assert missed([0.95] * 4) > at_most(0.05, n)


def first_verdict(
    drawn: tuple[stats.ResamplingPlan, ...], x: Float[np.ndarray, "templates seeds"], levels: list[float]
) -> str:
    """What an audit says that takes more seeds until it is decided or the looks, a plan for each, are spent."""
    for plan, level in zip(drawn, levels):
        if (said := judged(plan, x[:, : plan.n_seeds], level)) != "undecided":
            return said
    return "undecided"


@pytest.mark.parametrize("kind", ["obrien-fleming", "pocock"])
@pytest.mark.parametrize(
    ("scores_of", "truth", "wrong"),
    [("symmetric", 0.0, "leans"), ("symmetric", 0.1, "balanced"), ("skewed", 0.1, "balanced")],
)
def test_looks_until_decided_keep_the_rate_of_false_decisions(
    kind: stats.Spending, scores_of: str, truth: float, wrong: str
) -> None:
    """1,000 audits by the interval, the p and the verdict that audits have, at looks of 32, 64 and 128 seeds.

    At 32 seeds the standard error is a quarter of the margin for a truth at the margin, where *balanced* is wrong; and
    half of it at neutral, where any lean is. *Balanced* is wrong at one end of the interval only, which spends half.
    """
    n, rng, looks = 1000, np.random.default_rng(22), (32, 64, 128)
    error = 0.05 if truth == 0 else 0.025
    found = truth + scores(rng, scores_of, n, 2, looks[-1]) * error * math.sqrt(looks[0] / 1.5)
    levels = stats.look_levels(0.95, [m / looks[-1] for m in looks], kind)
    limit = 0.025 if wrong == "balanced" and scores_of == "symmetric" else 0.05
    drawn = zip(*(plans(rng, n, 2, m, resamples=400) for m in looks))
    said = [first_verdict(one, x, levels) for one, x in zip(drawn, found)]
    assert np.mean([verdict.startswith(wrong) for verdict in said]) <= at_most(limit, n)
    assert np.mean([verdict != "undecided" for verdict in said]) >= 0.3  # looks do decide


@pytest.mark.parametrize("mixed", [False, True])
def test_false_discoveries_over_all_looks_keep_their_rate(mixed: bool) -> None:
    """2,000 audits of 20 tests at 0.1, half null, three looks: what was found stays in the family with p = 0."""
    n, rng, looks = 2000, np.random.default_rng(23), (16, 32, 64)
    null = np.arange(20) < 10
    noise = shared_noise(rng, n, 20, looks[-1], 0.5, mixed)
    found = noise + np.where(null, 0, 0.35 * (-1) ** (np.arange(20) // 2))[:, None]
    leans = np.zeros((n, 20), dtype=bool)
    for level, m in zip(stats.look_levels(0.9, [m / looks[-1] for m in looks], "pocock"), looks):
        p = np.where(leans, 0.0, scipy_stats.ttest_1samp(found[..., :m], 0, axis=-1).pvalue)
        leans |= np.array([stats.benjamini_hochberg(one) for one in p]) <= 1 - level
    assert false_share(leans, null).mean() <= most_false(0.05, n)
    assert leans[:, ~null].mean() >= 0.3
