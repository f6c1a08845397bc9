"""Running moments: the mean and the variance over seeds, kept block by block in place of the samples themselves.

A block is `size` seeds of one text, the first of which is a multiple of `size`. It is known by that first seed, so no
seed is in two blocks and none is counted twice, whoever writes, in whatever order, and however often it is resumed.
Blocks merge exactly: the moments of all seeds follow from those of their blocks (Chan, Golub and LeVeque 1983, American
Statistician 37: 242-247; Pébay 2008, Sandia report SAND2008-6212). The means of blocks are independent, as samples are,
so an analysis that takes means over seeds can take blocks for seeds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float32

from scalex.errors import ScalexError
from scalex.rows import Sample

__all__ = ["Gathering", "Moments", "block_of", "blocks_of", "by_block", "firsts", "packed"]


_WHOLE: set[int] = set()  # one for all blocks that lack nothing


@dataclass(frozen=True, eq=False)
class Moments:
    """Moments of as many samples each, in float64.

    Attributes:
        count: the number of samples. mean: of them. m2: the sum of their squared deviations from it.
    """

    count: int
    mean: Float[np.ndarray, "*shape"]
    m2: Float[np.ndarray, "*shape"]

    @staticmethod
    def of(values: Float[np.ndarray, "samples *shape"]) -> Moments:
        """Those of samples, over the first axis; there is at least one."""
        mean = values.mean(0, dtype=np.float64)
        return Moments(len(values), mean, np.square(values - mean, dtype=np.float64).sum(0))

    @staticmethod
    def unpacked(values: Float32[np.ndarray, "blocks two_steps width"], count: int) -> Moments:
        """Those of blocks of so many seeds, as `packed` made them."""
        mean, m2 = np.split(values.astype(np.float64), 2, axis=1)
        return Moments(count, mean, m2)

    def merged(self, other: Moments) -> Moments:
        """Those of both, as if all samples had been seen at once."""
        count, apart = self.count + other.count, other.mean - self.mean
        between = np.square(apart) * (self.count * other.count / count)
        return Moments(count, self.mean + apart * (other.count / count), self.m2 + other.m2 + between)

    @property
    def variance(self) -> Float[np.ndarray, "*shape"]:
        """Of the samples, unbiased; NaN where there is one alone."""
        return self.m2 / (self.count - 1) if self.count > 1 else np.full(self.m2.shape, np.nan)


def block_of(sample: Sample, size: int) -> Sample:
    """The block of a sample: its text, and the first seed of the block."""
    return sample[0], sample[1] // size * size


def blocks_of(samples: Sequence[Sample], size: int) -> list[Sample]:
    """The blocks of samples, each once, in their order.

    Raises:
        ScalexError: a block would not be whole.
    """
    lacking: dict[Sample, set[int]] = {}
    for sample in samples:
        seeds = lacking.setdefault(block_of(sample, size), set(range(size)))
        seeds.discard(sample[1] % size)
        if not seeds:
            lacking[block_of(sample, size)] = _WHOLE
    for (text, first), seeds in lacking.items():
        if seeds:
            wrong = f"of the block of seeds {first} to {first + size - 1} of {text!r} only {size - len(seeds)}"
            way_out = f"Moments are kept by whole blocks: take seeds in multiples of {size}"
            raise ScalexError(f"{wrong} are asked for", way_out)
    return list(lacking)


def firsts(seeds: Sequence[int], size: int) -> tuple[int, ...]:
    """The first seeds of the blocks that these seeds make up, in their order.

    Raises:
        ScalexError: a block would not be whole.
    """
    return tuple(first for _, first in blocks_of([("", seed) for seed in seeds], size))


def by_block(
    samples: Sequence[Sample], values: Float[np.ndarray, "samples *shape"], size: int
) -> dict[Sample, dict[int, Float[np.ndarray, "*shape"]]]:
    """The values of samples by block and seed; of equal samples the first counts."""
    found: dict[Sample, dict[int, Float[np.ndarray, "*shape"]]] = {}
    for sample, value in zip(samples, values, strict=True):
        found.setdefault(block_of(sample, size), {}).setdefault(sample[1], value)
    return found


def packed(moments: Sequence[Moments]) -> Float32[np.ndarray, "blocks two_steps width"]:
    """Moments as a store keeps them: the steps of the mean, then those of m2."""
    return np.stack([np.concatenate([one.mean, one.m2]) for one in moments]).astype(np.float32)


class Gathering:
    """Takes samples as they are captured, in batches cut anywhere, and gives away each block once it is whole.

    What is held at a time are the moments of blocks that have begun: one, where samples come block by block.
    """

    def __init__(self, size: int, write: Callable[[list[Sample], list[Moments]], object]) -> None:
        """
        Args:
            size: seeds in a block. write: takes whole blocks and their moments.
        """
        self._size, self._write = size, write
        self._seen: dict[Sample, set[int]] = {}
        self._moments: dict[Sample, Moments] = {}

    def add(self, samples: Sequence[Sample], values: Float32[np.ndarray, "samples steps width"]) -> None:
        """Takes a batch, and writes what it completes."""
        whole = []
        for block, new in by_block(samples, values, self._size).items():
            seen = self._seen.setdefault(block, set())
            fresh = [value for seed, value in new.items() if seed not in seen]
            if not fresh:
                continue
            seen.update(new)
            own, held = Moments.of(np.stack(fresh)), self._moments.get(block)
            self._moments[block] = held.merged(own) if held else own
            if len(seen) == self._size:
                whole.append(block)
        if whole:
            self._write(whole, [self._moments.pop(block) for block in whole])
            for block in whole:
                del self._seen[block]
