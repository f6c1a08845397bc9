"""What the report shows of naming: each direction with the words at both of its ends, or that no word fits it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd

from scalex.analyses.naming import NAME, NAMED, PAIR, POLES
from scalex.report import numbers, words
from scalex.report.panels import Layout, Scale, drawn
from scalex.report.panels import Panel as Column
from scalex.report.parts._panel import Listing, Panel, Tables
from scalex.report.sections import Figure
from scalex.report.theme import inline_svg

__all__ = ["NAME", "ORDER", "panel"]

ORDER = 60
_READ = {"picture": words.SHOWS, "text": words.SAYS}
_SHOWN = 5  # words drawn at each end
_FIGURES = 6  # directions drawn before the others are folded away
_WIDE, _NARROW = 560, 190


def panel(findings: pd.DataFrame, tables: Tables, manifest: Mapping[str, Any]) -> Panel | None:
    """Every direction in words; None where no direction was named."""
    held = [r for r in _READ if (findings["reading"] == r).any()]
    if not held:
        return None
    told = {(r, d): rows for r in held for d, rows in findings[findings["reading"] == r].groupby("target", sort=False)}
    ranked = {r: tables.get((r, "words"), pd.DataFrame()) for r in held}
    return Panel(
        title="Directions in words",
        heading=_heading(told),
        paragraphs=tuple(_sentence(reading, str(name), rows) for (reading, name), rows in told.items()),
        figures=tuple(_figures(told, ranked)),
        listings=tuple(_listings(told, ranked)),
        notes=(
            "The number is how alike a word and the direction are: 1 the same, 0 unrelated, below 0 opposite. In the "
            "grey band words come by chance: the best word of a direction that means nothing hardly ever leaves it. A "
            "word is a name only beyond the band. A direction that is the way from one word to another, as an "
            "attribute is, is named by both words.",
        ),
    )


def _heading(told: Mapping[tuple[str, Any], pd.DataFrame]) -> str:
    named = {str(name): _name(rows) for (_, name), rows in told.items() if _name(rows)}
    if not named:
        return "No direction can be named: no word of the vocabulary fits beyond chance"
    (name, said), *others = named.items()
    more = f", and {numbers.plural(len(others), 'more direction')} can be named" if others else ""
    return f"“{words.isolated(name)}” is {said}{more}"


def _name(rows: pd.DataFrame) -> str:
    """What a direction is called, by what is furthest beyond chance, a word before a pair; empty where nothing fits."""
    fits = rows[rows["verdict"] == NAMED].to_dict("records")
    order = (POLES[0], PAIR, POLES[1])
    if not fits:
        return ""
    best = min(fits, key=lambda row: (row["p"], order.index(row["attribute"])))
    start, _, end = (f"“{words.isolated(part)}”" for part in str(best["value"]).partition(" → "))
    if best["attribute"] == PAIR:
        return f"the way from {start} to {end}"
    return start if best["attribute"] == POLES[0] else f"the opposite of {start}"


def _sentence(reading: str, name: str, rows: pd.DataFrame) -> str:
    said = _name(rows)
    nearest = [str(row["value"]) for row in rows.to_dict("records") if row["attribute"] in POLES and row["value"]]
    if said:
        return f"{_READ[reading]}: the direction “{name}” is {said}."
    if not nearest:
        return f"{_READ[reading]}: nothing can be said of “{name}” ({rows['reason'].iloc[0]})."
    some = " and ".join(f"“{words.isolated(word)}”" for word in nearest)
    return f"{_READ[reading]}: no word of the vocabulary fits “{name}”. The nearest, {some}, are no nearer than chance."


# ---------------------------------------------------------------------------------------------------- figures


def _figures(told: Mapping[tuple[str, Any], pd.DataFrame], ranked: Mapping[str, pd.DataFrame]) -> Iterator[Figure]:
    for i, (reading, name) in enumerate(told):
        rows = _ends(ranked[reading], str(name), _SHOWN)
        if not len(rows):
            continue
        label = f"{_READ[reading]}: the words nearest to both ends of {name}. The lists below hold the numbers."
        wide, narrow = (inline_svg(_chart(rows, width), label) for width in (_WIDE, _NARROW))
        title = f"{_READ[reading]}: words at both ends of “{name}”"
        yield Figure(title, wide, narrow, title if i >= _FIGURES else "")


def _ends(ranked: pd.DataFrame, name: str, most: int) -> pd.DataFrame:
    """The first words at both ends, from the nearest to the furthest; cosines are those with the direction."""
    if not len(ranked):
        return ranked
    own = ranked[(ranked["direction"] == name) & (ranked["rank"] <= most)]
    sign = own["pole"].map({POLES[0]: 1.0, POLES[1]: -1.0})
    low, high = own["low"].where(sign > 0, -own["high"]), own["high"].where(sign > 0, -own["low"])
    turned = own.assign(cosine=own["cosine"] * sign, low=low, high=high)
    return turned.sort_values("cosine", ascending=False, kind="stable").drop_duplicates("word")


def _chart(rows: pd.DataFrame, width: int) -> Any:
    beyond = float(rows["beyond"].iloc[0])
    scale = Scale((-1.0, 1.0), 0.0, beyond, ((-1.0, "opposite"), (0.0, "unrelated"), (1.0, "the same")))
    marks = [
        {
            "target": row["word"],
            "at": round(row["cosine"], 5),
            "low": None if math.isnan(row["low"]) else round(row["low"], 5),
            "high": None if math.isnan(row["high"]) else round(row["high"], 5),
            "look": ("second" if row["cosine"] > 0 else "first") if abs(row["cosine"]) > beyond else "undecided",
            "tip": f"{row['word']}: {_number(row['cosine'])} ({numbers.interval(row['low'], row['high'], 'cosine')})",
            "blank": "",
        }
        for row in rows.to_dict("records")
    ]
    order = [str(word) for word in rows["word"]]
    labels = min(max(60, round(6.8 * max(map(len, order))) + 16), 220 if width == _WIDE else 130)
    return drawn([Column("", marks, scale)], order, Layout(width=width, labels=labels, columns=1))


def _number(cosine: float) -> str:
    return numbers.estimate(cosine, "cosine")


def _listings(told: Mapping[tuple[str, Any], pd.DataFrame], ranked: Mapping[str, pd.DataFrame]) -> Iterator[Listing]:
    """The words at both ends, and below them the best pair."""
    for (reading, name), found in told.items():
        rows = _ends(ranked[reading], str(name), 10)
        if not len(rows):
            continue
        pair = found[found["attribute"] == PAIR].rename(columns={"value": "word", "estimate": "cosine"})
        lines = tuple(
            (
                str(row["word"]),
                _number(row["cosine"]),
                numbers.interval(row["low"], row["high"], "cosine"),
                numbers.probability(row["p"]),
            )
            for row in (*rows.to_dict("records"), *pair.to_dict("records"))
        )
        heading = f"{_READ[reading]}: the words at both ends of “{name}”, and the best pair"
        yield Listing("", ("word", "how alike", "interval", "p"), lines, frozenset({1, 2, 3}), heading)
