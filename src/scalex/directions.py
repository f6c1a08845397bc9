"""What analyses share: directions, discriminants and separability between variants, all cross-fitted.

Cross-fitted means: whatever is applied to a seed was learned from other seeds. The variants of a seed share its
noise with the neutral prompt of that seed, so a direction learned on it would find its own noise again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Literal, NamedTuple, TypeAlias

import numpy as np
from jaxtyping import Bool, Float, Int

from scalex import stats
from scalex.errors import ScalexError
from scalex.records import Latents, Rules

__all__ = [
    "Classifier",
    "Method",
    "check_shared",
    "classifier",
    "classify",
    "discriminants",
    "lda_directions",
    "others_mean",
    "plan_of",
    "pseudo_products",
    "separability",
    "shared_directions",
    "varies",
    "variants_of",
]

Method: TypeAlias = Literal["mean", "lda"]
_LDA_FOLDS = 8


def plan_of(latents: Latents, rules: Rules) -> stats.ResamplingPlan:
    """The audit's one resampling plan: the same for every analysis that sees as many templates and seeds."""
    n_templates = latents.n_templates
    rng = np.random.default_rng(rules.seed)
    return stats.resampling_plan(n_templates, len(latents.seeds), rules.resamples, rng, rules.permutations)


def variants_of(
    latents: Latents, concept: str, attribute: str, values: Sequence[str], step: int = -1
) -> Float[np.ndarray, "values templates seeds width"]:
    """The latents of all variants of one concept at one kept step.

    Raises:
        ScalexError: the attribute has fewer than two values, or a variant was not captured.
    """
    if len(values) < 2:
        raise ScalexError(f"attribute {attribute!r} has {len(values)} value", "Give it at least two values to compare")
    return np.stack([latents.of(concept, attribute, v, step) for v in values]).astype(np.float64)


def varies(neutral: Float[np.ndarray, "templates seeds width"]) -> bool:
    """Whether seeds differ at all, beyond rounding."""
    return bool(np.ptp(neutral, axis=1).max() > 1e-6 * np.abs(neutral).max())


def others_mean(values: Float[np.ndarray, "templates seeds width"]) -> Float[np.ndarray, "seeds width"]:
    """For every seed, the mean over templates and over all other seeds."""
    by_seed = values.mean(0)
    return np.asarray((by_seed.sum(0) - by_seed) / (len(by_seed) - 1))


def pseudo_products(
    x: Float[np.ndarray, "templates seeds width"], y: Float[np.ndarray, "templates seeds width"]
) -> Float[np.ndarray, "templates seeds"]:
    """Jackknife pseudo-values of the U-statistic mean_{r != s} <x_r, y_s>; their mean is the statistic.

    Every inner product joins two different seeds, so that the noise that x and y share by seed does not enter. Their
    spread over seeds is the uncertainty (Arvesen 1969, Annals of Mathematical Statistics 40: 2076-2100).
    """
    n = x.shape[1]
    touching = _cross(x, y) + _cross(y, x)
    value = touching.mean() / 2
    return np.asarray(value + (n - 1) / (n - 2) * (touching - 2 * value))


def _cross(
    x: Float[np.ndarray, "templates seeds width"], y: Float[np.ndarray, "templates seeds width"]
) -> Float[np.ndarray, "templates seeds"]:
    return np.asarray(np.einsum("tsd,sd->ts", x, others_mean(y)))


def shared_directions(
    gaps: Callable[[], Iterable[Float[np.ndarray, "templates seeds width"]]],
) -> Iterator[Float[np.ndarray, "templates seeds width"]]:
    """An attribute's direction as the other concepts show it, by template and seed: one per concept, in turn.

    Args:
        gaps: gives the concepts' gaps, second variant minus first; called twice, so that not all are held at once.

    Raises:
        ScalexError: fewer than two concepts, so that there is no other one to learn from.
    """
    n, total = 0, np.zeros(1)
    for gap in gaps():
        n, total = n + 1, total + gap
    check_shared(n)
    yield from ((total - gap) / (n - 1) for gap in gaps())


def check_shared(n_concepts: int) -> None:
    """Raises ScalexError where there are fewer than two concepts, and so no other one to learn a direction from."""
    if n_concepts < 2:
        raise ScalexError("a shared direction needs other concepts to learn from", "Audit at least two concepts")


def lda_directions(
    first: Float[np.ndarray, "templates seeds width"],
    second: Float[np.ndarray, "templates seeds width"],
    n_folds: int = _LDA_FOLDS,
) -> Float[np.ndarray, "seeds width"]:
    """Fisher's discriminant with a shrunk covariance, learned for every seed on the other folds."""
    variants, out = np.stack([first, second]).astype(np.float64), np.empty(first.shape[1:])
    for held_out in _held_out(first.shape[1], n_folds):
        _, whitened = _class_means(variants[:, :, ~held_out], "lda")
        out[held_out] = whitened[1] - whitened[0]
    return out


def discriminants(
    samples: Float[np.ndarray, "sets templates seeds width"],
    variants: Float[np.ndarray, "values templates seeds width"],
    method: Method = "mean",
    n_folds: int | None = None,
) -> Float[np.ndarray, "values sets templates seeds"]:
    """How much each sample looks like each value, by classifiers that never saw the sample's seed.

    The discriminant of value v is <x, A m_v> - <m_v, A m_v> / 2, m_v the mean of the other seeds' variants v over
    templates:
    `mean` takes A = 1 (nearest class mean: for two values, the own mean difference cut at its midpoint) and leaves
    one seed out at a time; `lda` takes the inverse of the pooled covariance within variants, shrunk as Ledoit and
    Wolf (2004, Journal of Multivariate Analysis 88: 365-411) do, on 8 folds.
    """
    n_seeds = variants.shape[2]
    origin = variants.mean((0, 1, 2))  # any common origin will do: it keeps the inner products small
    samples, variants = samples - origin, variants - origin
    out = np.empty((len(variants), *samples.shape[:3]))
    for held_out in _held_out(n_seeds, n_folds or (n_seeds if method == "mean" else _LDA_FOLDS)):
        means, weights = _class_means(variants[:, :, ~held_out], method)
        offset = (means * weights).sum(1) / 2
        out[..., held_out] = np.moveaxis(samples[:, :, held_out] @ weights.T - offset, -1, 0)
    return out


def classify(
    samples: Float[np.ndarray, "templates seeds width"],
    variants: Float[np.ndarray, "values templates seeds width"],
    method: Method = "mean",
) -> Int[np.ndarray, "templates seeds"]:
    """The value that each single sample shows, as an index into the variants (see `discriminants`)."""
    return np.asarray(discriminants(samples[None], variants, method)[:, 0].argmax(0))


class Classifier(NamedTuple):
    """Discriminants that were learned once: of value v, <x - origin, weights_v> - offset_v."""

    origin: Float[np.ndarray, "width"]
    weights: Float[np.ndarray, "values width"]
    offset: Float[np.ndarray, "values"]

    def __call__(self, samples: Float[np.ndarray, "*n width"]) -> Float[np.ndarray, "*n values"]:
        """How much each sample looks like each value."""
        return np.asarray((samples - self.origin) @ self.weights.T - self.offset)


def classifier(means: Float[np.ndarray, "values width"], within: Float[np.ndarray, "samples width"]) -> Classifier:
    """Fisher's discriminants between values of these means, learned once: for samples that none of it comes from.

    Args:
        within: what samples differ by that show the same value, which gives the covariance (shrunk, as for
            `discriminants`).
    """
    origin = means.mean(0)
    centred = means - origin
    weights = _solve_shrunk(within, centred)
    return Classifier(origin, weights, (centred * weights).sum(1) / 2)


def separability(
    variants: Float[np.ndarray, "values templates seeds width"], method: Method = "mean"
) -> Float[np.ndarray, "values"]:
    """Per value, the least AUC with which held-out seeds tell its variant from that of any other value."""
    scores = discriminants(variants, variants, method)
    n = len(variants)
    least = np.ones(n)
    for u in range(n):
        for v in range(u):
            contrast = (scores[u] - scores[v]).reshape(n, -1)
            pair = stats.auc(contrast[v], contrast[u])
            least[[u, v]] = np.minimum(least[[u, v]], pair)
    return least


def _held_out(n_seeds: int, n_folds: int) -> Iterator[Bool[np.ndarray, "seeds"]]:
    fold = stats.folds(n_seeds, n_folds)
    return (fold == k for k in range(fold.max() + 1))


def _class_means(
    variants: Float[np.ndarray, "values templates seeds width"], method: Method
) -> tuple[Float[np.ndarray, "values width"], Float[np.ndarray, "values width"]]:
    """Class means m_v and the weights A m_v."""
    means = variants.mean((1, 2))
    if method == "mean":
        return means, means
    within = (variants - means[:, None, None]).reshape(-1, variants.shape[-1])
    return means, _solve_shrunk(within, means)


def _solve_shrunk(
    residuals: Float[np.ndarray, "samples width"], right: Float[np.ndarray, "rows width"]
) -> Float[np.ndarray, "rows width"]:
    """Rows times the inverse of the Ledoit-Wolf covariance of the residuals, up to a common factor.

    Works on the samples' inner products (Woodbury), so it never forms a width x width matrix.
    """
    n, width = residuals.shape
    gram = residuals @ residuals.T
    mean_variance = np.trace(gram) / n / width
    if mean_variance <= 0:
        return right
    spread = (gram**2).sum() / n**2 / width - mean_variance**2
    noise = ((np.diag(gram) ** 2).sum() / n - (gram**2).sum() / n**2) / n / width
    shrinkage = float(np.clip(noise / spread if spread > 0 else 1.0, 0.01, 1.0))
    if shrinkage == 1.0:
        return right
    ridge = n * shrinkage * mean_variance / (1 - shrinkage)
    inner = np.linalg.solve(gram + ridge * np.eye(n), residuals @ right.T)
    return np.asarray(right - (residuals.T @ inner).T)
