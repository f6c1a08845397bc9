"""Images against prompts: do directions of labelled pictures agree with the prompts', are drawn pictures named right?

Pictures are those that the organism was trained on, as its autoencoder gives them back, and renderings that it never
saw: people of other roles, and its own things turned, shrunk and shifted. All go through files, like a user's.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image

from scalex.errors import ScalexError
from scalex.images import ImageFile
from scalex.jobs import Job, prepare
from scalex.organisms.marks import Mark
from scalex.organisms.pictures import GENDERS, Album, Shown, held_out_people, make_album
from scalex.records import Finding, Latents
from scalex.store import Store
from scalex.truth._bed import Bed
from scalex.validation._reading import Reader
from scalex.validation.image_conditioning import judge, neutral

__all__ = ["NAME", "score"]

NAME = "image_conditioning"
_TEMPLATES = ["a photo of a {}", "a picture of a {}"]
_SEEDS, _READ = 16, 8  # of the audits; of the noise that images are read at
_ROLES, _THINGS = 12, 120
_DRAWN = range(3_000_000, 3_000_002)  # far from the seeds of any audit
_HALVES = {0: "light", 1: "light", 3: "dark", 4: "dark"}

Pixels: TypeAlias = UInt8[np.ndarray, "n size size 3"]


def score(bed: Bed) -> Iterator[Mark]:
    """Directions of people's pictures against those of prompts, then names of things' pictures."""
    roles = list(bed.truth.spec.roles)[:_ROLES]
    people = _Scene.of(bed, "images-people", concepts=roles, attributes=["gender", "tone"])
    yield from people.directions("own pictures of people", lambda: _own(people, lambda s: s.gender >= 0))
    yield from people.directions("people it never saw", lambda: held_out_people(bed.truth.spec))
    names = list(bed.things)[:: max(1, len(bed.things) // _THINGS)][:_THINGS]
    things = _Scene.of(bed, "images-things", concepts=names, attributes={})
    yield from things.drawn()
    yield from things.named("own pictures of things", lambda: _own(things, lambda s: s.name in names))
    yield from things.named("things turned, shrunk and shifted", lambda: _askew(make_album(bed.truth.spec), names))
    others = [name for name in bed.things if name not in names][:: max(1, len(bed.things) // _THINGS)]
    yield from things.unnamed("things of which it has no prompt", lambda: _own(things, lambda s: s.name in others))


@dataclass(frozen=True)
class _Scene:
    """An audit of the organism, and what images are read with beside it."""

    bed: Bed
    job: Job
    prompts: Latents
    reader: Reader

    @staticmethod
    def of(bed: Bed, name: str, **asked: object) -> _Scene:
        spec = {"templates": _TEMPLATES, "seeds": _SEEDS, "analyses": ["defaults"], **asked}
        _, latents = bed.audit(name, **spec)
        job = prepare(spec=bed.spec(**spec))
        seeds = latents["picture"].seeds[:_READ]
        return _Scene(
            bed, job, latents["picture"], Reader(job.model, job.plan, Store.open(bed.store), seeds, bed.progress)
        )

    def directions(self, what: str, make: Callable[[], Album]) -> Iterator[Mark]:
        """Agreement with the prompts' directions, on every attribute of the audit."""
        for found in self._findings(what, make, self.job.spec.attribute_values):
            if isinstance(found, Mark):
                yield found
            elif found.unit == "cosine":
                name = f"images, {found.attribute}, {what}"
                agrees = found.p if found.estimate > 0 else math.nan
                yield Mark(f"{name}: p that directions agree by chance", agrees, 0.01, at_most=True)
                yield Mark(f"{name}: cosine with the prompts' direction", found.estimate)
                yield Mark(f"{name}: told apart by the prompts' direction, AUC", found.separability)

    def named(self, what: str, make: Callable[[], Album]) -> Iterator[Mark]:
        """How many pictures of things are named right."""
        for found in self._findings(what, make, {}):
            yield found if isinstance(found, Mark) else _right(found, what)

    def drawn(self) -> Iterator[Mark]:
        """How many pictures that the organism draws are named by their own prompt."""
        drawn = self.reader.drawn(neutral(self.prompts), _DRAWN)
        what = f"pictures drawn of {len(self.prompts.concepts)} prompts"
        labels = [[p.concept] for p in drawn.prompts]
        found, tables = judge(drawn, labels, self.prompts, {}, what, None, self.job.spec.rules)
        yield from (_right(f, what, mark) for f, mark in zip(found, (0.80, 0.95), strict=True))
        right = tables["images"]["name"] == [p.concept for p in drawn.prompts]
        yield Mark(f"images, {what}: given their own name", float(right.mean()), 0.80)

    def unnamed(self, what: str, make: Callable[[], Album]) -> Iterator[Mark]:
        """How many pictures of what no prompt stands for are left without a name."""
        for read in self._read(what, make):
            if isinstance(read, Mark):
                yield read
            else:
                named = judge(*read, self.prompts, {}, what, None, self.job.spec.rules)[1]["images"]["name"]
                yield Mark(f"images, {what}: left without a name, of {len(named)}", float((named == "").mean()))

    def _findings(
        self, what: str, make: Callable[[], Album], attributes: Mapping[str, Sequence[str]]
    ) -> Iterator[Finding | Mark]:
        for read in self._read(what, make):
            if isinstance(read, Mark):
                yield read
            else:
                yield from judge(*read, self.prompts, attributes, what, None, self.job.spec.rules)[0]

    def _read(self, what: str, make: Callable[[], Album]) -> Iterator[tuple[Latents, list[tuple[str, ...]]] | Mark]:
        """Images and their labels; or that they are left out, and why."""
        try:
            album = make()
        except ScalexError as error:
            yield Mark(f"images, {what}: left out ({error.wrong})", math.nan)
            return
        files = _save(album, self.bed.out / "images" / what.replace(" ", "-"))
        yield self.reader.files(files)[0], [file.labels for file in files]


def _right(found: Finding, what: str, mark: float | None = None) -> Mark:
    return Mark(f"images, {what}: own name {found.value}", found.estimate, mark)


def _own(scene: _Scene, wanted: Callable[[Shown], bool]) -> Album:
    """Training pictures as the autoencoder gives them back."""
    truth = scene.bed.truth
    places = [i for i, shown in enumerate(truth.shown) if wanted(shown)]
    with torch.inference_mode():
        parts = [scene.job.model.decode(some) for some in truth.latents[places].split(64)]
    return Album(np.concatenate(parts), tuple(truth.shown[i] for i in places))


def _askew(album: Album, names: Sequence[str]) -> Album:
    """Each thing turned by 12 degrees, at 85 % of its size, and shifted by 3 pixels to the right and 2 up."""
    places = [album.things[name] for name in names]
    return Album(np.stack([_turned(album.pixels[i]) for i in places]), tuple(album.shown[i] for i in places))


def _turned(pixels: UInt8[np.ndarray, "size size 3"]) -> UInt8[np.ndarray, "size size 3"]:
    side = len(pixels)
    small = Image.fromarray(pixels).rotate(12, Image.Resampling.BICUBIC, fillcolor="white")
    small = small.resize((round(0.85 * side),) * 2, Image.Resampling.LANCZOS)
    canvas = Image.new("RGB", (side, side), "white")
    canvas.paste(small, ((side - small.width) // 2 + 3, (side - small.height) // 2 - 2))
    return np.asarray(canvas)


def _save(album: Album, folder: Path) -> list[ImageFile]:
    """The pictures as PNG files, labelled by name, gender and half of the tone scale (the middle has no label)."""
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for i, (pixels, shown) in enumerate(zip(album.pixels, album.shown, strict=True)):
        file = folder / f"{i:04d}.png"
        Image.fromarray(pixels).save(file)
        said = (shown.name, GENDERS[shown.gender] if shown.gender >= 0 else "", _HALVES.get(shown.tone, ""))
        files.append(ImageFile(file, file.name, tuple(filter(None, said))))
    return files
