"""How far leans move with templates, wordings, seeds and steps: a small table, and what hangs on a choice."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from scalex.report import numbers, views, words
from scalex.report.parts._panel import Listing, Panel, Tables

__all__ = ["NAME", "ORDER", "panel"]

NAME = "sensitivity"
ORDER = 80
_CHOICES = {
    "template": "another template around the concept",
    "wording": "another wording of the values",
    "seeds": "the other half of the seeds",
    "step": "another denoising step",
}
_MOST = 30  # rows listed


def panel(findings: pd.DataFrame, tables: Tables, manifest: Mapping[str, Any]) -> Panel | None:
    """A count of verdicts for every choice, and the leans that depend on one, the furthest first."""
    reading = "picture" if "picture" in set(findings["reading"]) else "text"
    rows = findings[(findings["reading"] == reading) & (findings["verdict"] != "not expressed")]
    if rows.empty:
        return None
    depends = rows[rows["verdict"].str.startswith("depends")]
    return Panel(
        title="Sensitivity",
        heading=_heading(rows, depends),
        paragraphs=(
            "A lean should not hang on how the question is put. Here each choice is varied alone, and the lean is "
            "estimated anew; the numbers say by how much it moves between one setting and the others. "
            "A lean is robust where no setting can move it beyond the balanced margin; undecided means that chance "
            "still reaches that far with these seeds.",
        ),
        listings=tuple(_listings(rows, depends)),
    )


def _heading(rows: pd.DataFrame, depends: pd.DataFrame) -> str:
    if depends.empty:
        return "No lean is shown to hang on template, wording or step"
    named = words.joined([str(t) for t in depends["target"].unique()[:3]])
    number = depends.groupby(["target", "attribute"]).ngroups
    total = rows.groupby(["target", "attribute"]).ngroups
    rest = f", {named} among them" if number > 3 else f": {named}"
    verb, they = ("depends", "it is") if number == 1 else ("depend", "they are")
    return f"{number} of {total} leans {verb} on how {they} asked for{rest}"


def _listings(rows: pd.DataFrame, depends: pd.DataFrame) -> list[Listing]:
    counted = Listing(
        "What is varied, and how many leans it moves",
        ("Choice", "Attribute", "Leans", "Robust", "Depend on it", "Undecided", "Median change", "Largest"),
        tuple(_counts(rows)),
        frozenset(range(2, 8)),
    )
    if depends.empty:
        return [counted]
    furthest = depends.reindex(depends["estimate"].abs().sort_values(ascending=False).index)[:_MOST]
    told = tuple(
        (
            row["target"],
            row["attribute"],
            row["value"],
            numbers.estimate(row["estimate"], row["unit"]),
            numbers.interval(row["low"], row["high"], row["unit"]),
            row["reason"].rpartition("differs: ")[2],
        )
        for row in views.records(furthest)
    )
    columns = ("Concept", "Attribute", "Choice", "Change of lean", "Interval", "Setting that differs most")
    folded = f"The {len(told)} leans that depend most on a choice" if len(told) > 8 else ""
    return [counted, Listing("Leans that depend on a choice", columns, told, frozenset({3}), folded)]


def _counts(rows: pd.DataFrame) -> list[tuple[str, ...]]:
    held = []
    for (choice, attribute), some in rows.groupby(["value", "attribute"], sort=False):
        apart, verdict = some["estimate"].abs(), some["verdict"]
        counts = (len(some), (verdict == "robust").sum(), verdict.str.startswith("depends").sum())
        held.append(
            (
                _CHOICES.get(str(choice), str(choice)),
                str(attribute),
                *(numbers.count(int(n)) for n in counts),
                numbers.count(int((verdict == "undecided").sum())),
                *(f"{x:.2f}" for x in (apart.median(), apart.max())),
            )
        )
    return held
