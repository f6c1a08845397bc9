"""What pictures show, by anyone's judgement: an open set of scorers, and the users' own.

A scorer gives each picture a share for each value of one attribute. Concepts are an attribute, too: whether a steered
nurse is still a nurse is asked of the attribute "concept".

A module of this folder makes scorers of one kind; modules whose names begin with an underscore are shared parts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol, TypeAlias, runtime_checkable

import numpy as np
from jaxtyping import Float, UInt8

from scalex.errors import ScalexError

__all__ = ["AttributeScorer", "Readouts", "readouts_of", "scored"]


@runtime_checkable
class AttributeScorer(Protocol):
    """Tells which value of an attribute pictures show."""

    @property
    def name(self) -> str:
        """Of the scorer, as reports say it."""

    @property
    def attribute(self) -> str:
        """Such as "gender", or "concept"."""

    @property
    def values(self) -> tuple[str, ...]:
        """In the order of the columns."""

    def score(self, pictures: UInt8[np.ndarray, "n height width 3"]) -> Float[np.ndarray, "n values"]:
        """The share of each value in what each picture shows, from 0 to 1. A row may sum to less than 1: the rest is
        none of the values. A row of NaN says that nothing was recognised."""


Readouts: TypeAlias = Callable[[str, str, tuple[str, ...]], AttributeScorer | None]
"""The scorer of a concept's pictures for an attribute and its values; None where there is none that can tell. Of the
attribute "concept" the one value is the concept itself."""


def readouts_of(scorers: Iterable[AttributeScorer]) -> Readouts:
    """Scorers that serve for the pictures of any concept."""
    known = {(scorer.attribute, tuple(scorer.values)): scorer for scorer in scorers}
    return lambda concept, attribute, values: known.get((attribute, values))


def scored(scorer: AttributeScorer, pictures: UInt8[np.ndarray, "n height width 3"]) -> Float[np.ndarray, "n values"]:
    """What a scorer gives, checked.

    Raises:
        ScalexError: it raises, or gives another shape, or numbers outside of 0..1.
    """
    said = f"scorer {scorer.name!r}"
    try:
        found = np.asarray(scorer.score(pictures), dtype=np.float64)
    except ScalexError:
        raise
    except Exception as error:  # whatever a user's code may raise
        raise ScalexError(
            f"{said} failed: {type(error).__name__}: {error}", "Try it alone on the same pictures"
        ) from error
    expected = (len(pictures), len(scorer.values))
    if found.shape != expected:
        wrong = f"{said} gave an array of shape {found.shape} for {expected[0]} pictures and {expected[1]} values"
        raise ScalexError(wrong, f"It must give {expected}: a row a picture, a column a value")
    told = found[~np.isnan(found).all(axis=1)]
    if not ((told >= -1e-6) & (told <= 1 + 1e-6)).all():
        raise ScalexError(f"{said} gave numbers that are no shares", "Each must lie in 0..1; a whole row may be NaN")
    return np.clip(found, 0, 1)
