"""The whole way on the embedded organism, through the Python API."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import altair as alt
import numpy as np
import pandas as pd
import pytest
from jaxtyping import UInt8

import scalex
from scalex import auditing, jobs, runs
from scalex.auditing import Audit, latents_of
from scalex.errors import ScalexError
from scalex.jobs import prepare
from scalex.organisms import EMBEDDED
from scalex.records import Finding

SPEC = {
    "seeds": 24,
    "templates": ["a photo of a {}", "a picture of a {}"],
    "concepts": ["mechanic", "teacher", "bossy person"],
    "attributes": ["gender"],
    "resamples": 500,
    "permutations": 999,
}
FORMS = 5  # of a concept: neutral, and both values in both wordings


@pytest.fixture(scope="module")
def audited(tmp_path_factory: pytest.TempPathFactory) -> Audit:
    return scalex.audit(spec=SPEC, out=tmp_path_factory.mktemp("run"))


def test_findings_have_the_columns_of_the_contract(audited: Audit) -> None:
    assert list(audited.findings.columns) == list(Finding.columns())
    stored = pd.read_parquet(audited.folder / "findings.parquet")
    pd.testing.assert_frame_equal(stored, audited.findings)
    records = json.loads((audited.folder / "findings.json").read_text())
    assert [r["target"] for r in records] == audited.findings.target.tolist()


def test_what_was_planted_strongly_is_found(audited: Audit) -> None:
    """Planted P(woman): mechanic 0.02, teacher 0.94, bossy person 0.95; the margin is wide on purpose."""
    f = audited.findings
    leans = f[(f.analysis == "defaults") & (f.reading == "picture")].set_index("target")
    assert leans.verdict.to_dict() == {
        "mechanic": "leans to man",
        "teacher": "leans to woman",
        "bossy person": "leans to woman",
    }
    rates = f[(f.analysis == "rates") & (f.value == "woman")].set_index("target").estimate
    assert rates["mechanic"] < 0.25
    assert min(rates["teacher"], rates["bossy person"]) > 0.75


def test_the_manifest_holds_what_is_needed_to_run_it_again(audited: Audit, tmp_path: Path) -> None:
    told = json.loads((audited.folder / "manifest.json").read_text())
    assert told["n_samples"] == told["n_captured"] == 3 * FORMS * 2 * 24
    assert told["flops"] > 1e9
    again = scalex.audit(spec=told["spec"], out=tmp_path, store=audited.folder / "store")
    assert again.manifest["n_captured"] == 0
    assert (again.manifest["flops"], again.manifest["flops_of_this_run"]) == (told["flops"], 0)
    pd.testing.assert_frame_equal(again.findings, audited.findings)


def test_more_seeds_capture_only_what_is_missing(audited: Audit, tmp_path: Path) -> None:
    more = scalex.audit(spec=SPEC, out=tmp_path, store=audited.folder / "store", seeds=28)
    assert more.manifest["n_captured"] == 3 * FORMS * 2 * 4
    old, new = latents_of(audited)["text"], latents_of(more)["text"]
    np.testing.assert_array_equal(new.values[:, :24], old.values)


def test_the_report_is_one_file(audited: Audit) -> None:
    page = audited.report.read_text()
    assert len(page) < 5_000_000
    assert "mechanic" in page


def test_charts_for_notebooks(audited: Audit) -> None:
    for chart in (audited.leans("gender"), audited.leans("gender", "text"), audited.rates("gender")):
        assert isinstance(chart, alt.TopLevelMixin)
        assert "mechanic" in json.dumps(chart.to_dict())


def test_a_run_opens_again(audited: Audit, tmp_path: Path) -> None:
    pd.testing.assert_frame_equal(scalex.open_run(audited.folder).findings, audited.findings)
    shutil.copy(audited.folder / "manifest.json", tmp_path)
    with pytest.raises(ScalexError, match="holds no findings"):
        scalex.open_run(tmp_path)
    (tmp_path / "findings.parquet").write_text("PAR1")
    with pytest.raises(ScalexError, match=r"findings\.parquet is damaged\. Run: scalex analyze"):
        scalex.open_run(tmp_path)
    (tmp_path / "manifest.json").write_text("[]")
    with pytest.raises(ScalexError, match=r"is no manifest of a run: it lacks spec, recipes, store"):
        scalex.analyze(tmp_path)
    (tmp_path / "manifest.json").write_text("{")
    with pytest.raises(ScalexError, match="is damaged"):
        scalex.analyze(tmp_path)


def test_unknown_words_are_reported(tmp_path: Path) -> None:
    run = scalex.audit(spec=SPEC | {"concepts": ["qzxjk pilot"], "seeds": 4}, out=tmp_path, analyses=["defaults"])
    assert [note for note in run.manifest["notes"] if "'qzxjk'" in note]


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"analyses": ["rate"]}, "unknown analysis 'rate'. Did you mean 'rates'"),
        ({"readings": ["text"]}, "'rates' takes the picture reading, which is not captured. Add picture to readings"),
        ({"concepts": ["cook", " ".join(["cook"] * 40)]}, "tokens"),
    ],
)
def test_what_can_be_known_before_is_said_before_anything_is_captured(
    asked: dict[str, object], said: str, tmp_path: Path
) -> None:
    with pytest.raises(ScalexError, match=said):
        scalex.audit(spec=SPEC | asked, out=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_an_audit_captures_the_prompts_that_its_analyses_take_alone(tmp_path: Path) -> None:
    """Descriptors take variants of the reference; what they do not take is named where another analysis asks for it."""
    asked = SPEC | {"analyses": ["descriptors"], "seeds": 4, "resamples": 200, "permutations": 199}
    run = scalex.audit(spec=asked, out=tmp_path, readings=["text"])
    assert run.manifest["n_samples"] == run.manifest["n_captured"] == (3 + 1 + 2) * 2 * 4
    pd.testing.assert_frame_equal(scalex.analyze(tmp_path).findings, run.findings)
    with pytest.raises(
        ScalexError, match=r"'defaults' takes prompts that this run did not capture \(variants of a con"
    ):
        scalex.analyze(tmp_path, ["defaults"])
    before = {key: told for key, told in run.manifest.items() if key != "variants"}  # runs had all that there are
    (tmp_path / "manifest.json").write_text(json.dumps(before))
    with pytest.raises(ScalexError, match="samples are missing"):
        scalex.analyze(tmp_path)


def test_all_analyses_are_those_that_the_readings_allow(tmp_path: Path) -> None:
    found = scalex.audit(spec=SPEC | {"readings": ["text"], "analyses": "all", "seeds": 4}, out=tmp_path).findings
    assert "defaults" in set(found.analysis)
    assert not {"rates", "disagreement"} & set(found.analysis), "these take the picture reading"
    assert set(found.reading) == {"text"}


def test_other_seeds_repeat_an_audit_on_other_pictures(audited: Audit, tmp_path: Path) -> None:
    theirs = latents_of(audited)["picture"]
    for first, captured in ((100, 3 * FORMS * 2 * 4), (20, 0)):
        run = scalex.audit(spec=SPEC, out=tmp_path, store=audited.folder / "store", seeds=4, first_seed=first)
        assert run.manifest["n_captured"] == captured
        mine = latents_of(run)["picture"]
        assert mine.seeds == tuple(range(first, first + 4))
    np.testing.assert_array_equal(mine.values, theirs.values[:, 20:24])


def test_steps_are_those_that_the_model_recommends() -> None:
    job = prepare(EMBEDDED, SPEC)
    assert (job.plan.steps, prepare(spec=SPEC).plan.steps) == (25, 4)
    hurried = replace(job, plan=replace(job.plan, steps=6))
    assert "made in 6 steps, though 25 are recommended" in " ".join(jobs.notes_of(hurried))
    assert not any("recommended" in note for note in jobs.notes_of(job))


def test_steps_to_keep_are_chosen() -> None:
    job = prepare(spec=SPEC | {"keep": {"text": "all", "picture": [1, "last"]}})
    steps = job.plan.resolve(job.model)
    assert (steps.text, steps.picture) == ((0, 1, 2, 3), (1, 3))


def test_another_model_is_not_asked_what_was_planted_in_the_organism() -> None:
    concepts = {p.concept for p in prepare(EMBEDDED).prompts}
    assert "pilot" in concepts
    assert not concepts & {"elf", "bossy person"}


def test_a_run_can_be_moved(audited: Audit, tmp_path: Path) -> None:
    moved = shutil.copytree(audited.folder, tmp_path / "moved")
    pd.testing.assert_frame_equal(scalex.analyze(moved).findings, audited.findings)
    elsewhere = (moved / "store").rename(tmp_path / "latents")
    with pytest.raises(ScalexError, match="store"):
        scalex.analyze(moved)
    pd.testing.assert_frame_equal(scalex.analyze(moved, store=elsewhere).findings, audited.findings)


def test_a_run_again_draws_no_picture_again(audited: Audit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = shutil.copytree(audited.folder, tmp_path / "again")
    monkeypatch.setattr(auditing, "generate", lambda *_: pytest.fail("drawn again"))
    again = scalex.audit(spec=SPEC, out=folder)
    assert again.manifest["pictures"] == audited.manifest["pictures"]
    with pytest.raises(pytest.fail.Exception, match="drawn again"):
        scalex.audit(spec=SPEC, out=folder, seeds=8)


def test_a_direction_of_others_is_refused_before_anything_is_captured_where_there_are_none() -> None:
    with pytest.raises(ScalexError, match="a shared direction needs other concepts to learn from"):
        prepare(spec=SPEC | {"concepts": ["teacher"], "lean_direction": "shared"})


def test_fewer_pictures_are_drawn_of_each_where_concepts_are_many(
    audited: Audit, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = prepare(spec=SPEC | {"attributes": {}, "analyses": ["defaults"]})
    one = job.prompts[0]

    def drawn(number: int, **changes: object) -> list[list[tuple[str, int]]]:
        prompts = tuple(replace(one, text=f"a {i}", concept=f"{i}") for i in range(number))
        calls: list[list[tuple[str, int]]] = []

        def generate(_: object, samples: list[tuple[str, int]], __: object) -> UInt8[np.ndarray, "n 1 1 3"]:
            calls.append(samples)
            first = np.array([int(text[2:]) % 256 for text, _ in samples], dtype=np.uint8)
            return np.tile(first[:, None, None, None], (1, 1, 1, 3))

        monkeypatch.setattr(auditing, "generate", generate)
        made = auditing._draw(replace(job, prompts=prompts, **changes), lambda done, total: None)
        assert all((rows == int(c) % 256).all() for c, rows in made.items()), "each has its own"
        assert len(made) in (0, number)
        return calls

    assert [len(some) for some in drawn(100)] == [8] * 100
    assert [len(some) for some in drawn(300)] == [6] * 150
    assert [len(some) for some in drawn(500)] == [8] * 125
    assert [len(some) for some in drawn(900)] == [8] * 225, "two each, however many"
    assert [seed for _, seed in drawn(500)[0]] == [0, 1] * 4
    assert drawn(3, spec=job.spec.model_copy(update={"analyses": ("clusters",)})) == [], "where none would be shown"


def test_an_interruption_while_pictures_are_drawn_leaves_a_run(
    audited: Audit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(auditing, "generate", stop)
    with pytest.raises(ScalexError, match=r"^interrupted: all samples were captured and are kept\. Run the same"):
        scalex.audit(spec=SPEC, out=tmp_path, store=audited.folder / "store")
    pd.testing.assert_frame_equal(scalex.analyze(tmp_path).findings, audited.findings)


def test_pictures_that_are_gone_or_broken_are_left_out_of_the_report(audited: Audit, tmp_path: Path) -> None:
    folder = shutil.copytree(audited.folder, tmp_path / "run")
    first, second, *_ = sorted((folder / "pictures").iterdir())
    first.unlink()
    second.write_text("no picture")
    assert "mechanic" in auditing.render_report(folder).read_text()
    assert list(runs.load_pictures(folder, audited.manifest["pictures"])) == ["bossy person"]


def test_charts_show_the_margin_of_the_spec(audited: Audit) -> None:
    wide = replace(audited, manifest=audited.manifest | {"spec": audited.manifest["spec"] | {"margin": 0.25}})
    assert "-0.25" in json.dumps(wide.leans("gender").to_dict())
    assert "-0.25" not in json.dumps(audited.leans("gender").to_dict())
