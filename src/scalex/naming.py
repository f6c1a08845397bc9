"""Directions of a run, or from a file, in the words that the run captured: from stored latents, without the model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from pathlib import Path

from scalex.analyses.naming import UNFIT, Naming, WordAt, namings
from scalex.auditing import Audit, latents_of, open_run
from scalex.direction_files import (
    Direction,
    attribute_directions,
    averaged,
    check_fits,
    concept_direction,
    directions_of,
    load_direction,
    save_direction,
    stamped,
)
from scalex.errors import ScalexError
from scalex.prompts import load_spec
from scalex.records import ROLES, Latents, Reading, Recipe
from scalex.runs import kept_store
from scalex.store import Store
from scalex.wording import did_you_mean

__all__ = ["as_row", "in_lines", "name_run"]


def name_run(
    run: str | Path,
    *,
    direction: str | Path | None = None,
    attribute: str | None = None,
    concept: str | None = None,
    reading: str | None = None,
    top: int = 10,
    save: str | Path | None = None,
) -> list[Naming]:
    """Names a direction in the words (and concepts) of a run; by default those of all its attributes.

    Args:
        direction: a file of one; one of maps is named by its mean where the run keeps means. attribute: one of the
            run's. concept: one of the run's concepts, words or identities, measured from the mean of all of its kind.
        reading: in which it is named; by default in all that were captured, and a file in its own.
        top: how many words at each pole.
        save: a file to write the direction to.

    Raises:
        ScalexError: more than one is asked for, it is not there, it does not fit the run, or more than one would be
            saved.
    """
    if sum(asked is not None for asked in (direction, attribute, concept)) > 1:
        raise ScalexError("a direction comes from a file, an attribute or a concept", "Name one of the three")
    found = open_run(run)
    held, recipes = latents_of(found), _recipes(found)
    wanted = _wanted(held, reading)
    if direction is not None:
        named = {of.of.reading: [of] for of in [load_direction(direction)] if reading in (None, of.of.reading)}
        if not named.keys() <= wanted.keys() or not named:
            raise ScalexError(f"direction file {direction} is of another reading", "Leave --reading out, or capture it")
    else:
        named = {r: list(_own(found, latents, attribute, concept)) for r, latents in wanted.items()}
    ready = {r: [_ready(d, recipes[r], held[r], direction is None) for d in ds] for r, ds in named.items()}
    for r, ds in ready.items():
        for d in ds:
            check_fits(d, recipes[r], held[r].values.shape[-1])
    if save is not None:
        _save([d for ds in ready.values() for d in ds], save)
    rules = load_spec(found.manifest["spec"]).rules
    return [n for r, ds in ready.items() for n in namings(ds, held[r], rules, top=top, step=_step(held[r], ds))]


def _ready(direction: Direction, recipe: Recipe, latents: Latents, own: bool) -> Direction:
    """The direction as latents of this recipe: stamped where it is the run's own; one of maps as one of their means,
    where the run keeps these, which its name then says."""
    if own:
        return stamped(direction, recipe)
    channels = latents.values.shape[-1]
    if recipe.pooling != "mean" or direction.of.pooling in ("", "mean") or len(direction.vector) % channels:
        return direction
    mean, kept = averaged(direction, channels)
    said = f"{direction.name} (its mean over the map, {kept:.0%} of its squared length)"
    return replace(mean, of=replace(mean.of, name=said))


def as_row(naming: Naming, level: float = 0.95) -> dict[str, object]:
    """A naming as plain data."""
    told = {"direction": asdict(naming.direction.of), "named": naming.named(level), "words": naming.words}
    ends = {"plus": naming.plus, "minus": naming.minus, "pair": [naming.pair] if naming.pair else []}
    listed = {end: [asdict(word) for word in words] for end, words in ends.items()}
    return told | listed | {"beyond": naming.beyond, "n_words": naming.n_words, "reason": naming.reason}


def in_lines(naming: Naming, level: float = 0.95) -> Iterator[str]:
    """A naming as lines to be read: what it is called, and the words at both poles."""
    said = naming.words if naming.named(level) else naming.reason or UNFIT
    yield f"{naming.direction.name} ({naming.direction.of.reading} reading): {said}"
    for pole, words in (("+", naming.plus), ("-", naming.minus), ("→", [naming.pair] if naming.pair else [])):
        yield from (f"  {pole} {_told(word)}" for word in words)
    if naming.plus:
        word, pair = naming.beyond
        yield f"    of {naming.n_words} words; a name must reach {word:.2f} (a word) or {pair:.2f} (a pair)"


def _told(word: WordAt) -> str:
    return f"{word.cosine:+.2f}  [{word.low:+.2f}, {word.high:+.2f}]  p {word.p:.2g}  {word.word}"


def _recipes(run: Audit) -> dict[Reading, Recipe]:
    stored = {s.recipe.id: s.recipe for s in Store.open(kept_store(run.folder, run.manifest), create=False).recipes()}
    return {reading: stored[name] for reading, name in run.manifest["recipes"].items()}


def _wanted(held: Mapping[Reading, Latents], reading: str | None) -> dict[Reading, Latents]:
    if reading is not None and reading not in held:
        raise ScalexError(f"this run has no {reading} reading", f"Readings: {', '.join(held)}")
    return {r: latents for r, latents in held.items() if reading in (None, r)}


def _own(run: Audit, latents: Latents, attribute: str | None, concept: str | None) -> Iterator[Direction]:
    """The directions of an attribute or of a concept of the run; those of all attributes where none is named."""
    spec = load_spec(run.manifest["spec"])
    if concept is not None:
        roles = [role for role in ROLES if concept in latents.named(role)]
        if not roles:
            known = [name for role in ROLES for name in latents.named(role)]
            raise ScalexError(f"this run has no concept {concept!r}", did_you_mean(concept, known, "Concepts"))
        yield concept_direction(latents, concept, role=roles[0])
        return
    if attribute is None:
        yield from directions_of(latents, spec.attribute_values)
        return
    if attribute not in spec.attribute_values:
        wrong = f"this run has no attribute {attribute!r}"
        raise ScalexError(wrong, did_you_mean(attribute, spec.attribute_values, "Attributes"))
    yield from attribute_directions(latents, attribute, spec.attribute_values[attribute])


def _step(latents: Latents, named: list[Direction]) -> int:
    """The kept step of the directions, or the last one where that was not kept here."""
    steps = {direction.of.step for direction in named}
    return latents.steps.index(steps.pop()) if len(steps) == 1 and steps <= set(latents.steps) else -1


def _save(named: list[Direction], path: str | Path) -> None:
    if len(named) != 1:
        told = f"{len(named)} directions would be saved" if named else "there is no direction to save"
        raise ScalexError(told, "Name one with --attribute or --concept, and one --reading")
    save_direction(named[0], path)
