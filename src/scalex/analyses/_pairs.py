"""Every pair of a target and a word, block by block: alignment, what similar texts explain of it, and exact q.

With z the mean over templates and seeds of a target's or word's latents, centred and standardised (see `_frame`):

- *alignment* of t and w: r = <z_t, z_w> / sqrt(<z_t, z_t> <z_w, z_w>), every product over different seeds only. So
  noise that prompts of one seed share does not align them, and noise of their own does not hide that they are alike:
  this is Spearman's correction for attenuation (1904, American Journal of Psychology 15: 72-101). Taking the words'
  mean away also keeps single words from being near to everything (Suzuki et al. 2013, EMNLP: 613-623).
- *repeatability* of z_t: <z_t, z_t> over different seeds, over |z_t|^2 with its noise; 1 where seeds agree.
- *text similarity*: cosine of the text encoder's embeddings, averaged over templates, less their mean over all words.
- *surprise* = r - f(text similarity), f what pairs of texts that similar usually have: the regression of alignment on
  text similarity over pairs, weighed by repeatability. It is the larger of the monotone regression (Barlow et al. 1972,
  Statistical Inference under Order Restrictions) and the straight one. By a line alone synonyms would be surprising,
  since most pairs lie where the curve is flat; the curve alone knows nothing of similarities that few pairs have.

No two concepts are exactly unrelated, so "is the surprise zero?" is the wrong question: enough seeds always answer no.
The null is the scatter of the others (Efron 2004, Journal of the American Statistical Association 99: 96-104). For it
cosines keep their noise (a noisy word then scatters no wider than a sure one) and are transformed by artanh, so that
unrelated ones are about normal, however few directions there are (Fisher 1921, Metron 1: 3-32). A pair's residual is
divided by the usual scatter at its text similarity, and held against median and MAD of its target's row: the upper p is
Student's, with 0.37 degrees of freedom a word, since the MAD is as sure as a standard deviation of so many (Rousseeuw
and Croux 1993, Journal of the American Statistical Association 88: 1273-1283).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy import stats as distributions
from sklearn.isotonic import isotonic_regression

from scalex import stats
from scalex.analyses._frame import Side

__all__ = ["LEAST", "Block", "Explained", "Ranked", "artanh", "blocks", "corrected", "explained", "rank"]

LEAST = 8  # words beside a target, so that there is a scatter to speak of
_BIN, _BINS = 50, 512  # least pairs of about one text similarity, and most such bins
_SAMPLE = 1 << 22  # pairs that the regression looks at
_BLOCK = 1 << 21  # pairs held at once: 16 MiB an array
_LIMIT = 1 - 1e-6  # of a cosine, so that it can be transformed
_EFFICIENCY = 0.37  # of the MAD
_SAME = 1 - 1e-6  # text similarity of texts that are the same to the encoder


def artanh(cosine: Float[np.ndarray, "*shape"]) -> Float[np.ndarray, "*shape"]:
    """Fisher's transformation; noise may carry a cosine over different seeds beyond one, which is cut."""
    return np.asarray(np.arctanh(np.clip(cosine, -_LIMIT, _LIMIT)))


class Block(NamedTuple):
    """Some targets against all words. `tested` leaves out pairs that are the same text, and what does not repeat."""

    rows: slice
    raw: Float[np.ndarray, "rows words"]
    shared: Float[np.ndarray, "rows words"]
    text: Float[np.ndarray, "rows words"]
    tested: Bool[np.ndarray, "rows words"]


def blocks(targets: Side, words: Side, every: int = 1) -> Iterator[Block]:
    """Blocks of whole rows that fit in memory, of every so-many-th target."""
    chosen = targets.take(slice(None, None, every)) if every > 1 else targets
    own = {name.casefold() for name in chosen.names}
    place = {folded: j for j, name in enumerate(words.names) if (folded := name.casefold()) in own}
    step = max(1, _BLOCK // len(words.names))
    for start in range(0, len(chosen.names), step):
        rows = slice(start, start + step)
        some = chosen.take(rows)
        text = some.likeness(words)
        tested = (text < _SAME) & some.known[:, None] & words.known
        for i, name in enumerate(some.names):
            if name.casefold() in place:
                tested[i, place[name.casefold()]] = False
        tested[tested.sum(1) < LEAST] = False
        yield Block(rows, some.raw(words), some.shared(words), text, tested)


@dataclass(frozen=True)
class Explained:
    """What text similarity explains: expected alignment, and the usual scatter around it of transformed cosines.

    Attributes:
        similarity: the mean text similarity of each bin of pairs, rising.
        curve: the monotone regression there. line: the straight one's intercept and slope.
        scatter: as a standard deviation, in each bin. It may grow with similarity and never shrinks.
    """

    similarity: Float[np.ndarray, "bins"]
    curve: Float[np.ndarray, "bins"]
    line: Float[np.ndarray, "2"]
    scatter: Float[np.ndarray, "bins"]

    def alignment(self, text: Float[np.ndarray, "*shape"]) -> Float[np.ndarray, "*shape"]:
        """The alignment that pairs of this text similarity usually have."""
        straight = self.line[0] + self.line[1] * text
        return np.asarray(np.clip(np.interp(text, self.similarity, self.curve), straight, 1))

    def usual(self, text: Float[np.ndarray, "*shape"]) -> Float[np.ndarray, "*shape"]:
        """How far pairs of this text similarity usually lie from that."""
        return np.asarray(np.interp(text, self.similarity, self.scatter))

    def standardised(self, block: Block) -> Float[np.ndarray, "rows words"]:
        """Residuals over their usual scatter; NaN for what is not tested."""
        beyond = artanh(block.raw) - artanh(block.shared * self.alignment(block.text))
        usual = self.usual(block.text)
        held = block.tested & (usual > 0)
        return np.asarray(np.divide(beyond, usual, out=np.full(beyond.shape, np.nan), where=held))


def explained(targets: Side, words: Side) -> Explained | None:
    """The regression of alignment on text similarity, over all pairs or those of evenly spaced targets.

    None where no pair can be tested.
    """
    every = -(-len(targets.names) * len(words.names) // _SAMPLE)
    parts = [
        (block.text[block.tested], block.raw[block.tested], block.shared[block.tested])
        for block in blocks(targets, words, every)
    ]
    text, raw, shared = (np.concatenate(columns) for columns in zip(*parts))
    if not len(text):
        return None
    order = np.argsort(text, kind="stable")
    size = max(_BIN, -(-len(order) // _BINS))
    starts = np.arange(0, max(1, len(order) - size + 1), size)  # the last bin holds the rest, too
    counts = np.diff([*starts, len(order)])
    similarity, above, weight = (np.add.reduceat(x[order], starts) for x in (text, shared * raw, shared**2))
    curve = isotonic_regression(above / weight, sample_weight=weight)
    line = np.linalg.lstsq(np.stack([shared, shared * text], axis=1), raw)[0]
    fit = Explained(similarity / counts, np.asarray(curve), line if line[1] > 0 else np.array([-1.0, 0.0]), curve)
    beyond = np.abs(artanh(raw) - artanh(shared * fit.alignment(text)))
    scatter = np.sqrt(np.pi / 2) * np.add.reduceat(beyond[order], starts) / counts  # a normal's sd, from its mean |x|
    return replace(fit, scatter=np.asarray(isotonic_regression(scatter, sample_weight=counts.astype(np.float64))))


class Ranked(NamedTuple):
    """The words that stand out most for each target. T targets, the best `most` words of each, best first.

    Attributes:
        words: their indices, -1 where there are fewer. shape (T, most)
        z: how far they stand out. shape (T, most)
        raw: cosines with their noise. shape (T, most)
        scale: z moves by one where the transformed cosine moves by this. shape (T, most)
        df: degrees of freedom of z, by target. shape (T,)
        p: upper p. shape (T, most)
        q: corrected over all pairs, by `corrected`. shape (T, most)
        tests: how many pairs were tested. beyond: how many of them have q <= alpha.
        limit: the largest p of these; 0 where there is none.
    """

    words: Int[np.ndarray, "targets most"]
    z: Float[np.ndarray, "targets most"]
    raw: Float[np.ndarray, "targets most"]
    scale: Float[np.ndarray, "targets most"]
    df: Float[np.ndarray, "targets"]
    p: Float[np.ndarray, "targets most"]
    q: Float[np.ndarray, "targets most"]
    tests: int
    beyond: int
    limit: float


def rank(targets: Side, words: Side, usual: Explained, *, most: int, alpha: float) -> Ranked:
    """Tests every pair, a block of targets at a time, and keeps each target's best words.

    Of all other pairs only the p up to a cutoff are kept: all of them while there are few, up to alpha beyond that.
    """
    n, wide = len(targets.names), min(most, len(words.names))
    best = np.full((n, wide), -1)
    z, raw, scale = (np.full((n, wide), np.nan) for _ in range(3))
    df, tests, kept = np.ones(n), 0, [np.empty(0)]
    cutoff = 1.0 if n * len(words.names) <= _SAMPLE else alpha
    for block in blocks(targets, words):
        own, rows = _within_rows(usual.standardised(block)), block.rows
        top = _largest(own.z, wide)
        z[rows], raw[rows], text = (np.take_along_axis(x, top, 1) for x in (own.z, block.raw, block.text))
        best[rows] = np.where(np.isnan(z[rows]), -1, top)
        scale[rows] = own.scale[:, None] * usual.usual(text)
        df[rows] = own.df
        tests += int(np.isfinite(own.z).sum())
        kept.append(_upper(own, cutoff))
    p = np.maximum(distributions.t.sf(z, df[:, None]), np.finfo(float).tiny)
    held = np.concatenate(kept)
    q_held = corrected(held, held, tests)
    below = held[q_held <= alpha]
    q = corrected(held, p, tests)
    return Ranked(best, z, raw, scale, df, p, q, tests, len(below), float(below.max(initial=0.0)))


def _largest(z: Float[np.ndarray, "rows words"], most: int) -> Int[np.ndarray, "rows most"]:
    """The places of the largest of each row, largest first; of equal ones the first. NaN come last."""
    filled = np.where(np.isnan(z), -np.inf, z)
    top = np.sort(np.argpartition(filled, -most, axis=1)[:, -most:], axis=1)
    return np.take_along_axis(top, np.argsort(-np.take_along_axis(filled, top, 1), axis=1, kind="stable"), 1)


class _Rows(NamedTuple):
    z: Float[np.ndarray, "rows words"]
    scale: Float[np.ndarray, "rows"]
    df: Float[np.ndarray, "rows"]


def _within_rows(residuals: Float[np.ndarray, "rows words"]) -> _Rows:
    """Residuals less the median of their row, over its MAD as a standard deviation."""
    held = np.isfinite(residuals).sum(1)
    full = held > 0
    z, scale, df = np.full(residuals.shape, np.nan), np.full(len(held), np.nan), np.ones(len(held))
    if full.any():
        apart = residuals[full] - np.nanmedian(residuals[full], axis=1, keepdims=True)
        scale[full] = np.nanmedian(np.abs(apart), axis=1) * 1.4826
        df[full] = np.maximum(1, _EFFICIENCY * (held[full] - 1))
        spread = np.where(scale[full] > 0, scale[full], np.nan)
        z[full] = apart / spread[:, None]
    return _Rows(z, scale, df)


def _upper(rows: _Rows, cutoff: float) -> Float[np.ndarray, "kept"]:
    """The upper p up to the cutoff. (Student's tail is slow: it is only taken where it may be small enough.)"""
    df = np.broadcast_to(rows.df[:, None], rows.z.shape)
    some = rows.z > distributions.t.isf(cutoff, rows.df)[:, None] if cutoff < 1 else np.isfinite(rows.z)
    p = np.maximum(distributions.t.sf(rows.z[some], df[some]), np.finfo(float).tiny)
    return np.asarray(p[p <= cutoff])


def corrected(
    kept: Float[np.ndarray, "kept"], asked: Float[np.ndarray, "*shape"], tests: int
) -> Float[np.ndarray, "*shape"]:
    """Benjamini-Hochberg over all tests, of which only the p up to a cutoff were kept.

    Exact wherever it is at most that cutoff, c. With p_(j) the j-th smallest of m, q_(i) is the least m p_(j) / j over
    j >= i. For a p that was not kept m p_(j) / j > c m / j >= c. So whether or not these are looked at, a least value
    of at most c is the same. Where it is above c it is an upper bound, and 1 for a p that was not kept itself.

    Args:
        kept: every p of the family that is at most c. asked: those whose q is wanted; each is among the kept, or above
            c. NaN stays NaN.
        tests: how many the family has.
    """
    order = np.sort(kept)
    q = np.full(asked.shape, np.nan)
    known = np.isfinite(asked)
    if len(order):
        of_kept = np.minimum(1.0, stats.benjamini_hochberg(order) * (tests / len(order)))
        place = np.searchsorted(order, asked[known])
        q[known] = np.append(of_kept, 1.0)[place]
    else:
        q[known] = 1.0
    return q
