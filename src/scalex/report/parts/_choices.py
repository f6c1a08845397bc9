"""What the report says of findings that move with a choice: how the verdicts divide."""

from __future__ import annotations

import pandas as pd

from scalex.analyses._departures import CHOICES
from scalex.report import numbers
from scalex.report.parts._panel import Listing

__all__ = ["WITHOUT", "counted", "plural"]

WITHOUT = ("not expressed", "not comparable")  # verdicts of rows that have no number
_COLUMNS = ("Findings", "Choice", "Robust", "Depend", "Undecided", "Median", "Largest")


def counted(rows: pd.DataFrame, heading: str) -> Listing:
    """How the verdicts divide for each kind of finding (`unit`) and choice (`value`), and how far `estimate` goes."""
    some = rows[~rows["verdict"].isin(WITHOUT)]
    named = [(unit, choice) for unit in some["unit"].unique() for choice in CHOICES]
    each = ((unit, choice, some[(some["unit"] == unit) & (some["value"] == choice)]) for unit, choice in named)
    lines = (_line(unit, choice, own) for unit, choice, own in each if len(own))
    return Listing(heading, _COLUMNS, tuple(lines), frozenset(range(2, 7)))


def plural(unit: str, number: int) -> str:
    """`122 leans` of rows whose unit is "lean difference"."""
    return numbers.plural(number, unit.removesuffix(" difference"))


def _line(unit: str, choice: str, rows: pd.DataFrame) -> tuple[str, ...]:
    apart, verdict = rows["estimate"].abs(), rows["verdict"]
    counts = ((verdict == "robust").sum(), verdict.str.startswith("depends").sum(), (verdict == "undecided").sum())
    return (
        plural(unit, len(rows)),
        choice,
        *(numbers.count(int(n)) for n in counts),
        *(numbers.two_decimals(float(x)) for x in (apart.median(), apart.max())),
    )
