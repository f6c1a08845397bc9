"""One recipe's samples: a Lance dataset that many processes may fill at once, and that outlives any of them.

What Lance leaves to its user is done here, and nowhere else:

- concurrent inserts duplicate rows, silently, unless the key is declared the primary key (scalex.rows does);
- Lance never calls fsync: what a commit wrote is flushed here before the write is acknowledged;
- a loss of power can leave a torn manifest, which makes the dataset unreadable: it is set aside;
- thousands of small commits slow everything down: small fragments are merged as they accumulate;
- it is not fork-safe: a forked process is refused.
"""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Iterator, Sequence
from datetime import timedelta
from functools import cache
from itertools import pairwise
from pathlib import Path

import lance
import numpy as np
import pyarrow as pa
from lance.fragment import LanceFragment
from lance.optimize import Compaction

from scalex.disk import locked, sync
from scalex.errors import ScalexError
from scalex.rows import among

__all__ = ["GRACE", "SampleTable", "StoreWarning"]

_STORAGE_VERSION = "2.2"
_RETRIES = 100
_PATIENCE = timedelta(minutes=10)

# Fragments are merged once so many have come together between two of these sizes (in bytes). In tiers, so that each row
# is rewritten two or three times on its way up, and not with every merge.
_TIERS = (0, 64 << 10, 2 << 20, 64 << 20)
_MANY = 32
_BATCH_BYTES = 16 << 20

# Reading rows in sequence is about eight times faster than picking them (seen: 100k x 1280 in 0.17 s against 1.5 s).
_SCAN_GAIN = 8

# Lance else reads several fragments at once, and up to 2 GiB ahead of whoever takes the rows.
_SCANNED = 4 << 20
_AHEAD = {"batch_readahead": 2, "fragment_readahead": 1, "io_buffer_size": 4 * _SCANNED}

_LAST_VERSION = 2**64 - 1  # Lance names manifests by their distance from it, so that the newest sorts first
_MANIFEST_END = b"LANC"
_KEEP_ALL = 10**9

GRACE = timedelta(hours=1)


class StoreWarning(UserWarning):
    """The store met damage, and went on without what was damaged."""


@cache
def _first_process() -> int:
    return os.getpid()


class SampleTable:
    """The samples of one recipe. Every method sees the newest version, whoever wrote it."""

    def __init__(self, folder: Path, name: str) -> None:
        self.path = folder / f"{name}.lance"
        self._versions = self.path / "_versions"
        self._aside = folder / "aside"
        self._lock = folder / ".lock"
        self._flushed: set[Path] = set()

    def exists(self) -> bool:
        """Whether a version was ever committed."""
        return any(self._versions.glob("*.manifest"))

    def dataset(self) -> lance.LanceDataset:
        """The newest version.

        Raises:
            ScalexError: this process was forked from one that used a store.
        """
        if _first_process() != os.getpid():
            raise ScalexError(
                "the store cannot be used in a process forked from one that used it",
                'Start processes with the "spawn" method',
            )
        return lance.dataset(str(self.path))

    def keys(self) -> pa.Array:
        """The keys of all samples, in the order of the rows."""
        return _keys(self.dataset()) if self.exists() else pa.array([], pa.string())

    def count(self) -> int:
        """The number of samples."""
        return int(self.dataset().count_rows()) if self.exists() else 0

    def insert(self, rows: pa.Table) -> int:
        """Add the samples whose keys are not there yet, all or none of them; they are on the disk when this returns.

        The keys of `rows` must differ from each other. Gives the number of samples added.
        """
        if not self.exists():
            self._create(rows.schema)
        dataset, added = self._merge_rows(rows)
        self._flush(dataset)
        if self._merge_fragments(_TIERS, _MANY, wait=False):
            self._remove_old(GRACE)
        return added

    def _merge_rows(self, rows: pa.Table) -> tuple[lance.LanceDataset, int]:
        deadline = time.monotonic() + _PATIENCE.total_seconds()
        while time.monotonic() < deadline:
            dataset = self.dataset()
            merge = dataset.merge_insert("key").when_not_matched_insert_all()
            try:
                done = merge.conflict_retries(_RETRIES).retry_timeout(_PATIENCE).execute(rows)
            except OSError as error:
                if not _lost_race(error):
                    raise
                continue  # Lance's own retries end after 30 s, which a crowded machine exceeds
            return dataset, int(done["num_inserted_rows"])
        raise ScalexError(f"too many processes write to {self.path} at once", "Run fewer, or with larger batches")

    def _create(self, schema: pa.Schema) -> None:
        # Two creations at once are not refused by Lance: the later one may commit as an overwrite, and rows would go.
        with locked(self._lock):
            if self.exists():
                return  # another process was first
            empty = schema.empty_table()
            dataset = lance.write_dataset(empty, str(self.path), mode="create", data_storage_version=_STORAGE_VERSION)
            self._flush(dataset)
            sync([self.path.parent])

    def batches(self, wanted: pa.Array) -> Iterator[pa.RecordBatch]:
        """Keys, latents and checksums of the wanted samples, in no order; other samples may come along."""
        dataset = self.dataset()
        columns = ["key", "latent", "checksum"]
        size = _batch_rows(dataset)
        if len(wanted) * _SCAN_GAIN >= dataset.count_rows():
            scanned = max(1, _SCANNED // _row_bytes(dataset))
            yield from dataset.to_batches(columns=columns, batch_size=scanned, **_AHEAD)
            return
        rows = np.flatnonzero(among(_keys(dataset), wanted))
        for start in range(0, len(rows), size):
            yield from dataset.take(rows[start : start + size].tolist(), columns=columns).to_batches()

    def fragments(self) -> Iterator[tuple[LanceFragment, Iterator[pa.RecordBatch]]]:
        """Each fragment of the newest version with its rows, which are read as they are asked for."""
        if self.exists():
            dataset = self.dataset()
            size = _batch_rows(dataset)
            for fragment in dataset.get_fragments():
                yield fragment, fragment.to_batches(batch_size=size)

    def short_fragments(self) -> list[LanceFragment]:
        """Fragments of which a data file is missing or not as long as it was written.

        A loss of power leaves such files behind a commit that was never acknowledged.
        """
        fragments = self.dataset().get_fragments() if self.exists() else []
        return [f for f in fragments if any(_is_short(self.path / "data" / d.path, d) for d in f.metadata.files)]

    def drop_fragments(self, fragments: Sequence[LanceFragment]) -> None:
        """Forget whole fragments, readable or not."""
        dataset = self.dataset()
        gone = lance.LanceOperation.Delete([], [f.fragment_id for f in fragments], "true")
        self._flush(lance.LanceDataset.commit(dataset, gone, read_version=dataset.version))

    def drop_keys(self, keys: Sequence[str]) -> None:
        """Forget all samples of these keys."""
        dataset = self.dataset()
        quoted = ["'" + key.replace("'", "''") + "'" for key in keys]
        for start in range(0, len(quoted), 1000):
            dataset.delete(f"key IN ({', '.join(quoted[start : start + 1000])})")
        self._flush(dataset)

    def set_aside_torn(self) -> None:
        """Move manifests that were not written to their end out of the way, with a warning; the one before counts."""
        torn = [path for path in self._manifests() if not _is_whole(path)]
        if not torn:
            return
        self._aside.mkdir(exist_ok=True)
        with locked(self._lock):
            for path in torn:
                # another process may have moved it, and committed a whole one of that name, before we had the lock
                if path.exists() and not _is_whole(path):
                    path.rename(self._aside / f"{self.path.stem}-{_version(path)}-{time.time_ns()}.manifest")
        sync([self._versions, self._aside])
        versions = ", ".join(str(_version(path)) for path in torn)
        warnings.warn(
            f"{self.path}: version {versions} was cut off while being written, as by a loss of power. "
            f"It was moved to {self._aside}; the version before it is used",
            StoreWarning,
            stacklevel=2,
        )

    def tidy(self, grace: timedelta) -> tuple[int, int]:
        """Merge small fragments, then remove what only old versions use; gives (versions, bytes) removed.

        A version goes once it has been superseded for `grace`: whoever reads or writes started from a newer one. Files
        of no version at all may be those of a commit on its way: Lance removes them when they are seven days old.
        """
        if not self.exists():
            return 0, 0
        first = self._remove_old(grace)  # frees space for the merge
        self._merge_fragments((0, _TIERS[-1]), 2, wait=True)
        second = self._remove_old(grace)
        return first[0] + second[0], first[1] + second[1]

    def _remove_old(self, grace: timedelta) -> tuple[int, int]:
        with locked(self._lock):
            dataset = self.dataset()
            self._flush(dataset)  # what the newest version replaces may go only when the newest is durable
            limit = time.time() - grace.total_seconds()
            history = sorted(self._manifests(), key=_version)
            old = [_version(before) for before, after in pairwise(history) if after.stat().st_mtime <= limit]
            only = {"versions": old} if old else {"retain_versions": _KEEP_ALL}
            removed = dataset.cleanup_old_versions(**only)
        return int(removed.old_versions), int(removed.bytes_removed)

    def _merge_fragments(self, tiers: Sequence[int], many: int, *, wait: bool) -> bool:
        dataset = self.dataset()
        rows = [fragment.physical_rows for fragment in dataset.get_fragments()]
        bounds = [tier // _row_bytes(dataset) for tier in tiers]
        target = next((top for low, top in pairwise(bounds) if sum(low <= n < top for n in rows) >= many), 0)
        if not target:
            return False
        with locked(self._lock, wait=wait) as free:
            if free:  # else another process is at it
                self._compact({"target_rows_per_fragment": target, "batch_size": _batch_rows(dataset)})
        return free

    def _compact(self, options: dict[str, int]) -> None:
        dataset = self.dataset()
        rewrites = [task.execute(dataset) for task in Compaction.plan(dataset, options).tasks]
        if not rewrites:
            return
        sync(self.path / "data" / file.path for done in rewrites for f in done.new_fragments for file in f.files)
        try:
            Compaction.commit(dataset, rewrites)
        except OSError as error:
            if not _lost_race(error):
                raise
            return  # others changed these fragments, or were always faster; a later merge takes them
        self._flush(dataset)

    def _flush(self, dataset: lance.LanceDataset) -> None:
        # The files of the whole version, not only ours: it stands on commits that others may not have flushed yet.
        files = {path for fragment in dataset.get_fragments() for path in self._files(fragment)}
        sync(sorted(files - self._flushed))
        sync([self._versions / _manifest_name(dataset.version)])
        folders = (self.path, self.path / "data", self.path / "_deletions", self._versions)
        sync(folder for folder in folders if folder.exists())
        self._flushed = files

    def _files(self, fragment: LanceFragment) -> list[Path]:
        files = [self.path / "data" / file.path for file in fragment.metadata.files]
        deletions = fragment.deletion_file()
        return files if deletions is None else [*files, self.path / deletions]

    def _manifests(self) -> list[Path]:
        return sorted(self._versions.glob("*.manifest"))


def _lost_race(error: OSError) -> bool:
    return any(said in str(error) for said in ("commit conflict", "Too many concurrent writers"))


def _keys(dataset: lance.LanceDataset) -> pa.Array:
    return dataset.to_table(columns=["key"])["key"].combine_chunks()


def _row_bytes(dataset: lance.LanceDataset) -> int:
    latent = dataset.schema.field("latent").type
    return int(latent.list_size * latent.value_type.bit_width // 8)


def _batch_rows(dataset: lance.LanceDataset) -> int:
    return max(1, _BATCH_BYTES // _row_bytes(dataset))


def _is_short(path: Path, written: lance.fragment.DataFile) -> bool:
    return not path.exists() or (written.file_size_bytes or 0) > path.stat().st_size


def _is_whole(manifest: Path) -> bool:
    try:
        with manifest.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - len(_MANIFEST_END)))
            return file.read() == _MANIFEST_END
    except FileNotFoundError:  # removed as an old version since it was listed
        return True


def _manifest_name(version: int) -> str:
    return f"{_LAST_VERSION - version:020d}.manifest"


def _version(manifest: Path) -> int:
    return _LAST_VERSION - int(manifest.stem)
