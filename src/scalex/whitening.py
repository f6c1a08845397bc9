"""Whitening: latents in the metric of their noise, as variants of concepts show it, cross-fitted.

The noise is what samples differ by that say the same concept with the same value: variants less their own mean over
templates and seeds. Of each seed it is learned on the other folds of seeds.

Its covariance is shrunk towards a round one as Ledoit and Wolf (2004, Journal of Multivariate Analysis 88: 365-411) do,
but with folds of seeds for samples: all prompts share the noise of their seeds, so that however many concepts there
are, a few seeds show it in a few directions only. Samples counted one by one would be shrunk by far too little.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from jaxtyping import Bool, Float, Int

from scalex import scratch, stats
from scalex.errors import ScalexError
from scalex.records import Latents

__all__ = ["Variant", "Whitening", "variants_in", "whitening"]

_FOLDS = 8
_LEAST = 0.01  # shrinkage, so that any covariance can be inverted
_ROWS = 2048  # samples that are looked at together

Rows: TypeAlias = Float[np.ndarray, "rows width"]
Inverse: TypeAlias = Callable[[Rows], Rows]
Variant: TypeAlias = tuple[str, str, str]
"""Concept, attribute and value."""


@dataclass(frozen=True, eq=False)
class Whitening:
    """The inverse of the covariance of noise, which of each seed is learned from other seeds alone.

    Attributes:
        fold: of every seed. inverses: by fold, what takes rows to the inverse times them.
    """

    fold: Int[np.ndarray, "seeds"]
    inverses: Sequence[Inverse]

    def __call__(
        self, samples: Float[np.ndarray, "templates seeds width"]
    ) -> Float[np.ndarray, "templates seeds width"]:
        """The samples times the inverse, in units of the mean variance: round noise leaves them as they are."""
        out = np.empty(samples.shape)
        for k, inverse in enumerate(self.inverses):
            own = samples[:, self.fold == k]
            out[:, self.fold == k] = inverse(own.reshape(-1, own.shape[-1])).reshape(own.shape)
        return out


def variants_in(latents: Latents) -> list[Variant]:
    """All variants of concepts, each once."""
    told = (p for p in latents.prompts if p.role == "concept" and p.attribute)
    return list(dict.fromkeys((p.concept, p.attribute, p.value) for p in told))


def whitening(latents: Latents, variants: Sequence[Variant], step: int = -1, n_folds: int = _FOLDS) -> Whitening:
    """Learns the noise from these variants, in one pass over them.

    It works on width x width matrices, two a fold, and the means of each fold, or where samples are few on their inner
    products. 1,000 concepts with four variants in two templates, at 32 seeds and width 1280, take 0.6 GB and 1.6 TFLOP;
    a sample is whitened by width x width products then.

    Args:
        step: index of the kept step that is read. n_folds: of seeds.

    Raises:
        ScalexError: a variant was not captured, or both ways would take more than the budget of memory
            (`scratch.budget`).
    """
    fold = stats.folds(len(latents.seeds), n_folds)
    n, width, folds = len(variants) * latents.n_templates * len(fold), latents.values.shape[-1], fold.max() + 1
    matrices, products = width * (2 * folds + 3) + folds * len(variants), width + n * (folds + 2)
    takes = 8 * min(width * matrices, n * products)
    if takes > scratch.budget():
        wrong = f"the covariance of {n} samples of width {width} takes {takes / 1e9:.2g} GB"
        raise ScalexError(wrong, "Take `pooling: mean`, `lean_direction: own`, or raise SCALEX_MEMORY")
    learned = _by_scatter if width * matrices <= n * products else _by_products
    return Whitening(fold, list(learned(latents, variants, fold, step)))


def _shrinkage(
    square: float, apart: Float[np.ndarray, "folds"], weights: Float[np.ndarray, "folds"], trace: float, width: int
) -> float:
    """How far a covariance is taken towards a round one of the same trace, 0 to 1.

    Args:
        square: sum of its squares. apart: the same of the covariance of each fold; weights: part of the samples in it.
    """
    spread = square - trace**2 / width
    if len(apart) < 2 or spread <= 0:
        return 1.0
    noise = float(weights @ apart - square) / (len(apart) - 1)
    return float(np.clip(noise / spread, _LEAST, 1.0))


def _kept(fold: Int[np.ndarray, "seeds"], without: int) -> tuple[Int[np.ndarray, "folds"], Float[np.ndarray, "folds"]]:
    """The other folds, and the part of their seeds that is in each."""
    sizes = np.bincount(fold)
    others = np.flatnonzero(np.arange(len(sizes)) != without)
    return others, sizes[others] / sizes[others].sum()


# ---------------------------------------------------------------------------------------------------- many samples


def _by_scatter(
    latents: Latents, variants: Sequence[Variant], fold: Int[np.ndarray, "seeds"], step: int
) -> Iterator[Inverse]:
    """By fold: from the scatter of each fold around any origin, and the fold's means, which move it to the mean of the
    other folds."""
    scatter, means = _scattered(latents, variants, fold, step)
    width = scatter.shape[-1]
    for without in range(len(scatter)):
        others, weights = _kept(fold, without)
        centre = np.tensordot(weights, means[others], 1)
        within, apart = np.zeros((width, width)), np.empty(len(others))
        for i, k in enumerate(others):
            cross = (means[k] - centre / 2).T @ centre
            own = (scatter[k] - cross - cross.T) / len(variants)
            apart[i] = (own**2).sum()
            within += weights[i] * own
        yield _inverse(within, apart, weights)


def _scattered(
    latents: Latents, variants: Sequence[Variant], fold: Int[np.ndarray, "seeds"], step: int
) -> tuple[Float[np.ndarray, "folds width width"], Float[np.ndarray, "folds variants width"]]:
    """By fold: second moments, summed over variants, and means of each, both around the variants' means over all."""
    folds, width = fold.max() + 1, latents.values.shape[-1]
    scatter, means = np.zeros((folds, width, width)), np.empty((folds, len(variants), width))
    each = max(1, _ROWS // (latents.n_templates * len(fold)))
    for start in range(0, len(variants), each):
        some = _deviations(latents, variants[start : start + each], step)
        for k in range(folds):
            own = some[:, :, fold == k]
            rows = own.reshape(-1, width)
            scatter[k] += rows.T @ rows / (own.shape[1] * own.shape[2])
            means[k, start : start + each] = own.mean((1, 2))
    return scatter, means


def _deviations(
    latents: Latents, variants: Sequence[Variant], step: int
) -> Float[np.ndarray, "variants templates seeds width"]:
    """Variants less their own mean over templates and seeds."""
    some = np.stack([latents.of(*variant, step=step) for variant in variants]).astype(np.float64)
    return np.asarray(some - some.mean((1, 2), keepdims=True))


def _inverse(
    within: Float[np.ndarray, "width width"], apart: Float[np.ndarray, "folds"], weights: Float[np.ndarray, "folds"]
) -> Inverse:
    trace, width = float(np.trace(within)), len(within)
    shrinkage = _shrinkage(float((within**2).sum()), apart, weights, trace, width)
    if shrinkage == 1.0:
        return _as_it_is
    inverse = np.linalg.inv((1 - shrinkage) * width / trace * within + shrinkage * np.eye(width))
    return lambda rows: np.asarray(rows @ inverse)


def _as_it_is(rows: Rows) -> Rows:
    return rows


# ---------------------------------------------------------------------------------------------------- few samples


def _by_products(
    latents: Latents, variants: Sequence[Variant], fold: Int[np.ndarray, "seeds"], step: int
) -> Iterator[Inverse]:
    """By fold: from inner products of samples (Woodbury), without a width x width matrix."""
    samples = _deviations(latents, variants, step)
    shape = samples.shape[:3]
    rows = samples.reshape(-1, samples.shape[-1])
    products = rows @ rows.T
    for without in range(fold.max() + 1):
        yield _inverse_by_products(rows, products, shape, fold, without)


def _inverse_by_products(
    rows: Float[np.ndarray, "samples width"],
    products: Float[np.ndarray, "samples samples"],
    shape: tuple[int, int, int],
    fold: Int[np.ndarray, "seeds"],
    without: int,
) -> Inverse:
    kept, width = fold != without, rows.shape[1]
    centred = _centred(_centred(products, shape, kept).T, shape, kept)
    others, weights = _kept(fold, without)
    of_row = np.broadcast_to(fold[kept], (*shape[:2], int(kept.sum()))).ravel()
    apart = np.array(
        [(centred[np.ix_(of_row == k, of_row == k)] ** 2).sum() / (of_row == k).sum() ** 2 for k in others]
    )
    n, trace = len(centred), float(np.trace(centred)) / len(centred)
    shrinkage = _shrinkage(float((centred**2).sum()) / n**2, apart, weights, trace, width)
    if shrinkage == 1.0:
        return _as_it_is
    ridge = n * shrinkage * trace / width / (1 - shrinkage)
    solve = np.linalg.inv(centred + ridge * np.eye(n))

    def inverse(samples: Rows) -> Rows:
        inner = solve @ _centred(rows @ samples.T, shape, kept)
        spread = np.zeros((*shape, len(samples)))
        spread[:, :, kept] = inner.reshape(*shape[:2], -1, len(samples))
        return np.asarray((samples - spread.reshape(len(rows), -1).T @ rows) / shrinkage)

    return inverse


def _centred(
    rows: Float[np.ndarray, "samples columns"], shape: tuple[int, int, int], kept: Bool[np.ndarray, "seeds"]
) -> Float[np.ndarray, "some columns"]:
    """The rows of the seeds that are kept, less their mean over templates and these seeds, by variant."""
    some = rows.reshape(*shape, -1)[:, :, kept]
    return np.asarray((some - some.mean((1, 2), keepdims=True)).reshape(-1, rows.shape[1]))
