"""Charts of findings, as Altair functions for notebooks and the report alike.

Every chart but the scatter is a column of concepts, one row each, sorted by the lean: the dot is the estimate, the
whisker its interval, the grey band the range that counts as balanced. Height grows with the number of concepts.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import altair as alt
import numpy as np
import pandas as pd

from scalex.errors import ScalexError
from scalex.records import Reading, Rules
from scalex.report import numbers, views
from scalex.report.panels import PLAIN, Layout, Panel, Scale, drawn, looks, numbers_scale, tick_labels
from scalex.report.theme import LIGHT, styled

__all__ = ["Layout", "lean_chart", "overview_chart", "rates_chart", "says_shows_chart"]

_TITLES: Mapping[Reading, str] = {"text": "What the words say", "picture": "What the picture shows"}
_SHORT: Mapping[Reading, str] = {"text": "Words say", "picture": "Picture shows"}  # where a panel is narrow
_NARROW = 160
_LABEL = 44  # pixels that a percentage on an axis needs


def lean_chart(
    findings: pd.DataFrame,
    attribute: str,
    *,
    reading: Reading = "picture",
    margin: float = 0.1,
    layout: Layout = PLAIN,
) -> alt.ChartType:
    """Leans of all concepts for an attribute: one panel for two values, one panel of weights per value for more.

    Raises:
        ScalexError: the findings hold no leans of this attribute in this reading.
    """
    return _chart(_lean_panels(_held(findings), attribute, reading, margin, layout), findings, attribute, layout)


def rates_chart(
    findings: pd.DataFrame,
    attribute: str,
    *,
    margin: float = 0.1,
    layout: Layout = PLAIN,
) -> alt.ChartType:
    """Shares of pictures: of the second value beside parity for two values, one panel per value for more.

    Raises:
        ScalexError: the findings hold no rates of this attribute.
    """
    return _chart(_rate_panels(_held(findings), attribute, margin, layout), findings, attribute, layout)


def overview_chart(
    findings: pd.DataFrame,
    attribute: str,
    *,
    margin: float = 0.1,
    rates: bool = True,
    layout: Layout = PLAIN,
) -> alt.ChartType:
    """Leans of each reading and shares side by side, in rows that line up. Of many values those of the main reading.

    Args:
        margin: half-width of the balanced range. rates: whether the shares are shown too.

    Raises:
        ScalexError: the findings hold neither leans nor rates of this attribute.
    """
    frame = _held(findings)
    held = views.readings(frame, "defaults", attribute)
    if not views.is_pair(frame, attribute):
        held = held and [views.main_reading(frame, attribute)]
    panels = [p for reading in held for p in _lean_panels(frame, attribute, reading, margin, layout)]
    if rates:
        panels += _rate_panels(frame, attribute, margin, layout)
    return _chart(panels, frame, attribute, layout)


def _chart(panels: Sequence[Panel], findings: pd.DataFrame, attribute: str, layout: Layout) -> alt.ChartType:
    if not panels:
        known = ", ".join(map(repr, views.attributes(_held(findings)))) or "none"
        raise ScalexError(f"the findings hold nothing of this kind for {attribute!r}", f"Attributes there: {known}")
    return drawn(panels, list(layout.order or views.order(_held(findings), attribute)), layout)


# ---------------------------------------------------------------------------------------------------- panels


def _held(findings: pd.DataFrame) -> pd.DataFrame:
    return views.checked(findings)


def _lean_panels(
    findings: pd.DataFrame, attribute: str, reading: Reading, margin: float, layout: Layout
) -> list[Panel]:
    rows = views.rows(findings, "defaults", attribute, reading)
    names = views.values(findings, attribute, layout.spec)
    if not views.is_pair(findings, attribute):
        return _value_panels(rows, names, margin, layout)
    title = (_SHORT if layout.width < _NARROW else _TITLES)[reading]
    return [Panel(title, _marks(rows, names), _lean_scale(findings, attribute, names, margin))] if len(rows) else []


def _rate_panels(findings: pd.DataFrame, attribute: str, margin: float, layout: Layout) -> list[Panel]:
    rows = views.rows(findings, "rates", attribute)
    rows = rows[rows["reading"] == views.readings(findings, "rates", attribute)[-1]] if len(rows) else rows
    names = views.values(findings, attribute, layout.spec)
    if not views.is_pair(findings, attribute):
        return _value_panels(rows, names, margin, layout)
    second = rows[rows["value"] == names[-1]]
    title = f"Share of pictures: {names[-1]}"
    scale = Scale((0.0, 1.0), 0.5, margin, ((0.0, "0%"), (0.5, "50%"), (1.0, "100%")))
    return [Panel(title, _marks(second, names), scale)] if len(rows) else []


def _value_panels(rows: pd.DataFrame, names: Sequence[str], margin: float, layout: Layout) -> list[Panel]:
    scale = _share_scale(rows, len(names), margin, layout.width)
    frames = ((value, rows[rows["value"] == value]) for value in names)
    return [Panel(value, _marks(frame, ()), scale) for value, frame in frames if len(frame)]


def _lean_scale(findings: pd.DataFrame, attribute: str, names: Sequence[str], margin: float) -> Scale:
    """Both readings share one domain, wide enough for the leans themselves; a stray whisker may leave it."""
    leans = views.rows(findings, "defaults", attribute)
    dots, ends = (float(leans[names].abs().max().max()) for names in (["estimate"], ["low", "high"]))
    half = 0.62 if math.isnan(dots) else min(max(0.62, 1.1 * dots, min(1.02 * ends, 0.85)), 1.5)
    ticks = ((-0.5, f"{names[0]} −½"), (0.0, "0"), (0.5, f"+½ {names[1]}"))
    return Scale((-half, half), 0.0, margin, ticks)


def _share_scale(rows: pd.DataFrame, n_values: int, margin: float, width: int) -> Scale:
    """From zero to the first quarter that holds every interval, so that small shares can be told apart."""
    parity, margin = 1 / n_values, Rules(margin=margin).margin_of(n_values)
    furthest = float(np.nanmax([parity + margin, *rows["estimate"], *rows["high"]]))
    top = next(quarter for quarter in (0.25, 0.5, 0.75, 1.0) if quarter >= min(furthest, 1.0))
    ticks = [(parity, f"{100 * parity:.0f}%"), (top, f"{100 * top:.0f}%")]
    free = parity / top * width > _LABEL
    return Scale((0.0, top), parity, margin, ((0.0, "0%"), *ticks) if free else tuple(ticks))


def _marks(rows: pd.DataFrame, names: Sequence[str]) -> list[dict[str, Any]]:
    return [
        {
            "target": row["target"],
            "at": _known(row["estimate"]),
            "low": _known(row["low"]),
            "high": _known(row["high"]),
            "look": views.look(row, names),
            "tip": _tip(row),
            "blank": row["verdict"] if views.kind(row["verdict"]) == "not expressed" else "no number",
        }
        for row in views.records(rows)
    ]


def _known(number: float) -> float | None:
    return None if math.isnan(number) else round(number, 5)


def _tip(row: Mapping[str, Any]) -> str:
    if math.isnan(row["estimate"]):
        return f"{row['target']}: {row['verdict'] or 'no number'}. {row['reason']}"
    unit = row["unit"]
    what = f"{unit} of {row['value']}" if unit in numbers.SHARES else unit
    span = numbers.interval(row["low"], row["high"], unit)
    return f"{row['target']}: {what} {numbers.estimate(row['estimate'], unit)} ({span}), {row['verdict']}"


# ---------------------------------------------------------------------------------------------------- says and shows


def says_shows_chart(
    findings: pd.DataFrame, attribute: str, *, margin: float = 0.1, side: int = 420, named: int = 6
) -> alt.ChartType:
    """Each concept's lean (or weights) by the words against that by the picture; on the diagonal both agree.

    Args:
        margin: half-width of the balanced range. side: of the square, in pixels.
        named: how many of the largest disagreements are named.

    Raises:
        ScalexError: no concept has a number in both readings.
    """
    frame = _held(findings)
    both = views.disagreements(frame, attribute)
    if not len(both):
        raise ScalexError(f"no concept has {attribute!r} in both readings", "Audit with readings: [text, picture]")
    names = views.values(frame, attribute)
    pair = views.is_pair(frame, attribute)
    both = both.assign(look=[views.look(row, names if pair else ()) for row in views.records(both)])
    leans = views.rows(frame, "defaults", attribute)
    scale = _lean_scale(frame, attribute, names, margin) if pair else _share_scale(leans, len(names), margin, side)
    columns = ["text", "picture", "look", "name", "left", "tip"]
    data = {"both": views.records(_named(both, scale, named)[columns])}
    return styled(_square(scale, side, names[-1] if pair else "of the value"), data)


def _named(both: pd.DataFrame, scale: Scale, named: int) -> pd.DataFrame:
    """Names of the first rows beside their dots, on the side away from the diagonal, none written over another."""
    low, high = scale.domain
    span = high - low
    taken: list[tuple[float, float]] = []
    labels = []
    for i, (x, y, label) in enumerate(zip(both["text"], both["picture"], both["label"])):
        free = i < named and all(abs(x - u) > 0.3 * span or abs(y - v) > 0.045 * span for u, v in taken)
        labels.append(label if free else "")
        if free:
            taken.append((x, y))
    left = (both["picture"] > both["text"]) & (both["text"] > low + 0.3 * span)
    return both.assign(name=labels, left=left)


def _square(scale: Scale, side: int, last: str) -> alt.ChartType:
    diagonal = [{"text": end, "picture": end} for end in scale.domain]
    line = alt.Chart(alt.Data(values=diagonal)).mark_line(color=LIGHT["line"], strokeDash=[4, 4], aria=False)
    base = alt.Chart(alt.NamedData("both"))
    dots = base.mark_point(size=60, strokeWidth=1.8, opacity=1)
    layers = [line, dots.encode(**looks(), description="tip:N", tooltip="tip:N"), *_labels(base, side)]
    x = alt.X("text:Q", scale=numbers_scale(scale), axis=_axis(scale, "What the words say"))
    y = alt.Y("picture:Q", scale=numbers_scale(scale), axis=_axis(scale, "What the picture shows"))
    placed = [layer.encode(x=x, y=y) for layer in layers]
    return alt.layer(*_corners(side, last), *placed).properties(width=side, height=side)


def _labels(base: alt.Chart, side: int) -> list[alt.Chart]:
    style: dict[str, Any] = {"fontSize": 12, "color": LIGHT["ink"], "aria": False, "limit": side / 3}
    left = base.transform_filter("datum.left").mark_text(**style, align="right", dx=-9)
    right = base.transform_filter("!datum.left").mark_text(**style, align="left", dx=9)
    return [left.encode(text="name:N"), right.encode(text="name:N")]


def _corners(side: int, last: str) -> list[alt.Chart]:
    """What it means to lie off the diagonal, said in the two corners where it happens."""
    corners: list[tuple[int, int, Literal["left", "right"], str]] = [
        (6, 12, "left", f"picture more {last}"),
        (side - 6, side - 12, "right", f"words more {last}"),
    ]
    style: dict[str, Any] = {"fontSize": 11, "fontStyle": "italic", "color": LIGHT["muted"], "aria": False}
    return [
        alt.Chart(alt.Data(values=[{"text": said}]))
        .mark_text(**style, align=align, limit=side / 2)
        .encode(x=alt.value(x), y=alt.value(y), text="text:N")
        for x, y, align, said in corners
    ]


def _axis(scale: Scale, title: str) -> alt.Axis:
    ticks = [at for at, _ in scale.ticks]
    return alt.Axis(title=title, values=ticks, labelExpr=tick_labels(scale), grid=True, zindex=0, labelLimit=96)
