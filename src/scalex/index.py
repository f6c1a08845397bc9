"""Which words lie nearest to a direction, out of very many: their prompt-aligned latents on the disk, with an index.

    index.json      name and version of this layout, and how many words of what width
    centre.npy      the mean over all words, float64
    words.lance     name and vector of each word: its latent less the centre, made one long

Cosines are those of centred latents. Up to 50,000 words every one is looked at. Beyond that an inverted file is: words
lie in about sqrt(n) cells (k-means), the cells nearest to the direction are looked through by codes of one bit a number
(Gao and Long 2024, RaBitQ, Proceedings of the ACM on Management of Data 2, 167), and the best of these are measured
again by their own vectors, so that the cosines that are given are exact. What is missed is in docs/size.md.
"""

from __future__ import annotations

import errno
import json
import math
import secrets
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import lance
import numpy as np
import pyarrow as pa
from jaxtyping import Float, Float32

from scalex.disk import disk_errors, sync
from scalex.errors import ScalexError

__all__ = ["INDEXED", "Near", "Source", "WordIndex"]

INDEXED = 50_000
"""Words beyond which they are looked up by cells."""

Source: TypeAlias = Callable[[], Iterable[tuple[Sequence[str], Float[np.ndarray, "words width"]]]]
"""Gives the words and their latents in blocks; called twice, so that not all of them are held at once."""

_FORMAT = {"name": "scalex-index", "version": 1}
_TABLE, _CENTRE, _SHEET = "words.lance", "centre.npy", "index.json"
_PROBED = 0.08  # of the cells
_REMEASURED, _WIDE = 10, 1280  # times as many words as are asked for, of this width: narrow ones have worse codes
_FLAT = 1e-9  # of the longest latent, below which a word is the centre itself
_BLOCK = 1 << 24  # numbers held at once where every word is looked at: 64 MiB
_STORAGE_VERSION = "2.2"


class Near(NamedTuple):
    """The nearest words of a direction, the nearest first, and their cosines with it."""

    words: tuple[str, ...]
    cosines: Float32[np.ndarray, "words"]


@dataclass(frozen=True)
class WordIndex:
    """The words in one folder. Make it with `WordIndex.build`, find it again with `WordIndex.open`."""

    path: Path
    centre: Float[np.ndarray, "width"]
    n_words: int
    _dataset: Any = field(repr=False, compare=False)

    @staticmethod
    def build(path: Path, source: Source, *, indexed: int = INDEXED) -> WordIndex:
        """Makes the index in a folder that is not there yet: whole, or not at all.

        Args:
            source: the words, in blocks. indexed: words beyond which there are cells.

        Raises:
            ScalexError: there are no words, all their latents are the same, or the folder cannot be written.
        """
        draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
        with disk_errors(path.parent):
            draft.mkdir(parents=True)
            try:
                _fill(draft, source, indexed)
                sync(p for p in draft.rglob("*"))
                _put(draft, path)
            finally:
                shutil.rmtree(draft, ignore_errors=True)
        return WordIndex.open(path)

    @staticmethod
    def open(path: Path) -> WordIndex:
        """The index in a folder.

        Raises:
            ScalexError: there is none, or of another format.
        """
        try:
            told = json.loads((path / _SHEET).read_text(encoding="utf-8"))
            if {key: told[key] for key in _FORMAT} != _FORMAT:
                raise ValueError(told)
            return WordIndex(path, np.load(path / _CENTRE), told["words"], lance.dataset(str(path / _TABLE)))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ScalexError(f"{path} holds no index of words that can be read", "Delete that folder") from error

    @property
    def width(self) -> int:
        """Numbers in a latent."""
        return len(self.centre)

    def nearest(
        self,
        directions: Float[np.ndarray, "directions width"],
        k: int = 10,
        *,
        probed: int | None = None,
        remeasured: int | None = None,
    ) -> list[Near]:
        """The words whose centred latents have the greatest cosines with each direction.

        Args:
            directions: differences of latents; their lengths do not count. To ask for what is near a latent itself,
                subtract `centre`.
            probed: cells that are looked through; by default a twelfth. remeasured: words that are measured by their
                own vectors, for each that is asked for; by default 10, and more the narrower they are. Both only where
                there are cells.

        Raises:
            ScalexError: a direction has another width or no length.
        """
        again = remeasured or math.ceil(_REMEASURED * math.sqrt(max(1.0, _WIDE / self.width)))
        return [self._near(unit, k, probed or self._probed, again) for unit in self._units(directions)]

    def exact(self, directions: Float[np.ndarray, "directions width"], k: int = 10) -> list[Near]:
        """The same by looking at every word, all directions at once, in fixed memory.

        Raises:
            ScalexError: as `nearest`.
        """
        units = self._units(directions)
        k = min(k, self.n_words)
        best, names = np.empty((len(units), 0), np.float32), np.empty((len(units), 0), object)
        for batch in self._dataset.to_batches(batch_size=max(1, _BLOCK // self.width), batch_readahead=2):
            cosines = units @ _vectors(batch).T
            top = np.argpartition(-cosines, min(k, cosines.shape[1]) - 1, axis=1)[:, :k]
            said = np.asarray(batch.column("name").to_pylist(), object)[top]
            best = np.concatenate([best, np.take_along_axis(cosines, top, 1)], axis=1)
            names = np.concatenate([names, said], axis=1)
            order = np.argsort(-best, axis=1, kind="stable")[:, :k]
            best, names = np.take_along_axis(best, order, 1), np.take_along_axis(names, order, 1)
        return [Near(tuple(words), row) for words, row in zip(names, best)]

    def _units(self, directions: Float[np.ndarray, "directions width"]) -> Float32[np.ndarray, "directions width"]:
        if directions.shape[1] != self.width:
            wrong = f"a direction has width {directions.shape[1]}, but the words {self.width}"
            raise ScalexError(wrong, "Take one of the same probe")
        lengths = np.linalg.norm(directions, axis=1, keepdims=True)
        if not (lengths > 0).all():
            raise ScalexError("a direction without a length is near to nothing", "Take another one")
        return np.asarray(directions / lengths, dtype=np.float32)

    def _near(self, unit: Float32[np.ndarray, "width"], k: int, probed: int, remeasured: int) -> Near:
        asked = {"column": "vector", "q": unit, "k": k, "metric": "l2"}
        effort = {"nprobes": probed, "refine_factor": remeasured} if self._cells else {}
        found = self._dataset.to_table(columns=["name", "_distance"], nearest=asked | effort)
        squares = found["_distance"].to_numpy()
        return Near(tuple(found["name"].to_pylist()), np.asarray(1 - squares / 2, dtype=np.float32))

    @cached_property
    def _cells(self) -> int:
        """How many; 0 where there are none. The codes are read into memory the first time."""
        for index in self._dataset.describe_indices():
            self._dataset.prewarm_index(index.name)
            return _cells_of(self.n_words)
        return 0

    @property
    def _probed(self) -> int:
        return max(20, math.ceil(_PROBED * self._cells))


def _cells_of(n_words: int) -> int:
    return max(1, round(math.sqrt(n_words)))


def _fill(folder: Path, source: Source, indexed: int) -> None:
    """Writes everything: one pass for the centre, one for the vectors."""
    given, total, longest = 0, np.zeros(1), 0.0
    for names, latents in source():
        given, total = given + len(names), total + latents.sum(0, dtype=np.float64)
        longest = max(longest, float(np.abs(latents).max(initial=0)))
    if not given:
        raise ScalexError("there are no words to be indexed", "Add `words` to the spec, such as {vocabulary: objects}")
    centre = total / given
    rows = _rows(source, centre, _FLAT * longest)
    schema = pa.schema([("name", pa.string()), ("vector", pa.list_(pa.float32(), len(centre)))])
    table = str(folder / _TABLE)
    dataset = lance.write_dataset(rows, table, schema=schema, data_storage_version=_STORAGE_VERSION)
    n = dataset.count_rows()
    if not n:
        raise ScalexError("all words of the vocabulary give the same latents", "Check the prompts")
    if n > indexed:
        how = {"index_type": "IVF_RQ", "metric": "l2", "num_partitions": _cells_of(n), "num_bits": 1}
        dataset.create_index("vector", name="cells", **how)
    np.save(folder / _CENTRE, centre)
    (folder / _SHEET).write_text(json.dumps(_FORMAT | {"words": n, "width": len(centre)}) + "\n", encoding="utf-8")


def _rows(source: Source, centre: Float[np.ndarray, "width"], least: float) -> Iterator[pa.RecordBatch]:
    """The words with their unit vectors; without those that are the centre itself, which are near to nothing."""
    for names, latents in source():
        apart = latents - centre
        lengths = np.linalg.norm(apart, axis=1)
        held = np.flatnonzero(lengths > least).tolist()
        units = (apart[held] / lengths[held, None]).astype(np.float32)
        vectors = pa.FixedSizeListArray.from_arrays(pa.array(units.reshape(-1)), len(centre))
        yield pa.record_batch([pa.array([names[i] for i in held], pa.string()), vectors], names=["name", "vector"])


def _vectors(batch: pa.RecordBatch) -> Float32[np.ndarray, "words width"]:
    column = batch.column("vector")
    return np.asarray(column.flatten().to_numpy(zero_copy_only=False)).reshape(len(column), column.type.list_size)


def _put(draft: Path, path: Path) -> None:
    """Gives the draft its name, unless another process made the same index in the meantime: then theirs is taken."""
    try:
        draft.rename(path)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
