"""Pictures along a direction, for people to look at: the same seeds at rising alphas, side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import UInt8
from PIL.Image import Image

from scalex.capture import Progress, generate
from scalex.direction_files import Direction
from scalex.errors import ScalexError, resumable
from scalex.jobs import Job
from scalex.prompts import build_prompts
from scalex.report.grid import grid
from scalex.steering import Push, check_steers
from scalex.wording import did_you_mean

__all__ = ["Steered", "draw_steered"]


@dataclass(frozen=True, eq=False)
class Steered:
    """Pictures of concepts at several alphas.

    Attributes:
        pictures: in the order of concepts, seeds and alphas.
    """

    concepts: tuple[str, ...]
    texts: tuple[str, ...]
    seeds: tuple[int, ...]
    alphas: tuple[float, ...]
    name: str
    pictures: UInt8[np.ndarray, "concepts seeds alphas height width 3"]

    def image(self, ends: tuple[str, str] | None = None) -> Image:
        """All of them as a grid: a row a concept and seed, a column an alpha.

        Args:
            ends: what the direction leads from and to, said at the first and the last alpha.
        """
        rows = [f"{concept} {seed}" for concept in self.concepts for seed in self.seeds]
        columns = [f"{alpha:+g}" if alpha else "0, as it is" for alpha in self.alphas]
        if ends and self.alphas[0] < 0:
            columns[0] += f" ({ends[0]})"
        if ends and self.alphas[-1] > 0:
            columns[-1] += f" ({ends[1]})"
        flat = self.pictures.reshape(len(rows), *self.pictures.shape[2:])
        return grid(flat, rows, columns, self.name)


def draw_steered(
    job: Job,
    directions: Mapping[str, Direction],
    alphas: Sequence[float],
    *,
    seeds: Sequence[int] | None = None,
    start: tuple[str, str] | None = None,
    keep_norm: bool = False,
    progress: Progress | None = None,
) -> Steered:
    """Draws concepts with their directions pushed, in the first template of the job's spec.

    Args:
        directions: by concept of the spec. seeds: None is the job's first four.
        start: attribute and value of the variant to begin with; None is the neutral prompt.
        progress: called with pictures done and to do.

    Raises:
        ScalexError: a direction does not fit the model, an alpha is absurd, there is no such concept or variant, or as
            `generate` raises.
    """
    chosen = tuple(job.seeds[:4] if seeds is None else seeds)
    texts = [_text(job, concept, start) for concept in directions]
    pushes = [[Push(direction, alpha, keep_norm=keep_norm) for alpha in alphas] for direction in directions.values()]
    for direction in directions.values():
        check_steers(direction, job.model)
    total, drawn = len(texts) * len(alphas) * len(chosen), []
    with resumable("nothing was written"):
        for text, own in zip(texts, pushes):
            for push in own:
                drawn.append(generate(job.model, [(text, seed) for seed in chosen], job.plan, push))
                if progress:
                    progress(len(drawn) * len(chosen), total)
    pictures = np.stack(drawn).reshape(len(texts), len(alphas), len(chosen), *drawn[0].shape[1:]).swapaxes(1, 2)
    names = dict.fromkeys(direction.name for direction in directions.values())
    name = next(iter(names)) if len(names) == 1 else ""
    return Steered(tuple(directions), tuple(texts), chosen, tuple(alphas), name, np.ascontiguousarray(pictures))


def _text(job: Job, concept: str, start: tuple[str, str] | None) -> str:
    """The prompt of a concept, or of its variant, in the first template."""
    attribute, value = start or ("", "")
    own = [p for p in build_prompts(job.spec) if (p.attribute, p.value) == (attribute, value)]
    found = next((p.text for p in own if p.concept == concept), None)
    if found is None:
        known = list(dict.fromkeys(p.concept for p in own))
        if not known:
            raise ScalexError(f"the spec has no {attribute} {value!r}", "Name one of its attributes and values")
        raise ScalexError(f"the spec has no concept {concept!r}", did_you_mean(concept, known, "Concepts"))
    return found
