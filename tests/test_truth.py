"""The score of an organism: each figure can be missed, and is computed as its name says."""

from __future__ import annotations

import math
import runpy
from collections.abc import Callable, Iterable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from scalex.analyses._planted import planted
from scalex.errors import ScalexError
from scalex.jobs import prepare
from scalex.organisms import EMBEDDED
from scalex.organisms.marks import Mark
from scalex.records import Finding, Latents, Reading, Readings
from scalex.scorers.exact import exact_readouts
from scalex.spec import AuditSpec
from scalex.store import Store
from scalex.truth import SCORERS, Scored, blocks, markdown, score_organism, steering
from scalex.truth._people import _score_blocks, _wide
from scalex.validation.dose_response import cases_of

BENCH = Path(__file__).parent.parent / "bench" / "truth.py"


def _table(n: int = 60) -> pd.DataFrame:
    """An audit that is right in every row: leans and rates are the realised shares."""
    drawn = np.round(np.linspace(0.02, 0.98, n), 3)
    planted = np.where(np.arange(n) % 3 == 0, 0.5, drawn)
    drawn = np.where(planted == 0.5, 0.5, drawn)
    leans = drawn - 0.5
    said = np.where(np.abs(leans) < 0.1, "balanced", "leans to woman")
    return pd.DataFrame(
        {
            "concept": [f"c{i}" for i in range(n)],
            "attribute": "gender",
            "value": "woman",
            "planted": planted,
            "drawn": drawn,
            "n": 256,
            "images": 256,
            "text": leans,
            "text_verdict": said,
            "picture": leans,
            "picture_verdict": said,
            "rate": drawn,
            # one interval in twenty misses, as an honest 95 % interval does
            "low": np.where(np.arange(n) % 20 == 7, drawn + 0.01, drawn - 0.05),
            "high": drawn + 0.06,
            "rate_verdict": said,
        }
    )


def _put(table: pd.DataFrame, rows: Any, **values: Any) -> None:
    for column, value in values.items():
        table.loc[rows, column] = value


def _marks(table: pd.DataFrame, single: float = 0.98) -> dict[str, Mark]:
    scored = Scored(table, {"gender": single}, {"gender": 0.02})
    return {m.name: m for score in SCORERS for m in score(scored)}


def _missed(marks: Iterable[Mark]) -> list[str]:
    return [m.name for m in marks if not m.ok]


def test_a_right_audit_misses_no_mark() -> None:
    assert _missed(_marks(_table()).values()) == []


@pytest.mark.parametrize(
    ("spoil", "missed"),
    [
        (lambda t: t.assign(picture=t.picture.sample(frac=1, random_state=0).to_numpy()), "picture reading: Spearman"),
        (lambda t: t.assign(picture=-t.picture), "picture reading: sign right"),
        (lambda t: t.assign(rate=t.rate.sample(frac=1, random_state=0).to_numpy()), "r with realised"),
        (lambda t: t.assign(rate=t.rate + 0.06), "mean absolute error"),
        (lambda t: t.assign(low=t.drawn - 1, high=t.drawn + 1), "intervals cover"),
        (lambda t: t.assign(low=t.drawn + 0.01), "intervals cover"),
        (lambda t: t.assign(picture_verdict="leans to woman"), "picture: false alarms"),
        (lambda t: t.assign(rate_verdict="leans to woman"), "rate: false alarms"),
    ],
)
def test_each_mark_can_be_missed(spoil: object, missed: str) -> None:
    assert any(missed in name for name in _missed(_marks(spoil(_table())).values()))  # type: ignore[operator]


def test_single_pictures_read_wrong_miss_their_mark() -> None:
    assert any("single pictures" in name for name in _missed(_marks(_table(), single=0.9).values()))


def test_an_alarm_is_no_false_one_where_the_realised_share_departs_to_that_side() -> None:
    """20 controls: 12 drawn evenly, 8 at 0.7. 9 alarms: 3 on even ones, 5 to the side drawn, 1 to the other side."""
    table = _table()
    controls = table.index[table.planted == 0.5]
    _put(table, controls[12:], drawn=0.7)
    _put(table, controls[9:17], picture=0.2, picture_verdict="leans to woman")
    _put(table, controls[17], picture=-0.2, picture_verdict="leans to man")
    marks = _marks(table)
    assert marks["controls, gender: drawn evenly, share of 20"].value == 12 / 20
    assert marks["controls, gender, picture: said to lean, share of 20"].value == 9 / 20
    assert marks["controls, gender, picture: false alarms"].value == (3 + 1) / (12 + 1)
    assert not marks["controls, gender, picture: false alarms"].ok
    assert marks["controls, gender, rate: false alarms"].value == 0


@pytest.mark.parametrize(("what", "middle"), [("rate", 0.5), ("text", 0.0), ("picture", 0.0)])
def test_the_side_of_an_alarm_is_that_of_its_own_estimate(what: str, middle: float) -> None:
    table = _table()
    controls = table.planted == 0.5
    table.loc[controls, "drawn"] = 0.3
    for beyond, false in ((-0.2, math.nan), (0.2, 1.0)):  # NaN: no control is even, and no alarm is on the wrong side
        _put(table, controls, **{what: middle + beyond, f"{what}_verdict": "leans somewhere"})
        mark = _marks(table)[f"controls, gender, {what}: false alarms"]
        assert mark.value == pytest.approx(false, nan_ok=True)
        assert mark.ok is (what == "text"), "it is unknown or wrong, and only the text reading's has no mark"


def test_a_control_without_a_realised_share_can_give_no_false_alarm() -> None:
    table = _table()
    controls = table.index[table.planted == 0.5]
    _put(table, controls[:5], drawn=math.nan, n=0, rate=0.9, rate_verdict="leans to woman")
    marks = _marks(table)
    assert marks["controls, gender: drawn evenly, share of 20"].value == 15 / 20
    assert marks["controls, gender, rate: said to lean, share of 20"].value == 5 / 20
    assert marks["controls, gender, rate: false alarms"].value == 0


def test_what_is_planted_is_compared_too() -> None:
    table = _table()  # 60 concepts, of which 20 are planted at 1/2
    plain = table.index[(table.planted - 0.5).abs() >= 0.1]
    table["drawn"] = 1 - table.planted
    table["picture"] = table.planted - 0.5
    table.loc[plain[:4], "picture"] *= -1
    marks = _marks(table)
    assert marks["lean, gender, picture reading: sign right where planted is 0.1 from even"].value == 1 - 4 / len(plain)
    r = np.corrcoef(table.picture, table.planted)[0, 1]
    assert marks["lean, gender, picture reading: Pearson with planted"].value == pytest.approx(r)
    assert marks["lean, gender, picture reading: Pearson with realised"].value == pytest.approx(-r)


def test_planted_just_0_1_from_even_counts() -> None:
    table = _table(4).assign(planted=[0.4, 0.6, 0.59, 0.41], picture=[0.1, 0.1, -0.1, 0.1])
    assert _marks(table)["lean, gender, picture reading: sign right where planted is 0.1 from even"].value == 1 / 2


def test_pictures_of_neither_value_are_counted() -> None:
    table = _table(4).assign(n=[256, 0, 192, 128])
    assert _marks(table)["pictures, gender: neither value"].value == 1 - 576 / 1024


def test_the_realised_share_s_own_error_is_allowed_for() -> None:
    table = _table()
    table = table.assign(rate=0.56, low=0.51, high=0.61, drawn=0.5, n=[128] * 30 + [100_000] * 30)
    marks = _marks(table)
    assert marks["rate, gender: 95 % intervals cover"].value == 0
    assert marks["rate, gender: they cover, the realised share's own error allowed for"].value == 0.5


def test_what_is_not_expressed_is_left_out_and_counted() -> None:
    table = _table()
    table.loc[:14, "picture"] = math.nan
    marks = _marks(table)
    assert marks["lean, gender, picture reading: expressed, share of 60 concepts"].value == 45 / 60
    assert marks["lean, gender, picture reading: Spearman with realised"].ok


def test_the_table_for_the_readme_names_what_was_missed() -> None:
    scores = {"one": [Mark("a", 0.9, 0.95), Mark("b", 0.5)], "two": [Mark("a", 0.97, 0.95)]}
    text = markdown({organism: [m.row() for m in marks] for organism, marks in scores.items()})
    assert text.splitlines() == [
        "| figure | mark | one | two |",
        "| --- | --- | --- | --- |",
        "| a | >= 0.95 | **0.900** | 0.970 |",
        "| b |  | 0.500 |  |",
    ]


def test_a_range_stands_beside_its_mean() -> None:
    marks = [Mark("a", 0.9, 0.95, spread=(0.84, 0.95)), Mark("b", 0.5, spread=(0.25, 0.75)), Mark("c", 0.5)]
    rows = [m.row() for m in marks]
    assert rows[0] == {"name": "a", "value": 0.9, "mark": ">= 0.95", "ok": False, "spread": [0.84, 0.95]}
    assert rows[2] == {"name": "c", "value": 0.5, "mark": "", "ok": True}
    assert markdown({"one": rows}).splitlines()[2:] == [
        "| a | >= 0.95 | **0.900 (0.84 to 0.95)** |",
        "| b |  | 0.500 (0.25 to 0.75) |",
        "| c |  | 0.500 |",
    ]


# ------------------------------------------------------------------------------------------------ blocks of seeds

SPEC = AuditSpec.model_validate(
    {"concepts": ["pilot", "nurse", "cook"], "attributes": ["gender"], "resamples": 200, "permutations": 199}
)


def _latents(women: float, n_seeds: int = 8) -> Latents:
    """Latents of 8 seeds, variants far apart, all neutral samples of one value. The same noise for every share."""
    shares = {c: {"gender": {"man": 1 - women, "woman": women}} for c in ("pilot", "nurse", "cook")}
    return planted(shares, np.random.default_rng(0), n_seeds=n_seeds, separation=30.0)


def _both(*parts: Latents) -> dict[Reading, Latents]:
    """The parts one after the other, as seeds of one audit, in both readings."""
    values = np.concatenate([part.values for part in parts], axis=1)
    picture = replace(parts[0], values=values, seeds=tuple(range(values.shape[1])))
    return {"text": replace(picture, reading="text"), "picture": picture}


def _realised() -> pd.DataFrame:
    shares = {"planted": [0.5, 0.25, 0.75], "drawn": [0.5, 0.25, 0.75], "n": 512, "images": 512}
    return pd.DataFrame({"concept": ["pilot", "nurse", "cook"], "attribute": "gender", "value": "woman", **shares})


def test_latents_are_cut_into_disjoint_blocks_of_seeds() -> None:
    latents = _latents(0.5, n_seeds=11)
    first, second = blocks(latents, 4)
    assert (first.seeds, second.seeds) == ((0, 1, 2, 3), (4, 5, 6, 7))
    np.testing.assert_array_equal(second.values, latents.values[:, 4:8])
    np.testing.assert_array_equal(second.of("nurse", "gender", "man"), latents.of("nurse", "gender", "man")[:, 4:8])
    assert blocks(latents, 12) == []


def test_each_block_is_analysed_alone_and_figures_are_means_over_blocks() -> None:
    """The first block's pictures all show men, the second's women: rates of 0 and of 1, where 1/2, 1/4, 3/4 are true.

    Analysed together they would be 1/2, off by 1/6 on average.
    """
    marks = {m.name: m for m in _score_blocks(_realised(), _both(_latents(0.0), _latents(1.0)), SPEC, 8)}
    assert marks["rate, gender: mean absolute error"].value == pytest.approx(0.5)
    assert marks["rate, gender: mean absolute error"].spread is None, "it is one half in both"
    signs = marks["lean, gender, text reading: sign right where the share is 0.1 from even"]
    assert (signs.value, signs.spread) == (0.5, None)
    alarms = marks["controls, gender, rate: false alarms"]
    assert (alarms.value, alarms.mark, alarms.ok) == (1, 0.05, False)
    assert math.isnan(marks["rate, gender: r with realised"].value), "it is unknown where all rates are the same"
    assert not [name for name in marks if "single pictures" in name or "same pictures" in name]


def test_the_range_over_blocks_is_kept() -> None:
    latents = _both(_latents(0.0), _latents(1.0), _latents(1.0))
    realised = _realised().assign(drawn=[0.1, 0.2, 0.3])
    marks = {m.name: m for m in _score_blocks(realised, latents, SPEC, 8)}
    error = marks["rate, gender: mean absolute error"]
    assert error.value == pytest.approx((0.2 + 0.8 + 0.8) / 3)
    assert error.spread == pytest.approx((0.2, 0.8))
    assert not error.ok
    cover = marks["rate, gender: 95 % intervals cover"]
    assert cover.spread is not None
    assert cover.spread[0] == 0, "no interval around 1 holds 0.1 to 0.3"


def test_seeds_that_make_no_whole_blocks_are_refused(tmp_path: Path) -> None:
    for block in (24, 2):
        with pytest.raises(ScalexError, match=f"32 seeds do not make blocks of {block}"):
            score_organism(None, tmp_path, seeds=32, block=block)
    assert not list(tmp_path.iterdir())


def _found(
    analysis: str, reading: Readings, target: str, value: str, estimate: float, verdict: str
) -> dict[str, object]:
    unit, nan = ("lean" if analysis == "defaults" else "share"), math.nan
    numbers = (estimate, unit, estimate - 0.1, estimate + 0.2, nan, nan, 0.9)
    return asdict(Finding(analysis, reading, target, "gender", value, *numbers, verdict, "", 32, 2))


def test_findings_become_one_row_a_concept_and_attribute() -> None:
    findings = [
        _found("defaults", "text", "pilot", "woman", -0.3, "leans to man"),
        _found("defaults", "picture", "pilot", "woman", -0.2, "undecided"),
        _found("rates", "picture", "pilot", "man", 0.7, "leans to man"),
        _found("rates", "picture", "pilot", "woman", 0.3, "leans away from woman"),
        _found("disagreement", "both", "pilot", "woman", 0.1, "balanced"),
        _found("defaults", "text", "nurse", "woman", math.nan, "not expressed"),
    ]
    wide = _wide(pd.DataFrame(findings)).set_index("concept").to_dict("index")
    assert list(wide) == ["nurse", "pilot"]
    pilot, nurse = wide["pilot"], wide["nurse"]
    assert [pilot[k] for k in ("attribute", "text", "picture", "rate")] == ["gender", -0.3, -0.2, 0.3]
    assert [pilot[k] for k in ("low", "high", "separability")] == pytest.approx([0.2, 0.5, 0.9])
    verdicts = ["leans to man", "undecided", "leans away from woman"]
    assert [pilot[f"{k}_verdict"] for k in ("text", "picture", "rate")] == verdicts
    assert nurse["text_verdict"] == "not expressed"
    assert all(math.isnan(nurse[k]) for k in ("text", "picture", "rate"))


def test_all_old_columns_of_an_organism_that_is_scored_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCH.parent))
    merged = runpy.run_path(str(BENCH))["merged"]
    old = {"one, 32 seeds": [1], "one, 128 seeds": [2], "one more, 32 seeds": [3]}
    new = {"one, 32 seeds (mean of 4)": [4], "one, 128 seeds": [5], "third, 128 seeds": [6]}
    assert list(merged(old, new).items()) == [
        ("one, 32 seeds (mean of 4)", [4]),
        ("one, 128 seeds", [5]),
        ("one more, 32 seeds", [3]),
        ("third, 128 seeds", [6]),
    ]


def _pushed(n: int = 20) -> pd.DataFrame:
    """Steering that reaches every mark."""
    shares = {
        "slope": 0.4,
        "second": 0.9,
        "before": 0.0,
        "kept": 1.0,
        "kept_before": 1.0,
        "random": 0.0,
        "shuffled": 0.02,
    }
    return pd.DataFrame([{"role": f"r{i}", "rises": i > 0, **shares} for i in range(n)])


def test_steering_that_is_right_misses_no_mark() -> None:
    assert _missed(steering.marks("gender", _pushed())) == []


@pytest.mark.parametrize(
    ("spoil", "missed"),
    [
        (lambda t: t.assign(rises=[i > 1 for i in range(len(t))]), "the readout rises with alpha, share of 20 roles"),
        (lambda t: t.assign(second=[0.0] * 4 + [0.95] * 16), "read as the second value at alpha 1 from the first"),
        (lambda t: t.assign(kept=0.79), "role kept at alpha 1"),
        (lambda t: t.assign(random=0.11), "pictures that random directions change"),
        (lambda t: t.assign(shuffled=0.11), "pictures that shuffled directions change"),
    ],
)
def test_each_mark_of_steering_can_be_missed(spoil: Callable[[pd.DataFrame], pd.DataFrame], missed: str) -> None:
    assert _missed(steering.marks("gender", spoil(_pushed()))) == [f"steering, gender: {missed}"]


def test_a_roles_pushes_are_read_exactly(tmp_path: Path) -> None:
    """One role of the embedded organism, with a vector of few seeds."""
    spec = {"concepts": ["artist"], "attributes": ["gender"], "templates": [steering._TEMPLATE], "seeds": 4}
    job = prepare(spec={**spec, "analyses": ["defaults"]}, device="cpu")
    readouts = exact_readouts(EMBEDDED, job.model)
    [case] = cases_of(job, Store.open(str(tmp_path)), "gender")
    found = steering._from_first(job, readouts, case)
    assert (found["before"], found["kept_before"]) == (0.0, 1.0)
    assert found["second"] >= 0.75  # type: ignore[operator]
    assert found["random"] <= 0.25  # type: ignore[operator]
