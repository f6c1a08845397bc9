"""The report of a comparison: what moved between two models, first and with their pictures; then all the rest."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pandas as pd

from scalex.differences import NAME
from scalex.records import Rules
from scalex.report import html, numbers, views, words
from scalex.report import manifest as manifests
from scalex.report.changes import MOST, Row, beyond, change, kind, look, mark, named, span, told
from scalex.report.panels import Layout, Panel, Scale, drawn
from scalex.report.parts import Listing
from scalex.report.pictures import Picture, strips
from scalex.report.sections import NARROW, WIDE, Figure, Part, fit
from scalex.report.theme import inline_svg

__all__ = ["headline", "render_comparison", "told"]

Pictures: TypeAlias = Mapping[str, Sequence[Picture]]

_TITLES = {  # reading and unit: the title of its panel
    ("text", "lean difference"): "Lean of the words",
    ("picture", "lean difference"): "Lean of the picture",
    ("text", "weight difference"): "Weight in the words",
    ("picture", "weight difference"): "Weight in the picture",
    ("picture", "share difference"): "Share of pictures",
}
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
    findings, others = _split(findings)
    for attribute in findings["attribute"].unique():
        held = _by_verdict(findings[findings["attribute"] == attribute])
        moved, total = len(held["moved"]), sum(map(len, held.values()))
        whole = f"{moved or 'none'} of {numbers.plural(total, 'concept')} moved" if not said else f"{moved or 'none'}"
        said.append(f"{whole} on {attribute}")
    whole = words.capital(words.joined(said)) if said else "Nothing was compared"
    more = int((others["verdict"].map(kind) == "moved").sum())
    return f"{whole}, and {numbers.plural(more, 'other finding')}" if more else whole


def _split(findings: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Leans, weights and shares; and what other analyses found."""
    own = findings["analysis"] == NAME
    return findings[own], findings[~own]


def _analysis(name: str) -> str:
    return name.removeprefix(f"{NAME} ")


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
            and `second`), and `margin`, inside of which a change counts as none.
        manifest: what was compared: `names`, `attributes`, `templates`, `concepts`, `seeds`, `paired`, `rules`,
            `notes`, `command`, `date`.
        pictures: of both models, by concept.
        path: the file to write.

    Raises:
        ScalexError: it cannot be written.
    """
    frame = views.checked(findings).join(sides[["first", "second", "margin"]])
    core, others = _split(frame)
    rules = Rules(**manifest["rules"])
    sections = [
        _section(core[core["attribute"] == name], name, tuple(values), rules, pictures)
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
        "others": [beyond(rows, _analysis(str(name))) for name, rows in others.groupby("analysis", sort=False)],
        "manifest": manifest,
        "rules": rules,
        "along": words.ALONG[rules.lean_direction],
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


def _by_verdict(rows: pd.DataFrame) -> dict[str, list[str]]:
    """The concepts of one attribute by the most telling of their verdicts, each once."""
    held: dict[str, list[str]] = {"moved": [], "undecided": [], "did not move": [], "not expressed": []}
    for target, verdicts in rows.groupby("target", sort=False)["verdict"]:
        kinds = set(verdicts.map(kind))
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
        tuple(_mover(rows, target, pair, pictures) for target in moved[:MOST]),
        _figure(rows, attribute, values, rules, held),
        _needed(rows, held["undecided"]),
    )


def _furthest(rows: pd.DataFrame, target: str) -> float:
    """How far a concept moved, at most."""
    own = rows[(rows["target"] == target) & (rows["verdict"].map(kind) == "moved")]
    return float(own["estimate"].abs().max())


def _parts(rows: pd.DataFrame, held: Mapping[str, list[str]], pair: Sequence[str]) -> Iterator[Part]:
    """The bar: what moved to the first value at the left, to the second at the right."""
    towards = {"first": 0, "second": 0}
    for target in held["moved"]:
        own = rows[(rows["target"] == target) & (rows["verdict"].map(kind) == "moved")]
        main = max(views.records(own), key=lambda row: abs(float(row["estimate"])))
        towards[look(main) if pair else "second"] += 1
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
    lines = [(row["verdict"], look(row), told(row)) for row in own if pair or kind(row["verdict"]) == "moved"]
    whole = all(target in held for held in pictures)
    return Mover(target, tuple(lines), tuple((s, f"{target} by {s}") for s in "AB") if whole else ())


def _needed(rows: pd.DataFrame, targets: Sequence[str]) -> dict[str, int]:
    """About how many more seeds would decide each undecided concept, where the findings say so."""
    found: dict[str, int] = {}
    for row in views.records(rows[rows["target"].isin(targets)]):
        more = words.more_seeds(row["reason"])
        if more is not None:
            found[row["target"]] = max(more, found.get(row["target"], 0))
    return dict(sorted(found.items(), key=lambda item: item[1]))


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
    shown = list(dict.fromkeys(kept))[:MOST]
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
            title = _TITLES[reading, unit] + (": " + value if len(values) > 2 or unit.startswith("share") else "")
            yield Panel(title, [mark(row) for row in views.records(own[own["value"] == value])], scale)


def _ticks(furthest: float, values: Sequence[str]) -> tuple[tuple[float, str], ...]:
    end = 0.5 if furthest > 0.5 else 0.2
    first, last = (f"{values[0]} −{end}", f"+{end} {values[1]}") if len(values) == 2 else (f"−{end}", f"+{end}")
    return (-end, first), (0.0, "0"), (end, last)


def _listing(frame: pd.DataFrame) -> Listing:
    """All differences as a table: what moved first, then by size."""
    first = (frame["verdict"].map(kind) != "moved").astype(int)
    ranked = frame.assign(rank=first, size=-frame["estimate"].abs()).sort_values(["rank", "size"], kind="stable")
    columns = ("Concept", "Attribute", "What", "A", "B", "Change", "Interval", "q", "Verdict", "Why")
    return Listing("", columns, tuple(_cells(row) for row in views.records(ranked)), frozenset(range(3, 8)))


def _cells(row: Row) -> tuple[str, ...]:
    unit = row["unit"].removesuffix(" difference")
    had = [numbers.estimate(row[side], unit) for side in ("first", "second")]
    return (
        row["target"], row["attribute"], named(row), *had, change(row["estimate"]), span(row),
        numbers.probability(row["q"]), row["verdict"], words.needed(row["reason"]),
    )  # fmt: skip
