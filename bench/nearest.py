"""Nearest words out of a million: how fast, how many of the right ones, and what making the index takes.

    python bench/nearest.py [--words 1000000] [--width 1280] [--queries 200] [--folder DIR]

Made-up latents, written block by block: 2,000 clusters (fewer words, fewer clusters), variances that fall as 1/i along
the axes, far from the origin. Queries are drawn as the words are. Right are the ten words with the greatest cosines, by
looking at every one. Latency is that of one query at a time, in Python, the index warm. Prints the curve of recall and
latency; writes bench/results/nearest.json; exit code 1 where a mark is missed.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from _results import save
from scalex.disk import size_of
from scalex.index import WordIndex
from scalex.organisms.marks import Mark

K = 10
CURVE = [(p, r) for p in (0.01, 0.02, 0.04, 0.08, 0.16) for r in (3, 5, 10)]  # shares of the cells; remeasured a word
BLOCK = 20_000


def main() -> int:
    """Measures and prints; returns the exit code."""
    asked = _asked()
    with tempfile.TemporaryDirectory(dir=asked.folder) as folder:
        began = time.perf_counter()
        index = WordIndex.build(Path(folder) / "index", lambda: _blocks(asked.words, asked.width))
        built, peak = time.perf_counter() - began, _peak()
        queries = (
            _like_words(asked.queries, asked.width, np.random.default_rng(1), _clusters(asked.words)) - index.centre
        )
        right = index.exact(queries, K)
        took, recall = _one_by_one(index, queries, right)
        rows = [_row(index, queries, right, probed, remeasured) for probed, remeasured in CURVE]
        size = size_of(Path(folder))
    marks = [
        Mark(f"nearest of {asked.words:,} x {asked.width}: p50 in ms, one query, warm", took[0], 10, at_most=True),
        Mark(f"nearest of {asked.words:,} x {asked.width}: recall@{K}", recall, 0.98),
    ]
    told = {
        "words": asked.words,
        "width": asked.width,
        "queries": asked.queries,
        "build_s": built,
        "build_peak_gb": peak,
        "disk_gb": size / 1e9,
        "p95_ms": took[1],
        "curve": rows,
    }
    print(f"built in {built:.0f} s, peak {peak:.2f} GB; {size / 1e9:.2f} GB on disk; load {os.getloadavg()[0]:.1f}")
    print(f"as it is: recall@{K} {recall:.3f}, p50 {took[0]:.2f} ms, p95 {took[1]:.2f} ms")
    print(f"{'cells':>6} {'remeasured':>10} {'recall':>7} {'p50 ms':>7} {'p95 ms':>7}")
    for row in rows:
        print(f"{row['cells']:>6} {row['remeasured']:>10} {row['recall']:>7.3f} {row['p50']:>7.2f} {row['p95']:>7.2f}")
    save("nearest", told, marks)
    return int(not all(mark.ok for mark in marks))


def _asked() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--words", type=int, default=1_000_000)
    parser.add_argument("--width", type=int, default=1280)
    parser.add_argument("--queries", type=int, default=200)
    parser.add_argument("--folder", help="where the index is made, and deleted again: 6 GB for a million words")
    return parser.parse_args()


def _blocks(words: int, width: int) -> Iterator[tuple[list[str], np.ndarray]]:
    """The same words each time."""
    rng = np.random.default_rng(0)
    for start in range(0, words, BLOCK):
        n = min(BLOCK, words - start)
        yield [f"word {i}" for i in range(start, start + n)], _like_words(n, width, rng, _clusters(words))


def _clusters(words: int) -> int:
    return max(20, words // 500)


def _like_words(n: int, width: int, rng: np.random.Generator, clusters: int) -> np.ndarray:
    spread = np.arange(1, width + 1, dtype=np.float32) ** -0.5
    centres = np.random.default_rng(7).standard_normal((clusters, width), dtype=np.float32) * spread
    own = rng.standard_normal((n, width), dtype=np.float32) * (0.7 * spread)
    return 3 + centres[rng.integers(clusters, size=n)] + own


def _one_by_one(index: WordIndex, queries: np.ndarray, right: list, **how: int) -> tuple[tuple[float, float], float]:
    """Median and 95th percentile of milliseconds, and recall."""
    took, hits = [], 0
    index.nearest(queries[:3], K, **how)  # warms up
    for query, known in zip(queries, right, strict=True):
        began = time.perf_counter()
        (found,) = index.nearest(query[None], K, **how)
        took.append(1000 * (time.perf_counter() - began))
        hits += len({*found.words} & {*known.words})
    return (statistics.median(took), float(np.quantile(took, 0.95))), hits / (K * len(queries))


def _row(index: WordIndex, queries: np.ndarray, right: list, share: float, remeasured: int) -> dict[str, float]:
    cells = max(1, round(share * index.n_words**0.5))
    took, recall = _one_by_one(index, queries, right, probed=cells, remeasured=remeasured)
    return {"cells": cells, "remeasured": remeasured, "recall": recall, "p50": took[0], "p95": took[1]}


def _peak() -> float:
    """Most memory held so far, in GB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


if __name__ == "__main__":
    sys.exit(main())
