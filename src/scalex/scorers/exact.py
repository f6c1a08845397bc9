"""The exact readout of an organism as a scorer: what is shown is what the nearest training picture shows."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt8

from scalex.errors import ScalexError
from scalex.models import Model
from scalex.organisms.readout import Readout, Seen, load_truth
from scalex.scorers import AttributeScorer, Readouts
from scalex.scorers._calling import Remembered

__all__ = ["Exact", "exact", "exact_readouts"]

_ANYBODY = "person"  # what pictures of no role show: "a bossy person"
_CODES = {"gender": ("man", "woman"), "tone": ("light", "dark")}


@dataclass(frozen=True, eq=False)
class Exact:
    """One attribute of an organism. Pictures that show nothing, or nobody, have rows of NaN; the middle of the scale of
    tones is neither of its ends."""

    readout: Readout | Remembered[Seen]
    attribute: str
    values: tuple[str, ...]
    name: str = "exact readout"

    def score(self, pictures: UInt8[np.ndarray, "n height width 3"]) -> Float[np.ndarray, "n values"]:
        """Ones and zeros."""
        seen = self.readout.read(pictures)
        if self.attribute == "concept":
            return np.asarray(seen.names[:, None] == np.array(self.values)[None], dtype=np.float64)
        codes = seen.genders if self.attribute == "gender" else seen.tones
        own = [_CODES[self.attribute].index(value) for value in self.values]
        shares = np.asarray(codes[:, None] == np.array(own)[None], dtype=np.float64)
        shares[codes < 0] = np.nan
        return shares


def exact(folder: Path, model: Model, attribute: str, values: tuple[str, ...]) -> Exact:
    """The exact readout of an attribute ("gender", "tone") or of concepts ("concept", by the names of pictures).

    Raises:
        ScalexError: the folder holds no organism, or the organism knows no such attribute or value.
    """
    known = _CODES.get(attribute, values if attribute == "concept" else ())
    if not known or not set(values) <= set(known):
        raise ScalexError(f"an organism's readout knows no {attribute} of {', '.join(values)}", f"It knows {_CODES}")
    return Exact(Readout(load_truth(folder), model), attribute, values)


def exact_readouts(folder: Path, model: Model) -> Readouts:
    """The exact readout for every concept of an organism: of gender, of tone, and of what its own pictures show.

    Raises:
        ScalexError: the folder holds no organism.
    """
    truth = load_truth(folder)
    readout, names = Remembered(Readout(truth, model).read), {shown.name for shown in truth.shown}

    def of(concept: str, attribute: str, values: tuple[str, ...]) -> AttributeScorer | None:
        if attribute == "concept":
            return Exact(readout, attribute, (concept if concept in names else _ANYBODY,))
        return Exact(readout, attribute, values) if set(values) <= set(_CODES.get(attribute, ())) else None

    return of
