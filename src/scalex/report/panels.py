"""Panels: rows of concepts with a dot and a whisker each, on one horizontal scale, drawn by Vega-Lite."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import altair as alt

from scalex.report import views
from scalex.report.theme import LIGHT, styled

__all__ = ["PLAIN", "Layout", "Panel", "Scale", "drawn", "looks", "numbers_scale", "tick_labels"]

_STROKES = [LIGHT["first"], LIGHT["second"], LIGHT["balanced"], LIGHT["unsure"], LIGHT["unsure"]]
_FILLS = [LIGHT["first"], LIGHT["second"], LIGHT["balanced"], LIGHT["paper"], LIGHT["paper"]]
_SHAPES = ["circle", "circle", "diamond", "circle", "cross"]


@dataclass(frozen=True)
class Layout:
    """Sizes of a chart in pixels, and which concepts it shows.

    Attributes:
        width: of one panel. labels: of the column of concept names. step: height of a row.
        columns: how many panels stand side by side before a new line begins.
        order: the concepts to show, from top to bottom; None for all, strongest lean to the last value first. A name
            that is no concept makes an empty row.
        spec: the values of each attribute in their order; where absent they are taken from the findings.
    """

    width: int = 260
    labels: int = 170
    step: int = 20
    columns: int = 3
    order: Sequence[str] | None = None
    spec: Mapping[str, Sequence[str]] = field(default_factory=dict)


PLAIN = Layout()


@dataclass(frozen=True)
class Scale:
    """The horizontal axis of a panel: domain, neutral point, half-width of the band, and what the ticks say."""

    domain: tuple[float, float]
    neutral: float
    margin: float
    ticks: tuple[tuple[float, str], ...]


@dataclass(frozen=True)
class Panel:
    """A titled scale and its rows: `target, at, low, high` (None: unknown), `look`, `tip`, `blank` (not a dot)."""

    title: str
    rows: list[dict[str, Any]]
    scale: Scale


def drawn(panels: Sequence[Panel], order: Sequence[str], layout: Layout) -> alt.ChartType:
    """The panels side by side, in as many lines as the layout's columns ask for."""
    made = [_panel(f"panel{i}", p, order, layout, named=i % layout.columns == 0) for i, p in enumerate(panels)]
    lines = [alt.hconcat(*made[i : i + layout.columns]) for i in range(0, len(made), layout.columns)]
    shown = frozenset(order)  # a row outside the scale's domain would be drawn over the first one
    data = {f"panel{i}": [row for row in p.rows if row["target"] in shown] for i, p in enumerate(panels)}
    return styled(lines[0] if len(lines) == 1 else alt.vconcat(*lines), data)


def _panel(data: str, panel: Panel, order: Sequence[str], layout: Layout, *, named: bool) -> alt.ChartType:
    base = alt.Chart(alt.NamedData(data)).encode(y=_names(layout, named=named))
    dots = base.transform_filter("datum.look != 'none'")
    layers = [_band(panel.scale), _neutral(panel.scale), _row_targets(base, order), _whiskers(dots, panel.scale)]
    title = alt.Title(panel.title, frame="group", limit=layout.width + 20)
    made = alt.layer(*layers, _dots(dots, panel.scale), *_blanks(base), title=title)
    return made.properties(width=layout.width, height=alt.Step(layout.step))


def _names(layout: Layout, *, named: bool) -> alt.Y:
    size = layout.labels if named else 0
    limit = max(0.93 * (layout.labels - 8), 1)  # the page's type runs wider than the one it is measured in
    axis = alt.Axis(
        title=None, labels=named, grid=True, zindex=0, labelPadding=8, labelLimit=limit,
        minExtent=size, maxExtent=size, labelColor=LIGHT["ink"], labelOverlap=False,
    )  # fmt: skip
    return alt.Y("target:N", axis=axis)


def _across(scale: Scale, column: str = "at") -> alt.X:
    axis = alt.Axis(
        title=None, orient="top", values=[at for at, _ in scale.ticks], labelExpr=tick_labels(scale), grid=False,
        labelFlush=True, labelLimit=96, labelFontSize=11, labelOverlap=False, zindex=0,
    )  # fmt: skip
    return alt.X(f"{column}:Q", scale=numbers_scale(scale), axis=axis)


def numbers_scale(scale: Scale) -> alt.Scale:
    """The scale as Vega-Lite takes it; what lies outside is drawn at its ends."""
    return alt.Scale(domain=list(scale.domain), clamp=True, nice=False, zero=False)


def tick_labels(scale: Scale) -> str:
    """The expression that labels ticks. Names reach it as JSON strings, which are inert there."""
    says = "''"
    for at, label in reversed(scale.ticks):
        says = f"abs(datum.value - {at}) < 1e-6 ? {json.dumps(label)} : {says}"
    return says


def _band(scale: Scale) -> alt.Chart:
    ends = [{"low": scale.neutral - scale.margin, "high": scale.neutral + scale.margin}]
    band: alt.Chart = alt.Chart(alt.Data(values=ends)).mark_rect(color=LIGHT["band"], aria=False)
    return band.encode(x=_across(scale, "low"), x2="high:Q")


def _neutral(scale: Scale) -> alt.Chart:
    at = alt.Chart(alt.Data(values=[{"at": scale.neutral}]))
    line: alt.Chart = at.mark_rule(color=LIGHT["line"], strokeWidth=1.5, aria=False)
    return line.encode(x=_across(scale))


def _row_targets(base: alt.Chart, order: Sequence[str]) -> alt.Chart:
    """Invisible bars over whole rows: a tooltip need not be aimed at a dot. They also set the order for all layers."""
    rows: alt.Chart = base.mark_rect(color=LIGHT["row"], opacity=0)
    placed = base.encoding.y.scale(domain=list(order), paddingInner=0.1)
    return rows.encode(y=placed, description="tip:N", tooltip="tip:N")


def looks() -> dict[str, Any]:
    """The encodings that show a verdict by colour, fill and shape."""
    names = list(views.LOOKS)
    return {
        "stroke": alt.Stroke("look:N", scale=alt.Scale(domain=names, range=_STROKES), legend=None),
        "fill": alt.Fill("look:N", scale=alt.Scale(domain=names, range=_FILLS), legend=None),
        "shape": alt.Shape("look:N", scale=alt.Scale(domain=names, range=_SHAPES), legend=None),
    }


def _whiskers(base: alt.Chart, scale: Scale) -> alt.Chart:
    known = base.transform_filter("isValid(datum.low) && isValid(datum.high)")
    rule: alt.Chart = known.mark_rule(strokeWidth=2, opacity=0.55, aria=False)
    return rule.encode(x=_across(scale, "low"), x2="high:Q", stroke=looks()["stroke"])


def _dots(base: alt.Chart, scale: Scale) -> alt.Chart:
    dots: alt.Chart = base.mark_point(size=62, strokeWidth=1.8, opacity=1, aria=False)
    return dots.encode(x=_across(scale), **looks())


def _blanks(base: alt.Chart) -> list[alt.Chart]:
    """In words why a row has no dot, cut out of the guide line behind it."""
    quiet = base.transform_filter("datum.look == 'none'").encode(text="blank:N", x=alt.value(4))
    style: dict[str, Any] = {"align": "left", "fontSize": 11, "aria": False}
    halo = quiet.mark_text(**style, color=LIGHT["paper"], stroke=LIGHT["paper"], strokeWidth=6)
    return [halo, quiet.mark_text(**style, color=LIGHT["muted"])]
