"""Every captured sample, once: a folder with one Lance dataset a recipe. The only way to captured data.

    format.json         name and version of this layout
    <recipe>.json       the fields of a recipe; the file is named by its id
    <recipe>.lance      its samples (scalex.table): key, prompt, seed, latent, checksum. Where the recipe keeps moments,
                        a row is a block of seeds (scalex.moments): its first seed, and as latent the mean, then m2
    index/              indexes of words (scalex.index), made of the above where they are asked for: safe to delete
    aside/              torn manifests, moved out of the way after a loss of power

The store is the truth of what is done: whoever fills it asks what is `missing`, captures that, and `write`s it in
batches. A batch is written whole or not at all, and is on the disk once `write` returns.
"""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial, reduce
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Float, Float32

from scalex import scratch
from scalex.errors import ScalexError
from scalex.health import Health, examine
from scalex.index import WordIndex
from scalex.keeping import StoreWarning
from scalex.moments import Moments, block_of, blocks_of, by_block, firsts, packed
from scalex.places import ANOTHER, Folder, Place, place_of
from scalex.prompts import sample_key
from scalex.records import Latents, Prompt, Recipe
from scalex.rows import Sample, among, checksum, latents_in, sample_rows
from scalex.table import GRACE, SampleTable

__all__ = ["Health", "Sample", "Store", "StoreWarning", "Stored", "Swept"]

_FORMAT = {"name": "scalex-store", "version": 1}
_FORMAT_FILE = "format.json"
_REPAIR = "Run `scalex store verify --repair`: it drops what is damaged, and the next run captures that again"
_DECLARE_AGAIN = "Delete that file: the next capture with this recipe writes it again"
_WORD_ROWS = 1 << 12  # samples held at once while words are averaged
_ABANDONED_AGE = timedelta(days=1)  # no live writer leaves a half-written file untouched for so long


class Stored(NamedTuple):
    """A recipe in the store: its samples, and its bytes on the disk (with old versions not yet removed)."""

    recipe: Recipe
    rows: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Swept:
    """What `Store.gc` removed: half-written files, old versions, and bytes in all."""

    files: int
    versions: int
    bytes: int


@dataclass(frozen=True, repr=False)
class Store:
    """The samples in one place. Open it with `Store.open`; any number of processes may hold it open and write.

    Attributes:
        place: where it is, a folder or an object store. fillable: whether it was opened to be filled.
    """

    place: Place
    fillable: bool
    _tables: dict[str, SampleTable] = field(default_factory=dict, repr=False, compare=False)
    _filling: set[str] = field(default_factory=set, repr=False, compare=False)

    def __repr__(self) -> str:
        """Where it is, and whether it may be written to."""
        return f"<Store at {self.place.address}{'' if self.fillable else ', only to be read'}>"

    @staticmethod
    def open(path: str | Path, *, create: bool = True) -> Store:
        """Open the store at an address.

        Args:
            path: a folder, or s3://BUCKET/FOLDER, gs:// or az:// of an object store; for these, credentials and
                endpoint are those of the environment.
            create: open it to be filled: the folder is made where it is absent. Otherwise only look into it.

        Raises:
            ScalexError: the folder cannot be made or written to, holds something else, no store, or one of an unknown
                format; the object store does not answer, refuses access, or has no such bucket.
        """
        place = place_of(path)
        with place.writing():
            if create:
                _found(place)
            _check_format(place)
        return Store(place, create)

    @property
    def address(self) -> str:
        """What `Store.open` takes to open the same store in another process."""
        return self.place.address

    @property
    def path(self) -> Path:
        """The folder of a store that lies in one."""
        if not isinstance(self.place, Folder):
            raise ScalexError(f"the store {self.address} is not a local folder", "Copy it to one")
        return self.place.path

    def missing(self, recipe: Recipe, pairs: Sequence[Sample]) -> list[Sample]:
        """The (text, seed) pairs that are not stored under this recipe: each once, in the order given.

        Raises:
            ScalexError: the stored samples cannot be read, or a block of moments would not be whole.
        """
        if not recipe.moments:
            return self._lacking(recipe, list(dict.fromkeys(pairs)))
        blocks = blocks_of(pairs, recipe.moments)
        lacking = set(self._lacking(recipe, blocks))
        distinct = pairs if len(pairs) == len(blocks) * recipe.moments else dict.fromkeys(pairs)
        return [pair for pair in distinct if block_of(pair, recipe.moments) in lacking]

    def _lacking(self, recipe: Recipe, asked: list[Sample]) -> list[Sample]:
        """The rows of these distinct ones that are not there."""
        table = self._fill(recipe) if self.fillable else self._table(recipe.id)
        keys = pa.array([sample_key(recipe, text, seed) for text, seed in asked], pa.string())
        with self._readable(table):
            stored = among(keys, table.keys())
        return [pair for pair, there in zip(asked, stored) if not there]

    def write(self, recipe: Recipe, pairs: Sequence[Sample], values: Float32[np.ndarray, "samples steps width"]) -> int:
        """Store the latents of (text, seed) pairs, all or none of them; they are durable when this returns.

        Samples that are stored already stay as they are. fp16 latents are kept as float16, all others as float32.

        Args:
            pairs: one for each sample; of equal ones the first counts.
            values: steps are those of `recipe.keep`.

        Returns:
            The number of samples added; of blocks, where the recipe keeps moments.

        Raises:
            ScalexError: a value is not finite, the disk is full, the folder cannot be written to, or a block of moments
                is not whole.
        """
        if values.shape[:2] != (len(pairs), len(recipe.keep)):
            raise ValueError(f"values {values.shape} do not fit {len(pairs)} samples of {len(recipe.keep)} steps")
        if recipe.moments:
            blocks_of(pairs, recipe.moments)
            held = by_block(pairs, values, recipe.moments)
            return self.write_moments(
                recipe, list(held), [Moments.of(np.stack([*own.values()])) for own in held.values()]
            )
        return self._write(recipe, pairs, values)

    def write_moments(self, recipe: Recipe, blocks: Sequence[Sample], moments: Sequence[Moments]) -> int:
        """Store the moments of whole blocks, as `write` does samples.

        Args:
            blocks: text and first seed. moments: of each, shape (steps, width), over `recipe.moments` seeds.

        Raises:
            ScalexError: as `write`.
        """
        if not recipe.moments or any(one.count != recipe.moments for one in moments):
            raise ValueError(f"recipe {recipe.id} keeps blocks of {recipe.moments} seeds")
        return self._write(recipe, blocks, packed(moments) if moments else np.empty((0, 0, 0), np.float32))

    def _write(self, recipe: Recipe, pairs: Sequence[Sample], values: Float32[np.ndarray, "rows steps width"]) -> int:
        if not pairs:
            return 0
        rows = sample_rows(recipe, pairs, values)
        table = self._fill(recipe)
        with self.place.writing(kept=table.count):
            self._declare(recipe)
            return table.insert(rows)

    def read(self, recipe: Recipe, prompts: Sequence[Prompt], seeds: Sequence[int]) -> Latents:
        """The latents of all prompts and seeds, as float32, in the order given; beyond a budget of memory they lie in a
        file (see `scalex.scratch`).

        Where the recipe keeps moments, they are the means of blocks, and `seeds` of the result their first seeds.

        Raises:
            ScalexError: some are not stored, cannot be read, or are not what was written; or a block of moments would
                not be whole.
        """
        held = firsts(seeds, recipe.moments) if recipe.moments else tuple(seeds)
        values = self._read(recipe, prompts, held, len(recipe.keep))
        return Latents(values, tuple(prompts), held, recipe.keep, recipe.reading, block=recipe.moments or 1)

    def moments(self, recipe: Recipe, prompts: Sequence[Prompt], seeds: Sequence[int]) -> Moments:
        """Mean and variance over seeds of every prompt, of shape (prompts, steps, width), whether the recipe keeps
        samples or moments.

        Raises:
            ScalexError: as `read`.
        """
        steps = len(recipe.keep)
        if not recipe.moments:
            return Moments.of(np.moveaxis(self._read(recipe, prompts, seeds, steps), 1, 0))
        values = np.moveaxis(self._read(recipe, prompts, firsts(seeds, recipe.moments), 2 * steps), 1, 0)
        parts = [Moments.unpacked(part, recipe.moments) for part in values]
        return reduce(Moments.merged, parts)

    def index(self, recipe: Recipe, prompts: Sequence[Prompt], seeds: Sequence[int], step: int = -1) -> WordIndex:
        """The prompts' concepts, to be asked which lie nearest to a direction. Made once, and found again.

        Args:
            prompts: a concept is the mean over its prompts and the seeds. step: index of the kept step.

        Raises:
            ScalexError: as `read`, or the store cannot be written to.
        """
        told = [[(p.concept, p.text) for p in prompts], list(seeds), recipe.keep[step]]
        name = hashlib.sha256(json.dumps(told).encode()).hexdigest()[:16]
        path = self.path / "index" / f"{recipe.id}-{name}"
        if path.exists():
            return WordIndex.open(path)
        return WordIndex.build(path, partial(self._words, recipe, prompts, seeds, step))

    def _words(
        self, recipe: Recipe, prompts: Sequence[Prompt], seeds: Sequence[int], step: int
    ) -> Iterator[tuple[list[str], Float[np.ndarray, "words width"]]]:
        """The concepts of prompts with their means, some at a time."""
        told: dict[str, list[Prompt]] = {}
        for prompt in prompts:
            told.setdefault(prompt.concept, []).append(prompt)
        words, start = list(told), 0
        rows = len(prompts) * max(1, len(seeds) // max(1, recipe.moments))
        while start < len(words):
            some = words[start : start + max(1, _WORD_ROWS * len(words) // rows)]
            values = self.read(recipe, [p for word in some for p in told[word]], seeds).values[:, :, step]
            firsts = np.cumsum([0, *(len(told[word]) for word in some)])
            sums = np.add.reduceat(values.mean(1, dtype=np.float64), firsts[:-1])
            yield some, sums / np.diff(firsts)[:, None]
            start += len(some)

    def _read(
        self, recipe: Recipe, prompts: Sequence[Prompt], seeds: Sequence[int], steps: int
    ) -> Float32[np.ndarray, "prompts seeds steps width"]:
        """The first steps of rows; those of moments have twice as many."""
        keys = [sample_key(recipe, prompt.text, seed) for prompt in prompts for seed in seeds]
        rank = {key: i for i, key in enumerate(dict.fromkeys(keys))}
        part = steps / (len(recipe.keep) * (2 if recipe.moments else 1))
        values = self._gather(recipe, list(rank), part)
        if len(rank) < len(keys):  # prompts that read the same are stored once
            values = scratch.take(values, np.array([rank[key] for key in keys]))
        return values.reshape(len(prompts), len(seeds), steps, values.shape[1] // steps)

    def recipes(self) -> list[Stored]:
        """All recipes of the store, by id.

        Raises:
            ScalexError: a recipe's file cannot be read.
        """
        with self.place.reading():
            found = self.place.names()
            tables = [(self._recipe(name), self._table(name)) for name in self._names() if f"{name}.json" in found]
            return [Stored(recipe, table.count(), self.place.size(f"{recipe.id}.lance")) for recipe, table in tables]

    def arrow(self, recipe: Recipe) -> pa.dataset.Dataset:
        """The samples of a recipe as an Arrow dataset: key, prompt, seed, latent (steps x width, flat), checksum.

        Raises:
            ScalexError: nothing is stored of this recipe.
        """
        table = self._table(recipe.id)
        if not table.exists():
            raise ScalexError(f"the store {self.address} holds nothing of recipe {recipe.id}", "See `scalex store ls`")
        return table.dataset()

    def verify(self, *, repair: bool = False) -> tuple[Health, ...]:
        """Read and check every row of every recipe.

        Args:
            repair: drop the rows at fault, and all rows of a duplicated key, so that the next run captures them again.
        """
        with self.place.writing():
            return tuple(self._verify(name, repair) for name in self._names())

    def gc(self, grace: timedelta = GRACE) -> Swept:
        """Merge small files, and remove old versions and half-written files. Safe while others read and write.

        Args:
            grace: how long a version must have been superseded; shorten it only where nobody else uses the store.
        """
        with self.place.writing():
            files, freed = self.place.sweep(_ABANDONED_AGE)
            swept = [self._table(name).tidy(grace) for name in self._names()]
        return Swept(files, sum(s[0] for s in swept), freed + sum(s[1] for s in swept))

    def _names(self) -> list[str]:
        files = [Path(name) for name in self.place.names()]
        return sorted({path.stem for path in files if path.suffix in {".json", ".lance"} and path.name != _FORMAT_FILE})

    def _sheet(self, name: str) -> str:
        return f"{self.address}/{name}.json"

    def _recipe(self, name: str) -> Recipe:
        try:
            written = json.loads(self.place.read(f"{name}.json") or "")
            fields: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in written.items()}
            recipe = Recipe(**fields)
        except (OSError, ValueError, TypeError, AttributeError) as error:
            raise ScalexError(f"the recipe {self._sheet(name)} cannot be read ({error})", _DECLARE_AGAIN) from error
        if recipe.id != name:
            raise ScalexError(
                f"the recipe {self._sheet(name)} was changed: its fields give {recipe.id}", _DECLARE_AGAIN
            )
        return recipe

    def _declare(self, recipe: Recipe) -> None:
        if self.place.read(f"{recipe.id}.json") is None:
            self.place.write(f"{recipe.id}.json", json.dumps(recipe.to_dict(), indent=1) + "\n")

    def _table(self, name: str) -> SampleTable:
        if name not in self._tables:
            table = SampleTable(self.place, name)
            with self.place.writing():
                table.set_aside_torn()
            self._tables[name] = table
        return self._tables[name]

    def _fill(self, recipe: Recipe) -> SampleTable:
        table = self._table(recipe.id)
        if recipe.id not in self._filling:
            with self._readable(table):
                short = table.short_fragments()
            if short:
                lost = sum(fragment.physical_rows for fragment in short)
                text = f"{table.uri}: {lost} samples were cut off while being written; they will be captured again"
                warnings.warn(text, StoreWarning, stacklevel=3)
                with self.place.writing():
                    table.drop_fragments(short)
            self._filling.add(recipe.id)
        return table

    def _gather(self, recipe: Recipe, keys: list[str], part: float) -> Float32[np.ndarray, "samples width"]:
        if not keys:
            return np.empty((0, 0), np.float32)
        table = self._table(recipe.id)
        wanted = pa.array(keys, pa.string())
        with self._readable(table):
            lost = len(keys) - int(among(wanted, table.keys()).sum())
            if lost:
                raise ScalexError(
                    f"{lost} of {len(keys)} samples are missing in the store {self.address}",
                    "Run `scalex capture` with the same spec first",
                )
            return _collect(table, keys, wanted, part)

    @contextmanager
    def _readable(self, table: SampleTable) -> Iterator[None]:
        try:
            with self.place.reading():
                yield
        except (OSError, ValueError) as error:
            raise ScalexError(f"the samples in {table.uri} cannot be read", _REPAIR) from error

    def _verify(self, name: str, repair: bool) -> Health:
        try:
            recipe, table = self._recipe(name), self._table(name)
            with self._readable(table):
                return examine(recipe, table, repair=repair)
        except ScalexError as error:
            return Health(name, problem=str(error))


def _found(place: Place) -> None:
    place.found()
    foreign = any(not name.startswith(".") for name in place.names())
    if place.read(_FORMAT_FILE) is not None:  # asked second: another process may have founded the store since
        return
    if foreign:
        raise ScalexError(f"the folder {place.address} holds other files and no store", ANOTHER)
    place.write(_FORMAT_FILE, json.dumps(_FORMAT) + "\n")


def _elsewhere(address: str) -> str:
    """The way out where an address holds no store: the one beside it, where that is a run's folder."""
    beside = Path(address) / "store"
    return f"It is in {beside}" if (beside / _FORMAT_FILE).is_file() else f"Capture into it first. {ANOTHER}"


def _check_format(place: Place) -> None:
    written = place.read(_FORMAT_FILE)
    if written is None:
        raise ScalexError(f"{place.address} is no store", _elsewhere(place.address))
    try:
        declared: Any = json.loads(written)
    except ValueError as error:
        raise ScalexError(f"{place.address}/{_FORMAT_FILE} is not valid JSON", ANOTHER) from error
    if not isinstance(declared, dict) or declared.get("name") != _FORMAT["name"]:
        raise ScalexError(f"{place.address} is no scalex store: its {_FORMAT_FILE} declares another format", ANOTHER)
    if declared.get("version") != _FORMAT["version"]:
        raise ScalexError(
            f"the store {place.address} has format version {declared.get('version')}, "
            f"and this scalex knows version {_FORMAT['version']}",
            f"Update scalex. {ANOTHER}",
        )


def _collect(
    table: SampleTable, keys: list[str], wanted: pa.Array, part: float
) -> Float32[np.ndarray, "samples width"]:
    """The latents of these keys, in this order, up to a part of their width; all of them are stored."""
    values: Float[np.ndarray, "samples width"] | None = None
    for batch in table.batches(wanted):
        latents = latents_in(batch)
        if values is None:
            values = scratch.array((len(keys), round(part * latents.shape[1])), np.float32)
        ranks = pc.fill_null(pc.index_in(batch.column("key"), value_set=wanted), -1).to_numpy(zero_copy_only=False)
        sums = batch.column("checksum").to_numpy(zero_copy_only=False)
        rows = np.flatnonzero(ranks >= 0)
        if any(checksum(keys[ranks[row]], latents[row]) != sums[row] for row in rows):
            raise ScalexError(f"samples in {table.uri} are not what was written", _REPAIR)
        values[ranks[rows]] = latents[rows, : values.shape[1]]
        scratch.let_go(values)
    return np.empty((0, 0), np.float32) if values is None else values
