"""The engine of a Ray cluster: one actor a GPU, or a core where there is none. Without an address, a Ray of our own.

An actor has one unit at a time. Actors join as the cluster has room for them, and each loads the model and opens the
store itself: both must be reachable from its node under the names that they have here, and scalex installed there.

A Ray of our own is for this run alone: its files lie in a folder that nobody else may enter, its ports ask for a token
that is nowhere on the disk, and it ends with this process, however that ends.
"""

from __future__ import annotations

import logging
import os
import queue
import re
import secrets
import socket
import threading
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import urlsplit

import torch

from scalex.capture import Plan
from scalex.engine._crew import Crew, Hand
from scalex.engine._work import Unit
from scalex.engine._worker import Post, serve, share_cores
from scalex.errors import ScalexError
from scalex.models import Model
from scalex.store import Store

__all__ = ["NAME", "Rays", "begin", "connected"]

NAME = "ray"

_ADDRESS = "RAY_ADDRESS"
_PATIENCE = 8.0  # seconds that an address has to answer
_QUIET = 60  # seconds after which a cluster that begins no worker is worth a warning
_OBJECTS = 80 << 20  # bytes: the least that Ray takes; words are small, and latents go to the store
_SETTINGS_FRAME = b"\x04"  # RFC 9113, 3.4: with one each side of HTTP/2 begins
_HELLO = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes.fromhex("000000040000000000")
_SETTINGS = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_DEDUP_LOGS_SKIP_REGEX": ".",  # else Ray prints on standard output that a worker died, which is ours to say
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}
_SILENT = {"log_to_driver": False, "configure_logging": False, "logging_level": logging.ERROR}
_TOKEN = secrets.token_hex(32)
_REACH = "On a cluster every worker must reach the model and the store, by the names that they have here"
_ANOTHER = "Name another with --address, or leave it out for a Ray of this machine alone"


class _Actor:
    """A worker in an actor's process: it works in a thread, while calls of `say` wait for its words."""

    def __init__(self, post: Post) -> None:
        self._units: queue.SimpleQueue[tuple[Unit, Plan]] = queue.SimpleQueue()
        self._words: queue.SimpleQueue[tuple[str, Any]] = queue.SimpleQueue()
        threading.Thread(
            target=serve, args=(post, self._units.get, lambda *word: self._words.put(word)), daemon=True
        ).start()

    def say(self, work: tuple[Unit, Plan] | None) -> tuple[str, Any]:
        """Takes a unit, if one is given, and waits for the next word."""
        if work is not None:
            self._units.put(work)
        return self._words.get()


class _Hand(Hand):
    """An actor, and the call of it that is to bring its next word: none while it has nothing to do."""

    def __init__(self, post: Post) -> None:
        super().__init__(post)
        self._ray = _ray()
        needs = {"num_gpus": 1, "num_cpus": 0} if post.device == "cuda" else {"num_cpus": 1}
        kind = self._ray.remote(_Actor).options(**needs, max_restarts=0, scheduling_strategy="SPREAD")
        self.actor = kind.remote(post)
        self.call: Any = self.actor.say.remote(None)

    def send(self, unit: Unit, plan: Plan) -> None:
        self.call = self.actor.say.remote((unit, plan))

    def listen(self) -> tuple[str, Any]:
        try:
            word, said = self._ray.get(self.call)
        except self._ray.exceptions.RayError as error:
            word, said = "died", _cause(error)
        if word == "stopped" and not self.began:
            said = (said[0], f"{said[1]}. {_REACH}" if said[1] else _REACH)
        self.call = self.actor.say.remote(None) if word == "written" else None
        return word, said

    def end(self) -> None:
        self._ray.kill(self.actor)


class Rays(Crew[_Hand]):
    """Actors that live as long as this is open: `with Rays(address="head:6379") as engine: engine.fill(...)`."""

    def __init__(self, workers: int | None = None, address: str | None = None) -> None:
        """
        Args:
            workers: how many; None for as many as the cluster has GPUs, or else cores.
            address: HOST:PORT of the cluster's head, or ray://HOST:PORT of its client server; None for that of the
                variable RAY_ADDRESS, or else a Ray of our own.

        Raises:
            ScalexError: fewer than one, Ray is not installed, or no Ray answers there within ten seconds.
        """
        super().__init__(workers)
        self._connection = ExitStack()
        self._own = self._connection.enter_context(connected(address))
        self._warned = False

    def __exit__(self, *how: object) -> None:
        super().__exit__(*how)
        self._connection.close()

    def _device(self, model: Model) -> str:
        """That of the model; but the cluster's GPUs where this machine, as a head often, has none."""
        return "cuda" if not torch.cuda.is_available() and _has("GPU") else super()._device(model)

    def _room(self, model: Model) -> int:
        wanted = "GPU" if self._device(model) == "cuda" else "CPU"
        room = _has(wanted)
        if not room:
            raise ScalexError(f"the Ray cluster has no {wanted}", f"Add a node with one. {_ANOTHER}")
        return room

    def _posts(self, model: Model, store: Store, n: int) -> list[Post]:
        device = self._device(model)
        shares = share_cores(n) if self._own and device == "cpu" else [None] * n
        return [Post(model.source, model.fingerprint, store.address, device, share) for share in shares]

    def _begin(self, post: Post) -> _Hand:
        return _Hand(post)

    def _speaking(self, crew: Sequence[_Hand]) -> Iterable[_Hand]:
        ray, calls = _ray(), [hand.call for hand in crew if hand.call is not None]
        ray.wait(calls, timeout=_QUIET)
        heard, _ = ray.wait(calls, num_returns=len(calls), timeout=0)
        if not heard and not self._warned and not any(hand.began for hand in crew):
            self._warned = True
            warnings.warn(f"no worker has begun for {_QUIET} s: the Ray cluster has no room for one yet", stacklevel=2)
        speaking = set(heard)
        return [hand for hand in crew if hand.call in speaking]


@contextmanager
def begin(workers: int | None, address: str | None) -> Iterator[Any]:
    """So many actors on the cluster at an address as an engine: it gives their `fill`. Arguments as for `Rays`."""
    with Rays(workers, address) as crew:
        yield crew.fill


@contextmanager
def connected(address: str | None = None) -> Iterator[bool]:
    """A connection to a Ray cluster; without an address, one that is there already is taken. Gives whether it is ours.

    Raises:
        ScalexError: Ray is not installed, or no Ray answers at the address within ten seconds.
    """
    ray = _ray()
    if ray.is_initialized() and address is None:
        yield False
        return
    address = address or os.environ.get(_ADDRESS)
    with TemporaryDirectory(prefix="scalex-") as folder:  # nobody else may enter it
        with warnings.catch_warnings():
            warnings.filterwarnings(
                "ignore", "lance is not fork-safe"
            )  # what Ray forks becomes another program at once
            _join(ray, address) if address else _start(ray, folder)
        try:
            yield address is None
        finally:
            ray.shutdown()


def _start(ray: Any, folder: str) -> None:
    """A Ray of our own. It opens its folders to all, so that they are in one which is closed."""
    os.environ.setdefault("RAY_AUTH_TOKEN", _TOKEN)
    mask = os.umask(0o077)
    try:
        ray.init(
            address="local",
            num_cpus=len(share_cores(1)[0]),
            include_dashboard=False,
            object_store_memory=_OBJECTS,
            _temp_dir=f"{folder}/r",
            **_SILENT,
        )
    finally:
        os.umask(mask)


def _join(ray: Any, address: str) -> None:
    try:
        _probe(address)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ScalexError(f"no Ray answers at {address}: {reason}", _ANOTHER) from None
    try:
        ray.init(address=address, **_SILENT)
    except Exception as error:  # of many kinds: another version, a wrong token, a client server without its package
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ScalexError(f"the Ray at {address} can't be joined: {reason.rstrip('.')}", _ANOTHER) from error


def _probe(address: str) -> None:
    """Raises OSError or ValueError unless a gRPC server answers: `ray.init` waits for minutes, and for anything."""
    parts = urlsplit(address if "://" in address else f"//{address}")
    if not (parts.hostname and parts.port):
        raise ValueError("it is not HOST:PORT")
    with socket.create_connection((parts.hostname, parts.port), timeout=_PATIENCE) as probe:
        probe.sendall(_HELLO)
        if probe.recv(9)[3:4] != _SETTINGS_FRAME:
            raise ValueError("another program listens there")


def _ray() -> Any:
    """The package, told to say nothing to others and little to us.

    Raises:
        ScalexError: it is not installed.
    """
    for name, value in _SETTINGS.items():
        os.environ.setdefault(name, value)
    try:
        import ray
    except ModuleNotFoundError:
        raise ScalexError("the engine ray needs Ray", "Run: pip install 'ray[client]>=2.60'") from None
    logging.getLogger("ray").setLevel(logging.ERROR)
    return ray


def _has(resource: str) -> int:
    """How much of a resource the cluster has in all."""
    return int(_ray().cluster_resources().get(resource, 0))


def _cause(error: Exception) -> str:
    """Why an actor died, in a few words of the many that Ray has for it."""
    found = re.search(r"The actor is dead because (.+?)\.\s", f"{error} ")
    return found[1] if found else f"{type(error).__name__}: {str(error).strip().splitlines()[0]}"
