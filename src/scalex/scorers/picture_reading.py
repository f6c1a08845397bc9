"""The model's own picture reading as a scorer: pictures -> autoencoder -> one stopped forward without words -> value.

What a picture shows is told as the analysis `rates` tells it: by Fisher's discriminant between the variants of the
concept, learned from the latents of an audit. It needs no other model, and nobody's labels but the variants' own
prompts. Only the covariance is that of all concepts: pushed pictures may differ in ways that the concept's own never
did. The pictures must be of other seeds than those latents: name seeds that they share, and they are not learned from.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Float, UInt8

from scalex import directions, stats
from scalex.analyses.rates import METHOD
from scalex.capture import Plan, Sample, capture_pictures, picture_size
from scalex.directions import Classifier
from scalex.errors import ScalexError
from scalex.models import Model
from scalex.records import Latents, Reading, Rules
from scalex.scorers import AttributeScorer, Readouts
from scalex.scorers._calling import Remembered, one_hot
from scalex.stats import MIN_SEEDS

__all__ = ["ConceptReading", "PictureReader", "PictureReading", "picture_readouts"]

_NOISE = (6_000_000,)  # seeds of the reading noise: far from those of an audit
_SAMPLES = 2048  # behind a covariance


class PictureReader:
    """Reads pictures at one model's probe; the last ones are remembered.

    Args:
        plan: of the audit whose latents the pictures are held against. noise: seeds of the reading noise; the latent of
            a picture is the mean over them.
    """

    def __init__(self, model: Model, plan: Plan, noise: Sequence[int] = _NOISE) -> None:
        self._model, self._plan, self._noise = model, replace(plan, readings=("picture",), moments=0), tuple(noise)
        self._size: tuple[int, int] | None = None
        self._last = Remembered(self._read)

    def read(self, pictures: UInt8[np.ndarray, "n height width 3"]) -> Float[np.ndarray, "n dim"]:
        """The latent of each picture.

        Raises:
            ScalexError: pictures are not of the model's size, or as capturing raises.
        """
        return self._last.read(pictures)

    def _read(self, pictures: UInt8[np.ndarray, "n height width 3"]) -> Float[np.ndarray, "n dim"]:
        self._size = self._size or picture_size(self._model)
        if pictures.shape[1:3] != self._size:
            given, own = (f"{height} x {width}" for height, width in (pictures.shape[1:3], self._size))
            wrong = f"pictures are {given}, the model's are {own}"
            raise ScalexError(wrong, "Scale them to the model's size")
        found: dict[Sample, Float[np.ndarray, "dim"]] = {}

        def sink(_: Reading, samples: list[Sample], values: Float[np.ndarray, "n 1 dim"]) -> None:
            found.update(zip(samples, values[:, 0].astype(np.float64)))

        keyed = {str(i): picture for i, picture in enumerate(pictures)}
        asked = [(key, seed) for key in keyed for seed in self._noise]
        capture_pictures(self._model, keyed, asked, self._plan, sink)
        return np.array([np.mean([found[key, seed] for seed in self._noise], axis=0) for key in keyed])


@dataclass(frozen=True, eq=False)
class PictureReading:
    """Which value of an attribute pictures of one concept show.

    Attributes:
        separability: the least AUC with which held-out seeds tell one value's variant from another's.
    """

    reader: PictureReader
    classifier: Classifier
    attribute: str
    values: tuple[str, ...]
    separability: float
    name: str = "picture reading"

    def score(self, pictures: UInt8[np.ndarray, "n height width 3"]) -> Float[np.ndarray, "n values"]:
        """Ones and zeros."""
        return one_hot(self.classifier(self.reader.read(pictures)).argmax(1), len(self.values))


@dataclass(frozen=True, eq=False)
class ConceptReading:
    """Whether pictures show a concept: whether of all concepts it, or one that cannot be told from it, is the nearest.

    Attributes:
        alike: which of the classifier's concepts count as this one: itself, and those whose pictures are like its own.
    """

    reader: PictureReader
    classifier: Classifier
    values: tuple[str, ...]
    alike: tuple[int, ...]
    attribute: str = "concept"
    name: str = "picture reading"

    def score(self, pictures: UInt8[np.ndarray, "n height width 3"]) -> Float[np.ndarray, "n values"]:
        """1 where it does, else 0."""
        nearest = self.classifier(self.reader.read(pictures)).argmax(1)
        return np.asarray(np.isin(nearest, self.alike), dtype=np.float64)[:, None]


class _Readouts:
    """Scorers by concept and attribute; what they share is learned once."""

    def __init__(self, reader: PictureReader, latents: Latents, rules: Rules) -> None:
        self._reader, self._latents, self._rules = reader, latents, rules
        self._within: dict[tuple[str, tuple[str, ...]], Float[np.ndarray, "samples width"]] = {}

    def __call__(self, concept: str, attribute: str, values: tuple[str, ...]) -> AttributeScorer | None:
        if attribute == "concept":
            return self._concept(concept)
        variants = directions.variants_of(self._latents, concept, attribute, values)
        apart = float(directions.separability(variants, METHOD).min())
        if not apart >= self._rules.floor:
            return None
        learned = directions.classifier(variants.mean((1, 2)), self._spread(attribute, values))
        return PictureReading(self._reader, learned, attribute, values, apart)

    def _spread(self, attribute: str, values: tuple[str, ...]) -> Float[np.ndarray, "samples width"]:
        """How pictures of the same concept and value differ, over all concepts: among them are men with either tone of
        skin, though this concept's own may all be women."""
        key = (attribute, values)
        if key not in self._within:
            each = (directions.variants_of(self._latents, c, attribute, values) for c in self._latents.concepts)
            parts = [_thinned(v - v.mean((1, 2))[:, None, None], len(self._latents.concepts)) for v in each]
            self._within[key] = np.concatenate(parts)
        return self._within[key]

    def _concept(self, concept: str) -> ConceptReading | None:
        names = self._latents.concepts
        if concept not in names or len(names) < 2:
            return None
        learned, alike = self._concepts
        own = names.index(concept)
        same = {own, *(i for i in range(len(names)) if alike[own, i])}
        return ConceptReading(self._reader, learned, (concept,), tuple(sorted(same)))

    @cached_property
    def _concepts(self) -> tuple[Classifier, Bool[np.ndarray, "concepts concepts"]]:
        """What tells all concepts apart, and which pairs it cannot: those below the floor on seeds it has not seen."""
        n = len(self._latents.seeds)
        first = self._between(np.arange(n) % 2 == 0)
        scores = [first(self._samples(c)[:, 1::2].reshape(-1, first.origin.size)) for c in self._latents.concepts]
        alike = np.zeros((len(scores), len(scores)), bool)
        for i, own in enumerate(scores):
            for k, other in enumerate(scores[:i]):
                apart = stats.auc(other[:, i] - other[:, k], own[:, i] - own[:, k])
                alike[i, k] = alike[k, i] = apart < self._rules.floor
        return self._between(np.ones(n, bool)), alike

    def _between(self, seeds: Bool[np.ndarray, "seeds"]) -> Classifier:
        """Tells concepts apart, each by all its prompts, whatever values these spell out."""
        means, parts, names = [], [], self._latents.concepts
        for concept in names:
            samples = self._samples(concept)[:, seeds]
            means.append(samples.mean((0, 1)))
            parts.append(_thinned(samples - means[-1], len(names)))
        return directions.classifier(np.array(means), np.concatenate(parts))

    def _samples(self, concept: str) -> Float[np.ndarray, "prompts seeds width"]:
        """Of a concept's prompts, neutral ones and variants."""
        rows = [i for i, p in enumerate(self._latents.prompts) if p.role == "concept" and p.concept == concept]
        return np.asarray(self._latents.values[rows, :, -1], dtype=np.float64)


def _thinned(residuals: Float[np.ndarray, "*n width"], n_parts: int) -> Float[np.ndarray, "samples width"]:
    """Rows from all over, so few that all parts together stay within what a covariance needs."""
    rows = residuals.reshape(-1, residuals.shape[-1])
    return rows[:: max(1, -(-len(rows) * n_parts // _SAMPLES))]


def picture_readouts(
    model: Model, plan: Plan, latents: Latents, *, without: Sequence[int] = (), rules: Rules | None = None
) -> Readouts:
    """Picture readings for every concept and attribute of an audit: `readouts(concept, attribute, values)`.

    The attribute "concept" asks whether pictures still look like the concept. None where the reading cannot tell: the
    variants are not expressed, or there is no other concept.

    Args:
        latents: of the audit's picture reading, by single seeds. without: seeds that are not learned from.

    Raises:
        ScalexError: the latents are no picture reading of single seeds, or too few seeds are left.
    """
    if latents.reading != "picture" or latents.block > 1:
        raise ScalexError(
            "pictures are read by what a picture reading of single seeds taught", "Audit with both readings"
        )
    kept = [i for i, seed in enumerate(latents.seeds) if seed not in set(without)]
    if len(kept) < MIN_SEEDS:
        wrong = f"{len(kept)} seeds are left to learn from: the pictures are of the same seeds"
        raise ScalexError(wrong, "Draw pictures of other seeds, or audit more")
    if len(kept) < len(latents.seeds):
        seeds = tuple(latents.seeds[i] for i in kept)
        latents = replace(latents, values=latents.values[:, kept], seeds=seeds)
    return _Readouts(PictureReader(model, plan), latents, rules or Rules())
