"""What the report shows of associations: what a model thinks of that nobody asked, as a sentence, charts and a list."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt
import pandas as pd

from scalex.analyses.associations import GOES_WITH, NAME, STANDS_OUT
from scalex.report import numbers, views, words
from scalex.report import panels as rows_of
from scalex.report.parts._panel import Listing, Panel, Tables
from scalex.report.sections import Figure
from scalex.report.theme import LIGHT, inline_svg, styled

__all__ = ["NAME", "ORDER", "panel"]

ORDER = 30
_MOST = 40  # pairs in the chart
_CLOUD = 600  # dots behind the pairs that stand out
_NAMED = 6  # pairs named in a sentence
_READ = {"picture": words.SHOWS, "text": words.SAYS}


def panel(findings: pd.DataFrame, tables: Tables, manifest: Mapping[str, Any]) -> Panel | None:
    """Which words stand out for which concept; None where no concept could be held against any word."""
    known = findings[findings["value"] != ""]
    if not len(known):
        return None
    held = [r for r in _READ if (known["reading"] == r).any()]
    main = known[known["reading"] == held[0]]
    return Panel(
        title="Associations",
        heading=_heading(main, held[0]),
        paragraphs=tuple(
            filter(None, [_count(findings, main, tables, held[0]), _parting(known, held), _common(tables)])
        ),
        figures=tuple(_figures(known, tables, held)),
        listings=tuple(_listings(known, held)),
        notes=(_MEASURE,),
    )


def _out(rows: pd.DataFrame) -> pd.DataFrame:
    """The pairs that stand out, most surprising first."""
    return rows[rows["verdict"] == STANDS_OUT].sort_values("estimate", ascending=False, kind="stable")


def _pair(row: Any) -> str:
    return f"{words.isolated(row.target)} → {words.isolated(row.value)}"


# ---------------------------------------------------------------------------------------------------- sentences


def _heading(main: pd.DataFrame, reading: str) -> str:
    """The two most surprising pairs of different words. The picture reading knows looks alone, and claims no more."""
    first = _out(main).drop_duplicates("target").drop_duplicates("value").head(2)
    said = [(words.isolated(t), words.isolated(v)) for t, v in zip(first["target"], first["value"])]
    if not said:
        return f"No word stands out for any of {numbers.plural(main['target'].nunique(), 'concept')}"
    if reading == "picture":
        parts = [f"of “{t}” come near “{v}”" for t, v in said[:1]] + [f"of “{t}”, near “{v}”" for t, v in said[1:]]
        return f"Pictures {'; '.join(parts)}"
    parts = [f"for “{t}”, it thinks of “{v}”" for t, v in said[:1]] + [f"for “{t}”, of “{v}”" for t, v in said[1:]]
    return f"Asked {'; '.join(parts)}"


def _count(findings: pd.DataFrame, main: pd.DataFrame, tables: Tables, reading: str) -> str:
    """How many concepts bring a word to mind, out of how many, and how many pairs that was."""
    asked = findings.loc[findings["reading"] == reading, "target"].nunique()
    out = _out(main)["target"].nunique()
    tests = tables.get((reading, "tests"))
    of = "" if tests is None else f", of {numbers.count(int(tests['words'][0]))} that nobody asked for by name"
    over = (
        ""
        if tests is None
        else f" All {numbers.count(int(tests['pairs'][0]))} pairs were tested and corrected together."
    )
    unread = asked - main["target"].nunique()
    left = f" {numbers.plural(unread, 'concept')} could not be read: their row below says why." if unread else ""
    way = "come{} near a word" if reading == "picture" else "bring{} a word to mind"
    bring = f"{numbers.count(out)} of {numbers.plural(asked, 'concept')} {way.format('s' if out == 1 else '')}"
    return f"{_READ[reading]}: {bring}{of}, beyond what the likeness of the texts explains.{over}{left}"


def _parting(known: pd.DataFrame, held: Sequence[str]) -> str:
    """Which associations only one reading has."""
    if len(held) < 2:
        return ""
    pairs = {
        r: {(row.target, row.value): _pair(row) for row in _out(known[known["reading"] == r]).itertuples()}
        for r in held
    }
    shown, told = (pairs[r] for r in ("picture", "text"))
    head = f"Words and pictures share {numbers.plural(len(shown.keys() & told.keys()), 'association')}."
    said = [
        f"Only {where}: {_some([label for pair, label in one.items() if pair not in other])}."
        for where, one, other in (("the pictures have", shown, told), ("the words have", told, shown))
        if one.keys() - other.keys()
    ]
    return " ".join([head, *said]) if shown or told else ""


def _common(tables: Tables) -> str:
    """What all concepts have in common, which no single one can stand out for."""
    said = []
    for reading, where in (("picture", "the pictures"), ("text", "the words")):
        shared = tables.get((reading, "shared"), pd.DataFrame({"word": []}))
        named = [f"“{words.isolated(word)}”" for word in shared["word"][:3]]
        said += [f"in {where} it is nearest to {words.joined(named)}"] if named else []
    return f"What all concepts have in common was taken away from each first: {words.joined(said)}." if said else ""


def _some(labels: Sequence[str]) -> str:
    rest = len(labels) - _NAMED
    return words.joined([*labels[:_NAMED], f"{rest} more"] if rest > 0 else labels)


_MEASURE = (
    "Alignment is how far a concept’s and a word’s latents point the same way, counted from the mean of all words and "
    "with noise taken out: 0 for unrelated, 1 for the same. Surprise is the part of it that pairs of equally similar "
    "texts do not have. A word stands out where that is beyond how words usually scatter around a concept, which is a "
    "claim on this vocabulary: what is not in it cannot be found. One that is near a stronger word goes with it, "
    "and is not counted. In pictures nearness is one of looks: around 0.5, a round face may come near a round ball; "
    "near 1, the one is drawn as the other. Pairs are shown for being the largest, and their intervals are widened for "
    "that."
)


# ---------------------------------------------------------------------------------------------------- charts


def _figures(known: pd.DataFrame, tables: Tables, held: Sequence[str]) -> list[Figure]:
    order = _ordered(known, held)
    made = []
    if order:
        label = "Surprise of each pair that stands out, with intervals. The table below holds the same numbers."
        wide, narrow = (inline_svg(_dots(known, held, order, size), label) for size in ("wide", "narrow"))
        made.append(Figure("Which word each concept comes near, most surprising first", wide, narrow))
    if (held[0], "pairs") in tables:
        main = known[known["reading"] == held[0]]
        label = "Alignment of pairs against the similarity of their texts; those that stand out are named."
        wide, narrow = (inline_svg(_scatter(main, tables, held[0], *size), label) for size in ((620, 430), (270, 300)))
        made.append(Figure(f"{_READ[held[0]]} against what the texts alone would explain", wide, narrow))
    return made


def _ordered(known: pd.DataFrame, held: Sequence[str]) -> list[str]:
    """The pairs that stand out in any reading, the main one's first."""
    labels = [_pair(row) for r in held for row in _out(known[known["reading"] == r]).itertuples()]
    return list(dict.fromkeys(labels))[:_MOST]


def _dots(known: pd.DataFrame, held: Sequence[str], order: Sequence[str], size: str) -> alt.ChartType:
    top = max(1.0, float(known["estimate"].max())) + 0.05
    scale = rows_of.Scale((-0.25, top), 0.0, 0.0, ((0.0, "0"), (0.5, "0.5"), (1.0, "1")))
    made = [rows_of.Panel(_READ[r], _rows(known[known["reading"] == r], order), scale) for r in held]
    layout = (
        rows_of.Layout(width=(1032 - 250) // len(held) - 22, labels=250, columns=len(held), step=22)
        if size == "wide"
        else rows_of.Layout(width=140, labels=205, columns=1)
    )
    return rows_of.drawn(made, order, layout)


def _rows(rows: pd.DataFrame, order: Sequence[str]) -> list[dict[str, Any]]:
    """A row a pair; one that this reading did not bring up has no dot."""
    found = {_pair(row): row for row in rows.itertuples()}
    return [_mark(found[label], label) if label in found else _absent(label) for label in order]


def _mark(row: Any, label: str) -> dict[str, Any]:
    look = "second" if row.verdict == STANDS_OUT else "undecided"
    span = numbers.interval(row.low, row.high, row.unit)
    tip = f"{label}: surprise {numbers.estimate(row.estimate, row.unit)} ({span}), {row.verdict}"
    low, high = (None if math.isnan(x) else round(x, 4) for x in (row.low, row.high))
    found = {"at": round(row.estimate, 4), "low": low, "high": high, "look": look, "tip": tip}
    return {"target": label, "blank": "", **found}


def _absent(label: str) -> dict[str, Any]:
    tip = f"{label}: not among the words that stand out here"
    return {"target": label, "at": None, "look": "none", "tip": tip, "blank": "does not stand out"}


def _scatter(main: pd.DataFrame, tables: Tables, reading: str, width: int, height: int) -> alt.ChartType:
    """All pairs as a cloud, the curve of what is usual, and the pairs that stand out by name."""
    ranking, cloud = tables[reading, "ranking"], tables[reading, "pairs"]
    out = _out(main)[["target", "value"]].merge(ranking, left_on=["target", "value"], right_on=["target", "word"])
    tips = [_pair(row) for row in out.itertuples()]
    out = out.assign(x=out["text similarity"], y=out["alignment"].clip(-1, 1), tip=tips)
    every = pd.concat([out["x"], cloud["text similarity"]])
    across = (math.floor(10 * every.min() - 1) / 10, math.ceil(10 * every.max() + 1) / 10)
    out = out.assign(**_labelled(out, across, width, height))
    some = cloud.iloc[:: max(1, -(-len(cloud) // _CLOUD))]
    data = {
        "cloud": views.records(some.clip(-1, 1).round(3).set_axis(["x", "y"], axis=1)),
        "usual": views.records(tables[reading, "usual"].round(4).set_axis(["x", "y"], axis=1)),
        "out": views.records(out[["x", "y", "tip", "name", "left"]].round(4)),
    }
    return styled(_layers(across, width).properties(width=width, height=height), data)


def _layers(across: tuple[float, float], width: int) -> alt.ChartType:
    grid: dict[str, Any] = {"grid": True, "labelFlush": True}
    side, up = alt.Scale(domain=list(across), nice=False), alt.Scale(domain=[-1, 1.05], nice=False)
    x = alt.X("x:Q", scale=side, axis=alt.Axis(title="How similar the texts are", tickCount=5, **grid))
    said = alt.Axis(title="How aligned they are inside the model", values=[-1, -0.5, 0, 0.5, 1], **grid)
    y = alt.Y("y:Q", scale=up, axis=said)
    cloud = alt.Chart(alt.NamedData("cloud")).mark_circle(size=9, color=LIGHT["unsure"], opacity=0.45, aria=False)
    usual = alt.Chart(alt.NamedData("usual")).mark_line(color=LIGHT["ink"], strokeWidth=1.5, aria=False)
    base = alt.Chart(alt.NamedData("out"))
    dots = base.mark_circle(size=62, color=LIGHT["second"], opacity=1).encode(description="tip:N", tooltip="tip:N")
    style: dict[str, Any] = {"fontSize": 12, "color": LIGHT["ink"], "aria": False, "limit": width / 2}
    left = base.transform_filter("datum.left").mark_text(**style, align="right", dx=-8).encode(text="name:N")
    right = base.transform_filter("!datum.left").mark_text(**style, align="left", dx=8).encode(text="name:N")
    return alt.layer(*(layer.encode(x=x, y=y) for layer in (cloud, usual, dots, left, right)))


def _labelled(out: pd.DataFrame, across: tuple[float, float], width: int, height: int) -> dict[str, list[Any]]:
    """Names of the pairs that have room for one beside their dot, over no other dot and no other name."""
    wide = (out["x"] - across[0]) / (across[1] - across[0]) * width
    boxes = [(x - 5, x + 5, y) for x, y in zip(wide, out["y"] * height / 2.05)]  # from, to, height
    names, lefts = [""] * len(out), [False] * len(out)
    for i, label in enumerate(out["tip"]):
        start, end, up = boxes[i]
        length = min(6.8 * len(label), width / 2)
        for left, (low, high) in ((False, (end + 2, end + length)), (True, (start - length, start - 2))):
            clear = all(high < a or low > b or abs(up - h) > 11 for a, b, h in boxes)
            if not names[i] and clear and low > 0 and high < width:
                names[i], lefts[i] = label, left
                boxes.append((low, high, up))
    return {"name": names, "left": lefts}


# ---------------------------------------------------------------------------------------------------- tables


def _listings(known: pd.DataFrame, held: Sequence[str]) -> list[Listing]:
    made = []
    for reading in held:
        rows = known[known["reading"] == reading]
        near, out = rows[rows["verdict"].str.startswith(GOES_WITH)], _out(rows)
        rest = rows[~rows["target"].isin(out["target"])].drop_duplicates("target")
        pairs = [(*_cells(row), _near(near, row)) for row in out.itertuples()]
        others = [(*_cells(row), str(row.verdict)) for row in rest.itertuples()]
        none = numbers.plural(len(others), "concept")
        made += [
            _listing(pairs, "comes near", "also near that", f"{_READ[reading]}: every pair that stands out"),
            _listing(others, "nearest", "verdict", f"{_READ[reading]}: {none} without a word that stands out"),
        ]
    return [listing for listing in made if listing.rows]


def _listing(rows: Sequence[tuple[str, ...]], word: str, last: str, folded: str) -> Listing:
    columns = ("concept", word, "surprise", "interval", "q", last)
    return Listing("", columns, tuple(rows), frozenset({2, 3, 4}), folded=folded)


def _cells(row: Any) -> tuple[str, ...]:
    number = numbers.estimate(row.estimate, row.unit)
    return row.target, row.value, number, numbers.interval(row.low, row.high, row.unit), numbers.probability(row.q)


def _near(near: pd.DataFrame, row: Any) -> str:
    own = near[(near["target"] == row.target) & (near["verdict"] == f"{GOES_WITH}{row.value}")]
    return ", ".join(map(str, own["value"]))
