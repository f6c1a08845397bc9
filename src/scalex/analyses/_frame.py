"""Latents of targets and words as associations see them: centred, standardised, and by groups of seeds.

Latents are centred on the mean over all words of their template and seed, and standardised: x = (S + m I)^(-1/2) (h -
centre), S the covariance of the words (as in Friedman's regularised discriminants: 1989, Journal of the American
Statistical Association 84: 165-175). Along a few directions everything varies, and they would decide all cosines. m is
the words' mean variance, or more, so that the directions that count (the sum of v / (v + m) over variances v) are no
more than a quarter of the words. From targets what they have in common is taken away, such as being persons: a word
stands out for a target, not for all. It is their mean, shrunk by the part of its squared length that products of
different targets hold: with one target, or targets that share nothing, that is nothing (shrinkage as James and Stein's,
1961, Proceedings of the Fourth Berkeley Symposium 1: 361-379).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
from jaxtyping import Bool, Float, Float32, Int
from scipy import optimize

from scalex import scratch, stats
from scalex.records import Latents, Role

__all__ = ["REPEATS", "TARGETS", "Frame", "Side", "frame_of", "sides"]

TARGETS: Role = "concept"
REPEATS = 0.25  # repeatability below which there is more noise than anything to align
_WORK = 1e12  # multiplications up to which every seed is a group of its own
_GROUPS = 4  # of seeds, beyond that
_LEARNED = 4096  # words that the covariance is learned from
_HELD = 1 << 20  # numbers of latents held at once: 8 MiB
_COUNTED = 0.25  # directions that count, a word: with more of them the words would explain each other away


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
        return np.asarray(self.repeat >= REPEATS)

    def raw(self, other: Side) -> Float[np.ndarray, "n m"]:
        """Cosines with all of another side: products over different groups of seeds, lengths with their noise."""
        n_groups, own = self.groups.shape[1], self.groups.sum(1)
        found = np.full((len(self.names), len(other.names)), np.nan)
        for rows in scratch.blocks(other.groups):
            theirs = other.groups[rows]
            total = own @ theirs.sum(1).T
            for group in range(n_groups):
                total -= self.groups[:, group] @ theirs[:, group].T
            scale = n_groups * (n_groups - 1) * self.size[:, None] * other.size[rows]
            found[:, rows] = np.divide(total, scale, out=np.full(total.shape, np.nan), where=scale > 0)
        return found

    def likeness(self, other: Side) -> Float[np.ndarray, "n m"]:
        """Cosines of the texts with all of another side."""
        found = np.empty((len(self.names), len(other.names)))
        for rows in scratch.blocks(other.text):
            found[:, rows] = self.text @ other.text[rows].T
        return found

    def shared(self, other: Side) -> Float[np.ndarray, "n m"]:
        """What noise leaves of each cosine: the root of both repeatabilities."""
        return np.asarray(np.sqrt(self.repeat[:, None] * other.repeat))

    def alignment(self, other: Side) -> Float[np.ndarray, "n m"]:
        """Cosines corrected for attenuation; NaN where either side does not repeat."""
        known = self.known[:, None] & other.known
        out = np.full(known.shape, np.nan)
        return np.asarray(np.divide(self.raw(other), self.shared(other), out=out, where=known))


@dataclass(frozen=True)
class Frame:
    """Where latents and texts are looked at from: the words' mean, and the directions along which words vary most.

    Attributes:
        centre: mean latent over all words. text: mean text embedding over all words.
        axes: orthonormal, one a column. damped: how much of a component along each is taken away.
        shared: what standardised latents of targets have in common, to be taken away from them.
        shared_text: the same of their texts.
    """

    centre: Float[np.ndarray, "templates seeds width"]
    text: Float[np.ndarray, "dim"]
    axes: Float[np.ndarray, "width axes"]
    damped: Float[np.ndarray, "axes"]
    shared: Float[np.ndarray, "templates seeds width"]
    shared_text: Float[np.ndarray, "dim"]

    def latents(self, latents: Latents, name: str, role: Role) -> Float[np.ndarray, "templates seeds width"]:
        """Standardised latents of one target or word. What is only rounding is zero."""
        apart = _less(latents.of(name, role=role), self.centre)
        seen = apart - (apart @ self.axes * self.damped) @ self.axes.T
        return np.asarray(seen - self.shared if role == TARGETS else seen)

    def texts(self, latents: Latents, name: str, role: Role) -> Float[np.ndarray, "dim"]:
        """The centred text embedding of one target or word."""
        apart = _less(latents.embedding(name, role=role).mean(0), self.text)
        return apart - self.shared_text if role == TARGETS else apart


def _less(values: Float[np.ndarray, "*shape"], centre: Float[np.ndarray, "*shape"]) -> Float[np.ndarray, "*shape"]:
    """The difference; what of it is only rounding is zero, since lengths are divided out later."""
    apart = values - centre
    return np.asarray(np.where(np.abs(apart) > 1e-6 * np.abs(values).max(), apart, 0), dtype=np.float64)


def frame_of(latents: Latents, words: Role) -> Frame:
    """The frame of the words in that role. The covariance is that of up to 4,096 evenly spaced words.

    Raises:
        ScalexError: no text embeddings were kept.
    """
    listed = latents.named(words)
    first = listed[0]
    centre = np.zeros(latents.of(first, role=words).shape)
    text = np.zeros(latents.embedding(first, role=words).shape[1])
    for some in _apiece(listed, latents):
        for name in some:
            centre += latents.of(name, role=words) / len(listed)
            text += latents.embedding(name, role=words).mean(0) / len(listed)
    learned = listed[:: -(-len(listed) // _LEARNED)]
    rows = [latents.of(name, role=words).mean((0, 1)) for some in _apiece(learned, latents) for name in some]
    means = np.stack(rows) - centre.mean((0, 1))
    variance, axes = _spread(means)
    ridge = _ridge(variance, variance.sum() / means.shape[1], len(learned) * _COUNTED)
    damped = 1 - np.sqrt(ridge / (variance + ridge)) if ridge > 0 else np.zeros_like(variance)
    frame = Frame(centre, text, axes, damped, np.zeros_like(centre), np.zeros_like(text))
    return frame if words == TARGETS else _less_shared(frame, latents)


def _spread(
    means: Float[np.ndarray, "words width"],
) -> tuple[Float[np.ndarray, "axes"], Float[np.ndarray, "width axes"]]:
    """The variances of centred words along their principal axes, and these axes, one a column."""
    if len(means) <= means.shape[1]:
        _, root, axes = np.linalg.svd(means, full_matrices=False)
        return root**2 / len(means), axes.T
    variance, axes = np.linalg.eigh(means.T @ means / len(means))  # as sure, and faster, where there are more of them
    return np.clip(variance[::-1], 0, None), np.ascontiguousarray(axes[:, ::-1])


def _less_shared(frame: Frame, latents: Latents) -> Frame:
    """The frame that takes away from targets what they have in common."""
    names = latents.named(TARGETS)
    seen, said = np.zeros_like(frame.centre), np.zeros_like(frame.text)
    alone, alone_text = 0.0, 0.0
    for name in names:
        one, text = frame.latents(latents, name, TARGETS), frame.texts(latents, name, TARGETS)
        seen, alone = seen + one / len(names), alone + float((one.mean((0, 1)) ** 2).sum()) / len(names) ** 2
        said, alone_text = said + text / len(names), alone_text + float((text**2).sum()) / len(names) ** 2
    part = _beyond_chance(float((seen.mean((0, 1)) ** 2).sum()), alone, len(names))
    part_text = _beyond_chance(float((said**2).sum()), alone_text, len(names))
    return replace(frame, shared=part * seen, shared_text=part_text * said)


def _beyond_chance(length: float, alone: float, n: int) -> float:
    """The part of a mean's squared length that products of different terms hold; `alone` is what they add by
    themselves. 0 where there is one term."""
    return max(0.0, (length - alone) * n / (n - 1) / length) if n > 1 and length > 0 else 0.0


def _ridge(variance: Float[np.ndarray, "axes"], least: float, most: float) -> float:
    """The ridge from `least` up with which at most so many directions count: the sum of v / (v + ridge)."""

    def over(log: float) -> float:
        return float((variance / (variance + math.exp(log))).sum()) - most

    if least <= 0 or over(math.log(least)) <= 0:
        return least
    return math.exp(optimize.brentq(over, math.log(least), math.log(variance.sum() / most)))


def sides(latents: Latents, frame: Frame, words: Role) -> tuple[Side, Side, Side]:
    """Targets, words, and what targets have in common: one side of one.

    Raises:
        ScalexError: no text embeddings were kept.
    """
    n_seeds, width = len(latents.seeds), latents.values.shape[-1]
    cheap = len(latents.named(TARGETS)) * len(latents.named(words)) * (n_seeds + 1) * width <= _WORK
    fold = stats.folds(n_seeds, n_seeds if cheap else _GROUPS)
    mean_of = np.eye(fold.max() + 1)[fold].T
    mean_of /= mean_of.sum(1, keepdims=True)
    made = []
    for role in (TARGETS, words):
        names = latents.named(role)
        rows = (_rows(frame, latents, some, role, mean_of) for some in _apiece(names, latents))
        made.append(_side(names, rows, len(mean_of)))
    common = (mean_of @ frame.shared.mean(0))[None], frame.shared_text[None]
    return made[0], made[1], _side(("",), [common], len(mean_of))


Rows: TypeAlias = tuple[Float[np.ndarray, "rows groups width"], Float[np.ndarray, "rows dim"]]


def _apiece(names: tuple[str, ...], latents: Latents) -> Iterator[tuple[str, ...]]:
    """The names, some at a time; what was held of those before is let go."""
    step = max(1, _HELD // (latents.n_templates * latents.values[0, :, 0].size))
    for start in range(0, len(names), step):
        yield names[start : start + step]
        scratch.let_go(latents.values)


def _rows(
    frame: Frame, latents: Latents, names: Sequence[str], role: Role, mean_of: Float[np.ndarray, "groups seeds"]
) -> Rows:
    """Means of standardised latents by group of seeds, and centred texts. (Means first: standardising is linear.)"""
    apart = np.stack([mean_of @ _less(latents.of(name, role=role), frame.centre).mean(0) for name in names])
    flat = apart.reshape(-1, apart.shape[2])
    flat -= (flat @ frame.axes * frame.damped) @ frame.axes.T
    if role == TARGETS:
        apart -= mean_of @ frame.shared.mean(0)
    return apart, np.stack([frame.texts(latents, name, role) for name in names])


def _side(names: tuple[str, ...], parts: Iterable[Rows], n_groups: int) -> Side:
    """A side of these rows, of which each part is let go before the next is taken."""
    size, own, at = np.empty(len(names)), np.empty(len(names)), 0
    groups: Float32[np.ndarray, "n groups width"] = np.empty((0, 0, 0), np.float32)
    texts: Float32[np.ndarray, "n dim"] = np.empty((0, 0), np.float32)
    for apart, said in parts:
        if not at:
            groups = scratch.array((len(names), *apart.shape[1:]), np.float32)
            texts = scratch.array((len(names), said.shape[1]), np.float32)
        rows = slice(at, at + len(apart))
        groups[rows], at = apart, rows.stop
        size[rows] = np.linalg.norm(apart.mean(1), axis=1)
        own[rows] = (apart**2).sum((1, 2)) / n_groups**2
        length = np.linalg.norm(said.astype(np.float32), axis=1, keepdims=True)
        texts[rows] = np.divide(said, length, out=np.zeros_like(said), where=length > 0)
        scratch.let_go(groups)
        scratch.let_go(texts)
    repeat = np.divide(size**2 - own, size**2, out=np.zeros(len(names)), where=size > 0) * n_groups / (n_groups - 1)
    return Side(names, groups, size, np.clip(repeat, 0, 1), texts)
