"""The model's own picture reading as a scorer: pictures -> autoencoder -> one stopped forward without words -> value.

What a picture shows is told as the analysis `rates` tells it: by the discriminant between the variants of the concept,
learned from the latents of an audit. It needs no other model, and nobody's labels but the variants' own prompts. The
pictures must be of other seeds than those latents: name seeds that they share, and they are not learned from.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float, UInt8

from scalex import directions
from scalex.analyses.rates import METHOD
from scalex.capture import Plan, Sample, capture_pictures, picture_size
from scalex.directions import Classifier
from scalex.errors import ScalexError
from scalex.models import Model
from scalex.records import Latents, Reading, Rules
from scalex.scorers import AttributeScorer
from scalex.scorers._calling import Remembered, one_hot
from scalex.stats import MIN_SEEDS

__all__ = ["ConceptReading", "PictureReader", "PictureReading", "picture_readouts"]

_NOISE = (6_000_000,)  # seeds of the reading noise: far from those of an audit
_KEPT = 0.05  # of a concept's own pictures fall outside of what counts as the concept
_OTHERS = 0  # seed of the choice of others that a concept is told from

Variants = Float[np.ndarray, "values templates seeds width"]


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

    def read(self, pictures: UInt8[np.ndarray, "n height width 3"]) -> Float[np.ndarray, "n width"]:
        """The latent of each picture.

        Raises:
            ScalexError: pictures are not of the model's size, or as capturing raises.
        """
        return self._last.read(pictures)

    def _read(self, pictures: UInt8[np.ndarray, "n height width 3"]) -> Float[np.ndarray, "n width"]:
        self._size = self._size or picture_size(self._model)
        if pictures.shape[1:3] != self._size:
            wrong = f"pictures are {pictures.shape[1]} x {pictures.shape[2]}, the model's are {self._size}"
            raise ScalexError(wrong, "Scale them to the model's size")
        found: dict[Sample, Float[np.ndarray, "width"]] = {}

        def sink(_: Reading, samples: list[Sample], values: Float[np.ndarray, "n 1 width"]) -> None:
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
    """Whether pictures still look like those of a concept: as 95 of 100 of its own do, held against other concepts'.

    Attributes:
        least: how much more a picture must look like the concept than like others.
    """

    reader: PictureReader
    classifier: Classifier
    values: tuple[str, ...]
    least: float
    separability: float
    attribute: str = "concept"
    name: str = "picture reading"

    def score(self, pictures: UInt8[np.ndarray, "n height width 3"]) -> Float[np.ndarray, "n values"]:
        """1 where it does, else 0."""
        scores = self.classifier(self.reader.read(pictures))
        return np.asarray(scores[:, 1] - scores[:, 0] >= self.least, dtype=np.float64)[:, None]


@dataclass(frozen=True, eq=False)
class _Readouts:
    reader: PictureReader
    latents: Latents
    rules: Rules

    def __call__(self, concept: str, attribute: str, values: tuple[str, ...]) -> AttributeScorer | None:
        if attribute == "concept":
            return self._concept(concept)
        variants = directions.variants_of(self.latents, concept, attribute, values)
        apart = float(directions.separability(variants, METHOD).min())
        if not apart >= self.rules.floor:
            return None
        return PictureReading(self.reader, directions.classifier(variants, METHOD), attribute, values, apart)

    def _concept(self, concept: str) -> ConceptReading | None:
        both = self._against_others(concept)
        if both is None:
            return None
        scores = directions.discriminants(both[1:], both, METHOD)
        least = float(np.quantile(scores[1] - scores[0], _KEPT))
        apart = float(directions.separability(both, METHOD).min())
        return ConceptReading(self.reader, directions.classifier(both, METHOD), (concept,), least, apart)

    def _against_others(self, concept: str) -> Variants | None:
        """As many samples of other concepts as of this one, its variants among them; None where there are no others."""
        rows = [i for i, p in enumerate(self.latents.prompts) if p.role == "concept"]
        own = [i for i in rows if self.latents.prompts[i].concept == concept]
        others = [i for i in rows if self.latents.prompts[i].concept != concept]
        if not own or not others:
            return None
        drawn = np.random.default_rng(_OTHERS).choice(others, len(own), replace=len(others) < len(own))
        return np.stack([self.latents.values[some, :, -1] for some in (np.sort(drawn), own)]).astype(np.float64)


def picture_readouts(
    model: Model, plan: Plan, latents: Latents, *, without: Sequence[int] = (), rules: Rules | None = None
) -> _Readouts:
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
