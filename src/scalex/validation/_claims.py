"""What of a run's findings is worth trying: the strongest leans, and the two values that each is tried between."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from scalex.errors import ScalexError
from scalex.jobs import Job
from scalex.report import views
from scalex.steering_vectors import pair_of
from scalex.wording import did_you_mean

__all__ = ["claims_of", "strongest"]


def strongest(findings: pd.DataFrame, most: int) -> pd.DataFrame:
    """What is worth trying first: leans of defaults, of the picture reading where there is one, the furthest first.

    Of an attribute with more values than two, the weights that are above parity; one finding a concept and attribute.
    """
    asked = findings[findings["analysis"] == "defaults"]
    parity = 1 / asked.groupby("attribute")["value"].transform("nunique")
    above = (asked["estimate"] - parity).where(asked["unit"] == "weight", asked["estimate"].abs())
    leans = asked.assign(away=above)[asked["verdict"].str.startswith("leans") & (above > 0)]
    if (leans["reading"] == "picture").any():
        leans = leans[leans["reading"] == "picture"]
    ordered = leans.sort_values(["away", "q", "target"], ascending=[False, True, True])
    return ordered.drop_duplicates(["target", "attribute"]).drop(columns="away").head(most).reset_index(drop=True)


def claims_of(
    findings: pd.DataFrame, job: Job, attributes: Sequence[str], concepts: Sequence[str], most: int
) -> list[tuple[str, tuple[str, str], list[str]]]:
    """What to try: attribute, the two values, and the concepts."""
    known = job.spec.attribute_values
    for name in attributes:
        if name not in known:
            raise ScalexError(f"the run has no attribute {name!r}", did_you_mean(name, list(known), "Attributes"))
    chosen = list(attributes) or list(known)
    if not chosen:
        raise ScalexError("the run has no attribute whose values could be pushed to", "Audit with `attributes`")
    if concepts:
        return [(name, pair_of(job, name), list(concepts)) for name in chosen]
    found: dict[tuple[str, tuple[str, str]], list[str]] = {}
    rows = strongest(findings[findings["attribute"].isin(chosen)], most)
    for row in views.records(rows):
        pair = _pair(row, findings, known[row["attribute"]])
        found.setdefault((row["attribute"], pair), []).append(row["target"])
    return [(attribute, pair, some) for (attribute, pair), some in found.items()]


def _pair(row: Mapping[str, Any], findings: pd.DataFrame, values: Sequence[str]) -> tuple[str, str]:
    """The two values that a finding is tried between: of many, from the weightiest other one to its own."""
    if len(values) == 2:
        return values[0], values[1]
    same = (findings["analysis"] == "defaults") & (findings["reading"] == row["reading"])
    same &= (findings["target"] == row["target"]) & (findings["attribute"] == row["attribute"])
    others = findings[same & (findings["value"] != row["value"])].sort_values("estimate", ascending=False)
    return str(others["value"].iloc[0]), str(row["value"])
