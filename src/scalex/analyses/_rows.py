"""Rows that say nothing yet, and rows that say *not expressed*."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from scalex import stats
from scalex.records import Finding, Latents, Rules

__all__ = ["blank", "join", "not_expressed", "screened", "unvaried", "with_verdict"]


def blank(analysis: str, latents: Latents, concept: str, attribute: str, unit: str, n_templates: int) -> Finding:
    """A finding without numbers; its reason holds what there is to say of its templates."""
    nan, note, n_seeds = math.nan, stats.template_note(n_templates), latents.n_seeds
    if latents.block > 1:
        note = join(f"seeds by their means over blocks of {latents.block}", note)
    labels = (analysis, latents.reading, concept, attribute, "")
    return Finding(*labels, nan, unit, nan, nan, nan, nan, nan, "", note, n_seeds, n_templates)


def not_expressed(row: Finding, rules: Rules) -> Finding:
    """The row without numbers: where the model hardly tells the variants apart, no lean and no share has a meaning."""
    nan = math.nan
    reason = f"held-out seeds tell the variants apart with AUC {row.separability:.2f}, the floor is {rules.floor:g}"
    return replace(row, estimate=nan, low=nan, high=nan, p=nan, q=nan, verdict="not expressed", reason=reason)


def unvaried(row: Finding) -> Finding:
    """The row without numbers: seeds that all give the same latent are one sample, however many they are."""
    return replace(row, verdict="undecided", reason="the latents do not vary between seeds")


def screened(rows: list[Finding], rules: Rules, varied: bool = True) -> list[Finding]:
    """The rows, without numbers where separability is below the floor or where seeds do not vary."""
    kept = rows if varied else [unvaried(row) for row in rows]
    return [row if row.separability >= rules.floor else not_expressed(row, rules) for row in kept]


def with_verdict(
    row: Finding, rules: Rules, *, values: Sequence[str], neutral: float, towards: str, away: str
) -> Finding:
    """The row with its verdict around a neutral point, once q is known. A row that has a verdict keeps it.

    Args:
        values: of the row's attribute; the more there are, the narrower is what counts as balanced.
    """
    if row.verdict:
        return row
    verdict = stats.decide(
        row.estimate,
        stats.Interval(row.low, row.high),
        row.p,
        row.q,
        neutral=neutral,
        margin=rules.margin_of(len(values)),
        level=rules.level,
        n_seeds=row.n_seeds,
        permutations=rules.permutations,
        towards=towards,
        away=away,
    )
    return replace(row, verdict=verdict.text, reason=join(verdict.reason, row.reason))


def join(*parts: str) -> str:
    """The parts of a reason that are there, in order."""
    return "; ".join(part for part in parts if part)
