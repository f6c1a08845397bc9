"""Engines: an open set. Each runs the same plan of what a store is missing, in this process or elsewhere."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol, runtime_checkable

from scalex.capture import Plan, Progress
from scalex.engine._work import Filled, missing
from scalex.engine.local import fill
from scalex.engine.processes import Processes
from scalex.models import Model
from scalex.records import Prompt
from scalex.store import Store

__all__ = ["Fill", "Filled", "Processes", "engine", "fill", "missing"]


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


@contextmanager
def engine(workers: int | None = None) -> Iterator[Fill]:
    """The engine for so many workers: this process for one (or None), else that of processes.

    Raises:
        ScalexError: fewer than one.
    """
    if workers in (None, 1):
        yield fill
        return
    with Processes(workers) as crew:
        yield crew.fill
