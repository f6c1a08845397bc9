"""Samples to latents: batch after batch, each text encoded once, the two readings of a sample from one trajectory.

The *text reading* is the probe's value while the prompt conditions the denoiser. The *picture reading* is its value
with the empty prompt, on the sample's own predicted clean latent, noised to a low level (see the design, 3a).
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any, TypeAlias, TypeVar

import numpy as np
import torch
from jaxtyping import Float32, UInt8

from scalex.batches import Batches
from scalex.errors import ScalexError
from scalex.models import Model
from scalex.plan import Keep, Plan, Pool, Steps
from scalex.records import Reading
from scalex.texts import Texts
from scalex.trajectory import Edit, Probe, Reader, Walk, look, start_noise

__all__ = [
    "CaptureStats",
    "Edit",
    "Keep",
    "Plan",
    "Probe",
    "Progress",
    "Sample",
    "Sink",
    "Steer",
    "capture",
    "capture_pictures",
    "check_finite",
    "exact_inference",
    "generate",
    "picture_size",
    "start_noise",
]

Sample: TypeAlias = tuple[str, int]
Sink: TypeAlias = Callable[[Reading, list[Sample], Float32[np.ndarray, "n steps width"]], None]
Progress: TypeAlias = Callable[[int, int], None]
Steer: TypeAlias = Callable[[Sequence[Sample]], Edit]
"""The edit at the probe for a batch of samples. With guidance it sees twice as many: without the prompts, then with."""
_Values: TypeAlias = dict[Reading, Any]  # arrays (n, steps, width), on the device or here
T = TypeVar("T")


@dataclass(frozen=True)
class CaptureStats:
    """What a capture took: samples, distinct texts encoded, whole and stopped forwards (per sample), seconds, and the
    batch size it ended with."""

    samples: int
    texts: int
    full: int
    stopped: int
    seconds: float
    batch: int

    def flops(self, model: Model) -> int:
        """Floating-point operations of all forwards and encodings."""
        each = model.flops()
        return self.full * each["full"] + self.stopped * each["stopped"] + self.texts * each["encode"]


@contextmanager
def exact_inference(model: Model) -> Iterator[None]:
    """Inference mode; and fp32 is fp32, though cuDNN's convolutions would round it to TF32."""
    tf32 = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = tf32 and model.dtype != torch.float32
    try:
        with torch.inference_mode():
            yield
    finally:
        torch.backends.cudnn.allow_tf32 = tf32


def _read(walk: Walk, steps: Steps, pool: Pool) -> dict[Reading, Float32[torch.Tensor, "n steps width"]]:
    """Both readings of a batch on the device, from one walk that goes no further than they need."""
    found: dict[Reading, list[torch.Tensor]] = {"text": [], "picture": []}
    for k in range(steps.full):
        value, clean = walk.advance()
        if k in steps.text:
            found["text"].append(pool(value))
        if k in steps.picture:
            found["picture"].append(pool(walk.look(clean)))
    if steps.stops:
        found["text"].append(pool(walk.stop()))
    return {reading: torch.stack(values, dim=1) for reading, values in found.items() if values}


def check_finite(values: Float32[np.ndarray, "n ..."], batch: Sequence[Sample], what: str, model: Model) -> None:
    """Raises ScalexError where what a batch gave is not finite, by prompt and seed."""
    finite = np.isfinite(values.reshape(len(values), -1)).all(axis=1)
    if not finite.all():
        text, seed = batch[int(np.argmin(finite))]
        wrong = f"the {what} of prompt {text!r}, seed {seed}, is not finite in {model.precision}"
        damaged = "The model's weights may be damaged: download or save them again"
        raise ScalexError(wrong, damaged if model.precision == "fp32" else "Capture with precision: fp32")


class _Session:
    """A model made ready for a plan: probe, texts and batches, shared by capturing and generating."""

    def __init__(
        self, model: Model, probe: Reader, plan: Plan, steps: Steps, samples: Sequence[Sample], steer: Steer | None
    ) -> None:
        self._model, self._probe, self._steps, self._samples, self._steer = model, probe, steps, samples, steer
        model.make_ready(whole=steps.full > 0)
        self.batches = Batches(model, plan)
        needs_empty = bool(steps.picture) or steps.doubled
        self.texts = Texts(model, [text for text, _ in samples], plan.truncate, needs_empty)

    def run(self, work: Callable[[Walk], T]) -> Iterator[tuple[list[Sample], T]]:
        """Yields each batch with what `work` makes of its walk."""
        for batch, result in self.batches.run(self._samples, lambda batch: work(self._walk(batch))):
            self.texts.release([text for text, _ in batch])
            yield batch, result

    def _walk(self, batch: list[Sample]) -> Walk:
        if self._steer is not None and isinstance(self._probe, Probe):
            self._probe.edit = self._steer(batch)
        condition = self.texts.of([text for text, _ in batch])
        return Walk(self._model, self._probe, self._steps, [seed for _, seed in batch], condition, self.texts.empty)


def capture(
    model: Model,
    samples: Sequence[Sample],
    plan: Plan,
    sink: Sink,
    progress: Progress | None = None,
    *,
    reader: Reader | None = None,
    steer: Steer | None = None,
) -> CaptureStats:
    """Captures the latents of samples, batch by batch, in their order.

    Args:
        samples: (text, seed) pairs.
        sink: called per reading with samples and their latents, float32 (n, kept steps, width): a batch, or several
            that wait; one call after the other, in a thread beside the denoiser's.
        progress: called per batch with the number of samples done and in all.
        reader: what reads a forward; by default a `Probe`, at the model's own.
        steer: edits at the probe while the trajectories are made. The text reading is what the edit gives; a picture is
            read without it.

    Raises:
        ScalexError: a latent is not finite (named by prompt and seed), a text is too long, the memory does not suffice
            for one sample, or the plan does not fit the model.
    """
    began = time.perf_counter()
    steps, pool = plan.resolve(model), plan.pool(model)

    def fetch(batch: list[Sample], latents: _Values) -> _Values:
        found = {reading: np.asarray(values.cpu()) for reading, values in latents.items()}
        for reading, values in found.items():
            check_finite(values, batch, f"{reading} reading", model)
        return found

    writer = _Writer(fetch, sink, len(samples), progress)
    with reader or Probe(model) as probe, exact_inference(model), writer:
        session = _Session(model, probe, plan, steps, samples, steer)
        for batch, latents in session.run(lambda walk: _read(walk, steps, pool)):
            writer.put(batch, latents)
    seconds = time.perf_counter() - began
    return CaptureStats(writer.done, session.texts.encoded, probe.full, probe.stopped, seconds, session.batches.size)


class _Writer:
    """Brings batches over and writes them in a thread of its own, in their order, while the next ones are computed;
    those that wait are written at once. Whatever ends this: what was put is written before."""

    _AHEAD = 8  # batches that wait at most

    def __init__(
        self,
        fetch: Callable[[list[Sample], _Values], _Values],
        sink: Sink,
        total: int,
        progress: Progress | None,
    ) -> None:
        """
        Args:
            fetch: brings the values of a batch over, or raises what is wrong with them.
        """
        self._fetch, self._sink, self._total, self._progress = fetch, sink, total, progress
        self._pool = ThreadPoolExecutor(1)
        self._queue: deque[tuple[list[Sample], _Values]] = deque()
        self._waiting: deque[tuple[int, Future[None]]] = deque()
        self.done = 0

    def __enter__(self) -> _Writer:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        with self._pool:
            while self._waiting:
                with suppress(Exception, KeyboardInterrupt) if error else nullcontext():
                    self._settle()

    def put(self, batch: list[Sample], values: _Values) -> None:
        """Hands a batch over. Raises what an earlier one failed of."""
        self._queue.append((batch, values))
        self._waiting.append((len(batch), self._pool.submit(self._write)))
        while self._waiting and (len(self._waiting) > self._AHEAD or self._waiting[0][1].done()):
            self._settle()

    def _settle(self) -> None:
        """Waits for the first batch. Its own turn comes after that in which it was written."""
        n, written = self._waiting.popleft()
        written.result()
        self.done += n
        if self._progress:
            self._progress(self.done, self._total)

    def _write(self) -> None:
        """All that wait, up to one that is wrong."""
        ready: list[tuple[list[Sample], _Values]] = []
        try:
            for _ in range(len(self._queue)):
                batch, values = self._queue.popleft()
                ready.append((batch, self._fetch(batch, values)))
        finally:
            samples = [sample for batch, _ in ready for sample in batch]
            for reading in ready[0][1] if ready else ():
                self._sink(reading, samples, np.concatenate([values[reading] for _, values in ready]))


def generate(
    model: Model,
    samples: Sequence[Sample],
    plan: Plan,
    steer: Steer | None = None,
    *,
    sink: Callable[[list[Sample], UInt8[np.ndarray, "n height width 3"]], None] | None = None,
) -> UInt8[np.ndarray, "n height width 3"]:
    """The pictures of the same trajectories that `capture` reads, in the samples' order: all steps, then the decoder.

    Args:
        steer: as for `capture`. sink: called with each batch and its pictures as soon as they are drawn.

    Raises:
        ScalexError: as `capture`.
    """
    steps = replace(plan.resolve(model), text=(), picture=())
    pictures = [np.empty((0, 0, 0, 3), np.uint8)] if not samples else []
    with Probe(model) as probe, exact_inference(model):
        session = _Session(model, probe, plan, steps, samples, steer)
        for batch, (latents, decoded) in session.run(lambda walk: _finish(walk, steps, model)):
            check_finite(latents, batch, "picture", model)
            pictures.append(decoded)
            if sink:
                sink(batch, decoded)
    return np.concatenate(pictures)


def _finish(walk: Walk, steps: Steps, model: Model) -> tuple[Float32[np.ndarray, "n c h w"], UInt8[np.ndarray, "..."]]:
    for _ in range(steps.total):
        walk.advance()
    return walk.latents.cpu().numpy(), model.decode(walk.latents)


def picture_size(model: Model) -> tuple[int, int]:
    """Height and width of a model's pictures, in pixels."""
    height, width = model.decode(torch.zeros(1, *model.latent_shape)).shape[1:3]
    return int(height), int(width)


def capture_pictures(
    model: Model,
    pictures: Mapping[str, UInt8[np.ndarray, "height width 3"]],
    samples: Sequence[Sample],
    plan: Plan,
    sink: Sink,
) -> CaptureStats:
    """The picture reading of given pictures, exactly as `capture` reads the pictures that a prompt makes.

    Args:
        pictures: by key, of the model's size; each is encoded once.
        samples: (key, seed) pairs; the seed is that of the reading noise.
        sink: as for `capture`, always of the picture reading, one step each.

    Raises:
        ScalexError: a latent is not finite, the memory does not suffice for one picture, or the plan does not fit.
    """
    began, done = time.perf_counter(), 0
    steps, pool = replace(plan, readings=("picture",)).resolve(model), plan.pool(model)
    batches = Batches(model, plan)
    with Probe(model) as probe, exact_inference(model):
        empty, schedule = model.empty(), model.new_scheduler()
        parts = batches.run(list(pictures), lambda keys: model.encode_images(np.stack([pictures[k] for k in keys])))
        clean = {key: latent for keys, latents in parts for key, latent in zip(keys, latents, strict=True)}

        def read(batch: list[Sample]) -> Float32[np.ndarray, "n 1 width"]:
            seen = torch.stack([clean[key] for key, _ in batch])
            value = look(model, probe, steps, schedule, empty, seen, [seed for _, seed in batch])
            return np.asarray(pool(value)[:, None].cpu())

        for batch, values in batches.run(samples, read):
            check_finite(values, batch, "picture reading", model)
            sink("picture", batch, values)
            done += len(batch)
    return CaptureStats(done, 1, probe.full, probe.stopped, time.perf_counter() - began, batches.size)
