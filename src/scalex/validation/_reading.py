"""Images to latents, exactly as the picture reading reads pictures. What the store holds is not read again."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
from jaxtyping import Float32, UInt8

from scalex.capture import Plan, Progress, Sample, capture_pictures, generate, picture_size
from scalex.images import BadImage, ImageFile, image_key, read_image
from scalex.models import Model
from scalex.records import Latents, Prompt, Reading, Recipe
from scalex.store import Store

__all__ = ["Reader", "drawn_recipe", "image_recipe"]

_AT_ONCE = 64  # images held as pixels

Pixels: TypeAlias = UInt8[np.ndarray, "height width 3"]


def image_recipe(model: Model, plan: Plan) -> Recipe:
    """What determines the latent of an image, except its content and the seed of the reading noise.

    It is the recipe of the picture reading without a trajectory: `sampler` says so, and still tells the noise schedule.
    """
    recipe = _picture_recipe(model, plan)
    guidance = recipe.guidance if model.embeds_guidance else 1.0  # an input only where it is distilled in
    return replace(recipe, sampler=f"image {recipe.sampler}", steps=0, guidance=guidance, keep=(0,), truncate=False)


def drawn_recipe(model: Model, plan: Plan) -> Recipe:
    """The same for pictures that the model draws, decodes and is shown again: here the trajectory counts."""
    recipe = _picture_recipe(model, plan)
    return replace(recipe, sampler=f"drawn {recipe.sampler}", keep=(0,))


def _picture_recipe(model: Model, plan: Plan) -> Recipe:
    return replace(plan, readings=("picture",)).recipes(model)["picture"]


@dataclass(frozen=True)
class Reader:
    """Reads images with one model and plan, at the same reading noise for all, into one store.

    Attributes:
        seeds: of the reading noise. progress: called with images done and to do, of those that the store lacks.
    """

    model: Model
    plan: Plan
    store: Store
    seeds: tuple[int, ...]
    progress: Progress | None = None

    def files(self, files: Sequence[ImageFile]) -> tuple[Latents, dict[str, str]]:
        """The latents of image files, one kept step, a `Prompt` each whose concept is the file's name.

        Returns:
            The latents of those that are images, in order, and by name why the others are not.

        Raises:
            ScalexError: as capturing and the store raise.
        """
        skipped: dict[str, str] = {}
        keys = self._keys(files, skipped)
        places = {key: file for file in reversed(files) if (key := keys.get(file.name))}
        size: list[tuple[int, int]] = []  # asked of the model where there is something to read

        def load(chunk: Sequence[str]) -> dict[str, Pixels]:
            size[:] = size or [picture_size(self.model)]
            pixels = {}
            for key in chunk:
                try:
                    pixels[key] = read_image(places[key].path, size[0])
                except BadImage as error:
                    bad[key] = error.reason
            return pixels

        bad: dict[str, str] = {}
        recipe = image_recipe(self.model, self.plan)
        self._fill(recipe, list(places), load)
        skipped |= {name: bad[key] for name, key in keys.items() if key in bad}
        prompts = [Prompt(keys[f.name], f.name, "") for f in files if f.name not in skipped]
        return self.store.read(recipe, prompts, self.seeds), dict(sorted(skipped.items()))

    def drawn(self, prompts: Sequence[Prompt], seeds: Sequence[int]) -> Latents:
        """The latents of pictures that the model draws of prompts: all of these seeds of a prompt together, in order.

        A picture is rounded to 8 bits and encoded like any image: nothing of its trajectory is left but what shows.

        Raises:
            ScalexError: as generating, capturing and the store raise.
        """
        samples = {f"drawn:{seed}:{p.text}": (p.text, seed) for p in prompts for seed in seeds}

        def load(chunk: Sequence[str]) -> Mapping[str, Pixels]:
            return dict(zip(chunk, generate(self.model, [samples[key] for key in chunk], self.plan), strict=True))

        recipe = drawn_recipe(self.model, self.plan)
        self._fill(recipe, list(samples), load)
        asked = [replace(p, text=f"drawn:{seed}:{p.text}") for p in prompts for seed in seeds]
        return self.store.read(recipe, asked, self.seeds)

    @staticmethod
    def _keys(files: Sequence[ImageFile], skipped: dict[str, str]) -> dict[str, str]:
        keys = {}
        for file in files:
            try:
                keys[file.name] = image_key(file.path)
            except BadImage as error:
                skipped[file.name] = error.reason
        return keys

    def _fill(self, recipe: Recipe, keys: Sequence[str], load: Callable[[Sequence[str]], Mapping[str, Pixels]]) -> None:
        """Reads what the store lacks of these images, a few at a time. `load` leaves out what cannot be read."""

        def sink(_: Reading, samples: list[Sample], values: Float32[np.ndarray, "n 1 width"]) -> None:
            self.store.write(recipe, samples, values)

        lacking: dict[str, list[int]] = {}
        for key, seed in self.store.missing(recipe, [(key, seed) for key in keys for seed in self.seeds]):
            lacking.setdefault(key, []).append(seed)
        todo = list(lacking)
        told = self.progress or (lambda *_: None)
        for start in range(0, len(todo), _AT_ONCE):
            told(start, len(todo))
            chunk = todo[start : start + _AT_ONCE]
            pictures = load(chunk)
            samples = [(key, seed) for key in chunk if key in pictures for seed in lacking[key]]
            if samples:
                capture_pictures(self.model, pictures, samples, self.plan, sink)
            told(start + len(chunk), len(todo))
