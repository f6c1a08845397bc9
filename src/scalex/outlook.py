"""What a job will still take, said before it: samples, operations, bytes, seconds and memory."""

from __future__ import annotations

import resource
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from scalex import runs, sequential
from scalex.capture import capture
from scalex.engine import missing
from scalex.jobs import Job, analyses_of, flops_of, to_draw
from scalex.places import place_of
from scalex.prompts import samples
from scalex.records import Prompt
from scalex.store import Store

__all__ = ["Outlook", "outlook"]


@dataclass(frozen=True)
class Outlook:
    """What a job will still take: samples that the store lacks, FLOPs, bytes on disk, seconds on this device, and bytes
    of its memory (of a GPU; else of this process), at most, as a short trial saw it.

    FLOPs, seconds and memory hold the pictures of the report, too. `most` says the same if no concept is decided before
    the budget of seeds is spent, where the spec adds seeds to undecided ones.
    """

    samples: int
    texts: int
    flops: float
    bytes: int
    seconds: float
    memory: int
    most: Outlook | None = None


def outlook(job: Job, out: str | Path = "runs/audit", store: str | Path | None = None) -> Outlook:
    """What the job will still take, from counted FLOPs and a short measurement on this device."""
    place, each = runs.store_of(Path(out), store), _trial(job)
    todo = _lacking(job, place, job.prompts, job.seeds)
    ahead, names = _ahead(job, todo, each), analyses_of(job.spec)
    if sequential.schedule(job.spec, names) is None:
        return ahead
    seeds = range(job.spec.first_seed, job.spec.first_seed + job.spec.most_seeds)
    more = _lacking(job, place, sequential.concerned(names, job.prompts), seeds)
    return replace(ahead, most=_ahead(job, list(dict.fromkeys([*todo, *more])), each))


def _ahead(job: Job, todo: Sequence[tuple[str, int]], trial: tuple[float, int]) -> Outlook:
    """What these samples and the pictures take, after a `_trial`."""
    steps, texts = job.plan.resolve(job.model), len({t for t, _ in todo})
    width = job.plan.width(job.model) * (len(steps.text) + len(steps.picture))
    drawn = len(to_draw(job)[0]) * len(to_draw(job)[1])
    each = job.model.flops()
    picture = steps.total * (1 + steps.doubled) * each["full"] + each["decode"]
    flops = flops_of(job, len(todo), texts) + drawn * picture
    seconds, memory = trial[0] * (len(todo) + drawn), trial[1] + (_weights_of_pictures(job) if drawn else 0)
    rows, numbers = (len(todo) // job.plan.moments, 2 * width) if job.plan.moments else (len(todo), width)
    return Outlook(len(todo), texts, float(flops), rows * (numbers * 4 + 100), seconds, memory)


def _weights_of_pictures(job: Job) -> int:
    """Bytes that only drawing needs: the decoder, and what lies behind the probe where no capture comes to it."""
    weights = job.model.weights()
    stops = job.plan.resolve(job.model).full == 0
    return weights["decode"] + (weights["full"] - weights["stopped"] if stops else 0)


def _lacking(job: Job, place: str, prompts: Sequence[Prompt], seeds: Sequence[int]) -> list[tuple[str, int]]:
    """The samples of these that are still to be captured."""
    if not place_of(place).exists():
        return samples(prompts, seeds)
    groups = missing(Store.open(place, create=False), job.plan.recipes(job.model), prompts, seeds)
    return list(dict.fromkeys(sample for group in groups.values() for sample in group))


def _trial(job: Job) -> tuple[float, int]:
    """Seconds that a sample takes here, the better of two short trials, and the bytes of memory that these took."""
    some = [job.samples[i * len(job.samples) // 16] for i in range(16)]
    seconds = min(capture(job.model, some, job.plan, lambda *_: None).seconds for _ in range(2)) / len(some)
    if job.model.device.type == "cuda":
        return seconds, torch.cuda.max_memory_allocated(job.model.device)
    unit = 1 if sys.platform == "darwin" else 1024  # bytes there, KiB elsewhere
    return seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
