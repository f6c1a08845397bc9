"""Statistics against independent implementations, and by simulation with thresholds that were fixed beforehand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats as scipy_stats
from sklearn.metrics import roc_auc_score
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import proportion_confint

from scalex import stats
from scalex.errors import ScalexError
from scalex.stats import Interval

INSIDE = {
    "neutral": 0.0,
    "margin": 0.1,
    "level": 0.95,
    "permutations": 9999,
    "towards": "leans to b",
    "away": "leans to a",
}


def plan(n_templates: int = 2, n_seeds: int = 32, resamples: int = 1000, seed: int = 0) -> stats.ResamplingPlan:
    return stats.resampling_plan(n_templates, n_seeds, resamples, np.random.default_rng(seed))


# ------------------------------------------------------------------------------------------------ resampling


def test_plan_is_determined_by_its_rng_and_resamples_seeds_only_for_few_templates() -> None:
    one, same, other = plan(), plan(), plan(seed=1)
    assert np.array_equal(one.seed_counts, same.seed_counts)
    assert not np.array_equal(one.seed_counts, other.seed_counts)
    assert (one.seed_counts.sum(1) == 32).all()
    assert one.templates_fixed
    assert (one.template_counts == 1).all()


def test_plan_resamples_five_templates() -> None:
    five = plan(n_templates=5)
    assert not five.templates_fixed
    assert (five.template_counts.sum(1) == 5).all()
    assert five.template_counts.std() > 0.5


@pytest.mark.parametrize(("n", "words"), [(1, "1 seed cannot"), (3, "3 seeds cannot")])
def test_too_few_seeds_are_a_clear_error(n: int, words: str) -> None:
    with pytest.raises(ScalexError, match=rf"^{words} carry an interval\. Use at least 4 seeds$"):
        plan(n_seeds=n)


@pytest.mark.parametrize("n_templates", [2, 6])
def test_bootstrap_means_equal_a_plain_loop_in_every_block_size(
    n_templates: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    p = plan(n_templates, 9, 50)
    values = np.random.default_rng(1).normal(size=(n_templates, 9, 3, 2))
    expected = [
        np.average(np.average(values, axis=1, weights=s), axis=0, weights=t)
        for s, t in zip(p.seed_counts, p.template_counts)
    ]
    assert np.allclose(stats.bootstrap_means(p, values), expected)
    monkeypatch.setattr(stats, "_BLOCK", 100)
    assert np.allclose(stats.bootstrap_means(p, values), expected)


def test_folds_are_balanced() -> None:
    assert sorted(np.bincount(stats.folds(10, 4))) == [2, 2, 3, 3]
    assert np.array_equal(stats.folds(5, 99), np.arange(5))


# ------------------------------------------------------------------------------------------------ intervals


def coverage(kind: str, n_seeds: int, trials: int = 600) -> float:
    """Share of simulated audits whose interval holds the true mean, zero."""
    rng = np.random.default_rng(7)
    p = plan(1, n_seeds)
    draw = {
        "normal": lambda: rng.normal(size=(1, n_seeds)),
        "skewed": lambda: rng.exponential(size=(1, n_seeds)) - 1,
        "two-valued": lambda: rng.choice([-0.7, 0.3], p=[0.3, 0.7], size=(1, n_seeds)),
    }[kind]
    ends = [stats.bootstrap_interval(p, draw(), 0.95) for _ in range(trials)]
    return float(np.mean([low <= 0 <= high for low, high in ends]))


@pytest.mark.parametrize("n_seeds", [4, 5, 8, 12])
def test_intervals_of_few_seeds_cover(n_seeds: int) -> None:
    assert 0.93 <= coverage("normal", n_seeds, 1000) <= 0.975


@pytest.mark.parametrize("n_seeds", [16, 32, 64])
@pytest.mark.parametrize(("kind", "least"), [("normal", 0.93), ("two-valued", 0.92), ("skewed", 0.90)])
def test_intervals_cover(kind: str, least: float, n_seeds: int) -> None:
    assert least <= coverage(kind, n_seeds) <= 0.975


def test_interval_is_wider_than_the_plain_percentile_interval_as_student_says() -> None:
    p = plan(1, 16, 20000)
    scores = np.random.default_rng(3).normal(size=(1, 16))
    low, high = stats.bootstrap_interval(p, scores, 0.95)
    t = 2 * scipy_stats.t.isf(0.025, 15) * scores.std(ddof=1) / 4
    assert high - low == pytest.approx(t, rel=0.05)


@pytest.mark.parametrize(("level", "n_seeds"), [(0.999, 24), (0.9995, 24), (0.9999, 48), (0.9995, 16)])
def test_percentile_intervals_cover_at_levels_that_leave_few_draws_in_a_tail(level: float, n_seeds: int) -> None:
    """20,000 means, each with 1,000 resamples: no more misses than the level allows, where the outermost draws miss
    more often, and not so few that the interval is of no use."""
    risk, trials, p, rng = 0.001, 20_000, plan(1, n_seeds, 1000), np.random.default_rng(4)
    missed, outermost = 0, 0
    for _ in range(10):
        draws = p.seed_counts @ rng.normal(size=(n_seeds, trials // 10)) / n_seeds
        low, high = stats.percentile_interval(draws, level, df=n_seeds - 1.0)
        missed += int(((low > 0) | (high < 0)).sum())
        outermost += int(((draws.min(0) > 0) | (draws.max(0) < 0)).sum())
    allowed = scipy_stats.binom.isf(risk, trials, 1.5 * (1 - level))
    assert missed <= allowed
    assert missed >= scipy_stats.binom.ppf(risk, trials, (1 - level) / 3)
    assert outermost > allowed or level == 0.999


def test_percentile_intervals_grow_with_the_level_without_a_leap_and_are_quantiles_where_these_can_be_told() -> None:
    draws, levels = np.random.default_rng(5).normal(size=(1000, 3)), np.linspace(0.5, 0.99999, 4000)
    ends = np.array([stats.percentile_interval(draws, float(level), df=31.0) for level in levels])
    assert (np.diff(ends[:, 1], axis=0) >= 0).all()
    assert (np.diff(ends[:, 0], axis=0) <= 0).all()
    assert np.abs(np.diff(ends[levels < 0.999], axis=0)).max() < 0.1
    assert (ends[-1, 1] > draws.max(0)).all()
    tail = scipy_stats.norm.sf(math.sqrt(32 / 31) * scipy_stats.t.isf(0.05, 31))
    quantiles = np.quantile(draws, [tail, 1 - tail], axis=0)
    assert np.array_equal(stats.percentile_interval(draws, 0.9, df=31.0), quantiles)


def test_intervals_over_resampled_templates_cover_the_mean_over_all_templates() -> None:
    rng, p = np.random.default_rng(11), plan(6, 32)
    hits = 0
    for _ in range(400):
        scores = rng.normal(size=(6, 1)) * 0.5 + rng.normal(size=(1, 32)) + rng.normal(size=(6, 32))
        low, high = stats.bootstrap_interval(p, scores, 0.95)
        hits += low <= 0 <= high
    assert 0.92 <= hits / 400 <= 0.99


def test_no_interval_where_nothing_varies() -> None:
    assert all(math.isnan(end) for end in stats.bootstrap_interval(plan(), np.full((2, 32), 0.3), 0.95))


@given(st.integers(1, 200), st.data())
@settings(max_examples=100, deadline=None)
def test_wilson_equals_statsmodels(n: int, data: st.DataObject) -> None:
    count = data.draw(st.integers(0, n))
    expected = proportion_confint(count, n, alpha=0.1, method="wilson")
    assert np.allclose(stats.wilson(count / n, float(n), 0.9), expected, atol=1e-12)


def test_wilson_has_a_width_at_both_ends_and_widens_for_an_estimated_n() -> None:
    assert stats.wilson(0.0, 32.0, 0.95).low == 0
    assert stats.wilson(0.0, 32.0, 0.95).high == pytest.approx(0.107, abs=1e-3)
    assert stats.wilson(1.0, 32.0, 0.95).low == pytest.approx(0.893, abs=1e-3)
    assert stats.wilson(0.0, 32.0, 0.95, df=10.0).high > stats.wilson(0.0, 32.0, 0.95).high
    assert stats.wilson(1.0, math.inf, 0.95) == Interval(1.0, 1.0)


# ------------------------------------------------------------------------------------------------ tests


def test_sign_flip_is_exact_for_few_seeds() -> None:
    scores = np.random.default_rng(5).normal(0.4, 1, size=(1, 10))
    exact = scipy_stats.permutation_test(
        (scores[0],), np.sum, permutation_type="samples", n_resamples=np.inf, alternative="two-sided"
    )
    assert stats.sign_flip_p(plan(1, 10), scores) == pytest.approx(exact.pvalue)


def test_sign_flip_of_many_seeds_comes_near_the_exact_one_and_is_never_zero() -> None:
    rng = np.random.default_rng(6)
    scores = rng.normal(0.3, 1, size=(1, 40))
    t = scipy_stats.ttest_1samp(scores[0], 0).pvalue
    assert stats.sign_flip_p(plan(1, 40), scores) == pytest.approx(t, abs=0.02)
    assert stats.sign_flip_p(plan(1, 40), scores + 100) == 1 / 10000


def test_sign_flip_p_is_uniform_under_the_null() -> None:
    rng, p = np.random.default_rng(8), plan(2, 24)
    values = [stats.sign_flip_p(p, rng.standard_t(4, size=(2, 24))) for _ in range(500)]
    assert scipy_stats.kstest(values, "uniform").pvalue > 0.01


@pytest.mark.parametrize("between", [0.0, 0.3])
def test_p_speaks_of_templates_in_general_where_they_are_drawn(between: float) -> None:
    """Flipping seeds alone rejects a true null in more than half of all audits once templates differ so."""
    rng, p = np.random.default_rng(21), plan(5, 32, 10)
    rejected, flipped = 0, 0
    for _ in range(400):
        scores = rng.normal(0, between, size=(5, 1)) + rng.normal(0, 0.2, size=(1, 32)) + rng.normal(0, 0.2, (5, 32))
        rejected += stats.mean_p(p, scores) <= 0.05
        flipped += stats.sign_flip_p(p, scores) <= 0.05
    assert rejected / 400 <= 0.075
    assert between == 0 or flipped / 400 >= 0.4


def test_p_of_fixed_templates_is_that_of_flipped_seeds() -> None:
    scores = np.random.default_rng(2).normal(0.3, 1, size=(2, 20))
    assert stats.mean_p(plan(2, 20), scores) == stats.sign_flip_p(plan(2, 20), scores)


def test_ties_in_sign_flips_count_in_spite_of_rounding() -> None:
    assert stats.sign_flip_p(plan(1, 4), np.full((1, 4), 0.1)) == 2 / 16
    assert stats.sign_flip_p(plan(1, 4), np.zeros((1, 4))) == 1


@given(st.lists(st.floats(0, 1), min_size=1, max_size=40))
@settings(max_examples=100, deadline=None)
def test_benjamini_hochberg_equals_statsmodels_and_scipy(values: list[float]) -> None:
    p = np.array(values)
    q = stats.benjamini_hochberg(p)
    assert np.allclose(q, multipletests(p, method="fdr_bh")[1])
    assert np.allclose(q, scipy_stats.false_discovery_control(p))


def test_benjamini_hochberg_leaves_unknown_tests_out_of_the_family() -> None:
    q = stats.benjamini_hochberg(np.array([0.01, np.nan, 0.04]))
    assert np.allclose(q, [0.02, np.nan, 0.04], equal_nan=True)
    assert np.isnan(stats.benjamini_hochberg(np.array([np.nan]))).all()
    assert stats.benjamini_hochberg(np.array([])).shape == (0,)


@pytest.mark.parametrize("decimals", [0, 1, 8])
def test_auc_equals_sklearn_with_and_without_ties(decimals: int) -> None:
    rng = np.random.default_rng(9)
    low, high = rng.normal(size=30).round(decimals), rng.normal(0.5, 1, size=50).round(decimals)
    expected = roc_auc_score([0] * 30 + [1] * 50, np.concatenate([low, high]))
    assert stats.auc(low, high) == pytest.approx(expected)


# ------------------------------------------------------------------------------------------------ misclassification


def test_rogan_gladen_by_hand() -> None:
    assert stats.rogan_gladen(0.30, 0.9, 0.8) == pytest.approx(0.1 / 0.7)
    assert stats.rogan_gladen(0.05, 0.9, 0.8) == 0
    assert stats.rogan_gladen(0.95, 0.9, 0.8) == 1
    assert math.isnan(stats.rogan_gladen(0.5, 0.5, 0.5))


@given(st.floats(0, 1), st.floats(0.55, 1), st.floats(0.55, 1))
@settings(max_examples=100, deadline=None)
def test_correction_for_many_values_is_rogan_gladen_for_two(
    seen: float, sensitivity: float, specificity: float
) -> None:
    confusion = np.array([[specificity, 1 - sensitivity], [1 - specificity, sensitivity]])
    share = stats.correct_shares(np.array([1 - seen, seen]), confusion)[1]
    assert share == pytest.approx(stats.rogan_gladen(seen, sensitivity, specificity), abs=1e-6)


def test_correction_recovers_shares_inside_the_simplex() -> None:
    rng = np.random.default_rng(10)
    confusion = 0.7 * np.eye(5) + 0.3 * rng.dirichlet(np.ones(5), size=5).T
    shares = rng.dirichlet(np.ones(5))
    assert np.allclose(stats.correct_shares(confusion @ shares, confusion), shares)


def test_points_without_any_extent_have_even_weights() -> None:
    for gram in (-np.eye(3), np.zeros((3, 3)), np.full((3, 3), -1e-300)):
        assert stats.nearest_mixture(gram) == pytest.approx(np.full(3, 1 / 3))


@pytest.mark.parametrize("seed", range(5))
def test_nearest_mixture_beats_every_other_mixture(seed: int) -> None:
    rng = np.random.default_rng(seed)
    points = rng.normal(size=(4, 6)) + 0.5
    weights = stats.nearest_mixture(points @ points.T)
    others = rng.dirichlet(np.full(4, 0.5), size=20000) @ points
    assert weights.min() >= 0
    assert weights.sum() == pytest.approx(1)
    best = np.linalg.norm(weights @ points)
    assert best <= np.linalg.norm(others, axis=1).min() + 1e-9
    assert best == pytest.approx(np.linalg.norm(others, axis=1).min(), rel=0.05)


# ------------------------------------------------------------------------------------------------ verdicts


def verdict(estimate: float, low: float, high: float, p: float, q: float) -> stats.Verdict:
    return stats.decide(estimate, Interval(low, high), p, q, n_seeds=32, **INSIDE)


def test_verdicts() -> None:
    assert verdict(0.3, 0.2, 0.4, 0.001, 0.01).text == "leans to b"
    assert verdict(-0.3, -0.4, -0.2, 0.001, 0.01).text == "leans to a"
    assert verdict(0.02, -0.05, 0.09, 0.5, 0.6).text == "balanced"
    assert verdict(0.05, 0.02, 0.08, 0.001, 0.01).text == "balanced"  # there, but inside the margin
    assert verdict(0.05, -0.1, 0.2, 0.3, 0.5).text == "undecided"
    assert verdict(0.3, 0.2, 0.4, math.nan, math.nan).text == "undecided"


def test_undecided_says_how_many_more_seeds_would_decide() -> None:
    # half-width 0.15 at 32 seeds; 0.05 from the margin's edge and 0.05 from neutral: nine times the seeds
    assert verdict(0.05, -0.1, 0.2, 0.3, 0.3).reason == "about 260 more seeds would decide"
    # the correction asks for more than the single test, which has passed
    assert verdict(0.2, 0.01, 0.39, 0.04, 0.2).reason == "about 18 more seeds would decide"


def test_undecided_says_where_more_permutations_would_decide() -> None:
    """No flip of 9,999 came near, so p is as small as it can be; the correction for many tests asks for less."""
    assert verdict(0.3, 0.2, 0.4, 1e-4, 0.09).reason == "more permutations than 9999 would decide: no flip came near"


def test_without_interval_there_is_no_verdict() -> None:
    assert verdict(0.3, math.nan, math.nan, math.nan, math.nan) == ("undecided", "there is no interval")


def test_the_predicted_number_of_seeds_does_decide() -> None:
    rng = np.random.default_rng(12)
    first = plan(1, 16)
    decided = []
    while len(decided) < 25:
        scores = rng.normal(0.25, 0.6, size=(1, 2000))
        few = scores[:, :16]
        interval, p = stats.bootstrap_interval(first, few, 0.95), stats.sign_flip_p(first, few)
        before = stats.decide(few.mean(), interval, p, p, n_seeds=16, **INSIDE)
        if before.text != "undecided":
            continue
        n = min(2000, 16 + 2 * int(before.reason.split()[1]))  # twice as many: the estimate moves too
        more = plan(1, n, 400)
        interval, p = stats.bootstrap_interval(more, scores[:, :n], 0.95), stats.sign_flip_p(more, scores[:, :n])
        decided.append(stats.decide(scores[:, :n].mean(), interval, p, p, n_seeds=n, **INSIDE).text != "undecided")
    assert np.mean(decided) >= 0.6


def test_template_note() -> None:
    assert stats.template_note(1) == "this template only"
    assert stats.template_note(4) == "these 4 templates only"
    assert stats.template_note(5) == ""
