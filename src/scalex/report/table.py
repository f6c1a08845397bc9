"""The table of all findings: what each column shows, and what it is sorted by."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

import pandas as pd

from scalex.report import numbers, views, words

__all__ = ["COLUMNS", "Cell", "Column", "cells"]

Row: TypeAlias = Mapping[str, Any]


class Cell(NamedTuple):
    """A cell: what is read, the number it is sorted by (empty: by its text), its CSS class, its fields in CSV."""

    text: str
    key: str = ""
    css: str = ""
    csv: str = ""


@dataclass(frozen=True)
class Column:
    """A column: its name, what it means, whether it holds numbers, a row's cell, and the fields in CSV."""

    name: str
    hint: str
    numeric: bool
    cell: Callable[[Row], Cell]
    csv: str = ""


def cells(findings: pd.DataFrame) -> list[list[Cell]]:
    """All rows of the table."""
    return [[column.cell(row) for column in COLUMNS] for row in views.records(findings)]


def _text(name: str) -> Callable[[Row], Cell]:
    return lambda row: Cell(str(row[name]))


def _number(name: str, how: Callable[[float], str]) -> Callable[[Row], Cell]:
    return lambda row: Cell(how(row[name]), _key(row[name]))


def _key(number: float) -> str:
    return "nan" if math.isnan(number) else f"{number:.4g}"


def _estimate(row: Row) -> Cell:
    return Cell(numbers.estimate(row["estimate"], row["unit"]), _key(row["estimate"]))


def _interval(row: Row) -> Cell:
    shown = numbers.interval(row["low"], row["high"], row["unit"])
    return Cell(shown, csv=f"{_key(row['low'])},{_key(row['high'])}".replace("nan", ""))


def _verdict(row: Row) -> Cell:
    return Cell(row["verdict"], css=views.kind(row["verdict"]).replace(" ", "-"))


def _samples(row: Row) -> Cell:
    return Cell(f"{row['n_seeds']:,} × {row['n_templates']}", csv=f"{row['n_seeds']},{row['n_templates']}")


COLUMNS = (
    Column("Concept", "what was asked for", False, _text("target")),
    Column("Attribute", "what was not said", False, _text("attribute")),
    Column(
        "Analysis",
        "defaults: leans or weights; rates: shares of pictures; disagreement: picture minus words",
        False,
        _text("analysis"),
    ),
    Column(
        "Reading",
        "text: what the words say; picture: what the picture shows; both: one against the other",
        False,
        _text("reading"),
    ),
    Column("Value", "the value that the estimate speaks of", False, _text("value")),
    Column("Estimate", "leans go from −½ to +½, shares are in %; of other analyses see their part", True, _estimate),
    Column("Interval", "where the estimate may lie", True, _interval, "low,high"),
    Column(
        "p",
        "of the analysis’ own test, before correction; of leans and shares by sign flips",
        True,
        _number("p", numbers.probability),
    ),
    Column("q", "after Benjamini-Hochberg correction", True, _number("q", numbers.probability)),
    Column(
        "AUC", "how well held-out seeds tell the variants apart", True, _number("separability", numbers.two_decimals)
    ),
    Column("Seeds", "seeds × templates behind the row", True, _samples, "n_seeds,n_templates"),
    Column("Verdict", "after correction", False, _verdict),
    Column(
        "Why", "what the verdict rests on, or what would decide", False, lambda row: Cell(words.needed(row["reason"]))
    ),
)
