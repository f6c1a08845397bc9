"""Samples to latents: batch after batch, each text encoded once, the two readings of a sample from one trajectory.

The *text reading* is the probe's value while the prompt conditions the denoiser. The *picture reading* is its value
with the empty prompt, on the sample's own predicted clean latent, noised to a low level (see the design, 3a).
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TypeAlias, TypeVar

import numpy as np
import torch
from jaxtyping import Float32, UInt8

from scalex.errors import ScalexError
from scalex.models import Condition, Model
from scalex.plan import Keep, Plan, Pool, Steps
from scalex.records import Reading
from scalex.trajectory import Probe, Reader, Walk, look, start_noise

__all__ = [
    "CaptureStats",
    "Keep",
    "Plan",
    "Probe",
    "Progress",
    "Sample",
    "Sink",
    "batch_size",
    "capture",
    "capture_pictures",
    "generate",
    "picture_size",
    "start_noise",
]

Sample: TypeAlias = tuple[str, int]
Sink: TypeAlias = Callable[[Reading, list[Sample], Float32[np.ndarray, "n steps width"]], None]
Progress: TypeAlias = Callable[[int, int], None]
S = TypeVar("S")
T = TypeVar("T")

_AHEAD = 64  # texts that are encoded together


class _Texts:
    """The conditions of the samples' texts: each text is encoded once, shortly before it is used, and then let go."""

    def __init__(self, model: Model, samples: Sequence[Sample], truncate: bool, needs_empty: bool) -> None:
        self._model, self._truncate = model, truncate
        self._left = Counter(text for text, _ in samples)
        self._queue = list(self._left)
        self._ahead = _AHEAD
        self._known: dict[str, Condition] = {}
        self.encoded = len(self._queue) + needs_empty
        self.empty = model.empty() if needs_empty else None

    def of(self, texts: Sequence[str]) -> Condition:
        """The conditions of a batch."""
        while not all(text in self._known for text in texts):
            ahead = self._queue[: self._ahead]
            encoded = _unless_out_of_memory(lambda some: self._model.encode(some, self._truncate), ahead)
            if encoded is None:
                self._ahead = _halved(len(ahead))
                continue
            self._queue = self._queue[len(ahead) :]
            self._known.update(zip(ahead, encoded.rows(), strict=True))
        return Condition.join([self._known[text] for text in texts])

    def release(self, texts: Sequence[str]) -> None:
        """Says that these uses are done with."""
        self._left.subtract(texts)
        for text in set(texts):
            if not self._left[text]:
                del self._known[text]


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


def batch_size(model: Model, plan: Plan, device: str | None = None) -> int:
    """How many samples a batch has at first: what the plan says, or what suits the device (by default the model's)."""
    height, width = model.latent_shape[1:]
    # About 32 Stable Diffusion samples of 512 pixels on a GPU; on a CPU what stays near its caches.
    usual = max(1, min(256, (2**17 if (device or model.device.type) == "cuda" else 2**13) // (height * width)))
    return plan.batch or usual


class _Batches:
    """Cuts samples into batches, halving their size for good where the device's memory does not suffice."""

    def __init__(self, model: Model, plan: Plan) -> None:
        self.size = batch_size(model, plan)

    def run(self, samples: Sequence[S], work: Callable[[list[S]], T]) -> Iterator[tuple[list[S], T]]:
        """Yields each batch with what `work` makes of it.

        Raises:
            ScalexError: not even one sample fits.
        """
        done = 0
        while done < len(samples):
            batch = list(samples[done : done + self.size])
            result = _unless_out_of_memory(work, batch)
            if result is None:
                self.size = _halved(len(batch))
                continue
            yield batch, result
            done += len(batch)


def _halved(tried: int) -> int:
    """Half of what did not fit into memory."""
    if tried == 1:
        raise ScalexError("the memory does not suffice for one sample", "Use a lower precision or a smaller size")
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return tried // 2


def _unless_out_of_memory(work: Callable[[list[S]], T], batch: list[S]) -> T | None:
    """What `work` gives; None where memory ran out. (The error is gone on return, and so is what it held in memory.)"""
    try:
        return work(batch)
    except RuntimeError as error:
        words = ("out of memory", "can't allocate memory")
        if isinstance(error, torch.OutOfMemoryError) or any(w in str(error) for w in words):
            return None
        raise


@contextmanager
def _exact_inference(model: Model) -> Iterator[None]:
    """Inference mode; and fp32 is fp32, though cuDNN's convolutions would round it to TF32."""
    tf32 = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = tf32 and model.dtype != torch.float32
    try:
        with torch.inference_mode():
            yield
    finally:
        torch.backends.cudnn.allow_tf32 = tf32


def _read(walk: Walk, steps: Steps, pool: Pool) -> dict[Reading, Float32[np.ndarray, "n steps width"]]:
    """Both readings of a batch, from one walk that goes no further than they need."""
    found: dict[Reading, list[torch.Tensor]] = {"text": [], "picture": []}
    for k in range(steps.full):
        value, clean = walk.advance()
        if k in steps.text:
            found["text"].append(pool(value))
        if k in steps.picture:
            found["picture"].append(pool(walk.look(clean)))
    if steps.stops:
        found["text"].append(pool(walk.stop()))
    return {reading: torch.stack(values, dim=1).cpu().numpy() for reading, values in found.items() if values}


def _check_finite(values: Float32[np.ndarray, "n ..."], batch: Sequence[Sample], what: str, model: Model) -> None:
    finite = np.isfinite(values.reshape(len(values), -1)).all(axis=1)
    if not finite.all():
        text, seed = batch[int(np.argmin(finite))]
        wrong = f"the {what} of prompt {text!r}, seed {seed}, is not finite in {model.precision}"
        damaged = "The model's weights may be damaged: download or save them again"
        raise ScalexError(wrong, damaged if model.precision == "fp32" else "Capture with precision: fp32")


class _Session:
    """A model made ready for a plan: probe, texts and batches, shared by capturing and generating."""

    def __init__(self, model: Model, probe: Reader, plan: Plan, steps: Steps, samples: Sequence[Sample]) -> None:
        self._model, self._probe, self._steps, self._samples = model, probe, steps, samples
        self.batches = _Batches(model, plan)
        needs_empty = bool(steps.picture) or steps.doubled
        self.texts = _Texts(model, samples, plan.truncate, needs_empty)

    def run(self, work: Callable[[Walk], T]) -> Iterator[tuple[list[Sample], T]]:
        """Yields each batch with what `work` makes of its walk."""
        for batch, result in self.batches.run(self._samples, lambda batch: work(self._walk(batch))):
            self.texts.release([text for text, _ in batch])
            yield batch, result

    def _walk(self, batch: list[Sample]) -> Walk:
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
) -> CaptureStats:
    """Captures the latents of samples, batch by batch, in their order.

    Args:
        samples: (text, seed) pairs.
        sink: called per batch and reading with the batch's samples and their latents, float32 (n, kept steps, width).
        progress: called per batch with the number of samples done and in all.
        reader: what reads a forward; by default a `Probe`, at the model's own.

    Raises:
        ScalexError: a latent is not finite (named by prompt and seed), a text is too long, the memory does not suffice
            for one sample, or the plan does not fit the model.
    """
    began, done = time.perf_counter(), 0
    steps, pool = plan.resolve(model), plan.pool(model)
    with reader or Probe(model) as probe, _exact_inference(model):
        session = _Session(model, probe, plan, steps, samples)
        for batch, latents in session.run(lambda walk: _read(walk, steps, pool)):
            for reading, values in latents.items():
                _check_finite(values, batch, f"{reading} reading", model)
                sink(reading, batch, values)
            done += len(batch)
            if progress:
                progress(done, len(samples))
    seconds = time.perf_counter() - began
    return CaptureStats(done, session.texts.encoded, probe.full, probe.stopped, seconds, session.batches.size)


def generate(model: Model, samples: Sequence[Sample], plan: Plan) -> UInt8[np.ndarray, "n height width 3"]:
    """The pictures of the same trajectories that `capture` reads, in the samples' order: all steps, then the decoder.

    Raises:
        ScalexError: as `capture`.
    """
    steps = replace(plan.resolve(model), text=(), picture=())
    pictures = [np.empty((0, 0, 0, 3), np.uint8)] if not samples else []
    with Probe(model) as probe, _exact_inference(model):
        session = _Session(model, probe, plan, steps, samples)
        for batch, (latents, decoded) in session.run(lambda walk: _finish(walk, steps, model)):
            _check_finite(latents, batch, "picture", model)
            pictures.append(decoded)
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
    batches = _Batches(model, plan)
    with Probe(model) as probe, _exact_inference(model):
        empty, schedule = model.empty(), model.new_scheduler()
        parts = batches.run(list(pictures), lambda keys: model.encode_images(np.stack([pictures[k] for k in keys])))
        clean = {key: latent for keys, latents in parts for key, latent in zip(keys, latents, strict=True)}

        def read(batch: list[Sample]) -> Float32[np.ndarray, "n 1 width"]:
            seen = torch.stack([clean[key] for key, _ in batch])
            value = look(model, probe, steps, schedule, empty, seen, [seed for _, seed in batch])
            return np.asarray(pool(value)[:, None].cpu())

        for batch, values in batches.run(samples, read):
            _check_finite(values, batch, "picture reading", model)
            sink("picture", batch, values)
            done += len(batch)
    return CaptureStats(done, 1, probe.full, probe.stopped, time.perf_counter() - began, batches.size)
