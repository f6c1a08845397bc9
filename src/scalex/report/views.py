"""What a reader asks of the findings table: which concepts lean where, in which reading, and which stay open."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
import pandas as pd

from scalex.errors import ScalexError
from scalex.records import READINGS, Finding, Reading
from scalex.report.numbers import SHARES, estimate

__all__ = [
    "LOOKS",
    "Look",
    "Tally",
    "attributes",
    "by_strength",
    "checked",
    "disagreements",
    "is_pair",
    "kind",
    "leans_to",
    "look",
    "main_reading",
    "main_rows",
    "order",
    "readings",
    "records",
    "rows",
    "tally",
    "values",
]

Look: TypeAlias = Literal["first", "second", "balanced", "undecided", "none"]
LOOKS: tuple[Look, ...] = get_args(Look)
_NUMBERS = ("estimate", "low", "high", "p", "q", "separability", *Finding.causal())
_COUNTS = ("n_seeds", "n_templates")
_LEANS, _AWAY = "leans to ", "leans away from "


def checked(findings: pd.DataFrame) -> pd.DataFrame:
    """The findings with exactly the columns of `Finding`, texts as str, numbers as float, infinities as NaN.

    A table without any column is taken as empty; one without causal evidence, as earlier versions wrote it, has none.

    Raises:
        ScalexError: a column is missing.
    """
    columns = list(Finding.columns())
    missing = [name for name in columns if name not in findings.columns and name not in Finding.causal()]
    if missing and len(findings.columns):
        raise ScalexError(f"the findings table lacks the columns {', '.join(missing)}", "Give it as the audit wrote it")
    frame = findings.reindex(columns=columns).reset_index(drop=True)
    for name in columns:
        if name in _NUMBERS + _COUNTS:
            numbers = pd.to_numeric(frame[name]).astype(float).replace([np.inf, -np.inf], np.nan)
            frame[name] = numbers.fillna(0).astype(int) if name in _COUNTS else numbers
        else:
            frame[name] = frame[name].astype(object).where(frame[name].notna(), "").map(str)
    return frame


def kind(verdict: str) -> str:
    """`leans`, `leans away`, `balanced`, `undecided` or `not expressed`; any other verdict as it stands."""
    plain = verdict.strip()
    if plain.startswith(_LEANS):
        return "leans"
    return "leans away" if plain.startswith(_AWAY) else plain


def leans_to(verdict: str, pair: Sequence[str] = ()) -> str:
    """The value that a verdict `leans to X` names, else an empty text. Of a pair, away from one is to the other."""
    plain = verdict.strip()
    if plain.startswith(_LEANS):
        return plain.removeprefix(_LEANS)
    if len(pair) == 2 and plain.startswith(_AWAY):
        return next((v for v in pair if v != plain.removeprefix(_AWAY)), "")
    return ""


def look(row: Mapping[str, Any], pair: Sequence[str] = ()) -> Look:
    """How a row is drawn: towards the first or second of a pair, or without one below or above parity."""
    said = kind(row["verdict"])
    if said == "not expressed" or math.isnan(row["estimate"]):
        return "none"
    if said in ("leans", "leans away"):
        towards = leans_to(row["verdict"], pair)
        return "second" if towards == (pair[-1] if pair else row["value"]) else "first"
    return "balanced" if said == "balanced" else "undecided"


def attributes(findings: pd.DataFrame) -> list[str]:
    """The attributes that defaults or rates speak of, in the order of the table."""
    known = findings[findings["analysis"].isin(["defaults", "rates"])]
    return [str(name) for name in known["attribute"].unique()]


def rows(findings: pd.DataFrame, analysis: str, attribute: str, reading: str | None = None) -> pd.DataFrame:
    """The rows of one analysis and attribute (of one reading), one per target and value."""
    wanted = (findings["analysis"] == analysis) & (findings["attribute"] == attribute)
    if reading is not None:
        wanted &= findings["reading"] == reading
    return findings[wanted].drop_duplicates(["reading", "target", "value"]).reset_index(drop=True)


def is_pair(findings: pd.DataFrame, attribute: str) -> bool:
    """Whether the attribute has two values: its leans then come as one signed number per concept."""
    leans = rows(findings, "defaults", attribute)
    if len(leans):
        return leans["value"].nunique() == 1
    return rows(findings, "rates", attribute)["value"].nunique() <= 2


def values(findings: pd.DataFrame, attribute: str, spec: Mapping[str, Sequence[str]] | None = None) -> tuple[str, ...]:
    """The attribute's values in the order of the spec where given, else of the table.

    Of a pair the second is the one that leans are signed towards; the first is found in the rates or the verdicts.
    """
    leans, rates = rows(findings, "defaults", attribute), rows(findings, "rates", attribute)
    seen = [*leans["value"], *rates["value"], *leans["verdict"].map(leans_to)]
    named = list(dict.fromkeys(v for v in seen if v))
    if spec and set(named) <= set(spec.get(attribute, ())):
        return tuple(spec[attribute])
    if not is_pair(findings, attribute):
        return tuple(named)
    second = next(iter(leans["value"]), named[-1] if named else "")
    others = [v for v in named if v != second]
    return (others[0] if others else f"not {second}", second)


def readings(findings: pd.DataFrame, analysis: str, attribute: str) -> list[Reading]:
    """The readings that an analysis of an attribute holds, text first."""
    held = set(rows(findings, analysis, attribute)["reading"])
    return [reading for reading in READINGS if reading in held]


def main_reading(findings: pd.DataFrame, attribute: str) -> Reading:
    """The reading that headlines speak of: of the picture where there is one."""
    held = readings(findings, "defaults", attribute) or readings(findings, "rates", attribute)
    return "picture" if "picture" in held or not held else held[0]


def main_rows(findings: pd.DataFrame, attribute: str) -> pd.DataFrame:
    """The rows that headlines speak of: leans of the main reading, or rates where no leans were asked."""
    reading = main_reading(findings, attribute)
    leans = rows(findings, "defaults", attribute, reading)
    return leans if len(leans) else rows(findings, "rates", attribute, reading)


def order(findings: pd.DataFrame, attribute: str, value: str | None = None) -> list[str]:
    """All targets of an attribute from the strongest lean to `value` (None: the last) down; without a number last."""
    main = main_rows(findings, attribute)
    last = values(findings, attribute)[-1] if value is None else value
    shown = main[(main["value"] == last) & (main["verdict"].map(kind) != "not expressed")].dropna(subset="estimate")
    ranked = list(shown.sort_values("estimate", ascending=False, kind="stable")["target"])
    known = findings["analysis"].isin(["defaults", "rates"]) & (findings["attribute"] == attribute)
    everyone = findings.loc[known, "target"].unique()
    return ranked + sorted({str(t) for t in everyone} - set(ranked))


def by_strength(findings: pd.DataFrame) -> list[str]:
    """All targets of defaults and rates, the one that stands furthest from neutral on any attribute first."""
    furthest: dict[str, float] = {}
    for attribute in attributes(findings):
        main = main_rows(findings, attribute)
        neutral = main["unit"].isin(SHARES) / len(values(findings, attribute))
        apart = (main["estimate"] - neutral).abs().where(main["verdict"].map(kind) != "not expressed").fillna(-1)
        for target, distance in zip(main["target"], apart):
            furthest[target] = max(distance, furthest.get(target, -1.0))
    return sorted(furthest, key=lambda target: -furthest[target])


@dataclass(frozen=True)
class Tally:
    """The verdicts of one attribute in its main reading. Each concept is in exactly one of the lists.

    Attributes:
        leaning: for each value the concepts that lean to it, strongest first.
        away: concepts that lean away from a value and to none.
        open: concepts with any other verdict, in the order of the table.
    """

    attribute: str
    reading: Reading
    pair: bool
    values: tuple[str, ...]
    leaning: dict[str, list[str]]
    away: list[str]
    balanced: list[str]
    undecided: list[str]
    unexpressed: list[str]
    open: list[str]

    @property
    def leans(self) -> int:
        """How many concepts lean to any value."""
        return sum(map(len, self.leaning.values()))

    @property
    def total(self) -> int:
        """How many concepts were asked."""
        rest = (self.away, self.balanced, self.undecided, self.unexpressed, self.open)
        return self.leans + sum(map(len, rest))


def _kind_of(verdicts: pd.Series) -> str:
    """One verdict for a concept that has one row per value: the most telling of them."""
    held = set(verdicts.map(kind))
    return next((k for k in ("leans away", "undecided", "not expressed", "balanced") if k in held), "")


def _leaning(main: pd.DataFrame, names: Sequence[str], pair: bool) -> dict[str, list[str]]:
    towards = main["verdict"].map(lambda verdict: leans_to(verdict, names if pair else ()))
    strength = main["estimate"].abs() if pair and (main["analysis"] == "defaults").all() else main["estimate"]
    found = main.assign(towards=towards, strength=strength)[towards != ""]
    if not pair:
        found = found[found["towards"] == found["value"]]
    best = found.sort_values("strength", ascending=False, kind="stable").drop_duplicates("target")
    return {value: list(best.loc[best["towards"] == value, "target"]) for value in names}


def tally(findings: pd.DataFrame, attribute: str, spec: Mapping[str, Sequence[str]] | None = None) -> Tally:
    """Counts the verdicts of an attribute; from defaults where they were asked, else from rates."""
    main, pair = main_rows(findings, attribute), is_pair(findings, attribute)
    names = values(findings, attribute, spec)
    leaning = _leaning(main, names, pair)
    placed = {target for targets in leaning.values() for target in targets}
    rest: dict[str, list[str]] = {}
    for target, verdicts in main.groupby("target", sort=False)["verdict"]:
        if target not in placed:
            rest.setdefault(_kind_of(verdicts), []).append(str(target))
    return Tally(
        attribute,
        main_reading(findings, attribute),
        pair,
        names,
        leaning,
        away=rest.pop("leans away", []),
        balanced=rest.pop("balanced", []),
        undecided=rest.pop("undecided", []),
        unexpressed=rest.pop("not expressed", []),
        open=[target for targets in rest.values() for target in targets],
    )


def records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows of a table as plain dictionaries."""
    return [{str(name): value for name, value in row.items()} for row in frame.to_dict("records")]


def disagreements(findings: pd.DataFrame, attribute: str) -> pd.DataFrame:
    """The rows of the picture reading that have a number in both readings, the furthest apart first.

    Added columns: `text` and `picture` (the two estimates), `apart` (picture minus text), `says` (the text reading's
    verdict), `label` (the concept, and of many values the value) and `tip` (one sentence).
    """
    leans = rows(findings, "defaults", attribute).dropna(subset="estimate")
    keys = ["target", "value"]
    words = leans[leans["reading"] == "text"].set_index(keys)[["estimate", "verdict"]]
    both = leans[leans["reading"] == "picture"].join(words.set_axis(["text", "says"], axis=1), on=keys, how="inner")
    both = both.assign(picture=both["estimate"], apart=both["estimate"] - both["text"])
    both["label"] = both["target"] if is_pair(findings, attribute) else both["target"] + ": " + both["value"]
    both["tip"] = [
        f"{row['label']}: words {estimate(row['text'], row['unit'])}, picture {estimate(row['picture'], row['unit'])}"
        for row in records(both)
    ]
    furthest = both["apart"].abs().sort_values(ascending=False, kind="stable").index
    return both.loc[furthest].reset_index(drop=True)
