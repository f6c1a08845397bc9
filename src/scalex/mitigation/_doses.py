"""Doses: how often each strength of steering is given, so that the rate is the target, and which picture gets which.

A concept's *curve* says what its pictures do at some alphas. *Doses* are a mixture over these alphas, and (prompt,
seed) draws one. Three rules make a mixture of a curve; `some` is the one that is used, the others are what it was
compared with (docs/mitigation.md).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

import numpy as np
from scipy import optimize

__all__ = ["RULES", "Curve", "Dose", "Key", "alike", "dose_at", "every", "some", "uniform"]

_BLOCK = 16  # consecutive seeds that share the range of u evenly
_DOUBT = 3.0  # distances between the variants that a picture may change more, to be told for certain
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
        rates: shares of the second value. doubt: how much of them hangs on what counts as turned.
        kept: shares that still show the concept.
        change: mean distance to the unsteered picture, in distances between the variants, of the picture reading.
    """

    alphas: tuple[float, ...]
    rates: tuple[float, ...]
    doubt: tuple[float, ...]
    kept: tuple[float, ...]
    change: tuple[float, ...]

    def rate(self, doses: Sequence[Dose]) -> float:
        """The rate that a mixture should give."""
        order = np.argsort(self.alphas)
        alphas, rates = np.array(self.alphas)[order], np.array(self.rates)[order]
        return float(sum(dose.share * np.interp(dose.alpha, alphas, rates) for dose in doses))


def some(curve: Curve, target: float, keep: float) -> tuple[Dose, ...]:
    """Steers as few pictures as little, and as surely, as can be: the linear programme

        min sum_k p_k (change_k + rate_k (1 - rate_k) + 3 doubt_k)
        where sum_k p_k rate_k = target,   sum_k p_k kept_k >= keep kept_0,   sum_k p_k = 1,   p_k >= 0.

    The second part of the cost is the variance of what a picture shows under a dose, the third what calibration cannot
    tell: a strong dose for few is surer than a weak one for many, which turns some and leaves others midway. Solutions
    mix two alphas, or three where the concept would suffer; alpha 0 is one of them wherever that is better. Where the
    target is out of reach, the nearest rate is taken: the concept comes before the target, the target before the cost.
    """
    up = target > curve.rates[0]
    on = [k for k, alpha in enumerate(curve.alphas) if alpha == 0 or (alpha > 0) == up]
    rates, doubt, kept = (np.array(column)[on] for column in (curve.rates, curve.doubt, curve.kept))
    costs = [*(np.array(curve.change)[on] + rates * (1 - rates) + _DOUBT * doubt), _FIRST, _FIRST]
    found = optimize.linprog(
        costs,
        A_ub=[[*-kept, 0, 0]],
        b_ub=[-keep * kept[0]],
        A_eq=[[*rates, 1, -1], [1] * len(on) + [0, 0]],
        b_eq=[target, 1],
        method="highs",
    )
    return _doses([curve.alphas[k] for k in on], found.x[: len(on)])


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
    """Steers all pictures by one alpha, at which the curve, straight between its points, first reaches the target."""
    order = np.argsort(curve.alphas)
    alphas = np.linspace(curve.alphas[order[0]], curve.alphas[order[-1]], 1001)
    missed = np.abs(np.interp(alphas, np.array(curve.alphas)[order], np.array(curve.rates)[order]) - target).round(2)
    nearest = alphas[missed == missed.min()]
    return (Dose(float(nearest[np.abs(nearest).argmin()]), 1.0),)


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
