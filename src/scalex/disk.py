"""Folders and files as a store needs them: addresses, atomic and durable writes, locks, and what disk errors mean."""

from __future__ import annotations

import errno
import fcntl
import os
import re
import secrets
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

from scalex.errors import ScalexError

__all__ = ["disk_errors", "local_folder", "locked", "remove_abandoned", "size_of", "sync", "write_atomic"]

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_FORBIDDEN = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})
_IN_THE_WAY = frozenset({errno.ENOTDIR, errno.EEXIST})

# Lance loses errno on its way through Rust and Arrow, but keeps it in the text.
_RUST_ERRNO = re.compile(r"\(os error (\d+)\)")

# ours (write_atomic), Lance's staged files, and its staged manifests
_TEMPORARY = re.compile(r"\..*\.tmp|\.tmp\w*|.*\.manifest#\d+")


def local_folder(address: str | Path) -> Path:
    """The folder that an address names.

    Raises:
        ScalexError: the address is not that of a local folder.
    """
    if "://" in str(address):
        raise ScalexError(
            f"{address} is not a local folder", "Name a folder, or a store as s3://, gs:// or az://BUCKET/FOLDER"
        )
    return Path(address).expanduser().absolute()


def remove_abandoned(folder: Path, age: timedelta) -> tuple[int, int]:
    """Remove half-written files, and those in half-written folders, that nobody has touched for so long; gives their
    number and bytes."""
    limit = time.time() - age.total_seconds()
    named = [path for path in _files(folder) if any(map(_TEMPORARY.fullmatch, path.relative_to(folder).parts))]
    sizes = {path: _size(path) for path in named if path.exists() and path.stat().st_mtime < limit}
    for path in sizes:
        path.unlink(missing_ok=True)
    return len(sizes), sum(sizes.values())


def size_of(folder: Path) -> int:
    """Bytes in all files under a folder, 0 where there is none."""
    return sum(map(_size, _files(folder)))


def _files(folder: Path) -> Iterator[Path]:
    return (Path(root, name) for root, _, names in os.walk(folder) for name in names)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:  # another process renamed or removed it since it was listed
        return 0


def sync(paths: Iterable[Path]) -> None:
    """Flush files and folders to the disk: what they hold survives a loss of power from here on."""
    for path in paths:
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def write_atomic(path: Path, content: str | bytes) -> None:
    """Write a whole file or nothing, and make it durable. An older file of that name is replaced in one step."""
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        with draft.open("xb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
    sync([path.parent])


@contextmanager
def locked(path: Path, *, wait: bool = True) -> Iterator[bool]:
    """Hold an exclusive lock among processes; gives False, without waiting, where `wait` is off and another holds it.

    The system releases the lock when its holder dies, so a killed process leaves nothing to clean up.
    """
    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            yield False
            return
        yield True


@contextmanager
def disk_errors(place: Path, kept: Callable[[], int] | None = None, option: str = "--store") -> Iterator[None]:
    """Turn a full disk, a missing permission or a file in the way into one clear line; other errors pass unchanged.

    Args:
        place: the folder that the errors are about.
        kept: counts what is safely stored, for the message about a full disk.
        option: of the command line, that names another folder.
    """
    try:
        yield
    except (OSError, ValueError, RuntimeError) as error:
        explained = _explain(_errno(error), place, kept, option)
        if explained is None:
            raise
        raise explained from error


def _errno(error: Exception) -> int | None:
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno
    found = _RUST_ERRNO.search(str(error))
    return int(found[1]) if found else None


def _explain(number: int | None, place: Path, kept: Callable[[], int] | None, option: str) -> ScalexError | None:
    another = f"name another folder with {option}"
    if number in _FULL:
        safe = "" if kept is None else f": {kept()} samples are kept"
        return ScalexError(f"disk full at {place}", f"Free space and run the same command again{safe}")
    if number in _FORBIDDEN:
        return ScalexError(f"cannot write to {place}", f"Give yourself write permission there, or {another}")
    if number in _IN_THE_WAY:
        return ScalexError(f"a file is in the way of the folder {place}", f"Move it, or {another}")
    if number == errno.ENOENT and not place.exists():
        return ScalexError(f"the folder {place} is not there and cannot be made", another.capitalize())
    return None
