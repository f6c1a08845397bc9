"""What associations take at full size: 20,000 targets against 20,000 words, every pair tested, exact q.

    python bench/associations.py [N] [WIDTH]

Made-up latents of few directions, so that what is measured is the pairs. Prints seconds and the most memory held.
"""

from __future__ import annotations

import resource
import sys
import time

import numpy as np

from scalex.analyses import _pairs as pairs
from scalex.analyses._frame import Side


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


if __name__ == "__main__":
    main(*(int(given) for given in [*sys.argv[1:], *("20000", "64")[len(sys.argv) - 1 :]]))
