"""Directions with a name, an origin and an uncertainty, and files of them that others can steer with.

A file is a safetensors file: `vector`, where it was estimated from seeds also `by_seed`, and in its metadata where it
comes from, when and by which scalex it was written, and what steering with it was seen to do, once that was measured.
What a direction was learned from is told apart by seeds, so that whoever applies it to the same seeds can leave each
one out.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from scalex import directions
from scalex.disk import disk_errors, write_atomic
from scalex.errors import ScalexError
from scalex.records import READINGS, Latents, Reading, Recipe, Role

__all__ = [
    "Direction",
    "Provenance",
    "Validation",
    "attribute_directions",
    "averaged",
    "check_fits",
    "concept_direction",
    "directions_of",
    "load_direction",
    "provenance_from",
    "save_direction",
    "stamped",
    "variant_direction",
]

_FORMAT, _VERSION = "scalex direction", "1"


_MOST_NAMED = 1000  # concepts in a provenance: those of a vocabulary, not of a hundred thousand captions


@dataclass(frozen=True, slots=True)
class Validation:
    """What pushing on a direction was seen to do.

    Attributes:
        readout: by which it was seen, as scorers call themselves. slope: of the readout against alpha, with its
            interval from low to high. verdict: "acts", ...
    """

    readout: str
    slope: float
    low: float
    high: float
    verdict: str


@dataclass(frozen=True, slots=True)
class Provenance:
    """Where a direction comes from. Fields of a model are empty until it is `stamped` with a recipe.

    Attributes:
        name: what people call it: "gender: man to woman". origin: what it was made of: "attribute", "value", "own" (an
            attribute of one concept), "concept", "images", ...
        reading: in which it was found. step: the denoising step, counted from 0.
        seeds: that it was estimated from; empty where it was not estimated from seeds.
        model: fingerprint. probe, pooling, moments: as in `Recipe`. recipe: id of the recipe of its latents.
        concepts, templates: the prompts that it was made of; of more than 1,000 concepts the first. Empty: not told.
        validation: None until it was validated. scalex, made: the version and the day (UTC) that first saved it.
    """

    name: str
    origin: str
    reading: Reading
    step: int
    seeds: tuple[int, ...] = ()
    model: str = ""
    probe: str = ""
    pooling: str = ""
    recipe: str = ""
    moments: int = 0
    concepts: tuple[str, ...] = ()
    templates: tuple[str, ...] = ()
    validation: Validation | None = None
    scalex: str = ""
    made: str = ""


@dataclass(frozen=True, eq=False, repr=False)
class Direction:
    """A vector at the probe, flat as in `Latents`, and where it comes from.

    Attributes:
        by_seed: what each seed of the provenance alone gives; their mean is the vector. None where that is not known.

    Raises:
        ScalexError: a number is not finite, or the seeds do not fit.
    """

    vector: Float[np.ndarray, "width"]
    of: Provenance
    by_seed: Float[np.ndarray, "seeds width"] | None = None

    def __post_init__(self) -> None:
        if not np.isfinite(self.vector).all():
            raise ScalexError(f"direction {self.of.name!r} holds values that are not finite", "Make it again")
        if self.by_seed is not None and self.by_seed.shape != (len(self.of.seeds), len(self.vector)):
            wrong = f"direction {self.of.name!r} has {len(self.of.seeds)} seeds of width {len(self.vector)}"
            raise ScalexError(f"{wrong}, but what it holds by seed is {self.by_seed.shape}", "Make it again")

    def __repr__(self) -> str:
        """Its name, its size, and what it was estimated from."""
        size = f"{len(self.vector):,} numbers of length {np.linalg.norm(self.vector):.3g}"
        return f"<Direction {self.name!r}: {size}, {self.of.reading} reading, {self.n_seeds} seeds>"

    @property
    def name(self) -> str:
        """What people call it."""
        return self.of.name

    @property
    def n_seeds(self) -> int:
        """How many seeds it was estimated from; 0 where it was not."""
        return len(self.of.seeds)

    @cached_property
    def digest(self) -> str:
        """32 hexadecimal digits that name what is added to a value: the numbers, and how they are pooled."""
        numbers = np.ascontiguousarray(self.vector, "<f4").tobytes()
        return hashlib.sha256(self.of.pooling.encode() + b"\0" + numbers).hexdigest()[:32]

    @cached_property
    def _places(self) -> Mapping[int, int]:
        return {seed: i for i, seed in enumerate(self.of.seeds)} if self.by_seed is not None else {}

    def without(self, seeds: Sequence[int]) -> Float[np.ndarray, "seeds width"]:
        """For every seed the direction as the other seeds show it: the whole vector for a seed that it has not seen."""
        n, rows = self.n_seeds, np.tile(self.vector.astype(np.float64), (len(seeds), 1))
        for i, seed in enumerate(seeds):
            if seed in self._places and self.by_seed is not None and n > 1:
                rows[i] = (n * rows[i] - self.by_seed[self._places[seed]]) / (n - 1)
        return rows


# ---------------------------------------------------------------------------------------------------- from latents


def directions_of(latents: Latents, attributes: Mapping[str, Sequence[str]], step: int = -1) -> list[Direction]:
    """The directions of all attributes, as `attribute_directions`.

    Raises:
        ScalexError: an attribute has fewer than two values, or something was not captured.
    """
    return [d for name, values in attributes.items() for d in attribute_directions(latents, name, values, step)]


def attribute_directions(
    latents: Latents, attribute: str, values: Sequence[str], step: int = -1
) -> Iterator[Direction]:
    """The direction of an attribute, mean over all concepts: of two values second minus first; of more, one each.

    Yields:
        For two values one direction from the first to the second. For more, each value minus the mean of the others.

    Raises:
        ScalexError: the attribute has fewer than two values, or something was not captured.
    """
    means = np.mean(
        [directions.variants_of(latents, c, attribute, values, step) for c in latents.concepts], axis=(0, 2)
    )
    if len(values) == 2:
        name = f"{attribute}: {values[0]} to {values[1]}"
        yield _estimated(latents, name, "attribute", means[1] - means[0], step, latents.concepts)
        return
    for i, value in enumerate(values):
        others = np.delete(means, i, axis=0).mean(0)
        yield _estimated(latents, f"{attribute}: {value}", "value", means[i] - others, step, latents.concepts)


def variant_direction(
    latents: Latents, concept: str, attribute: str, values: tuple[str, str], step: int = -1, *, role: Role = "concept"
) -> Direction:
    """What an attribute is for one concept: its second variant minus its first, mean over templates.

    Raises:
        ScalexError: a variant was not captured.
    """
    first, second = (latents.of(concept, attribute, value, step, role).mean(0, dtype=np.float64) for value in values)
    name = f"{attribute} of {concept}: {values[0]} to {values[1]}"
    return _estimated(latents, name, "own", second - first, step, [concept])


def concept_direction(
    latents: Latents, concept: str, step: int = -1, *, role: Role = "concept", reference: str = ""
) -> Direction:
    """A concept's latent minus that of the neutral reference, or minus the mean of all in its role where none is named.

    Raises:
        ScalexError: the concept or the reference was not captured.
    """
    own = _by_seed(latents, concept, role, step)
    if reference:
        neutral = _by_seed(latents, reference, "reference", step)
        return _estimated(latents, concept, "concept", own - neutral, step, [concept, reference])
    everyone = np.mean([_by_seed(latents, name, role, step) for name in latents.named(role)], axis=0)
    return _estimated(latents, concept, "concept", own - everyone, step, [concept])


def _by_seed(latents: Latents, concept: str, role: Role, step: int) -> Float[np.ndarray, "seeds width"]:
    return np.asarray(latents.of(concept, step=step, role=role).mean(0, dtype=np.float64))


def _estimated(
    latents: Latents,
    name: str,
    origin: str,
    by_seed: Float[np.ndarray, "seeds width"],
    step: int,
    concepts: Sequence[str],
) -> Direction:
    of = Provenance(
        name,
        origin,
        latents.reading,
        latents.steps[step],
        latents.seeds,
        concepts=tuple(concepts[:_MOST_NAMED]),
        templates=tuple(dict.fromkeys(p.template for p in latents.prompts)),
    )
    return Direction(by_seed.mean(0), of, by_seed)


# ---------------------------------------------------------------------------------------------------- files


def stamped(direction: Direction, recipe: Recipe) -> Direction:
    """The direction with the recipe of the latents that it was found in."""
    told = {name: getattr(recipe, name) for name in ("model", "probe", "pooling", "moments")}
    return replace(direction, of=replace(direction.of, **told, recipe=recipe.id))


def averaged(direction: Direction, channels: int) -> tuple[Direction, float]:
    """A direction of maps or grids as one of their means, and how much of its squared length a mean keeps.

    Names are known for means: what a direction does to a latent's mean is its own mean. One that moves parts of the map
    against each other has none, and the share is 0. The mean of a mean is itself, and keeps all.

    Args:
        channels: of the probe's value.

    Raises:
        ScalexError: the direction is not so many channels wide.
    """
    width = len(direction.vector)
    if width % channels:
        wrong = f"direction {direction.name!r} is {width} wide, which are no maps of {channels} channels"
        raise ScalexError(wrong, "Take a direction that was found at this probe")
    maps = direction.vector.astype(np.float64).reshape(channels, -1)
    mean, cells = maps.mean(1), maps.shape[1]
    whole = float((maps**2).sum())
    kept = float((mean**2).sum()) * cells / whole if whole > 0 else 0.0
    by_seed = None if direction.by_seed is None else direction.by_seed.reshape(-1, channels, cells).mean(2)
    return Direction(mean, replace(direction.of, pooling="mean", recipe=""), by_seed), kept


def check_fits(direction: Direction, recipe: Recipe, width: int) -> None:
    """Raises ScalexError where a direction is of another model, reading, probe or width than latents of this recipe.

    What a direction does not say of itself fits. The sampler may be another. One that was learned from seeds must be
    held against seeds that are kept alike: single ones, or as many by their moments.
    """
    pairs = {
        "model": (direction.of.model[:12], recipe.model[:12]),
        "reading": (direction.of.reading, recipe.reading),
        "probe": (direction.of.probe, recipe.probe),
        "pooling": (direction.of.pooling, recipe.pooling),
        "width": (len(direction.vector), width),
    }
    for what, (own, other) in pairs.items():
        if own and own != other:
            wrong = f"direction {direction.name!r} has another {what} ({own}) than the latents ({other})"
            raise ScalexError(wrong, "Take a direction that was found in this model in the same way")
    if direction.by_seed is not None and direction.of.model and direction.of.moments != recipe.moments:
        kept = [
            f"moments of {size} seeds" if size else "single seeds" for size in (direction.of.moments, recipe.moments)
        ]
        wrong = f"direction {direction.name!r} was learned from {kept[0]}, and the latents are of {kept[1]}"
        raise ScalexError(wrong, "Take a direction that was found in this model in the same way")


def save_direction(direction: Direction, path: str | Path) -> Path:
    """Writes a direction, whole or not at all, in float32. Returns the path.

    Version and day are written into its provenance, unless it was saved before.

    Raises:
        ScalexError: the disk is full or the folder cannot be written to.
    """
    from safetensors.numpy import save

    file = Path(path)
    tensors = {"vector": direction.vector} | ({} if direction.by_seed is None else {"by_seed": direction.by_seed})
    of = direction.of
    if not of.made:
        of = replace(of, scalex=version("scalex-diffusion"), made=datetime.now(UTC).date().isoformat())
    metadata = {"format": _FORMAT, "version": _VERSION, "of": json.dumps(asdict(of), ensure_ascii=False)}
    with disk_errors(file.parent, option="--save"):
        file.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(file, save({k: np.ascontiguousarray(v, np.float32) for k, v in tensors.items()}, metadata))
    return file


def load_direction(path: str | Path) -> Direction:
    """Reads the direction in the file at `path`.

    Raises:
        ScalexError: the file is not there, is damaged, holds something else, or is of a version that is not known.
    """
    from safetensors import SafetensorError, safe_open

    file = Path(path)
    try:
        with safe_open(file, "np") as held:
            of = _provenance(file, held.metadata() or {})
            tensors = {name: held.get_tensor(name) for name in held.keys()}  # noqa: SIM118 - it is no mapping
    except FileNotFoundError:
        raise ScalexError(f"direction file {file} does not exist", "Check the path") from None
    except (SafetensorError, OSError):
        raise ScalexError(f"{file} is no direction file, or is damaged", "Make it with `scalex name --save`") from None
    if tensors.get("vector", np.empty((0, 0))).ndim != 1:
        raise ScalexError(f"{file} holds no vector", "Make it with `scalex name --save`")
    return Direction(tensors["vector"], of, tensors.get("by_seed"))


def provenance_from(told: Mapping[str, Any]) -> Provenance:
    """A provenance from what `dataclasses.asdict` and JSON made of it.

    Raises:
        KeyError, TypeError, ValueError: it is none.
    """
    listed = {key: tuple(told.get(key, ())) for key in ("seeds", "concepts", "templates")}
    validation = Validation(**told["validation"]) if told.get("validation") else None
    return Provenance(**{**told, **listed, "validation": validation})


def _provenance(file: Path, metadata: Mapping[str, str]) -> Provenance:
    if metadata.get("format") != _FORMAT:
        raise ScalexError(f"{file} is no direction file", "Make one with `scalex name --save`")
    if metadata.get("version") != _VERSION:
        wrong = f"direction file {file} has format version {metadata.get('version')}, this scalex knows {_VERSION}"
        raise ScalexError(wrong, "Update scalex")
    try:
        told: dict[str, Any] = json.loads(metadata["of"])
        reading = told["reading"]
        if reading in READINGS:
            return provenance_from(told)
    except (KeyError, TypeError, ValueError):
        raise ScalexError(f"direction file {file} does not say where it comes from", "Make it again") from None
    raise ScalexError(f"direction file {file} names no reading: {reading!r}", f"Readings: {', '.join(READINGS)}")
