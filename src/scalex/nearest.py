"""The words of a run that lie nearest to a direction, however many there are: through an index, without the model.

What is nearest need not be near: `scalex name` says whether a word is nearer than chance, and looks at every word.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from scalex.auditing import Audit, open_run, stored_of
from scalex.direction_files import Direction, attribute_directions, check_fits, load_direction
from scalex.errors import ScalexError
from scalex.index import Near
from scalex.prompts import load_spec
from scalex.records import Prompt, Reading, Recipe
from scalex.store import Store
from scalex.wording import did_you_mean

__all__ = ["Nearest", "nearest"]


class Nearest(NamedTuple):
    """The words at both poles of a direction in one reading, and of how many they are the nearest."""

    direction: str
    reading: Reading
    plus: Near
    minus: Near
    n_words: int


class _Held(NamedTuple):
    """What a run holds of one reading."""

    store: Store
    recipe: Recipe
    prompts: tuple[Prompt, ...]
    seeds: range


def nearest(
    run: str | Path,
    *,
    direction: str | Path | None = None,
    attribute: str | None = None,
    concept: str | None = None,
    reading: str | None = None,
    top: int = 10,
) -> list[Nearest]:
    """The words (and concepts) of a run that lie nearest to a direction, by the cosine of centred latents.

    Args:
        direction: a file of one. attribute: one of the run's. concept: one of its words or concepts, measured from the
            mean of all; it is not among its own nearest.
        reading: by default all that were captured, and a file in its own. top: words at each pole.

    Raises:
        ScalexError: not exactly one is asked for, it is not there, or it does not fit the run.
    """
    if sum(asked is not None for asked in (direction, attribute, concept)) != 1:
        raise ScalexError("a direction comes from a file, an attribute or a concept", "Name one of the three")
    found = open_run(run)
    store, recipes, prompts, seeds = stored_of(found)
    if reading is not None and reading not in recipes:
        raise ScalexError(f"this run has no {reading} reading", f"Readings: {', '.join(recipes)}")
    held = {r: _Held(store, recipe, prompts, seeds) for r, recipe in recipes.items() if reading in (None, r)}
    if direction is not None:
        of = load_direction(direction)
        if of.of.reading not in held:
            raise ScalexError(f"direction file {direction} is of another reading", "Leave --reading out, or capture it")
        return [_of_direction(held[of.of.reading], of, top)]
    if attribute is not None:
        return [_of_direction(one, d, top) for one in held.values() for d in _of_attribute(found, one, attribute)]
    return [_of_concept(r, one, str(concept), top) for r, one in held.items()]


def _of_direction(held: _Held, direction: Direction, top: int) -> Nearest:
    step = held.recipe.keep.index(direction.of.step) if direction.of.step in held.recipe.keep else -1
    index = held.store.index(held.recipe, _words(held.prompts), held.seeds, step)
    check_fits(direction, held.recipe, index.width)
    vector = direction.vector.astype(np.float64)
    plus, minus = index.nearest(np.stack([vector, -vector]), top)
    return Nearest(direction.name, direction.of.reading, plus, minus, index.n_words)


def _of_attribute(run: Audit, held: _Held, attribute: str) -> Iterator[Direction]:
    values = load_spec(run.manifest["spec"]).attribute_values
    if attribute not in values:
        raise ScalexError(f"this run has no attribute {attribute!r}", did_you_mean(attribute, values, "Attributes"))
    told = [p for p in held.prompts if p.role == "concept" and p.attribute in ("", attribute)]
    yield from attribute_directions(held.store.read(held.recipe, told, held.seeds), attribute, values[attribute])


def _of_concept(reading: Reading, held: _Held, concept: str, top: int) -> Nearest:
    words = _words(held.prompts)
    own = [p for p in words if p.concept == concept]
    if not own:
        raise ScalexError(
            f"this run has no word {concept!r}", did_you_mean(concept, {p.concept for p in words}, "Words")
        )
    index = held.store.index(held.recipe, words, held.seeds)
    latent = held.store.read(held.recipe, own, held.seeds).values[:, :, -1].mean((0, 1), dtype=np.float64)
    apart: Float[np.ndarray, "width"] = latent - index.centre
    plus, minus = index.nearest(np.stack([apart, -apart]), top + 1)
    others = [i for i, word in enumerate(plus.words) if word != concept][:top]
    return Nearest(
        concept, reading, _some(plus, others), _some(minus, range(min(top, len(minus.words)))), index.n_words
    )


def _some(near: Near, places: Sequence[int]) -> Near:
    return Near(tuple(near.words[i] for i in places), near.cosines[list(places)])


def _words(prompts: Sequence[Prompt]) -> list[Prompt]:
    """Words and neutral concepts, each once: what is both is taken as a word."""
    words = {p.concept for p in prompts if p.role == "word"}
    return [
        p for p in prompts if p.role == "word" or (p.role == "concept" and not p.attribute and p.concept not in words)
    ]
