"""Fills a store with known latents, as a process of its own that tests can start, race and kill."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Sequence

import numpy as np

from scalex.errors import ScalexError
from scalex.prompts import sample_key
from scalex.records import Recipe
from scalex.store import Sample, Store

RECIPE = Recipe(
    model="m",
    reading="text",
    sampler="DDIM",
    steps=4,
    guidance=1.0,
    keep=(0, 3),
    level=100,
    probe="mid_block",
    pooling="mean",
    dtype="fp32",
    latent_shape=(4, 8, 8),
)
WIDTH = 6


def samples(texts: int, seeds: int) -> list[Sample]:
    """The (text, seed) pairs of so many numbered texts."""
    return [(f"a photo of {i}", seed) for i in range(texts) for seed in range(seeds)]


def truth(pairs: Sequence[Sample]) -> np.ndarray:
    """The latents of samples, (samples, 2, WIDTH): a function of text and seed that any process can check."""
    base = np.array([1000 * int(text.rpartition(" ")[2]) + seed for text, seed in pairs], np.float32)
    return base[:, None, None] + np.arange(2 * WIDTH, dtype=np.float32).reshape(1, 2, WIDTH) / 16


def fill(path: str, texts: int, seeds: int, stride: int) -> None:
    """Write what is missing in batches of 8, forwards or backwards; name the keys of each once it is written."""
    store = Store.open(path)
    todo = store.missing(RECIPE, samples(texts, seeds))[::stride]
    for start in range(0, len(todo), 8):
        batch = todo[start : start + 8]
        added = store.write(RECIPE, batch, truth(batch))
        print(added, *(sample_key(RECIPE, text, seed) for text, seed in batch), flush=True)


def race(path: str, batches: int) -> None:
    """Write batch after batch, each at the word of command."""
    store = Store.open(path)
    for n in range(batches):
        batch = [(f"a photo of {n}", seed) for seed in range(8)]
        sys.stdin.readline()
        print(store.write(RECIPE, batch, truth(batch)), flush=True)


def overfill(path: str) -> None:
    """Write large latents until the disk is full, and say what the user would be told."""
    store = Store.open(path)
    wide = np.ones((64, 2, 2048), np.float32)
    for n in range(64):
        try:
            store.write(RECIPE, [(f"text {n}", seed) for seed in range(64)], wide)
        except ScalexError as error:
            print(error)
            print(Store.open(path, create=False).recipes()[0].rows)
            return


def fork(path: str) -> None:
    """Use a store, fork, and use it again in the child."""
    warnings.simplefilter("ignore")  # Lance warns of every fork
    store = Store.open(path)
    store.write(RECIPE, samples(1, 1), truth(samples(1, 1)))
    child = os.fork()
    if child:
        os.waitpid(child, 0)
        return
    try:
        store.missing(RECIPE, samples(1, 1))
    except ScalexError as error:
        print(error, flush=True)
    os._exit(0)


if __name__ == "__main__":
    task = {"fill": fill, "race": race, "overfill": overfill, "fork": fork}[sys.argv[1]]
    task(sys.argv[2], *map(int, sys.argv[3:]))
