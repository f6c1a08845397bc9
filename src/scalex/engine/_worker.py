"""A worker of an engine: loads the model once, and captures unit after unit into the store.

It speaks in words, whatever carries them: ("began", None); of a unit ("written", samples) after each batch, and then
("done", stats) or ("failed", why); ("stopped", (wrong, way out)) where no other worker would fare better; and
("died", why) as its last.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import torch

from scalex.capture import CaptureStats, Plan
from scalex.engine._work import StoreFailed, Unit, cut, lacking, run_unit
from scalex.errors import ScalexError
from scalex.models import Source, load_model
from scalex.store import Store

__all__ = ["Post", "Worker", "serve", "share_cores"]


@dataclass(frozen=True)
class Post:
    """What a worker is told when it begins.

    Attributes:
        source, fingerprint: of the model. store: its address. device: where it runs.
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
        Store.open(post.store, create=False)  # where it is not there, it is not the one that was opened to be filled
        self._store = Store.open(post.store)

    def run(self, unit: Unit, plan: Plan, written: Callable[[int], None]) -> list[CaptureStats]:
        """Captures a unit; of one that another worker had, what the store still lacks. Others are not looked up: that
        reads all keys of the store, which takes longer than the unit once there are millions.

        Args:
            written: called with the number of samples, after each batch that is on the disk.

        Raises:
            StoreFailed: the store cannot be written to. ScalexError: as `scalex.capture.capture`.
        """
        recipes = {r: recipe for r, recipe in plan.recipes(self._model).items() if r in unit.readings}
        parts, found = [unit], []
        if unit.again:
            parts = cut(lacking(self._store, recipes, unit.samples), len(unit.samples))
            written(len(unit.samples) - sum(len(part.samples) for part in parts))
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


def serve(post: Post, take: Callable[[], tuple[Unit, Plan]], say: Callable[[str, Any], None]) -> None:
    """The life of a worker: unit after unit, until it dies.

    Args:
        take: waits for the next unit.
    """
    try:
        worker = Worker(post)
        say("began", None)
        while True:
            unit, plan = take()
            try:
                say("done", worker.run(unit, plan, lambda n: say("written", n)))
            except StoreFailed as error:
                say("stopped", (error.wrong, error.way_out))
            except ScalexError as error:
                say("failed", str(error))
    except ScalexError as error:
        say("stopped", (error.wrong, error.way_out))
    except Exception as error:  # a device that is lost, a driver: whatever it is, another worker may live
        say("died", f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else ''}")


def share_cores(n: int) -> list[tuple[int, ...]]:
    """The cores that this process may use, dealt to n workers; each has one at least."""
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(os.cpu_count() or 1))
    return [tuple(cores[i::n]) or (cores[i % len(cores)],) for i in range(n)]
