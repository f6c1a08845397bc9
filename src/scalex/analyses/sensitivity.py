"""Sensitivity: how far findings move with choices that should not matter, and whether they hold beyond them.

It speaks of what every audit finds: the leans of `defaults` (or, of more than two values, the weights), and in the
picture reading the shares of `rates`. Five choices are varied, where the run holds what that takes: the *template*
around the concept, the *wording* of the values ("female nurse" for "woman nurse"), the *seeds* (two halves of them),
the kept denoising *step*, and of a lean the *reference*: the direction that it is measured along, the audit's own
(`Rules.lean_direction`) or the one that the other concepts share; where that is the audit's, the concept's own. Under
each setting the number is estimated anew, with the setting's own direction or classifier, on the latents of an audit
that had been asked so (`_settings`); shares and weights before they are clipped to 0 and 1. How settings are held
against each other is in `_departures`. Of several values the one that moves most is told, at the price of having
picked it.

The pulls of `descriptors` have a table like this among those of that analysis, since it is not in every audit.

A shared direction takes two other concepts at least. Where seeds are added look by look, the other concepts are those
of the same look; what is looked at with fewer has no row for the reference.

Each kind of number is corrected by itself, and its reference apart from its other choices: a direction that concepts
do not share moves many leans for sure, which would let doubtful claims about templates pass beside them (Efron 2008,
Annals of Applied Statistics 2: 197-223).
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Literal, NamedTuple, TypeAlias

import numpy as np
from jaxtyping import Float

from scalex import directions, stats
from scalex.analyses import _planted, rates
from scalex.analyses._departures import CHOICES, Held, concluded, departing, halves
from scalex.analyses._planted import Planted
from scalex.analyses._rows import blank, not_expressed, unvaried
from scalex.analyses._settings import said, settings
from scalex.analyses.defaults import Along, lean_directions, lean_scores, weight_scores
from scalex.records import Finding, Latents, LeanDirection, Reading, Role, Rules

__all__ = [
    "APART",
    "BY_CONCEPT",
    "CHOICES",
    "NAME",
    "NO_CLAIM",
    "READINGS",
    "ROLES",
    "analyse",
    "conclude",
    "family",
    "planted",
]

NAME = "sensitivity"
READINGS: tuple[Reading, ...] = ("text", "picture")
BY_CONCEPT = True
NO_CLAIM = ("robust",)
ROLES: tuple[Role, ...] = ("concept", "wording")
APART = "the setting that a number differs most under may be another one in each"
_NAMES: dict[LeanDirection, str] = {
    "own": "its own direction",
    "shared": "the direction of the others",
    "lda": "its own direction, whitened",
    "pooled": "its own direction, whitened alike for all",
}
_LEAST = 3  # concepts, for a direction that they share

Kind: TypeAlias = Literal["lean", "weight", "share"]
Samples: TypeAlias = Float[np.ndarray, "templates seeds width"]
Variants: TypeAlias = Float[np.ndarray, "values templates seeds width"]


class _Key(NamedTuple):
    """What a number is of."""

    attribute: str
    kind: Kind
    concept: str


def analyse(latents: Latents, attributes: Mapping[str, Sequence[str]], rules: Rules) -> list[Finding]:
    """One row for every concept, attribute, kind of number (`unit`) and choice that the run varies, before correction.

    `value` names the choice, `estimate` is the number under the setting that differs most less its mean under the
    others.

    Raises:
        ScalexError: too few seeds, or something was not captured.
    """
    plan = directions.plan_of(latents, rules)
    along = rules.lean_direction
    whole = _measured(latents, attributes, along, "")
    varied: dict[_Key, dict[str, list[Held]]] = {key: {} for key in whole}
    for choice, name, view in settings(latents):
        for key, held in _measured(view, attributes, along, name).items():
            first = [whole[key]._replace(name="first wording")] if choice == "wording" else []
            varied[key].setdefault(choice, first).append(held)
    for key, held in whole.items():
        varied[key]["seeds"] = halves(held)
    for key, held in _along_others(latents, attributes, _other(along), rules.floor).items():
        varied[key]["reference"] = [whole[key]._replace(name=_NAMES[along]), held]
    return [
        row for key, held in varied.items() for row in _rows(latents, key, held, attributes[key.attribute], plan, rules)
    ]


def family(finding: Finding) -> str:
    """The kind of number, and whether what is varied is the reference."""
    return f"{finding.unit}, reference" if finding.value == "reference" else finding.unit


def conclude(finding: Finding, attributes: Mapping[str, Sequence[str]], rules: Rules) -> Finding:
    """*Robust*, *depends on the ...* or *undecided*, once q is known."""
    return concluded(finding, finding.value, rules.margin_of(len(attributes[finding.attribute])), rules.level)


def planted(rng: np.random.Generator) -> Planted:
    """Three concepts that are alike in all templates, but for one that leans to woman in the second alone."""
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
        leans = {"nurse": "depends on the template", "pilot": "robust", "farmer": "robust"}
        rows = [f for f in found if f.value == "template" and (f.unit.startswith("lean") or f.target == "nurse")]
        return [f"{f.target}, {f.unit}: {f.verdict}" for f in rows if f.verdict != leans[f.target]]

    def claims(found: Sequence[Finding]) -> int:
        return sum(f.verdict.startswith("depends") for f in found)

    return Planted(told, {"gender": ("man", "woman")}, wrong, null, claims)


# ---------------------------------------------------------------------------------------------------- numbers


def _measured(
    latents: Latents, attributes: Mapping[str, Sequence[str]], direction: LeanDirection, name: str
) -> dict[_Key, Held]:
    """Every number of an audit that has these latents, of the attributes whose values were said."""
    found, along_of = {}, lean_directions(latents, direction)
    for attribute, values in attributes.items():
        every = along_of(attribute, values) if said(latents, attribute, values) else ()
        for concept, along in zip(latents.concepts, every):
            neutral = latents.of(concept).astype(np.float64)
            variants = directions.variants_of(latents, concept, attribute, values)
            mark = zlib.crc32(variants.tobytes(), zlib.crc32(neutral.tobytes()))
            for kind in _kinds(latents.reading, values):
                held = _MEASURES[kind](neutral, variants, along, values)
                found[_Key(attribute, kind, concept)] = held._replace(name=name, mark=mark)
    return found


def _other(direction: LeanDirection) -> LeanDirection:
    return "own" if direction == "shared" else "shared"


def _along_others(
    latents: Latents, attributes: Mapping[str, Sequence[str]], other: LeanDirection, floor: float
) -> dict[_Key, Held]:
    """Every lean along the other direction; NaN where it hardly tells the concept's own variants apart."""
    along_of = lean_directions(latents, other)
    pairs = {a: values for a, values in attributes.items() if len(values) == 2 and len(latents.concepts) >= _LEAST}
    found = {}
    for attribute, values in pairs.items():
        for concept, along in zip(latents.concepts, along_of(attribute, values)):
            neutral = latents.of(concept).astype(np.float64)
            variants = directions.variants_of(latents, concept, attribute, values)
            held = _lean(neutral, variants, along, values)
            scores = held.scores if _apart(variants, along) >= floor else np.full_like(held.scores, np.nan)
            found[_Key(attribute, "lean", concept)] = held._replace(name=_NAMES[other], scores=scores, mark=-1)
    return found


def _apart(variants: Variants, along: Along) -> float:
    """AUC with which a direction by template and seed, taken from other seeds, tells two variants apart."""
    by_seed = directions.others_mean(along if isinstance(along, np.ndarray) else variants[1] - variants[0])
    first, second = np.einsum("vtsd,sd->vts", variants, by_seed)
    return stats.auc(first.ravel(), second.ravel())


def _kinds(reading: Reading, values: Sequence[str]) -> Iterator[Kind]:
    yield "lean" if len(values) == 2 else "weight"
    if reading in rates.READINGS:
        yield "share"


def _lean(neutral: Samples, variants: Variants, along: Along, values: Sequence[str]) -> Held:
    return Held("", lean_scores(neutral, variants[0], variants[1], along).mean(0)[:, None], np.zeros(1))


def _weight(neutral: Samples, variants: Variants, along: Along, values: Sequence[str]) -> Held:
    return Held("", weight_scores(neutral, variants).mean(0), np.zeros(len(values)), labels=tuple(values))


def _share(neutral: Samples, variants: Variants, along: Along, values: Sequence[str]) -> Held:
    """Of two values the share of the second."""
    samples = np.concatenate([neutral[None], variants])
    called, *shown = directions.discriminants(samples, variants, rates.METHOD).argmax(0)
    told = called, np.array(shown)
    share = rates.share_estimate(*told)
    held = Held("", rates.share_scores(*told, share).mean(0), rates.share_grain(*told, share), labels=tuple(values))
    return _of(held, [1])._replace(labels=("",)) if len(values) == 2 else held


def _of(held: Held, places: Sequence[int]) -> Held:
    """The numbers at these places alone."""
    labels = tuple(held.labels[i] for i in places)
    return held._replace(scores=held.scores[:, places], grain=held.grain[places], labels=labels)


_MEASURES = {"lean": _lean, "weight": _weight, "share": _share}


# ---------------------------------------------------------------------------------------------------- rows


def _rows(
    latents: Latents,
    key: _Key,
    held: Mapping[str, Sequence[Held]],
    values: Sequence[str],
    plan: stats.ResamplingPlan,
    rules: Rules,
) -> Iterator[Finding]:
    """A row for each choice. Values that the model does not express are left out, as they are in the audit."""
    neutral = latents.of(key.concept).astype(np.float64)
    variants = directions.variants_of(latents, key.concept, key.attribute, values)
    apart = directions.separability(variants, rates.METHOD if key.kind == "share" else "mean")[len(values) == 2 :]
    kept = np.flatnonzero(apart >= rules.floor)
    row = blank(NAME, latents, key.concept, key.attribute, f"{key.kind} difference", len(neutral))
    row = replace(row, separability=float(apart[kept].min() if len(kept) else apart.max()), reason="")
    row = row if directions.varies(neutral) else unvaried(row)
    row = row if len(kept) else not_expressed(row, rules)
    margin = rules.margin_of(len(values))
    for choice in (c for c in CHOICES if c in held):
        here = replace(row, value=choice)
        some = [_of(h, kept.tolist()) for h in held[choice]]
        yield here if here.verdict else departing(here, choice, some, plan, margin, rules)
