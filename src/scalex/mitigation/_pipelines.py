"""A pipeline of diffusers whose calls are steered picture by picture, for as long as a context lasts.

The pipeline's class is put aside for one whose call looks at its arguments, steers, and goes on as ever: so whatever
kind of pipeline it is, whoever calls it, and several at once, one inside the other.
"""

from __future__ import annotations

import functools
import hashlib
import inspect
import math
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, TypeVar

import torch

from scalex.direction_files import Direction
from scalex.errors import ScalexError
from scalex.mitigation._doses import Key
from scalex.models import around
from scalex.steering import check_steers, steer

__all__ = ["Asked", "check", "steered"]

T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class Asked:
    """What a call of a pipeline asks for.

    Attributes:
        texts: the prompts; "" each where embeddings are given in their place. each: pictures of every prompt.
        generator, latents: as in the call. device: of the noise, where no generator is given.
    """

    texts: tuple[str, ...]
    each: int
    generator: Any
    latents: torch.Tensor | None
    device: torch.device

    @staticmethod
    def of(arguments: Mapping[str, Any], device: torch.device) -> Asked:
        """Of the arguments of a call."""
        prompt, embeds = arguments.get("prompt"), arguments.get("prompt_embeds")
        texts = [""] * (0 if embeds is None else len(embeds)) if prompt is None else prompt
        each = int(arguments.get("num_images_per_prompt") or 1)
        told = ((texts,) if isinstance(texts, str) else tuple(texts), each)
        return Asked(*told, arguments.get("generator"), arguments.get("latents"), device)

    def spread(self, of_prompts: Sequence[T]) -> list[T]:
        """What is so of each prompt, for each picture, in the pipeline's order.

        Raises:
            ScalexError: it is not one for each prompt.
        """
        if len(of_prompts) != len(self.texts):
            wrong = f"there are {len(of_prompts)} concepts for {len(self.texts)} prompts"
            raise ScalexError(wrong, "Give one for each prompt of the call; None leaves it alone")
        return [one for one in of_prompts for _ in range(self.each)]

    def keys(self, seeds: Sequence[int] | None = None) -> list[Key]:
        """What tells each picture's noise.

        Given seeds; or the latents that the call starts from; or the generators. One generator for all draws picture
        after picture: the first is that of its seed alone, the others are known by their places. Without any, the
        state of the global one tells them.
        """
        n = len(self.texts) * self.each
        if seeds is not None:
            if len(seeds) != n:
                raise ScalexError(f"there are {len(seeds)} seeds for {n} pictures", "Give one for each picture")
            return [("", int(seed)) for seed in seeds]
        if self.latents is not None:
            return [(_digest(one), 0) for one in self.latents]
        if self.generator is None:
            state = torch.cuda.get_rng_state(self.device) if self.device.type == "cuda" else torch.get_rng_state()
            return [(_digest(state), place) for place in range(n)]
        several = self.generator if isinstance(self.generator, list | tuple) else [self.generator] * n
        return _by_generator(several)


def _by_generator(generators: Sequence[torch.Generator]) -> list[Key]:
    """A fresh generator is its seed; one that has drawn before is its state; those that come again, their turns."""
    turns: dict[int, int] = {}
    found: list[Key] = []
    for generator in generators:
        turn = turns.setdefault(id(generator), 0)
        turns[id(generator)] += 1
        seed, state = generator.initial_seed(), generator.get_state()
        fresh = torch.equal(torch.Generator(generator.device).manual_seed(seed).get_state(), state)
        if fresh and not turn:
            found.append(("", seed))
        else:
            found.append((str(seed) if fresh else _digest(state), turn))
    return found


def _digest(values: torch.Tensor) -> str:
    return hashlib.sha256(values.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes()).hexdigest()[:32]


def check(pipe: Any, directions: Sequence[Direction], fingerprint: bool) -> None:
    """Raises ScalexError where directions do not fit a pipeline, or it cannot be steered."""
    model = around(pipe, probe=directions[0].of.probe or None, fingerprint=fingerprint)
    for direction in directions:
        check_steers(direction, model)


@contextmanager
def steered(
    pipe: Any,
    directions: Mapping[str, Direction],
    alphas: Callable[[Asked], Mapping[str, Sequence[float]]],
    steps: int,
    guidance: float,
) -> Iterator[None]:
    """Steers every call of a pipeline; then it is as it was.

    Args:
        alphas: by name of a direction, for each picture of a call; empty where none is steered.
        steps, guidance: that calls should be made with. The first that is not gives a warning.
    """
    kind = type(pipe)
    signature = inspect.signature(kind.__call__)
    warned: list[str] = []

    @functools.wraps(kind.__call__)  # its signature is asked for by whoever is applied inside
    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        bound = signature.bind(self, *args, **kwargs)
        bound.apply_defaults()
        found = alphas(Asked.of(bound.arguments, torch.device(self._execution_device)))
        if found and not warned and (other := _other(bound.arguments, steps, guidance)):
            warned.append(other)
            warnings.warn(other, stacklevel=2)
        chosen = [directions[name] for name in found]
        with steer(self, chosen, [list(row) for row in found.values()], check=False) if found else nullcontext():
            return kind.__call__(self, *args, **kwargs)

    pipe.__class__ = type(kind.__name__, (kind,), {"__call__": call, "__module__": kind.__module__})
    try:
        yield
    finally:
        pipe.__class__ = kind


def _other(arguments: Mapping[str, Any], steps: int, guidance: float) -> str:
    """How a call differs from calibration; empty where it does not."""
    made, scale = arguments.get("num_inference_steps"), arguments.get("guidance_scale")
    told = [f"{made} steps, not {steps}"] if isinstance(made, int) and made != steps else []
    if isinstance(scale, int | float) and not math.isclose(max(1.0, float(scale)), max(1.0, guidance)):
        told.append(f"guidance {scale:g}, not {guidance:g}")
    return (
        f"the mitigation was calibrated with other settings: {', '.join(told)}. Rates may miss their targets"
        if told
        else ""
    )
