"""Descriptors: which way a word takes the neutral prompt, held against the directions of identities.

The concepts of the audit are the descriptors ("bossy person", "nurse"). Identities are the values of every attribute,
as variants of the neutral reference ("man", "woman" of "person"), and those that the spec lists as `identities`. With r
the reference, h the latent, products over different seeds (`directions.pseudo_products`):

    step of a descriptor     x = h(descriptor) - h(r)
    direction of a value     w = h(r with the value) - mean over the attribute's values of h(r with them)
    direction of an identity w = h(identity) - h(r)
    pull                     <x, w'> / <w', w'>
    cosine                   <x, w'> / sqrt(<x, x> <w', w'>)

where w' is what is left of w beside the directions of all other attributes: the pull is the coefficient of a regression
of x on all of them at once (Frisch and Waugh 1933, Econometrica 1: 387-401). Directions need not be at right angles
(on the embedded organism, that to "woman" and that to "dark skin" have a cosine of 0.74 in pictures, and one attribute
alone would take "wealthy" for a word of men, since it draws light skin). What is not asked cannot be held fixed, so
audit attributes together. An attribute that the model does not express is left out of this, and a listed identity is
taken whole, with all that its pictures show.

The pull is an effect size: 0 stays at the reference, 1 goes as far as the identity itself. For two values it is one
number from -1 (the first) to +1 (the second), twice a lean that is counted from the reference; where pictures show one
value or the other, it is twice the change of the second's share. The cosine says how much of all that a word changes
lies along the identity: of two words with the same pull, the one that changes nothing else has the larger. It knows
no amount, so words are ranked and judged by the pull. Both are ratios of U-statistics: the noise that all prompts of a
seed share, and the noise of the directions, neither feign an alignment nor thin one out (Spearman 1904, American
Journal of Psychology 15: 72-101, on the latter), and the scores behind intervals and tests are jackknife
pseudo-values, linearised (Arvesen 1969).

A regression says nothing far beyond its data. A word that changes everything else several times as much as the identity
does ("construction worker" of "person", where pictures of a face become those of a figure) is *not comparable*: what of
its step falls along the identity is no longer that identity. Its own lean says where it stands. On the embedded
organism adjectives step 0.4 to 1.9 times as far as the identities lie apart, roles 4 to 7 times; roles drawn dark were
said to go with light until there was a limit, of 3.

Without a reference (`reference: ""`) descriptors are centred on their own mean, identities on theirs, and the variants
of the descriptors, averaged, stand for those of the reference.

For every group of the built-in vocabulary that the descriptors come from, a row `WEAT d` says whether its words go
further than the others (see `_weat`). (The single word's counterpart, WEFAT, is left out: dividing by the spread of
single samples cancels the amount, and it came out near its bound of 2 for words that hardly move anything.)
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float

from scalex import directions, stats
from scalex.analyses._identities import Axis, axes, origin
from scalex.analyses._outcome import Outcome, Scored
from scalex.analyses._planted import Planted
from scalex.analyses._pull_moves import PullKey, moves
from scalex.analyses._regression import Fit, cosine_scores, fit
from scalex.analyses._rows import blank, join, screened, with_verdict
from scalex.analyses._weat import groups_of, weat, weat_scores
from scalex.records import Finding, Latents, Prompt, Reading, Role, Rules

__all__ = ["NAME", "PULL", "READINGS", "ROLES", "VARIANTS", "WEAT", "between", "conclude", "explore", "planted"]

NAME = "descriptors"
READINGS: tuple[Reading, ...] = ("text", "picture")
ROLES: tuple[Role, ...] = ("concept", "reference", "identity")
VARIANTS: tuple[Role, ...] = ("reference",)
PULL, WEAT = "pull", "WEAT d"
_REACH = 3.0  # a step that is longer than so many lengths of the identity's direction is not comparable
_LOST = "its direction is lost in noise, or all but that of another attribute"
_NOBODY = "there is no identity to hold it against: add `attributes` or `identities`"

Samples = Float[np.ndarray, "templates seeds width"]
Scores = Float[np.ndarray, "templates seeds"]


def explore(latents: Latents, attributes: Mapping[str, Sequence[str]], rules: Rules) -> Outcome:
    """Pulls of all descriptors (one row for two values, else a row a value; a row an identity), and WEAT's d by group.

    The table `effects` has one row per descriptor and identity: `target, attribute, value, pull, cosine, cosine_low,
    cosine_high`. Cosines are NaN where a descriptor cannot be told from the reference. The table `sensitivity` says how
    far each pull moves with template, seeds, step and reference (see `_pull_moves`).

    Raises:
        ScalexError: too few seeds or values, prompts in unequal numbers of templates, or something was not captured.
    """
    plan = directions.plan_of(latents, rules)
    held, cells = _cells(latents, attributes, plan, rules)
    if not held:
        nobody = (_row(latents, name, reason=_NOBODY) for name in latents.concepts)
        return Outcome([replace(row, verdict="undecided") for row in nobody], {})
    groups = groups_of(latents.concepts)
    tested = [row for axis, column in zip(held, cells) for row in _tests(latents, axis, column, groups, plan, rules)]
    everyone = [cell for by_descriptor in zip(*cells) for cell in by_descriptor]
    effects = pd.DataFrame([asdict(cell.effect) for cell in everyone])
    whole = {_key(cell.row): cell.scores for cell in everyone if cell.scores is not None}
    moved = moves(latents, attributes, whole, partial(_pulls, attributes=attributes, rules=rules), plan, rules)
    return Outcome([cell.row for cell in everyone] + tested, {"effects": effects, "sensitivity": moved})


def between(first: Latents, second: Latents, attributes: Mapping[str, Sequence[str]], rules: Rules) -> Iterator[Scored]:
    """Pulls that both models have, and WEAT's d over the words whose pulls both have.

    A change of a pull counts as none inside of the margin of *neither*; a change of d has no margin.

    Raises:
        ScalexError: as for `explore`.
    """
    sides = [_cells(x, attributes, directions.plan_of(x, rules), rules) for x in (first, second)]
    groups = groups_of(first.concepts)
    for axis, *columns in zip(sides[0][0], sides[0][1], sides[1][1]):
        known = [(a.row.target, a.scores, b.scores) for a, b in zip(*columns)]
        pulls = {name: (a, b) for name, a, b in known if a is not None and b is not None}
        for name, (a, b) in pulls.items():
            yield Scored(name, axis.attribute, axis.value, PULL, a, b, rules.margin_of(1))
        for group, members in groups.items() if pulls else ():
            inside = np.array([name in members for name in pulls], dtype=bool)
            d = [weat_scores(np.array(side), inside) for side in zip(*pulls.values())]
            if d[0] is not None and d[1] is not None:
                yield Scored(group, axis.attribute, axis.value, WEAT, d[0], d[1])


def conclude(finding: Finding, attributes: Mapping[str, Sequence[str]], rules: Rules) -> Finding:
    """The finding with its verdict, once q is known: `goes with X`, `goes against X`, `neither` or `undecided`.
    Those that have no number stay *not expressed* or *not comparable*.

    *Neither* is the equivalence test of a balanced lean: the interval lies within a fifth (at the usual margin) of the
    way from the reference to the identity. Of two values, what goes against the second goes with the first.
    """
    if finding.verdict:
        return finding
    values = attributes.get(finding.attribute, ())
    towards = f"goes with {finding.value}"
    away = f"goes with {values[0]}" if len(values) == 2 else f"goes against {finding.value}"
    if finding.unit == WEAT:
        return _judged_group(finding, towards, away, rules)
    # The pull runs over one length where a lean runs over half of one: `margin_of` one value is as strict.
    judged = with_verdict(finding, rules, values=(finding.value,), neutral=0.0, towards=towards, away=away)
    return replace(judged, verdict="neither") if judged.verdict == "balanced" else judged


def _judged_group(finding: Finding, towards: str, away: str, rules: Rules) -> Finding:
    sure = finding.q <= 1 - rules.level
    said = (towards if finding.estimate > 0 else away) if sure else "undecided"
    why = f"q {finding.q:.2g} after correction" if sure else "as far apart as words divided by chance"
    return replace(finding, verdict=said, reason=join(why, finding.reason))


# ---------------------------------------------------------------------------------------------------- rows


@dataclass(frozen=True)
class _Effect:
    """A row of the table."""

    target: str
    attribute: str
    value: str
    pull: float = math.nan
    cosine: float = math.nan
    cosine_low: float = math.nan
    cosine_high: float = math.nan


class _Step(NamedTuple):
    """A descriptor's step away from the reference. `moot` is why there is nothing to test, if so."""

    name: str
    step: Samples
    varies: bool
    moot: str


class _Cell(NamedTuple):
    """A descriptor against an identity. `scores` are those of its pull, where it has one."""

    row: Finding
    effect: _Effect
    scores: Scores | None


def _step(latents: Latents, name: str, centre: Samples) -> _Step:
    own = latents.of(name).astype(np.float64)
    step = own - centre
    still = np.abs(step).max() <= 1e-6 * np.abs(own).max()
    alone = not latents.named("reference") and len(latents.concepts) == 1
    why = "it is the only descriptor, and its own mean: name a `reference`" if alone else "it is the reference's like"
    return _Step(name, step, directions.varies(own), why if still else "")


def _row(latents: Latents, name: str, axis: Axis | None = None, unit: str = PULL, reason: str = "") -> Finding:
    row = blank(NAME, latents, name, axis.attribute if axis else "", unit, latents.n_templates)
    row = replace(row, value=axis.value, separability=axis.separability) if axis else row
    return replace(row, reason=join(reason, row.reason))


def _cells(
    latents: Latents, attributes: Mapping[str, Sequence[str]], plan: stats.ResamplingPlan, rules: Rules
) -> tuple[list[Axis], list[list[_Cell]]]:
    """All identities, and for each of them all descriptors."""
    centre = origin(latents)
    steps = [_step(latents, name, centre) for name in latents.concepts]
    held = list(axes(latents, attributes, rules.floor))
    return held, [[_cell(latents, step, axis, plan, rules) for step in steps] for axis in held]


def _cell(latents: Latents, step: _Step, axis: Axis, plan: stats.ResamplingPlan, rules: Rules) -> _Cell:
    effect = _Effect(step.name, axis.attribute, axis.value)
    row, fitted = _fitted(_row(latents, step.name, axis), step, axis, rules)
    if fitted is None:
        return _Cell(row, effect, None)
    low, high = stats.bootstrap_interval(plan, fitted.pull, rules.level)
    p = math.nan if math.isnan(low) else stats.mean_p(plan, fitted.pull)
    row = replace(row, estimate=float(fitted.pull.mean()), low=low, high=high, p=p)
    return _Cell(row, replace(_cosine(effect, step, fitted, plan, rules), pull=row.estimate), fitted.pull)


def _fitted(row: Finding, step: _Step, axis: Axis, rules: Rules) -> tuple[Finding, Fit | None]:
    """The regression behind a row, or the row with the reason why there is none."""
    if moot := axis.moot or step.moot:
        return replace(row, verdict="undecided", reason=moot), None
    [row] = screened([row], replace(rules, floor=axis.floor), step.varies)
    if row.verdict:
        return row, None
    fitted = fit(step.step, axis.direction, axis.beside)
    if fitted is None:
        return replace(row, verdict="not expressed", reason=_LOST), None
    reach = math.sqrt(max(0.0, float(directions.pseudo_products(step.step, step.step).mean())) / fitted.left.mean())
    if reach > _REACH:
        why = f"it changes {reach:.1f} times as much as the identity does (at most {_REACH:g}): its own lean says more"
        return replace(row, verdict="not comparable", reason=join(why, row.reason)), None
    return row, fitted


def _pulls(latents: Latents, attributes: Mapping[str, Sequence[str]], rules: Rules) -> dict[PullKey, Scores]:
    """The scores of all pulls that have a number."""
    centre, held = origin(latents), list(axes(latents, attributes, rules.floor))
    steps = [_step(latents, name, centre) for name in latents.concepts]
    rows = (_fitted(_row(latents, step.name, axis), step, axis, rules) for step in steps for axis in held)
    return {_key(row): fitted.pull for row, fitted in rows if fitted is not None}


def _key(row: Finding) -> PullKey:
    return row.target, row.attribute, row.value


def _cosine(effect: _Effect, step: _Step, fitted: Fit, plan: stats.ResamplingPlan, rules: Rules) -> _Effect:
    """The cosine and its interval, within -1 and 1; nothing where the step is no longer than a standard error of it."""
    length = directions.pseudo_products(step.step, step.step)
    if length.mean() <= math.sqrt(stats.spread(plan, length).variance):
        return effect
    scores = cosine_scores(step.step, fitted)
    ends = (float(scores.mean()), *stats.bootstrap_interval(plan, scores, rules.level))
    cosine, low, high = (float(np.clip(end, -1, 1)) for end in ends)
    return replace(effect, cosine=cosine, cosine_low=low, cosine_high=high)


def _tests(
    latents: Latents,
    axis: Axis,
    column: Sequence[_Cell],
    groups: Mapping[str, frozenset[str]],
    plan: stats.ResamplingPlan,
    rules: Rules,
) -> Iterator[Finding]:
    """A row for each group of words that is large enough, against all other words."""
    known = [cell for cell in column if cell.scores is not None]
    for group, members in groups.items() if known else ():
        inside = np.array([cell.row.target in members for cell in known], dtype=bool)
        result = weat(np.array([cell.scores for cell in known]), inside, plan, rules)
        if result is not None:
            told = f"{inside.sum()} words against {(~inside).sum()}: p over divisions of the words, interval over seeds"
            yield replace(_row(latents, group, axis, WEAT, told), **result._asdict())


# ---------------------------------------------------------------------------------------------------- known answer

_LEANS = {"bossy": 0.9, "calm": 0.5, "brave": 0.1}
_TOLD = {
    ("bossy", "woman"): "goes with woman",
    ("brave", "woman"): "goes with man",
    ("calm", "nurse"): "goes with nurse",
}


def planted(rng: np.random.Generator) -> Planted:
    """Three descriptors of a reference: one draws more women, one more men, and one looks like the identity "nurse"."""

    def wrong(found: Sequence[Finding]) -> list[str]:
        told = {(f.target, f.value): f.verdict for f in found}
        return [f"{key}: {told.get(key)}" for key, verdict in _TOLD.items() if told.get(key) != verdict]

    def claims(found: Sequence[Finding]) -> int:
        return sum(f.verdict.startswith("goes") for f in found)

    full, none = ({r: _latents(rng, r, plain) for r in READINGS} for plain in (False, True))
    return Planted(full, {"gender": ("man", "woman")}, wrong, none, claims)


def _latents(rng: np.random.Generator, reading: Reading, plain: bool) -> Latents:
    """Noise of the seed, noise of the sample, the gender that it shows, and what its word alone looks like."""
    gender, nurse, *own = np.linalg.qr(rng.normal(size=(48, 5)))[0].T
    looks = {name: 2 * axis for name, axis in zip(_LEANS, own)}
    if not plain:
        looks["calm"] = 4 * nurse
    places: list[tuple[Role, str, str, float, Float[np.ndarray, "width"]]] = [
        *(("concept", name, "", 0.5 if plain else p, looks[name]) for name, p in _LEANS.items()),
        ("reference", "person", "", 0.5, 0 * nurse),
        ("reference", "person", "man", 0.0, 0 * nurse),
        ("reference", "person", "woman", 1.0, 0 * nurse),
        ("identity", "nurse", "", 0.5, 6 * nurse),
    ]
    shared = 5 + rng.normal(size=(48, 48))
    prompts, rows = [], []
    for role, name, value, share, look in places:
        women = rng.random((2, 48, 1)) < share
        rows.append(shared + look + 6 * (women - 0.5) * gender + rng.normal(size=(2, 48, 48)))
        prompts += [Prompt(f"{value} {name} {t}", name, str(t), "gender" * bool(value), value, role) for t in range(2)]
    values = np.concatenate(rows)[:, :, None].astype(np.float32)
    return Latents(values, tuple(prompts), tuple(range(48)), (0,), reading)
