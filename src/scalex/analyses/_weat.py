"""WEAT over groups of words: do the words of a group go further to one side than all other words do?

Caliskan, Bryson and Narayanan (2017, Science 356: 183-186) take two sets of words, X and Y, and a number s of each
word that says how far it goes with one identity rather than another. Their effect size is d = (mean of s over X - mean
of s over Y) / standard deviation of s over both, and their test divides the words anew in all ways (two-sided here).
Ours takes the pull for s, a group of a built-in vocabulary for X, and all other descriptors for Y: groups that were
made before anything was measured, so that the test is not of words picked for their result.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float
from scipy.stats import permutation_test

from scalex import stats, vocabularies
from scalex.records import Rules
from scalex.wording import fill

__all__ = ["Weat", "groups_of", "weat", "weat_scores"]

_LEAST = 4  # words on either side: fewer have too few divisions to be sure of any


class Weat(NamedTuple):
    """The effect size with its interval over seeds, and the p over divisions of the words."""

    estimate: float
    low: float
    high: float
    p: float


def groups_of(concepts: Sequence[str]) -> dict[str, frozenset[str]]:
    """The concepts by group, "adjectives: warmth", of the built-in vocabulary that holds most of them."""
    known = _places()
    found = [(vocabulary, group, c) for c in concepts for vocabulary, group in known.get(c, ())]
    if not found:
        return {}
    best = Counter(vocabulary for vocabulary, *_ in found).most_common(1)[0][0]
    members: dict[str, list[str]] = {}
    for vocabulary, group, concept in found:
        if vocabulary == best:
            members.setdefault(f"{vocabulary}: {group}", []).append(concept)
    return {group: frozenset(words) for group, words in members.items()}


@cache
def _places() -> dict[str, list[tuple[str, str]]]:
    """The vocabularies and groups of every concept that they make."""
    places: dict[str, list[tuple[str, str]]] = {}
    for name in vocabularies.available():
        vocabulary = vocabularies.load_vocabulary(name)
        for group, words in vocabulary.groups.items():
            for word in words:
                places.setdefault(fill(vocabulary.frame, word), []).append((name, group))
    return places


def weat(
    scores: Float[np.ndarray, "words templates seeds"],
    inside: Bool[np.ndarray, "words"],
    plan: stats.ResamplingPlan,
    rules: Rules,
) -> Weat | None:
    """WEAT's d of the words inside against those outside, from the scores behind their pulls.

    Returns:
        None where either side has fewer than four words, or all words pull alike.
    """
    by_seed = weat_scores(scores, inside)
    if by_seed is None:
        return None
    low, high = stats.bootstrap_interval(plan, by_seed, rules.level)
    return Weat(float(by_seed.mean()), low, high, _divisions_p(scores.mean((1, 2)), inside, rules))


def weat_scores(
    scores: Float[np.ndarray, "words templates seeds"], inside: Bool[np.ndarray, "words"]
) -> Float[np.ndarray, "templates seeds"] | None:
    """Scores whose mean is WEAT's d, and whose spread over seeds is its uncertainty; None as for `weat`."""
    if min(inside.sum(), (~inside).sum()) < _LEAST:
        return None
    pulls = scores.mean((1, 2))
    spread = float(pulls.std(ddof=1))
    if spread <= 1e-9 * np.abs(scores).max():
        return None
    by_seed = scores[inside].mean(0) - scores[~inside].mean(0)
    d = float(by_seed.mean()) / spread
    # The spread moves with the seeds too: its gradient in the pulls is their offset from the mean.
    slope = (pulls - pulls.mean()) / ((len(pulls) - 1) * spread)
    influence = by_seed - d * np.einsum("w,wts->ts", slope, scores)
    return np.asarray(d + (influence - influence.mean()) / spread)


def _divisions_p(pulls: Float[np.ndarray, "words"], inside: Bool[np.ndarray, "words"], rules: Rules) -> float:
    """Exact where there are few divisions, else by as many random ones as there are permutations."""
    tested = permutation_test(
        (pulls[inside], pulls[~inside]),
        lambda x, y, axis: x.mean(axis) - y.mean(axis),
        vectorized=True,
        n_resamples=rules.permutations,
        rng=np.random.default_rng(rules.seed),
    )
    return float(tested.pvalue)
