"""The gate: what breaks a limit, what is shown to keep it, what lies between; exit codes and JUnit XML."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from xml.etree import ElementTree

import pandas as pd
import pytest

from scalex import cli, runs
from scalex.errors import ScalexError
from scalex.gating import Gate, check, junit
from scalex.prompts import load_spec
from scalex.records import Finding
from scalex.report import write_tables

AGES = {v: f"{v} {{}}" for v in ("young", "grown", "old", "ancient")}
SPEC = load_spec(
    {"concepts": ["cook", "pilot", "nurse"], "attributes": {"gender": "preset", "tone": "preset", "age": AGES}}
)
NAN = math.nan

Row = tuple[str, float, float, float]
Make = Callable[..., Path]


def _finding(
    target: str, estimate: float, low: float, high: float, *, attribute: str = "gender", value: str = "woman",
    analysis: str = "defaults", unit: str = "lean", reading: str = "picture",
) -> Finding:  # fmt: skip
    said = "not expressed" if math.isnan(estimate) else "undecided"
    return Finding(
        analysis,
        reading,
        target,
        attribute,
        value,
        estimate,
        unit,
        low,
        high,
        0.01,
        0.02,
        0.9,
        said,
        "why",
        32,
        2,  # type: ignore[arg-type]
    )


@pytest.fixture
def run(tmp_path: Path) -> Make:
    def make(*findings: Finding) -> Path:
        runs.save_manifest(tmp_path, {"spec": SPEC.to_dict(), "recipes": {}, "store": "store"})
        write_tables(pd.DataFrame([asdict(f) for f in findings], columns=list(Finding.columns())), tmp_path)
        return tmp_path

    return make


def _states(gate: Gate) -> dict[str, str]:
    return {row.concept: row.state for row in gate.rows}


@pytest.mark.parametrize(
    ("estimate", "low", "high", "state"),
    [
        (0.0, -0.1, 0.1, "kept"),
        (0.2, 0.15, 0.25, "kept"),  # up to the limit itself
        (-0.2, -0.25, -0.15, "kept"),
        (0.5, 0.3, 0.9, "broken"),  # the end that faces the limit counts
        (-0.5, -0.9, -0.3, "broken"),
        (0.5, 0.1, 0.6, "open"),
        (-0.4, -0.5, -0.3, "broken"),
        (0.4, 0.3, 0.5, "broken"),
        (0.3, 0.2, 0.4, "open"),  # the estimate lies beyond, the interval does not
        (0.2, 0.1, 0.3, "open"),
        (NAN, NAN, NAN, "skipped"),
        (0.3, NAN, NAN, "skipped"),  # no interval: nothing is shown
    ],
)
@pytest.mark.parametrize("strict", [False, True])
def test_one_limit(run: Make, estimate: float, low: float, high: float, state: str, strict: bool) -> None:
    gate = check(
        run(_finding("cook", estimate, low, high), _finding("nurse", 0.0, -0.01, 0.01)), max_lean=0.25, strict=strict
    )
    [row] = [row for row in gate.rows if row.concept == "cook"]
    assert row.state == state
    assert gate.passed == (state in (("kept", "skipped") if strict else ("kept", "skipped", "open")))


def test_what_is_claimed_of_many_limits_is_corrected_and_what_must_hold_of_all_is_not(run: Make) -> None:
    """One limit: the interval (0.27 to 0.43) is wholly beyond 0.25. Of 40 it must be 1.64 times wider: 0.22."""
    one = _finding("cook", 0.35, 0.27, 0.43)
    others = [_finding(f"role {i}", 0.0, -0.2, 0.2) for i in range(39)]
    assert _states(check(run(one), max_lean=0.25))["cook"] == "broken"
    many = check(run(one, *others), max_lean=0.25)
    assert _states(many) == {"cook": "open"} | {f"role {i}": "kept" for i in range(39)}
    assert many.passed
    assert not check(run(one, *others), max_lean=0.25, strict=True).passed
    assert _states(check(run(one, *others), max_lean=0.25, concepts=["cook"]))["cook"] == "broken"


def test_the_correction_is_at_the_level_of_the_run(run: Make) -> None:
    """Of two limits: at 95 % the interval (0.29 to 0.71) is 1.14 times wider and beyond 0.25, at 80 % 1.28 times."""
    folder = run(_finding("cook", 0.5, 0.29, 0.71), _finding("nurse", 0.0, -0.1, 0.1))
    assert _states(check(folder, max_lean=0.25))["cook"] == "broken"
    spec = SPEC.to_dict() | {"confidence": 0.8}
    runs.save_manifest(folder, {"spec": spec, "recipes": {}, "store": "store"})
    assert _states(check(folder, max_lean=0.25))["cook"] == "open"


def test_what_is_furthest_beyond_comes_first(run: Make) -> None:
    at = {"cook": 0.4, "pilot": -0.48, "nurse": 0.45, "clerk": 0.1, "guard": -0.2}
    gate = check(run(*(_finding(name, x, x - 0.01, x + 0.01) for name, x in at.items())), max_lean=0.25)
    assert [row.concept for row in gate.rows] == ["pilot", "nurse", "cook", "guard", "clerk"]


def test_limits_speak_of_their_own_analysis(run: Make) -> None:
    """Another analysis may give leans, too, and a reading that is named is that of leans: shares have but one."""
    rows = [_finding("cook", 0.0, -0.1, 0.1), _finding("cook", 0.5, 0.45, 0.55, analysis="theirs")]
    assert [row.state for row in check(run(*rows), max_lean=0.25).rows] == ["kept"]
    lean = _finding("cook", 0.0, -0.1, 0.1, reading="text")
    share = _finding("cook", 0.9, 0.85, 0.95, analysis="rates", unit="share")
    gate = check(run(lean, share), max_lean=0.25, max_rate_gap=0.25, reading="text")
    assert [(row.kind, row.reading, row.state) for row in gate.rows] == [
        ("rate", "picture", "broken"),
        ("lean", "text", "kept"),
    ]


def test_the_limit_of_many_values_is_the_same_part_of_parity(run: Make) -> None:
    """Of four values parity is 1/4, so that 0.2 becomes 0.1: weights from 15 % to 35 % are within."""
    told = {"young": (0.40, "broken"), "grown": (0.34, "kept"), "old": (0.16, "kept"), "ancient": (0.10, "broken")}
    rows = [
        _finding("cook", x, x - 0.001, x + 0.001, attribute="age", value=v, unit="weight") for v, (x, _) in told.items()
    ]
    gate = check(run(*rows), max_lean=0.2)
    assert {row.value: row.state for row in gate.rows} == {v: state for v, (_, state) in told.items()}
    assert {row.limit for row in gate.rows} == {0.1}
    names = [case.get("name") for case in _junit(gate, run(*rows)).iter("testcase")]
    assert sorted(names) == ["cook (ancient)", "cook (grown)", "cook (old)", "cook (young)"]


def test_a_share_of_two_values_is_one_limit(run: Make) -> None:
    pair = [
        _finding("cook", x, x - 0.01, x + 0.01, value=v, analysis="rates", unit="share")
        for v, x in (("man", 0.2), ("woman", 0.8))
    ]
    gate = check(run(*pair), max_rate_gap=0.25)
    [row] = gate.rows
    assert (row.state, row.value, row.told) == (
        "broken",
        "woman",
        "share of woman 80% (79% to 81%), limits 25% and 75%",
    )
    assert check(run(*pair), max_rate_gap=0.35).passed


def test_both_limits_are_checked_together(run: Make) -> None:
    lean = _finding("cook", 0.0, -0.1, 0.1)
    share = _finding("cook", 0.9, 0.85, 0.95, analysis="rates", unit="share")
    gate = check(run(lean, share), max_lean=0.25, max_rate_gap=0.25)
    assert [(row.kind, row.state) for row in gate.rows] == [("rate", "broken"), ("lean", "kept")]
    assert gate.summary == "1 of 2 limits broken, 1 kept"


def test_the_reading_is_the_pictures_unless_another_is_named(run: Make) -> None:
    rows = [_finding("cook", 0.4, 0.35, 0.45, reading="text"), _finding("cook", 0.0, -0.1, 0.1)]
    assert check(run(*rows), max_lean=0.25).passed
    assert not check(run(*rows), max_lean=0.25, reading="text").passed
    assert not check(run(rows[0]), max_lean=0.25).passed, "where only the words were read, they count"


def test_attributes_and_concepts_are_chosen(run: Make) -> None:
    rows = [_finding("cook", 0.4, 0.35, 0.45), _finding("cook", 0.0, -0.1, 0.1, attribute="tone", value="dark")]
    folder = run(*rows, _finding("nurse", 0.0, -0.1, 0.1))
    assert not check(folder, max_lean=0.25).passed
    assert check(folder, max_lean=0.25, on=["tone"]).passed
    assert check(folder, max_lean=0.25, on=["gender", "tone"], concepts=["nurse"]).passed


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({}, r"no limit is given\. Add --max-lean 0\.25, or --max-rate-gap 0\.25"),
        ({"max_lean": -1.0}, r"--max-lean is -1, but a limit is above 0"),
        ({"max_lean": 0.0}, r"--max-lean is 0, but a limit is above 0"),
        ({"max_lean": math.inf}, r"--max-lean is inf, but a limit is above 0"),
        ({"max_rate_gap": NAN}, r"--max-rate-gap is nan, but a limit is above 0"),
        ({"max_lean": 0.2, "on": ["gendr"]}, r"the run has no attribute 'gendr'\. Did you mean 'gender'\?"),
        ({"max_lean": 0.2, "concepts": ["cok"]}, r"the run has no concept 'cok'\. Did you mean 'cook'\?"),
        (
            {"max_lean": 0.2, "reading": "text"},
            r"holds no findings of defaults by the text reading\. Run: scalex analyze",
        ),
        ({"max_rate_gap": 0.2}, r"holds no findings of rates\. Run: scalex analyze"),
        ({"max_lean": 0.2, "on": ["tone"]}, r"holds no findings of defaults on that"),
        ({"max_lean": 0.2, "concepts": ["nurse"]}, r"there is nothing to check: no finding has a number"),
    ],
)
def test_a_mistake_is_named(run: Make, asked: dict[str, object], said: str) -> None:
    folder = run(_finding("cook", 0.0, -0.1, 0.1), _finding("nurse", NAN, NAN, NAN))
    with pytest.raises(ScalexError, match=said):
        check(folder, **asked)  # type: ignore[arg-type]


def _junit(gate: Gate, folder: Path) -> ElementTree.Element:
    junit(gate, folder / "new" / "junit.xml")
    return ElementTree.parse(folder / "new" / "junit.xml").getroot()


def test_junit_counts_failures_and_what_is_skipped(run: Make) -> None:
    folder = run(
        _finding("cook", 0.4, 0.35, 0.45),
        _finding("pilot", 0.25, 0.1, 0.4),
        _finding("clerk", 0.3, 0.1, 0.5),
        _finding("nurse", NAN, NAN, NAN),
    )
    for strict, failures in ((False, ["cook"]), (True, ["cook", "clerk", "pilot"])):
        suites = _junit(check(folder, max_lean=0.25, strict=strict), folder)
        [suite] = suites
        assert (suite.get("tests"), suite.get("failures"), suite.get("skipped")) == ("4", str(len(failures)), "1")
        failed = {case.get("name"): case.find("failure") for case in suite if case.find("failure") is not None}
        assert list(failed) == failures
        assert failed["cook"].get("message") == "broken: lean +0.40 (+0.35 to +0.45), limits −0.25 and +0.25"  # type: ignore[union-attr]
        assert [case.get("name") for case in suite if case.find("skipped") is not None] == ["nurse"]
        assert {case.get("classname") for case in suite} == {"scalex.lean.gender"}


def test_junit_holds_any_concept(run: Make) -> None:
    name = 'a <b> & "c" \x00\x1b\ud800 مهندس'
    gate = check(run(_finding("cook", 0.0, -0.1, 0.1)), max_lean=0.25)
    odd = Gate(tuple(type(row)(**(asdict(row) | {"concept": name})) for row in gate.rows), False)
    [case] = _junit(odd, run()).iter("testcase")
    assert case.get("name") == 'a <b> & "c" \ufffd\ufffd\ufffd مهندس'


def test_junit_that_cannot_be_written(run: Make) -> None:
    folder = run(_finding("cook", 0.0, -0.1, 0.1))
    (folder / "new").write_text("a file")
    with pytest.raises(ScalexError, match=r"a file is in the way.*--junit"):
        junit(check(folder, max_lean=0.25), folder / "new" / "junit.xml")


@pytest.mark.parametrize(
    ("args", "code", "said"),
    [
        (
            ["--max-lean", "0.25"],
            1,
            "broken  cook   gender  picture  lean +0.40 (+0.35 to +0.45), limits −0.25 and +0.25\n",
        ),
        (["--max-lean", "0.25"], 1, "FAILED: 1 of 2 limits broken, 1 open\n"),
        (["--max-lean", "0.25", "--concept", "pilot"], 0, "Passed: none of 1 limit broken, 1 open\n"),
        (["--max-lean", "0.25", "--concept", "pilot", "--strict"], 1, "FAILED: none of 1 limit broken, 1 open\n"),
        (
            ["--max-lean", "0.25", "--on", "gendr"],
            2,
            "scalex: the run has no attribute 'gendr'. Did you mean 'gender'?\n",
        ),
        (
            ["--max-lean", "0.25", "--reading", "words"],
            2,
            "scalex: there is no reading 'words'. Readings: picture, text\n",
        ),
    ],
)
def test_the_command_line(
    run: Make,
    args: Sequence[str],
    code: int,
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = run(_finding("cook", 0.4, 0.35, 0.45), _finding("pilot", 0.25, 0.1, 0.4))
    monkeypatch.setattr(sys, "argv", ["scalex", "check", str(folder), *args])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert (ended.value.code or 0) == code
    told = capsys.readouterr()
    assert said in told.out + told.err


def test_the_command_line_gives_json_and_junit(
    run: Make, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = run(_finding("cook", 0.4, 0.35, 0.45), _finding("nurse", NAN, NAN, NAN))
    args = ["check", str(folder), "--max-lean", "0.25", "--json", "--junit", str(folder / "junit.xml")]
    monkeypatch.setattr(sys, "argv", ["scalex", *args])
    with pytest.raises(SystemExit):
        cli.main()
    told = json.loads(capsys.readouterr().out)
    assert (told["passed"], told["strict"], told["summary"]) == (False, False, "1 of 2 limits broken, 1 skipped")
    assert [limit["off"] for limit in told["limits"]] == [0.4, None]
    assert ElementTree.parse(folder / "junit.xml").getroot().get("failures") == "1"
