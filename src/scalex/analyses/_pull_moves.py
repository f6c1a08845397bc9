"""How far the pulls of descriptors move with template, seeds, step and reference: the sensitivity of that analysis.

It stands here and not in `sensitivity`, which runs in every audit, since it speaks of pulls that few audits ask for.
The settings are held against each other as there (`_departures`): seed by seed, since all of them have the same seeds.
As *reference*, the neutral prompts that the spec names are held against the mean of all descriptors, which is what an
empty `reference` takes; directions then come from the descriptors' own variants, where these were captured. The
reference is not said in another wording, so that is not varied.

The margin of *robust* is that of *neither*: a fifth (at the usual margin) of the way to the identity. Tests are
corrected in one family, those of the reference in another.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
import pandas as pd
from jaxtyping import Float

from scalex import stats
from scalex.analyses._departures import Held, concluded, departing, halves
from scalex.analyses._rows import blank
from scalex.analyses._settings import said, settings, without
from scalex.records import Finding, Latents, Role, Rules

__all__ = ["COLUMNS", "Measure", "PullKey", "moves"]

PullKey: TypeAlias = tuple[str, str, str]
"""Descriptor, attribute and value."""

Pulls: TypeAlias = Mapping[PullKey, Float[np.ndarray, "templates seeds"]]
Measure: TypeAlias = Callable[[Latents], Pulls]
"""From latents to the scores of every pull that has a number."""

COLUMNS = ("target", "attribute", "value", "choice", "change", "low", "high", "p", "q", "verdict", "reason")
_ROLES: tuple[Role, ...] = ("concept", "reference", "identity")


@dataclass(frozen=True)
class _Moved:
    """A pull and a choice, and what moving it did."""

    key: PullKey
    choice: str
    row: Finding


def moves(
    latents: Latents,
    attributes: Mapping[str, Sequence[str]],
    whole: Pulls,
    measure: Measure,
    plan: stats.ResamplingPlan,
    rules: Rules,
) -> pd.DataFrame:
    """A row for every pull and choice that the run varies, corrected and concluded. Columns: `COLUMNS`.

    `change` is the pull under the setting that differs most less its mean under the others. A pull that has no number
    under one of the settings has none here.

    Args:
        whole: what `measure` gives of these latents.
    """
    blanks = {key: _blank(latents, key) for key in whole}
    margin = rules.margin_of(1)
    found = [
        _Moved(
            key, choice, departing(blanks[key], choice, held, plan, margin, rules) if held else _numberless(blanks[key])
        )
        for choice, by_key in _held(latents, attributes, whole, measure).items()
        for key, held in by_key.items()
    ]
    told = [replace(m, row=concluded(m.row, m.choice, margin, rules.level)) for m in _corrected(found)]
    return pd.DataFrame([_told(m) for m in told], columns=list(COLUMNS))


def _held(
    latents: Latents, attributes: Mapping[str, Sequence[str]], whole: Pulls, measure: Measure
) -> dict[str, dict[PullKey, list[Held]]]:
    """By choice and pull what each setting gives; nothing where one gives no number."""
    given: dict[str, list[tuple[str, Pulls]]] = {}
    for choice, name, view in settings(latents, _ROLES):
        if choice != "wording":
            given.setdefault(choice, []).append((name, measure(view)))
    spoken = all(said(latents, name, values) for name, values in attributes.items())
    if latents.named("reference") and len(latents.concepts) > 1 and spoken:
        named = repr(latents.named("reference")[0])
        mean = measure(without(latents, "reference"))
        given["reference"] = [(f"from {named}", whole), ("from the mean of all descriptors", mean)]
    found: dict[str, dict[PullKey, list[Held]]] = {c: {k: _alike(k, some) for k in whole} for c, some in given.items()}
    found["seeds"] = {key: halves(_one("", scores)) for key, scores in whole.items()}
    return found


def _alike(key: PullKey, given: Sequence[tuple[str, Pulls]]) -> list[Held]:
    return [_one(name, pulls[key]) for name, pulls in given] if all(key in pulls for _, pulls in given) else []


def _one(name: str, scores: Float[np.ndarray, "templates seeds"]) -> Held:
    return Held(name, scores.mean(0)[:, None], np.zeros(1), zlib.crc32(scores.tobytes()))


def _blank(latents: Latents, key: PullKey) -> Finding:
    target, attribute, value = key
    row = blank("descriptors", latents, target, attribute, "pull difference", latents.n_templates)
    return replace(row, value=value, reason="")


def _numberless(row: Finding) -> Finding:
    return replace(row, verdict="not comparable", reason="under a setting the pull has no number")


def _corrected(found: Sequence[_Moved]) -> Iterator[_Moved]:
    """With q, by Benjamini-Hochberg over each family."""
    families = np.array([m.choice == "reference" for m in found], dtype=bool)
    p, q = np.array([m.row.p for m in found], dtype=np.float64), np.full(len(found), math.nan)
    for own in (families, ~families):
        q[own] = stats.benjamini_hochberg(p[own])
    return (replace(m, row=replace(m.row, q=float(x))) for m, x in zip(found, q))


def _told(moved: _Moved) -> tuple[str | float, ...]:
    row = moved.row
    return (*moved.key, moved.choice, row.estimate, row.low, row.high, row.p, row.q, row.verdict, row.reason)
