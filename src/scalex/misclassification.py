"""What a scorer says, corrected by what it says of pictures whose values are known.

Rogan and Gladen (1978, American Journal of Epidemiology 107: 71-76): the observed share is share * hit + (1 - share) *
false, where hit and false are known from a calibration set; for many values `scalex.stats.correct_shares`. A slope of
shares is stretched alike: it is divided by hit - false.
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

__all__ = ["Calibration", "Corrected", "Estimate", "Known", "calibrate", "corrected"]


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
    others = np.where(np.arange(len(estimate)) == v, 0.0, estimate + 1e-9)
    false = float(calibration.confusion[v] @ (others / others.sum()))
    size = calibration.counts.sum(0)
    rest = 1 / float(((others / others.sum()) ** 2 / size).sum())
    hits = _Share(float(calibration.confusion[v, v]), float(size[v]))
    return _lang_reiczigel(_Share(observed, float(n)), hits, _Share(false, rest), level)


class _Share(NamedTuple):
    """An observed share, and the pictures behind it."""

    share: float
    n: float

    def padded(self, by: float) -> _Share:
        """With so many pictures more, half of them called so."""
        return _Share((self.n * self.share + by / 2) / (self.n + by), self.n + by)


def _lang_reiczigel(seen: _Share, hits: _Share, false: _Share, level: float) -> tuple[float, float]:
    """The interval of a true share, from those of pictures that are called so: of all, of those that show it, and of
    those that do not."""
    z = float(norm.isf((1 - level) / 2))
    (p, count), (hit, hits_), (miss, rest_) = seen.padded(z**2), hits.padded(2.0), false.padded(2.0)
    gain = hit - miss
    if gain <= 0:
        return 0.0, 1.0
    share = (p - miss) / gain
    shift = 2 * z**2 * (share * hit * (1 - hit) / hits_ - (1 - share) * miss * (1 - miss) / rest_)
    variance = p * (1 - p) / count + share**2 * hit * (1 - hit) / hits_ + (1 - share) ** 2 * miss * (1 - miss) / rest_
    half, middle = z * math.sqrt(variance) / gain, share + shift
    return float(np.clip(middle - half, 0, 1)), float(np.clip(middle + half, 0, 1))


# ---------------------------------------------------------------------------------------------------- readouts


class Estimate(NamedTuple):
    """A number with the ends of its interval; all NaN where it is not to be had."""

    estimate: float
    low: float
    high: float


_UNKNOWN = Estimate(math.nan, math.nan, math.nan)


@dataclass(frozen=True, eq=False)
class Known:
    """What a readout in 0..1, such as the share of the second of two values, says of pictures of known values.

    Such a readout of other pictures is, in the mean, first + share * (second - first), where share is that of pictures
    that do show the second value: Rogan and Gladen's equation, which holds for probabilities as it does for calls
    (Bella et al. 2010, International Conference on Data Mining: 737-742).

    Attributes:
        first, second: of pictures that show the first value, and the second. Seeds are taken as independent, and
            templates of a seed as one sample.
    """

    first: Float[np.ndarray, "templates seeds"]
    second: Float[np.ndarray, "others more"]

    def gain(self, level: float = 0.95) -> Estimate:
        """How much farther the readout is for the second value: 1 where it never errs, 0 where it tells nothing.

        The interval is Newcombe's hybrid score (1998, Statistics in Medicine 17: 873-890, method 10), which is wide
        enough for readouts between 0 and 1.
        """
        means = float(self.first.mean()), float(self.second.mean())
        low, high = (stats.wilson(m, float(x.shape[1]), level) for m, x in zip(means, (self.first, self.second)))
        down = math.hypot(means[1] - high.low, low.high - means[0])
        up = math.hypot(high.high - means[1], means[0] - low.low)
        return Estimate(means[1] - means[0], means[1] - means[0] - down, means[1] - means[0] + up)

    def slope(self, observed: Estimate, level: float = 0.95) -> Estimate:
        """The slope of the true shares behind the slope of a readout: that over the gain.

        NaN where the gain may be 0, or the observed slope has no interval.
        """
        gain = self.gain(level)
        if not gain.low > 0 or math.isnan(observed.low):
            return _UNKNOWN
        return _ratio(observed, gain)

    def share(self, observed: float, seeds: int, level: float = 0.95) -> Estimate:
        """The true share of the second value behind the mean readout of so many seeds' pictures, within 0 and 1.

        The interval is that of Lang and Reiczigel, as for `corrected`. NaN where the readout tells nothing.
        """
        first, second = float(self.first.mean()), float(self.second.mean())
        found = stats.rogan_gladen(observed, second, 1 - first)
        if math.isnan(found):
            return _UNKNOWN
        hits, false = _Share(second, float(self.second.shape[1])), _Share(first, float(self.first.shape[1]))
        low, high = _lang_reiczigel(_Share(observed, float(seeds)), hits, false, level)
        return Estimate(found, min(low, found), max(high, found))


def _ratio(top: Estimate, bottom: Estimate) -> Estimate:
    """The ratio of two independent estimates, the lower one above 0, whatever their intervals are: MOVER-R (Donner and
    Zou 2012, Statistical Methods in Medical Research 21: 347-359), which is Fieller's where both are symmetric."""

    def end(above: float, below: float, sign: int) -> float:
        both = top.estimate * bottom.estimate
        whole = below * (2 * bottom.estimate - below)
        return (both + sign * math.sqrt(max(0.0, both**2 - above * (2 * top.estimate - above) * whole))) / whole

    return Estimate(top.estimate / bottom.estimate, end(top.low, bottom.high, -1), end(top.high, bottom.low, 1))
