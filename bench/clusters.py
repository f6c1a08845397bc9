"""How long does clustering take, and how much memory, with very many names? Synthetic latents, no model.

    python bench/clusters.py [NAMES ...]

By default 20,000 and 100,000 names in 200 groups, 8 seeds, 2 templates, 320 numbers each. Each size runs in a process
of its own; memory is its peak, and that of the latents themselves stands beside it.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import time

import numpy as np
from sklearn.metrics import adjusted_rand_score

from scalex.analyses import clusters
from scalex.records import Latents, Prompt, Rules

GROUPS, SEEDS, TEMPLATES, WIDTH, DIM = 200, 8, 2, 320, 256
SIZES = (20_000, 100_000)


def main(sizes: list[int]) -> None:
    """Prints a row a size."""
    if len(sizes) == 1:
        print(_row(*sizes))
        return
    print(f"{'names':>8} {'seconds':>8} {'peak GB':>8} {'latents GB':>10} {'ARI':>6} {'clusters':>8}")
    for size in sizes:
        subprocess.run([sys.executable, __file__, str(size)], check=True)


def _row(size: int) -> str:
    latents, truth = _latents(size)
    began = time.perf_counter()
    outcome = clusters.explore(latents, {}, Rules())
    seconds = time.perf_counter() - began
    labels = outcome.tables["map"]["cluster"].to_numpy()
    alone = np.where(labels >= 0, labels, labels.max() + 1 + np.arange(size))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    ari, number = adjusted_rand_score(truth, alone), labels.max() + 1
    return f"{size:>8,} {seconds:>8.0f} {peak:>8.1f} {latents.values.nbytes / 2**30:>10.1f} {ari:>6.2f} {number:>8}"


def _latents(size: int) -> tuple[Latents, np.ndarray]:
    rng = np.random.default_rng(0)
    truth = rng.integers(0, GROUPS, size)
    values = np.empty((size, TEMPLATES, SEEDS, WIDTH), np.float32)
    centres, shared = rng.normal(size=(2, GROUPS, WIDTH))
    for i, kind in enumerate(truth):
        own = centres[kind] + 0.4 * rng.normal(size=WIDTH)
        values[i] = own + shared[:SEEDS] + rng.normal(size=(TEMPLATES, SEEDS, WIDTH))
    prompts = tuple(
        Prompt(f"{t} name {i}", f"name {i}", str(t), role="word") for i in range(size) for t in range(TEMPLATES)
    )
    texts = rng.normal(size=(size * TEMPLATES, DIM)).astype(np.float32)
    shape = (size * TEMPLATES, SEEDS, 1, WIDTH)
    return Latents(values.reshape(shape), prompts, tuple(range(SEEDS)), (0,), "picture", texts), truth


if __name__ == "__main__":
    main([int(size) for size in sys.argv[1:]] or list(SIZES))
