"""What was drawn under edits, each sample once: work that was interrupted goes on from there, and draws nothing twice.

A store keeps the latents of prompts, many of a recipe, for any analysis. Pushed samples are few of each direction and
alpha, and serve what pushed them: they lie in one SQLite file in the folder of whatever draws them, by a hash of all
that determines them. That is not who reads them, so another scorer or classifier is asked about the same pictures.

Pictures are kept without loss (WebP): about 5 KB of 64 pixels, some 700 KB of 512. The file is safe to delete.
"""

from __future__ import annotations

import hashlib
import io
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from jaxtyping import Float32, UInt8
from PIL import Image

from scalex.capture import Plan, Sample, Steer, capture, generate
from scalex.errors import ScalexError
from scalex.models import Model
from scalex.prompts import sample_key
from scalex.records import Recipe
from scalex.steering import edit_key

__all__ = ["FILE", "Drawings"]

FILE = "drawings.sqlite"
_VERSION = 1
_WAIT = 60.0  # seconds for another process that writes
_MADE = "CREATE TABLE IF NOT EXISTS drawn (key TEXT PRIMARY KEY, data BLOB NOT NULL) WITHOUT ROWID"
_TROUBLES = {
    "full": ("disk full at {file}", "Free space and run the same command again: what was drawn is kept"),
    "locked": ("another process is writing to {file}", "Wait for it, or name another folder"),
    "readonly": ("cannot write to {file}", "Give yourself write permission there, or name another folder"),
    "unable to open": ("cannot write to {file}", "Give yourself write permission there, or name another folder"),
    "not a database": ("{file} is damaged", "Delete it: what it holds is drawn again"),
    "malformed": ("{file} is damaged", "Delete it: what it holds is drawn again"),
}

_Kept: TypeAlias = Callable[[Sequence[Sample], Any], None]  # is told samples and what they gave, batch after batch


@dataclass(frozen=True)
class Drawings:
    """Samples that were drawn, in a file. `Drawings()` has none, and keeps nothing.

    An edit that does not say what it is (see `scalex.steering.edit_key`) is drawn every time.

    Attributes:
        file: made when something is kept.
    """

    file: Path | None = None

    @staticmethod
    def open(folder: str | Path) -> Drawings:
        """Those of a folder, which is made when something is kept.

        Raises:
            ScalexError: its file holds something else, or is of an unknown version.
        """
        found = Drawings(Path(folder) / FILE)
        if found.file is not None and found.file.exists():
            found._read([])
        return found

    def pictures(
        self, model: Model, samples: Sequence[Sample], plan: Plan, steer: Steer | None = None
    ) -> UInt8[np.ndarray, "n height width 3"]:
        """As `scalex.capture.generate`, which draws those that are not there.

        Raises:
            ScalexError: as there, or the file cannot be read or written.
        """
        plain = replace(plan, readings=("picture",), keep="last", level=0, pooling="mean", moments=0)

        def draw(lacking: list[Sample], kept: _Kept) -> None:
            generate(model, lacking, plan, steer, sink=kept)

        if not samples:
            return generate(model, samples, plan)
        recipe = plain.recipes(model)["picture"]
        return np.asarray(self._drawn("picture", recipe, samples, steer, draw, _Pictures()))

    def latents(
        self, model: Model, samples: Sequence[Sample], plan: Plan, steer: Steer | None = None
    ) -> Float32[np.ndarray, "n steps width"]:
        """The picture reading of samples, in their order; what is not there is captured, as by `scalex.capture`.

        Raises:
            ScalexError: as there, or the file cannot be read or written.
        """
        read = replace(plan, readings=("picture",), moments=0)
        recipe = read.recipes(model)["picture"]

        def draw(lacking: list[Sample], kept: _Kept) -> None:
            capture(model, lacking, read, lambda _, batch, values: kept(batch, values), steer=steer)

        return np.asarray(self._drawn("latent", recipe, samples, steer, draw, _Latents(len(recipe.keep))))

    def _drawn(
        self,
        what: str,
        recipe: Recipe,
        samples: Sequence[Sample],
        steer: Steer | None,
        draw: Callable[[list[Sample], _Kept], None],
        packing: _Pictures | _Latents,
    ) -> Any:
        """What samples gave, stacked in their order."""
        keys = {sample: key for sample in samples if (key := _key(what, recipe, sample, steer)) is not None}
        if self.file is None or len(keys) < len(set(samples)):  # an edit may go by place: all of them, as they stand
            parts: list[Any] = []
            draw(list(samples), lambda _, values: parts.append(values))
            return np.concatenate(parts)
        there = self._read(list(keys.values()))
        found: dict[Sample, Any] = {s: packing.unpack(there[key]) for s, key in keys.items() if key in there}

        def kept(batch: Sequence[Sample], values: Any) -> None:
            self._write([(keys[sample], row) for sample, row in zip(batch, values, strict=True)], packing)
            found.update(zip(batch, values, strict=True))

        lacking = [sample for sample in keys if sample not in found]
        if lacking:
            draw(lacking, kept)
        return np.stack([found[sample] for sample in samples])

    # ------------------------------------------------------------------------------------------------ the file

    def _read(self, keys: Sequence[str]) -> Mapping[str, bytes]:
        if self.file is None or not self.file.exists():
            return {}
        with self._connected() as connection:
            rows = (connection.execute("SELECT key, data FROM drawn WHERE key = ?", (key,)).fetchone() for key in keys)
            return {row[0]: row[1] for row in rows if row}

    def _write(self, rows: Sequence[tuple[str, Any]], packing: _Pictures | _Latents) -> None:
        """All rows or none; they are on the disk when this returns."""
        if self.file is None or not rows:
            return
        data = list(packing.packed([row for _, row in rows]))
        with self._connected() as connection, connection:
            told = [(key, one) for (key, _), one in zip(rows, data, strict=True)]
            connection.executemany("INSERT OR IGNORE INTO drawn VALUES (?, ?)", told)

    @contextmanager
    def _connected(self) -> Iterator[sqlite3.Connection]:
        """A connection a call: any thread may ask, and none is left open."""
        assert self.file is not None
        try:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            with closing(sqlite3.connect(self.file, timeout=_WAIT)) as connection:
                self._check(connection)
                yield connection
        except (sqlite3.Error, PermissionError) as error:
            said = "readonly" if isinstance(error, PermissionError) else str(error)
            trouble = next((told for words, told in _TROUBLES.items() if words in said), None)
            if trouble is None:
                raise
            raise ScalexError(trouble[0].format(file=self.file), trouble[1]) from error

    def _check(self, connection: sqlite3.Connection) -> None:
        """A new file is given its table and version."""
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if version == 0:
            with connection:
                connection.execute(_MADE)
                connection.execute(f"PRAGMA user_version = {_VERSION}")
        elif version != _VERSION:
            wrong = f"{self.file} has format version {version}, and this scalex knows version {_VERSION}"
            raise ScalexError(wrong, "Update scalex, or delete it: what it holds is drawn again")


def _key(what: str, recipe: Recipe, sample: Sample, steer: Steer | None) -> str | None:
    """The only definition of when two drawn samples are the same; None where nobody can say."""
    edit = edit_key(steer, sample)
    if edit is None or not recipe.model:
        return None
    return hashlib.sha256(f"{what}\0{sample_key(recipe, *sample)}\0{edit}".encode()).hexdigest()[:32]


class _Pictures:
    """Pictures as bytes and back."""

    def packed(self, pictures: Sequence[UInt8[np.ndarray, "height width 3"]]) -> Iterator[bytes]:
        with ThreadPoolExecutor() as pool:  # Pillow compresses without Python's lock
            yield from pool.map(_webp, pictures)

    def unpack(self, data: bytes) -> UInt8[np.ndarray, "height width 3"]:
        return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def _webp(picture: UInt8[np.ndarray, "height width 3"]) -> bytes:
    data = io.BytesIO()
    Image.fromarray(picture).save(data, format="WEBP", lossless=True, quality=0, method=0)
    return data.getvalue()


@dataclass(frozen=True)
class _Latents:
    """Latents as bytes and back."""

    steps: int

    def packed(self, latents: Sequence[Float32[np.ndarray, "steps width"]]) -> Iterator[bytes]:
        return (np.ascontiguousarray(one, "<f4").tobytes() for one in latents)

    def unpack(self, data: bytes) -> Float32[np.ndarray, "steps width"]:
        return np.frombuffer(data, "<f4").reshape(self.steps, -1).astype(np.float32)
