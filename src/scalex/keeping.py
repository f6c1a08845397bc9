"""What Lance leaves to its user of a table's files, for each kind of place.

On a disk: Lance never calls fsync, so what a commit wrote is flushed before the write is acknowledged; a loss of power
can leave a torn manifest, which makes the dataset unreadable, and it is set aside; two creations at once are not
refused, and rows would go with the earlier one, so that they exclude each other by a lock. In a bucket none of that is
needed: manifests are put there on condition that none is there, so that of two creations one is refused.
"""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import NamedTuple, Protocol, runtime_checkable

import lance
import pyarrow as pa
from lance.fragment import LanceFragment, write_fragments

from scalex.disk import locked, sync
from scalex.places import Bucket, Folder, Place

__all__ = ["Keeper", "StoreWarning", "Version", "keeper", "lost_race"]

_STORAGE_VERSION = "2.2"
_LAST_VERSION = 2**64 - 1  # Lance names manifests by their distance from it, so that the newest sorts first
_MANIFEST_END = b"LANC"


class StoreWarning(UserWarning):
    """The store met damage, and went on without what was damaged."""


class Version(NamedTuple):
    """A version of a table, and when it was committed, in seconds since 1970."""

    number: int
    time: float


@runtime_checkable
class Keeper(Protocol):
    """Who keeps the files of one table.

    Attributes:
        uri: of the table, as Lance takes it.
    """

    uri: str

    def exists(self) -> bool:
        """Whether a version was ever committed."""

    def create(self, schema: pa.Schema) -> None:
        """Commits a first version without rows, unless another process does."""

    def flush(self, dataset: lance.LanceDataset) -> None:
        """Makes this version durable."""

    def flush_new(self, files: Sequence[str]) -> None:
        """Makes data files durable that no version has yet."""

    def locked(self, *, wait: bool = True) -> AbstractContextManager[bool]:
        """Keeps others from what need not be done twice; gives False where they are at it, and `wait` is off."""

    def short(self, fragments: Sequence[LanceFragment]) -> list[LanceFragment]:
        """Those of which a data file is missing or not as long as it was written."""

    def set_aside_torn(self) -> None:
        """Moves manifests that were not written to their end out of the way, with a warning."""

    def versions(self) -> list[Version]:
        """Those that are there, the oldest first."""


class OnDisk:
    """As `Keeper`, of a table in a folder."""

    def __init__(self, place: Folder, name: str) -> None:
        self.path = place.path / f"{name}.lance"
        self.uri = str(self.path)
        self._versions = self.path / "_versions"
        self._aside = place.path / "aside"
        self._lock = place.path / ".lock"
        self._flushed: set[Path] = set()

    def exists(self) -> bool:
        """As `Keeper.exists`."""
        return any(self._versions.glob("*.manifest"))

    def create(self, schema: pa.Schema) -> None:
        """As `Keeper.create`."""
        with self.locked():
            if self.exists():
                return  # another process was first
            empty = schema.empty_table()
            dataset = lance.write_dataset(empty, self.uri, mode="create", data_storage_version=_STORAGE_VERSION)
            self.flush(dataset)
            sync([self.path.parent])

    def flush(self, dataset: lance.LanceDataset) -> None:
        """As `Keeper.flush`: all files of the version, which stands on commits that others may not have flushed."""
        files = {path for fragment in dataset.get_fragments() for path in self._files(fragment)}
        sync(sorted(files - self._flushed))
        sync([self._versions / _manifest_name(dataset.version)])
        folders = (self.path, self.path / "data", self.path / "_deletions", self._versions)
        sync(folder for folder in folders if folder.exists())
        self._flushed = files

    def flush_new(self, files: Sequence[str]) -> None:
        """As `Keeper.flush_new`."""
        sync(self.path / "data" / file for file in files)

    def locked(self, *, wait: bool = True) -> AbstractContextManager[bool]:
        """As `Keeper.locked`."""
        return locked(self._lock, wait=wait)

    def short(self, fragments: Sequence[LanceFragment]) -> list[LanceFragment]:
        """As `Keeper.short`: a loss of power leaves such files behind a commit that was never acknowledged."""
        return [f for f in fragments if any(_is_short(self.path / "data" / d.path, d) for d in f.metadata.files)]

    def set_aside_torn(self) -> None:
        """As `Keeper.set_aside_torn`; the version before counts."""
        torn = [path for path in self._manifests() if not _is_whole(path)]
        if not torn:
            return
        self._aside.mkdir(exist_ok=True)
        with self.locked():
            for path in torn:
                # another process may have moved it, and committed a whole one of that name, before we had the lock
                if path.exists() and not _is_whole(path):
                    path.rename(self._aside / f"{self.path.stem}-{_version(path.stem)}-{time.time_ns()}.manifest")
        sync([self._versions, self._aside])
        versions = ", ".join(str(_version(path.stem)) for path in torn)
        warnings.warn(
            f"{self.path}: version {versions} was cut off while being written, as by a loss of power. "
            f"It was moved to {self._aside}; the version before it is used",
            StoreWarning,
            stacklevel=2,
        )

    def versions(self) -> list[Version]:
        """As `Keeper.versions`."""
        return sorted(Version(_version(path.stem), path.stat().st_mtime) for path in self._manifests())

    def _files(self, fragment: LanceFragment) -> list[Path]:
        files = [self.path / "data" / file.path for file in fragment.metadata.files]
        deletions = fragment.deletion_file()
        return files if deletions is None else [*files, self.path / deletions]

    def _manifests(self) -> list[Path]:
        return sorted(self._versions.glob("*.manifest"))


class InBucket:
    """As `Keeper`, of a table in a bucket."""

    def __init__(self, place: Bucket, name: str) -> None:
        self.uri = f"{place.address}/{name}.lance"
        self._place, self._name = place, f"{name}.lance"
        self._there = False

    def exists(self) -> bool:
        """As `Keeper.exists`."""
        self._there = self._there or bool(self.versions())
        return self._there

    def create(self, schema: pa.Schema) -> None:
        """As `Keeper.create`."""
        options = dict(self._place.options)
        try:
            first = write_fragments(
                schema.empty_table(),
                self.uri,
                mode="create",
                data_storage_version=_STORAGE_VERSION,
                return_transaction=True,
                storage_options=options,
            )
            # Without retries: Lance would commit on top of what another process had, and drop its rows.
            lance.LanceDataset.commit(self.uri, first, storage_options=options, max_retries=0)
        except OSError:
            if not self.exists():  # else another process was first
                raise

    def flush(self, dataset: lance.LanceDataset) -> None:
        """As `Keeper.flush`: it is durable."""

    def flush_new(self, files: Sequence[str]) -> None:
        """As `Keeper.flush_new`: they are durable."""

    @contextmanager
    def locked(self, *, wait: bool = True) -> Iterator[bool]:
        """As `Keeper.locked`: others are not kept off, and Lance tells who was later."""
        yield True

    def short(self, fragments: Sequence[LanceFragment]) -> list[LanceFragment]:
        """As `Keeper.short`: there are none."""
        return []

    def set_aside_torn(self) -> None:
        """As `Keeper.set_aside_torn`: there are none."""

    def versions(self) -> list[Version]:
        """As `Keeper.versions`."""
        files = [(Path(file["path"]), file["last_modified"]) for file in self._place.files(f"{self._name}/_versions")]
        return sorted(Version(_version(p.stem), at.timestamp()) for p, at in files if p.suffix == ".manifest")


def keeper(place: Place, name: str) -> Keeper:
    """Who keeps the files of a table at a place."""
    return InBucket(place, name) if isinstance(place, Bucket) else OnDisk(_folder(place), name)


def lost_race(error: OSError) -> bool:
    """Whether another process committed first."""
    return any(said in str(error) for said in ("commit conflict", "Too many concurrent writers"))


def _folder(place: Place) -> Folder:
    assert isinstance(place, Folder)  # there are two kinds
    return place


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


def _version(stem: str) -> int:
    return _LAST_VERSION - int(stem)
