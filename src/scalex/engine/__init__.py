"""Engines: an open set. Each runs the same plan of what a store is missing, in this process or elsewhere.

A module of this folder is one: its `begin(workers, address)` gives a context manager with its `Fill`.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol, runtime_checkable

from scalex.capture import Plan, Progress
from scalex.engine._work import Filled, missing
from scalex.engine.local import fill
from scalex.engine.processes import Processes
from scalex.errors import ScalexError
from scalex.models import Model
from scalex.records import Prompt
from scalex.store import Store
from scalex.wording import did_you_mean

__all__ = ["Fill", "Filled", "Processes", "engine", "engines", "fill", "missing"]


@runtime_checkable
class Fill(Protocol):
    """What an engine does: it captures what a store is missing of prompts and seeds."""

    def __call__(
        self,
        store: Store,
        model: Model,
        prompts: Sequence[Prompt],
        seeds: Sequence[int],
        plan: Plan,
        progress: Progress | None = None,
    ) -> Filled:
        """As `scalex.engine.local.fill`."""


def engines() -> list[str]:
    """The names of all engines: each is a module of this folder with a `begin`."""
    return [m.name for m in pkgutil.iter_modules(__path__) if not m.name.startswith("_")]


@contextmanager
def engine(workers: int | None = None, name: str | None = None, address: str | None = None) -> Iterator[Fill]:
    """An engine for so many workers.

    Args:
        workers: None for as many as it has devices. name: of the engine; None is that of processes for more than one
            worker, that of a cluster where an address is given, else this process. address: of a cluster.

    Raises:
        ScalexError: there is no such engine, it is not installed, it cannot have so many workers, or nothing answers at
            the address.
    """
    name = name or ("ray" if address else "local" if workers in (None, 1) else "processes")
    if name not in engines():
        raise ScalexError(f"there is no engine {name!r}", did_you_mean(name, engines(), "Engines"))
    with importlib.import_module(f"{__name__}.{name}").begin(workers, address) as begun:
        yield begun
