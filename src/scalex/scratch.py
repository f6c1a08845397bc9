"""Arrays that may outgrow memory: beyond a budget they lie in a file without a name, which is gone with the array.

Whatever goes over such an array in blocks, and lets each of them go, works in fixed memory however long it is. The file
is in the folder for temporary files (`TMPDIR`), which needs as much room.
"""

from __future__ import annotations

import mmap
import os
import tempfile
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from jaxtyping import Int, Shaped
from numpy.typing import DTypeLike

from scalex.errors import ScalexError

__all__ = ["MEMORY", "array", "blocks", "budget", "finite", "in_block", "let_go", "take"]

MEMORY = 2.0
"""GiB up to which an array is held in memory, unless the environment variable `SCALEX_MEMORY` says otherwise."""

_VARIABLE = "SCALEX_MEMORY"
_BLOCK = 16 << 20  # bytes in a block


def budget() -> int:
    """Bytes up to which an array is held in memory.

    Raises:
        ScalexError: the variable is not a positive number.
    """
    said = os.environ.get(_VARIABLE)
    try:
        gib = MEMORY if said is None else float(said)
    except ValueError:
        gib = 0.0
    if not 0 < gib < float("inf"):
        raise ScalexError(f"{_VARIABLE} is {said!r}", "Give the GiB that one array may take in memory, such as 2")
    return int(gib * 2**30)


def array(shape: Sequence[int], dtype: DTypeLike) -> Shaped[np.ndarray, "..."]:
    """An array to be filled: in memory, or in a file where it is beyond the budget.

    Raises:
        ScalexError: there is no room for the file.
    """
    size = int(np.prod([*shape, np.dtype(dtype).itemsize], dtype=np.int64))
    if size <= budget():
        return np.empty(tuple(shape), dtype)
    folder = tempfile.gettempdir()
    room = os.statvfs(folder)
    if size > room.f_bavail * room.f_frsize:
        wrong = f"{size / 1e9:.1f} GB do not fit into the folder for temporary files, {folder}"
        raise ScalexError(wrong, "Free space there, name another one in TMPDIR, or raise SCALEX_MEMORY")
    with tempfile.TemporaryFile() as file:
        return np.memmap(file, dtype=dtype, mode="w+", shape=tuple(shape))


def blocks(values: Shaped[np.ndarray, "rows ..."], rows: int | None = None) -> Iterator[slice]:
    """The rows of an array in blocks of about 16 MiB, or of so many. Each is let go when the next is asked for."""
    step = max(1, rows or in_block(values[:1].nbytes))
    for start in range(0, len(values), step):
        yield slice(start, min(start + step, len(values)))
        let_go(values)


def in_block(row: int) -> int:
    """How many rows of so many bytes make a block, one at least."""
    return max(1, _BLOCK // max(1, row))


def let_go(values: Shaped[np.ndarray, "..."]) -> None:
    """Holds nothing in memory any more of what lies in a file. (What was written stays in the file.)"""
    held: Any = getattr(values, "_mmap", None)
    if held is not None and hasattr(mmap, "MADV_DONTNEED"):
        held.madvise(mmap.MADV_DONTNEED)


def finite(values: Shaped[np.ndarray, "..."]) -> bool:
    """Whether all numbers are finite."""
    return all(bool(np.isfinite(values[rows]).all()) for rows in blocks(values))


def take(values: Shaped[np.ndarray, "rows ..."], places: Int[np.ndarray, "places"]) -> Shaped[np.ndarray, "places ..."]:
    """The rows at these places, in as much memory as an array of theirs."""
    taken = array((len(places), *values.shape[1:]), values.dtype)
    for rows in blocks(taken):
        taken[rows] = values[places[rows]]
        let_go(values)
    return taken
