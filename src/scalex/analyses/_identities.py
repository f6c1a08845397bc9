"""The directions of identities: values of attributes, and identities that are listed, away from a neutral reference."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from scalex import directions
from scalex.errors import ScalexError
from scalex.records import Latents

__all__ = ["IDENTITIES", "Axis", "axes", "origin"]

IDENTITIES = "identities"  # stands for an attribute where identities are listed

Samples = Float[np.ndarray, "templates seeds width"]


class Axis(NamedTuple):
    """An identity that descriptors are held against.

    Attributes:
        attribute: what it is a value of. value: its name; of two values the second.
        direction: from the centre of the attribute's values, or from the reference, to the identity.
        separability: AUC with which held-out seeds tell it apart. floor: the least at which it is expressed.
        moot: why it has no direction, if so.
        beside: the directions of all other attributes that are expressed, one fewer than their values each.
    """

    attribute: str
    value: str
    direction: Samples
    separability: float
    floor: float
    moot: str = ""
    beside: tuple[Samples, ...] = ()


def origin(latents: Latents) -> Samples:
    """The neutral reference, or without one the mean of all concepts.

    Raises:
        ScalexError: a concept was captured in more or fewer templates than the others.
    """
    named = latents.named("reference")
    if named:
        centre = latents.of(named[0], role="reference").astype(np.float64)
        _same(latents, centre.shape[0])
        return centre
    _same(latents, latents.n_templates)
    return np.asarray(sum(latents.of(c).astype(np.float64) for c in latents.concepts) / len(latents.concepts))


def _same(latents: Latents, n_templates: int) -> None:
    for role in ("concept", "identity"):
        for name in latents.named(role):
            if (n := latents.of(name, role=role).shape[0]) != n_templates:
                wrong = f"{name!r} was captured in {n} prompts, and others in {n_templates}"
                raise ScalexError(wrong, "Name each concept and identity once")


def axes(latents: Latents, attributes: Mapping[str, Sequence[str]], floor: float) -> Iterator[Axis]:
    """The identities in order: one for an attribute of two values, else one a value; then those that are listed.

    A listed identity is told apart from the reference, or without one from whichever other identity is most like it.
    Those may themselves draw the identity half of the time, and a classifier then errs on that half: so half of the
    floor's way from chance is asked of it.

    Raises:
        ScalexError: something was not captured, or an attribute has fewer than two values.
    """
    held = {a: list(_values(a, values, _variants(latents, a, values), floor)) for a, values in attributes.items()}
    bases = {a: _basis(axes) for a, axes in held.items()}
    for attribute, every in held.items():
        beside = tuple(w for other, basis in bases.items() if other != attribute for w in basis)
        yield from (axis._replace(beside=beside) for axis in every)
    yield from _listed(latents, (0.5 + floor) / 2)


def _basis(axes: Sequence[Axis]) -> list[Samples]:
    """Directions that span an attribute: of many values, which sum to zero, all but one. None where not expressed."""
    expressed = all(axis.separability >= axis.floor for axis in axes)
    return [axis.direction for axis in axes[len(axes) > 1 :]] if expressed else []


def _variants(
    latents: Latents, attribute: str, values: Sequence[str]
) -> Float[np.ndarray, "values templates seeds width"]:
    """Those of the reference, or without one the mean over concepts."""
    named = latents.named("reference")
    if named and len(values) > 1:
        return np.stack([latents.of(named[0], attribute, v, role="reference") for v in values]).astype(np.float64)
    every = (directions.variants_of(latents, c, attribute, values) for c in latents.concepts)
    return np.asarray(sum(every) / len(latents.concepts))


def _values(
    attribute: str, values: Sequence[str], variants: Float[np.ndarray, "values templates seeds width"], floor: float
) -> Iterator[Axis]:
    apart, centre = directions.separability(variants), variants.mean(0)
    for i, value in list(enumerate(values))[1 if len(values) == 2 else 0 :]:
        yield Axis(attribute, value, variants[i] - centre, float(apart[i]), floor)


def _listed(latents: Latents, floor: float) -> Iterator[Axis]:
    names, named = latents.named("identity"), latents.named("reference")
    every = [latents.of(name, role="identity").astype(np.float64) for name in names]
    if named:
        centre = latents.of(named[0], role="reference").astype(np.float64)
        for name, own in zip(names, every):
            apart = directions.separability(np.stack([centre, own]))[1]
            yield Axis(IDENTITIES, name, own - centre, float(apart), floor)
    elif len(every) == 1:
        moot = "it is the only identity, and its own mean: name a `reference`"
        yield Axis(IDENTITIES, names[0], np.zeros_like(every[0]), math.nan, floor, moot)
    elif every:
        stacked = np.stack(every)
        centre = stacked.mean(0)
        for name, own, apart in zip(names, every, directions.separability(stacked)):
            yield Axis(IDENTITIES, name, own - centre, float(apart), floor)
