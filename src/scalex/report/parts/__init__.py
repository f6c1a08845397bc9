"""Parts of the report: an open set. Each module of this folder shows one analysis.

A module offers `NAME` (of the analysis) and `panel(findings, tables, manifest)`, which is given that analysis' findings
and tables (by reading and name) and makes a `Panel`, or None where there is nothing to show. `ORDER` places it: lower
comes first. A part for a new analysis is one new file here; modules whose names begin with an underscore are shared.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator, Mapping
from typing import Any, Protocol, cast, runtime_checkable

import pandas as pd

from scalex.report.parts._panel import Listing, Panel, Tables

__all__ = ["Listing", "Panel", "Part", "Tables", "panels"]


@runtime_checkable
class Part(Protocol):
    """What every module of the set offers."""

    NAME: str
    ORDER: int

    def panel(self, findings: pd.DataFrame, tables: Tables, manifest: Mapping[str, Any]) -> Panel | None:
        """What the page shows of the analysis."""


def panels(
    findings: pd.DataFrame, tables: Mapping[str, pd.DataFrame], manifest: Mapping[str, Any]
) -> list[tuple[str, Panel]]:
    """The panels of all analyses that have something to show, with the analysis' name, in the order of the page."""
    made = []
    for part in sorted(_members(), key=lambda part: (part.ORDER, part.NAME)):
        rows = findings[findings["analysis"] == part.NAME].reset_index(drop=True)
        panel = part.panel(rows, _own(tables, part.NAME), manifest) if len(rows) else None
        if panel is not None:
            made.append((part.NAME, panel))
    return made


def _members() -> Iterator[Part]:
    for module in pkgutil.iter_modules(__path__):
        if not module.name.startswith("_"):
            yield cast(Part, importlib.import_module(f"{__name__}.{module.name}"))


def _own(tables: Mapping[str, pd.DataFrame], name: str) -> dict[tuple[str, str], pd.DataFrame]:
    """One analysis' tables by reading and name."""
    split = {tuple(key.split("-", 2)): table for key, table in tables.items()}
    return {(parts[1], parts[2]): table for parts, table in split.items() if parts[0] == name and len(parts) == 3}
