"""Dose-response: what pushing along a direction does to pictures, in pictures, curves and a table."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import altair as alt
import pandas as pd

from scalex.report import numbers, views, words
from scalex.report.parts._panel import Listing, Panel, Tables
from scalex.report.sections import Figure
from scalex.report.theme import LIGHT, inline_svg, styled

__all__ = ["NAME", "ORDER", "panel"]

NAME = "dose_response"
ORDER = 85
_WIDE, _NARROW = 1032, 354
_CASES = 12  # in the figures
_GAP, _HEAD = 22, 44  # pixels between cells, and above a cell's pictures
_STEP = 3  # pixels between the strips of a cell
_OWN, _KEPT, _CHANCE = "what it is pushed to", "still the concept", "directions that mean nothing"
_CORRECTED = "the same, corrected for the scorer"
_WHATS = {"target": _OWN, "corrected": _CORRECTED, "the concept": _KEPT}
_KEY = ["concept", "attribute", "second"]


def panel(findings: pd.DataFrame, tables: Tables, manifest: Mapping[str, Any]) -> Panel | None:
    """What was tried, and what it did."""
    table = {name: t for (_, name), t in tables.items()}
    if not {"curves", "drifts", "controls", "strips"} <= set(table):
        return None
    rows = views.records(findings)
    return Panel(
        title="Causes",
        heading=_heading(rows),
        paragraphs=(
            "A finding is believed when pushing on it changes pictures as it says. Here pictures of the same seeds "
            "were drawn with the direction from one value to the other added inside the model, alpha times, where "
            f"alpha 1 is the distance between the two. {_how(rows)}",
            *_told(rows),
        ),
        figures=tuple(_figures(table)),
        listings=(_listing(rows, table),),
        notes=(
            "The slope is how much the share of pictures that show the second value grows with each step of alpha, "
            "over all alphas that were tried. Beside it stand random directions and ones with shuffled channels, of "
            "equal length, and what else changed most at alpha −1 or 1. A direction drags along what changes by the "
            "balanced margin or more, beyond chance.",
        ),
    )


def _heading(rows: Sequence[Mapping[str, Any]]) -> str:
    acts = [row for row in rows if row["verdict"].startswith("acts")]
    drags = [row for row in acts if row["verdict"] != "acts"]
    if not acts:
        return f"None of {len(rows)} directions that were tried acts" if len(rows) > 1 else "The direction does not act"
    start = f"{len(acts)} of {numbers.plural(len(rows), 'direction')} that were tried {_s(acts, 'acts', 'act')}"
    if len(acts) == len(rows):
        start = (
            f"All {len(rows)} directions that were tried act" if len(rows) > 1 else "The direction that was tried acts"
        )
    return f"{start}; {len(drags)} {_s(drags, 'drags', 'drag')} something else along" if drags else start


def _s(rows: Sequence[Any], one: str, more: str) -> str:
    return one if len(rows) == 1 else more


def _how(rows: Sequence[Mapping[str, Any]]) -> str:
    readers = dict.fromkeys(
        part.removeprefix("by the ") for row in rows for part in row["reason"].split("; ") if part.startswith("by the ")
    )
    seeds = numbers.plural(max((int(row["n_seeds"]) for row in rows), default=0), "seed")
    read = f", and read by the {words.joined(list(readers))}" if readers else ""
    return f"They are of {seeds} that no direction was learned from{read}."


def _told(rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    for verdict in dict.fromkeys(row["verdict"] for row in rows if row["verdict"] != "acts"):
        own = [row for row in rows if row["verdict"] == verdict]
        named = words.joined([f"{row['target']} ({row['attribute']})" for row in own[:6]])
        more = f" and {len(own) - 6} more" if len(own) > 6 else ""
        yield f"{words.capital(verdict)}: {named}{more}."


# ---------------------------------------------------------------------------------------------------- figures


def _figures(table: Mapping[str, pd.DataFrame]) -> Iterator[Figure]:
    if len(table["strips"]):
        label = "Pictures of the same seeds, pushed from one value to the other, alpha from left to right."
        wide, narrow = (inline_svg(_strips(table["strips"], width), label) for width in (_WIDE, _NARROW))
        yield Figure("The same pictures, pushed from one value to the other", wide, narrow)
    if len(table["curves"]):
        label = "Share of pictures that show the value pushed to, against alpha, for each direction that was tried."
        wide, narrow = (inline_svg(_curves(table["curves"], width), label) for width in (_WIDE, _NARROW))
        yield Figure("Dose and response: what pictures show at each alpha", wide, narrow)


def _cells(table: pd.DataFrame, *, short: bool = False) -> list[tuple[str, pd.DataFrame]]:
    """The first cases with their rows, each by its title."""
    groups = list(table.groupby(_KEY, sort=False))[:_CASES]
    return [
        (f"{concept}: {second}" if short else f"{concept}: {rows['first'].iloc[0]} to {second}", rows)
        for (concept, _, second), rows in groups
    ]


def _strips(strips: pd.DataFrame, width: int) -> alt.ChartType:
    """A cell a case: its title, its alphas, and a strip a seed."""
    columns = 2 if width == _WIDE else 1
    across = (width - (columns - 1) * _GAP) / columns
    most = int(strips["n"].max())
    side = min(64.0, across / most)
    pictures, titles, ticks, down = [], [], [], 0.0
    cells = _cells(strips)
    for i in range(0, len(cells), columns):
        row = cells[i : i + columns]
        for k, (title, rows) in enumerate(row):
            left = k * (across + _GAP)
            titles.append({"x": left, "y": down + 12, "text": title})
            alphas = str(rows["alphas"].iloc[0]).split()
            ticks += [
                {"x": left + (j + 0.5) * side, "y": down + 31, "text": a.replace("-", "−")}
                for j, a in enumerate(alphas)
            ]
            pictures += [
                {"x": left + len(alphas) * side / 2, "y": down + _HEAD + (j + 0.5) * side + j * _STEP, "url": url,
                 "tip": f"{title}, one seed, alpha {alphas[0]} to {alphas[-1]}"}
                for j, url in enumerate(rows["picture"])
            ]  # fmt: skip
        down += _HEAD + max(len(rows) for _, rows in row) * (side + _STEP) + _GAP
    x = alt.X("x:Q", scale=alt.Scale(domain=[0, width], nice=False), axis=None)
    y = alt.Y("y:Q", scale=alt.Scale(domain=[down, 0], nice=False), axis=None)
    style: dict[str, Any] = {"aria": False, "fontSize": 12}
    layers = [
        alt.Chart(alt.NamedData("pictures"))
        .mark_image(width=side * most, height=side)
        .encode(x=x, y=y, url="url:N", description="tip:N"),
        alt.Chart(alt.NamedData("titles"))
        .mark_text(**style, align="left", fontWeight=600, color=LIGHT["ink"], limit=across)
        .encode(x=x, y=y, text="text:N"),
        alt.Chart(alt.NamedData("ticks")).mark_text(**style, color=LIGHT["muted"]).encode(x=x, y=y, text="text:N"),
    ]
    chart = alt.layer(*layers).properties(width=width, height=down)
    return styled(chart, {"pictures": pictures, "titles": titles, "ticks": ticks})


def _curves(curves: pd.DataFrame, width: int) -> alt.ChartType:
    """A small chart a case: the readout with its band, what should stay, and directions that mean nothing."""
    columns = 4 if width == _WIDE else 2
    each = (width - 60) / columns - 26
    cells = _cells(curves, short=columns == 2)
    rows = [row for title, own in cells for row in _marks(title, own)]
    whats = list(dict.fromkeys(row["what"] for row in rows))
    colours = alt.Scale(domain=whats, range=[_colour(what, whats) for what in whats])
    legend = alt.Legend(title=None, orient="top", symbolType="circle", symbolOpacity=1, labelLimit=220, columns=columns)
    base = alt.Chart()
    shares = alt.Axis(title=None, values=[0, 0.5, 1], format="%", grid=True)
    x = alt.X(
        "alpha:Q",
        axis=alt.Axis(title=None, tickCount=3, grid=False, format="~g"),
        scale=alt.Scale(nice=False, padding=6),
    )
    y = alt.Y("readout:Q", axis=shares, scale=alt.Scale(domain=[0, 1], padding=5))
    colour = alt.Color("what:N", scale=colours, legend=legend)
    band = base.transform_filter(f"datum.what == '{_OWN}'").mark_area(opacity=0.16, aria=False)
    lines = base.transform_filter(f"datum.what != '{_CHANCE}'")
    thick = alt.condition(f"datum.what == '{_OWN}'", alt.value(2.4), alt.value(1.4))
    layers = [
        band.encode(x=x, y=alt.Y("low:Q", axis=shares), y2="high:Q", color=colour),
        lines.mark_line(aria=False).encode(x=x, y=y, color=colour, size=thick),
        lines.mark_point(filled=True, size=26, opacity=1).encode(x=x, y=y, color=colour, description="tip:N"),
        base.transform_filter(f"datum.what == '{_CHANCE}'")
        .mark_point(size=34, opacity=0.8)
        .encode(x=x, y=y, color=colour, description="tip:N"),
    ]
    titles = alt.Header(title=None, labelFontSize=12, labelFontWeight=600, labelColor=LIGHT["ink"], labelLimit=each)
    order = list(dict.fromkeys(row["case"] for row in rows))
    chart = (
        alt.layer(*layers, data=alt.NamedData("curves"))
        .properties(width=each, height=110)
        .facet(alt.Facet("case:N", sort=order, header=titles), columns=columns)
    )
    return styled(chart, {"curves": rows})


def _marks(title: str, rows: pd.DataFrame) -> Iterator[dict[str, Any]]:
    shown = rows[(rows["what"] != "distance") & ((rows["direction"] == "own") | (rows["what"] == "target"))]
    for row in views.records(shown):
        own = row["direction"] == "own"
        what = _WHATS.get(row["what"], row["what"]) if own else _CHANCE
        tip = f"{title}, {what}: {numbers.estimate(row['readout'], 'share')} at alpha {row['alpha']:g}"
        numbers_ = {name: None if math.isnan(row[name]) else round(row[name], 4) for name in ("readout", "low", "high")}
        yield {"case": title, "what": what, "alpha": row["alpha"], "tip": tip, **numbers_}


def _colour(what: str, whats: Sequence[str]) -> str:
    plain = {_OWN: "second", _KEPT: "balanced", _CHANCE: "unsure"}
    rest = [one for one in whats if one not in plain]
    others = ("third", "fourth", "sixth", "fifth", "first")
    return LIGHT[plain[what] if what in plain else others[rest.index(what) % len(others)]]


# ---------------------------------------------------------------------------------------------------- table


def _listing(rows: Sequence[Mapping[str, Any]], table: Mapping[str, pd.DataFrame]) -> Listing:
    chance, corrected = _by_case(table["controls"], "slope"), _corrected(table)
    columns = ["Concept", "Attribute", "To", "Slope per alpha", "Interval", "q", "By chance", "Off target", "Verdict"]
    columns += ["Corrected for the scorer"] if corrected else []
    told = []
    for row in rows:
        case = (row["target"], row["attribute"], row["value"])
        told.append((*_row(row, chance.get(case, math.nan)), *([corrected.get(case, "")] if corrected else [])))
    folded = f"All {len(told)} directions that were tried" if len(told) > _CASES else ""
    return Listing("What was tried", tuple(columns), tuple(told), frozenset({3, 5, 6, 7}), folded)


def _corrected(table: Mapping[str, pd.DataFrame]) -> dict[tuple[str, ...], str]:
    """The slopes with the scorer's mistakes taken out, by case, where it was calibrated."""
    found = table.get("calibration", pd.DataFrame())
    return {
        tuple(str(row[key]) for key in _KEY): (
            f"{numbers.estimate(row['slope'], 'share')} ({numbers.interval(row['low'], row['high'], 'share')}); right "
            f"in {row['right_first']:.0%} and {row['right_second']:.0%}"
        )
        for row in views.records(found)
    }


def _by_case(table: pd.DataFrame, column: str) -> dict[tuple[str, ...], float]:
    """The greatest size of a column, by case."""
    if column not in table:
        return {}
    return {tuple(map(str, key)): float(rows.abs().max()) for key, rows in table.groupby(_KEY, sort=False)[column]}


def _row(row: Mapping[str, Any], chance: float) -> tuple[str, ...]:
    slope, ends = numbers.estimate(row["estimate"], "share"), numbers.interval(row["low"], row["high"], "share")
    by_chance, off = (numbers.estimate(one, "share") for one in (chance, row["off_target"]))
    return (
        row["target"], row["attribute"], row["value"], slope, ends, numbers.probability(row["q"]), by_chance, off,
        row["verdict"],
    )  # fmt: skip
