"""The engine of several processes on one machine: one worker a device, or one for each core of a CPU."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection, wait
from typing import Any

import torch

from scalex.capture import Plan
from scalex.engine._crew import Crew, Hand
from scalex.engine._work import Unit
from scalex.engine._worker import Post, serve, share_cores
from scalex.errors import ScalexError
from scalex.models import Model
from scalex.store import Store

__all__ = ["NAME", "Processes", "begin"]

NAME = "processes"

_PATIENCE = 5.0  # seconds that a worker has to end by itself


class _Hand(Hand):
    """A process and the pipe to it."""

    def __init__(self, post: Post) -> None:
        super().__init__(post)
        spawn = multiprocessing.get_context("spawn")  # the store is not fork-safe
        self.pipe, theirs = spawn.Pipe()
        self.process = spawn.Process(target=_serve, args=(theirs, post), daemon=True)
        self.process.start()
        theirs.close()

    def send(self, unit: Unit, plan: Plan) -> None:
        with suppress(OSError):  # one that died is heard of next
            self.pipe.send((unit, plan))

    def listen(self) -> tuple[str, Any]:
        try:
            word, said = self.pipe.recv()
        except (EOFError, OSError):
            word, said = "died", ""
        return word, said or self._cause() if word == "died" else said

    def _cause(self) -> str:
        """Why the process ended, where it could not say so itself."""
        self.process.join(_PATIENCE)
        code = self.process.exitcode
        return f"killed by {signal.Signals(-code).name}" if code and code < 0 else f"exit code {code}"

    def end(self) -> None:
        self.pipe.close()
        self.process.terminate()
        self.process.join(_PATIENCE)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()


class Processes(Crew[_Hand]):
    """Workers that live as long as this is open: `with Processes(2) as engine: engine.fill(...)`."""

    def _room(self, model: Model) -> int:
        return len(devices(model))

    def _posts(self, model: Model, store: Store, n: int) -> list[Post]:
        """For n workers: the devices in turn; on a CPU a share of the cores for each."""
        where, shares = devices(model), share_cores(n) if model.device.type == "cpu" else [None] * n
        return [
            Post(model.source, model.fingerprint, store.address, where[i % len(where)], shares[i]) for i in range(n)
        ]

    def _begin(self, post: Post) -> _Hand:
        return _Hand(post)

    def _speaking(self, crew: Sequence[_Hand]) -> Iterable[_Hand]:
        heard = wait([hand.pipe for hand in crew])
        return [hand for hand in crew if hand.pipe in heard]


@contextmanager
def begin(workers: int | None, address: str | None) -> Iterator[Any]:
    """So many processes as an engine: it gives their `fill`.

    Raises:
        ScalexError: fewer than one, or an address, which it has no use for.
    """
    if address is not None:
        raise ScalexError("the engine of processes has no address", "Leave out --engine, or name ray")
    with Processes(workers) as crew:
        yield crew.fill


def devices(model: Model) -> list[str]:
    """Where workers of a model may run: all devices of its kind, or the cores of the CPU."""
    if model.device.type == "cuda":
        return [f"cuda:{i}" for i in range(torch.cuda.device_count())]
    return [model.device.type] * (len(share_cores(1)[0]) if model.device.type == "cpu" else 1)


def _serve(pipe: Connection, post: Post) -> None:
    """The life of a worker's process, until the other end of the pipe is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that gave the work

    def guarded(talk: Any, *words: Any) -> Any:
        try:
            return talk(*words)
        except (EOFError, OSError):  # whoever gave the work is gone
            os._exit(0)

    serve(post, lambda: guarded(pipe.recv), lambda word, said: guarded(pipe.send, (word, said)))
