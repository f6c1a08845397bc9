"""Concept by concept: the numbers that stand beside a concept's pictures, with a small drawing on one shared scale."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import pandas as pd
from markupsafe import Markup, escape

from scalex.report import numbers, views

__all__ = ["Entry", "Line", "entries"]

Row: TypeAlias = Mapping[str, Any]
_WIDTH, _HEIGHT, _HALF = 180, 22, 0.62


@dataclass(frozen=True)
class Line:
    """One attribute of a concept: a drawing, the verdict and how it is drawn, and the numbers behind it in words."""

    attribute: str
    glyph: Markup
    verdict: str
    look: str
    details: tuple[str, ...]


@dataclass(frozen=True)
class Entry:
    """A concept with its lines, one per attribute."""

    concept: str
    lines: tuple[Line, ...]


def entries(
    findings: pd.DataFrame, order: Sequence[str], margin: float, spec: Mapping[str, Sequence[str]]
) -> list[Entry]:
    """One entry per concept, in the order given."""
    held: dict[tuple[str, str], list[Row]] = {}
    for row in views.records(findings[findings["analysis"].isin(["defaults", "rates"])]):
        held.setdefault((row["target"], row["attribute"]), []).append(row)
    named = {
        name: (views.is_pair(findings, name), views.values(findings, name, spec)) for name in views.attributes(findings)
    }
    return [
        Entry(target, tuple(_line(name, held.get((target, name), []), *how, margin) for name, how in named.items()))
        for target in order
    ]


def _line(attribute: str, rows: Sequence[Row], pair: bool, values: Sequence[str], margin: float) -> Line:
    picture = [row for row in rows if row["reading"] == "picture"]
    leans = [r for r in picture or rows if r["analysis"] == "defaults"]
    rates = [r for r in rows if r["analysis"] == "rates"]
    if not leans and not rates:
        return Line(attribute, Markup(""), "not asked", "none", ())
    if not pair:
        return _many(attribute, leans or rates, rates if leans else [])
    main, share = _of(leans or rates, values[-1]), _of(rates if leans else [], values[-1])
    words = (
        _of([r for r in rows if r["reading"] == "text" and r["analysis"] == "defaults"], values[-1])
        if picture
        else None
    )
    said = [_number(main), _number(share), f"words {_estimate(words)}" if words and _estimate(words) else ""]
    glyph = _glyph(main, words, margin, values) if main and leans else Markup("")
    verdict, look = (str(main["verdict"]), views.look(main, values)) if main else ("not asked", "none")
    return Line(attribute, glyph, verdict, look, tuple(filter(None, said)))


def _many(attribute: str, rows: Sequence[Row], rates: Sequence[Row]) -> Line:
    """Of many values the largest, and what it leans to."""
    known = sorted((r for r in rows if not math.isnan(r["estimate"])), key=lambda r: -float(r["estimate"]))
    if not known:
        return Line(attribute, Markup(""), str(rows[0]["verdict"]), "none", ())
    towards = [str(r["value"]) for r in known if views.leans_to(r["verdict"]) == r["value"]]
    verdict = f"leans to {' and '.join(towards)}" if towards else str(known[0]["verdict"])
    said = [_number(known[0]), _number(_of(rates, str(known[0]["value"])))]
    return Line(
        attribute, Markup(""), verdict, "second" if towards else views.look(known[0]), tuple(filter(None, said))
    )


def _of(rows: Sequence[Row], value: str) -> Row | None:
    return next((r for r in rows if r["value"] == value), next(iter(rows), None))


def _estimate(row: Row | None) -> str:
    return "" if row is None or math.isnan(row["estimate"]) else numbers.estimate(row["estimate"], row["unit"])


def _number(row: Row | None) -> str:
    if row is None or not _estimate(row):
        return ""
    span = numbers.interval(row["low"], row["high"], row["unit"])
    told = {
        "share": f"{row['value']} in {_estimate(row)} of pictures",
        "weight": f"{row['value']} weighs {_estimate(row)}",
    }
    return f"{told.get(row['unit'], 'lean ' + _estimate(row))} ({span})"


# ---------------------------------------------------------------------------------------------------- drawing


def _glyph(row: Row, words: Row | None, margin: float, values: Sequence[str]) -> Markup:
    """Dot and whisker of one lean, and a tick where the words stand. Colours come from the page's classes."""
    look, mid = views.look(row, values), _HEIGHT / 2
    marks = [f'<line class="axis {look}" x1="0" x2="{_WIDTH}" y1="{mid}" y2="{mid}"/>']
    if look != "none":
        marks += [_band(margin), _neutral()]
    if words is not None and not math.isnan(words["estimate"]):
        marks.append(
            f'<line class="says" x1="{_x(words["estimate"])}" x2="{_x(words["estimate"])}" y1="4" y2="{_HEIGHT - 4}"/>'
        )
    if look != "none" and not math.isnan(row["low"] + row["high"]):
        ends = f'x1="{_x(row["low"])}" x2="{_x(row["high"])}" y1="{mid}" y2="{mid}"'
        marks.append(f'<line class="whisker {look}" {ends}/>')
    if look != "none":
        marks.append(_dot(look, _x(row["estimate"]), mid))
    head = f'<svg class="glyph" viewBox="0 0 {_WIDTH} {_HEIGHT}" width="{_WIDTH}" height="{_HEIGHT}" role="img"'
    return Markup(f'{head} aria-label="{escape(row["verdict"])}">{"".join(marks)}</svg>')


def _x(lean: float) -> float:
    held = min(max(lean, -_HALF), _HALF)
    return round((held / _HALF + 1) / 2 * (_WIDTH - 12) + 6, 1)


def _band(margin: float) -> str:
    return f'<rect class="band" x="{_x(-margin)}" width="{_x(margin) - _x(-margin):.1f}" height="{_HEIGHT}"/>'


def _neutral() -> str:
    return f'<line class="neutral" x1="{_x(0.0)}" x2="{_x(0.0)}" y1="0" y2="{_HEIGHT}"/>'


def _dot(look: str, x: float, y: float) -> str:
    if look == "balanced":
        return f'<path class="dot {look}" d="M{x} {y - 5.5}l5.5 5.5l-5.5 5.5l-5.5 -5.5z"/>'
    return f'<circle class="dot {look}" cx="{x}" cy="{y}" r="4.6"/>'
