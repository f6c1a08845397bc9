"""What engines of several workers share: units given out one by one, the dead replaced, and poison set aside.

Units are given to workers that have begun, one at a time to each. A worker that dies is replaced, and its unit done
again; a unit that three workers died of is set aside, and so is a sample that cannot be captured: both are named at the
end, when all else is done. Workers write to the store themselves, so nothing that was captured is lost with any of
them, nor with the process that gives the work.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections import Counter, deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from scalex.batches import batch_size
from scalex.capture import CaptureStats, Plan, Progress
from scalex.engine._work import Count, Filled, Unit, cut, lacking, missing, together
from scalex.engine._worker import Post
from scalex.errors import ScalexError
from scalex.models import Model
from scalex.records import Prompt
from scalex.store import Store
from scalex.tuning import tuned

__all__ = ["TRIES", "Crew", "Hand", "Shift"]

TRIES = 3
"""Workers that may die of one unit."""

_BATCHES = 4  # in a unit: few, so that little is done twice, and enough to outweigh handing it over


@dataclass
class Shift:
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
        parts = (unit.samples[half:], unit.samples[:half])
        self.left.extendleft(unit._replace(samples=part, again=True) for part in parts)

    def died(self, unit: Unit, why: str) -> None:
        """The unit of a dead worker is done again, unless it is one that workers die of."""
        unit = unit._replace(again=True)
        self.deaths[unit] += 1
        if self.deaths[unit] < TRIES:
            self.left.appendleft(unit)
        else:
            self.aside.append((unit, f"{TRIES} workers died of it: {why}"))


class Hand(ABC):
    """A worker as the one who gives the work sees it: its post, and the unit that it has in hand."""

    def __init__(self, post: Post) -> None:
        self.post, self.began = post, False
        self.unit: Unit | None = None
        self._had = 0

    @abstractmethod
    def send(self, unit: Unit, plan: Plan) -> None:
        """Hands a unit over; of one that died, `listen` tells."""

    @abstractmethod
    def listen(self) -> tuple[str, Any]:
        """The next message, as `scalex.engine._worker.serve` says them; ("died", why) where there is none to come."""

    @abstractmethod
    def end(self) -> None:
        """Ends the worker, by force where it does not listen."""

    def give(self, shift: Shift) -> None:
        """The next unit, where there is one and the hand is free."""
        if self.began and self.unit is None and shift.left:
            self.unit, self._had = shift.left.popleft(), 0
            self.send(self.unit, shift.plan)

    def hear(self, shift: Shift) -> bool:
        """Takes one message; False where the worker is dead.

        Raises:
            ScalexError: no worker can begin, or the store can't be written to.
        """
        word, said = self.listen()
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
        return word != "died"

    def _undo(self, shift: Shift) -> None:
        """What the worker wrote of its unit is told again by the one that does the rest."""
        shift.count.reach(shift.count.done - self._had)

    def _bury(self, shift: Shift, why: str) -> None:
        shift.stillborn += not self.began
        if shift.stillborn >= TRIES:
            raise ScalexError(
                f"{TRIES} workers died before they began: {why}", "Use fewer with --workers, or the local engine"
            )
        if self.unit is not None:
            self._undo(shift)
            shift.died(self.unit, why)
        self.end()


H = TypeVar("H", bound=Hand)


class Crew(ABC, Generic[H]):
    """Workers that live as long as this is open: `with ... as crew: crew.fill(...)`."""

    def __init__(self, workers: int | None = None) -> None:
        """
        Args:
            workers: how many; None for as many as there are devices, or on CPUs cores.

        Raises:
            ScalexError: fewer than one.
        """
        if workers is not None and workers < 1:
            raise ScalexError(f"{workers} workers can't do anything", "Name at least one with --workers")
        self._asked = workers
        self._crew: list[H] = []

    def __enter__(self) -> Crew[H]:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends all workers. What they wrote is kept."""
        for hand in self._crew:
            hand.end()
        self._crew = []

    def _device(self, model: Model) -> str:
        """The kind of device that workers run on."""
        return str(model.device.type)

    @abstractmethod
    def _room(self, model: Model) -> int:
        """How many workers there is room for.

        Raises:
            ScalexError: for none.
        """

    @abstractmethod
    def _posts(self, model: Model, store: Store, n: int) -> list[Post]:
        """What each of n workers is told when it begins."""

    @abstractmethod
    def _begin(self, post: Post) -> H:
        """A new worker."""

    @abstractmethod
    def _speaking(self, crew: Sequence[H]) -> Iterable[H]:
        """Waits until some have a message, and gives these."""

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
        if self._device(model) == model.device.type:
            plan = tuned(model, plan, total)
        size = _BATCHES * batch_size(model, plan, self._device(model))
        units = cut(groups, size, max(1, plan.moments))
        shift = Shift(deque(units), plan, count)
        try:
            if units:
                self._hire(max(len(self._crew), min(len(units), self._asked or self._room(model))), model, store)
                self._work(shift)
        except KeyboardInterrupt:
            self.close()
            said = f"interrupted: {count.done} of {count.total} samples were captured and are kept"
            raise ScalexError(said, "Run the same command again to go on from there") from None
        except BaseException:
            self.close()
            raise
        lost = lacking(store, recipes, [sample for unit in units for sample in unit.samples])
        if lost:
            raise _lost(shift, sum(map(len, lost.values())), total)
        return together(recipes, prompts, seeds, shift.stats, began)

    def _hire(self, n: int, model: Model, store: Store) -> None:
        """So many workers; those of an earlier fill go on, if it was of the same model and store, and of as many."""
        posts = self._posts(model, store, n)
        if [hand.post for hand in self._crew] != posts:
            self.close()
            self._crew = [self._begin(post) for post in posts]

    def _work(self, shift: Shift) -> None:
        while shift.left or any(hand.unit for hand in self._crew):
            for hand in self._crew:
                hand.give(shift)
            for hand in self._speaking(self._crew):
                if not hand.hear(shift):
                    self._crew[self._crew.index(hand)] = self._begin(hand.post)


def _lost(shift: Shift, lost: int, total: int) -> ScalexError:
    if not shift.aside:
        return ScalexError(
            f"{lost} of {total} samples were captured, but into another store of the same name",
            "Name one with --store that all workers share",
        )
    (unit, why), more = shift.aside[0], len(shift.aside) - 1
    text, seed = unit.samples[0]
    alone = len(unit.samples) == 1
    first = f"prompt {text!r}, seed {seed}" if alone else f"{len(unit.samples)} samples from {text!r} on"
    others = f" (and {more} more)" if more else ""
    wrong = f"{lost} of {total} samples could not be captured, all others are kept: {first}{others}: {why.rstrip('.')}"
    return ScalexError(wrong, "Mend that and run the same command again: it captures what is missing")
