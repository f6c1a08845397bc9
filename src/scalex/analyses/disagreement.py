"""Disagreement: how far the picture goes beyond the words, or the words beyond the picture.

The lean (or weight) by the picture reading minus that by the text reading, of the same concept, seed by seed. Above
zero the pictures show more of the value than the words say.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from scalex import directions, stats
from scalex.analyses._outcome import Scored
from scalex.analyses._planted import Planted, leaning
from scalex.analyses._rows import blank, screened, with_verdict
from scalex.analyses.defaults import (
    Along,
    AlongOf,
    lean_directions,
    lean_scores,
    mixture,
    mixture_intervals,
    mixture_p,
    mixture_scores,
)
from scalex.records import Finding, Latents, Reading, Rules

__all__ = [
    "BY_CONCEPT",
    "NAME",
    "NO_CLAIM",
    "READINGS",
    "Difference",
    "Side",
    "between",
    "compare",
    "conclude",
    "lean_difference",
    "planted",
    "sides_of",
    "weight_differences",
]

NAME = "disagreement"
READINGS: tuple[Reading, ...] = ("text", "picture")
BY_CONCEPT = True
NO_CLAIM = ("readings agree",)


class Side(NamedTuple):
    """One concept as one side gives it: one of two readings, or one of two models. `along` is that of `lean_scores`."""

    neutral: Float[np.ndarray, "templates seeds width"]
    variants: Float[np.ndarray, "values templates seeds width"]
    along: Along = None

    @property
    def lean(self) -> Float[np.ndarray, "templates seeds"]:
        """Scores of the lean, of two values."""
        return lean_scores(self.neutral, self.variants[0], self.variants[1], self.along)


def compare(latents: Mapping[Reading, Latents], attributes: Mapping[str, Sequence[str]], rules: Rules) -> list[Finding]:
    """Picture minus text for every concept and attribute: one row for two values, a row a value for more.

    A concept that either reading does not express has no number; `separability` is that of the worse reading.

    Raises:
        ScalexError: too few seeds or values, or something was not captured.
    """
    first, found = latents["picture"], []
    plan = directions.plan_of(first, rules)
    along = {r: lean_directions(latents[r], rules.lean_direction) for r in READINGS}
    for attribute, values in attributes.items():
        both = (sides_of(latents[r], first.concepts, attribute, values, along[r]) for r in READINGS)
        for concept, words, picture in zip(first.concepts, *both):
            unit = "lean difference" if len(values) == 2 else "weight difference"
            row = replace(blank(NAME, first, concept, attribute, unit, plan.n_templates), reading="both")
            found += _rows(row, values, (words, picture), plan, rules)
    return found


def between(
    first: Mapping[Reading, Latents],
    second: Mapping[Reading, Latents],
    attributes: Mapping[str, Sequence[str]],
    rules: Rules,
) -> Iterator[Scored]:
    """Picture minus text where both models express the value in both readings.

    Raises:
        ScalexError: as for `compare`.
    """
    concepts, held = first["picture"].concepts, [x[r] for x in (first, second) for r in READINGS]
    along = [lean_directions(x, rules.lean_direction) for x in held]
    for attribute, values in attributes.items():
        unit = "lean difference" if len(values) == 2 else "weight difference"
        every = (sides_of(x, concepts, attribute, values, one) for x, one in zip(held, along))
        for concept, *four in zip(concepts, *every):
            a, b = four[:2], four[2:]
            apart = np.min([directions.separability(side.variants) for side in (*a, *b)], axis=0)
            if (apart < rules.floor).all() or not all(directions.varies(side.neutral) for side in (*a, *b)):
                continue
            scores = _beyond(*a), _beyond(*b)
            for v in range(1 if len(values) == 2 else 0, len(values)):
                before, after = (s[..., v] for s in scores)
                if apart[v] >= rules.floor and np.isfinite(before).all() and np.isfinite(after).all():
                    yield Scored(concept, attribute, values[v], unit, before, after, rules.margin_of(len(values)))


def _beyond(words: Side, picture: Side) -> Float[np.ndarray, "templates seeds values"]:
    """Scores of how far the picture goes beyond the words, for each value; a lean is that of the second of two."""
    if len(words.variants) > 2:
        return np.asarray(mixture_scores(*picture[:2]) - mixture_scores(*words[:2]))
    lean = picture.lean - words.lean
    return np.stack([-lean, lean], axis=-1)


def conclude(finding: Finding, attributes: Mapping[str, Sequence[str]], rules: Rules) -> Finding:
    """The finding with its verdict, once q is known: which reading goes further, or that they agree."""
    values, value = attributes[finding.attribute], finding.value
    away = f"picture more {values[0]}" if len(values) == 2 else f"picture less {value}"
    judged = with_verdict(finding, rules, values=values, neutral=0.0, towards=f"picture more {value}", away=away)
    return replace(judged, verdict="readings agree") if judged.verdict == "balanced" else judged


def sides_of(
    latents: Latents, concepts: Sequence[str], attribute: str, values: Sequence[str], along: AlongOf
) -> Iterator[Side]:
    """One side of a difference for each concept in turn: the neutral latents at the last kept step, and the variants'.

    Args:
        concepts: those of the latents, in their order. along: of these latents, by `lean_directions`.
    """
    for concept, one in zip(concepts, along(attribute, values), strict=True):
        neutral = latents.of(concept).astype(np.float64)
        yield Side(neutral, directions.variants_of(latents, concept, attribute, values), one)


def _rows(
    row: Finding, values: Sequence[str], sides: tuple[Side, Side], plan: stats.ResamplingPlan, rules: Rules
) -> list[Finding]:
    apart = np.minimum(*(directions.separability(side.variants) for side in sides))
    named = list(zip(values, apart))[1 if len(values) == 2 else 0 :]
    rows = [replace(row, value=v, separability=float(a)) for v, a in named]
    rows = screened(rows, rules, all(directions.varies(side.neutral) for side in sides))
    if all(r.verdict for r in rows):
        return rows
    before, after = sides
    if len(values) == 2:
        return [_filled(r, lean_difference(before.lean, after.lean, plan, rules)) for r in rows]
    numbers = weight_differences(before, after, plan, rules)
    return [_filled(r, n) for r, n in zip(rows, numbers)]


def _filled(row: Finding, n: Difference) -> Finding:
    if row.verdict:
        return row
    if math.isnan(n.estimate):
        return replace(row, verdict="not expressed", reason="the direction does not tell the variants apart")
    return replace(row, **n._asdict())


class Difference(NamedTuple):
    """A difference with its interval, and the p that there is none."""

    estimate: float
    low: float
    high: float
    p: float


def lean_difference(
    before: Float[np.ndarray, "templates seeds"],
    after: Float[np.ndarray, "templates seeds"],
    plan: stats.ResamplingPlan,
    rules: Rules,
) -> Difference:
    """The second side's lean minus the first's by their scores, seed by seed: both have the plan's seeds."""
    beyond = after - before
    low, high = stats.bootstrap_interval(plan, beyond, rules.level)
    p = math.nan if math.isnan(low) else stats.mean_p(plan, beyond)
    return Difference(float(beyond.mean()), low, high, p)


def weight_differences(first: Side, second: Side, plan: stats.ResamplingPlan, rules: Rules) -> Iterator[Difference]:
    """The second side's weights minus the first's. Both are resampled by the same seeds, so that what they share
    cancels."""
    before, after = (mixture(side.neutral, side.variants, plan) for side in (first, second))
    estimate = after.weights - before.weights
    beyond = after.scores - before.scores
    low, high = np.clip(mixture_intervals(after.draws - before.draws, beyond, plan, rules.level), -1, 1)
    low, high, p = np.minimum(low, estimate), np.maximum(high, estimate), mixture_p(estimate, beyond, plan)
    yield from (Difference(*map(float, row)) for row in zip(estimate, low, high, p))


def planted(rng: np.random.Generator) -> Planted:
    """Concepts that lean to either side, and to none."""
    return leaning(rng, READINGS, {"pilot": "picture more man", "nurse": "picture more woman"}, apart=True)
