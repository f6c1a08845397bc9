"""How much a device takes at once: batches that are halved where its memory does not suffice."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import torch

from scalex.errors import ScalexError
from scalex.models import Model
from scalex.plan import Plan

__all__ = ["Batches", "batch_size", "device_failed", "halved", "unless_out_of_memory"]

S = TypeVar("S")
T = TypeVar("T")


def batch_size(model: Model, plan: Plan, device: str | None = None) -> int:
    """How many samples a batch has at first: what the plan says, or what usually suits a kind of device (by default the
    model's)."""
    height, width = model.latent_shape[1:]
    # About 32 Stable Diffusion samples of 512 pixels on a GPU; on a CPU what stays near its caches.
    usual = max(1, min(256, (2**17 if (device or model.device.type) == "cuda" else 2**13) // (height * width)))
    return plan.batch or usual


class Batches:
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
            result = unless_out_of_memory(work, batch)
            if result is None:
                self.size = halved(len(batch))
                continue
            yield batch, result
            done += len(batch)


def halved(tried: int) -> int:
    """Half of what did not fit into memory.

    Raises:
        ScalexError: it was one.
    """
    if tried == 1:
        raise ScalexError("the memory does not suffice for one sample", "Use a lower precision or a smaller size")
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return tried // 2


def unless_out_of_memory(work: Callable[[list[S]], T], batch: list[S]) -> T | None:
    """What `work` gives; None where memory ran out. (The error is gone on return, and so is what it held in memory.)"""
    try:
        return work(batch)
    except RuntimeError as error:
        if _out_of_memory(error):
            return None
        raise


def _out_of_memory(error: RuntimeError) -> bool:
    words = ("out of memory", "can't allocate memory")
    return isinstance(error, torch.OutOfMemoryError) or any(w in str(error) for w in words)


def device_failed(error: RuntimeError) -> bool:
    """Whether it says that the device itself failed: this process can do no more with it."""
    return isinstance(error, getattr(torch, "AcceleratorError", ())) or "CUDA error" in str(error)
