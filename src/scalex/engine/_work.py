"""What every engine shares: the samples that a store lacks, cut into units, and what it took to capture them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple

import numpy as np
from jaxtyping import Float32

from scalex.capture import CaptureStats, Plan, Progress, Sample, capture
from scalex.errors import ScalexError
from scalex.models import Model
from scalex.moments import Gathering
from scalex.records import Prompt, Reading, Recipe
from scalex.store import Store

__all__ = ["Count", "Filled", "StoreFailed", "Unit", "cut", "lacking", "missing", "run_unit", "together"]


class StoreFailed(ScalexError):
    """The store refused a write: nobody else would fare better."""


@dataclass(frozen=True)
class Filled:
    """What it took to fill a store: distinct samples asked for, those captured now, and what that cost.

    Attributes:
        recipes: of each reading, under which the store holds its latents.
        full, stopped: whole and stopped forwards of the denoiser, per sample. texts: texts encoded.
    """

    recipes: Mapping[Reading, Recipe]
    asked: int
    captured: int
    texts: int
    full: int
    stopped: int
    seconds: float

    def flops(self, model: Model) -> int:
        """Floating-point operations of all forwards and encodings."""
        return CaptureStats(self.captured, self.texts, self.full, self.stopped, self.seconds, 0).flops(model)


class Unit(NamedTuple):
    """The work that is given out at once: samples, and the readings that are lacking of them.

    Attributes:
        again: whether a worker had it before, and may have captured a part of it.
    """

    readings: tuple[Reading, ...]
    samples: tuple[Sample, ...]
    again: bool = False


def missing(
    store: Store, recipes: Mapping[Reading, Recipe], prompts: Iterable[Prompt], seeds: Sequence[int]
) -> dict[tuple[Reading, ...], list[Sample]]:
    """The samples that the store lacks, by the readings that it lacks of them, in the order of the prompts.

    A sample that lacks both readings is captured once for both. Equal texts of several prompts are one sample.
    """
    samples = [(text, seed) for text in dict.fromkeys(p.text for p in prompts) for seed in dict.fromkeys(seeds)]
    return lacking(store, recipes, samples)


def lacking(
    store: Store, recipes: Mapping[Reading, Recipe], samples: Sequence[Sample]
) -> dict[tuple[Reading, ...], list[Sample]]:
    """As `missing`, of given samples."""
    lacks = {reading: set(store.missing(recipe, samples)) for reading, recipe in recipes.items()}
    groups: dict[tuple[Reading, ...], list[Sample]] = {}
    for sample in samples:
        if these := tuple(reading for reading in recipes if sample in lacks[reading]):
            groups.setdefault(these, []).append(sample)
    return groups


def cut(groups: Mapping[tuple[Reading, ...], Sequence[Sample]], size: int, block: int = 1) -> list[Unit]:
    """Units of at most so many samples each, in order, but of whole blocks of moments, of so many seeds."""
    size = max(block, size // block * block)
    return [
        Unit(readings, tuple(samples[start : start + size]))
        for readings, samples in groups.items()
        for start in range(0, len(samples), size)
    ]


def run_unit(
    store: Store,
    model: Model,
    plan: Plan,
    recipes: Mapping[Reading, Recipe],
    unit: Unit,
    progress: Progress | None = None,
) -> CaptureStats:
    """Captures the samples of a unit, and writes them batch by batch."""

    writers = {reading: _writer(store, recipes[reading]) for reading in unit.readings}

    def sink(reading: Reading, samples: list[Sample], values: Float32[np.ndarray, "n steps width"]) -> None:
        try:
            writers[reading](samples, values)
        except ScalexError as error:
            raise StoreFailed(error.wrong, error.way_out) from error

    return capture(model, unit.samples, replace(plan, readings=unit.readings), sink, progress)


def _writer(store: Store, recipe: Recipe) -> Callable[[list[Sample], Float32[np.ndarray, "n steps width"]], object]:
    """What takes batches of samples for the store: as they are, or until blocks of moments are whole."""
    if recipe.moments:
        return Gathering(recipe.moments, partial(store.write_moments, recipe)).add
    return partial(store.write, recipe)


class Count:
    """Samples done of all that are to be done."""

    def __init__(self, total: int, progress: Progress | None) -> None:
        self.done, self.total, self._progress = 0, total, progress
        self.reach(0)

    def reach(self, done: int) -> None:
        """Says that so many are done."""
        self.done = done
        if self._progress:
            self._progress(done, self.total)

    def after(self, before: int) -> Progress:
        """The progress of a part that begins when `before` samples are done."""
        return lambda done, _: self.reach(before + done)


def together(
    recipes: Mapping[Reading, Recipe],
    prompts: Sequence[Prompt],
    seeds: Sequence[int],
    parts: Sequence[CaptureStats],
    began: float,
) -> Filled:
    """What all units took, since `began` (of `time.perf_counter`)."""
    asked = len({p.text for p in prompts}) * len(set(seeds))
    captured, texts, full, stopped = (
        sum(getattr(part, name) for part in parts) for name in ("samples", "texts", "full", "stopped")
    )
    return Filled(recipes, asked, captured, texts, full, stopped, time.perf_counter() - began)
