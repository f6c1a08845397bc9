"""Pictures of a concept as one small strip, and all strips within a budget of bytes."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from typing import NamedTuple, TypeAlias

import numpy as np
from jaxtyping import UInt8
from PIL import Image

__all__ = ["Picture", "Strip", "strips"]

Picture: TypeAlias = UInt8[np.ndarray, "_ _ 3"]
_SAMPLE = 12  # strips made to guess whether all will fit, before all are made
_GAP = 1 / 16  # of a picture's side

# Pictures a strip, pixels a picture, WebP quality: from what looks best down to what always fits.
_LADDER = ((8, 96, 84), (8, 64, 80), (8, 64, 60), (6, 48, 60), (6, 32, 50), (4, 24, 40))


class Strip(NamedTuple):
    """Pictures side by side. `name` is its id in the page, `source` a data URI, sizes are in pixels."""

    name: str
    source: str
    width: int
    height: int
    number: int


def strips(pictures: Mapping[str, Sequence[Picture]], budget: int) -> dict[str, Strip]:
    """One strip per concept, as large and as good as fits into `budget` bytes in all.

    Where not all fit however small they are, those that come first.
    """
    held = {concept: list(shots) for concept, shots in pictures.items() if len(shots)}
    some = list(held)[:: max(1, len(held) // _SAMPLE)]
    for number, side, quality in _LADDER:
        sample = sum(len(_strip("", held[concept][:number], side, quality).source) for concept in some)
        if sample * len(held) > budget * len(some):
            continue
        made = {
            concept: _strip(f"p{i}", shots[:number], side, quality) for i, (concept, shots) in enumerate(held.items())
        }
        if sum(len(strip.source) for strip in made.values()) <= budget:
            return made
    return _first(held, budget)


def _first(held: Mapping[str, Sequence[Picture]], budget: int) -> dict[str, Strip]:
    """The smallest strips of as many concepts as fit, from the first on."""
    (number, side, quality), made, left = _LADDER[-1], dict[str, Strip](), budget
    for i, (concept, shots) in enumerate(held.items()):
        strip = _strip(f"p{i}", shots[:number], side, quality)
        left -= len(strip.source)
        if left < 0:
            break
        made[concept] = strip
    return made


def _strip(name: str, shots: Sequence[Picture], side: int, quality: int) -> Strip:
    side = min(side, *(min(shot.shape[:2]) for shot in shots))
    gap = max(1, round(side * _GAP))
    canvas = Image.new("RGBA", (len(shots) * (side + gap) - gap, side))
    for i, shot in enumerate(shots):
        canvas.paste(_square(shot, side), (i * (side + gap), 0))
    data = io.BytesIO()
    canvas.save(data, format="WEBP", quality=quality, method=4)
    source = "data:image/webp;base64," + base64.b64encode(data.getvalue()).decode()
    return Strip(name, source, canvas.width, canvas.height, len(shots))


def _square(shot: Picture, side: int) -> Image.Image:
    """The middle of a picture, scaled to a square."""
    height, width = shot.shape[:2]
    edge = min(height, width)
    top, left = (height - edge) // 2, (width - edge) // 2
    middle = Image.fromarray(np.ascontiguousarray(shot[top : top + edge, left : left + edge]))
    return middle.resize((side, side), Image.Resampling.LANCZOS)
