"""Charts of findings, as Altair functions for notebooks and the report alike.

Every chart is a column of concepts, one row each, sorted by the lean; the dot is the estimate, the whisker its interval, the
grey band the range that counts as balanced. Height grows with the number of concepts.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import altair as alt
import pandas as pd

from scalex.errors import ScalexError
from scalex.records import Reading
from scalex.report import numbers, views
from scalex.report.theme import LIGHT, styled

__all__ = ["GAP", "Layout", "lean_chart", "overview_chart", "rates_chart", "says_shows_chart"]

GAP = "⋯ "  # starts the label of the row that stands for concepts left out
_TITLES: Mapping[Reading, str] = {"text": "What the words say", "picture": "What the picture shows"}
_SHORT: Mapping[Reading, str] = {"text": "Words say", "picture": "Picture shows"}  # where a panel is narrow
_NARROW = 160
_STROKES = [LIGHT["first"], LIGHT["second"], LIGHT["balanced"], LIGHT["unsure"], LIGHT["unsure"]]
_FILLS = [LIGHT["first"], LIGHT["second"], LIGHT["balanced"], LIGHT["paper"], LIGHT["paper"]]
_SHAPES = ["circle", "circle", "diamond", "circle", "cross"]


@dataclass(frozen=True)
class Layout:
    """Sizes of a chart in pixels, and which concepts it shows.

    Attributes:
        width: of one panel. labels: of the column of concept names. step: height of a row.
        columns: how many panels stand side by side before a new line begins.
        order: the concepts to show, from top to bottom (default: all, strongest lean to the last value first). A text that
            starts with `GAP` makes an empty row.
    """

    width: int = 260
    labels: int = 170
    step: int = 20
    columns: int = 3
    order: Sequence[str] | None = None
    spec: Mapping[str, Sequence[str]] = field(default_factory=dict)


@dataclass(frozen=True)
class _Scale:
    """The horizontal axis of a panel: domain, neutral point, half-width of the band, and what the ticks say."""

    domain: tuple[float, float]
    neutral: float
    margin: float
    ticks: tuple[tuple[float, str], ...]


@dataclass(frozen=True)
class _Panel:
    title: str
    rows: list[dict[str, Any]]
    scale: _Scale


def lean_chart(
    findings: pd.DataFrame,
    attribute: str,
    *,
    reading: Reading = "picture",
    margin: float = 0.1,
    layout: Layout = Layout(),  # noqa: B008  (frozen)
) -> alt.ChartType:
    """Leans of all concepts for an attribute: one panel for two values, one panel of weights per value for more.

    Raises:
        ScalexError: the findings hold no leans of this attribute in this reading.
    """
    return _drawn(_lean_panels(_held(findings), attribute, reading, margin, layout), findings, attribute, layout)


def rates_chart(
    findings: pd.DataFrame, attribute: str, *, margin: float = 0.1, layout: Layout = Layout()  # noqa: B008
) -> alt.ChartType:
    """Shares of pictures: of the second value beside parity for two values, one panel per value for more.

    Raises:
        ScalexError: the findings hold no rates of this attribute.
    """
    return _drawn(_rate_panels(_held(findings), attribute, margin, layout), findings, attribute, layout)


def overview_chart(
    findings: pd.DataFrame,
    attribute: str,
    *,
    margin: float = 0.1,
    rates: bool = True,
    layout: Layout = Layout(),  # noqa: B008
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
    return _drawn(panels, frame, attribute, layout)


# ---------------------------------------------------------------------------------------------------- panels


def _held(findings: pd.DataFrame) -> pd.DataFrame:
    return views.checked(findings)


def _lean_panels(
    findings: pd.DataFrame, attribute: str, reading: Reading, margin: float, layout: Layout
) -> list[_Panel]:
    rows = views.rows(findings, "defaults", attribute, reading)
    names = views.values(findings, attribute, layout.spec)
    if not views.is_pair(findings, attribute):
        return _value_panels(rows, names, margin, "weight")
    title = (_SHORT if layout.width < _NARROW else _TITLES)[reading]
    return [_Panel(title, _marks(rows, names), _lean_scale(findings, attribute, names, margin))] if len(rows) else []


def _rate_panels(findings: pd.DataFrame, attribute: str, margin: float, layout: Layout) -> list[_Panel]:
    rows = views.rows(findings, "rates", attribute)
    rows = rows[rows["reading"] == views.readings(findings, "rates", attribute)[-1]] if len(rows) else rows
    names = views.values(findings, attribute, layout.spec)
    if not views.is_pair(findings, attribute):
        return _value_panels(rows, names, margin, "share")
    second = rows[rows["value"] == names[-1]]
    title = f"Share of pictures: {names[-1]}"
    return [_Panel(title, _marks(second, names), _share_scale(2, margin))] if len(rows) else []


def _value_panels(rows: pd.DataFrame, names: Sequence[str], margin: float, unit: str) -> list[_Panel]:
    scale = _share_scale(len(names), margin)
    frames = ((value, rows[rows["value"] == value]) for value in names)
    return [_Panel(value, _marks(frame, ()), scale) for value, frame in frames if len(frame)]


def _lean_scale(findings: pd.DataFrame, attribute: str, names: Sequence[str], margin: float) -> _Scale:
    """Both readings share one domain, wide enough for the leans themselves; a stray whisker may leave it."""
    leans = views.rows(findings, "defaults", attribute)
    dots, ends = (float(leans[names].abs().max().max()) for names in (["estimate"], ["low", "high"]))
    half = 0.62 if math.isnan(dots) else min(max(0.62, 1.1 * dots, min(1.02 * ends, 0.85)), 1.5)
    ticks = ((-0.5, f"{names[0]} −½"), (0.0, "0"), (0.5, f"+½ {names[1]}"))
    return _Scale((-half, half), 0.0, margin, ticks)


def _share_scale(n_values: int, margin: float) -> _Scale:
    parity = 1 / n_values
    ticks = ((0.0, "0%"), (parity, f"{100 * parity:.0f}%"), (1.0, "100%"))
    return _Scale((0.0, 1.0), parity, margin, ticks)


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
        for row in rows.to_dict("records")
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


# ---------------------------------------------------------------------------------------------------- drawing


def _drawn(panels: Sequence[_Panel], findings: pd.DataFrame, attribute: str, layout: Layout) -> alt.ChartType:
    if not panels:
        known = ", ".join(map(repr, views.attributes(_held(findings)))) or "none"
        raise ScalexError(f"the findings hold nothing of this kind for {attribute!r}", f"Attributes there: {known}")
    order = list(layout.order or views.order(_held(findings), attribute))
    lines = []
    for start in range(0, len(panels), layout.columns):
        line = panels[start : start + layout.columns]
        lines.append(alt.hconcat(*(_panel(p, order, layout, named=i == 0) for i, p in enumerate(line))))
    return styled(lines[0] if len(lines) == 1 else alt.vconcat(*lines))


def _panel(panel: _Panel, order: Sequence[str], layout: Layout, *, named: bool) -> alt.LayerChart:
    base = alt.Chart(alt.Data(values=panel.rows)).encode(y=_rows_axis(layout, named=named))
    dots = base.transform_filter("datum.look != 'none'")
    layers = [_band(panel.scale), _neutral(panel.scale), _row_targets(base, order), _whiskers(dots, panel.scale)]
    layers += [_dots(dots, panel.scale), *_blanks(base)]
    height = {"step": layout.step}
    title = alt.Title(panel.title, frame="group", limit=layout.width + 20)
    return alt.layer(*layers, title=title).properties(width=layout.width, height=height)


def _rows_axis(layout: Layout, *, named: bool) -> alt.Y:
    size = layout.labels if named else 0
    axis = alt.Axis(
        title=None, labels=named, grid=True, zindex=0, labelPadding=8, labelLimit=max(layout.labels - 8, 1),
        minExtent=size, maxExtent=size, labelColor=LIGHT["ink"], labelOverlap=False,
    )  # fmt: skip
    return alt.Y("target:N", axis=axis)


def _across(scale: _Scale, column: str = "at") -> alt.X:
    axis = alt.Axis(
        title=None, orient="top", values=[at for at, _ in scale.ticks], labelExpr=_says(scale), grid=False,
        labelFlush=True, labelLimit=96, labelFontSize=11, labelOverlap=False, zindex=0,
    )  # fmt: skip
    return alt.X(f"{column}:Q", scale=alt.Scale(domain=list(scale.domain), clamp=True, nice=False, zero=False), axis=axis)


def _says(scale: _Scale) -> str:
    """The expression that labels ticks. Names reach it as JSON strings, which are inert there."""
    says = "''"
    for at, label in reversed(scale.ticks):
        says = f"abs(datum.value - {at}) < 1e-6 ? {json.dumps(label)} : {says}"
    return says


def _band(scale: _Scale) -> alt.Chart:
    ends = [{"low": scale.neutral - scale.margin, "high": scale.neutral + scale.margin}]
    chart = alt.Chart(alt.Data(values=ends)).mark_rect(color=LIGHT["band"], aria=False)
    return chart.encode(x=_across(scale, "low"), x2="high:Q")


def _neutral(scale: _Scale) -> alt.Chart:
    line = alt.Chart(alt.Data(values=[{"at": scale.neutral}])).mark_rule(color=LIGHT["line"], strokeWidth=1.5, aria=False)
    return line.encode(x=_across(scale))


def _row_targets(base: alt.Chart, order: Sequence[str]) -> alt.Chart:
    """Invisible bars over whole rows: a tooltip need not be aimed at a dot. They also set the order for all layers."""
    base = base.encode(y=base.encoding.y.scale(domain=list(order), paddingInner=0.1))
    return base.mark_rect(color=LIGHT["row"], opacity=0).encode(description="tip:N", tooltip="tip:N")


def _colour(kind: Sequence[str]) -> Any:
    return alt.Scale(domain=list(views.LOOKS), range=list(kind))


def _whiskers(base: alt.Chart, scale: _Scale) -> alt.Chart:
    known = base.transform_filter("isValid(datum.low) && isValid(datum.high)")
    rule = known.mark_rule(strokeWidth=2, opacity=0.55, aria=False)
    stroke = alt.Stroke("look:N", scale=_colour(_STROKES), legend=None)
    return rule.encode(x=_across(scale, "low"), x2="high:Q", stroke=stroke)


def _dots(base: alt.Chart, scale: _Scale) -> alt.Chart:
    return base.mark_point(size=62, strokeWidth=1.8, opacity=1, aria=False).encode(
        x=_across(scale),
        stroke=alt.Stroke("look:N", scale=_colour(_STROKES), legend=None),
        fill=alt.Fill("look:N", scale=_colour(_FILLS), legend=None),
        shape=alt.Shape("look:N", scale=_colour(_SHAPES), legend=None),
    )


def _blanks(base: alt.Chart) -> list[alt.Chart]:
    """In words why a row has no dot, cut out of the guide line behind it."""
    quiet = base.transform_filter("datum.look == 'none'").encode(text="blank:N", x=alt.value(4))
    style = {"align": "left", "fontSize": 11, "aria": False}
    halo = quiet.mark_text(**style, color=LIGHT["paper"], stroke=LIGHT["paper"], strokeWidth=6)
    return [halo, quiet.mark_text(**style, color=LIGHT["muted"])]


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
    both = both.assign(look=[views.look(row, names if pair else ()) for row in both.to_dict("records")])
    scale = _lean_scale(frame, attribute, names, margin) if pair else _share_scale(len(names), margin)
    return styled(_square(_named(both, scale, named), scale, side))


def _named(both: pd.DataFrame, scale: _Scale, named: int) -> pd.DataFrame:
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


def _square(both: pd.DataFrame, scale: _Scale, side: int) -> alt.LayerChart:
    low, high = scale.domain
    diagonal = [{"text": end, "picture": end} for end in (low, high)]
    line = alt.Chart(alt.Data(values=diagonal)).mark_line(color=LIGHT["line"], strokeDash=[4, 4], aria=False)
    shown = both[["text", "picture", "look", "name", "left", "tip"]].to_dict("records")
    base = alt.Chart(alt.Data(values=shown))
    dots = base.mark_point(size=60, strokeWidth=1.8, opacity=1).encode(
        stroke=alt.Stroke("look:N", scale=_colour(_STROKES), legend=None),
        fill=alt.Fill("look:N", scale=_colour(_FILLS), legend=None),
        shape=alt.Shape("look:N", scale=_colour(_SHAPES), legend=None),
        description="tip:N",
        tooltip="tip:N",
    )
    style = {"fontSize": 12, "color": LIGHT["ink"], "aria": False, "limit": side / 3}
    words = [
        base.transform_filter(f"datum.left == {str(left).lower()}").mark_text(align=align, dx=dx, **style).encode(text="name:N")
        for left, align, dx in ((True, "right", -9), (False, "left", 9))
    ]
    across = _plain_axis(alt.X, "text", scale, "What the words say")
    up = _plain_axis(alt.Y, "picture", scale, "What the picture shows")
    layers = [layer.encode(x=across, y=up) for layer in (line, dots, *words)]
    return alt.layer(*_corners(scale, side), *layers).properties(width=side, height=side)


def _corners(scale: _Scale, side: int) -> list[alt.Chart]:
    """What it means to lie off the diagonal, said in the two corners where it happens."""
    last = scale.ticks[-1][1].removeprefix("+½ ") if scale.neutral == 0 else "of the value"
    told = ((6, 12, "left", f"picture more {last}"), (side - 6, side - 12, "right", f"words more {last}"))
    return [
        alt.Chart(alt.Data(values=[{"text": said}]))
        .mark_text(align=align, fontSize=11, fontStyle="italic", color=LIGHT["muted"], limit=side / 2, aria=False)
        .encode(x=alt.value(x), y=alt.value(y), text="text:N")
        for x, y, align, said in told
    ]


def _plain_axis(channel: Any, column: str, scale: _Scale, title: str) -> Any:
    axis = alt.Axis(
        title=title, values=[at for at, _ in scale.ticks], labelExpr=_says(scale), grid=True, zindex=0, labelLimit=96
    )
    return channel(f"{column}:Q", scale=alt.Scale(domain=list(scale.domain), clamp=True, nice=False, zero=False), axis=axis)
