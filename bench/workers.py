"""Do two workers do twice as much as one? Each bound to one core, on the embedded organism.

    python bench/workers.py [SEEDS]

Both capture the same samples into new stores, in turn, three times. Workers are started beforehand by a small fill, so
that loading the model does not count. Writes bench/results/workers.json; exit code 1 where the mark is missed.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from _results import save
from scalex.engine import Processes
from scalex.jobs import Job, prepare
from scalex.organisms.marks import Mark
from scalex.store import Store

REPEATS = 3


def main(seeds: int) -> int:
    """Measures and prints; returns the exit code."""
    job = prepare(seeds=seeds, concepts=["farmer", "pilot", "nurse", "cook", "judge", "mage", "artist", "singer"])
    every = sorted(os.sched_getaffinity(0))
    if len(every) < 2:
        print("two workers need two cores")
        return 2
    rates: dict[int, list[float]] = {1: [], 2: []}
    for _ in range(REPEATS):
        for workers, seen in rates.items():
            os.sched_setaffinity(0, every[:workers])  # workers are bound to a share of what this process may use
            seen.append(_rate(job, workers))
    os.sched_setaffinity(0, every)
    one, two = (statistics.median(rates[n]) for n in (1, 2))
    mark = Mark("two workers bound to a core each against one: samples a second", two / one, 1.8)
    print(f"one {one:.1f}, two {two:.1f} samples a second")
    save("workers", {"rates": rates, "samples": len(job.samples)}, [mark])
    return int(not mark.ok)


def _rate(job: Job, workers: int) -> float:
    """Samples a second of so many workers, once they have begun."""
    with tempfile.TemporaryDirectory() as folder, Processes(workers) as engine:
        store = Store.open(Path(folder) / "store")
        few = replace(job.plan, batch=4)
        engine.fill(store, job.model, job.prompts[:8], range(10**6, 10**6 + 8), few)  # hires all, and warms up
        began = time.perf_counter()
        filled = engine.fill(store, job.model, job.prompts, job.seeds, job.plan)
        return filled.captured / (time.perf_counter() - began)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 16))
