"""The report of a comparison: what moved between two models, first and with their pictures; then all the rest."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pandas as pd

from scalex.records import Rules
from scalex.report import html, numbers, views, words
from scalex.report import manifest as manifests
from scalex.report.panels import Layout, Panel, Scale, drawn
from scalex.report.parts import Listing
from scalex.report.pictures import Picture, strips
from scalex.report.sections import NARROW, WIDE, Figure, Part, fit
from scalex.report.theme import inline_svg

__all__ = ["headline", "render_comparison", "told"]

Row: TypeAlias = Mapping[str, Any]
Pictures: TypeAlias = Mapping[str, Sequence[Picture]]

_KINDS = {  # reading and unit: the title of its panel, and how a row is named
    ("text", "lean difference"): ("Lean of the words", "lean, by the words"),
    ("picture", "lean difference"): ("Lean of the picture", "lean, by the picture"),
    ("text", "weight difference"): ("Weight in the words", "weight, by the words"),
    ("picture", "weight difference"): ("Weight in the picture", "weight, by the picture"),
    ("picture", "share difference"): ("Share of pictures", "share of pictures"),
}
_MOST = 60  # concepts in a chart, and with their pictures
_MARKUP = 800  # bytes that a strip needs in the page beside its pixels


@dataclass(frozen=True)
class Mover:
    """A concept that moved: its lines (verdict, how it is drawn, numbers), and the names of its strips of pictures."""

    concept: str
    lines: tuple[tuple[str, str, str], ...]
    strips: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Section:
    """What the page says of one attribute."""

    attribute: str
    heading: str
    margin: float
    parts: tuple[Part, ...]
    movers: tuple[Mover, ...]
    figure: Figure
    undecided: Mapping[str, int]


def headline(findings: pd.DataFrame) -> str:
    """The comparison in one sentence: how many concepts moved on what."""
    said: list[str] = []
    for attribute in findings["attribute"].unique():
        held = _by_verdict(findings[findings["attribute"] == attribute])
        moved, total = len(held["moved"]), sum(map(len, held.values()))
        whole = f"{moved or 'none'} of {numbers.plural(total, 'concept')} moved" if not said else f"{moved or 'none'}"
        said.append(f"{whole} on {attribute}")
    return words.capital(words.joined(said)) if said else "Nothing was compared"


def render_comparison(
    findings: pd.DataFrame,
    sides: pd.DataFrame,
    manifest: Mapping[str, Any],
    pictures: tuple[Pictures, Pictures],
    path: Path,
) -> Path:
    """Writes the report of a comparison and returns where it is.

    Args:
        findings: one row a difference, with the columns of `Finding`. sides: for each what either model has (`first`
            and `second`).
        manifest: what was compared: `names`, `attributes`, `templates`, `concepts`, `seeds`, `paired`, `rules`,
            `notes`, `command`, `date`.
        pictures: of both models, by concept.
        path: the file to write.

    Raises:
        ScalexError: it cannot be written.
    """
    frame = views.checked(findings).join(sides[["first", "second"]])
    rules = Rules(**manifest["rules"])
    sections = [
        _section(frame[frame["attribute"] == name], name, tuple(values), rules, pictures)
        for name, values in manifest["attributes"].items()
    ]
    shown = {
        f"{concept} by {side}": held[concept]
        for s in sections
        for concept in (m.concept for m in s.movers)
        for side, held in zip("AB", pictures)
        if concept in held
    }
    page = {
        "headline": headline(frame),
        "sections": sections,
        "manifest": manifest,
        "rules": rules,
        "listing_rows": _listing(frame),
        "listed": manifests.listed(manifest),
        "strips": {},
        **html.assets(),
    }
    template = html.environment().get_template("comparison.html.j2")
    bare = len(template.render(page).encode())
    page["strips"] = strips(shown, html.LARGEST - bare - _MARKUP * (len(shown) + 1))
    return html.write(path, template.render(page))


# ---------------------------------------------------------------------------------------------------- words


def _kind(verdict: str) -> str:
    return next((kind for kind in ("moved", "not expressed") if verdict.startswith(kind)), verdict)


def _by_verdict(rows: pd.DataFrame) -> dict[str, list[str]]:
    """The concepts of one attribute by the most telling of their verdicts, each once."""
    held: dict[str, list[str]] = {"moved": [], "undecided": [], "did not move": [], "not expressed": []}
    for target, verdicts in rows.groupby("target", sort=False)["verdict"]:
        kinds = set(verdicts.map(_kind))
        held[next((kind for kind in held if kind in kinds), "undecided")].append(str(target))
    return held


def _section(
    rows: pd.DataFrame, attribute: str, values: Sequence[str], rules: Rules, pictures: tuple[Pictures, Pictures]
) -> Section:
    held, pair = _by_verdict(rows), values if len(values) == 2 else ()
    moved = sorted(held["moved"], key=lambda target: -_furthest(rows, target))
    name = words.capital(attribute)
    said = f"{words.joined(map(words.isolated, moved[:4]))}" + (f" and {len(moved) - 4} more" if len(moved) > 4 else "")
    return Section(
        attribute,
        f"{name}: {said} moved" if moved else f"{name}: nothing moved beyond doubt",
        rules.margin_of(len(values)),
        tuple(_parts(rows, held, pair)),
        tuple(_mover(rows, target, pair, pictures) for target in moved[:_MOST]),
        _figure(rows, attribute, values, rules, held),
        _needed(rows, held["undecided"]),
    )


def _furthest(rows: pd.DataFrame, target: str) -> float:
    """How far a concept moved, at most."""
    own = rows[(rows["target"] == target) & (rows["verdict"].map(_kind) == "moved")]
    return float(own["estimate"].abs().max())


def _parts(rows: pd.DataFrame, held: Mapping[str, list[str]], pair: Sequence[str]) -> Iterator[Part]:
    """The bar: what moved to the first value at the left, to the second at the right."""
    towards = {"first": 0, "second": 0}
    for target in held["moved"]:
        own = rows[(rows["target"] == target) & (rows["verdict"].map(_kind) == "moved")]
        main = max(views.records(own), key=lambda row: abs(float(row["estimate"])))
        towards[_look(main, pair) if pair else "second"] += 1
    left = [(f"moved towards {pair[0]}", towards["first"], "first")] if pair else []
    right = [(f"moved towards {pair[1]}" if pair else "moved", towards["second"], "second")]
    still = [
        ("did not move", len(held["did not move"]), "balanced"),
        ("undecided", len(held["undecided"]), "undecided"),
        ("not expressed", len(held["not expressed"]), "none"),
    ]
    yield from (Part(name, number, look) for name, number, look in [*left, *still, *right] if number)


def _mover(rows: pd.DataFrame, target: str, pair: Sequence[str], pictures: tuple[Pictures, Pictures]) -> Mover:
    own = views.records(rows[rows["target"] == target])
    lines = [(row["verdict"], _look(row, pair), told(row)) for row in own if pair or _kind(row["verdict"]) == "moved"]
    whole = all(target in held for held in pictures)
    return Mover(target, tuple(lines), tuple((s, f"{target} by {s}") for s in "AB") if whole else ())


def told(row: Row) -> str:
    """A difference in words: `share of pictures of woman from 6% to 91%, a change of +0.85 (+0.74 to +0.93)`.

    Args:
        row: of the findings, with `first` and `second` beside it.
    """
    what = _KINDS[row["reading"], row["unit"]][1]
    value = "" if row["unit"].startswith("lean") else f" of {row['value']}"
    if math.isnan(row["estimate"]):
        return f"{what}{value}: no number"
    unit = row["unit"].removesuffix(" difference")
    a, b = (numbers.estimate(row[side], unit) for side in ("first", "second"))
    return f"{what}{value} from {a} to {b}, a change of {_change(row['estimate'])} ({_span(row)})"


def _change(number: float) -> str:
    """Any difference, of shares too, signed with two decimals."""
    return numbers.estimate(number, "lean")


def _span(row: Row) -> str:
    return numbers.interval(row["low"], row["high"], "lean")


def _needed(rows: pd.DataFrame, targets: Sequence[str]) -> dict[str, int]:
    """About how many more seeds would decide each undecided concept, where the findings say so."""
    found: dict[str, int] = {}
    for row in views.records(rows[rows["target"].isin(targets)]):
        more = words.more_seeds(row["reason"])
        if more is not None:
            found[row["target"]] = max(more, found.get(row["target"], 0))
    return dict(sorted(found.items(), key=lambda item: item[1]))


def _look(row: Row, pair: Sequence[str]) -> str:
    """How a difference is drawn: in the colour of the value that it moved towards."""
    kind = _kind(row["verdict"])
    if kind == "moved":
        return "second" if row["estimate"] > 0 else "first"
    return {"did not move": "balanced", "undecided": "undecided"}.get(kind, "none")


# ---------------------------------------------------------------------------------------------------- chart and table


def _figure(
    rows: pd.DataFrame, attribute: str, values: Sequence[str], rules: Rules, held: Mapping[str, list[str]]
) -> Figure:
    order = _order(rows, held["moved"])
    panels = list(_panels(rows, values, rules))
    label = f"How far each concept moved on {attribute}, with intervals. The table below holds the same numbers."
    made = []
    for total, most in ((WIDE, 5), (NARROW, 1)):
        layout = fit(Layout(order=order), min(len(panels), most), total)
        made.append(inline_svg(drawn(panels, order, layout), label))
    return Figure("From A to B: how far each concept moved", made[0], made[1])


def _order(rows: pd.DataFrame, moved: Sequence[str]) -> list[str]:
    """From the strongest move towards the last value down; of more concepts than fit, what moved and the furthest."""
    main = rows[rows["value"] == rows["value"].iloc[-1]].sort_values("unit", kind="stable")
    estimate = main.dropna(subset="estimate").groupby("target", sort=False)["estimate"].last()
    everyone = list(dict.fromkeys(rows["target"]))
    kept = [*moved, *estimate.abs().sort_values(ascending=False).index, *everyone]
    shown = list(dict.fromkeys(kept))[:_MOST]
    return sorted(shown, key=lambda target: -estimate.get(target, -math.inf))


def _panels(rows: pd.DataFrame, values: Sequence[str], rules: Rules) -> Iterator[Panel]:
    """A panel for each kind of difference; of many values one for each, of their shares where there are any."""
    margin = rules.margin_of(len(values))
    kinds = list(dict.fromkeys((row["reading"], row["unit"]) for row in views.records(rows)))
    for reading, unit in kinds if len(values) == 2 else kinds[-1:]:
        own = rows[(rows["reading"] == reading) & (rows["unit"] == unit)]
        furthest = float(np.nanmax([0.3, *own["estimate"].abs(), 2 * margin])) * 1.1
        scale = Scale((-furthest, furthest), 0.0, margin, _ticks(furthest, values))
        for value in values[1:] if len(values) == 2 else values:
            title = _KINDS[reading, unit][0] + (": " + value if len(values) > 2 or unit.startswith("share") else "")
            yield Panel(title, [_mark(row, values) for row in views.records(own[own["value"] == value])], scale)


def _ticks(furthest: float, values: Sequence[str]) -> tuple[tuple[float, str], ...]:
    end = 0.5 if furthest > 0.5 else 0.2
    first, last = (f"{values[0]} −{end}", f"+{end} {values[1]}") if len(values) == 2 else (f"−{end}", f"+{end}")
    return (-end, first), (0.0, "0"), (end, last)


def _mark(row: Row, values: Sequence[str]) -> dict[str, Any]:
    return {
        "target": row["target"],
        "at": None if math.isnan(row["estimate"]) else round(row["estimate"], 5),
        "low": None if math.isnan(row["low"]) else round(row["low"], 5),
        "high": None if math.isnan(row["high"]) else round(row["high"], 5),
        "look": _look(row, values) if not math.isnan(row["estimate"]) else "none",
        "tip": f"{row['target']}: {told(row)}, {row['verdict']}",
        "blank": row["verdict"] if _kind(row["verdict"]) == "not expressed" else "no number",
    }


def _listing(frame: pd.DataFrame) -> Listing:
    """All differences as a table: what moved first, then by size."""
    first = (frame["verdict"].map(_kind) != "moved").astype(int)
    ranked = frame.assign(rank=first, size=-frame["estimate"].abs()).sort_values(["rank", "size"], kind="stable")
    columns = ("Concept", "Attribute", "What", "A", "B", "Change", "Interval", "q", "Verdict", "Why")
    return Listing("", columns, tuple(_cells(row) for row in views.records(ranked)), frozenset(range(3, 8)))


def _cells(row: Row) -> tuple[str, ...]:
    unit, value = row["unit"].removesuffix(" difference"), row["value"]
    what = _KINDS[row["reading"], row["unit"]][1] + ("" if unit == "lean" else f": {value}")
    had = [numbers.estimate(row[side], unit) for side in ("first", "second")]
    return (
        row["target"], row["attribute"], what, *had, _change(row["estimate"]), _span(row),
        numbers.probability(row["q"]), row["verdict"], words.needed(row["reason"]),
    )  # fmt: skip
