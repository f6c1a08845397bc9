"""What moved beyond leans, weights and shares: every other number that the analyses found in both of two runs.

An analysis that offers `between` is compared by the scores behind its numbers, seed by seed where both runs have the
same seeds. The findings of any other are matched by name, and both intervals joined (see `joined`): as if nothing that
chance does to the one were in the other, so that shared seeds only make it cautious.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import pandas as pd
from scipy import stats as distributions

from scalex import analyses, stats
from scalex.analyses import Scored
from scalex.analyses._rows import join
from scalex.analyses.disagreement import Difference
from scalex.differences import MOVED, NAME, NO_CHANGE, STAYED, Pairing, independent, joined, pairing_of, same
from scalex.errors import ScalexError
from scalex.records import READINGS, ROLES, Finding, Latents, Prompt, Reading, Readings, Role, Rules

__all__ = ["Held", "Matched", "compare_findings"]

_DONE = ("defaults", "rates")  # leans, weights and shares: see `differences`
_KEY = ["reading", "target", "attribute", "value", "unit"]
_MATCHED = "from both intervals, not paired"


@dataclass(frozen=True)
class Held:
    """One of two runs.

    Attributes:
        findings: its table, without rows where it was not analysed. tables: what its analyses left beside it, by name.
        prompts: all that it asked.
        latents: of what both asked, in the same order in both, by reading.
    """

    findings: pd.DataFrame
    tables: Mapping[str, pd.DataFrame]
    prompts: Sequence[Prompt]
    latents: Mapping[Reading, Latents]


_Ends: TypeAlias = tuple[float, float, float]  # low, estimate, high


class Matched(NamedTuple):
    """Differences (the analysis is "compare NAME"); what either run has and the margin, in the same order; notes."""

    findings: list[Finding]
    sides: pd.DataFrame
    notes: list[str]


class _Row(NamedTuple):
    finding: Finding
    first: float
    second: float
    margin: float


def compare_findings(
    first: Held, second: Held, attributes: Mapping[str, Sequence[str]], rules: Rules, alike: Callable[[Prompt], bool]
) -> Matched:
    """Every number beyond leans, weights and shares that both runs found, the second's less the first's.

    The family of a correction is one analysis in one reading. A verdict that changed is no movement by itself.

    Args:
        attributes: that both were asked, in the same words.
        alike: whether a prompt is of a kind that both must have asked, so that their numbers mean the same.

    Returns:
        Corrected and concluded differences, and a note on all that both found and that is not compared.
    """
    rows: list[_Row] = []
    notes: list[str] = []
    for name in _names(first, second, notes):
        try:
            rows += _corrected(list(_compared(name, first, second, attributes, rules, alike, notes)))
        except ScalexError as error:
            notes.append(f"The findings of {name} are not compared: {error.wrong}.")
    found = [_concluded(row, attributes.get(row.finding.attribute, ()), rules) for row in rows]
    sides = pd.DataFrame([row[1:] for row in rows], columns=["first", "second", "margin"], dtype=np.float64)
    return Matched(found, sides, notes)


def _names(first: Held, second: Held, notes: list[str]) -> list[str]:
    """The analyses that both runs hold findings of."""
    held = [list(dict.fromkeys(run.findings["analysis"])) for run in (first, second)]
    for side, own, other in zip("AB", held, reversed(held)):
        if alone := [name for name in own if name not in other and name not in _DONE]:
            notes.append(f"Only {side} holds findings of {', '.join(alone)}, so that these are not compared.")
    return [name for name in held[0] if name in held[1] and name not in _DONE]


def _compared(
    name: str,
    first: Held,
    second: Held,
    attributes: Mapping[str, Sequence[str]],
    rules: Rules,
    alike: Callable[[Prompt], bool],
    notes: list[str],
) -> Iterator[_Row]:
    """The rows of one analysis, by its scores or by its findings."""
    analysis = analyses.available().get(name)
    if likened := getattr(analysis, "likened", None):
        notes += likened(first.tables, second.tables)
    if why := getattr(analysis, "APART", ""):
        raise ScalexError(why)
    roles = analyses.roles([name]) if analysis else ROLES
    scored = isinstance(analysis, analyses.Between)
    if wrong := _otherwise(first.prompts, second.prompts, roles, alike if scored else None):
        raise ScalexError(wrong)
    if not isinstance(analysis, analyses.Between):
        yield from _by_interval(name, first, second, rules, notes)
        return
    own = [
        {r: _of_roles(x, roles) for r, x in run.latents.items() if r in analysis.READINGS} for run in (first, second)
    ]
    if isinstance(analysis, analyses.Comparison):
        pairing = pairing_of(*(next(iter(x.values())) for x in own), rules)
        for scored in analysis.between(*own, attributes, rules) if len(own[0]) == len(analysis.READINGS) else ():
            yield _by_score(name, "both", scored, pairing)
        return
    for reading in (r for r in READINGS if r in own[0]):
        a, b = (x[reading] for x in own)
        pairing = pairing_of(a, b, rules)
        yield from (_by_score(name, reading, scored, pairing) for scored in analysis.between(a, b, attributes, rules))


def _of_roles(latents: Latents, roles: Sequence[Role]) -> Latents:
    """Only the prompts that an analysis takes."""
    rows = [i for i, p in enumerate(latents.prompts) if p.role in roles]
    texts = None if latents.embeddings is None else latents.embeddings[rows]
    kept = tuple(latents.prompts[i] for i in rows)
    return replace(latents, values=latents.values[rows], prompts=kept, embeddings=texts)


def _otherwise(
    first: Sequence[Prompt], second: Sequence[Prompt], roles: Sequence[Role], alike: Callable[[Prompt], bool] | None
) -> str:
    """What the two runs asked otherwise of what an analysis takes; empty where that is nothing.

    Scores are taken of what both asked, so that only what all of them rest on must be the same: `alike` says what is.
    """
    names = {"concept": "concepts", "wording": "wordings", "reference": "references", "identity": "identities"}
    wanted = alike or (lambda _: True)
    for role in roles:
        asked = [{p for p in prompts if p.role == role and wanted(p)} for prompts in (first, second)]
        if asked[0] != asked[1]:
            return f"the two runs were asked with other {names.get(role, 'words of a vocabulary')}"
    return ""


# ---------------------------------------------------------------------------------------------------- by scores


def _by_score(name: str, reading: Readings, scored: Scored, pairing: Pairing) -> _Row:
    before, after = scored.first, scored.second
    had = float(before.mean()), float(after.mean())
    if pairing.paired and same(before, after):
        apart = NO_CHANGE
    elif pairing.paired:
        low, high = stats.bootstrap_interval(pairing.first, after - before, pairing.rules.level)
        p = math.nan if math.isnan(low) else stats.mean_p(pairing.first, after - before)
        apart = Difference(had[1] - had[0], low, high, p)
    else:
        apart = independent(before, after, had[1] - had[0], pairing)
    n_seeds = pairing.first.n_seeds, pairing.second.n_seeds
    told = "" if pairing.paired else f"{n_seeds[0]} seeds against {n_seeds[1]} others, unpaired"
    reason = join(told, stats.template_note(pairing.first.n_templates))
    labels = (f"{NAME} {name}", reading, scored.target, scored.attribute, scored.value)
    numbers = (apart.estimate, f"{scored.unit} difference", apart.low, apart.high, apart.p)
    row = Finding(*labels, *numbers, math.nan, math.nan, "", reason, min(n_seeds), pairing.first.n_templates)
    return _Row(row, *had, scored.margin)


# ---------------------------------------------------------------------------------------------------- by findings


def _by_interval(name: str, first: Held, second: Held, rules: Rules, notes: list[str]) -> Iterator[_Row]:
    """The findings of both runs that have the same labels, and a number in both."""
    own = [run.findings[run.findings["analysis"] == name] for run in (first, second)]
    pairs = own[0].merge(own[1], on=_KEY, suffixes=("", "_other"))
    known = pairs[["estimate", "low", "high", "estimate_other", "low_other", "high_other"]].notna().all(axis=1)
    rest = max(map(len, own)) - int(known.sum())
    if rest:
        notes.append(f"Not compared, as they lack a counterpart with a number: findings of {name}, {rest}.")
    paired = all(x.seeds == second.latents[r].seeds for r, x in first.latents.items())
    for pair in pairs[known].to_dict("records"):
        before, after = (_ends_of(pair, side) for side in ("", "_other"))
        yield _joined_row(name, pair, before, after, rules, paired and before == after)


def _ends_of(pair: Mapping[Any, Any], side: str) -> _Ends:
    return float(pair["low" + side]), float(pair["estimate" + side]), float(pair["high" + side])


def _joined_row(name: str, pair: Mapping[Any, Any], before: _Ends, after: _Ends, rules: Rules, still: bool) -> _Row:
    """A finding of both runs. `still`: by the same seeds both found the very same."""
    n_seeds = min(int(pair["n_seeds"]), int(pair["n_seeds_other"]))
    n_templates = min(int(pair["n_templates"]), int(pair["n_templates_other"]))
    apart = NO_CHANGE if still else _apart(before, after, n_seeds, rules)
    reading, target, attribute, value = (pair[k] for k in _KEY[:-1])
    labels = (f"{NAME} {name}", reading, target, attribute, value)
    numbers = (apart.estimate, f"{pair['unit']} difference", apart.low, apart.high, apart.p)
    row = Finding(*labels, *numbers, math.nan, math.nan, "", _MATCHED, n_seeds, n_templates)
    return _Row(row, before[1], after[1], math.nan)


def _apart(before: _Ends, after: _Ends, n_seeds: int, rules: Rules) -> Difference:
    apart = after[1] - before[1]
    low, high = joined(before, after, 0.0)
    facing = apart - low if apart > 0 else high - apart
    return Difference(apart, low, high, _joined_p(abs(apart), facing, n_seeds, rules.level))


def _joined_p(apart: float, half: float, n_seeds: int, level: float) -> float:
    """Two-sided p whose interval, of Student's shape, ends at no change: 1 - level where `half` is as wide as that."""
    if half <= 0:
        return 1.0 if apart == 0 else math.nan
    df = max(1, n_seeds - 1)
    return float(2 * distributions.t.sf(apart / half * distributions.t.isf((1 - level) / 2, df), df))


# ---------------------------------------------------------------------------------------------------- verdicts


def _corrected(rows: Sequence[_Row]) -> list[_Row]:
    """The rows with q, by Benjamini-Hochberg over each reading."""
    readings = np.array([row.finding.reading for row in rows])
    p, q = np.array([row.finding.p for row in rows], dtype=np.float64), np.full(len(rows), math.nan)
    for reading in dict.fromkeys(readings.tolist()):
        own = readings == reading
        q[own] = stats.benjamini_hochberg(p[own])
    return [row._replace(finding=replace(row.finding, q=float(x))) for row, x in zip(rows, q)]


def _concluded(row: _Row, values: Sequence[str], rules: Rules) -> Finding:
    """The difference with its verdict: moved, undecided, or, where the analysis has a margin for it, did not move."""
    found, margin = row.finding, 0.0 if math.isnan(row.margin) else row.margin
    if found.low == found.high == 0:
        return replace(found, verdict=STAYED, reason=join("both models give the same in every sample", found.reason))
    if found.estimate == 0 and not margin:  # no number of seeds would decide on no change by no margin
        return replace(found, verdict="undecided", reason=join("no margin says what counts as none", found.reason))
    towards, away = _ways(found.value, values)
    verdict, why = stats.decide(
        found.estimate, stats.Interval(found.low, found.high), found.p, found.q, neutral=0.0, margin=margin,
        level=rules.level, n_seeds=found.n_seeds, permutations=rules.permutations, towards=towards, away=away,
    )  # fmt: skip
    if verdict == "balanced":
        verdict, why = STAYED, f"the interval lies within {margin:g} of no change"
    return replace(found, verdict=verdict, reason=join(why, found.reason))


def _ways(value: str, values: Sequence[str]) -> tuple[str, str]:
    """What is said of a rise and of a fall."""
    if not value:
        return f"{MOVED} up", f"{MOVED} down"
    away = f"{MOVED} towards {values[0]}" if len(values) == 2 else f"{MOVED} away from {value}"
    return f"{MOVED} towards {value}", away
