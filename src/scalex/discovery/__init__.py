"""Discovery: directions that nobody asked for by a prompt. An open set of methods.

A module of this folder is a method: `NAME`, `SHARE` and `discover(seen, n, rng)`. A new one is one new file; modules
whose names begin with an underscore are shared parts. What is found is a `Direction` like any other: it is named,
steered with, saved and held against others.

No method is told an attribute or its values: what it learns from are neutral prompts ("a photo of a pilot"), the
weights, or the denoiser itself.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, cast, runtime_checkable

import numpy as np
from jaxtyping import Float

from scalex import scratch
from scalex.capture import Keep, Plan, Progress
from scalex.direction_files import Direction, Provenance, stamped
from scalex.engine import Fill, fill
from scalex.errors import ScalexError
from scalex.jobs import Job
from scalex.models import Model
from scalex.records import Latents, Prompt, Reading, Recipe
from scalex.store import Store
from scalex.wording import did_you_mean

__all__ = ["MOST", "Found", "Material", "Method", "available", "check_count", "discover", "material", "method"]

_BLOCKS = 4  # of `scratch`, that are read from a store at once
MOST = 1024
"""Directions that are found at once."""


@dataclass(frozen=True, eq=False)
class Found:
    """A direction that a method found.

    Attributes:
        direction: its origin is the method's name. Methods may give it any length; `discover` sets it to two standard
            deviations of samples along it, within prompts: alpha 1 then goes from one side of the usual to the other.
        share: how much it explains, from 0 to 1, of what the method's `SHARE` names.
    """

    direction: Direction
    share: float


@dataclass(frozen=True, eq=False)
class Material:
    """What a method may look at: the model, and the latents of samples, which are captured when they are asked for.

    Attributes:
        plan: of one reading; its kept steps are those that directions are found at.
        prompts: neutral ones, each text once. seeds: of every prompt.
        store: of the latents. engine: what captures. progress: called with samples done and to do.
    """

    model: Model
    plan: Plan
    prompts: tuple[Prompt, ...]
    seeds: tuple[int, ...]
    store: Store
    engine: Fill = fill
    progress: Progress | None = None
    _held: dict[str, Latents] = field(init=False, repr=False, default_factory=dict)

    @property
    def reading(self) -> Reading:
        """The one reading."""
        return self.plan.readings[0]

    def recipe(self, pooling: str | None = None) -> Recipe:
        """That of the latents. `pooling` in place of the plan's own."""
        return self._pooled(pooling).recipes(self.model)[self.reading]

    def latents(self, pooling: str | None = None) -> Latents:
        """The latents of all prompts and seeds, read from the store once; what it lacks is captured first.

        Beyond a budget of memory they lie in a file: go over `values` in blocks (`scalex.scratch.blocks`).

        Args:
            pooling: "mean", "grid:g" or "full" in place of the plan's own.

        Raises:
            ScalexError: as capturing and the store raise.
        """
        recipe = self.recipe(pooling)
        if recipe.pooling not in self._held:
            self._fill(recipe.pooling)
            self._held[recipe.pooling] = self.store.read(recipe, self.prompts, self.seeds)
        return self._held[recipe.pooling]

    def blocks(self, pooling: str | None = None) -> Iterator[Latents]:
        """The same, some prompts with all their seeds at a time: memory holds one block, however many samples there
        are, and so does the disk beside the store. (Where `latents` has read them, they are one block.)

        Raises:
            ScalexError: as `latents`.
        """
        recipe = self.recipe(pooling)
        if recipe.pooling in self._held:
            yield self._held[recipe.pooling]
            return
        self._fill(recipe.pooling)
        width = self._pooled(pooling).width(self.model)
        some = _BLOCKS * scratch.in_block(len(self.seeds) * len(recipe.keep) * width * 4)
        for start in range(0, len(self.prompts), some):
            yield self.store.read(recipe, self.prompts[start : start + some], self.seeds)

    def _fill(self, pooling: str) -> None:
        self.engine(self.store, self.model, self.prompts, self.seeds, self._pooled(pooling), self.progress)

    def direction(
        self,
        vector: Float[np.ndarray, "width"],
        name: str,
        origin: str,
        step: int,
        pooling: str | None = None,
        seeds: Sequence[int] = (),
    ) -> Direction:
        """A direction of this model, with all that is known of where it comes from.

        Args:
            vector: flat as latents of this pooling. step: the denoising step, from 0.
            seeds: that it was learned from; none where it was learned from no samples.
        """
        of = Provenance(name, origin, self.reading, step, tuple(seeds))
        return stamped(Direction(vector, of), self.recipe(pooling))

    def _pooled(self, pooling: str | None) -> Plan:
        return self.plan if pooling is None else replace(self.plan, pooling=pooling)


@runtime_checkable
class Method(Protocol):
    """What a module of this folder offers.

    Attributes:
        NAME: of the method, and the origin of its directions. SHARE: what `Found.share` is a share of, in words.
    """

    NAME: str
    SHARE: str

    def discover(self, seen: Material, n: int, rng: np.random.Generator) -> list[Found]:
        """The first n directions at every kept step (or n in all, where the method knows no steps), best first.

        Raises:
            ScalexError: there are not so many, or the method does not work on this model.
        """


def available() -> dict[str, Method]:
    """All methods by name."""
    names = sorted(m.name for m in pkgutil.iter_modules(__path__) if not m.name.startswith("_"))
    modules = [cast(Method, importlib.import_module(f"{__name__}.{name}")) for name in names]
    return {module.NAME: module for module in modules}


def method(name: str) -> Method:
    """A method by its name.

    Raises:
        ScalexError: there is none of that name.
    """
    known = available()
    if name not in known:
        raise ScalexError(f"there is no method {name!r}", did_you_mean(name, known, "Methods"))
    return known[name]


def check_count(n: int, most: int, why: str) -> None:
    """Raises ScalexError where more directions are asked for than there can be, or none. `why` ends the sentence "there
    are at most 20 ..."."""
    if not 1 <= n <= min(most, MOST):
        limit = f"there are at most {most} {why}" if most < MOST else f"at most {MOST} are found at once"
        raise ScalexError(f"{n} directions were asked for", f"Ask for at least 1; {limit}")


def material(
    job: Job,
    store: Store,
    *,
    reading: Reading = "picture",
    keep: Keep = "last",
    pooling: str = "full",
    progress: Progress | None = None,
    engine: Fill = fill,
) -> Material:
    """What a job offers to discovery: its neutral prompts of concepts, and its seeds.

    Args:
        reading: the picture reading shows what was drawn, which is what seeds change. keep: the denoising steps.
        pooling: of the latents, as in `Plan`.

    Raises:
        ScalexError: the plan does not fit the model.
    """
    told: dict[str, Any] = {"readings": (reading,), "keep": {reading: keep}, "pooling": pooling, "moments": 0}
    plan = replace(job.plan, **told)
    plan.recipes(job.model)
    neutral: dict[str, Prompt] = {}
    for prompt in job.prompts:
        if prompt.role == "concept" and not prompt.attribute:
            neutral.setdefault(prompt.text, prompt)
    return Material(job.model, plan, tuple(neutral.values()), job.seeds, store, engine, progress)


def discover(seen: Material, name: str, n: int, seed: int = 0) -> list[Found]:
    """The first n directions that a method finds, as long as samples vary along them; the same seed finds the same.

    Raises:
        ScalexError: there is no such method, or as the method.
    """
    chosen = method(name)
    check_count(n, MOST, "")
    found = chosen.discover(seen, n, np.random.default_rng(seed))
    lengths = 2 * _deviations(seen, [one.direction for one in found])
    return [replace(one, direction=_of_length(one.direction, length)) for one, length in zip(found, lengths)]


def _of_length(direction: Direction, length: float) -> Direction:
    own = float(np.linalg.norm(direction.vector))
    if not own > 0 or not length > 0:  # no sample moves along it
        return direction
    by_seed = None if direction.by_seed is None else direction.by_seed * (length / own)
    return replace(direction, vector=direction.vector * (length / own), by_seed=by_seed)


def _deviations(seen: Material, named: Sequence[Direction]) -> Float[np.ndarray, "n"]:
    """The standard deviation of samples along each direction, each prompt less its mean."""
    found = np.zeros(len(named))
    for pooling in dict.fromkeys(d.of.pooling for d in named):
        own = [i for i, d in enumerate(named) if d.of.pooling == pooling]
        whole = pooling == "mean" and seen.plan.pooling == "full"  # these latents are there already
        parts = [[_places(latents, named[i]) for i in own] for latents in seen.blocks("full" if whole else pooling)]
        for i, each in zip(own, zip(*parts)):
            places = np.concatenate(each)
            found[i] = float((places - places.mean(1, keepdims=True)).std())
    return found


def _places(latents: Latents, direction: Direction) -> Float[np.ndarray, "prompts seeds"]:
    """How far along a direction samples lie."""
    unit = direction.vector / max(float(np.linalg.norm(direction.vector)), 1e-30)
    cells = latents.values.shape[-1] // len(unit)
    along = np.repeat(unit, cells) / cells  # of a map, this is the product with its mean
    k = latents.steps.index(direction.of.step)
    return np.concatenate([latents.values[rows, :, k] @ along for rows in scratch.blocks(latents.values)])
