"""Doses: how often each strength of steering is given, so that the rate is the target, and which picture gets which.

A concept's *curve* says what its pictures do at some alphas. *Doses* are a mixture over these alphas, and (prompt,
seed) draws one. Three rules make a mixture of a curve; `some` is the one that is used, the others are what it was
compared with (docs/mitigation.md).
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

import numpy as np
from scipy import optimize

__all__ = ["RULES", "Curve", "Dose", "Key", "alike", "dose_at", "every", "some", "uniform"]

_BLOCK = 16  # consecutive seeds that share the range of u evenly
_FIRST = 1e3  # what a missed target costs, beside what pictures change

Key: TypeAlias = tuple[str, int]
"""What tells a picture's noise: where it comes from ("" for a seed of its own), and the seed or place there."""


class Dose(NamedTuple):
    """An alpha, and the share of pictures that get it."""

    alpha: float
    share: float


@dataclass(frozen=True)
class Curve:
    """What pictures of a concept do at some alphas, the first of which is 0.

    Attributes:
        rates: shares of the second value. kept: shares that still show the concept; NaN where that is not known.
        change: mean distance to the unsteered picture, in distances between the variants, of the picture reading.
    """

    alphas: tuple[float, ...]
    rates: tuple[float, ...]
    kept: tuple[float, ...]
    change: tuple[float, ...]

    def rate(self, doses: Sequence[Dose]) -> float:
        """The rate that a mixture should give."""
        return float(sum(dose.share * self.rates[self.alphas.index(dose.alpha)] for dose in doses))


def some(curve: Curve, target: float, keep: float) -> tuple[Dose, ...]:
    """Steers as few pictures as little as can be: the linear programme

        min sum_k p_k change_k   where   sum_k p_k rate_k = target,   sum_k p_k kept_k >= keep kept_0,   sum_k p_k = 1.

    Its solutions mix two alphas, or three where the concept would suffer; alpha 0 is one of them wherever that is
    better. Where the target is out of reach, the nearest rate is taken: the concept comes before the target, the target
    before the change.
    """
    n = len(curve.alphas)
    costs = [*curve.change, _FIRST, _FIRST]
    equal, ends = [[*curve.rates, 1, -1], [1.0] * n + [0, 0]], [target, 1]
    least = keep * curve.kept[0]
    bound = [] if math.isnan(least) else [[-k for k in curve.kept] + [0, 0]]
    found = optimize.linprog(
        costs, A_ub=bound or None, b_ub=[-least] if bound else None, A_eq=equal, b_eq=ends, method="highs"
    )
    return _doses(curve.alphas, found.x[:n])


def every(curve: Curve, target: float, keep: float) -> tuple[Dose, ...]:
    """Assigns each picture a value and steers it there: the alphas of the least and of the greatest rate."""
    steered = range(1, len(curve.alphas))
    low, high = (pick(steered, key=lambda k: curve.rates[k]) for pick in (min, max))
    gap = curve.rates[high] - curve.rates[low]
    share = float(np.clip((target - curve.rates[low]) / gap, 0, 1)) if gap > 0 else 0.0
    weights = np.zeros(len(curve.alphas))
    weights[low] += 1 - share
    weights[high] += share
    return _doses(curve.alphas, weights)


def alike(curve: Curve, target: float, keep: float) -> tuple[Dose, ...]:
    """Steers all pictures by the one alpha at which the curve comes nearest to the target."""
    weights = np.zeros(len(curve.alphas))
    weights[int(np.abs(np.array(curve.rates) - target).argmin())] = 1.0
    return _doses(curve.alphas, weights)


RULES: Mapping[str, Callable[[Curve, float, float], tuple[Dose, ...]]] = {"some": some, "every": every, "alike": alike}


def _doses(alphas: Sequence[float], weights: Sequence[float] | np.ndarray) -> tuple[Dose, ...]:
    """The doses that are given at all, from the greatest alpha to the least either way."""
    kept = [Dose(float(a), float(w)) for a, w in zip(alphas, weights, strict=True) if w > 1e-6]
    total = sum(dose.share for dose in kept)
    return tuple(Dose(d.alpha, d.share / total) for d in sorted(kept, key=lambda d: -abs(d.alpha)))


# ---------------------------------------------------------------------------------------------------- who gets which


def uniform(text: str, key: Key) -> float:
    """A number in [0, 1) that belongs to a prompt and its noise, the same on every machine.

    Of 16 consecutive seeds (from a multiple of 16) each sixteenth of the range holds one, in an order that only hashes
    know: few pictures already come near to the target, and any choice of seeds is at least as even as chance.
    """
    origin, index = key
    first = index - index % _BLOCK
    own = _hash(text, origin, index)
    rank = sum(_hash(text, origin, other) < own for other in range(first, first + _BLOCK))
    return (rank + _hash(text, f"{origin}/within", index) / 2**64) / _BLOCK


def _hash(text: str, origin: str, index: int) -> int:
    told = f"{origin}\0{index}\0{text}".encode()
    return int.from_bytes(hashlib.sha256(told).digest()[:8], "big")


def dose_at(doses: Sequence[Dose], u: float) -> float:
    """The alpha that u falls to; the first doses lie lowest."""
    end = 0.0
    for dose in doses:
        end += dose.share
        if u < end:
            return dose.alpha
    return doses[-1].alpha
