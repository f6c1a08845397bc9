"""Leans in the metric of the noise: the metric itself, and what it is good for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import spearmanr
from sklearn.covariance import LedoitWolf

from scalex import directions, stats
from scalex.analyses import defaults
from scalex.analyses._planted import planted
from scalex.errors import ScalexError
from scalex.records import Latents, LeanDirection, Prompt
from scalex.whitening import Whitening, variants_in, whitening

GENDER = ("man", "woman")


def noise(n_variants: int, n_templates: int, n_seeds: int, width: int, seed: int = 0) -> Latents:
    """Variants alone, whose noise is partly that of their seed and much larger in some directions than in others."""
    rng, size = np.random.default_rng(seed), np.geomspace(3, 0.3, width)
    prompts = [Prompt("", "nurse", str(t), "tone", str(v)) for v in range(n_variants) for t in range(n_templates)]
    own = rng.normal(size=(len(prompts), n_seeds, width)) + rng.normal(size=(n_seeds, width))
    values = own * size + rng.normal(size=(len(prompts), 1, width))
    return Latents(values[:, :, None], tuple(prompts), tuple(range(n_seeds)), (0,), "picture")


def metric(x: Latents, n_folds: int = 8) -> Whitening:
    return whitening(x, variants_in(x), n_folds=n_folds)


def written_out(x: Latents, kept: np.ndarray, fold: np.ndarray) -> np.ndarray:
    """The inverse that the seeds that are kept give, without any shortcut."""
    width = x.values.shape[-1]
    variants = np.stack([x.of("nurse", "tone", v) for v in dict.fromkeys(p.value for p in x.prompts)])[:, :, kept]
    rows = variants - variants.mean((1, 2), keepdims=True)

    def covariance(some: np.ndarray) -> np.ndarray:
        flat = some.reshape(-1, width)
        return np.asarray(flat.T @ flat / len(flat))

    whole, mean = covariance(rows), np.eye(width) * (rows**2).mean()
    folds = np.unique(fold[kept])
    parts = [(np.mean(fold[kept] == k), covariance(rows[:, :, fold[kept] == k])) for k in folds]
    error = sum(weight * ((part - whole) ** 2).sum() for weight, part in parts) / (len(folds) - 1)
    shrinkage = np.clip(error / ((whole - mean) ** 2).sum(), 0.01, 1)
    return np.linalg.inv(((1 - shrinkage) * whole + shrinkage * mean) / mean[0, 0])


# ---------------------------------------------------------------------------------------------------- the metric


@pytest.mark.parametrize(
    ("n_variants", "n_seeds", "width"),
    [(20, 12, 10), (2, 12, 400)],  # matrices of the width, and inner products of samples
)
def test_the_metric_is_the_shrunk_covariance_of_other_seeds(n_variants: int, n_seeds: int, width: int) -> None:
    x, fold = noise(n_variants, 2, n_seeds, width), stats.folds(n_seeds, 8)
    asked = np.random.default_rng(1).normal(size=(3, n_seeds, width))
    found = metric(x)(asked)
    for seed in range(n_seeds):
        expected = asked[:, seed] @ written_out(x, fold != fold[seed], fold)
        assert np.allclose(found[:, seed], expected, rtol=1e-6, atol=1e-9 * np.abs(expected).max())


def test_where_each_seed_is_one_sample_it_is_what_ledoit_and_wolf_give() -> None:
    """But for n - 1 in place of n."""
    x = noise(1, 1, 13, 6)
    asked = np.random.default_rng(2).normal(size=(1, 13, 6))
    found = metric(x, 13)(asked)
    samples = x.of("nurse", "tone", "0")[0]
    for seed in range(13):
        rest = np.delete(samples, seed, axis=0)
        fitted = LedoitWolf().fit(rest)
        shrinkage, whole = min(1.0, fitted.shrinkage_ * 12 / 11), np.cov(rest.T, bias=True)
        mean = np.trace(whole) / 6
        shrunk = (1 - shrinkage) * whole / mean + shrinkage * np.eye(6)
        assert np.allclose(found[0, seed], np.linalg.solve(shrunk, asked[0, seed]))


def test_what_is_shared_by_seed_counts_as_few_samples() -> None:
    """A thousand concepts with the noise of four seeds know three directions of it, not thousands of samples' worth."""
    rng = np.random.default_rng(3)
    one = noise(1, 1, 4, 50).values
    values = np.repeat(one, 1000, axis=0) + 0.01 * rng.normal(size=(1000, 4, 1, 50))
    x = Latents(
        values, tuple(Prompt("", "nurse", "0", "tone", str(i)) for i in range(1000)), (0, 1, 2, 3), (0,), "text"
    )
    seen = np.linalg.svd(values[:, 1:, 0].mean(0) - values[:, 1:, 0].mean((0, 1)))[2]
    along = np.broadcast_to(np.stack([seen[0], seen[-1]])[:, None], (2, 4, 50)).copy()
    gains = np.einsum("tsd,tsd->ts", metric(x)(along), along)[:, 0]
    assert gains[1] / gains[0] < 1000  # as if samples were counted one by one: above 1,000, whatever is asked


@pytest.mark.parametrize("width", [8, 400])
def test_nothing_of_a_seed_comes_into_what_is_applied_to_it(width: int) -> None:
    x, asked = noise(6, 2, 16, width), np.random.default_rng(4).normal(size=(2, 16, width))
    other = replace(x, values=np.where(np.arange(16)[:, None, None] == 3, x.values * 5 + 2, x.values))
    before, after = (metric(one)(asked) for one in (x, other))
    same_fold = stats.folds(16, 8) == stats.folds(16, 8)[3]
    assert np.allclose(before[:, same_fold], after[:, same_fold], rtol=1e-6)
    assert not np.allclose(before[:, ~same_fold], after[:, ~same_fold], rtol=1e-2)


def test_what_does_not_vary_is_left_as_it_is() -> None:
    x = noise(4, 1, 8, 5)
    still = replace(x, values=np.broadcast_to(x.values[:, :1], x.values.shape).round().copy())
    asked = np.random.default_rng(5).normal(size=(1, 8, 5))
    assert np.array_equal(metric(still)(asked), asked)


def test_too_wide_latents_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCALEX_MEMORY", "0.0001")
    with pytest.raises(ScalexError) as refused:
        metric(noise(40, 2, 8, 64))
    assert str(refused.value) == (
        "the covariance of 640 samples of width 64 takes 0.00079 GB. Take `pooling: mean`, `lean_direction: own`, "
        "or raise SCALEX_MEMORY"
    )


# ---------------------------------------------------------------------------------------------------- leans


def stretched(x: Latents, ends: float = 30.0) -> Latents:
    """The latents with noise that is up to so many times as large in some directions as in others, turned."""
    width = x.values.shape[-1]
    turn = np.linalg.qr(np.random.default_rng(6).normal(size=(width, width)))[0]
    return replace(x, values=x.values @ (turn * np.geomspace(ends, 1, width)) @ turn.T)


def leans(x: Latents, direction: LeanDirection) -> list[np.ndarray]:
    """Scores of the lean of every concept."""
    along = defaults.lean_directions(x, direction)("gender", GENDER)
    return [
        defaults.lean_scores(x.of(c).astype(float), *directions.variants_of(x, c, "gender", GENDER), one)
        for c, one in zip(x.concepts, along, strict=True)
    ]


def shares(values: Sequence[float]) -> dict[str, dict[str, dict[str, float]]]:
    return {f"concept {i}": {"gender": {"man": 1 - p, "woman": p}} for i, p in enumerate(values)}


def test_the_variants_themselves_are_at_either_end() -> None:
    x = stretched(planted(shares([0.2, 0.7]), np.random.default_rng(7), n_seeds=12))
    [along] = set(defaults.lean_directions(x, "pooled")("gender", GENDER))
    first, second = directions.variants_of(x, "concept 1", "gender", GENDER)
    for neutral, at in ((first, -0.5), (second, 0.5), ((first + second) / 2, 0.0)):
        assert np.allclose(defaults.lean_scores(neutral, first, second, along), at)


def test_an_affine_map_of_latents_hardly_moves_leans() -> None:
    x = planted(shares([0.1, 0.3, 0.5, 0.7, 0.9] * 4), np.random.default_rng(8), n_seeds=64, width=16, mixed=True)
    moved = {
        d: np.subtract(*([s.mean() for s in leans(one, d)] for one in (x, stretched(x, 10)))) for d in ("own", "pooled")
    }
    assert np.abs(moved["pooled"]).max() < 0.08
    assert np.abs(moved["own"]).max() > 0.15


def unsteady(x: Latents, size: float, rng: np.random.Generator) -> Latents:
    """The latents with more noise, so many times as large as a sample's own, in three directions that all share."""
    axes = np.linalg.qr(rng.normal(size=(x.values.shape[-1], 3)))[0].T
    return replace(x, values=x.values + size * rng.normal(size=(*x.values.shape[:3], 3)) @ axes)


@pytest.mark.parametrize(("n_seeds", "least", "better"), [(4, 0.88, 0.05), (8, 0.93, 0.0)])
def test_leans_rank_better_where_noise_is_large_in_few_directions_that_all_share(
    n_seeds: int, least: float, better: float
) -> None:
    """Better than along the concept's own direction; of four seeds better, too, than with each concept's own metric."""
    share = np.linspace(0.1, 0.9, 17)
    rho: dict[LeanDirection, list[float]] = {"own": [], "lda": [], "pooled": []}
    for seed in range(10):
        rng = np.random.default_rng(seed)
        x = unsteady(planted(shares(share), rng, n_seeds=n_seeds, mixed=True), 5.0, rng)
        for direction, held in rho.items():
            held.append(spearmanr(np.nan_to_num([s.mean() for s in leans(x, direction)]), share)[0])
    mean = {direction: np.mean(held) for direction, held in rho.items()}
    assert mean["pooled"] > least
    assert mean["pooled"] > mean["own"] + 0.05
    assert mean["pooled"] > mean["lda"] + better


@pytest.mark.parametrize("direction", ["lda", "pooled"])
@pytest.mark.parametrize(("n_seeds", "size", "aside"), [(8, 5.0, 0.0), (32, 5.0, 0.0), (32, 0.0, 3.0)])
def test_intervals_cover(n_seeds: int, size: float, aside: float, direction: LeanDirection) -> None:
    """P(fewer than 182 of 200 at 95 %) = 0.01. A neutral prompt far aside shows the noise of the direction."""
    inside, plan = [], stats.resampling_plan(2, n_seeds, 400, np.random.default_rng(0), 100)
    for seed in range(50):
        rng = np.random.default_rng(seed)
        x = planted(shares([0.1, 0.5, 0.5, 0.9]), rng, n_seeds=n_seeds, aside=aside, mixed=True)
        for at, scores in zip((-0.4, 0.0, 0.0, 0.4), leans(unsteady(x, size, rng), direction)):
            low, high = stats.bootstrap_interval(plan, scores, 0.95)
            inside.append(low <= at <= high)
    assert sum(inside) >= 182


def test_one_concept_is_enough() -> None:
    x = stretched(planted(shares([0.9]), np.random.default_rng(9), n_seeds=64, width=12, mixed=True))
    assert leans(x, "pooled")[0].mean() == pytest.approx(0.4, abs=0.05)
