"""A sample as an Arrow row: the columns, the key that makes it unique, and the checksum that vouches for its latent."""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Bool, Float32, Shaped

from scalex.errors import ScalexError
from scalex.prompts import sample_key
from scalex.records import Recipe

__all__ = ["Sample", "among", "checksum", "latents_in", "sample_rows"]

Sample = tuple[str, int]

# Without it Lance inserts the same key twice, silently, when two processes do so at once.
_PRIMARY_KEY = {"lance-schema:unenforced-primary-key": "true"}


def sample_rows(
    recipe: Recipe, pairs: Sequence[Sample], values: Float32[np.ndarray, "samples steps width"]
) -> pa.Table:
    """Samples as rows, the first of equal ones; latents as float16 where the recipe computes in fp16, else (and moments
    always) as float32.

    Raises:
        ScalexError: a latent is not finite, or not any more as float16.
    """
    first = {pair: place for place, pair in reversed(list(enumerate(pairs)))}
    places = sorted(first.values())
    texts, seeds = zip(*(pairs[place] for place in places))
    flat = values.reshape(len(pairs), -1)[places]
    with np.errstate(over="ignore"):  # what float16 cannot hold becomes infinite, and is refused
        latents = flat.astype(np.float16) if recipe.dtype == "fp16" and not recipe.moments else flat
    _refuse_non_finite(np.isfinite(latents).all(axis=1), texts, seeds)
    keys = [sample_key(recipe, text, seed) for text, seed in zip(texts, seeds)]
    schema = _schema(latents)
    columns = [
        pa.array(keys, pa.string()),
        pa.array(texts, pa.string()),
        pa.array(seeds, pa.int64()),
        pa.FixedSizeListArray.from_arrays(latents.reshape(-1), latents.shape[1]),
        pa.array([checksum(key, latent) for key, latent in zip(keys, latents)], pa.uint32()),
    ]
    return pa.table(columns, schema=schema)


def _schema(latents: Shaped[np.ndarray, "samples width"]) -> pa.Schema:
    value = pa.from_numpy_dtype(latents.dtype)
    return pa.schema(
        [
            pa.field("key", pa.string(), nullable=False, metadata=_PRIMARY_KEY),
            pa.field("prompt", pa.string(), nullable=False),
            pa.field("seed", pa.int64(), nullable=False),
            pa.field("latent", pa.list_(value, latents.shape[1]), nullable=False),
            pa.field("checksum", pa.uint32(), nullable=False),
        ]
    )


def _refuse_non_finite(finite: Bool[np.ndarray, "samples"], texts: Sequence[str], seeds: Sequence[int]) -> None:
    if not finite.all():
        worst = int(np.argmin(finite))
        raise ScalexError(
            f"{int((~finite).sum())} of {len(texts)} latents hold NaN or infinity, "
            f"the first is that of {texts[worst]!r} with seed {seeds[worst]}; none of them was stored",
            "Capture in a wider precision (`precision: fp32`)",
        )


def checksum(key: str, latent: Shaped[np.ndarray, "width"]) -> int:
    """CRC-32 of a sample's key and latent: a latent that changed, or that moved to another sample, no longer fits.

    Lance checks nothing of the kind: of 200 single bits flipped in a data file, 170 were read back without an error.
    """
    return zlib.crc32(np.ascontiguousarray(latent).data, zlib.crc32(key.encode()))


def latents_in(batch: pa.RecordBatch) -> Shaped[np.ndarray, "samples width"]:
    """The latents of a batch of rows, without a copy."""
    column = batch.column("latent")
    values = column.flatten().to_numpy(zero_copy_only=False)
    return np.asarray(values).reshape(len(column), column.type.list_size)


def among(keys: pa.Array, others: pa.Array) -> Bool[np.ndarray, "keys"]:
    """For each key, whether it is one of the others."""
    return np.asarray(pc.is_in(keys, value_set=others).to_numpy(zero_copy_only=False), dtype=bool)
