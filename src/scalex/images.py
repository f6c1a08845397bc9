"""Folders of images: which there are, what they are labelled, and each as pixels of the size that a model takes.

Labels are the names of the subfolders that an image lies in, and what a `labels.csv` says of it: a column `file` (paths
within the folder) and any number of columns with labels. What is broken, too large or no image is told by name.
"""

from __future__ import annotations

import csv
import hashlib
import io
import os
import struct
import warnings
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageOps, UnidentifiedImageError

from scalex.errors import ScalexError
from scalex.spec_errors import read_text

__all__ = ["LABELS", "BadImage", "ImageFile", "image_key", "list_images", "read_image"]

LABELS = "labels.csv"
_FILE = "file"
_VERSION = 1  # of how bytes become pixels here: part of an image's key
_BOMBS = (Image.DecompressionBombWarning, Image.DecompressionBombError)
# What Pillow's decoders raise on damaged files.
_DAMAGED = (OSError, EOFError, SyntaxError, ValueError, TypeError, IndexError, KeyError, struct.error, zlib.error)


class BadImage(ScalexError):
    """A file that gives no picture. `reason` completes a sentence that begins with its name."""

    def __init__(self, path: Path, reason: str) -> None:
        self.reason = reason
        super().__init__(f"image {path} {reason}", "Remove or mend it")


@dataclass(frozen=True, slots=True)
class ImageFile:
    """A file that may be an image: where it is, its name within the folder, and its labels."""

    path: Path
    name: str
    labels: tuple[str, ...] = ()


def list_images(folder: Path, labels: Path | None = None) -> list[ImageFile]:
    """All files in a folder and its subfolders, by name, each with its labels. Hidden files are left out.

    A folder that links lead to twice, or back to, is seen once.

    Args:
        labels: the table of labels, where it is not `labels.csv` in the folder.

    Raises:
        ScalexError: a folder cannot be read, holds no file, or the table of labels is not right.
    """
    table, there = labels or folder / LABELS, list(_walk(folder))
    told = _read_labels(table) if labels or table.is_file() else {}
    files = [path for path in there if path.resolve() != table.resolve()]
    if not files:
        raise ScalexError(f"{folder} holds no images", "Name a folder with images in it or in its subfolders")
    names = {path.relative_to(folder).as_posix(): path for path in files}
    for name in told:
        if name not in names:
            raise ScalexError(f"{table} names {name!r}, which is not in {folder}", "Name files as they lie there")
    return [
        ImageFile(path, name, tuple(dict.fromkeys((*Path(name).parts[:-1], *told.get(name, ())))))
        for name, path in sorted(names.items())
    ]


def _walk(folder: Path) -> Iterator[Path]:
    seen: set[tuple[int, int]] = set()
    for place, subfolders, files in os.walk(folder, onerror=_refuse, followlinks=True):
        status = Path(place).stat()
        if (status.st_dev, status.st_ino) in seen:
            subfolders.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
        yield from (Path(place, name) for name in files if not name.startswith("."))


def _refuse(error: OSError) -> None:
    raise ScalexError(f"the folder {error.filename} cannot be read ({error.strerror})", "Name another folder")


def _read_labels(path: Path) -> dict[str, tuple[str, ...]]:
    rows = csv.DictReader(io.StringIO(read_text(path, "the table of labels"), newline=""), skipinitialspace=True)
    told: dict[str, tuple[str, ...]] = {}
    try:
        if _FILE not in (rows.fieldnames or ()):
            raise ScalexError(f"{path} has no column `{_FILE}`", f"Its first line may be: {_FILE},label")
        for row in rows:
            name = Path(row[_FILE] or "").as_posix()
            if name in told:
                raise ScalexError(f"{path} names {name!r} twice", "Put all labels of an image into one line")
            cells = [cell for column, cell in row.items() if column not in (_FILE, None)]
            told[name] = tuple(cell.strip() for cell in cells if isinstance(cell, str) and cell.strip())
    except csv.Error as error:
        raise ScalexError(f"{path} is no table ({error}, line {rows.line_num + 1})", "Mend that line") from None
    return told


def image_key(path: Path) -> str:
    """What names the content of an image file, wherever it lies.

    Raises:
        BadImage: it cannot be read, or is no ordinary file.
    """
    if not path.is_file():  # a pipe would never end
        raise BadImage(path, "is no file")
    try:
        with path.open("rb") as file:
            return f"image:{_VERSION}:{hashlib.file_digest(file, 'sha256').hexdigest()}"
    except OSError as error:
        raise BadImage(path, f"cannot be read ({error.strerror})") from None


def read_image(path: Path, size: tuple[int, int]) -> UInt8[np.ndarray, "height width 3"]:
    """The middle of an image, as large as fits, scaled to (height, width): upright, opaque on white, in RGB.

    Raises:
        BadImage: it is broken, no image, or has more pixels than Pillow takes without suspecting a bomb.
    """
    if not path.is_file():
        raise BadImage(path, "is no file")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of metadata that do not matter here
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path) as image:
                opaque = _opaque(_eight_bits(ImageOps.exif_transpose(image)))
                fitted = ImageOps.fit(opaque, size[::-1], Image.Resampling.LANCZOS)
    except _BOMBS:
        raise BadImage(path, f"is refused: more than {Image.MAX_IMAGE_PIXELS or 0:,} pixels") from None
    except UnidentifiedImageError:
        raise BadImage(path, "is no image") from None
    except _DAMAGED as error:
        raise BadImage(
            path, f"is broken ({str(error).splitlines()[0] if str(error) else type(error).__name__})"
        ) from None
    return np.asarray(fitted)


def _eight_bits(image: Image.Image) -> Image.Image:
    """Gray of 16 bits as of 8: Pillow would cut it at 255."""
    if not image.mode.startswith("I"):
        return image
    return Image.fromarray((np.asarray(image).clip(0, 65535) // 257).astype(np.uint8))


def _opaque(image: Image.Image) -> Image.Image:
    if not image.has_transparency_data:
        return image.convert("RGB")
    over = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", over.size, "white"), over).convert("RGB")
