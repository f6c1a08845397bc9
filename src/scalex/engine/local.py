"""The engine of one process: what is missing in the store is captured here, and written batch by batch."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float32

from scalex.capture import CaptureStats, Plan, Progress, Sample, capture
from scalex.errors import ScalexError
from scalex.models import Model
from scalex.records import Prompt, Reading, Recipe
from scalex.store import Store

__all__ = ["Filled", "fill", "missing"]


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


def missing(
    store: Store, recipes: Mapping[Reading, Recipe], prompts: Iterable[Prompt], seeds: Sequence[int]
) -> dict[tuple[Reading, ...], list[Sample]]:
    """The samples that the store lacks, by the readings that it lacks of them, in the order of the prompts.

    A sample that lacks both readings is captured once for both. Equal texts of several prompts are one sample.
    """
    samples = [(text, seed) for text in dict.fromkeys(p.text for p in prompts) for seed in dict.fromkeys(seeds)]
    lacking = {reading: set(store.missing(recipe, samples)) for reading, recipe in recipes.items()}
    groups: dict[tuple[Reading, ...], list[Sample]] = {}
    for sample in samples:
        if lacks := tuple(reading for reading in recipes if sample in lacking[reading]):
            groups.setdefault(lacks, []).append(sample)
    return groups


def fill(
    store: Store,
    model: Model,
    prompts: Sequence[Prompt],
    seeds: Sequence[int],
    plan: Plan,
    progress: Progress | None = None,
) -> Filled:
    """Captures what the store is missing of these prompts and seeds, and writes it batch by batch.

    Args:
        progress: called with the number of samples done and to do: at the start, and after each batch.

    Raises:
        ScalexError: it was interrupted (what was written is kept), or as `scalex.capture.capture` and the store raise.
    """
    began, recipes = time.perf_counter(), plan.recipes(model)
    groups = missing(store, recipes, prompts, seeds)
    count = _Count(sum(map(len, groups.values())), progress)
    try:
        stats = list(_run(store, model, plan, recipes, groups, count))
    except KeyboardInterrupt:
        said = f"interrupted: {count.done} of {count.total} samples were captured and are kept"
        raise ScalexError(said, "Run the same command again to go on from there") from None
    asked = len({p.text for p in prompts}) * len(set(seeds))
    full, stopped = sum(s.full for s in stats), sum(s.stopped for s in stats)
    seconds = time.perf_counter() - began
    return Filled(recipes, asked, count.done, sum(s.texts for s in stats), full, stopped, seconds)


class _Count:
    """Samples done, over all groups."""

    def __init__(self, total: int, progress: Progress | None) -> None:
        self.done, self.total, self._progress = 0, total, progress
        self.reach(0)

    def reach(self, done: int) -> None:
        self.done = done
        if self._progress:
            self._progress(done, self.total)

    def after(self, before: int) -> Progress:
        """The progress of a group that begins when `before` samples are done."""
        return lambda done, _: self.reach(before + done)


def _run(
    store: Store,
    model: Model,
    plan: Plan,
    recipes: Mapping[Reading, Recipe],
    groups: Mapping[tuple[Reading, ...], list[Sample]],
    count: _Count,
) -> Iterator[CaptureStats]:
    def sink(reading: Reading, samples: list[Sample], values: Float32[np.ndarray, "n steps width"]) -> None:
        store.write(recipes[reading], samples, values)

    for readings, samples in groups.items():
        yield capture(model, samples, replace(plan, readings=readings), sink, count.after(count.done))
