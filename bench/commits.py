"""How many batches a second does one table take, from one writer, two and four? And how long does one take as it grows?

    python bench/commits.py [STORE]

Each writer is a process that writes batches of 32 latents of 1,280 numbers in fp16, as a worker does after each batch.
The growing table has latents of 12 numbers, since it is the keys that are read. STORE is where: by default a temporary
folder, else an address such as s3://BUCKET/FOLDER. Writes bench/results/commits.json.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from _results import machine
from scalex.records import Recipe
from scalex.store import Store

RESULTS = Path(__file__).parent / "results" / "commits.json"
RECIPE = Recipe(
    model="m",
    reading="text",
    sampler="LCM",
    steps=1,
    guidance=1.0,
    keep=(0,),
    level=100,
    probe="mid_block",
    pooling="mean",
    dtype="fp16",
    latent_shape=(4, 64, 64),
)
BATCH, WIDTH, SECONDS = 32, 1280, 15.0
STEP, LOOKED = 100_000, 128


def main(where: str | None) -> None:
    """Measures, and writes the results."""
    with tempfile.TemporaryDirectory() as folder:
        address = where or f"{folder}/store"
        Store.open(address)
        rates = {str(writers): round(rate(address, writers), 1) for writers in (1, 2, 4)}
        slow = slowing(address)
    print(f"commits a second into {'a folder' if where is None else where}, by writers: {rates}")
    print(f"milliseconds of a commit, and of a look-up of {LOOKED}, by rows: {slow}")
    held = json.loads(RESULTS.read_text()) if RESULTS.is_file() else {}
    kind = where.partition("://")[0] if where else "folder"
    held[kind] = {
        "batch": BATCH,
        "width": WIDTH,
        "commits a second": rates,
        "milliseconds": slow,
    }
    held[kind] |= machine()
    RESULTS.write_text(json.dumps(held, indent=1) + "\n")


def rate(address: str, writers: int) -> float:
    """Commits a second of so many writers into a table of their own."""
    command = [sys.executable, __file__, "--write", address, str(writers)]
    crew = [subprocess.Popen([*command, str(i)], stdout=subprocess.PIPE, text=True) for i in range(writers)]
    return sum(float(one.communicate()[0]) for one in crew)


def slowing(address: str) -> dict[str, dict[str, float]]:
    """Milliseconds of a commit and of a look-up in a table of so many rows."""
    store, found = Store.open(address), {}
    for part in range(10):
        many = [(f"a photo of a person, number {part}", seed) for seed in range(STEP)]
        store.write(RECIPE, many, np.ones((STEP, 1, 12), np.float32))
        if part in (0, 4, 9):
            few = [[(f"text {part} {n}", seed) for seed in range(BATCH)] for n in range(5)]
            began = time.perf_counter()
            for batch in few:
                store.write(RECIPE, batch, np.ones((BATCH, 1, 12), np.float32))
            wrote = time.perf_counter()
            store.missing(RECIPE, [(f"text {part}", seed) for seed in range(LOOKED)])
            times = {"commit": (wrote - began) / len(few), "look-up": time.perf_counter() - wrote}
            found[str((part + 1) * STEP)] = {name: round(1000 * taken, 1) for name, taken in times.items()}
    return found


def write(address: str, group: int, writer: int) -> None:
    """Writes batch after batch for so long, and prints how many a second."""
    store, recipe = Store.open(address), replace(RECIPE, steps=group + 1)
    values = np.random.default_rng(writer).normal(size=(BATCH, 1, WIDTH)).astype(np.float32)
    began, batches = time.perf_counter(), 0
    while time.perf_counter() - began < SECONDS:
        store.write(recipe, [(f"text {batches}", writer * BATCH + i) for i in range(BATCH)], values)
        batches += 1
    print(batches / (time.perf_counter() - began))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--write"]:
        write(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
    else:
        main(sys.argv[1] if len(sys.argv) > 1 else None)
