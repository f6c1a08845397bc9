"""What an analysis leaves: findings, and tables for what a row of the findings table cannot hold."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import pandas as pd

from scalex.records import Finding

__all__ = ["Outcome"]


class Outcome(NamedTuple):
    """Findings, and tables by name: coordinates of a map, links of a tree, whole rankings."""

    findings: list[Finding]
    tables: Mapping[str, pd.DataFrame]
