"""How do memory and time grow with the number of samples? From a thousand to a million, a process each.

    python bench/size.py [--most 1000000] [--width 1280] [--block 8]

Made-up latents of 32 seeds a concept (so a million samples are 31,250 concepts) go through the store as an audit's do:
the samples that are missing, batch after batch, as moments of blocks of seeds. Then the analyses that take moments are
run: associations of 20 targets with all other concepts, clusters, and the nearest words through the index. What lies
beyond SCALEX_MEMORY (here 0.25 GiB) lies in a file. Peaks are of the process (resident, pages of files included).
Writes bench/results/size.json; exit code 1 where a mark is missed.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path

import numpy as np

from _results import save, say
from scalex import scratch
from scalex.analyses import associations, clusters
from scalex.disk import size_of
from scalex.engine._work import _writer
from scalex.organisms.marks import Mark
from scalex.records import Latents, Prompt, Recipe, Rules
from scalex.store import Store

SIZES = (1_000, 10_000, 100_000, 1_000_000)
SEEDS, TARGETS, BATCH, DIM = 32, 20, 256, 128
STEPS = ("write", "read", "associations", "clusters", "nearest")


def main() -> int:
    """Measures and prints; returns the exit code."""
    asked = _asked()
    if asked.one:
        print(json.dumps(_measure(asked.one, asked.step, Path(asked.folder), asked.width, asked.block)))
        return 0
    rows = [_row(n, asked) for n in SIZES if n <= asked.most]
    print(f"{'samples':>9} {'on disk':>9} " + "".join(f"{step:>22}" for step in STEPS))
    for row in rows:
        cells = "".join(f"{row[s]['seconds']:>10.1f} s {row[s]['peak_gb']:>7.2f} GB" for s in STEPS)
        print(f"{row['samples']:>9,} {row['disk_gb']:>6.2f} GB {cells}")
    marks = _marks(rows)
    told = {"width": asked.width, "block": asked.block, "seeds": SEEDS, "rows": rows}
    save("size", told, marks) if asked.most >= SIZES[-1] else say(marks)
    return int(not all(mark.ok for mark in marks))


def _asked() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--most", type=int, default=SIZES[-1], help="samples; below a million nothing is written")
    parser.add_argument("--width", type=int, default=1280)
    parser.add_argument("--block", type=int, default=8, help="seeds in a block of moments; 0 keeps samples")
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--step", choices=STEPS, help=argparse.SUPPRESS)
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    return parser.parse_args()


def _row(samples: int, asked: argparse.Namespace) -> dict:
    """One size, each step in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        row: dict = {"samples": samples}
        environment = {**os.environ, "SCALEX_MEMORY": os.environ.get("SCALEX_MEMORY", "0.25")}
        for step in STEPS:
            own = ["--one", str(samples), "--step", step, "--folder", folder]
            same = ["--width", str(asked.width), "--block", str(asked.block)]
            command = [sys.executable, __file__, *own, *same]
            done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
            row[step] = json.loads(done.stdout)
            print(f"{samples:>9,} {step}: {row[step]}", file=sys.stderr)
        return row | {"disk_gb": size_of(Path(folder)) / 1e9}


def _marks(rows: list[dict]) -> list[Mark]:
    """Of each step, and of the greatest of them, against ten thousand samples."""
    if len(rows) < 3:
        return []
    few, many = rows[1], rows[-1]
    name = f"peak memory at {many['samples']:,} samples against {few['samples']:,}"
    each = [Mark(f"{name}: {step}", many[step]["peak_gb"] / few[step]["peak_gb"]) for step in STEPS]
    peaks = [max(row[step]["peak_gb"] for step in STEPS) for row in (few, many)]
    return [Mark(name, peaks[1] / peaks[0], 1.2, at_most=True), *each]


# ------------------------------------------------------------------------------------------------------- one process


def _measure(samples: int, step: str, folder: Path, width: int, block: int) -> dict[str, float]:
    recipe = _recipe(block)
    store = Store.open(folder / "store")
    prompts = tuple(_prompt(i) for i in range(max(TARGETS + 11, samples // SEEDS)))
    steps: dict[str, Callable[[], object]] = {
        "write": lambda: _write(store, recipe, prompts, width),
        "read": lambda: store.read(recipe, prompts, range(SEEDS)),
        "associations": lambda: associations.explore(_latents(store, recipe, prompts), {}, Rules()),
        "clusters": lambda: clusters.explore(_latents(store, recipe, prompts), {}, Rules()),
        "nearest": lambda: store.index(recipe, prompts, range(SEEDS)).nearest(np.ones((1, width))),
    }
    began = time.perf_counter()
    steps[step]()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
    return {"seconds": time.perf_counter() - began, "peak_gb": peak}


def _recipe(block: int) -> Recipe:
    named = {"model": "m", "reading": "picture", "sampler": "s", "probe": "p", "pooling": "mean", "dtype": "fp32"}
    return Recipe(**named, steps=1, guidance=1.0, keep=(0,), level=100, latent_shape=(4, 8, 8), moments=block)


def _prompt(i: int) -> Prompt:
    return Prompt(f"a photo of {i}", f"concept {i}", "a photo of {}", role="concept" if i < TARGETS else "word")


def _write(store: Store, recipe: Recipe, prompts: tuple[Prompt, ...], width: int) -> None:
    """All samples, through what an engine writes with; what is missing is asked for as it does."""
    missing = store.missing(recipe, [(p.text, seed) for p in prompts for seed in range(SEEDS)])
    write = _writer(store, recipe)
    for batch, values in _batches(missing, width):
        write(batch, values)


def _batches(samples: list[tuple[str, int]], width: int) -> Iterator[tuple[list[tuple[str, int]], np.ndarray]]:
    """Latents in 50 clusters, with a place of each concept's own, noise of each seed's and of each sample's."""
    spread = np.arange(1, width + 1, dtype=np.float32) ** -0.5
    rng = np.random.default_rng(0)
    centres, noise = (2 * rng.standard_normal((n, width), dtype=np.float32) * spread for n in (50, SEEDS))
    for start in range(0, len(samples), BATCH):
        batch = samples[start : start + BATCH]
        values = rng.standard_normal((len(batch), width), dtype=np.float32) * spread
        for at, (text, seed) in enumerate(batch):
            i = int(text.rpartition(" ")[2])
            values[at] += centres[i % 50] + noise[seed] + _own(i, width) * spread
        yield batch, values[:, None]


@lru_cache(maxsize=64)
def _own(concept: int, width: int) -> np.ndarray:
    return np.random.default_rng(concept).standard_normal(width, dtype=np.float32)


def _latents(store: Store, recipe: Recipe, prompts: tuple[Prompt, ...]) -> Latents:
    """Those of the store, with made-up embeddings of texts."""
    latents = store.read(recipe, prompts, range(SEEDS))
    texts = scratch.array((len(prompts), DIM), np.float32)
    rng = np.random.default_rng(1)
    for rows in scratch.blocks(texts):
        texts[rows] = rng.standard_normal((rows.stop - rows.start, DIM), dtype=np.float32)
    return Latents(latents.values, prompts, latents.seeds, latents.steps, latents.reading, texts, latents.block)


if __name__ == "__main__":
    sys.exit(main())
