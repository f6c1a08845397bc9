"""The whole way on the embedded organism, through the Python API."""

from __future__ import annotations

import json
from pathlib import Path

import altair as alt
import numpy as np
import pandas as pd
import pytest

import scalex
from scalex.auditing import Audit, latents_of
from scalex.errors import ScalexError
from scalex.records import Finding

SPEC = {
    "seeds": 24,
    "templates": ["a photo of a {}", "a picture of a {}"],
    "concepts": ["mechanic", "teacher", "bossy person"],
    "attributes": ["gender"],
    "resamples": 500,
    "permutations": 999,
}


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
    assert told["n_samples"] == told["n_captured"] == 3 * 3 * 2 * 24
    assert told["flops"] > 1e9
    again = scalex.audit(spec=told["spec"], out=tmp_path, store=audited.manifest["store"])
    assert again.manifest["n_captured"] == 0
    pd.testing.assert_frame_equal(again.findings, audited.findings)


def test_more_seeds_capture_only_what_is_missing(audited: Audit, tmp_path: Path) -> None:
    more = scalex.audit(spec=SPEC, out=tmp_path, store=audited.manifest["store"], seeds=28)
    assert more.manifest["n_captured"] == 3 * 3 * 2 * 4
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
    (tmp_path / "manifest.json").write_text("{}")
    with pytest.raises(ScalexError, match="holds no findings"):
        scalex.open_run(tmp_path)
    (tmp_path / "manifest.json").write_text("{")
    with pytest.raises(ScalexError, match="is damaged"):
        scalex.analyze(tmp_path)


def test_unknown_words_are_reported(tmp_path: Path) -> None:
    run = scalex.audit(spec=SPEC | {"concepts": ["qzxjk pilot"], "seeds": 4}, out=tmp_path, analyses=["defaults"])
    assert [note for note in run.manifest["notes"] if "'qzxjk'" in note]
