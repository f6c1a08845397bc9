"""A change between two models in words: what it is of, how it is drawn, and what the analyses beyond leans found."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import pandas as pd

from scalex.report import numbers, views, words
from scalex.report.panels import Layout, Panel, Scale, drawn
from scalex.report.sections import NARROW, WIDE, Figure, Part, fit
from scalex.report.theme import inline_svg

__all__ = ["MOST", "Beyond", "Row", "beyond", "change", "kind", "look", "mark", "named", "span", "told"]

Row: TypeAlias = Mapping[str, Any]

MOST = 60  # rows of a chart, and entries that are shown
_PANELS = 8  # of a chart
_LEAST = 3  # rows of a panel
_BY = {"text": ", by the words", "picture": ", by the picture", "both": ""}
_OF = {  # units, and how the number of a value is named
    "lean": "lean",
    "weight": "weight of {}",
    "share": "share of pictures of {}",
    "pull": "pull towards {}",
    "WEAT d": "WEAT d towards {}",
    "surprise": "surprise at {}",
    "cosine": "cosine with {}",
    "lean difference": "picture's lean less the words'",
    "weight difference": "picture's weight of {} less the words'",
}


@dataclass(frozen=True)
class Beyond:
    """What the page says of one analysis beyond leans, weights and shares.

    Attributes:
        movers: what moved, furthest first: a target and its lines (verdict, how it is drawn, numbers).
        hidden: how many more moved. tally: `3 of 141 numbers moved`.
    """

    name: str
    heading: str
    tally: str
    parts: tuple[Part, ...]
    movers: tuple[tuple[str, tuple[tuple[str, str, str], ...]], ...]
    hidden: int
    figure: Figure | None
    margin: float


def kind(verdict: str) -> str:
    """`moved`, `not expressed`, or the verdict itself: those two say more behind it."""
    return next((kind for kind in ("moved", "not expressed") if verdict.startswith(kind)), verdict)


def named(row: Row) -> str:
    """What changed: `lean, by the words`, `pull towards woman, by the picture`."""
    unit = row["unit"].removesuffix(" difference")
    what = _OF.get(unit, f"{unit} of {{}}" if row["value"] else unit).replace("{}", str(row["value"]))
    return what if unit == "share" else what + _BY[row["reading"]]


def told(row: Row) -> str:
    """A difference in words: `share of pictures of woman from 6% to 91%, a change of +0.85 (+0.74 to +0.93)`.

    Args:
        row: of the findings, with `first` and `second` beside it.
    """
    if math.isnan(row["estimate"]):
        return f"{named(row)}: no number"
    unit = row["unit"].removesuffix(" difference")
    a, b = (numbers.estimate(row[side], unit) for side in ("first", "second"))
    return f"{named(row)} from {a} to {b}, a change of {change(row['estimate'])} ({span(row)})"


def change(number: float) -> str:
    """Any difference, of shares too, signed with two decimals."""
    return numbers.estimate(number, "lean")


def span(row: Row) -> str:
    """Its interval."""
    return numbers.interval(row["low"], row["high"], "lean")


def look(row: Row) -> str:
    """How a difference is drawn: in the colour of the value that it moved towards."""
    what = kind(row["verdict"])
    if what == "moved":
        return "second" if row["estimate"] > 0 else "first"
    return {"did not move": "balanced", "undecided": "undecided"}.get(what, "none")


def mark(row: Row) -> dict[str, Any]:
    """A row of a panel."""
    return {
        "target": row["target"],
        "at": None if math.isnan(row["estimate"]) else round(row["estimate"], 5),
        "low": None if math.isnan(row["low"]) else round(row["low"], 5),
        "high": None if math.isnan(row["high"]) else round(row["high"], 5),
        "look": look(row) if not math.isnan(row["estimate"]) else "none",
        "tip": f"{row['target']}: {told(row)}, {row['verdict']}",
        "blank": row["verdict"] if kind(row["verdict"]) == "not expressed" else "no number",
    }


# ---------------------------------------------------------------------------------------------------- other analyses


def beyond(rows: pd.DataFrame, name: str) -> Beyond:
    """What the page says of one analysis.

    Args:
        rows: its differences, with `first`, `second` and `margin` beside them.
    """
    moved = rows[rows["verdict"].map(kind) == "moved"]
    ranked = moved.assign(size=-moved["estimate"].abs()).sort_values("size", kind="stable")
    targets = list(ranked["target"].unique())
    said = words.joined([words.isolated(t) for t in targets[:4]])
    said += f" and {len(targets) - 4} more" if len(targets) > 4 else ""
    title = words.capital(name)
    return Beyond(
        name,
        f"{title}: {said} moved" if targets else f"{title}: nothing moved beyond doubt",
        f"{len(moved) or 'none'} of {numbers.plural(len(rows), 'number')} moved",
        tuple(_parts(rows)),
        tuple((t, tuple(_lines(ranked[ranked["target"] == t]))) for t in targets[:MOST]),
        max(0, len(targets) - MOST),
        _figure(rows, title),
        float(rows["margin"].max()),
    )


def _lines(rows: pd.DataFrame) -> Iterator[tuple[str, str, str]]:
    for row in views.records(rows):
        yield row["verdict"], look(row), told(row)


def _parts(rows: pd.DataFrame) -> Iterator[Part]:
    kinds = rows["verdict"].map(kind)
    for name, drawn_as in (("did not move", "balanced"), ("undecided", "undecided"), ("moved", "second")):
        if number := int((kinds == name).sum()):
            yield Part(name, number, drawn_as)


def _figure(rows: pd.DataFrame, title: str) -> Figure | None:
    """A panel for every number that several targets have; none where each target has one of its own."""
    main = rows[rows["unit"] == rows["unit"].iloc[0]]
    groups = [g for _, g in main.groupby(["attribute", "value", "reading"], sort=False) if len(g) >= _LEAST]
    if not groups or len(groups) > _PANELS:
        return None
    order = _order(main)
    panels = [_panel(group) for group in groups]
    label = f"{title}: how far each number moved, with intervals. The table below holds the same numbers."
    made = []
    for total, most in ((WIDE, 4), (NARROW, 1)):
        layout = fit(Layout(order=order), min(len(panels), most), total)
        made.append(inline_svg(drawn(panels, order, layout), label))
    return Figure("From A to B: how far each moved", made[0], made[1])


def _order(rows: pd.DataFrame) -> list[str]:
    """What moved, then the furthest changes; shown from the strongest rise down."""
    first = rows.assign(still=rows["verdict"].map(kind) != "moved", size=-rows["estimate"].abs())
    shown = list(dict.fromkeys(first.sort_values(["still", "size"], kind="stable")["target"]))[:MOST]
    mean = rows.groupby("target")["estimate"].mean()
    return sorted(shown, key=lambda target: -mean[target])


def _panel(rows: pd.DataFrame) -> Panel:
    margin = float(np.nan_to_num(rows["margin"].max()))
    furthest = float(np.nanmax([0.3, *rows["estimate"].abs(), 2 * margin])) * 1.1
    end = 0.5 if furthest > 0.5 else 0.2
    ticks = (-end, f"−{end}"), (0.0, "0"), (end, f"+{end}")
    every, scale = views.records(rows), Scale((-furthest, furthest), 0.0, margin, ticks)
    title, value = words.capital(named(every[0])), str(every[0]["value"])
    return Panel(title if value in title else f"{title}: {value}", [mark(row) for row in every], scale)
