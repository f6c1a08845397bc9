"""Sensitivity: how far a lean moves with choices that should not matter, and whether it can be trusted beyond them.

Four choices are varied, where the run holds what that takes: the *template* around the concept, the *wording* of the
values ("female nurse" for "woman nurse"), the *seeds* (two halves of them), and the kept denoising *step*. Under each
setting the lean is estimated anew, with the setting's own direction, as in `defaults`. A row says by how much the
setting that differs most departs from the mean of the others, seed by seed where both have the same seeds.

Its interval and p are corrected for having picked the one that differs most of K settings (Bonferroni 1936: level
1 - (1 - level) / K, K p). *Robust* is an equivalence test, as *balanced* is: all K intervals lie inside the margin.
Halves of the seeds differ by chance alone, so nothing is tested there: the row says how far chance still reaches.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple, TypeAlias

import numpy as np
from jaxtyping import Float
from scipy.stats import ttest_ind

from scalex import directions, stats
from scalex.analyses import _planted
from scalex.analyses._planted import Planted
from scalex.analyses._rows import blank, screened
from scalex.analyses.defaults import lean_scores
from scalex.records import Finding, Latents, Reading, Role, Rules

__all__ = ["APART", "CHOICES", "NAME", "READINGS", "ROLES", "analyse", "conclude", "planted", "settings"]

NAME = "sensitivity"
READINGS: tuple[Reading, ...] = ("text", "picture")
ROLES: tuple[Role, ...] = ("concept", "wording")
APART = "the setting that a lean differs most under may be another one in each"
CHOICES = {"template": "template", "wording": "wording", "seeds": "half of the seeds", "step": "step"}
_UNIT = "lean difference"

Scores: TypeAlias = Float[np.ndarray, "templates seeds"]


def analyse(latents: Latents, attributes: Mapping[str, Sequence[str]], rules: Rules) -> list[Finding]:
    """One row for every concept, attribute of two values and choice that the run varies, before correction.

    `value` names the choice, `estimate` is the lean under the setting that differs most less the mean lean under the
    others. Attributes of more values have no single lean and are left out.

    Raises:
        ScalexError: too few seeds, or something was not captured.
    """
    plan = directions.plan_of(latents, rules)
    found: list[Finding] = []
    for attribute, values in attributes.items():
        if len(values) == 2:
            for concept in latents.concepts:
                found += _rows(latents, concept, attribute, values, plan, rules)
    return found


def conclude(finding: Finding, attributes: Mapping[str, Sequence[str]], rules: Rules) -> Finding:
    """*Robust*, *depends on the ...* or *undecided*, once q is known."""
    if finding.verdict:
        return finding
    margin, setting = rules.margin, finding.reason
    if -margin < finding.low and finding.high < margin:
        return replace(finding, verdict="robust", reason=f"no setting moves the lean by {margin:g}; most: {setting}")
    if finding.value != "seeds" and finding.q <= 1 - rules.level:
        reason = f"q {finding.q:.2g} after correction; differs: {setting}"
        return replace(finding, verdict=f"depends on the {CHOICES[finding.value]}", reason=reason)
    return replace(finding, verdict="undecided", reason=f"more seeds would decide; most: {setting}")


def planted(rng: np.random.Generator) -> Planted:
    """Three concepts whose leans are alike in all templates, but for one that leans to woman in the second alone."""
    even = {c: {"gender": {"man": 0.5, "woman": 0.5}} for c in ("pilot", "farmer", "nurse")}
    moved = {**even, "nurse": {"gender": {"man": 0.1, "woman": 0.9}}}
    null, told = {}, {}
    for reading in READINGS:
        seed = int(rng.integers(2**32))
        null[reading], other = (
            _planted.planted(plan, np.random.default_rng(seed), n_seeds=128, reading=reading, mixed=True)
            for plan in (even, moved)
        )
        here = [(p.concept, p.template, p.value) == ("nurse", "1", "") for p in other.prompts]
        values = np.where(np.array(here)[:, None, None, None], other.values, null[reading].values)
        told[reading] = replace(null[reading], values=values)

    def wrong(found: Sequence[Finding]) -> list[str]:
        wanted = {"nurse": "depends on the template", "pilot": "robust", "farmer": "robust"}
        rows = [f for f in found if f.value == "template"]
        return [f"{f.target}: {f.verdict}" for f in rows if f.verdict != wanted[f.target]]

    def claims(found: Sequence[Finding]) -> int:
        return sum(f.verdict.startswith("depends") for f in found)

    return Planted(told, {"gender": ("man", "woman")}, wrong, null, claims)


# ---------------------------------------------------------------------------------------------------- settings


class _Setting(NamedTuple):
    """The lean under one setting: its name and its scores."""

    name: str
    scores: Scores


def settings(
    latents: Latents, concept: str, attribute: str, values: Sequence[str]
) -> Iterator[tuple[str, list[_Setting]]]:
    """For each choice that these latents vary, the lean's scores under each of its settings.

    Scores are those of `lean_scores`: their mean is the lean, (templates, seeds) or (1, seeds).
    """
    neutral, variants = _at(latents, concept, attribute, values, -1)
    names = _templates(latents, concept)
    if len(names) > 1:
        each = [lean_scores(neutral[[t]], *variants[:, [t]]) for t in range(len(names))]
        yield "template", [_Setting(f"{name!r}", scores) for name, scores in zip(names, each)]
    whole = lean_scores(neutral, *variants)
    other = _worded(latents, concept, attribute, values)
    if other is not None:
        yield "wording", [_Setting("first wording", whole), _Setting("other wording", lean_scores(neutral, *other))]
    yield "seeds", _halves(whole)
    if len(latents.steps) > 1:
        at = [_at(latents, concept, attribute, values, k) for k in range(len(latents.steps))]
        yield "step", [_Setting(f"step {k + 1}", lean_scores(n, *v)) for k, (n, v) in zip(latents.steps, at)]


def _at(
    latents: Latents, concept: str, attribute: str, values: Sequence[str], step: int
) -> tuple[Float[np.ndarray, "templates seeds width"], Float[np.ndarray, "values templates seeds width"]]:
    neutral = latents.of(concept, step=step).astype(np.float64)
    return neutral, directions.variants_of(latents, concept, attribute, values, step)


def _templates(latents: Latents, concept: str) -> list[str]:
    return [p.template for p in latents.prompts if (p.role, p.concept, p.attribute) == ("concept", concept, "")]


def _worded(
    latents: Latents, concept: str, attribute: str, values: Sequence[str]
) -> Float[np.ndarray, "values templates seeds width"] | None:
    """The variants in their other wording; None where that was not captured."""
    told = {p.value for p in latents.prompts if (p.role, p.concept, p.attribute) == ("wording", concept, attribute)}
    if not set(values) <= told:
        return None
    return np.stack([latents.of(concept, attribute, v, role="wording") for v in values]).astype(np.float64)


def _halves(scores: Scores) -> list[_Setting]:
    """Even and odd seeds."""
    even = np.arange(scores.shape[1]) % 2 == 0
    return [_Setting(name, scores[:, one]) for name, one in (("even seeds", even), ("odd seeds", ~even))]


# ---------------------------------------------------------------------------------------------------- rows


class _Departure(NamedTuple):
    """How far one setting departs from the mean of the others."""

    name: str
    estimate: float
    low: float
    high: float
    p: float


def _rows(
    latents: Latents,
    concept: str,
    attribute: str,
    values: Sequence[str],
    plan: stats.ResamplingPlan,
    rules: Rules,
) -> list[Finding]:
    neutral, variants = _at(latents, concept, attribute, values, -1)
    row = blank(NAME, latents, concept, attribute, _UNIT, neutral.shape[0])
    row = replace(row, separability=float(directions.separability(variants)[0]), reason="")
    [row] = screened([row], rules, directions.varies(neutral))
    varied = list(settings(latents, concept, attribute, values)) if not row.verdict else []
    if row.verdict:
        return [replace(row, value=choice) for choice in _held(latents, concept, attribute, values)]
    return [_row(replace(row, value=choice), held, plan, rules) for choice, held in varied]


def _held(latents: Latents, concept: str, attribute: str, values: Sequence[str]) -> list[str]:
    """The choices that these latents vary, without any estimate."""
    there = {
        "template": latents.n_templates > 1,
        "wording": _worded(latents, concept, attribute, values) is not None,
        "seeds": True,
        "step": len(latents.steps) > 1,
    }
    return [choice for choice in CHOICES if there[choice]]


def _row(row: Finding, held: list[_Setting], plan: stats.ResamplingPlan, rules: Rules) -> Finding:
    if not all(np.isfinite(s.scores).all() for s in held):
        return replace(row, verdict="not expressed", reason="under a setting the variants are not told apart")
    if row.value != "seeds" and all(np.array_equal(s.scores, held[0].scores) for s in held[1:]):
        return replace(row, verdict="undecided", reason="all settings gave the same latents: they read the same")
    found = _between_halves(held, rules) if row.value == "seeds" else _departures(held, plan, rules)
    most = min(found, key=lambda d: (0.0 if math.isnan(d.p) else d.p, -abs(d.estimate)))
    low, high = min(d.low for d in found), max(d.high for d in found)
    alone = most.low <= -rules.margin or rules.margin <= most.high
    ends = (most.low, most.high) if alone else (low, high)  # robust is what all settings together leave inside
    setting = f"{most.name} ({most.estimate:+.2f})"
    return replace(row, estimate=most.estimate, low=ends[0], high=ends[1], p=most.p, reason=setting)


def _departures(held: list[_Setting], plan: stats.ResamplingPlan, rules: Rules) -> list[_Departure]:
    """Of each setting from the mean of the others; of two settings the second from the first."""
    k = len(held)
    by_seed = np.stack([s.scores.mean(0) for s in held])
    one_template = replace(plan, template_counts=np.ones((len(plan.seed_counts), 1), np.int32))
    level = 1 - (1 - rules.level) / k if k > 2 else rules.level
    found = []
    for i in range(k) if k > 2 else (1,):
        scores = (by_seed[i] - np.delete(by_seed, i, axis=0).mean(0))[None]
        low, high = stats.bootstrap_interval(one_template, scores, level)
        p = 1.0 if math.isnan(low) else min(1.0, stats.sign_flip_p(one_template, scores) * (k if k > 2 else 1))
        middle = float(scores.mean())
        ends = (middle, middle) if math.isnan(low) else (low, high)
        found.append(_Departure(held[i].name, middle, *ends, p))
    return found


def _between_halves(held: list[_Setting], rules: Rules) -> list[_Departure]:
    """Of the odd seeds from the even ones, with Welch's interval, since they share no seed."""
    even, odd = (s.scores.mean(0) for s in held)
    middle = float(odd.mean() - even.mean())
    if max(np.ptp(odd), np.ptp(even)) <= 1e-9 * max(np.abs(odd).max(), np.abs(even).max()):
        return [_Departure(held[1].name, middle, middle, middle, math.nan)]
    low, high = ttest_ind(odd, even, equal_var=False).confidence_interval(rules.level)
    return [_Departure(held[1].name, middle, float(low), float(high), math.nan)]
