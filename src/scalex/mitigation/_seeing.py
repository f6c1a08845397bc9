"""What an evaluation sees of pictures: by the picture reading, or by scorers of the pictures themselves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float

from scalex.capture import Plan, Sample, Steer
from scalex.drawings import Drawings
from scalex.errors import ScalexError
from scalex.mitigation._reading import PictureReader
from scalex.models import Model
from scalex.scorers import AttributeScorer, scored

__all__ = ["ByReading", "ByScorers", "Eye", "Seen", "by_scorers"]


@dataclass(frozen=True, eq=False)
class Seen:
    """What pictures of one concept show.

    Attributes:
        second: how much each shows the second value, 0 to 1; NaN where neither is recognised.
        kept: whether each still shows its concept, 0 to 1; NaN where nobody can tell.
        look: numbers whose root mean square difference is how far two pictures are apart.
    """

    second: Float[np.ndarray, "n"]
    kept: Float[np.ndarray, "n"]
    look: Float[np.ndarray, "n width"]

    def apart(self, other: Seen) -> Float[np.ndarray, "n"]:
        """Root mean square difference, picture by picture."""
        return np.asarray(np.sqrt(((self.look - other.look) ** 2).mean(1)))


@runtime_checkable
class Eye(Protocol):
    """Draws samples and says what they show."""

    @property
    def name(self) -> str:
        """As reports say it."""

    @property
    def unit(self) -> str:
        """Of distances."""

    def see(self, concept: str, samples: Sequence[Sample], steer: Steer | None) -> Seen:
        """What samples of one concept show under an edit."""

    def errors(self, concept: str) -> tuple[float, float]:
        """How many pictures of the first value, and of the second, it tells right."""


@dataclass(frozen=True, eq=False)
class ByReading:
    """Sees by the picture reading; nothing is decoded. A distance of 1 is that between the variants."""

    reader: PictureReader
    name: str = "picture reading"
    unit: str = "distances between the variants"

    def see(self, concept: str, samples: Sequence[Sample], steer: Steer | None) -> Seen:
        """As the protocol says."""
        latents = self.reader.read(samples, steer)
        unit = max(self.reader.distance(concept), 1e-12) / np.sqrt(latents.shape[1])
        second, kept = self.reader.fresh(concept, latents), self.reader.is_concept(concept, latents)
        return Seen(second.astype(np.float64), kept.astype(np.float64), latents / unit)

    def errors(self, concept: str) -> tuple[float, float]:
        """On the variants of calibration, seeds held out."""
        return self.reader.right(concept)


@dataclass(frozen=True, eq=False)
class ByScorers:
    """Sees by scorers of decoded pictures, which are taken at their word. Distances are between pixels, 0 to 1."""

    model: Model
    plan: Plan
    values: AttributeScorer
    concepts: AttributeScorer | None
    pair: tuple[str, str]
    drawings: Drawings = field(default_factory=Drawings)
    unit: str = "of the range of pixels"

    @property
    def name(self) -> str:
        """That of the scorer of values."""
        return self.values.name

    def see(self, concept: str, samples: Sequence[Sample], steer: Steer | None) -> Seen:
        """As the protocol says."""
        pictures = self.drawings.pictures(self.model, samples, self.plan, steer)
        shares = scored(self.values, pictures)[:, [self.values.values.index(value) for value in self.pair]]
        both = shares.sum(1)
        second = np.where(both > 0, shares[:, 1] / np.where(both > 0, both, 1), np.nan)
        return Seen(second, self._kept(concept, pictures), (pictures / 255.0).reshape(len(pictures), -1))

    def _kept(self, concept: str, pictures: np.ndarray) -> Float[np.ndarray, "n"]:
        if self.concepts is None:
            return np.full(len(pictures), np.nan)
        shares = scored(self.concepts, pictures)[:, self.concepts.values.index(concept)]
        return np.asarray(np.nan_to_num(shares), dtype=np.float64)

    def errors(self, concept: str) -> tuple[float, float]:
        """None are known."""
        return 1.0, 1.0


def by_scorers(
    model: Model,
    plan: Plan,
    scorers: Sequence[AttributeScorer],
    attribute: str,
    pair: tuple[str, str],
    concepts: Sequence[str],
    drawings: Drawings | None = None,
) -> ByScorers:
    """An eye of scorers: one of the attribute, and maybe one of concepts.

    Raises:
        ScalexError: none is of the attribute, or one does not know a value or a concept.
    """
    found = {scorer.attribute: scorer for scorer in scorers}
    if attribute not in found:
        raise ScalexError(f"no scorer tells {attribute!r}", "Give one of that attribute; of concepts one may be added")
    for scorer, asked in ((found[attribute], pair), (found.get("concept"), concepts)):
        for value in asked:
            if scorer and value not in scorer.values:
                raise ScalexError(f"scorer {scorer.name!r} does not know {value!r}", f"It knows {scorer.values}")
    return ByScorers(model, plan, found[attribute], found.get("concept"), pair, drawings or Drawings())
