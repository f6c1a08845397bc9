"""A library of directions: a folder of direction files, listed, found by name, and exported for use without scalex.

The folder is `directions` in the current one, unless SCALEX_DIRECTIONS or the caller names another. A file that is no
direction is listed with what is wrong with it: it hides no other.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from scalex.direction_files import Direction, load_direction
from scalex.disk import disk_errors, write_atomic
from scalex.errors import ScalexError
from scalex.models import Model
from scalex.steering import check_steers
from scalex.wording import did_you_mean

__all__ = ["FOLDER", "FORMATS", "SUFFIX", "Held", "card", "export_direction", "find", "library_folder", "listed"]

FOLDER, SUFFIX = "directions", ".safetensors"
FORMATS = ("npy", "json", "safetensors")
"""What `export_direction` writes: numpy's array with a .json of the provenance beside it; one .json with both; and a
safetensors file with the one tensor `vector`."""


@dataclass(frozen=True, eq=False)
class Held:
    """One file of a library: its direction, or what is wrong with it."""

    path: Path
    direction: Direction | None
    wrong: str = ""

    def misfit(self, model: Model) -> str:
        """Why it cannot steer a model, in one line; empty where it can."""
        if self.direction is None:
            return self.wrong
        try:
            check_steers(self.direction, model)
        except ScalexError as error:
            return str(error)
        return ""


def library_folder(folder: str | Path | None = None) -> Path:
    """The folder given, or that of SCALEX_DIRECTIONS, or else `directions` in the current one. It need not exist."""
    return Path(folder or os.environ.get("SCALEX_DIRECTIONS") or FOLDER).expanduser()


def listed(folder: str | Path | None = None) -> list[Held]:
    """All direction files of a library and its subfolders, by name; those that are broken, too.

    Raises:
        ScalexError: the folder does not exist.
    """
    place = library_folder(folder)
    if not place.is_dir():
        wrong = f"there is no library of directions at {place}"
        raise ScalexError(wrong, "Name a folder, set SCALEX_DIRECTIONS, or save into it: `scalex name RUN --save FILE`")
    return [_held(path) for path in sorted(place.rglob(f"*{SUFFIX}")) if not _hidden(path.relative_to(place))]


def _hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


def _held(path: Path) -> Held:
    try:
        return Held(path, load_direction(path))
    except ScalexError as error:
        return Held(path, None, str(error))


def find(name: str | Path, folder: str | Path | None = None) -> Path:
    """The file that is meant: a path to one, or the name of a file of the library, with or without its ending.

    Raises:
        ScalexError: there is none.
    """
    place = library_folder(folder)
    for path in (Path(name), place / name, place / f"{name}{SUFFIX}"):
        if path.is_file():
            return path
    if not place.is_dir():
        raise ScalexError(f"direction file {name} does not exist", f"Check the path; there is no library at {place}")
    known = [str(h.path.relative_to(place)).removesuffix(SUFFIX) for h in listed(place)]
    raise ScalexError(f"there is no direction {str(name)!r} in {place}", did_you_mean(str(name), known, "Directions"))


def card(direction: Direction) -> dict[str, Any]:
    """What is told of a direction, as plain data: its provenance, its width, and its length, the unit of alpha."""
    told = {"width": len(direction.vector), "length": float(np.linalg.norm(direction.vector))}
    return {"name": direction.name, **told, **asdict(direction.of)}


def export_direction(direction: Direction, path: str | Path, to: str | None = None) -> list[Path]:
    """Writes a direction in a form that needs no scalex to be read. Returns the files.

    The vector is float32, as long as the direction is: (channels,) where latents were pooled to their mean, channels x
    cells of the grid, or channels x height x width of a whole map, flat in this order. What each seed gave is left out.

    Args:
        path: of the file. to: one of `FORMATS`; by default what the path ends in.

    Raises:
        ScalexError: there is no such format, the disk is full or the folder cannot be written to.
    """
    file = Path(path)
    form = to or file.suffix.removeprefix(".")
    if form not in FORMATS:
        raise ScalexError(f"a direction cannot be exported as {form!r}", did_you_mean(form, FORMATS, "Formats"))
    file = file if file.suffix == f".{form}" else Path(f"{file}.{form}")
    with disk_errors(file.parent, option="--out"):
        file.parent.mkdir(parents=True, exist_ok=True)
        parts = dict(_written(direction, file, form))
        for part, content in parts.items():
            write_atomic(part, content)
    return list(parts)


def _written(direction: Direction, file: Path, form: str) -> Iterator[tuple[Path, bytes | str]]:
    import io

    from safetensors.numpy import save

    vector, told = np.ascontiguousarray(direction.vector, np.float32), card(direction)
    if form == "npy":
        data = io.BytesIO()
        np.save(data, vector, allow_pickle=False)
        yield file, data.getvalue()
        yield file.with_suffix(".json"), _json(told)
    elif form == "json":
        yield file, _json({**told, "vector": [float(x) for x in vector]})
    else:
        text = {key: value if isinstance(value, str) else json.dumps(value) for key, value in told.items()}
        yield file, save({"vector": vector}, text)


def _json(told: Mapping[str, Any]) -> str:
    return json.dumps(told, ensure_ascii=False, indent=1)
