"""How far findings move with templates, wordings, seeds, steps and reference: a small table, a verdict per finding."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from scalex.report import numbers, views, words
from scalex.report.parts._choices import WITHOUT, counted, plural
from scalex.report.parts._panel import Listing, Panel, Tables

__all__ = ["NAME", "ORDER", "panel"]

NAME = "sensitivity"
ORDER = 80
_MOST = 30  # rows listed of those that depend on a choice
_FEW = 8  # of them that are shown unfolded
_ALL = 300  # findings whose verdicts are listed
_FINDING = ["target", "attribute", "unit"]


def panel(findings: pd.DataFrame, tables: Tables, manifest: Mapping[str, Any]) -> Panel | None:
    """A count of verdicts for every choice, the findings that depend on one, and the verdict of each finding."""
    reading = "picture" if "picture" in set(findings["reading"]) else "text"
    rows = findings[findings["reading"] == reading]
    if rows["verdict"].isin(WITHOUT).all():
        return None
    verdicts = _verdicts(rows)
    return Panel(
        title="Sensitivity",
        heading=_heading(verdicts, rows),
        paragraphs=(
            _divided(verdicts),
            "A finding should not hang on how the question is put. Here each choice is varied alone, and the finding "
            "is estimated anew; the changes are those between one setting and the others. A finding "
            "is robust where no setting can move it beyond the balanced margin; undecided means that chance "
            "still reaches that far with these seeds. The two halves of the seeds show how far chance reaches, and "
            "have no part in the verdict. The reference of a lean is the direction that it is measured along: the "
            "concept’s own (whitened, where the audit asks for that), or the one that the other concepts share.",
        ),
        listings=tuple(
            filter(None, (counted(rows, "What is varied, and by how much findings move"), _furthest(rows), _each(rows)))
        ),
    )


def _verdicts(rows: pd.DataFrame) -> pd.Series:
    """By finding: what it depends on, "robust", "undecided", or empty where nothing but seeds was varied."""
    some = rows[~rows["verdict"].isin(WITHOUT)]
    return some.groupby(_FINDING, sort=False)[["value", "verdict"]].apply(_verdict)


def _verdict(rows: pd.DataFrame) -> str:
    asked = rows[rows["value"] != "seeds"]
    depends = asked.loc[asked["verdict"].str.startswith("depends"), "value"]
    if len(depends):
        return f"depends on the {words.joined([str(choice) for choice in depends])}"
    if asked.empty:
        return ""
    return "robust" if (asked["verdict"] == "robust").all() else "undecided"


def _heading(verdicts: pd.Series, rows: pd.DataFrame) -> str:
    depends = verdicts[verdicts.str.startswith("depends")]
    if depends.empty:
        varied = [str(choice) for choice in rows["value"].unique() if choice != "seeds"]
        return f"No finding is shown to hang on {' or '.join(varied)}" if varied else "How far chance still reaches"
    targets = _by_change(rows)["target"].unique()
    named = words.joined([str(t) for t in targets[:3]])
    rest = f", {named} among them" if len(targets) > 3 else f": {named}"
    verb, they = ("depends", "it is") if len(depends) == 1 else ("depend", "they are")
    return f"{len(depends)} of {len(verdicts)} findings {verb} on how {they} asked for{rest}"


def _by_change(rows: pd.DataFrame) -> pd.DataFrame:
    """What depends on a choice, the furthest first."""
    depends = rows[rows["verdict"].str.startswith("depends")]
    return depends.reindex(depends["estimate"].abs().sort_values(ascending=False, kind="stable").index)


def _divided(verdicts: pd.Series) -> str:
    """How the findings of each kind divide."""
    said = []
    for unit, own in verdicts.groupby(level="unit", sort=False):
        robust, depends, undecided = (
            int(own.str.startswith(start).sum()) for start in ("robust", "depends", "undecided")
        )
        said.append(
            f"Of {plural(str(unit), len(own))}, {robust} {'is' if robust == 1 else 'are'} robust whatever is chosen, "
            f"{depends} {'depends' if depends == 1 else 'depend'} on a choice and {undecided} "
            f"{'is' if undecided == 1 else 'are'} undecided."
        )
    return " ".join(said)


def _furthest(rows: pd.DataFrame) -> Listing | None:
    """A table of them; none where there is nothing to list."""
    told = tuple(
        (
            row["target"],
            f"{row['unit'].removesuffix(' difference')}, {row['attribute']}",
            row["value"],
            numbers.estimate(row["estimate"], row["unit"]),
            numbers.interval(row["low"], row["high"], row["unit"]),
            row["reason"].rpartition("differs: ")[2].rpartition(" (")[0],
        )
        for row in views.records(_by_change(rows)[:_MOST])
    )
    columns = ("Concept", "Finding", "Depends on", "Change", "Interval", "Setting that differs most")
    folded = f"The {len(told)} findings that depend most on a choice" if len(told) > _FEW else ""
    return Listing("Findings that depend on a choice", columns, told, frozenset({3}), folded) if told else None


def _each(rows: pd.DataFrame) -> Listing:
    """The verdict of every finding under every choice."""
    wide = rows.pivot_table(index=_FINDING, columns="value", values="verdict", aggfunc="first", sort=False).fillna("–")
    choices = [str(choice) for choice in wide.columns]
    told = tuple(
        (target, f"{unit.removesuffix(' difference')}, {attribute}", *(str(v).partition(" on ")[0] for v in verdicts))
        for (target, attribute, unit), verdicts in zip(wide.index[:_ALL], wide.to_numpy())
    )
    some = f"The first {_ALL} of {len(wide)}" if len(wide) > _ALL else f"All {len(wide)}"
    return Listing("", ("Concept", "Finding", *choices), told, folded=f"{some} findings and their verdicts")
