"""What associations take at full size: 20,000 targets against 20,000 words, every pair tested, exact q.

    python bench/associations.py [N] [WIDTH]
    python bench/associations.py words [N] [WIDTH]

Made-up latents of few directions, so that what is measured is the pairs. Prints seconds and the most memory held. The
second form holds 20 targets against N words (a million of width 128), from latents of 4 seeds that lie in a file: the
whole analysis, in fixed memory beside a few numbers and the name of each word.
"""

from __future__ import annotations

import os
import resource
import sys
import time

import numpy as np

from scalex import scratch
from scalex.analyses import _pairs as pairs
from scalex.analyses import associations
from scalex.analyses._frame import Side
from scalex.records import Latents, Prompt, Rules

TARGETS = 20


def side(n: int, width: int, rng: np.random.Generator) -> Side:
    """Unrelated latents in 4 groups of seeds, and unrelated texts."""
    groups = (3 * rng.normal(size=(n, 1, width)) + rng.normal(size=(n, 4, width))).astype(np.float32)
    text = rng.normal(size=(n, 64)).astype(np.float32)
    text /= np.linalg.norm(text, axis=1, keepdims=True)
    size = np.linalg.norm(groups.mean(1), axis=1).astype(np.float64)
    return Side(tuple(f"{rng.integers(1 << 60)}" for _ in range(n)), groups, size, np.full(n, 0.97), text)


def main(n: int, width: int) -> None:
    """Ranks all pairs and says what it took."""
    rng = np.random.default_rng(0)
    targets, words = side(n, width, rng), side(n, width, rng)
    before, began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
    usual = pairs.explained(targets, words)
    assert usual is not None
    found = pairs.rank(targets, words, usual, most=10, alpha=0.05)
    held = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    print(f"{found.tests:,} pairs, {found.beyond} with q <= 0.05, the least q {np.nanmin(found.q):.2g}")
    print(f"{time.perf_counter() - began:.0f} s, {held:.0f} MiB beside the latents")


def words(n: int, width: int) -> None:
    """Runs the whole analysis on latents in a file and says what it took."""
    os.environ.setdefault("SCALEX_MEMORY", "0.25")
    rng, every = np.random.default_rng(0), n + TARGETS
    values, texts = scratch.array((every, 4, 1, width), np.float32), scratch.array((every, 64), np.float32)
    for rows in scratch.blocks(values):
        own = 2 * rng.standard_normal((rows.stop - rows.start, 1, 1, width), dtype=np.float32)
        values[rows] = own + rng.standard_normal(values[rows].shape, dtype=np.float32)
        texts[rows] = rng.standard_normal((rows.stop - rows.start, 64), dtype=np.float32)
        scratch.let_go(texts)
    values[0] += 2 * values[TARGETS + 5].mean(0)  # planted
    prompts = tuple(Prompt(f"w{i}", f"w{i}", "{}", role="concept" if i < TARGETS else "word") for i in range(every))
    latents = Latents(values, prompts, tuple(range(4)), (0,), "text", texts)
    before, began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, time.perf_counter()
    found = associations.explore(latents, {}, Rules())
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    best = min(found.findings, key=lambda f: f.p)
    print(
        f"{int(found.tables['tests'].pairs[0]):,} pairs; the first is {best.target} with {best.value}, p {best.p:.2g}"
    )
    print(f"{time.perf_counter() - began:.0f} s; peak {peak:.0f} MiB, {before:.0f} before it began")
    print(f"latents and texts: {(values.nbytes + texts.nbytes) / 2**20:.0f} MiB")


if __name__ == "__main__" and sys.argv[1:2] == ["words"]:
    words(*(int(given) for given in [*sys.argv[2:], *("1000000", "128")[len(sys.argv) - 2 :]]))
elif __name__ == "__main__":
    main(*(int(given) for given in [*sys.argv[1:], *("20000", "64")[len(sys.argv) - 1 :]]))
