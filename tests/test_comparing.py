"""Comparisons: what moved is found and what did not is not, with shared seeds and with others; runs that differ."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats as scipy_stats
from typer.testing import CliRunner

import scalex
from scalex import differences as d
from scalex import directions, runs
from scalex.analyses import defaults, sensitivity
from scalex.analyses._planted import Plan, planted
from scalex.auditing import Audit
from scalex.cli import app
from scalex.comparing import compare
from scalex.differences import Pairing, compare_latents
from scalex.errors import ScalexError
from scalex.records import READINGS, Finding, Latents, LeanDirection, Reading, Rules
from scalex.report.comparison import headline, render_comparison

RULES = Rules(resamples=500, permutations=1999)
EVEN = {"pilot": 0.5, "farmer": 0.5, "nurse": 0.5}
GENDER = {"gender": ("man", "woman")}


def _plan(women: Mapping[str, float]) -> Plan:
    return {c: {"gender": {"man": 1 - p, "woman": p}} for c, p in women.items()}


def _model(women: Mapping[str, float], seed: int, *, first: int = 0, n_seeds: int = 48, apart: float = 6.0) -> Latents:
    made = planted(_plan(women), np.random.default_rng(seed), n_seeds=n_seeds, separation=apart)
    return replace(made, seeds=tuple(range(first, first + n_seeds)))


def _compared(first: Latents, second: Latents, rules: Rules = RULES) -> list[Finding]:
    return compare_latents({"picture": first}, {"picture": second}, GENDER, rules)[0]


def _verdicts(found: Sequence[Finding], unit: str) -> dict[str, str]:
    return {f.target: f.verdict for f in found if f.unit == f"{unit} difference"}


# ------------------------------------------------------------------------------------------------------ differences


@pytest.mark.parametrize("first_seed", [0, 1000])
def test_the_concept_that_moved_is_found_and_no_other(first_seed: int) -> None:
    """With shared seeds and with others. 0.1 to 0.9 is far; 96 seeds are enough for the others not to be called."""
    before = _model({"pilot": 0.1, "farmer": 0.5, "nurse": 0.9}, 0, n_seeds=96)
    after = _model({"pilot": 0.9, "farmer": 0.5, "nurse": 0.9}, 0, first=first_seed, n_seeds=96)
    for unit in ("lean", "share"):
        said = _verdicts(_compared(before, after), unit)
        assert said["pilot"] == "moved towards woman", unit
        assert not said["farmer"].startswith("moved"), unit
        assert not said["nurse"].startswith("moved"), unit


def test_a_move_back_has_the_other_sign_and_both_sides_are_told() -> None:
    before, after = _model(EVEN | {"pilot": 0.9}, 0, n_seeds=96), _model(EVEN | {"pilot": 0.1}, 0, n_seeds=96)
    found, sides = compare_latents({"picture": before}, {"picture": after}, GENDER, RULES)
    [row] = [i for i, f in enumerate(found) if f.target == "pilot" and f.unit == "share difference"]
    assert found[row].verdict == "moved towards man"
    assert sides["first"][row] == pytest.approx(0.9, abs=0.12)
    assert sides["second"][row] - sides["first"][row] == pytest.approx(found[row].estimate)
    assert found[row].low < found[row].estimate < found[row].high < 0


def test_the_same_model_with_the_same_seeds_has_not_moved() -> None:
    same = _model({"pilot": 0.1, "farmer": 0.5, "nurse": 0.9}, 3)
    for f in _compared(same, replace(same)):
        assert (f.estimate, f.low, f.high, f.verdict) == (0, 0, 0, "did not move")
        assert "both models give the same in every sample" in f.reason


@pytest.mark.parametrize("direction", ["own", "lda", "pooled"])
def test_leans_are_compared_along_the_direction_of_the_rules(direction: LeanDirection) -> None:
    rules = replace(RULES, lean_direction=direction)
    before, after = _model({"pilot": 0.1, "farmer": 0.5, "nurse": 0.9}, 3), _model(EVEN, 3)
    [pilot, *_] = _compared(before, after, rules)
    told = [defaults.analyse(x, GENDER, rules)[0].estimate for x in (before, after)]
    assert pilot.estimate == pytest.approx(told[1] - told[0])
    assert {f.verdict for f in _compared(before, replace(before), rules)} == {"did not move"}


def test_a_concept_moves_in_the_metric_of_all_though_it_is_the_same_itself() -> None:
    """What other concepts' variants vary by decides how far aside of its own a neutral prompt lies."""
    before = _model({"pilot": 0.1, "farmer": 0.5, "nurse": 0.9}, 3)
    louder = np.array([[[[1.0 if p.concept == "pilot" else 3.0]]] for p in before.prompts])
    after = replace(before, values=before.values * np.where(np.arange(48) < 24, louder, 1).astype(np.float32))
    found = {d: _compared(before, after, replace(RULES, lean_direction=d))[0] for d in ("own", "pooled")}
    assert found["own"].low == found["own"].high == 0
    assert found["pooled"].low < found["pooled"].estimate < found["pooled"].high


@pytest.mark.parametrize("first_seed", [0, 1000])
def test_models_alike_seldom_move(first_seed: int) -> None:
    """Two families at q 0.05: at most 10 % of comparisons hold a mover. P(more than 6 of 20) is then 0.0024."""
    rules = Rules(resamples=300, permutations=999)
    alarms = 0
    for i in range(20):
        women = {"pilot": 0.1, "farmer": 0.5, "nurse": 0.9}
        found = _compared(_model(women, i, n_seeds=32), _model(women, 500 + i, first=first_seed, n_seeds=32), rules)
        alarms += any(f.verdict.startswith("moved") for f in found)
    assert alarms <= 6


def test_shared_seeds_show_more_than_others() -> None:
    """What both models owe to a seed cancels: here the second one is the first with a little noise of its own."""
    before = _model(EVEN, 5, n_seeds=64)
    noise = np.random.default_rng(6).normal(scale=0.3, size=before.values.shape).astype(np.float32)
    after = replace(before, values=before.values + noise)
    moved_seeds = replace(after, seeds=tuple(range(900, 964)))
    wide, narrow = (
        np.mean([f.high - f.low for f in _compared(before, other) if f.unit == "lean difference"])
        for other in (moved_seeds, after)
    )
    assert narrow < wide / 3
    assert set(_verdicts(_compared(before, after), "lean").values()) == {"did not move"}


def test_a_share_that_is_never_drawn_by_either_has_an_interval_all_the_same() -> None:
    never = {"pilot": 0.0, "farmer": 0.0, "nurse": 0.0}
    for other in (_model(never, 9), _model(never, 9, first=500)):
        for f in _compared(_model(never, 8), other):
            if f.unit == "share difference":
                assert f.low < 0 < f.high
                assert f.verdict in ("did not move", "undecided")


def test_pictures_that_are_all_called_alike_do_not_make_two_shares_the_same() -> None:
    before = _model(EVEN, 5, n_seeds=32)
    noise = np.random.default_rng(6).normal(scale=0.01, size=before.values.shape).astype(np.float32)
    for f in _compared(before, replace(before, values=before.values + noise)):
        if f.unit == "share difference":
            assert f.estimate == 0, "the noise is too small to change what a sample is called"
            assert f.high - f.low > 0.02


@pytest.mark.parametrize(("apart", "said"), [((6.0, 0.0), "B"), ((0.0, 6.0), "A"), ((0.0, 0.0), "either")])
def test_what_a_model_does_not_express_has_no_number(apart: tuple[float, float], said: str) -> None:
    found, sides = compare_latents(
        {"picture": _model(EVEN, 1, apart=apart[0])}, {"picture": _model(EVEN, 2, apart=apart[1])}, GENDER, RULES
    )
    leans = [f.unit == "lean difference" for f in found]
    assert _verdicts(found, "lean") == dict.fromkeys(EVEN, f"not expressed in {said}")
    for f in found:
        assert all(map(math.isnan, (f.estimate, f.low, f.high, f.p, f.q))), f
        assert "with AUC" in f.reason
        assert f.separability < 0.8, "that of the model that expresses it less"
    for column, distance in zip(("first", "second"), apart):
        assert sides.loc[leans, column].isna().all() == (distance == 0)


def test_a_value_that_one_model_does_not_express_has_no_number_though_others_have() -> None:
    """In B the old are drawn as the grown: only the young can be told from all others."""
    ages = {"pilot": {"age": {"young": 0.4, "grown": 0.3, "old": 0.3}}}
    before, after = (planted(ages, np.random.default_rng(i), n_seeds=16) for i in range(2))
    rows = {v: [i for i, p in enumerate(after.prompts) if p.value == v] for v in ("grown", "old")}
    values = after.values.copy()
    values[rows["old"]] = values[rows["grown"]][:, ::-1]  # of other seeds
    attributes = {"age": ("young", "grown", "old")}
    found, _ = compare_latents(
        {"text": replace(before, reading="text")},
        {"text": replace(after, reading="text", values=values)},
        attributes,
        RULES,
    )
    said = {f.value: f.verdict for f in found}
    assert said["grown"] == said["old"] == "not expressed in B"
    assert not math.isnan(next(f.estimate for f in found if f.value == "young"))


def test_many_values_have_a_row_each() -> None:
    def model(shares: tuple[float, ...], seed: int) -> Latents:
        values = dict(zip(("young", "grown", "old"), shares))
        return planted({"pilot": {"age": values}}, np.random.default_rng(seed), n_seeds=96)

    before, after = model((0.8, 0.1, 0.1), 0), model((0.1, 0.1, 0.8), 0)
    attributes = {"age": ("young", "grown", "old")}
    for later in (after, replace(after, seeds=tuple(range(500, 596)))):
        found, _ = compare_latents({"picture": before}, {"picture": later}, attributes, RULES)
        for unit in ("weight", "share"):
            said = {f.value: f.verdict for f in found if f.unit == f"{unit} difference"}
            assert said["young"] == "moved away from young"
            assert said["old"] == "moved towards old"
            assert not said["grown"].startswith("moved")


def _small(women: Mapping[str, float], seed: int, first: int = 0, n_seeds: int = 12) -> dict[Reading, Latents]:
    made = (_model(women, seed + 50 * i, first=first, n_seeds=n_seeds) for i in range(len(READINGS)))
    return {r: replace(x, reading=r) for r, x in zip(READINGS, made)}


def test_the_families_are_leans_and_shares_of_each_reading() -> None:
    rules = Rules(resamples=100, permutations=199)
    found, sides = compare_latents(_small(EVEN, 0), _small(EVEN | {"pilot": 1.0}, 1, 100, 10), GENDER, rules)
    assert {(f.reading, f.unit) for f in found} == {
        ("text", "lean difference"),
        ("picture", "lean difference"),
        ("picture", "share difference"),
    }
    for family in {(f.reading, f.unit) for f in found}:
        own = [f for f in found if (f.reading, f.unit) == family]
        q = scipy_stats.false_discovery_control([f.p for f in own])
        np.testing.assert_allclose([f.q for f in own], q)
        assert all(f.q <= 0.05 for f in own if f.verdict.startswith("moved")), "moved is said of q"
    for f, side in zip(found, sides.to_dict("records")):
        assert f.n_seeds == 10
        assert "12 seeds against 10 others, unpaired" in f.reason
        assert f.estimate == pytest.approx(side["second"] - side["first"], abs=1e-9)
        assert f.low < f.estimate < f.high
        assert f.value == "woman"
        assert side["margin"] == 0.1
        if f.verdict.startswith("moved"):
            assert f.verdict == f"moved towards {'woman' if f.estimate > 0 else 'man'}"
    paired, _ = compare_latents(_small(EVEN, 0), _small(EVEN, 1), GENDER, rules)
    assert not any("unpaired" in f.reason for f in paired)


def test_a_small_q_is_what_moved_is_said_of() -> None:
    """A p below 0.05 is not enough where the q is not."""
    row = Finding(
        "compare", "picture", "a", "gender", "woman", 0.3, "lean difference", 0.05, 0.55, 0.03, 0.06, 1.0, "", "", 9, 1
    )
    pairing = _pairing_of(9, 9, 1)
    assert d._concluded(row, ("man", "woman"), pairing).verdict == "undecided"
    assert d._concluded(replace(row, q=0.05), ("man", "woman"), pairing).verdict == "moved towards woman"
    lower = replace(row, estimate=-0.3, low=-0.55, high=-0.05, q=0.01)
    assert d._concluded(lower, ("man", "woman"), pairing).verdict == "moved towards man"
    assert d._concluded(lower, ("a", "b", "woman"), pairing).verdict == "moved away from woman"
    small = replace(row, estimate=0.0, low=-0.09, high=0.09, q=1.0)
    assert d._concluded(small, ("man", "woman"), pairing).verdict == "did not move"
    assert d._concluded(small, ("a", "b", "woman"), pairing).verdict == "undecided", "of three, 0.067 is the margin"


def test_the_interval_of_two_joined_shares() -> None:
    """Zou and Donner's: each end joins the ends that face it, less what both share."""
    before, after = (0.2, 0.3, 0.5), (0.5, 0.6, 0.65)
    low, high = d.joined(before, after, 0.0)
    assert (low, high) == pytest.approx((0.3 - math.hypot(0.1, 0.2), 0.3 + math.hypot(0.05, 0.1)))
    low, high = d.joined(before, after, 0.5)
    assert (low, high) == pytest.approx((0.3 - math.sqrt(0.01 + 0.04 - 0.02), 0.3 + math.sqrt(0.0025 + 0.01 - 0.005)))


def test_shares_of_the_same_seeds_are_joined_with_their_correlation() -> None:
    """Both models call every sample alike: their shares go together, though not wholly."""
    before = _model(EVEN, 5, n_seeds=16)
    noise = np.random.default_rng(6).normal(scale=0.01, size=before.values.shape).astype(np.float32)
    after = replace(before, values=before.values + noise)
    wide, narrow = (
        np.array([f.high - f.low for f in _compared(before, other) if f.unit == "share difference"])
        for other in (replace(after, seeds=tuple(range(900, 916))), after)
    )
    assert (narrow < 0.7 * wide).all()
    assert (narrow > 0.05).all()


def test_the_correlation_of_shares_is_corrected_for_few_samples() -> None:
    calls = np.array([[0.0, 1, 0, 1, 1, 0, 0, 1]])
    assert d._correlation(calls, calls) == pytest.approx(1 - 1 / (2 * 8 * 0.25))
    assert d._correlation(calls, 1 - calls) == pytest.approx(-1), "only what would narrow the interval is"
    assert d._correlation(calls, 0 * calls) == 0


def test_welchs_interval_and_permutations_agree_with_scipy() -> None:
    rng = np.random.default_rng(4)
    before, after = rng.normal(size=(1, 14)), rng.normal(0.4, 2, size=(1, 30))
    pairing = _pairing_of(before.shape[1], after.shape[1], 1)
    apart = float(after.mean() - before.mean())
    ours = d.independent(before, after, apart, pairing)
    theirs = scipy_stats.ttest_ind(after[0], before[0], equal_var=False)
    low, high = theirs.confidence_interval(0.95)
    np.testing.assert_allclose([ours.low, ours.high], [low, high])
    assert ours.p == pytest.approx(theirs.pvalue, abs=0.03), "they are different tests of the same"


def test_permutations_hold_where_spreads_and_numbers_differ() -> None:
    """A few seeds that scatter widely against many that do not: the plain difference would be called far too often."""
    rng = np.random.default_rng(2)
    ours, theirs = [], []
    for _ in range(40):
        a, b = rng.normal(0, 4, size=(1, 8)), rng.normal(0, 0.5, size=(1, 40))
        ours.append(d._independent_p(a, b, _pairing_of(8, 40, 1)))
        theirs.append(scipy_stats.ttest_ind(a[0], b[0], equal_var=False).pvalue)
    assert np.mean(np.array(ours) <= 0.1) <= 0.25, "of 40 at 0.1; P(more than 10) is 0.001"
    assert np.abs(np.array(ours) - theirs).mean() < 0.1


def test_the_same_numbers_by_other_seeds_have_an_interval() -> None:
    same = _model(EVEN, 3, n_seeds=12)
    for f in _compared(same, replace(same, seeds=tuple(range(100, 112)))):
        assert f.low < 0 < f.high
        assert f.p > 0.9


def test_seeds_that_are_all_the_same_in_one_model_leave_it_undecided() -> None:
    made = _model(EVEN, 3, n_seeds=12)
    still = replace(made, values=np.repeat(made.values[:, :1], 12, axis=1))
    for pair in ((made, still), (still, made)):
        for f in _compared(*pair):
            assert (f.verdict, f.reason) == ("undecided", "the latents do not vary between seeds")
            assert math.isnan(f.estimate)


def test_permutations_of_two_constants() -> None:
    pairing = _pairing_of(6, 6, 1)
    zeros, ones = np.zeros((1, 6)), np.ones((1, 6))
    assert d._independent_p(zeros, zeros, pairing) == 1
    assert d._independent_p(zeros, ones, pairing) < 0.01  # 2 of the 924 ways to deal 12 seeds


def test_templates_that_are_drawn_count() -> None:
    """Seeds that all agree, and templates that do not: with five templates the p speaks of templates, too."""
    before = np.zeros((5, 20)) + np.random.default_rng(0).normal(scale=0.01, size=(5, 20))
    after = before + np.array([-2.0, -1.0, 0.0, 1.0, 3.0])[:, None]
    assert d._independent_p(before, after, _pairing_of(20, 20, 5)) > 0.5
    assert d._independent_p(before[:4], after[:4] + 1, _pairing_of(20, 20, 4)) < 0.01


def _pairing_of(first: int, second: int, n_templates: int) -> Pairing:
    some = [
        planted(_plan({"pilot": 0.5}), np.random.default_rng(0), n_seeds=n, n_templates=n_templates)
        for n in (first, second)
    ]
    plans = [directions.plan_of(latents, RULES) for latents in some]
    return Pairing(plans[0], plans[1], RULES)


# ------------------------------------------------------------------------------------------------------ runs

SPEC = {
    "seeds": 8,
    "templates": ["a photo of a {}"],
    "concepts": ["cook", "pilot"],
    "attributes": ["gender"],
    "resamples": 200,
    "permutations": 199,
}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("comparing")


@pytest.fixture(scope="module")
def run(place: Path) -> Audit:
    return scalex.audit(spec=SPEC, out=place / "run", store=place / "store")


@pytest.fixture(scope="module")
def other(place: Path) -> Audit:
    """Other seeds, and other concepts but for one."""
    return scalex.audit(
        spec=SPEC | {"concepts": ["teacher", "cook"], "first_seed": 100}, out=place / "other", store=place / "store"
    )


def test_a_run_and_the_model_that_it_is_of_are_alike(run: Audit, tmp_path: Path) -> None:
    """The model is asked what the run was asked."""
    found = compare(run.folder, "embedded", out=tmp_path)
    assert set(found.findings.verdict) == {"did not move"}
    assert set(found.findings.target) == {"cook", "pilot"}
    assert found.manifest["paired"] is True
    assert found.moved.empty
    assert found.headline == "None of 2 concepts moved on gender"
    assert found.headline in found.report.read_text()
    stored = pd.read_parquet(tmp_path / "findings.parquet")
    pd.testing.assert_frame_equal(stored, found.findings)
    assert json.loads((tmp_path / "manifest.json").read_text())["second"]["run"] == str(tmp_path / "b")


def test_runs_that_differ_are_compared_in_what_both_were_asked(run: Audit, other: Audit, tmp_path: Path) -> None:
    found = compare(run.folder, other.folder, out=tmp_path)
    assert set(found.findings.target) == {"cook"}
    assert found.manifest["paired"] is False
    assert found.manifest["notes"] == [
        "Only A was asked with the concept 'pilot', so that is not compared.",
        "Only B was asked with the concept 'teacher', so that is not compared.",
        "The two share few seeds or none: they were compared as independent. Shared seeds would show more.",
        f"The findings of sensitivity are not compared: {sensitivity.APART}.",
    ]
    assert found.findings.reason.str.contains("8 seeds against 8 others, unpaired").all()
    assert all(note.partition("'")[0] in found.report.read_text() for note in found.manifest["notes"])


def test_runs_whose_leans_are_measured_otherwise_are_told_apart(run: Audit, place: Path, tmp_path: Path) -> None:
    asked = SPEC | {"lean_direction": "pooled"}
    pooled = scalex.audit(spec=asked, out=place / "pooled", store=place / "store")
    assert pooled.manifest["n_captured"] == 0, "the same latents serve every direction"
    leans = [x.findings[x.findings.analysis == "defaults"] for x in (run, pooled)]
    assert (leans[0].estimate != leans[1].estimate).all()
    assert "what varies most by chance in the prompts of all concepts counts least" in pooled.report.read_text()
    assert "varies most by chance" not in run.report.read_text()
    found = compare(run.folder, pooled.folder, out=tmp_path)
    assert found.manifest["notes"][0] == (
        "Leans were measured along `own` in A and along `pooled` in B (`lean_direction`). Here both are measured along "
        "`own`, so that those of B may differ from its own report's."
    )
    assert set(found.findings.verdict) == {"did not move"}
    assert found.manifest["rules"]["lean_direction"] == "own"


def test_runs_with_nothing_in_common_are_refused(run: Audit, other: Audit, place: Path, tmp_path: Path) -> None:
    alone = scalex.audit(
        spec=SPEC | {"concepts": ["teacher"], "first_seed": 100}, out=tmp_path / "alone", store=place / "store"
    )
    assert alone.manifest["n_captured"] == 0
    with pytest.raises(ScalexError, match=r"^the two runs have no concept in common\. Audit both with the same --spec"):
        compare(run.folder, alone.folder, out=tmp_path / "out")


def test_a_lora_cannot_be_fused_into_a_run(run: Audit, tmp_path: Path) -> None:
    with pytest.raises(ScalexError, match=r"is a run: no LoRA can be fused into it any more\. Name its model"):
        compare(run.folder, run.folder, out=tmp_path / "out", lora="x")
    assert not (tmp_path / "out").exists()


def test_the_command_line_says_what_moved(run: Audit, other: Audit, tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["compare", str(run.folder), str(run.folder), "--out", str(tmp_path)])
    assert done.exit_code == 0, done.output
    assert f"None of 2 concepts moved on gender\nReport: {tmp_path}/report.html" in done.output
    done = CliRunner().invoke(
        app, ["compare", str(run.folder), str(other.folder), "--out", str(tmp_path), "--json"], catch_exceptions=False
    )
    told = json.loads(done.stdout)
    assert set(told) == {"report", "moved", "findings"}


# ------------------------------------------------------------------------------------------------------ the page


def test_the_page_shows_what_moved_with_both_models_pictures(run: Audit, tmp_path: Path) -> None:
    same = compare(run.folder, run.folder, out=tmp_path)
    moved = (same.findings.target == "cook") & (same.findings.reading == "picture")
    frame = same.findings.assign(
        verdict=same.findings.verdict.where(~moved, "moved towards woman"),
        estimate=same.findings.estimate.where(~moved, 0.5),
    )
    assert headline(frame) == "1 of 2 concepts moved on gender"
    pictures = runs.load_pictures(run.folder, run.manifest["pictures"])
    page = render_comparison(frame, same.sides, same.manifest, (pictures, pictures), tmp_path / "x.html").read_text()
    assert "Gender: cook moved" in page
    assert page.count("pictures drawn for cook by A") == page.count("pictures drawn for cook by B") == 1
    assert "by A" not in page.replace("drawn for cook by A", ""), "what did not move is shown without pictures"
    assert "http://" not in page.replace("http://www.w3.org", "")
    bare = render_comparison(frame, same.sides, same.manifest, ({}, {}), tmp_path / "y.html").read_text()
    assert "pictures drawn for" not in bare
    assert "Gender: cook moved" in bare


def test_the_page_shows_what_other_analyses_found(run: Audit, tmp_path: Path) -> None:
    same = compare(run.folder, run.folder, out=tmp_path)
    assert set(same.findings.analysis) == {"compare", "compare disagreement"}
    assert "Disagreement: nothing moved beyond doubt" in same.report.read_text()
    row = same.findings.iloc[0].to_dict() | {"verdict": "moved towards woman", "estimate": 0.5, "low": 0.2, "high": 0.8}
    pulls = [
        row | {"analysis": "compare descriptors", "target": f"<i>{i}", "value": "woman", "unit": "pull difference"}
        for i in range(70)
    ]
    theirs = row | {
        "analysis": "compare theirs",
        "target": "all",
        "unit": "size difference",
        "value": "",
        "reading": "both",
    }
    frame = pd.concat([same.findings, pd.DataFrame([*pulls, theirs])], ignore_index=True)
    sides = pd.concat(
        [same.sides, pd.DataFrame([{"first": 0.1, "second": 0.6, "margin": 0.2}] * 71)], ignore_index=True
    )
    assert headline(frame) == "None of 2 concepts moved on gender, and 71 other findings"
    page = render_comparison(frame, sides, same.manifest, ({}, {}), tmp_path / "x.html").read_text()
    assert "<i>1" not in page
    assert "70 of 70 numbers moved" in page
    assert "10 more moved: see the table" in page
    assert "pull towards woman, by the words from +0.10 to +0.60, a change of +0.50 (+0.20 to +0.80)" in page
    assert "size from +0.10 to +0.60" in page
    assert "Theirs: " in page


def test_the_headline_speaks_of_every_attribute() -> None:
    rows = [("cook", "gender", "moved towards man"), ("pilot", "gender", "undecided"), ("cook", "tone", "did not move")]
    frame = pd.DataFrame(rows, columns=["target", "attribute", "verdict"]).assign(analysis="compare")
    assert headline(frame) == "1 of 2 concepts moved on gender and none on tone"
