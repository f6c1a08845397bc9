"""What a part of the report is made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

import pandas as pd

from scalex.report.sections import Figure

__all__ = ["Listing", "Panel", "Tables"]

Tables: TypeAlias = Mapping[tuple[str, str], pd.DataFrame]
"""An analysis' tables by reading and name."""


@dataclass(frozen=True)
class Listing:
    """A small table: heading, names of columns, rows of text. `numeric` are the columns that align as numbers.

    `folded` is the summary of a closed details element that holds it; empty where it is shown.
    """

    heading: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    numeric: frozenset[int] = frozenset()
    folded: str = ""


@dataclass(frozen=True)
class Panel:
    """A section of the page: what was found, in words, figures and tables. `title` is its name in the contents."""

    title: str
    heading: str
    paragraphs: tuple[str, ...] = ()
    figures: tuple[Figure, ...] = ()
    listings: tuple[Listing, ...] = ()
    notes: tuple[str, ...] = ()
