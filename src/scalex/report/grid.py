"""Pictures in a grid with labels, as one image file that a person can read by itself."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw, ImageFont

from scalex.disk import disk_errors, write_atomic

__all__ = ["grid", "save_grid"]

_GAP, _TEXT = 8, 15  # pixels
_INK, _PAPER, _FAINT = "#1c1b19", "#ffffff", "#6d6a64"
_LEAST, _MOST = 96, 256  # pixels of a picture's side


def grid(
    pictures: UInt8[np.ndarray, "rows columns height width 3"],
    rows: Sequence[str],
    columns: Sequence[str],
    title: str = "",
) -> Image.Image:
    """Pictures with a label for each row and each column, and a title above; of sides of 96 to 256 pixels."""
    side = int(np.clip(pictures.shape[2], _LEAST, _MOST))
    font, small = ImageFont.load_default(_TEXT), ImageFont.load_default(_TEXT - 2)
    left = _GAP + max((int(font.getlength(label)) for label in rows), default=0) + _GAP
    top = _GAP + (_TEXT + _GAP if title else 0) + (_TEXT + _GAP if any(columns) else 0)
    wide = max(left + len(columns) * (side + _GAP), int(font.getlength(title)) + 2 * _GAP)
    canvas = Image.new("RGB", (wide, top + len(rows) * (side + _GAP)), _PAPER)
    draw = ImageDraw.Draw(canvas)
    draw.text((_GAP, _GAP), title, _INK, font)
    for j, label in enumerate(columns):
        middle = left + j * (side + _GAP) + side / 2
        draw.text((middle - small.getlength(label) / 2, top - _TEXT - _GAP / 2), label, _FAINT, small)
    for i, label in enumerate(rows):
        draw.text((_GAP, top + i * (side + _GAP) + (side - _TEXT) / 2), label, _INK, font)
        for j in range(len(columns)):
            at = (left + j * (side + _GAP), top + i * (side + _GAP))
            canvas.paste(_scaled(pictures[i, j], side), at)
    return canvas


def save_grid(image: Image.Image, path: Path, option: str = "--out") -> Path:
    """Writes an image as PNG, whole or not at all. Returns the path.

    Raises:
        ScalexError: the folder cannot be written to.
    """
    data = io.BytesIO()
    image.save(data, format="PNG", optimize=True)
    with disk_errors(path.parent, option=option):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, data.getvalue())
    return path


def _scaled(picture: UInt8[np.ndarray, "height width 3"], side: int) -> Image.Image:
    image = Image.fromarray(np.ascontiguousarray(picture))
    scale = side / max(image.size)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    return image.resize(size, Image.Resampling.LANCZOS)
