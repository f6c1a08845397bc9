"""Pictures in a grid with labels, as one image file that a person can read by itself."""

from __future__ import annotations

import io
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from scalex.disk import disk_errors, write_atomic
from scalex.report.pictures import Picture

__all__ = ["grid", "save_grid"]

Cell: TypeAlias = tuple[int, int]  # row and column

_GAP, _TEXT, _SMALL = 8, 15, 13  # pixels
_INK, _PAPER, _FAINT, _FRAME = "#1c1b19", "#ffffff", "#6d6a64", "#d65d0e"
_LEAST, _MOST = 96, 256  # pixels of a picture's side


def grid(
    pictures: Iterable[Iterable[Picture]],
    rows: Sequence[str],
    columns: Sequence[str],
    title: str = "",
    *,
    headings: Mapping[int, str] | None = None,
    captions: Mapping[Cell, str] | None = None,
    framed: Collection[Cell] = (),
) -> Image.Image:
    """Rows of pictures with a label for each row and each column, all of one size.

    Args:
        rows: labels; what follows a line break stands smaller below. columns: labels; where some are empty, a column
            with a label begins a block of its own.
        headings: what stands above rows, by their number. captions: what stands under pictures.
        framed: pictures that are set off.
    """
    headings, captions, cells = headings or {}, captions or {}, [list(row) for row in pictures]
    font, small = ImageFont.load_default(_TEXT), ImageFont.load_default(_SMALL)
    side = int(np.clip(max(picture.shape[0] for row in cells for picture in row), _LEAST, _MOST))
    left = _GAP + max((round(font.getlength(line)) for label in rows for line in label.split("\n")), default=0) + _GAP
    above = _GAP + (_TEXT + _GAP if title else 0) + (_TEXT + _GAP if any(columns) else 0)
    each = side + _GAP + (_SMALL + _GAP // 2 if captions else 0)
    tops = [above + i * each + sum(_TEXT + _GAP for row in headings if row <= i) for i in range(len(cells))]
    places = _places(left, side, max(map(len, cells)), columns)
    across = places[-1] + side + _GAP
    words = [font.getlength(text) for text in (title, *headings.values())]
    canvas = Image.new("RGB", (round(max(across, *words)) + _GAP, tops[-1] + each), _PAPER)
    draw = ImageDraw.Draw(canvas)
    draw.text((_GAP, _GAP), title, _INK, font)
    for place, label in zip(places, columns):
        draw.text((place, above - _TEXT - _GAP / 2), label, _FAINT, small)
    for i, (row, label, top) in enumerate(zip(cells, rows, tops, strict=True)):
        draw.text((_GAP, top - _TEXT - _GAP / 2), headings.get(i, ""), _INK, font)
        _label(draw, label, top + side // 2)
        for j, picture in enumerate(row):
            at = (places[j], top)
            canvas.paste(_scaled(picture, side), at)
            draw.text((at[0] + side / 2, top + side), captions.get((i, j), ""), _FAINT, small, anchor="ma")
            if (i, j) in framed:
                draw.rectangle((*at, at[0] + side - 1, at[1] + side - 1), outline=_FRAME, width=2)
    return canvas


def _places(left: int, side: int, n: int, columns: Sequence[str]) -> list[int]:
    """Where the columns begin."""
    blocks = [sum(map(bool, columns[1 : j + 1])) if "" in columns else 0 for j in range(n)]
    return [left + j * (side + _GAP) + 2 * _GAP * block for j, block in enumerate(blocks)]


def _label(draw: ImageDraw.ImageDraw, label: str, middle: int) -> None:
    """A row's label, its lines around the middle of the row."""
    first, *more = label.split("\n")
    top = middle - (_TEXT + len(more) * (_SMALL + 4)) / 2
    draw.text((_GAP, top), first, _INK, ImageFont.load_default(_TEXT))
    for n, line in enumerate(more):
        draw.text((_GAP, top + _TEXT + 4 + n * (_SMALL + 4)), line, _FAINT, ImageFont.load_default(_SMALL))


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


def _scaled(picture: Picture, side: int) -> Image.Image:
    image = Image.fromarray(np.ascontiguousarray(picture))
    scale = side / max(image.size)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    return image.resize(size, Image.Resampling.LANCZOS)
