"""Pushing along directions: pictures at each alpha, of the same seeds, and what readouts say of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from jaxtyping import Float, UInt8

from scalex.capture import Sample
from scalex.direction_files import Direction
from scalex.drawings import Drawings
from scalex.errors import ScalexError
from scalex.jobs import Job
from scalex.misclassification import Known
from scalex.scorers import AttributeScorer, Readouts, scored
from scalex.stats import MIN_SEEDS
from scalex.steering import MOST, Push, check_steers, shuffled_channels
from scalex.validation._effects import CONCEPT, position

__all__ = ["Case", "Doses", "Pixels", "Pushed", "Pusher", "Readers", "controls", "readers_of", "stands"]

_CALIBRATION = 500_000  # seeds further
_FIRST_SEED = 4_000_000  # far from the seeds of an audit, from which directions and readings are learned

Pixels = UInt8[np.ndarray, "n height width 3"]


@dataclass(frozen=True)
class Case:
    """One claim to try: that a direction takes a concept's pictures from the first of two values to the second.

    Attributes:
        concept: of the job's spec. attribute, values: as its scorer calls them.
        direction: at the probe where it is pushed.
    """

    concept: str
    attribute: str
    values: tuple[str, str]
    direction: Direction


@dataclass(frozen=True)
class Doses:
    """How directions are pushed.

    Attributes:
        alphas: tried; 0 is always among them. In multiples of the direction.
        seeds: pictures at each alpha and template. first_seed: the first of their seeds.
        templates: how many of the spec's, from the first on.
        controls: random and shuffled directions of equal length, so many of each, pushed at the `ends`.
        start: the value that prompts spell out; "" for neutral prompts.
        steps: at which the directions are added; None for all. probe: the block where; None is the model's own.
        calibrate: pictures of each of the two values' own prompts, at each template, that tell what the scorer gets
            wrong; 0 for none. Their seeds are others.

    Raises:
        ScalexError: fewer than three alphas, one that is no number or absurd, or too few seeds.
    """

    alphas: tuple[float, ...] = (-1.5, -1.0, -0.5, 0.0, 0.5, 1.0, 1.5)
    seeds: int = 16
    first_seed: int = _FIRST_SEED
    templates: int = 1
    controls: int = 2
    start: str = ""
    steps: tuple[int, ...] | None = None
    probe: str | None = None
    calibrate: int = 0

    def __post_init__(self) -> None:
        for alpha in self.alphas:
            if not math.isfinite(alpha) or abs(alpha) > MOST:
                way_out = f"They count in the distance between the variants: from -{MOST:g} to {MOST:g}"
                raise ScalexError(f"one of the alphas is {alpha}", way_out)
        object.__setattr__(self, "alphas", tuple(sorted({*map(float, self.alphas), 0.0})))
        if len(self.alphas) < 3:
            raise ScalexError("a dose-response needs three alphas or more, 0 among them", "Give -1, 0 and 1, say")
        if self.seeds < MIN_SEEDS or self.templates < 1 or self.controls < 0:
            wrong = (
                f"{self.seeds} seeds, {self.templates} templates and {self.controls} controls carry no dose-response"
            )
            raise ScalexError(wrong, f"Take at least {MIN_SEEDS} seeds and one template")
        if self.calibrate and self.calibrate < MIN_SEEDS:
            raise ScalexError(f"{self.calibrate} pictures calibrate no scorer", f"Take at least {MIN_SEEDS}, or 0")

    @property
    def ends(self) -> tuple[float, ...]:
        """The negative alpha nearest to -1 and the positive one nearest to 1: where controls are tried, and where what
        should stay is looked at."""
        sides = [[a for a in self.alphas if a < 0], [a for a in self.alphas if a > 0]]
        return tuple(min(side, key=lambda a: abs(abs(a) - 1)) for side in sides if side)

    @property
    def numbers(self) -> tuple[int, ...]:
        """The seeds."""
        return tuple(range(self.first_seed, self.first_seed + self.seeds))

    @property
    def calibration(self) -> tuple[int, ...]:
        """The seeds that a scorer is calibrated on."""
        first = self.first_seed + _CALIBRATION
        return tuple(range(first, first + self.calibrate))

    @property
    def pictures(self) -> int:
        """How many are drawn of a case."""
        pushed = self.seeds * (len(self.alphas) + 2 * self.controls * len(self.ends))
        return self.templates * (pushed + 2 * self.calibrate)


@dataclass(frozen=True)
class Readers:
    """The scorers of one case: of the target and of all that should stay, by name."""

    target: AttributeScorer
    others: dict[str, AttributeScorer]

    def place(self, case: Case, scores: Float[np.ndarray, "n values"]) -> Float[np.ndarray, "n"]:
        """Where between the case's two values each picture stands."""
        first, second = (self.target.values.index(value) for value in case.values)
        return position(scores, first, second)


def readers_of(case: Case, attributes: dict[str, tuple[str, ...]], readouts: Readouts) -> Readers | None:
    """What reads a case's pictures; None where nothing tells the target's values apart."""
    target = readouts(case.concept, case.attribute, attributes.get(case.attribute, case.values))
    if target is None:
        return None
    asked = {name: values for name, values in attributes.items() if name != case.attribute}
    asked[CONCEPT] = (case.concept,)
    found = {
        name: readouts(case.concept, "concept" if name == CONCEPT else name, values) for name, values in asked.items()
    }
    return Readers(target, {name: scorer for name, scorer in found.items() if scorer is not None})


@dataclass(frozen=True)
class Pushed:
    """Pictures of one direction at several alphas, read.

    Attributes:
        target: where each picture stands between the case's values. others: the same of what should stay.
        distance: root-mean-square difference to the picture without a push, where 1 is from black to white.
        pictures: of the first seeds, first template.
    """

    alphas: tuple[float, ...]
    target: Float[np.ndarray, "alphas templates seeds"]
    others: dict[str, Float[np.ndarray, "alphas templates seeds"]]
    distance: Float[np.ndarray, "alphas templates seeds"]
    pictures: UInt8[np.ndarray, "alphas shown height width 3"]


@dataclass
class Pusher:
    """Draws the pushed pictures of a job.

    Attributes:
        drawings: where they are kept, and found again. told: called with how many there are so far. done: how many.
    """

    job: Job
    doses: Doses
    drawings: Drawings = field(default_factory=Drawings)
    told: Callable[[int], None] = lambda done: None
    done: int = 0

    def pictures(self, direction: Direction, texts: Sequence[str], alpha: float) -> Pixels:
        """The pictures at one alpha: all seeds of the first text, then of the next."""
        push = Push(direction, alpha, self.doses.steps) if alpha else None
        return self._drawn([(text, seed) for text in texts for seed in self.doses.numbers], push)

    def known(self, case: Case, texts: Sequence[Sequence[str]], readers: Readers) -> Known:
        """What the scorer of the target says of pictures of both values' own prompts.

        Args:
            texts: of the first value, and of the second.
        """
        seeds = self.doses.calibration
        first, second = (self._drawn([(text, seed) for text in own for seed in seeds], None) for own in texts)
        places = [readers.place(case, scored(readers.target, one)).reshape(-1, len(seeds)) for one in (first, second)]
        return Known(*places)

    def _drawn(self, samples: Sequence[Sample], push: Push | None) -> Pixels:
        made = self.drawings.pictures(self.job.model, samples, self.job.plan, push)
        self.passed(len(samples))
        return made

    def passed(self, pictures: int) -> None:
        """So many more are drawn, or need not be."""
        self.done += pictures
        self.told(self.done)

    def push(
        self,
        case: Case,
        texts: Sequence[str],
        alphas: tuple[float, ...],
        readers: Readers,
        bare: Pixels,
        shown: int = 0,
    ) -> Pushed:
        """Pushes along a case's direction at every one of these alphas.

        Args:
            bare: the pictures without a push. shown: seeds whose pictures are returned.

        Raises:
            ScalexError: the direction does not fit the model, or a scorer fails.
        """
        check_steers(case.direction, self.job.model)
        shape = (len(alphas), len(texts), self.doses.seeds)
        made = np.stack([self.pictures(case.direction, texts, alpha) if alpha else bare for alpha in alphas])
        flat = made.reshape(-1, *made.shape[2:])
        apart = np.sqrt(((made.astype(np.float32) - bare) / 255).reshape(*made.shape[:2], -1).__pow__(2).mean(-1))
        return Pushed(
            alphas,
            readers.place(case, scored(readers.target, flat)).reshape(shape),
            {
                what: places.reshape(shape)
                for name, scorer in readers.others.items()
                for what, places in stands(name, scorer.values, scored(scorer, flat))
            },
            apart.astype(np.float64).reshape(shape),
            made[:, :shown],
        )


def stands(
    name: str, values: Sequence[str], scores: Float[np.ndarray, "n values"]
) -> Iterator[tuple[str, Float[np.ndarray, "n"]]]:
    """What pictures show of an attribute, in one number or more: of two values where between them; of one, or of many,
    each's share."""
    if len(values) == 2:
        yield name, position(scores, 0, 1)
        return
    for value, shares in zip(values, np.nan_to_num(scores, nan=0.0).T):
        yield (name if len(values) == 1 else f"{name} {value}"), shares


def controls(direction: Direction, n: int, shape: tuple[int, int, int], seed: int) -> Iterator[tuple[str, Direction]]:
    """Directions that mean nothing, as long as this one: n random ones, then n whose channels are shuffled.

    A shuffled one keeps what each channel's map looks like, and so how uneven the direction is.

    Args:
        shape: of the probe's value. seed: of all of them.
    """
    rng, length = np.random.default_rng(seed), float(np.linalg.norm(direction.vector.astype(np.float64)))
    for i in range(n):
        drawn = rng.standard_normal(len(direction.vector))
        yield "random", _like(direction, drawn * (length / np.linalg.norm(drawn)), f"random {i + 1}")
    for i in range(n):
        yield "shuffled", _like(direction, shuffled_channels(direction, shape[0], rng), f"shuffled {i + 1}")


def _like(direction: Direction, vector: Float[np.ndarray, "width"], name: str) -> Direction:
    return Direction(vector, replace(direction.of, name=f"{name}, as long as {direction.name}"))
