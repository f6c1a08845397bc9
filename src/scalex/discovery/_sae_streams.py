"""What a sparse autoencoder is trained on: vectors of samples in any order, a block at a time, and never all at once.

A pooled sample is one vector a kept step. A grid or a whole map has one at every position: C numbers each.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float32, Int, Shaped

from scalex.errors import ScalexError
from scalex.records import Latents, Recipe
from scalex.rows import checksum, latents_in
from scalex.store import Store

__all__ = ["LatentStream", "StoreStream", "Stream", "blocks", "held_out", "positions_of", "shuffled"]

_VECTORS = 1 << 13  # in a block, at least one sample's


@runtime_checkable
class Stream(Protocol):
    """Samples by their place, in an order that depends on their texts and seeds alone.

    Attributes:
        texts, seeds: of each sample. width: of a vector. positions: vectors of a sample, over kept steps and positions.
    """

    texts: Shaped[np.ndarray, "samples"]
    seeds: Int[np.ndarray, "samples"]
    width: int
    positions: int

    def take(self, places: Int[np.ndarray, "n"]) -> Float32[np.ndarray, "n positions width"]:
        """The vectors of these samples.

        Raises:
            ScalexError: they cannot be read, or are not what was written.
        """


def positions_of(pooling: str, width: int, channels: int | None) -> int:
    """How many vectors a latent of this width holds: 1 of a mean, the cells of a grid, the positions of a whole map.

    Raises:
        ScalexError: it is a whole map, and nobody said how many channels it has; or it does not have so many.
    """
    if pooling == "mean":
        return 1
    cells = int(pooling[5:]) ** 2 if pooling.startswith("grid:") else 0
    if not cells and not channels:
        raise ScalexError("whole maps do not say how many channels they have", "Say it: channels=model.probe_shape[0]")
    cells = cells or width // int(channels or 1)
    if cells < 1 or width % cells or (channels and width // cells != channels):
        raise ScalexError(
            f"latents of width {width} (pooling {pooling}) are no maps of {channels} channels", "Check it"
        )
    return cells


def _vectors(flat: Shaped[np.ndarray, "n steps flat"], cells: int) -> Float32[np.ndarray, "n positions width"]:
    """Latents, flat as (channels, rows, columns), as one vector a step and position."""
    n, steps, width = flat.shape
    apart = flat.astype(np.float32).reshape(n, steps, width // cells, cells)
    return np.ascontiguousarray(apart.transpose(0, 1, 3, 2)).reshape(n, steps * cells, width // cells)


class LatentStream:
    """The samples of latents that were read, in memory or in a file.

    Args:
        step: index of a kept step; None for all of them. pooling, channels: as for `positions_of`.
    """

    def __init__(
        self, latents: Latents, step: int | None = None, pooling: str = "mean", channels: int | None = None
    ) -> None:
        steps = len(latents.steps)
        self._values = latents.values
        self._steps = list(range(steps)) if step is None else [step % steps]
        self._cells = positions_of(pooling, latents.values.shape[-1], channels)
        found = {(p.text, seed): (i, j) for i, p in enumerate(latents.prompts) for j, seed in enumerate(latents.seeds)}
        order = sorted(found)
        self._at = np.array([found[pair] for pair in order], dtype=np.int64).reshape(-1, 2)
        self.texts = np.array([text for text, _ in order])
        self.seeds = np.array([seed for _, seed in order], dtype=np.int64)
        self.width = latents.values.shape[-1] // self._cells
        self.positions = len(self._steps) * self._cells

    def take(self, places: Int[np.ndarray, "n"]) -> Float32[np.ndarray, "n positions width"]:
        """As `Stream.take`."""
        rows, columns = self._at[places].T
        return _vectors(self._values[rows, columns][:, self._steps], self._cells)


class StoreStream:
    """The samples of a recipe, read from a store's dataset as they are asked for; each is checked against its checksum.

    Args:
        texts, seeds: of the samples that are wanted; None is all that there are.
        step: index of a kept step; None for all of them. channels: of the probe; needed for whole maps.

    Raises:
        ScalexError: nothing of the kind is stored, or moments are.
    """

    def __init__(
        self,
        store: Store,
        recipe: Recipe,
        texts: Collection[str] | None = None,
        seeds: Collection[int] | None = None,
        step: int | None = None,
        channels: int | None = None,
    ) -> None:
        if recipe.moments:
            raise ScalexError("a sparse autoencoder learns from samples, and moments are stored", "Set moments: 0")
        self._dataset = store.arrow(recipe)
        known = self._dataset.to_table(columns=["prompt", "seed"])
        prompts, numbers = (known[name].to_numpy(zero_copy_only=False) for name in ("prompt", "seed"))
        wanted = np.ones(len(prompts), bool)
        for asked, own in ((texts, prompts), (seeds, numbers)):
            if asked is not None:
                wanted &= np.isin(own, np.array(list(asked), own.dtype))
        rows = np.flatnonzero(wanted)
        if not len(rows):
            raise ScalexError(f"the store {store.address} holds none of these samples", "Capture them first")
        self._rows = rows[np.lexsort((numbers[rows], prompts[rows].astype(str)))]
        self._kept = len(recipe.keep)
        self._steps = list(range(self._kept)) if step is None else [step % self._kept]
        flat = self._dataset.schema.field("latent").type.list_size // self._kept
        self._cells = positions_of(recipe.pooling, flat, channels)
        self.texts, self.seeds = prompts[self._rows].astype(str), numbers[self._rows].astype(np.int64)
        self.width, self.positions = flat // self._cells, len(self._steps) * self._cells

    def take(self, places: Int[np.ndarray, "n"]) -> Float32[np.ndarray, "n positions width"]:
        """As `Stream.take`."""
        try:
            table = self._dataset.take(self._rows[places].tolist(), columns=["key", "latent", "checksum"])
        except (OSError, ValueError) as error:
            raise ScalexError(f"samples of the store cannot be read ({error})", "Run `scalex store verify`") from error
        found = []
        for batch in table.to_batches():
            latents = latents_in(batch)
            keys, sums = batch.column("key").to_pylist(), batch.column("checksum").to_pylist()
            if any(checksum(key, row) != total for key, row, total in zip(keys, latents, sums)):
                raise ScalexError("samples of the store are not what was written", "Run `scalex store verify --repair`")
            found.append(latents)
        whole = np.concatenate(found).reshape(len(places), self._kept, -1)
        return _vectors(whole[:, self._steps], self._cells)


# ---------------------------------------------------------------------------------------------------- going over it


def held_out(stream: Stream, share: float) -> tuple[Int[np.ndarray, "learned"], Int[np.ndarray, "held"]]:
    """The places of the samples to learn from, and of those to judge by: whole seeds, spread evenly over all.

    Raises:
        ScalexError: there is but one seed.
    """
    seeds = np.unique(stream.seeds)
    if len(seeds) < 2:
        raise ScalexError(
            "a sparse autoencoder is judged by seeds that it has not seen, and there is but one", "Add seeds"
        )
    n = min(len(seeds) - 1, max(1, round(share * len(seeds))))
    apart = np.isin(stream.seeds, seeds[np.linspace(0, len(seeds) - 1, n + 2).round().astype(int)[1:-1]])
    return np.flatnonzero(~apart), np.flatnonzero(apart)


def blocks(stream: Stream, places: Int[np.ndarray, "n"]) -> Iterator[Float32[torch.Tensor, "n width"]]:
    """All vectors of these samples in their order, a block at a time."""
    some = max(1, _VECTORS // stream.positions)
    for start in range(0, len(places), some):
        yield torch.from_numpy(stream.take(places[start : start + some])).flatten(0, 1)


def shuffled(
    stream: Stream, places: Int[np.ndarray, "n"], batch: int, seed: int, first: int = 0
) -> Iterator[Float32[torch.Tensor, "batch width"]]:
    """Batches without end, from number `first` on. Every pass has another order of samples, by seed and pass alone, and
    mixes the vectors within a block; what is left at its end makes no batch."""
    total = len(places) * stream.positions
    batch = min(batch, total)
    turn, skipped = divmod(first, total // batch)
    while True:
        rng = np.random.default_rng([seed, turn])
        for one in _pass(stream, rng.permutation(places), batch, rng):
            if skipped:
                skipped -= 1
            else:
                yield one
        turn += 1


def _pass(
    stream: Stream, places: Int[np.ndarray, "n"], batch: int, rng: np.random.Generator
) -> Iterator[Float32[torch.Tensor, "batch width"]]:
    left = torch.empty(0, stream.width)
    for block in blocks(stream, places):
        left = torch.cat([left, block[torch.from_numpy(rng.permutation(len(block)))]])
        whole = len(left) // batch * batch
        yield from left[:whole].split(batch) if whole else ()
        left = left[whole:]
