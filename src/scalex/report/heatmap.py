"""Heat maps of signed numbers, rows and columns ordered so that what is alike lies side by side."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import altair as alt
import numpy as np
from jaxtyping import Float, Int
from scipy.cluster.hierarchy import leaves_list, linkage

from scalex.report.numbers import estimate
from scalex.report.theme import LIGHT, styled

__all__ = ["Cell", "Heat", "drawn", "seriated"]

_STRONGEST = 0.62  # opacity of 1 and beyond: the number on it stays readable in either mode
_ROW, _GAP = 22, 8
_NUMBER = 40  # pixels that a number needs
_LETTER = 6.6  # pixels of one, about


class Cell(NamedTuple):
    """One number of the map; NaN is a cell without one. `sure` numbers are bold. `tip` is said on hovering."""

    row: str
    column: str
    at: float
    sure: bool
    tip: str


class Heat(NamedTuple):
    """The rows and columns of a map, in order."""

    rows: Sequence[str]
    columns: Sequence[str]

    @classmethod
    def ordered(cls, cells: Sequence[Cell], most: int) -> Heat:
        """Rows and columns seriated; of more rows than `most`, those that go furthest anywhere."""
        rows, columns = (list(dict.fromkeys(cell[i] for cell in cells)) for i in (0, 1))
        at = np.zeros((len(rows), len(columns)))
        for cell in cells:
            known = 0.0 if math.isnan(cell.at) else cell.at
            at[rows.index(cell.row), columns.index(cell.column)] = known
        kept = np.sort(np.argsort(-np.abs(at).max(1), kind="stable")[:most])
        at, rows = at[kept], [rows[i] for i in kept]
        across = seriated(at.T)
        return cls([rows[i] for i in seriated(at[:, across])], [columns[i] for i in across])


def seriated(points: Float[np.ndarray, "n axes"]) -> Int[np.ndarray, "n"]:
    """The order of points in which neighbours are most alike, the end with the largest numbers first.

    Of one number each, their own order. Else the leaves of the tree of average linkage, turned so that neighbouring
    leaves are nearest (Bar-Joseph, Gifford and Jaakkola 2001, Bioinformatics 17: S22-S29; `scipy`).
    """
    if points.shape[1] == 1 or len(points) < 3:
        return np.argsort(-points.sum(1), kind="stable")
    order = leaves_list(linkage(points, "average", optimal_ordering=True))
    half = len(order) // 2
    turned = points[order[:half]].sum() < points[order[-half:]].sum()
    return np.asarray(order[::-1] if turned else order)


def drawn(cells: Sequence[Cell], heat: Heat, width: int) -> alt.ChartType:
    """The map: the second colour above zero, the first below, stronger the further; numbers where there is room."""
    labels = min(max(60, round(_LETTER * max(map(len, heat.rows))) + 16), round(0.34 * width))
    each = max(1, min((width - labels - _GAP) // len(heat.columns), 150))
    base = alt.Chart(alt.NamedData("cells")).encode(x=_columns(heat, each), y=_rows(heat, labels))
    layers = [_squares(base), *(_numbers(base) if each >= _NUMBER else ())]
    chart = alt.layer(*layers).properties(width=each * len(heat.columns), height=alt.Step(_ROW))
    shown = frozenset(heat.rows)
    return styled(chart, {"cells": [_datum(cell) for cell in cells if cell.row in shown]})


def _datum(cell: Cell) -> dict[str, Any]:
    unknown = math.isnan(cell.at)
    return {
        "row": cell.row,
        "column": cell.column,
        "side": "none" if unknown else "second" if cell.at >= 0 else "first",
        "strength": 0.0 if unknown else round(_STRONGEST * min(abs(cell.at), 1.0), 3),
        "text": estimate(cell.at, ""),
        "sure": bool(cell.sure),
        "tip": cell.tip,
    }


def _columns(heat: Heat, each: int) -> alt.X:
    slanted = each < _LETTER * max(map(len, heat.columns))
    axis = alt.Axis(
        title=None, orient="top", grid=False, labelAngle=-45 if slanted else 0,
        labelAlign="left" if slanted else "center",
        labelColor=LIGHT["ink"], labelFontSize=12, labelLimit=130, labelOverlap=False, labelPadding=6,
    )  # fmt: skip
    return alt.X("column:N", axis=axis, scale=alt.Scale(domain=list(heat.columns), paddingInner=0.04))


def _rows(heat: Heat, labels: int) -> alt.Y:
    axis = alt.Axis(
        title=None, grid=False, labelPadding=8, labelLimit=0.93 * (labels - 8), minExtent=labels, maxExtent=labels,
        labelColor=LIGHT["ink"], labelOverlap=False,
    )  # fmt: skip
    return alt.Y("row:N", axis=axis, scale=alt.Scale(domain=list(heat.rows), paddingInner=0.08))


def _squares(base: alt.Chart) -> alt.Chart:
    fill = alt.Scale(domain=["first", "second", "none"], range=[LIGHT["first"], LIGHT["second"], LIGHT["paper"]])
    squares: alt.Chart = base.mark_rect(cornerRadius=2, stroke=LIGHT["guide"])
    return squares.encode(
        fill=alt.Fill("side:N", scale=fill, legend=None),
        fillOpacity=alt.FillOpacity("strength:Q", scale=None, legend=None),
        description="tip:N",
        tooltip="tip:N",
    )


def _numbers(base: alt.Chart) -> list[alt.Chart]:
    style: dict[str, Any] = {"fontSize": 12, "aria": False}
    sure, open_ = base.transform_filter("datum.sure"), base.transform_filter("!datum.sure")
    return [
        sure.mark_text(**style, fontWeight=600, color=LIGHT["ink"]).encode(text="text:N"),
        open_.mark_text(**style, color=LIGHT["muted"]).encode(text="text:N"),
    ]
