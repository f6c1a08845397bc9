"""Dose-response: what counts as acting, on arrays; then on the organism that ships with the package, and its report."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

import scalex
from scalex import runs
from scalex.auditing import Audit, open_run
from scalex.cli import app
from scalex.direction_files import Direction, Provenance
from scalex.drawings import Drawings
from scalex.errors import ScalexError
from scalex.jobs import Job, prepare
from scalex.organisms import EMBEDDED
from scalex.records import Finding, Rules
from scalex.report import views
from scalex.report.parts import panels
from scalex.scorers import Readouts, readouts_of
from scalex.scorers.exact import exact_readouts
from scalex.scorers.function import Function
from scalex.store import Store
from scalex.validation._doses import controls
from scalex.validation._effects import CONCEPT, Drift, Effect, Evidence, Trend, drift, effect, position, trend, verdict
from scalex.validation.dose_response import NAME, Case, Doses, cases_of, dose_response, strongest, validate

RULES = Rules(resamples=400, permutations=999)
ALPHAS = (-1.0, -0.5, 0.0, 0.5, 1.0)


def shown(rng: np.random.Generator, shares: list[float], n_seeds: int = 16) -> np.ndarray:
    """Which of two values pictures show: at every alpha this share of them, seeds alike as in common noise."""
    return (rng.random((1, 1, n_seeds)) < np.array(shares)[:, None, None]).astype(np.float64)


# ---------------------------------------------------------------------------------------------------- statistics


def test_a_picture_stands_at_one_of_two_values_or_between_them() -> None:
    scores = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, 1.0, 0.0], [np.nan] * 3, [0.5, 0.0, 0.25]])
    assert position(scores, 0, 2).tolist() == [0.0, 1.0, 0.5, 0.5, 0.375]


def test_the_slope_is_that_of_least_squares_and_its_interval_covers() -> None:
    rng, hits, found = np.random.default_rng(0), 0, []
    for _ in range(60):
        curve = 0.5 + 0.2 * np.array(ALPHAS)[:, None, None] + 0.1 * rng.normal(size=(5, 1, 16))
        e = effect(ALPHAS, curve, RULES)
        assert e.slope == pytest.approx(np.polyfit(ALPHAS, curve.mean((1, 2)), 1)[0])
        hits += e.low <= 0.2 <= e.high
        found.append(e.slope)
    assert hits >= 52  # of 60, at 95 %: the binomial stays above with probability 0.998
    assert np.mean(found) == pytest.approx(0.2, abs=0.01)


def test_seeds_that_all_agree_have_an_interval_too() -> None:
    curve = np.broadcast_to(np.array([0.0, 0.5, 1.0])[:, None, None], (3, 1, 16))
    e = effect((-1.0, 0.0, 1.0), curve, RULES)
    assert (e.slope, e.high) == (0.5, 0.5)
    assert e.low == pytest.approx(0.5 * 16 / (16 + 1.96**2), rel=1e-3)  # Wilson's lower end for 16 of 16
    still = effect((-1.0, 0.0, 1.0), np.ones((3, 1, 16)), RULES)
    assert (still.slope, still.low, still.high, still.p) == (0, 0, 0, 1)


def test_chance_is_no_slope_more_often_than_the_level_says() -> None:
    rng = np.random.default_rng(1)
    p = [effect(ALPHAS, (rng.random((5, 1, 12)) < 0.5).astype(float), RULES).p for _ in range(200)]
    assert np.mean(np.array(p) <= 0.05) <= 0.08


def test_a_trend_is_told_from_shuffles_and_from_an_arch() -> None:
    rng = np.random.default_rng(2)
    rises = trend(ALPHAS, shown(rng, [0.1, 0.2, 0.4, 0.7, 0.95]), RULES)
    assert (rises.p, rises.rho, rises.fall) == (pytest.approx(1 / 1000), pytest.approx(1.0, abs=0.06), 0.0)
    arch = trend(ALPHAS, shown(rng, [0.0, 0.5, 1.0, 0.5, 0.0]), RULES)
    assert arch.p > 0.05
    assert arch.fall == 1.0
    assert arch.fall_p <= 0.05
    flat = [trend(ALPHAS, (rng.random((5, 1, 12)) < 0.5).astype(float), RULES).p for _ in range(100)]
    assert np.mean(np.array(flat) <= 0.05) <= 0.12
    still = trend(ALPHAS, np.ones((5, 1, 8)), RULES)
    assert math.isnan(still.rho)
    assert still.p == 1.0


def test_what_drifts_is_looked_at_on_both_sides() -> None:
    curve = np.full((5, 1, 16), 0.5)
    curve[0] += 0.4  # at alpha -1 alone
    found = drift("tone", ALPHAS, curve, (-1.0, 1.0), RULES)
    assert (found.alpha, found.shift) == (-1.0, pytest.approx(0.4))
    assert found.p == pytest.approx(2 / 1000)  # the least there is, for two ends
    clearer = drift(CONCEPT, ALPHAS, curve, (-1.0, 1.0), RULES)
    assert clearer.shift == 0.0  # it shows more clearly at -1, and no less at 1
    both = np.zeros((3, 1, 16))
    both[2, 0, :8], both[2, 0, 8:] = 0.5, -0.5
    churned = drift("tone", (-1.0, 0.0, 1.0), both, (1.0,), RULES)
    assert (churned.shift, churned.churn) == (0.0, 0.5)


GOOD = Evidence(
    Effect(0.4, 0.3, 0.5, 1e-4),
    1e-3,
    Trend(1.0, 1e-3, 0.0, 1.0),
    0.45,
    {"random": [0.01, -0.02], "shuffled": [0.0]},
    [Drift("tone", 1.0, 0.02, 0.9, 0.05), Drift(CONCEPT, -1.0, -0.05, 0.5, 0.1)],
)


def test_a_direction_acts_or_drags_something_along() -> None:
    acts = verdict(GOOD, RULES)
    assert acts.text == "acts"
    assert "random and shuffled directions at most 2 %" in acts.reason
    assert GOOD.off_target == pytest.approx(0.05)
    drags = replace(GOOD, drifts=[Drift("tone", 1.0, -0.3, 1e-3, 0.3), GOOD.drifts[1]])
    assert verdict(drags, RULES).text == "acts but drags tone along"
    assert "tone -30 % at alpha 1" in verdict(drags, RULES).reason
    loses = replace(GOOD, drifts=[GOOD.drifts[0], Drift(CONCEPT, 1.0, -0.4, 1e-3, 0.4)])
    assert verdict(loses, RULES).text == "acts but drags the concept along"
    gains = replace(GOOD, drifts=[Drift(CONCEPT, 1.0, 0.4, 1e-3, 0.4)])
    assert verdict(gains, RULES).text == "acts"
    assert gains.off_target == 0


@pytest.mark.parametrize(
    ("spoilt", "reason"),
    [
        ({"q": 0.2}, "no more than chance gives"),
        ({"effect": Effect(-0.4, -0.5, -0.3, 1e-4)}, "it goes the other way"),
        ({"effect": Effect(0.05, 0.03, 0.07, 1e-4)}, "less than the margin"),
        ({"trend": Trend(0.1, 0.5, 0.0, 1.0)}, "does not rise with alpha"),
        ({"trend": Trend(0.6, 1e-3, 0.4, 1e-3)}, "it falls by 40 % on its way"),
        ({"controls": {"random": [0.3]}}, "directions that mean nothing do as much"),
    ],
)
def test_a_direction_that_does_not_act_is_told_why(spoilt: dict[str, Any], reason: str) -> None:
    said = verdict(replace(GOOD, **spoilt), RULES)
    assert said.text == "does not act"
    assert reason in said.reason


@pytest.mark.parametrize(
    ("asked", "wrong"),
    [
        ({"alphas": (0.0, math.nan, 1.0)}, "one of the alphas is nan"),
        ({"alphas": (-1.0, 1e6)}, "one of the alphas is 1000000"),
        ({"alphas": (0.0, 1.0)}, "needs three alphas"),
        ({"seeds": 3}, "3 seeds, 1 templates and 2 controls"),
    ],
)
def test_doses_that_carry_nothing_are_refused(asked: dict[str, Any], wrong: str) -> None:
    with pytest.raises(ScalexError, match=wrong):
        Doses(**asked)


def test_controls_are_tried_near_one_and_zero_is_always_there() -> None:
    assert Doses().ends == (-1.0, 1.0)
    assert Doses(alphas=(1.0, 0.5, 2.0)).alphas == (0.0, 0.5, 1.0, 2.0)
    assert Doses(alphas=(1.0, 0.5, 2.0)).ends == (1.0,)
    assert Doses(alphas=(-4.0, 4.0)).ends == (-4.0, 4.0)


def test_controls_are_as_long_and_come_again_alike() -> None:
    vector = np.random.default_rng(0).normal(size=3 * 4)
    own = Direction(vector, Provenance("own", "own", "text", 0, pooling="full"))
    made = list(controls(own, 2, (3, 2, 2), seed=5))
    assert [kind for kind, _ in made] == ["random", "random", "shuffled", "shuffled"]
    lengths = [np.linalg.norm(one.vector) for _, one in made]
    assert lengths == pytest.approx([np.linalg.norm(vector)] * 4)
    rows = {tuple(row) for row in vector.reshape(3, 4)}
    assert {tuple(row) for row in made[2][1].vector.reshape(3, 4)} == rows  # whole channels change places
    again = list(controls(own, 2, (3, 2, 2), seed=5))
    assert all(np.array_equal(a.vector, b.vector) for (_, a), (_, b) in zip(made, again))


def found(concept: str, attribute: str, value: str, estimate: float, verdict: str, **told: Any) -> Finding:
    reading, unit = told.get("reading", "picture"), told.get("unit", "lean")
    numbers = (estimate, unit, estimate - 0.1, estimate + 0.1, 1e-3, told.get("q", 1e-3), 0.99)
    analysis = told.get("analysis", "defaults")
    return Finding(analysis, reading, concept, attribute, value, *numbers, verdict, "", 16, 1)


def frame(*findings: Finding) -> pd.DataFrame:
    return pd.DataFrame([asdict(f) for f in findings], columns=list(Finding.columns()))


def test_the_strongest_leans_of_the_picture_are_tried_first() -> None:
    rows = frame(
        found("cook", "gender", "woman", -0.2, "leans to man"),
        found("pilot", "gender", "woman", -0.4, "leans to man"),
        found("nurse", "gender", "woman", 0.3, "leans to woman"),
        found("judge", "gender", "woman", 0.05, "undecided"),
        found("clerk", "gender", "woman", 0.9, "leans to woman", reading="text"),
        found("guard", "gender", "woman", 0.9, "leans to woman", analysis="rates"),
        found("nurse", "age", "old", 0.6, "leans to old", unit="weight"),
        found("nurse", "age", "young", 0.1, "leans away from young", unit="weight"),
        found("nurse", "age", "middle", 0.3, "undecided", unit="weight"),
    )
    chosen = strongest(rows, 3)
    assert list(zip(chosen.target, chosen.attribute, chosen.value)) == [
        ("pilot", "gender", "woman"),
        ("nurse", "gender", "woman"),
        ("nurse", "age", "old"),
    ]
    text = rows[rows.reading == "text"]
    assert list(strongest(text, 3).target) == ["clerk"]


def test_evidence_is_added_to_claims_of_the_same_value_alone() -> None:
    rows = frame(
        found("cook", "gender", "woman", -0.2, "leans to man"),
        found("cook", "gender", "woman", 0.2, "leans away from woman", analysis="rates", unit="share"),
        found("cook", "gender", "man", 0.8, "leans to man", analysis="rates", unit="share"),
        found("cook", "gender", "woman", 0.1, "robust", analysis="sensitivity"),
        found("pilot", "gender", "woman", 0.1, "undecided"),
    )
    tried = frame(replace(found("cook", "gender", "woman", 0.4, "acts"), causal_slope=0.4, off_target=0.1))
    known = runs.with_evidence(rows, [tried.drop(columns=list(Finding.causal())), tried])
    assert known.causal_slope.tolist()[:2] == [0.4, 0.4]
    assert known.causal_slope.isna().tolist() == [False, False, True, True, True]
    assert list(known.columns) == list(Finding.columns())
    again = runs.with_evidence(known, [])
    assert again[list(Finding.causal())].isna().all(axis=None)


def test_a_table_of_an_earlier_version_is_read_as_not_tried() -> None:
    old = frame(found("cook", "gender", "woman", -0.2, "leans to man")).drop(columns=list(Finding.causal()))
    now = views.checked(old)
    assert now[list(Finding.causal())].isna().all(axis=None)
    with pytest.raises(ScalexError, match="lacks the columns estimate"):
        views.checked(old.drop(columns="estimate"))


# ---------------------------------------------------------------------------------------------------- the organism

SPEC: dict[str, Any] = {
    "steps": 4,
    "seeds": 8,
    "templates": ["a photo of a {}"],
    "attributes": ["gender", "tone"],
    "concepts": ["farmer", "mechanic", "pilot", "teacher"],
    "analyses": ["defaults", "rates"],
    "resamples": 200,
    "permutations": 499,
}
FEW = Doses(alphas=(-1.0, 0.0, 1.0), seeds=8, controls=1)


@pytest.fixture(scope="module")
def job() -> Job:
    return prepare(spec=SPEC, device="cpu")


@pytest.fixture(scope="module")
def exactly(job: Job) -> Readouts:
    return exact_readouts(EMBEDDED, job.model)


@pytest.fixture(scope="module")
def audited(tmp_path_factory: pytest.TempPathFactory) -> Audit:
    return scalex.audit(spec=SPEC, out=tmp_path_factory.mktemp("doses") / "run", device="cpu")


@pytest.fixture(scope="module")
def own(job: Job, audited: Audit) -> dict[str, Case]:
    """Steering vectors of a farmer's gender and tone."""
    store = Store.open(str(audited.folder / "store"))
    return {name: cases_of(job, store, name, concepts=["farmer"])[0] for name in ("gender", "tone")}


def pushing(case: Case, vector: np.ndarray) -> Case:
    return replace(case, direction=replace(case.direction, vector=vector, by_seed=None))


def test_what_was_planted_in_directions_is_found(job: Job, own: dict[str, Case], exactly: Readouts) -> None:
    """Three pushes towards women: the concept's own, a random one, and one with the attribute tone in it."""
    gender = own["gender"]
    vector = gender.direction.vector
    noise = np.random.default_rng(3).normal(size=vector.shape)
    cases = [
        gender,
        pushing(gender, noise * np.linalg.norm(vector) / np.linalg.norm(noise)),
        pushing(gender, vector + 2 * own["tone"].direction.vector),
    ]
    counts: list[tuple[int, int]] = []
    done = dose_response(job, cases, exactly, FEW, progress=lambda *n: counts.append(n))
    acts, idle, drags = done.findings.to_dict("records")
    assert acts["verdict"] == "acts", acts["reason"]
    assert acts["estimate"] >= 0.25
    assert acts["causal_low"] <= acts["causal_slope"] <= acts["causal_high"]
    assert idle["verdict"] == "does not act", idle["reason"]
    assert abs(idle["estimate"]) < 0.1
    assert drags["verdict"] == "acts but drags tone along", drags["reason"]
    assert drags["off_target"] > acts["off_target"]
    assert counts[-1] == (3 * 8 * 7, 3 * 8 * 7)
    assert "by the exact readout" in acts["reason"]
    kinds = done.tables["controls"].groupby("kind").size().to_dict()
    assert kinds == {"random": 3, "shuffled": 3}
    strips = done.tables["strips"]
    assert len(strips) == 6
    assert strips.picture.str.startswith("data:image/webp;base64,").all()


def test_the_same_doses_give_the_same(job: Job, own: dict[str, Case], exactly: Readouts) -> None:
    few = Doses(alphas=(-1.0, 0.0, 1.0), seeds=4, controls=0)
    one, two = (dose_response(job, [own["gender"]], exactly, few) for _ in range(2))
    pd.testing.assert_frame_equal(one.findings, two.findings)
    for name, table in one.tables.items():
        pd.testing.assert_frame_equal(table, two.tables[name])


def test_prompts_of_a_value_may_be_pushed(job: Job, own: dict[str, Case], exactly: Readouts) -> None:
    doses = Doses(alphas=(0.0, 0.5, 1.0), seeds=4, controls=0, start="man")
    done = dose_response(job, [own["gender"]], exactly, doses)
    curve = done.tables["curves"].query("what == 'target' and direction == 'own'").readout.tolist()
    assert curve[0] == 0.0  # men, before
    assert curve[-1] >= 0.75
    assert "from prompts of man" in done.findings.reason[0]
    with pytest.raises(ScalexError, match="no value 'robot' of 'gender' to start from"):
        dose_response(job, [own["gender"]], exactly, replace(doses, start="robot"))


def test_a_tone_that_words_hold_acts_where_it_is_carried(audited: Audit) -> None:
    """Said tone does not come by way of the middle block (`python bench/patching.py`): pushed there it stays."""
    asked: dict[str, Any] = {"attributes": ["tone"], "concepts": ["farmer"], "scorer": "exact"}
    doses = Doses(alphas=(0.0, 0.5, 1.0), seeds=6, controls=1, start="light")
    run = shutil.copytree(audited.folder, audited.folder.with_name("carried"))
    still, moved = (validate(run, **asked, doses=replace(doses, probe=at)) for at in (None, "up_blocks.0"))
    assert still.findings.verdict[0] == "does not act"
    assert moved.findings.verdict[0] == "acts", moved.findings.reason[0]
    assert moved.findings.estimate[0] >= 0.8
    assert "pushed at up_blocks.0" in moved.findings.reason[0]
    assert "pushed at" not in still.findings.reason[0]
    with pytest.raises(ScalexError, match="has no probe 'up_block'"):
        validate(run, **asked, doses=replace(doses, probe="up_block"))


def scoring(call: Callable[[np.ndarray], Any]) -> Readouts:
    return readouts_of([Function(call, "gender", ("man", "woman"))])


def test_what_a_scorer_gets_wrong_is_taken_out(
    job: Job, own: dict[str, Case], exactly: Readouts, tmp_path: Path
) -> None:
    """The exact readout, and the same one wrong about half of the women: pictures of known values tell."""
    exact = exactly("farmer", "gender", ("man", "woman"))

    def wrong(pictures: np.ndarray) -> np.ndarray:
        shares = exact.score(pictures)
        missed = (pictures.astype(int).sum((1, 2, 3)) % 2 == 0) & (shares[:, 1] == 1)
        return np.where(missed[:, None], shares[:, ::-1], shares)

    doses, kept = replace(FEW, seeds=16, controls=0, calibrate=24), Drawings.open(tmp_path)
    truly, done = (dose_response(job, [own["gender"]], by, doses, drawings=kept) for by in (exactly, scoring(wrong)))
    (raw,), (true,), told = done.findings.estimate, truly.findings.estimate, done.tables["calibration"].iloc[0]
    assert (told.right_first, told.pictures, told.scorer) == (1.0, 24, "own scorer")
    assert 0.3 <= told.right_second <= 0.7
    assert true - raw > 0.1
    assert abs(told.slope - true) < (true - raw) / 2
    assert told.low <= true <= told.high
    assert f"with the scorer's mistakes taken out {told.slope:+.2f} per alpha" in done.findings.reason[0]
    curve = done.tables["curves"].query("what == 'corrected'")
    assert curve.alpha.tolist() == [-1.0, 0.0, 1.0]
    assert (curve.low <= curve.readout).all()
    assert (curve.readout <= curve.high).all()
    with pytest.raises(ScalexError, match="3 pictures calibrate no scorer"):
        replace(doses, calibrate=3)


def test_a_scorer_that_fails_or_gives_no_shares_is_named(job: Job, own: dict[str, Case]) -> None:
    few = Doses(alphas=(-1.0, 0.0, 1.0), seeds=4, controls=0)
    wrong = {
        r"scorer 'own scorer' gave an array of shape \(12, 3\) for 12 pictures": lambda p: np.zeros((len(p), 3)),
        "scorer 'own scorer' failed: ZeroDivisionError": lambda p: 1 / 0,
        "gave numbers that are no shares": lambda p: np.full((len(p), 2), 7.0),
    }
    for message, call in wrong.items():
        with pytest.raises(ScalexError, match=message):
            dose_response(job, [own["gender"]], scoring(call), few)


def test_a_direction_that_does_not_fit_is_refused(job: Job, own: dict[str, Case], exactly: Readouts) -> None:
    direction = own["gender"].direction
    other = replace(direction, of=replace(direction.of, model="0" * 64))
    with pytest.raises(ScalexError, match="was found in another model"):
        dose_response(job, [replace(own["gender"], direction=other)], exactly, FEW)
    short = Direction(direction.vector[:-1], direction.of)
    with pytest.raises(ScalexError, match="wide"):
        dose_response(job, [replace(own["gender"], direction=short)], exactly, FEW)
    with pytest.raises(ScalexError, match="the spec has no concept 'pilt'"):
        dose_response(job, [replace(own["gender"], concept="pilt")], exactly, FEW)


def test_what_no_readout_tells_is_not_expressed(job: Job, own: dict[str, Case]) -> None:
    done = dose_response(job, [own["gender"]], lambda *_: None, FEW)
    assert done.findings.verdict.tolist() == ["not expressed"]
    assert done.findings.causal_slope.isna().all()


# ---------------------------------------------------------------------------------------------------- a run


def test_a_run_gets_causal_evidence_and_keeps_it(audited: Audit) -> None:
    assert audited.findings[list(Finding.causal())].isna().all(axis=None)
    done = validate(audited.folder, attributes=["gender"], most=2, doses=replace(FEW, seeds=6))
    assert len(done.findings) == 2
    assert set(done.findings.analysis) == {NAME}
    for now in (open_run(audited.folder).findings, scalex.analyze(audited.folder).findings):
        known = now[now.causal_slope.notna()]
        assert set(known.analysis) == {"defaults", "rates"}
        assert set(known.target) == set(done.findings.target)
        slopes = dict(zip(done.findings.target, done.findings.estimate))
        assert known.causal_slope.tolist() == [slopes[target] for target in known.target]
    told = json.loads((audited.folder / "doses.json").read_text())
    assert {"findings", "curves", "drifts", "controls"} == set(told)
    rows = json.loads((audited.folder / "findings.json").read_text())
    assert sum(row["causal_slope"] is not None for row in rows) == len(known)
    page = audited.report.read_text()
    assert 'id="panel-dose_response"' in page
    assert page.count("data:image/webp;base64") >= 2 * 2


def test_an_interrupted_validation_goes_on_and_a_done_one_draws_nothing(
    audited: Audit, tmp_path: Path, forwards: list[int]
) -> None:
    """Ctrl-C between the pictures of a direction, resumed, against the same without a break."""
    drawn = shutil.ignore_patterns("drawings.sqlite", "doses.json")
    broken, whole = (Path(shutil.copytree(audited.folder, tmp_path / name, ignore=drawn)) for name in ("b", "w"))
    asked: dict[str, Any] = {"attributes": ["gender"], "concepts": ["mechanic"], "doses": replace(FEW, seeds=6)}
    validate(whole, **asked)
    uninterrupted, _ = sum(forwards), forwards.clear()

    def breaking(done: int, total: int) -> None:
        if done > total // 2:
            raise KeyboardInterrupt

    with pytest.raises(ScalexError, match=r"interrupted: what was captured and drawn is kept. Run the same command"):
        validate(broken, **asked, pushing=breaking)
    before, _ = sum(forwards), forwards.clear()
    assert not (broken / "doses.json").exists()
    validate(broken, **asked)
    after, _ = sum(forwards), forwards.clear()
    assert before > after > 0
    assert before + after == uninterrupted
    assert (broken / "doses.json").read_bytes() == (whole / "doses.json").read_bytes()
    validate(broken, **asked)
    validate(broken, **asked, scorer="exact")
    assert forwards == [], "the same pictures, whoever reads them"


def test_what_is_asked_for_must_be_there(audited: Audit) -> None:
    with pytest.raises(ScalexError, match="the run has no attribute 'gendr'"):
        validate(audited.folder, attributes=["gendr"])
    with pytest.raises(ScalexError, match="there is no scorer 'pictures'"):
        validate(audited.folder, most=1, scorer="pictures")
    with pytest.raises(ScalexError, match="tells one attribute, and 2 are to be tried"):
        validate(audited.folder, most=1, scorer="numpy:zeros")


def test_the_command_pushes_and_says_what_happened(audited: Audit) -> None:
    run = ["validate", str(audited.folder), "--attribute", "gender", "--concept", "mechanic", "--seeds", "4"]
    run += ["--alphas", "-1,0,1", "--controls", "0", "--calibrate", "4", "--probe", "mid_block"]
    shown = CliRunner().invoke(app, run)
    assert shown.exit_code == 0, shown.output
    assert "mechanic, gender, to woman: " in shown.output
    assert "by the picture reading; with the scorer's mistakes taken out" in shown.output
    assert "Corrected for the scorer" in audited.report.read_text()
    told = json.loads(CliRunner().invoke(app, [*run, "--json"]).stdout)
    assert told["findings"][0]["target"] == "mechanic"
    with pytest.raises(ScalexError, match="--alphas 1;2 is not understood"):
        CliRunner().invoke(app, ["validate", str(audited.folder), "--alphas", "1;2"], catch_exceptions=False)


def test_an_audit_may_validate_itself(tmp_path: Path) -> None:
    spec = tmp_path / "spec.yaml"
    spec.write_text(json.dumps({**SPEC, "concepts": ["mechanic", "pilot"], "attributes": ["gender"]}))
    asked = ["audit", "--spec", str(spec), "--out", str(tmp_path / "run"), "--validate", "--json"]
    shown = CliRunner().invoke(app, asked)
    assert shown.exit_code == 0, shown.output
    rows = json.loads(shown.stdout)["findings"]
    leaning = [r for r in rows if r["analysis"] == "defaults" and r["reading"] == "picture" and "leans" in r["verdict"]]
    assert leaning
    assert all(row["causal_slope"] is not None for row in leaning)


# ---------------------------------------------------------------------------------------------------- the panel


def panel_of(*verdicts: str) -> Any:
    names = [f"role {i}" for i in range(len(verdicts))]
    rows = frame(*(replace(found(n, "gender", "woman", 0.4, v), analysis=NAME) for n, v in zip(names, verdicts)))
    of = [{"concept": n, "attribute": "gender", "first": "man", "second": "woman"} for n in names]
    curve = [
        {"direction": kind, "number": 0, "what": what, "alpha": alpha, "readout": 0.5, "low": 0.4, "high": 0.6}
        for kind, what in (
            ("own", "target"),
            ("own", "tone"),
            ("own", CONCEPT),
            ("own", "distance"),
            ("random", "target"),
        )
        for alpha in (-1.0, 0.0, 1.0)
    ]
    tables = {
        "curves": pd.DataFrame([one | point for one in of for point in curve]),
        "drifts": pd.DataFrame([one | {"what": "tone"} for one in of]),
        "controls": pd.DataFrame([one | {"kind": "random", "slope": -0.03} for one in of]),
        "strips": pd.DataFrame(
            [one | {"seed": 1, "n": 3, "alphas": "-1 0 1", "picture": "data:image/webp;base64,AA"} for one in of]
        ),
    }
    return panels(rows, {f"{NAME}-picture-{name}": table for name, table in tables.items()}, {})[0][1]


def test_the_panel_shows_pictures_curves_and_a_table() -> None:
    panel = panel_of("acts", "acts but drags tone along", "does not act")
    assert panel.heading == "2 of 3 directions that were tried act; 1 drags something else along"
    assert panel.figures[0].wide.count("<image") == 3
    assert panel.figures[1].wide.count("<title>") == 3 * (3 * 3 + 3)  # three lines and the controls; no distance
    assert panel.listings[0].rows[0][:3] == ("role 0", "gender", "woman")
    assert panel.listings[0].rows[0][6] == "3%"
    assert "Does not act: role 2 (gender)." in panel.paragraphs


@pytest.mark.parametrize(
    ("verdicts", "heading"),
    [
        (["acts"], "The direction that was tried acts"),
        (["acts", "acts"], "All 2 directions that were tried act"),
        (["does not act"], "The direction does not act"),
    ],
)
def test_the_panels_heading_follows_the_verdicts(verdicts: list[str], heading: str) -> None:
    assert panel_of(*verdicts).heading == heading
