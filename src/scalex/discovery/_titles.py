"""How found directions are called, and which way they point."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from scalex.discovery import Material

__all__ = ["oriented", "title"]


def title(seen: Material, method: str, rank: int, step: int) -> str:
    """The name of the direction of this rank, from 1; the step, from 0, is told where there are several."""
    several = len(seen.recipe().keep) > 1
    return f"{method} {rank}, step {step + 1}" if several else f"{method} {rank}"


def oriented(vectors: Float[np.ndarray, "n width"]) -> Float[np.ndarray, "n width"]:
    """Each vector or its opposite, which is as good: that one whose greatest number is positive."""
    greatest = np.take_along_axis(vectors, np.abs(vectors).argmax(1)[:, None], axis=1)
    return np.asarray(np.where(greatest < 0, -vectors, vectors))
