"""Every analysis keeps one contract; defaults and rates find what was planted, and only that."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from dataclasses import replace
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from scipy import stats as scipy_stats
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.metrics import roc_auc_score

from scalex import analyses, directions, stats
from scalex.analyses import defaults, rates
from scalex.analyses._planted import attributes_of, planted
from scalex.errors import ScalexError
from scalex.records import READINGS, Finding, Latents, LeanDirection, Rules

RULES = Rules(resamples=500, permutations=1999)
GENDER = {"pilot": 0.05, "farmer": 0.5, "nurse": 0.9}
PLAN = {
    c: {"gender": {"man": 1 - p, "woman": p}, "age": {"young": 0.7, "adult": 0.2, "old": 0.1}}
    for c, p in GENDER.items()
}
ATTRIBUTES = attributes_of(PLAN)
VERDICTS = ("leans to ", "leans away from ", "balanced", "undecided", "not expressed", "readings agree", "picture ")


def latents_for(name: str, seed: int = 0, **options: object) -> dict[str, Latents]:
    """Planted latents of every reading that an analysis takes, each with noise of its own."""
    readings = analyses.available()[name].READINGS
    seeds = {"picture": seed, "text": seed + 1000}
    return {r: planted(PLAN, np.random.default_rng(seeds[r]), reading=r, **options) for r in readings}  # type: ignore[arg-type]


def run(name: str, latents: dict[str, Latents], rules: Rules = RULES) -> list[Finding]:
    return analyses.run([name], latents, ATTRIBUTES, rules)  # type: ignore[arg-type]


def same(one: Sequence[Finding], other: Sequence[Finding]) -> bool:
    """Equality of findings in which NaN equals NaN."""
    return [repr(f) for f in one] == [repr(f) for f in other]


def arrays(latents: Latents, attribute: str = "gender", concept: str = "farmer") -> tuple[np.ndarray, np.ndarray]:
    """Neutral latents of a concept, and those of its variants."""
    neutral = latents.of(concept).astype(float)
    return neutral, directions.variants_of(latents, concept, attribute, ATTRIBUTES[attribute])


# ------------------------------------------------------------------------- analyses of a concept's attributes

ATTRIBUTE_WISE = ("defaults", "disagreement", "rates")  # all keep the contract in test_analysis_contract.py
every = pytest.mark.parametrize("name", ATTRIBUTE_WISE)


@every
def test_module_offers_the_contract(name: str) -> None:
    analysis = analyses.available()[name]
    assert name == analysis.NAME
    assert analysis.READINGS
    assert set(analysis.READINGS) <= set(READINGS)


@every
def test_findings_are_complete_and_consistent(name: str) -> None:
    latents = latents_for(name)
    found = run(name, latents)
    compares = hasattr(analyses.available()[name], "compare")
    assert {f.reading for f in found} == ({"both"} if compares else set(latents))
    assert {f.target for f in found} <= set(PLAN)
    assert len({(f.reading, f.target, f.attribute, f.value) for f in found}) == len(found)
    for f in found:
        assert f.analysis == name
        assert f.verdict.startswith(VERDICTS)
        assert f.reason
        assert f.n_seeds == 32
        assert f.n_templates == 2
        assert f.low <= f.estimate <= f.high
        assert 0 < f.p <= f.q <= 1


@every
def test_findings_do_not_depend_on_chance_or_on_the_company_of_other_concepts(name: str) -> None:
    latents = latents_for(name)
    found = run(name, latents)
    assert same(found, run(name, latents))
    alone = {r: subset(x, "nurse") for r, x in latents.items()}
    uncorrected = {"q": math.nan, "verdict": "", "reason": ""}
    kept = [replace(f, **uncorrected) for f in found if f.target == "nurse"]  # type: ignore[arg-type]
    assert same(kept, [replace(f, **uncorrected) for f in run(name, alone)])  # type: ignore[arg-type]


def subset(x: Latents, concept: str) -> Latents:
    rows = [i for i, p in enumerate(x.prompts) if p.concept == concept]
    return Latents(x.values[rows], tuple(x.prompts[i] for i in rows), x.seeds, x.steps, x.reading)


@every
def test_what_the_model_does_not_tell_apart_is_not_expressed(name: str) -> None:
    for f in run(name, latents_for(name, separation=0.0)):
        assert f.verdict == "not expressed"
        assert all(math.isnan(x) for x in (f.estimate, f.low, f.high, f.p, f.q))
        assert 0.2 < f.separability < 0.8
        assert f.reason == f"held-out seeds tell the variants apart with AUC {f.separability:.2f}, the floor is 0.8"


@every
def test_identical_latents_are_not_expressed_and_never_a_zero(name: str) -> None:
    for f in run(name, {r: replace(x, values=np.ones_like(x.values)) for r, x in latents_for(name).items()}):
        assert f.verdict == "not expressed"
        assert math.isnan(f.estimate)
        assert f.separability == 0.5


@every
def test_seeds_that_are_all_the_same_decide_nothing(name: str) -> None:
    frozen = {r: replace(x, values=np.repeat(x.values[:, :1], 32, axis=1)) for r, x in latents_for(name).items()}
    for f in run(name, frozen):
        assert f.verdict == "undecided"
        assert f.reason == "the latents do not vary between seeds"
        assert math.isnan(f.estimate)


@every
def test_bad_input_is_a_clear_error(name: str) -> None:
    latents = latents_for(name, n_seeds=1)
    with pytest.raises(ScalexError, match=r"^1 seed cannot carry an interval\. Use at least 4 seeds$"):
        run(name, latents)
    with pytest.raises(ScalexError, match=r"^attribute 'gender' has 1 value\. Give it at least two values to compare$"):
        analyses.run([name], latents_for(name), {"gender": ("man",)}, RULES)  # type: ignore[arg-type]
    with pytest.raises(ScalexError, match=r"^no latents of 'pilot' with hat=none were captured\."):
        analyses.run([name], latents_for(name), {"hat": ("none", "red")}, RULES)  # type: ignore[arg-type]


@every
def test_nan_never_reaches_an_analysis(name: str) -> None:
    x = next(iter(latents_for(name).values()))
    with pytest.raises(ScalexError, match="not finite"):
        replace(x, values=np.full_like(x.values, np.nan))


@every
def test_five_templates_are_resampled_and_fewer_are_named(name: str) -> None:
    assert all(f.reason.endswith("these 2 templates only") for f in run(name, latents_for(name)))
    five = run(name, latents_for(name, n_templates=5))
    assert all("only" not in f.reason and f.n_templates == 5 for f in five)


@every
def test_no_more_false_alarms_than_the_level_allows(name: str) -> None:
    controls = {f"c{i}": {"gender": {"man": 0.5, "woman": 0.5}} for i in range(60)}
    x = {r: planted(controls, np.random.default_rng(i), reading=r) for i, r in enumerate(READINGS, 1)}
    found = analyses.run([name], x, attributes_of(controls), RULES)
    assert sum(f.verdict.startswith(("leans", "picture")) for f in found) <= 3


# ------------------------------------------------------------------------------------------------ the open set


def test_a_new_analysis_is_one_new_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = (Path(analyses.__file__).parent / "rates.py").read_text().replace('NAME = "rates"', 'NAME = "stakes"')
    (tmp_path / "stakes.py").write_text(source)
    known = set(analyses.available())
    monkeypatch.setattr(analyses, "__path__", [*analyses.__path__, str(tmp_path)])
    try:
        assert set(analyses.available()) == known | {"stakes"}
        assert {f.analysis for f in run("stakes", latents_for("stakes"))} == {"stakes"}
    finally:
        sys.modules.pop("scalex.analyses.stakes", None)


def entry_point(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    point = EntryPoint("other", value, analyses.GROUP)
    monkeypatch.setattr(analyses, "entry_points", lambda group: [point] if group == analyses.GROUP else [])


def test_an_installed_analysis_must_keep_the_contract(monkeypatch: pytest.MonkeyPatch) -> None:
    entry_point(monkeypatch, "scalex.stats")
    with pytest.raises(ScalexError, match=r"^analysis scalex\.stats lacks NAME, READINGS, conclude, analyse\."):
        analyses.available()


def test_two_analyses_of_one_name_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    entry_point(monkeypatch, "scalex.analyses.rates")
    with pytest.raises(ScalexError, match=r"^two analyses are named 'rates'; the second is scalex\.analyses\.rates\."):
        analyses.available()


def test_unknown_names_and_missing_readings_are_clear_errors() -> None:
    x = {"text": latents_for("defaults")["text"]}
    known = f"Known: {', '.join(analyses.available())}"
    with pytest.raises(ScalexError, match=rf"^unknown analysis 'rate'\. Did you mean 'rates'\? {known}$"):
        analyses.run(["rate"], x, ATTRIBUTES, RULES)  # type: ignore[arg-type]
    with pytest.raises(ScalexError, match=rf"^unknown analysis 'xyz'\. {known}$"):
        analyses.run(["xyz"], x, ATTRIBUTES, RULES)  # type: ignore[arg-type]
    with pytest.raises(ScalexError, match=r"^analysis 'rates' takes the picture reading, which is not captured\. Add"):
        analyses.run(["rates"], x, ATTRIBUTES, RULES)  # type: ignore[arg-type]
    with pytest.raises(ScalexError, match=r"^analysis 'disagreement' takes the picture reading, which is not"):
        analyses.run(["disagreement"], x, ATTRIBUTES, RULES)  # type: ignore[arg-type]


def test_correction_counts_the_tests_of_one_analysis_and_each_test_once() -> None:
    found = run("rates", latents_for("rates"))
    two = [f for f in found if f.attribute == "gender"]
    for man, woman in zip(two[::2], two[1::2]):
        assert (man.p, man.q) == (woman.p, woman.q)
    tests = np.array([f.p for f in found if f.value != "man"])  # 3 concepts x (1 + 3) tests
    expected = scipy_stats.false_discovery_control(tests)
    assert np.allclose([f.q for f in found if f.value != "man"], expected)


def test_each_reading_is_corrected_by_itself() -> None:
    found = run("defaults", latents_for("defaults"))
    for reading in READINGS:
        own = [f for f in found if f.reading == reading]
        assert np.allclose([f.q for f in own], scipy_stats.false_discovery_control([f.p for f in own]))


# ------------------------------------------------------------------------------------------------ disagreement


def parted(
    rng: np.random.Generator, n: int, values: Sequence[str]
) -> tuple[list[dict[str, float]], dict[str, Latents]]:
    """Shares by the picture minus those by the words, per concept, and latents of both that hold them."""
    shares = rng.dirichlet(np.ones(len(values)), size=(2, n))
    plans = [{f"c{i}": {"a": dict(zip(values, map(float, row)))} for i, row in enumerate(side)} for side in shares]
    beyond = [dict(zip(values, map(float, row))) for row in shares[1] - shares[0]]
    return beyond, {r: planted(p, rng, reading=r, mixed=True) for r, p in zip(READINGS, plans)}


@pytest.mark.parametrize("values", [("man", "woman"), ("young", "adult", "old")])
def test_disagreement_is_the_picture_minus_the_words(values: tuple[str, ...]) -> None:
    beyond, latents = parted(np.random.default_rng(3), 40, values)
    found = analyses.run(["disagreement"], latents, {"a": values}, RULES)  # type: ignore[arg-type]
    assert len(found) == 40 * (1 if len(values) == 2 else 3)
    truth = np.array([beyond[int(f.target[1:])][f.value] for f in found])
    assert np.abs(truth - [f.estimate for f in found]).max() < 0.15
    covered = np.mean([f.low <= t <= f.high for f, t in zip(found, truth)])
    assert covered >= 0.88
    for f, t in zip(found, truth):
        if abs(t) > 0.25:
            other = "picture more man" if len(values) == 2 else f"picture less {f.value}"
            assert f.verdict == (f"picture more {f.value}" if t > 0 else other)


def test_readings_that_say_the_same_are_not_said_to_part() -> None:
    found = run("disagreement", latents_for("disagreement", mixed=True, n_seeds=128))
    assert {f.verdict for f in found} <= {"readings agree", "undecided"}
    assert sum(f.verdict == "readings agree" for f in found) > len(found) / 2


# ------------------------------------------------------------------------------------------------ defaults


def test_leans_and_weights_are_those_planted() -> None:
    found = [f for f in run("defaults", latents_for("defaults", n_seeds=256, mixed=True)) if f.reading == "text"]
    leans = {f.target: f.estimate for f in found if f.unit == "lean"}
    assert leans == pytest.approx({c: p - 0.5 for c, p in GENDER.items()}, abs=0.03)
    for f in found:
        if f.unit == "weight":
            assert f.estimate == pytest.approx(PLAN[f.target]["age"][f.value], abs=0.04)
    assert {f.target: f.verdict for f in found if f.unit == "lean"} == {
        "pilot": "leans to man",
        "farmer": "balanced",
        "nurse": "leans to woman",
    }
    assert all("residual" in f.reason for f in found if f.unit == "weight")


def test_lean_equals_the_formula_written_out() -> None:
    neutral, (first, second) = arrays(planted(PLAN, np.random.default_rng(2), n_seeds=6, n_templates=3))
    d, w = (neutral - (first + second) / 2).mean(0), (second - first).mean(0)
    pairs = [(r, s) for r in range(6) for s in range(6) if r != s]
    expected = sum(d[r] @ w[s] for r, s in pairs) / sum(w[r] @ w[s] for r, s in pairs)
    scores = defaults.lean_scores(neutral, first, second)
    assert scores.shape == (3, 6)
    assert scores.mean() == pytest.approx(expected)


def test_lean_scores_spread_like_the_jackknife() -> None:
    # far from zero, where the noise of the denominator counts too
    neutral, (first, second) = arrays(planted(PLAN, np.random.default_rng(3), n_seeds=24, mixed=True), concept="nurse")
    whole = defaults.lean_scores(neutral, first, second)
    without = [
        defaults.lean_scores(*(np.delete(x, s, axis=1) for x in (neutral, first, second))).mean() for s in range(24)
    ]
    jackknife = np.sqrt(23 / 24 * ((without - np.mean(without)) ** 2).sum())
    assert whole.mean(0).std(ddof=1) / np.sqrt(24) == pytest.approx(jackknife, rel=0.1)


@pytest.mark.parametrize(("mixed", "separation", "aside"), [(True, 3.0, 0.0), (True, 3.0, 3.0), (False, 6.0, 6.0)])
def test_lean_is_unbiased_covered_and_uniform_under_the_null(mixed: bool, separation: float, aside: float) -> None:
    rng, plan = np.random.default_rng(4), stats.resampling_plan(2, 32, 500, np.random.default_rng(0), 999)
    one = {"farmer": {"gender": {"man": 0.5, "woman": 0.5}}}
    leans, hits, ps = [], [], []
    for _ in range(250):
        x = planted(one, rng, mixed=mixed, separation=separation, aside=aside)
        neutral, (first, second) = arrays(x)
        scores = defaults.lean_scores(neutral, first, second)
        interval = stats.bootstrap_interval(plan, scores, 0.95)
        leans.append(scores.mean())
        hits.append(interval.low <= 0 <= interval.high)
        ps.append(stats.sign_flip_p(plan, scores))
    assert abs(np.mean(leans)) < 3 * np.std(leans) / np.sqrt(250)
    assert 0.92 <= np.mean(hits) <= 0.985
    assert scipy_stats.kstest(ps, "uniform").pvalue > 0.01


def test_noise_does_not_pull_the_lean_towards_zero() -> None:
    rng = np.random.default_rng(5)
    one = {"farmer": {"gender": {"man": 0.1, "woman": 0.9}}}
    leans = []
    for _ in range(200):
        neutral, (first, second) = arrays(planted(one, rng, mixed=True, separation=2.0, width=128))
        leans.append(defaults.lean_scores(neutral, first, second).mean())
    assert np.median(leans) == pytest.approx(0.4, abs=0.04)  # with products of a seed with itself: 0.26


@pytest.mark.parametrize("name", ["defaults", "disagreement"])
@pytest.mark.parametrize("seed", range(3))
def test_many_values_of_few_seeds_have_numbers(name: str, seed: int) -> None:
    """Four seeds make Gram matrices with no positive eigenvalue in some resamples."""
    plan = {"nurse": {"age": {"young": 0.4, "adult": 0.3, "old": 0.3}}}
    options = {"n_seeds": 4, "n_templates": 1, "aside": 0.0}
    made = {
        r: planted(plan, np.random.default_rng(seed + 50 * i), reading=r, **options)  # type: ignore[arg-type]
        for i, r in enumerate(READINGS)
    }
    for f in analyses.run([name], made, attributes_of(plan), RULES):
        assert f.verdict == "not expressed" or f.low <= f.estimate <= f.high


def test_weights_cover_and_their_p_is_uniform_at_parity() -> None:
    rng, plan = np.random.default_rng(6), stats.resampling_plan(2, 32, 200, np.random.default_rng(0), 999)
    one = {"farmer": {"age": {"young": 1 / 3, "adult": 1 / 3, "old": 1 / 3}}}
    hits, ps = [], []
    for _ in range(100):
        neutral, variants = arrays(planted(one, rng, mixed=True), "age")
        w = defaults.mixture_weights(neutral, variants, plan, 0.95)
        assert w.estimate.sum() == pytest.approx(1)
        hits.append((w.low <= 1 / 3) & (w.high >= 1 / 3))
        ps.append(w.p[0])
    assert 0.90 <= np.mean(hits) <= 0.99
    assert scipy_stats.kstest(ps, "uniform").pvalue > 0.01


def test_weight_of_two_values_is_the_lean() -> None:
    plan = stats.resampling_plan(2, 32, 500, np.random.default_rng(0))
    neutral, variants = arrays(planted(PLAN, np.random.default_rng(7)))
    w = defaults.mixture_weights(neutral, variants, plan, 0.95)
    scores = defaults.lean_scores(neutral, variants[0], variants[1])
    assert w.estimate[1] - 0.5 == pytest.approx(scores.mean())
    assert w.p[1] == pytest.approx(stats.sign_flip_p(plan, scores), abs=1e-3)


@pytest.mark.parametrize("direction", get_args(LeanDirection))
def test_every_direction_finds_the_planted_leans(direction: LeanDirection) -> None:
    rng = np.random.default_rng(8)
    x = planted(PLAN, rng, n_seeds=128, mixed=True, separation=12.0)
    if direction == "shared":  # one direction for all concepts: shift every concept's latents from one
        x = one_direction(rng)
    found = defaults.analyse(x, {"gender": ("man", "woman")}, replace(RULES, lean_direction=direction))
    assert {f.target: f.estimate for f in found} == pytest.approx({c: p - 0.5 for c, p in GENDER.items()}, abs=0.05)


def one_direction(rng: np.random.Generator) -> Latents:
    x = planted(PLAN, rng, n_seeds=128, separation=0.0, aside=0.0)
    step = 6 * np.eye(x.values.shape[-1])[0]
    place = {"": 0.0, "man": -0.5, "woman": 0.5}
    at = [place.get(p.value, 0.0) if p.attribute else GENDER[p.concept] - 0.5 for p in x.prompts]
    return replace(x, values=(x.values + np.array(at)[:, None, None, None] * step).astype(np.float32))


def test_a_shared_direction_comes_from_other_concepts_and_other_seeds() -> None:
    gaps = list(np.random.default_rng(19).normal(1, 1, size=(3, 2, 5, 4)))
    shared = list(directions.shared_directions(lambda: iter(gaps)))[1]
    assert np.allclose(shared, (gaps[0] + gaps[2]) / 2)
    d, w = np.random.default_rng(20).normal(2, 1, size=(2, 2, 5, 4))
    apart = [(r, s) for r in range(5) for s in range(5) if r != s]
    above, below = (sum(x[:, r].mean(0) @ shared[:, s].mean(0) for r, s in apart) for x in (d, w))
    assert defaults.lean_scores(d, -w / 2, w / 2, shared).mean() == pytest.approx(above / below)


def test_the_noise_of_a_shared_direction_counts() -> None:
    """One other concept, and a neutral prompt far beside its variants: the direction's noise is most of the lean's."""
    inside, n = 0, 200
    for seed in range(n):
        rng = np.random.default_rng(seed)
        w, aside = 6 * np.eye(24)[0], 12 * np.eye(24)[1]
        mine, other = ([s * w / 2 + rng.normal(size=(2, 16, 24)) for s in (-1, 1)] for _ in range(2))
        neutral = aside + rng.normal(size=(2, 16, 24))
        scores = defaults.lean_scores(neutral, *mine, other[1] - other[0])
        low, high = stats.bootstrap_interval(stats.resampling_plan(2, 16, 400, rng, 100), scores, 0.95)
        inside += low <= 0 <= high
    assert inside >= 0.91 * n  # P(fewer than 182 of 200 at 95 %) = 0.01


def test_a_shared_direction_needs_two_concepts() -> None:
    x = subset(planted(PLAN, np.random.default_rng(9)), "nurse")
    with pytest.raises(ScalexError, match="needs other concepts to learn from"):
        defaults.analyse(x, {"gender": ("man", "woman")}, replace(RULES, lean_direction="shared"))


# ------------------------------------------------------------------------------------------------ classifiers


def test_separability_equals_an_auc_over_held_out_seeds() -> None:
    _, variants = arrays(planted(PLAN, np.random.default_rng(10), separation=2.5))
    first, second = variants
    projections = []
    for s in range(32):
        a, b = (np.delete(x, s, axis=1).mean((0, 1)) for x in variants)
        projections.append([(x[:, s] - (a + b) / 2) @ (b - a) for x in (first, second)])
    scores = np.moveaxis(np.array(projections), 1, 0).reshape(2, -1)
    expected = roc_auc_score([0] * 64 + [1] * 64, scores.ravel())
    assert directions.separability(variants) == pytest.approx([expected, expected])


def test_separability_of_nothing_is_a_half() -> None:
    rng = np.random.default_rng(11)
    values = [directions.separability(rng.normal(size=(2, 2, 16, 40)))[0] for _ in range(100)]
    assert np.mean(values) == pytest.approx(0.5, abs=0.03)


def test_lda_equals_sklearn_with_the_same_shrinkage() -> None:
    _, variants = arrays(planted(PLAN, np.random.default_rng(12), n_seeds=16))
    train, held_out = variants[:, :, stats.folds(16, 8) != 0], variants[:, :, stats.folds(16, 8) == 0]
    labels = np.repeat([0, 1], train[0].size // 48)
    means = train.mean((1, 2))
    within = (train - means[:, None, None]).reshape(-1, 48)
    oracle = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=shrinkage(within), priors=[0.5, 0.5])
    expected = oracle.fit(train.reshape(-1, 48), labels).decision_function(held_out.reshape(-1, 48))
    ours = directions.discriminants(variants, variants, "lda")
    ours = (ours[1] - ours[0])[:, :, stats.folds(16, 8) == 0].ravel()
    assert np.corrcoef(ours, expected)[0, 1] == pytest.approx(1, abs=1e-9)
    assert np.array_equal(ours > 0, expected > 0)


def shrinkage(within: np.ndarray) -> float:
    from sklearn.covariance import ledoit_wolf_shrinkage

    return float(ledoit_wolf_shrinkage(within, assume_centered=True))


@pytest.mark.parametrize("method", ["mean", "lda"])
def test_single_samples_are_classified_by_what_they_show(method: directions.Method) -> None:
    x = planted(
        {"farmer": {"gender": {"man": 0.0, "woman": 1.0}}}, np.random.default_rng(13), separation=8.0, aside=0.0
    )
    neutral, variants = arrays(x)
    assert (rates.classify(neutral, variants, method) == 1).mean() > 0.97
    assert (rates.classify(variants[0], variants, method) == 0).mean() > 0.97


# ------------------------------------------------------------------------------------------------ rates


def called(
    share: float, accuracy: float, n_seeds: int, alike: float, rng: np.random.Generator
) -> tuple[np.ndarray, ...]:
    """Calls of neutral samples and of two variants, by a classifier of known accuracy. Two templates."""
    u = np.where(rng.random(n_seeds) < alike, rng.random(n_seeds), rng.random((2, n_seeds)))
    truth = np.stack([u < share, np.zeros_like(u, bool), np.ones_like(u, bool)])
    wrong = rng.random(truth.shape) > accuracy
    calls = (truth ^ wrong).astype(np.int64)
    return calls[0], calls[1:]


@pytest.mark.parametrize(("share", "most"), [(0.0, 1), (0.05, 1), (0.5, 0.99), (0.9, 0.995), (1.0, 1)])
def test_intervals_of_rates_cover(share: float, most: float) -> None:
    rng, hits = np.random.default_rng(14), []
    for accuracy, n_seeds, alike in [(0.93, 32, 0.9), (0.97, 64, 0.0), (0.99, 32, 0.5)]:
        plan = stats.resampling_plan(2, n_seeds, 200, np.random.default_rng(0), 99)
        for _ in range(100):
            s = rates.shares(*called(share, accuracy, n_seeds, alike, rng), plan, 0.95)
            hits.append(s.low[1] <= share <= s.high[1])
    # near 0 and 1 only one end can miss, so an interval that is right inside covers more there
    assert 0.90 <= np.mean(hits) <= most


def test_rates_are_unbiased_and_p_is_fair_at_parity() -> None:
    rng, plan = np.random.default_rng(15), stats.resampling_plan(2, 48, 200, np.random.default_rng(0), 999)
    found = [rates.shares(*called(0.5, 0.93, 48, 0.5, rng), plan, 0.95) for _ in range(300)]
    ps = np.array([s.p[1] for s in found])
    assert np.mean([s.estimate[1] for s in found]) == pytest.approx(0.5, abs=0.01)
    assert 0.02 <= (ps <= 0.05).mean() <= 0.08
    assert 0.44 <= (ps <= 0.5).mean() <= 0.56


def test_correction_undoes_the_classifier() -> None:
    rng, plan = np.random.default_rng(16), stats.resampling_plan(2, 64, 200, np.random.default_rng(0), 99)
    args = [called(0.9, 0.9, 64, 0.5, rng) for _ in range(100)]
    raw = [rates.shares(*a, plan, 0.95, correct=False) for a in args]
    corrected = [rates.shares(*a, plan, 0.95) for a in args]
    assert np.mean([s.estimate[1] for s in raw]) == pytest.approx(0.82, abs=0.01)
    assert np.mean([s.estimate[1] for s in corrected]) == pytest.approx(0.9, abs=0.015)


def test_two_shares_are_complements() -> None:
    plan = stats.resampling_plan(2, 32, 300, np.random.default_rng(0), 99)
    s = rates.shares(*called(0.3, 0.95, 32, 0.5, np.random.default_rng(17)), plan, 0.95)
    assert s.estimate.sum() == pytest.approx(1)
    assert s.low[0] == pytest.approx(1 - s.high[1])
    assert s.high[0] == pytest.approx(1 - s.low[1])
    assert s.p[0] == s.p[1]


def test_none_of_n_still_has_an_interval_as_wide_as_the_seeds_allow() -> None:
    plan = stats.resampling_plan(2, 32, 300, np.random.default_rng(0), 99)
    zeros, ones = np.zeros((2, 32), int), np.ones((2, 32), int)
    s = rates.shares(zeros, np.stack([zeros, ones]), plan, 0.95)
    assert s.estimate[1] == 0
    assert s.low[1] == 0
    assert s.high[1] >= stats.wilson(0.0, 32.0, 0.95).high
    assert s.high[1] < 0.15
    raw = rates.shares(zeros, np.stack([zeros, ones]), plan, 0.95, correct=False)
    assert raw.high[1] == pytest.approx(stats.wilson(0.0, 32.0, 0.95, df=31.0).high)


def test_a_classifier_that_knows_nothing_gives_the_whole_range() -> None:
    plan = stats.resampling_plan(2, 32, 300, np.random.default_rng(0), 99)
    zeros = np.zeros((2, 32), int)
    s = rates.shares(zeros, np.stack([zeros, zeros]), plan, 0.95)
    assert (s.low[1], s.high[1], s.p[1]) == (0, 1, 1)


def test_planted_rates_are_found_for_two_values_and_for_three() -> None:
    found = run("rates", latents_for("rates", n_seeds=256, aside=0.0))
    for f in found:
        truth = PLAN[f.target][f.attribute][f.value]
        assert f.estimate == pytest.approx(truth, abs=0.08)
        if truth in (0.05, 0.1):
            assert f.verdict == f"leans away from {f.value}"
        if truth >= 0.7:
            assert f.verdict == f"leans to {f.value}"


def test_a_value_that_is_never_drawn_is_not_balanced_however_many_values_there_are() -> None:
    values = tuple("abcdefghijkl")
    labels = ("rates", "picture", "c", "letter", "b")
    row = Finding(*labels, 0.0, "share", 0.0, 0.06, 1e-4, 1e-3, 0.99, "", "", 32, 2)
    said = rates.conclude(row, {"letter": values}, RULES)
    assert said.verdict == "leans away from b"
    near = replace(row, estimate=1 / 12, low=0.075, high=0.09, p=0.9, q=0.9)
    assert rates.conclude(near, {"letter": values}, RULES).verdict == "balanced"


def test_a_weight_is_not_tested_against_the_side_that_it_claims() -> None:
    """A neutral prompt far outside of its variants: the unconstrained weight of b is above parity, the nearest mixture
    has it below."""
    rng, plan = np.random.default_rng(3), stats.resampling_plan(2, 32, 200, np.random.default_rng(0))
    corners = 6 * np.array([[1, 0], [-0.5, 0.75**0.5], [-0.5, -(0.75**0.5)]])
    affine = np.array([1.0, 0.45, -0.45])
    variants = corners[:, None, None] + 0.2 * rng.normal(size=(3, 2, 32, 2))
    neutral = affine @ corners + 0.2 * rng.normal(size=(2, 32, 2))
    w = defaults.mixture_weights(neutral, variants, plan, 0.95)
    assert w.estimate[1] < 1 / 3 - 0.05
    assert w.p[1] == 1
    assert w.p[0] < 0.01
