"""Every pair of a target and a word, block by block: alignment, what similar texts explain of it, and exact q.

Latents are centred on the mean over all words of their template and seed, and standardised: x = (S + m I)^(-1/2) (h -
centre), S the covariance of the words (as in Friedman's regularised discriminants: 1989, Journal of the American
Statistical Association 84: 165-175). Along a few directions everything varies, and they would decide all cosines. m is
the words' mean variance, or more, so that the directions that count (the sum of v / (v + m) over variances v) are no
more than a quarter of the words. With z the mean of x over templates and seeds:

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

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Float32, Int
from scipy import optimize
from scipy import stats as distributions
from sklearn.isotonic import isotonic_regression

from scalex import stats
from scalex.records import Latents, Role

__all__ = [
    "LEAST",
    "REPEATS",
    "Block",
    "Explained",
    "Frame",
    "Ranked",
    "Side",
    "artanh",
    "blocks",
    "corrected",
    "explained",
    "frame_of",
    "rank",
    "sides",
]

LEAST = 8  # words beside a target, so that there is a scatter to speak of
REPEATS = 0.25  # repeatability below which there is more noise than anything to align
_BIN = 50  # pairs of about one text similarity
_SAMPLE = 1 << 22  # pairs that the regression looks at
_BLOCK = 1 << 21  # pairs held at once: 16 MiB an array
_WORK = 1e12  # multiplications up to which every seed is a group of its own
_GROUPS = 4  # of seeds, beyond that
_LEARNED = 4096  # words that the covariance is learned from
_COUNTED = 0.25  # directions that count, a word: with more of them the words would explain each other away
_LIMIT = 1 - 1e-6  # of a cosine, so that it can be transformed
_EFFICIENCY = 0.37  # of the MAD
_SAME = 1 - 1e-6  # text similarity of texts that are the same to the encoder


@dataclass(frozen=True)
class Side:
    """Targets or words. n of them, in J groups of seeds.

    Attributes:
        groups: means of standardised latents over templates and a group's seeds. shape (n, J, width)
        size: root of |z|^2, noise included. shape (n,)
        repeat: repeatability, at least 0. shape (n,)
        text: centred text embeddings of length one. shape (n, dim)
    """

    names: tuple[str, ...]
    groups: Float32[np.ndarray, "n groups width"]
    size: Float[np.ndarray, "n"]
    repeat: Float[np.ndarray, "n"]
    text: Float32[np.ndarray, "n dim"]

    def take(self, rows: slice | Sequence[int] | Int[np.ndarray, "rows"]) -> Side:
        """Some of them."""
        at = np.arange(len(self.names))[rows]
        return Side(tuple(self.names[i] for i in at), self.groups[at], self.size[at], self.repeat[at], self.text[at])

    @property
    def known(self) -> Bool[np.ndarray, "n"]:
        """Which of them repeat well enough between seeds to be aligned with anything."""
        return self.repeat >= REPEATS

    def raw(self, other: Side) -> Float[np.ndarray, "n m"]:
        """Cosines with all of another side: products over different groups of seeds, lengths with their noise."""
        n_groups = self.groups.shape[1]
        total = self.groups.sum(1) @ other.groups.sum(1).T
        for group in range(n_groups):
            total -= self.groups[:, group] @ other.groups[:, group].T
        scale = n_groups * (n_groups - 1) * self.size[:, None] * other.size
        return np.divide(total, scale, out=np.full(total.shape, np.nan), where=scale > 0)

    def shared(self, other: Side) -> Float[np.ndarray, "n m"]:
        """What noise leaves of each cosine: the root of both repeatabilities."""
        return np.sqrt(self.repeat[:, None] * other.repeat)

    def alignment(self, other: Side) -> Float[np.ndarray, "n m"]:
        """Cosines corrected for attenuation; NaN where either side does not repeat."""
        known = self.known[:, None] & other.known
        return np.divide(self.raw(other), self.shared(other), out=np.full(known.shape, np.nan), where=known)


@dataclass(frozen=True)
class Frame:
    """Where latents and texts are looked at from: the words' mean, and the directions along which words vary most.

    Attributes:
        centre: mean latent over all words. text: mean text embedding over all words.
        axes: orthonormal, one a column. damped: how much of a component along each is taken away.
    """

    centre: Float[np.ndarray, "templates seeds width"]
    text: Float[np.ndarray, "dim"]
    axes: Float[np.ndarray, "width axes"]
    damped: Float[np.ndarray, "axes"]

    def latents(self, latents: Latents, name: str, role: Role) -> Float[np.ndarray, "templates seeds width"]:
        """Standardised latents of one target or word. What is only rounding is zero."""
        values = latents.of(name, role=role)
        apart = np.where(np.abs(values - self.centre) > 1e-6 * np.abs(values).max(), values - self.centre, 0)
        return np.asarray(apart - (apart @ self.axes * self.damped) @ self.axes.T)


def frame_of(latents: Latents, words: Role) -> Frame:
    """The frame of the words in that role. The covariance is that of up to 4,096 evenly spaced words.

    Raises:
        ScalexError: no text embeddings were kept.
    """
    listed = latents.named(words)
    centre = np.mean([latents.of(name, role=words) for name in listed], axis=0, dtype=np.float64)
    text = np.mean([latents.embedding(name, role=words).mean(0) for name in listed], axis=0, dtype=np.float64)
    some = listed[:: -(-len(listed) // _LEARNED)]
    means = np.stack([latents.of(name, role=words).mean((0, 1)) for name in some]) - centre.mean((0, 1))
    _, root, axes = np.linalg.svd(means, full_matrices=False)
    variance = root**2 / len(some)
    ridge = _ridge(variance, variance.sum() / means.shape[1], len(some) * _COUNTED)
    damped = 1 - np.sqrt(ridge / (variance + ridge)) if ridge > 0 else np.zeros_like(variance)
    return Frame(centre, text, axes.T, damped)


def _ridge(variance: Float[np.ndarray, "axes"], least: float, most: float) -> float:
    """The ridge from `least` up with which at most so many directions count: the sum of v / (v + ridge)."""

    def over(log: float) -> float:
        return float((variance / (variance + math.exp(log))).sum()) - most

    if least <= 0 or over(math.log(least)) <= 0:
        return least
    return math.exp(optimize.brentq(over, math.log(least), math.log(variance.sum() / most)))


def sides(latents: Latents, frame: Frame, targets: Role, words: Role) -> tuple[Side, Side]:
    """Targets and words.

    Raises:
        ScalexError: no text embeddings were kept.
    """
    n_seeds, width = len(latents.seeds), latents.values.shape[-1]
    cheap = len(latents.named(targets)) * len(latents.named(words)) * (n_seeds + 1) * width <= _WORK
    fold = stats.folds(n_seeds, n_seeds if cheap else _GROUPS)
    mean_of = np.eye(fold.max() + 1)[fold].T
    mean_of /= mean_of.sum(1, keepdims=True)
    return _side(latents, targets, frame, mean_of), _side(latents, words, frame, mean_of)


def _side(latents: Latents, role: Role, frame: Frame, mean_of: Float[np.ndarray, "groups seeds"]) -> Side:
    names, n_groups = latents.named(role), len(mean_of)
    groups = np.empty((len(names), n_groups, frame.centre.shape[-1]), np.float32)
    text = np.empty((len(names), len(frame.text)), np.float32)
    size, own = np.empty(len(names)), np.empty(len(names))
    for i, name in enumerate(names):
        apart = mean_of @ frame.latents(latents, name, role).mean(0)
        groups[i] = apart
        size[i] = np.linalg.norm(apart.mean(0))
        own[i] = (apart**2).sum() / n_groups**2
        text[i] = latents.embedding(name, role=role).mean(0) - frame.text
    repeat = np.divide(size**2 - own, size**2, out=np.zeros(len(names)), where=size > 0) * n_groups / (n_groups - 1)
    length = np.linalg.norm(text, axis=1, keepdims=True)
    text = np.divide(text, length, out=np.zeros_like(text), where=length > 0)
    return Side(names, groups, size, np.clip(repeat, 0, 1), text)


def artanh(cosine: Float[np.ndarray, "*shape"]) -> Float[np.ndarray, "*shape"]:
    """Fisher's transformation; noise may carry a cosine over different seeds beyond one, which is cut."""
    return np.arctanh(np.clip(cosine, -_LIMIT, _LIMIT))


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
    place = {name.casefold(): j for j, name in enumerate(words.names)}
    step = max(1, _BLOCK // len(words.names))
    for start in range(0, len(chosen.names), step):
        rows = slice(start, start + step)
        some = chosen.take(rows)
        text = np.asarray(some.text @ words.text.T, dtype=np.float64)
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
        return np.divide(beyond, usual, out=np.full(beyond.shape, np.nan), where=held)


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
    starts = np.arange(0, max(1, len(order) - _BIN + 1), _BIN)  # the last bin holds the rest, too
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
