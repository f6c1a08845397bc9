"""The engine of several processes on one machine: one worker a device, or one for each core of a CPU.

Units are given out one by one. A worker that dies is replaced, and its unit done again; a unit that three workers died
of is set aside, and so is a sample that cannot be captured: both are named at the end, when all else is done. Workers
write to the store themselves, so nothing that was captured is lost with any of them, nor with this process.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections import Counter, deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from typing import Any

import torch

from scalex.capture import CaptureStats, Plan, Progress, batch_size
from scalex.engine._work import Count, Filled, StoreFailed, Unit, cut, lacking, missing, together
from scalex.engine._worker import Post, Worker
from scalex.errors import ScalexError
from scalex.models import Model
from scalex.records import Prompt
from scalex.store import Store

__all__ = ["NAME", "Processes"]

NAME = "processes"
TRIES = 3
"""Workers that may die of one unit."""

_BATCHES = 4  # in a unit: few, so that little is done twice, and enough to outweigh handing it over
_PATIENCE = 5.0  # seconds that a worker has to end by itself


class Processes:
    """Workers that live as long as this is open: `with Processes(2) as engine: engine.fill(...)`."""

    def __init__(self, workers: int | None = None) -> None:
        """
        Args:
            workers: how many; None for one a device, or on a CPU one a core.

        Raises:
            ScalexError: fewer than one.
        """
        if workers is not None and workers < 1:
            raise ScalexError(f"{workers} workers can't do anything", "Name at least one with --workers")
        self._asked = workers
        self._crew: list[_Hand] = []

    def __enter__(self) -> Processes:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends all workers. What they wrote is kept."""
        for hand in self._crew:
            hand.end()
        self._crew = []

    def fill(
        self,
        store: Store,
        model: Model,
        prompts: Sequence[Prompt],
        seeds: Sequence[int],
        plan: Plan,
        progress: Progress | None = None,
    ) -> Filled:
        """As `scalex.engine.local.fill`.

        Raises:
            ScalexError: it was interrupted, samples were set aside (all others are kept), workers can't begin, or the
                store can't be written to.
        """
        began, recipes = time.perf_counter(), plan.recipes(model)
        groups = missing(store, recipes, prompts, seeds)
        total = sum(map(len, groups.values()))
        count = Count(total, progress)
        units = cut(groups, _BATCHES * batch_size(model, plan), max(1, plan.moments))
        shift = _Shift(deque(units), plan, count)
        try:
            self._hire(max(len(self._crew), min(len(units), self._asked or len(devices(model)))), model, store)
            self._work(shift)
        except KeyboardInterrupt:
            self.close()
            said = f"interrupted: {count.done} of {count.total} samples were captured and are kept"
            raise ScalexError(said, "Run the same command again to go on from there") from None
        except BaseException:
            self.close()
            raise
        lost = lacking(store, recipes, [sample for unit, _ in shift.aside for sample in unit.samples])
        if lost:
            raise _set_aside(shift, sum(map(len, lost.values())), total)
        return together(recipes, prompts, seeds, shift.stats, began)

    def _hire(self, n: int, model: Model, store: Store) -> None:
        """So many workers; those of an earlier fill go on, if it was of the same model and store, and of as many."""
        posts = _posts(model, store, n)
        if [hand.post for hand in self._crew] != posts:
            self.close()
            self._crew = [_Hand(post) for post in posts]

    def _work(self, shift: _Shift) -> None:
        while shift.left or any(hand.unit for hand in self._crew):
            for hand in self._crew:
                hand.give(shift)
            for pipe in wait([hand.pipe for hand in self._crew]):
                place = next(i for i, hand in enumerate(self._crew) if hand.pipe is pipe)
                if not self._crew[place].hear(shift):
                    self._crew[place] = _Hand(self._crew[place].post)


@dataclass
class _Shift:
    """The units that are left, and what became of the others."""

    left: deque[Unit]
    plan: Plan
    count: Count
    stats: list[CaptureStats] = field(default_factory=list)
    deaths: Counter[Unit] = field(default_factory=Counter)
    aside: list[tuple[Unit, str]] = field(default_factory=list)
    stillborn: int = 0

    def failed(self, unit: Unit, why: str) -> None:
        """A unit that can't be captured is halved until the sample at fault stands alone, or its block of moments."""
        block = max(1, self.plan.moments)
        if len(unit.samples) <= block:
            self.aside.append((unit, why))
            return
        half = max(1, len(unit.samples) // block // 2) * block
        self.left.extendleft([unit._replace(samples=unit.samples[half:]), unit._replace(samples=unit.samples[:half])])

    def died(self, unit: Unit, why: str) -> None:
        """The unit of a dead worker is done again, unless it is one that workers die of."""
        self.deaths[unit] += 1
        if self.deaths[unit] < TRIES:
            self.left.appendleft(unit)
        else:
            self.aside.append((unit, f"{TRIES} workers died of it: {why}"))


class _Hand:
    """A worker as this process sees it: its process, the pipe to it, and the unit that it has in hand."""

    def __init__(self, post: Post) -> None:
        spawn = multiprocessing.get_context("spawn")  # the store is not fork-safe
        self.post, self.began = post, False
        self.unit: Unit | None = None
        self._had = 0
        self.pipe, theirs = spawn.Pipe()
        self.process = spawn.Process(target=_serve, args=(theirs, post), daemon=True)
        self.process.start()
        theirs.close()

    def give(self, shift: _Shift) -> None:
        """The next unit, where there is one and the hand is free."""
        if self.unit is None and shift.left:
            self.unit, self._had = shift.left.popleft(), 0
            with suppress(OSError):  # one that died is heard of next
                self.pipe.send((self.unit, shift.plan))

    def hear(self, shift: _Shift) -> bool:
        """Takes one message; False where the worker is dead.

        Raises:
            ScalexError: no worker can begin, or the store can't be written to.
        """
        try:
            word, said = self.pipe.recv()
        except (EOFError, OSError):
            word, said = "died", ""
        if word == "began":
            self.began, shift.stillborn = True, 0
        elif word == "written":
            self._had += said
            shift.count.reach(shift.count.done + said)
        elif word == "done":
            shift.stats += said
            self.unit = None
        elif word == "failed":
            assert self.unit is not None  # a worker speaks of the unit that it was given
            self._undo(shift)
            shift.failed(self.unit, said)
            self.unit = None
        elif word == "stopped":
            raise ScalexError(*said)
        else:
            self._bury(shift, str(said))
            return False
        return True

    def _undo(self, shift: _Shift) -> None:
        """What the worker wrote of its unit is told again by the one that does the rest."""
        shift.count.reach(shift.count.done - self._had)

    def _bury(self, shift: _Shift, said: str) -> None:
        self.process.join(_PATIENCE)
        code = self.process.exitcode
        why = said or (f"killed by {signal.Signals(-code).name}" if code and code < 0 else f"exit code {code}")
        shift.stillborn += not self.began
        if shift.stillborn >= TRIES:
            raise ScalexError(
                f"{TRIES} workers died before they began: {why}", "Use fewer with --workers, or the local engine"
            )
        if self.unit is not None:
            self._undo(shift)
            if self.began:
                shift.died(self.unit, why)
            else:
                shift.left.appendleft(self.unit)
        self.end()

    def end(self) -> None:
        """Ends the process, by force where it does not listen."""
        self.pipe.close()
        self.process.terminate()
        self.process.join(_PATIENCE)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()


def devices(model: Model) -> list[str]:
    """Where workers of a model may run: all devices of its kind, or the cores of the CPU."""
    if model.device.type == "cuda":
        return [f"cuda:{i}" for i in range(torch.cuda.device_count())]
    return [model.device.type] * (len(_cores()) if model.device.type == "cpu" else 1)


def _cores() -> list[int]:
    """The cores that this process may use."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(os.cpu_count() or 1))


def _posts(model: Model, store: Store, n: int) -> list[Post]:
    """For n workers: the devices in turn; on a CPU a share of the cores for each."""
    where, cores = devices(model), _cores()
    bound = model.device.type == "cpu"
    return [
        Post(
            model.source,
            model.fingerprint,
            str(store.path),
            where[i % len(where)],
            (tuple(cores[i::n]) or (cores[i % len(cores)],)) if bound else None,
        )
        for i in range(n)
    ]


def _set_aside(shift: _Shift, lost: int, total: int) -> ScalexError:
    (unit, why), more = shift.aside[0], len(shift.aside) - 1
    text, seed = unit.samples[0]
    alone = len(unit.samples) == 1
    first = f"prompt {text!r}, seed {seed}" if alone else f"{len(unit.samples)} samples from {text!r} on"
    others = f" (and {more} more)" if more else ""
    wrong = f"{lost} of {total} samples could not be captured, all others are kept: {first}{others}: {why.rstrip('.')}"
    return ScalexError(wrong, "Mend that and run the same command again: it captures what is missing")


def _serve(pipe: Connection, post: Post) -> None:
    """The life of a worker's process: unit after unit, until the other end of the pipe is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that gave the work

    def say(word: str, said: Any = None) -> None:
        pipe.send((word, said))

    with suppress(EOFError, OSError):
        try:
            worker = Worker(post)
            say("began")
            while True:
                unit, plan = pipe.recv()
                try:
                    say("done", worker.run(unit, plan, lambda n: say("written", n)))
                except StoreFailed as error:
                    say("stopped", (error.wrong, error.way_out))
                except ScalexError as error:
                    say("failed", str(error))
        except ScalexError as error:
            say("stopped", (error.wrong, error.way_out))
        except (EOFError, OSError):
            raise
        except Exception as error:  # a device that is lost, a driver: whatever it is, another worker may live
            say("died", f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else ''}")
