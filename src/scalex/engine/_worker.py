"""A worker of an engine: loads the model once, and captures unit after unit into the store."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import asdict, dataclass

import torch

from scalex.capture import CaptureStats, Plan
from scalex.engine._work import Unit, cut, lacking, run_unit
from scalex.errors import ScalexError
from scalex.models import Source, load_model
from scalex.store import Store

__all__ = ["Post", "Worker"]


@dataclass(frozen=True)
class Post:
    """What a worker is told when it begins.

    Attributes:
        source, fingerprint: of the model. store: its folder. device: where it runs.
        cores: of a CPU, those that it is bound to; None for as it comes.
    """

    source: Source
    fingerprint: str
    store: str
    device: str
    cores: tuple[int, ...] | None = None


class Worker:
    """A loaded model before an open store.

    Raises:
        ScalexError: the model or the store cannot be opened, or it is another model than the one that was asked for.
    """

    def __init__(self, post: Post) -> None:
        if post.cores is not None:
            _bind(post.cores)
        self._model = load_model(**asdict(post.source), device=post.device)
        if self._model.fingerprint != post.fingerprint:
            raise ScalexError(f"{post.source.path_or_id} has changed since the run began", "Run the same again")
        self._store = Store.open(post.store)

    def run(self, unit: Unit, plan: Plan, written: Callable[[int], None]) -> list[CaptureStats]:
        """Captures what the store still lacks of a unit: another may have captured a part of it before it died.

        Args:
            written: called with the number of samples, after each batch that is on the disk.

        Raises:
            StoreFailed: the store cannot be written to. ScalexError: as `scalex.capture.capture`.
        """
        recipes = {r: recipe for r, recipe in plan.recipes(self._model).items() if r in unit.readings}
        parts = cut(lacking(self._store, recipes, unit.samples), len(unit.samples))
        written(len(unit.samples) - sum(len(part.samples) for part in parts))
        found = []
        for part in parts:
            last = 0

            def tell(done: int, _: int) -> None:
                nonlocal last
                written(done - last)
                last = done

            found.append(run_unit(self._store, self._model, plan, recipes, part, tell))
        return found


def _bind(cores: tuple[int, ...]) -> None:
    """Binds this process to some cores: threads of two workers on one core wait for each other."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, cores)
    torch.set_num_threads(len(cores))
