"""What to capture and how: the readings, the sampler's steps, which of them are kept, and what that costs."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from jaxtyping import Float, Float32

from scalex.errors import ScalexError
from scalex.models import Model, timesteps
from scalex.records import READINGS, Reading, Recipe

__all__ = ["Keep", "Plan", "Pool", "Steps"]

Keep: TypeAlias = str | int | Sequence[str | int]
Pool: TypeAlias = Callable[[torch.Tensor], torch.Tensor]

# The text reading of SCALEX is that of step one; the picture is read when it is done.
_USUAL: Mapping[Reading, Keep] = {"text": "first", "picture": "last"}


@dataclass(frozen=True)
class Steps:
    """A plan worked out for one model: which of its `total` denoiser calls are read, and how each is made.

    Attributes:
        asked: the number of steps asked for; some samplers call the denoiser more often than that. total: its calls.
        text, picture: the kept steps of each reading, ascending, from 0; empty where it is not asked for.
        guidance: the scale. doubled: each full step runs the denoiser with and without the prompt.
        level: the timestep of the noise that the picture reading adds.
    """

    asked: int
    total: int
    text: tuple[int, ...]
    picture: tuple[int, ...]
    guidance: float
    doubled: bool
    level: int

    @property
    def full(self) -> int:
        """How many steps run whole: all before the last text reading, and all that a picture reading needs."""
        return max([0, *self.text, *(k + 1 for k in self.picture)])

    @property
    def stops(self) -> bool:
        """Whether the text reading goes one step further than the whole steps, and stops there at the probe."""
        return self.full in self.text

    @property
    def forwards(self) -> tuple[int, int]:
        """Whole and stopped forwards of the denoiser that one sample takes."""
        return self.full * (1 + self.doubled), len(self.picture) + self.stops


@dataclass(frozen=True)
class Plan:
    """What to capture of each sample.

    Attributes:
        readings: the text reading, the picture reading, or both (of the same trajectory).
        steps: denoising steps of the whole trajectory, whether or not all of them are run.
        guidance: classifier-free guidance scale, 1 for none; None for what the model recommends.
        keep: the kept steps: "first", "last", "all", a number from 0 (or negative, from the end), or several of these;
            a mapping gives them by reading. By default the first for the text reading, the last for the picture's.
        level: the timestep of the noise that the picture reading adds to the predicted clean latent.
        pooling: of the probe's map: "mean" (C numbers), "grid:g" (C * g * g, averages over a g x g grid) or "full".
        truncate: whether texts longer than the model takes are cut.
        batch: samples in a batch; None for a size that suits the device. Too large a one is halved on the way.
        moments: seeds in a block whose running moments are stored in place of samples; 0 to store samples.

    Raises:
        ScalexError: a value is out of its range.
    """

    readings: tuple[Reading, ...] = READINGS
    steps: int = 4
    guidance: float | None = None
    keep: Keep | Mapping[Reading, Keep] | None = None
    level: int = 100
    pooling: str = "mean"
    truncate: bool = False
    batch: int | None = None
    moments: int = 0

    def __post_init__(self) -> None:
        if not self.readings or not set(self.readings) <= set(READINGS):
            raise ScalexError(f"readings are {list(self.readings)}", f"Choose from {', '.join(READINGS)}")
        if self.steps < 1:
            raise ScalexError(f"steps is {self.steps}", "A trajectory has at least one step")
        if self.batch is not None and self.batch < 1:
            raise ScalexError(f"batch is {self.batch}", "A batch has at least one sample")
        if self.moments < 0 or self.moments == 1:
            raise ScalexError(f"moments is {self.moments}", "A block has at least two seeds")
        if self.guidance is not None and not 1 <= self.guidance < float("inf"):
            raise ScalexError(f"guidance is {self.guidance}", "It is at least 1, which is none")
        if not re.fullmatch(r"mean|full|grid:[1-9]\d*", self.pooling):
            raise ScalexError(f"unknown pooling {self.pooling!r}", "Choose mean, full or grid:N")

    def resolve(self, model: Model) -> Steps:
        """The plan for this model.

        Raises:
            ScalexError: the sampler can't make so many steps, a kept step is not among them, or the noise level is not
                one of the model's timesteps.
        """
        scheduler = _timed(model, self.steps)
        if not 0 <= self.level < timesteps(scheduler):
            raise ScalexError(f"level is {self.level}", f"The model's timesteps are 0..{timesteps(scheduler) - 1}")
        total = len(scheduler.timesteps)
        text, picture = (self._kept(r, total) if r in self.readings else () for r in READINGS)
        guidance = self._guidance(model)
        return Steps(self.steps, total, text, picture, guidance, guidance > 1 and not model.embeds_guidance, self.level)

    def recipes(self, model: Model) -> dict[Reading, Recipe]:
        """What determines the latents of each reading, beside text and seed. Raises what `resolve` raises."""
        steps = self.resolve(model)
        self.pool(model)
        return {
            reading: Recipe(
                model=model.fingerprint,
                reading=reading,
                sampler=model.sampler,
                steps=self.steps,
                guidance=steps.guidance,
                keep=steps.text if reading == "text" else steps.picture,
                level=self.level if reading == "picture" else 0,
                probe=model.probe,
                pooling=self.pooling,
                dtype=model.precision,
                latent_shape=model.latent_shape,
                truncate=self.truncate,
                moments=self.moments,
            )
            for reading in self.readings
        }

    def pool(self, model: Model) -> Pool:
        """The pooling, as a function from (n, C, h, w) to float32 (n, width).

        Raises:
            ScalexError: the grid is finer than the probe's map.
        """
        grid = int(self.pooling[5:]) if self.pooling.startswith("grid:") else 1
        if grid > min(model.probe_shape[1:]):
            sides = " x ".join(map(str, model.probe_shape[1:]))
            raise ScalexError(f"pooling {self.pooling} is finer than the probe's map of {sides}", "Choose pooling full")

        def pool(value: Float[torch.Tensor, "n c h w"]) -> Float32[torch.Tensor, "n width"]:
            value = value.float()
            if self.pooling == "full":
                return value.flatten(1)
            return torch.nn.functional.adaptive_avg_pool2d(value, grid).flatten(1)

        return pool

    def width(self, model: Model) -> int:
        """How many numbers a latent has after pooling."""
        return int(self.pool(model)(torch.empty(1, *model.probe_shape)).shape[1])

    def _guidance(self, model: Model) -> float:
        return float(model.default_guidance if self.guidance is None else self.guidance)

    def _kept(self, reading: Reading, total: int) -> tuple[int, ...]:
        keep = self.keep
        if keep is None or isinstance(keep, Mapping):
            keep = (keep or {}).get(reading, _USUAL[reading])
        if keep == "all":
            return tuple(range(total))
        wanted = [keep] if isinstance(keep, str | int) else list(keep)
        steps = {self._step(reading, k, total) for k in wanted}
        if not steps:
            raise ScalexError(f"no step is kept for the {reading} reading", "Keep first, last, all, or numbers from 0")
        return tuple(sorted(steps))

    @staticmethod
    def _step(reading: Reading, kept: str | int, total: int) -> int:
        step = {"first": 0, "last": total - 1}.get(kept) if isinstance(kept, str) else kept
        if step is None or not -total <= step < total:
            way_out = f"Choose first, last, all, or numbers in 0..{total - 1}"
            raise ScalexError(f"the {reading} reading can't keep step {kept!r} of {total}", way_out)
        return step % total


def _timed(model: Model, steps: int) -> Any:
    """A scheduler of the model, set to so many steps."""
    try:
        return model.timed_scheduler(steps)
    except ValueError as error:
        name = type(model.new_scheduler()).__name__
        raise ScalexError(f"{name} can't make {steps} steps ({str(error).split('. ')[0]})", "Choose fewer") from error
