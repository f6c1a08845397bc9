"""What a scorer says, corrected by what it says of pictures whose values are known.

Rogan and Gladen (1978, American Journal of Epidemiology 107: 71-76): the observed share is share * hit + (1 - share) *
false, where hit and false are known from a calibration set; for many values `scalex.stats.correct_shares`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int, UInt8
from scipy.stats import norm

from scalex import stats
from scalex.errors import ScalexError
from scalex.scorers import AttributeScorer, scored
from scalex.scorers._calling import called, one_hot

__all__ = ["Calibration", "Corrected", "calibrate", "corrected"]


@dataclass(frozen=True, eq=False)
class Calibration:
    """How a scorer calls pictures of known values.

    Attributes:
        counts: column v holds how often pictures that show value v were called each value.
        lost: of each value, pictures in which nothing was recognised.
    """

    values: tuple[str, ...]
    counts: Int[np.ndarray, "values values"]
    lost: Int[np.ndarray, "values"]

    @property
    def confusion(self) -> Float[np.ndarray, "values values"]:
        """The counts as shares; columns sum to one."""
        return np.asarray(self.counts / self.counts.sum(0))

    @property
    def accuracy(self) -> float:
        """The share that is called right, each value counting alike; what is lost is wrong."""
        return float((np.diag(self.counts) / (self.counts.sum(0) + self.lost)).mean())


def calibrate(scorer: AttributeScorer, pictures: Mapping[str, UInt8[np.ndarray, "_ height width 3"]]) -> Calibration:
    """Tries a scorer on pictures whose values are known, such as those drawn of explicit prompts.

    Explicit prompts are taken at their word: where the model draws some otherwise, its mistakes count as the scorer's.

    Raises:
        ScalexError: a value of the scorer has no picture, or none in which anything was recognised; or as `scored`.
    """
    n = len(scorer.values)
    counts, lost = np.zeros((n, n), np.int64), np.zeros(n, np.int64)
    for v, value in enumerate(scorer.values):
        shown = pictures.get(value)
        seen = called(scored(scorer, shown)) if shown is not None and len(shown) else np.empty(0, np.int64)
        counts[:, v], lost[v] = np.bincount(seen[seen >= 0], minlength=n), (seen < 0).sum()
        if not counts[:, v].sum():
            raise ScalexError(f"there is no picture of {value!r} to calibrate scorer {scorer.name!r} with", "Add some")
    return Calibration(scorer.values, counts, lost)


class Corrected(NamedTuple):
    """Shares of values with the ends of their intervals."""

    estimate: Float[np.ndarray, "values"]
    low: Float[np.ndarray, "values"]
    high: Float[np.ndarray, "values"]


def corrected(shares: Float[np.ndarray, "n values"], calibration: Calibration, level: float = 0.95) -> Corrected:
    """The true shares behind what a scorer said of independent pictures.

    The interval of a value is that of Lang and Reiczigel (2014, Preventive Veterinary Medicine 113: 13-22) for "it or
    another": that of a proportion with all three errors counted, and pseudo-counts that keep it honest at 0 and 1.
    Where the scorer knows nothing of a value, it is 0 to 1.

    Args:
        shares: as `scored` gives them, a row a picture; pictures in which nothing was recognised are left out.

    Raises:
        ScalexError: there is no picture, or there are other values than those that were calibrated.
    """
    n_values = len(calibration.values)
    if shares.shape[1] != n_values:
        raise ScalexError(
            f"there are shares of {shares.shape[1]} values, and {n_values} were calibrated", "Use the same"
        )
    seen = called(shares)
    seen = seen[seen >= 0]
    if not len(seen):
        raise ScalexError("nothing was recognised in any picture", "Take a scorer that knows what they show")
    observed = one_hot(seen, n_values).mean(0)
    estimate = stats.correct_shares(observed, calibration.confusion)
    ends = [_ends(v, observed[v], len(seen), estimate, calibration, level) for v in range(n_values)]
    low, high = np.array(ends).T
    return Corrected(estimate, np.minimum(low, estimate), np.maximum(high, estimate))


def _ends(
    v: int,
    observed: float,
    n: int,
    estimate: Float[np.ndarray, "values"],
    calibration: Calibration,
    level: float,
) -> tuple[float, float]:
    z = float(norm.isf((1 - level) / 2))
    others = np.where(np.arange(len(estimate)) == v, 0.0, estimate + 1e-9)
    false = float(calibration.confusion[v] @ (others / others.sum()))
    size = calibration.counts.sum(0)
    hits, rest = int(size[v]), 1 / float(((others / others.sum()) ** 2 / size).sum())
    p, count = (n * observed + z**2 / 2) / (n + z**2), n + z**2
    hit, hits_ = (hits * float(calibration.confusion[v, v]) + 1) / (hits + 2), hits + 2
    miss, rest_ = (rest * false + 1) / (rest + 2), rest + 2
    gain = hit - miss
    if gain <= 0:
        return 0.0, 1.0
    share = (p - miss) / gain
    shift = 2 * z**2 * (share * hit * (1 - hit) / hits_ - (1 - share) * miss * (1 - miss) / rest_)
    variance = p * (1 - p) / count + share**2 * hit * (1 - hit) / hits_ + (1 - share) ** 2 * miss * (1 - miss) / rest_
    half, middle = z * math.sqrt(variance) / gain, share + shift
    return float(np.clip(middle - half, 0, 1)), float(np.clip(middle + half, 0, 1))
