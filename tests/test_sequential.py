"""Seeds for undecided concepts alone: looks together err as one, spend no more than they may, and can be repeated."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats as scipy_stats
from typer.testing import CliRunner

import scalex
from scalex import analyses, auditing, jobs, outlook, sequential
from scalex.analyses import _planted
from scalex.auditing import Audit
from scalex.cli import app
from scalex.errors import ScalexError
from scalex.prompts import load_spec
from scalex.records import Finding, Latents, Reading, Rules
from scalex.report import model_card
from scalex.report.html import _facts
from scalex.sequential import Look, Source, follow, open_concepts, schedule_of
from tiny import interrupting

GENDER = {"gender": ("man", "woman")}
RULES = Rules(resamples=400, permutations=999)
RISK = 0.001


def at_most(rate: float, n: int) -> float:
    """The share of n audits that something of this chance passes with chance RISK only."""
    return float(scipy_stats.binom.isf(RISK, n, rate)) / n


def latents_of(shares: Mapping[str, float], rng: np.random.Generator, n_seeds: int, **more: object) -> Latents:
    plan = {concept: {"gender": {"man": 1 - p, "woman": p}} for concept, p in shares.items()}
    return _planted.planted(plan, rng, n_seeds=n_seeds, **more)  # type: ignore[arg-type]


def cut(latents: Latents, look: Look) -> Latents:
    """What is captured for a look: its concepts at its seeds."""
    rows = [i for i, p in enumerate(latents.prompts) if p.concept in look.concepts]
    values, prompts = latents.values[rows, : look.seeds], tuple(latents.prompts[i] for i in rows)
    return Latents(values, prompts, latents.seeds[: look.seeds], latents.steps, latents.reading)


def source_of(latents: Latents, asked: list[Look] | None = None) -> Source:
    def source(look: Look) -> dict[Reading, Latents]:
        if asked is not None:
            asked.append(look)
        return {latents.reading: cut(latents, look)}

    return source


# ------------------------------------------------------------------------------------------------ validity


@pytest.fixture
def _no_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """Analyses of other distributions are not looked up again at each of 1,000 looks: that takes longer than a look."""
    monkeypatch.setattr(analyses, "entry_points", lambda group: [])


@pytest.mark.usefixtures("_no_others")
@pytest.mark.parametrize(("truth", "wrong", "limit"), [(0.0, "leans", 0.05), (0.1, "balanced", 0.025)])
def test_false_decisions_over_all_looks_stay_within_the_level(truth: float, wrong: str, limit: float) -> None:
    """300 audits of a concept at looks of 8, 16, 32 and 64 seeds, until decided. (Without spending 0.12 err, not 0.05.)

    At neutral any lean is wrong; at the margin *balanced* is, at one end of the interval, which spends half. With a
    margin of 0.02 a neutral concept is seldom decided, so that nearly all looks are taken and can err.
    """
    n, rng = 300, np.random.default_rng(1)
    rules = replace(RULES, margin=0.02 if wrong == "leans" else 0.1)
    plan = schedule_of(8, 64, 1e-9, rules)
    said, looks = [], []
    for _ in range(n):
        drawn = latents_of({"cook": 0.5 + truth}, rng, 64, width=8, n_templates=1, mixed=True)
        done = follow(["defaults"], plan, source_of(drawn), ["cook"], GENDER)
        said += [f.verdict for f in done.findings]
        looks.append(len(done.looks))
    assert len(said) == n
    assert np.mean([verdict.startswith(wrong) for verdict in said]) <= at_most(limit, n)
    assert np.mean(looks) >= 2.5, "looks are taken, so that there is something to err at"


@pytest.mark.usefixtures("_no_others")
def test_false_discoveries_of_many_concepts_keep_their_rate() -> None:
    """60 audits of six neutral concepts and two that lean by 0.15: the rate is at most 0.05 * 6/8 of the audits'."""
    n, rng = 60, np.random.default_rng(2)
    shares = {f"neutral {i}": 0.5 for i in range(6)} | {"cook": 0.65, "judge": 0.35}
    plan = schedule_of(16, 64, 1e-9, replace(RULES, margin=0.01))
    false, found = [], []
    for _ in range(n):
        drawn = latents_of(shares, rng, 64, width=16, n_templates=1, mixed=True)
        done = follow(["defaults"], plan, source_of(drawn), list(shares), GENDER)
        lean = [f.target for f in done.findings if f.verdict.startswith("leans")]
        false.append(sum(t.startswith("neutral") for t in lean) / max(1, len(lean)))
        found.append(len({"cook", "judge"} & set(lean)))
    z = float(scipy_stats.norm.isf(RISK))
    rate = 0.05 * 6 / 8
    assert np.mean(false) <= rate + z * (rate * (1 - rate) / n) ** 0.5
    assert np.mean(found) >= 1, "of two, one at least"


def test_levels_of_looks_spend_what_one_look_would() -> None:
    plan = schedule_of(8, 50, 0.05, RULES)
    assert plan.seeds == (8, 16, 32, 50)
    assert sum(1 - rules.level for rules in plan.rules) == pytest.approx(0.05)
    assert {replace(rules, level=0.95) for rules in plan.rules} == {RULES}
    alone = schedule_of(8, 8, 0.05, RULES)
    assert alone.seeds == (8,)
    assert alone.rules[0].level == pytest.approx(0.95)


# ------------------------------------------------------------------------------------------------ who goes on

SHARES = {"nurse": 0.95, "cook": 0.5, "farmer": 0.5, "pilot": 0.05}


@pytest.fixture(scope="module")
def drawn() -> Latents:
    return latents_of(SHARES, np.random.default_rng(3), 128)


def test_clear_concepts_stop_at_the_first_look_and_close_ones_go_on(drawn: Latents) -> None:
    asked: list[Look] = []
    plan = schedule_of(16, 128, 0.02, RULES)
    done = follow(["defaults", "rates"], plan, source_of(drawn, asked), list(SHARES), GENDER)
    assert list(done.looks) == asked
    assert asked[0] == (16, tuple(SHARES))
    assert [look.seeds for look in asked] == [16, 32, 64, 128]
    assert all(set(look.concepts) <= {"cook", "farmer"} for look in asked[1:])
    seeds = {(f.target, f.n_seeds) for f in done.findings}
    assert {(t, n) for t, n in seeds if t in ("nurse", "pilot")} == {("nurse", 16), ("pilot", 16)}
    assert max(n for t, n in seeds if t == "cook") > 16
    assert len({f.target for f in done.findings}) == len(seeds) == 4, "all rows of a concept are of one look"
    for f in done.findings:
        assert f.reason.endswith(f"look {plan.seeds.index(f.n_seeds) + 1} of 4")
    rows = [(f.analysis, f.target) for f in done.findings if f.analysis == "defaults"]
    assert rows == [("defaults", c) for c in SHARES], "in the order of the audit, not of the looks"


def test_a_concept_that_is_known_precisely_enough_stops(drawn: Latents) -> None:
    plan = schedule_of(16, 128, 0.25, RULES)
    done = follow(["defaults"], plan, source_of(drawn), list(SHARES), GENDER)
    stopped = [f for f in done.findings if "as precise as asked" in f.reason]
    assert stopped
    for f in stopped:
        assert f.verdict == "undecided"
        assert (f.high - f.low) / 2 <= 0.25
        assert f.n_seeds < 128
        assert "as precise as asked, ±0.25; look" in f.reason


def test_the_budget_is_kept(drawn: Latents) -> None:
    asked: list[Look] = []
    done = follow(["defaults"], schedule_of(16, 40, 1e-9, RULES), source_of(drawn, asked), list(SHARES), GENDER)
    assert [look.seeds for look in asked] == [16, 32, 40]
    assert max(f.n_seeds for f in done.findings) == 40


def test_what_is_open() -> None:
    row = Finding("rates", "picture", "cook", "g", "a", 0.5, "share", 0.4, 0.6, 1.0, 1.0, 1.0, "undecided", "", 8, 1)
    no_interval = replace(row, target="judge", low=float("nan"), high=float("nan"))
    rows = [row, no_interval, replace(row, target="nurse", verdict="balanced")]
    rows += [replace(row, target="pilot", verdict="not expressed"), replace(row, target="elf", analysis="sensitivity")]
    assert open_concepts(rows, 0.05) == ("cook", "judge")
    assert open_concepts(rows, 0.11) == ("judge",)


def test_what_was_found_stays_in_the_family_of_later_looks(drawn: Latents) -> None:
    """Beside two found to lean (p = 0) its q is its own p; beside two that were not (p = 1), three times that."""
    latents = cut(drawn, Look(32, ("cook",)))
    [alone] = scalex_run(latents, [])
    leaning = [replace(alone, target=t, p=0.0, q=float("nan")) for t in ("a", "b")]
    balanced = [replace(f, p=1.0) for f in leaning]
    other = [replace(f, analysis="rates") for f in balanced]
    assert scalex_run(latents, leaning)[0].q == pytest.approx(alone.p)
    assert scalex_run(latents, balanced)[0].q == pytest.approx(min(1.0, 3 * alone.p))
    assert scalex_run(latents, other)[0].q == pytest.approx(alone.p)


def test_concepts_that_stopped_count_by_what_was_found_of_them(drawn: Latents) -> None:
    """Two lean (p = 0) and one does not (p = 1): the fourth is third in order, so its q is 4/3 of its p."""
    plan = schedule_of(16, 32, 1e-9, RULES)
    done = follow(["defaults"], plan, source_of(drawn), list(SHARES), GENDER, lambda *_: ["farmer"])
    rows = {f.target: f for f in done.findings}
    assert [f.n_seeds for f in rows.values()] == [16, 16, 32, 16]
    assert [f.verdict.startswith("leans") for f in rows.values()] == [True, False, False, True]
    assert 0 < rows["farmer"].p < 0.75
    assert rows["farmer"].q == pytest.approx(rows["farmer"].p * 4 / 3)


def scalex_run(latents: Latents, settled: Sequence[Finding]) -> list[Finding]:
    return analyses.run(["defaults"], {"picture": latents}, GENDER, RULES, settled)


def foreign(**says: object) -> Any:
    """An analysis of another distribution: it finds every concept to be odd from 32 seeds on, with p = 0.9."""
    row = Finding("oddity", "picture", "", "gender", "", 0.2, "lean", 0.0, 0.4, 0.9, float("nan"), 1.0, "", "x", 8, 1)

    def analyse(latents: Latents, attributes: object, rules: object) -> list[Finding]:
        return [replace(row, target=c, n_seeds=len(latents.seeds)) for c in latents.concepts]

    def conclude(finding: Finding, attributes: object, rules: object) -> Finding:
        return replace(finding, verdict="odd" if finding.n_seeds >= 32 else "undecided")

    return SimpleNamespace(NAME="oddity", READINGS=("picture",), analyse=analyse, conclude=conclude, **says)


def install(monkeypatch: pytest.MonkeyPatch, member: Any) -> None:
    point = SimpleNamespace(value="other", load=lambda: member)
    monkeypatch.setattr(analyses, "entry_points", lambda group: [point])


def test_an_analysis_of_another_distribution_takes_part(drawn: Latents, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = load_spec({"concepts": list(SHARES), "attributes": ["gender"], "seeds": 16, "width": 0.02, "budget": 64})
    install(monkeypatch, foreign())
    assert analyses.by_concept(["oddity", "clusters"]) == []
    assert sequential.schedule(spec, ["oddity"]) is None
    install(monkeypatch, foreign(BY_CONCEPT=True))
    assert analyses.by_concept(["clusters", "oddity"]) == ["oddity"]
    assert analyses.decisive(["oddity"]) == []
    install(monkeypatch, foreign(DECISIVE=True))
    assert analyses.by_concept(["clusters", "oddity"]) == analyses.decisive(["clusters", "oddity"]) == ["oddity"]
    plan = sequential.schedule(spec, ["oddity"])
    assert plan
    done = follow(["oddity"], plan, source_of(drawn), list(SHARES), GENDER)
    assert [look.seeds for look in done.looks] == [16, 32]
    assert {f.verdict for f in done.findings} == {"odd"}


def test_verdicts_that_claim_nothing_are_those_an_analysis_names(monkeypatch: pytest.MonkeyPatch) -> None:
    row = Finding("rates", "picture", "cook", "g", "a", 0.5, "share", 0.4, 0.6, 1.0, 1.0, 1.0, "", "", 8, 1)
    said = {
        "rates": {"leans to a": True, "balanced": False, "undecided": False, "not expressed": False},
        "disagreement": {"picture more a": True, "readings agree": False},
        "sensitivity": {"depends on the template": True, "robust": False},
    }
    for name, verdicts in said.items():
        assert analyses.claims([replace(row, analysis=name, verdict=v) for v in verdicts]) == list(verdicts.values())
    odd = replace(row, analysis="oddity", verdict="odd")
    for none, claimed in (((), True), (("odd",), False)):
        install(monkeypatch, foreign(NO_CLAIM=none))
        assert analyses.claims([odd]) == [claimed]


# ------------------------------------------------------------------------------------------------ a real audit

SPEC = {
    "seeds": 8,
    "width": 0.02,
    "budget": 32,
    "concepts": ["mechanic", "teacher", "judge"],
    "templates": ["a photo of a {}"],
    "attributes": ["gender"],
    "analyses": ["defaults", "rates", "disagreement", "sensitivity", "clusters"],
    "resamples": 300,
    "permutations": 999,
}
FORMS = 5  # of a concept: neutral, and both values in both wordings


@pytest.fixture(scope="module")
def audited(tmp_path_factory: pytest.TempPathFactory) -> Audit:
    return scalex.audit(spec=SPEC, out=tmp_path_factory.mktemp("run"))


def test_a_real_audit_adds_seeds_to_undecided_concepts_only(audited: Audit) -> None:
    told, f = audited.manifest, audited.findings
    looks = told["looks"]
    assert [look["seeds"] for look in looks] == [8, 16, 32][: len(looks)]
    assert looks[0]["concepts"] == SPEC["concepts"]
    assert len(looks) > 1
    before = [0, *(look["seeds"] for look in looks)]
    samples = sum((look["seeds"] - n) * len(look["concepts"]) * FORMS for look, n in zip(looks, before))
    assert told["n_samples"] == told["n_captured"] == samples < 3 * FORMS * 32
    by_concept = f.analysis.isin(analyses.by_concept(f.analysis.unique()))
    own = f[by_concept]
    last = {c: look["seeds"] for look in looks for c in look["concepts"]}
    assert (own.n_seeds == own.target.map(last)).all()
    assert own.n_seeds.nunique() > 1
    once = f[~by_concept]
    assert len(once)
    assert set(once.n_seeds) == {8}
    assert list(f.analysis.unique()) == SPEC["analyses"]
    decisive = own[(own.reading == "picture") & own.analysis.isin(["defaults", "rates"]) & (own.n_seeds < 32)]
    narrow = (decisive.high - decisive.low) / 2 <= 0.02
    assert ((decisive.verdict != "undecided") | narrow).all()


def test_the_report_says_how_seeds_were_added(audited: Audit) -> None:
    page = audited.report.read_text()
    assert "Seeds were added to undecided concepts, in " in page
    assert "Lan and DeMets (1983, Biometrika" in page
    assert "whiskers 95% intervals (over all looks together), the grey band" in page
    assert "Intervals are meant to hold the truth in 95% of repetitions, at all looks together: at each one" in page
    assert "<cite>Discrete Sequential Boundaries for Clinical Trials</cite>" in page
    assert "intervals 95% over all looks together, Benjamini" in model_card(audited.findings, audited.manifest)
    assert dict(_facts(audited.findings, audited.manifest))["seeds each"] == f"8 to {audited.findings.n_seeds.max()}"


def test_stored_latents_give_the_same_findings(audited: Audit) -> None:
    pd.testing.assert_frame_equal(scalex.analyze(audited.folder).findings, audited.findings)
    for name in ("rates", "clusters"):
        some = scalex.analyze(audited.folder, [name]).findings
        mine = audited.findings[audited.findings.analysis == name].reset_index(drop=True)
        pd.testing.assert_frame_equal(some, mine)
    scalex.analyze(audited.folder)  # leaves the folder as it was


def test_an_interrupted_look_goes_on(audited: Audit, tmp_path: Path) -> None:
    """Ctrl-C in the second look; the same command then captures the rest, and finds the same."""
    totals: list[int] = []
    job = jobs.prepare(spec=SPEC)
    pressed = interrupting(job.model, lambda _: totals.count(0) == 2)
    said = r"^interrupted: \d+ of \d+ samples were captured and are kept\. Run the sam"
    with pressed, pytest.raises(ScalexError, match=said):
        auditing.capture_run(job, tmp_path, progress=lambda done, total: totals.append(done))
    again = scalex.audit(spec=SPEC, out=tmp_path)
    assert again.manifest["n_captured"] == audited.manifest["n_captured"] - 3 * FORMS * 8, "without the first look"
    assert again.manifest["looks"] == audited.manifest["looks"]
    pd.testing.assert_frame_equal(again.findings, audited.findings)


def test_the_outlook_says_the_least_and_the_most(tmp_path: Path) -> None:
    ahead = outlook.outlook(jobs.prepare(spec=SPEC), tmp_path / "none")
    assert ahead.samples == 3 * FORMS * 8
    assert ahead.most is not None
    assert ahead.most.samples == 3 * FORMS * 32
    assert ahead.most.seconds > ahead.seconds
    plain = {key: value for key, value in SPEC.items() if key not in ("width", "budget")}
    assert outlook.outlook(jobs.prepare(spec=plain), tmp_path / "none").most is None


def test_the_command_line_says_both(tmp_path: Path) -> None:
    plain = {key: value for key, value in SPEC.items() if key not in ("width", "budget")}
    (tmp_path / "spec.yaml").write_text(json.dumps(plain))
    asked = ["audit", "--spec", str(tmp_path / "spec.yaml"), "--out", str(tmp_path / "run"), "--dry-run"]
    said = CliRunner().invoke(app, [*asked, "--precision", "0.02", "--budget", "32", "--dtype", "fp32"]).stdout
    assert re.search(r"^at least 120 samples of .*\nat most 480 samples of 15 texts", said)
    assert re.search(r"^120 samples of 15 texts", CliRunner().invoke(app, asked).stdout)


def test_an_audit_that_nothing_decides_adds_none_and_says_so() -> None:
    job = jobs.prepare(spec=SPEC | {"analyses": ["sensitivity"]})
    assert sequential.schedule(job.spec, ["sensitivity"]) is None
    assert any(note.startswith("No seeds are added: ") for note in jobs.notes_of(job))
    assert not any(note.startswith("No seeds are added: ") for note in jobs.notes_of(jobs.prepare(spec=SPEC)))


def test_the_budget_is_eight_times_the_seeds_unless_it_is_set() -> None:
    asked = {key: value for key, value in SPEC.items() if key != "budget"}
    assert load_spec(asked).most_seeds == 64
    assert load_spec(asked | {"seeds": 50_000}).most_seeds == 100_000
    assert load_spec(SPEC).most_seeds == 32
    assert load_spec({key: value for key, value in asked.items() if key != "width"}).most_seeds == 8


def test_notes_of_looks() -> None:
    spec = load_spec(SPEC)
    assert sequential.note(spec, []) == []
    assert sequential.note(load_spec(SPEC | {"budget": 8}), [Look(8, ("cook",))]) == []
    [none] = sequential.note(spec, [Look(8, ("cook",))])
    assert none.startswith("No concept was left undecided at 8 seeds, so none got more. ")
    [some] = sequential.note(spec, [Look(8, ("cook", "judge")), Look(16, ("judge",))])
    said = "Seeds were added to undecided concepts, in 2 looks: of 2 concepts at 8 seeds, then 1 at 16. The error that "
    assert some.startswith(said)
