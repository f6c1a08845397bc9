"""What an analysis leaves: findings, tables for what a row cannot hold, and the scores by which models are compared."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float

from scalex.records import Finding

__all__ = ["Outcome", "Scored"]


class Outcome(NamedTuple):
    """Findings, and tables by name: coordinates of a map, links of a tree, whole rankings."""

    findings: list[Finding]
    tables: Mapping[str, pd.DataFrame]


class Scored(NamedTuple):
    """One number as two models have it: scores whose mean it is, and whose spread over seeds is its uncertainty.

    Attributes:
        target, attribute, value, unit: as in the finding that holds the number.
        first, second: the scores of either model; they need not have the same seeds.
        margin: a change that is smaller counts as none; NaN where no change is small enough for that.
    """

    target: str
    attribute: str
    value: str
    unit: str
    first: Float[np.ndarray, "templates first_seeds"]
    second: Float[np.ndarray, "templates second_seeds"]
    margin: float = math.nan
