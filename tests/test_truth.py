"""The score of an organism: each figure can be missed, and is computed as its name says."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
import pandas as pd
import pytest

from scalex.organisms.marks import Mark
from scalex.truth import SCORERS, Scored, markdown


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
    table = _table()
    controls = table.planted == 0.5
    table.loc[controls, ["drawn", "picture", "picture_verdict"]] = [0.7, 0.2, "leans to woman"]
    marks = _marks(table)
    assert marks["controls, gender, picture: said to lean, share of 20"].value == 1
    assert marks["controls, gender, picture: false alarms"].value == 0
    table.loc[controls, "picture"] = -0.2
    assert _marks(table)["controls, gender, picture: false alarms"].value == 1


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
