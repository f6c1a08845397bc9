"""Whether stored samples are what was written: every row is read and checked, and what is at fault can be dropped."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from scalex.prompts import sample_key
from scalex.records import Recipe
from scalex.rows import checksum, latents_in
from scalex.table import SampleTable

__all__ = ["Health", "examine"]


@dataclass(frozen=True, slots=True)
class Health:
    """What was found of one recipe. A row counts under its first fault only.

    Attributes:
        name: the recipe's id.
        rows: rows that could be read.
        mismatched: their key is not that of the recipe, the prompt and the seed.
        damaged: their latent is not the one that was written.
        non_finite: their latent holds NaN or infinity.
        duplicates: rows beyond the first of their key.
        unreadable: rows in files that are missing, short or cannot be decoded.
        dropped: rows removed by the repair.
        problem: why the samples could not be looked at.
    """

    name: str
    rows: int = 0
    mismatched: int = 0
    damaged: int = 0
    non_finite: int = 0
    duplicates: int = 0
    unreadable: int = 0
    dropped: int = 0
    problem: str = ""

    @property
    def ok(self) -> bool:
        """Whether nothing was wrong (before a repair)."""
        faults = self.mismatched + self.damaged + self.non_finite + self.duplicates + self.unreadable
        return not faults and not self.problem


def examine(recipe: Recipe, table: SampleTable, *, repair: bool = False) -> Health:
    """Read and check every row of a recipe; `repair` drops the rows at fault and all rows of a duplicated key."""
    seen: Counter[str] = Counter()
    faults: list[tuple[str, str]] = []
    lost = []
    for fragment, batches in table.fragments():
        try:
            judged = [row for batch in batches for row in _judge(recipe, batch)]
        except (OSError, ValueError):  # how Lance and Arrow say that a file is gone or cannot be decoded
            lost.append(fragment)
            continue
        for key, fault in judged:
            if fault or key in seen:
                faults.append((key, fault or "duplicates"))
            seen[key] += 1
    bad = sorted({key for key, _ in faults})
    if repair and lost:
        table.drop_fragments(lost)
    if repair and bad:
        table.drop_keys(bad)
    unreadable = sum(fragment.physical_rows for fragment in lost)
    count = Counter(fault for _, fault in faults)
    return Health(
        name=recipe.id,
        rows=seen.total(),
        unreadable=unreadable,
        dropped=unreadable + sum(seen[key] for key in bad) if repair else 0,
        mismatched=count["mismatched"],
        damaged=count["damaged"],
        non_finite=count["non_finite"],
        duplicates=count["duplicates"],
    )


def _judge(recipe: Recipe, batch: pa.RecordBatch) -> Iterator[tuple[str, str]]:
    """The key and the fault, "" where there is none, of each row."""
    latents = latents_in(batch)
    finite = np.isfinite(latents).all(axis=1)
    labels = zip(*(batch.column(name).to_pylist() for name in ("key", "prompt", "seed", "checksum")))
    for (key, text, seed, written), latent, fine in zip(labels, latents, finite):
        if key != sample_key(recipe, text, seed):
            yield key, "mismatched"
        elif checksum(key, latent) != written:
            yield key, "damaged"
        else:
            yield key, "" if fine else "non_finite"
