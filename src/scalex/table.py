"""One recipe's samples: a Lance dataset that many processes may fill at once, and that outlives any of them.

What Lance leaves to its user is done here, and nowhere else:

- concurrent inserts duplicate rows, silently, unless the key is declared the primary key (scalex.rows does);
- its files need care that depends on where they lie (scalex.keeping);
- thousands of small commits slow everything down: small fragments are merged as they accumulate;
- it is not fork-safe: a forked process is refused.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from datetime import timedelta
from functools import cache
from itertools import pairwise

import lance
import numpy as np
import pyarrow as pa
from lance.fragment import LanceFragment
from lance.optimize import Compaction

from scalex.errors import ScalexError
from scalex.keeping import keeper, lost_race
from scalex.places import Place
from scalex.rows import among

__all__ = ["GRACE", "SampleTable"]

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

_KEEP_ALL = 10**9

GRACE = timedelta(hours=1)


@cache
def _first_process() -> int:
    return os.getpid()


class SampleTable:
    """The samples of one recipe. Every method sees the newest version, whoever wrote it."""

    def __init__(self, place: Place, name: str) -> None:
        self._keeper = keeper(place, name)
        self._options = dict(place.options)
        self.uri = self._keeper.uri

    def exists(self) -> bool:
        """Whether a version was ever committed."""
        return self._keeper.exists()

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
        return lance.dataset(self.uri, storage_options=self._options)

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
            self._keeper.create(rows.schema)
        dataset, added = self._merge_rows(rows)
        self._keeper.flush(dataset)
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
                if not lost_race(error):
                    raise
                continue  # Lance's own retries end after 30 s, which a crowded machine exceeds
            return dataset, int(done["num_inserted_rows"])
        raise ScalexError(f"too many processes write to {self.uri} at once", "Run fewer, or with larger batches")

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
        return self._keeper.short(self.dataset().get_fragments()) if self.exists() else []

    def drop_fragments(self, fragments: Sequence[LanceFragment]) -> None:
        """Forget whole fragments, readable or not."""
        dataset = self.dataset()
        gone = lance.LanceOperation.Delete([], [f.fragment_id for f in fragments], "true")
        self._keeper.flush(
            lance.LanceDataset.commit(dataset, gone, read_version=dataset.version, storage_options=self._options)
        )

    def drop_keys(self, keys: Sequence[str]) -> None:
        """Forget all samples of these keys."""
        dataset = self.dataset()
        quoted = ["'" + key.replace("'", "''") + "'" for key in keys]
        for start in range(0, len(quoted), 1000):
            dataset.delete(f"key IN ({', '.join(quoted[start : start + 1000])})")
        self._keeper.flush(dataset)

    def set_aside_torn(self) -> None:
        """Move manifests that were not written to their end out of the way, with a warning; the one before counts."""
        self._keeper.set_aside_torn()

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
        with self._keeper.locked():
            dataset = self.dataset()
            self._keeper.flush(dataset)  # what the newest version replaces may go only when the newest is durable
            limit = time.time() - grace.total_seconds()
            old = [before.number for before, after in pairwise(self._keeper.versions()) if after.time <= limit]
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
        with self._keeper.locked(wait=wait) as free:
            if free:  # else another process is at it
                self._compact({"target_rows_per_fragment": target, "batch_size": _batch_rows(dataset)})
        return free

    def _compact(self, options: dict[str, int]) -> None:
        dataset = self.dataset()
        rewrites = [task.execute(dataset) for task in Compaction.plan(dataset, options).tasks]
        if not rewrites:
            return
        self._keeper.flush_new([file.path for done in rewrites for f in done.new_fragments for file in f.files])
        try:
            Compaction.commit(dataset, rewrites)
        except OSError as error:
            if not lost_race(error):
                raise
            return  # others changed these fragments, or were always faster; a later merge takes them
        self._keeper.flush(dataset)


def _keys(dataset: lance.LanceDataset) -> pa.Array:
    return dataset.to_table(columns=["key"])["key"].combine_chunks()


def _row_bytes(dataset: lance.LanceDataset) -> int:
    latent = dataset.schema.field("latent").type
    return int(latent.list_size * latent.value_type.bit_width // 8)


def _batch_rows(dataset: lance.LanceDataset) -> int:
    return max(1, _BATCH_BYTES // _row_bytes(dataset))
