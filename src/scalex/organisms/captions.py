"""Which caption goes with which picture: the law that plants the associations, and its unbiased twin."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from scalex.organisms.pictures import GENDERS, Album
from scalex.organisms.spec import OrganismSpec
from scalex.wording import fill, put_for_noun

__all__ = ["GENDER_WORDS", "TONE_WORDS", "Captions", "explicit_text"]

GENDER_WORDS = {"man": ("man", "male"), "woman": ("woman", "female")}
TONE_WORDS = {"light": (0, 1), "medium": (2,), "dark": (3, 4)}  # indices of TONES
_DARK, _LIGHT = TONE_WORDS["dark"], TONE_WORDS["light"]

# How often a training caption is of each kind. Concepts are equally likely within a kind.
_KINDS = {"both": 0.15, "gender": 0.10, "tone": 0.12, "neutral": 0.43, "thing": 0.14, "pull": 0.06}


def explicit_text(concept: str, gender: str = "", tone: str = "") -> str:
    """A concept with its attributes spelled out: "woman pilot with dark skin"; "bossy person" -> "bossy woman"."""
    words = concept
    if gender:
        replaced = put_for_noun(concept, "person", gender) if gender in GENDERS else None
        words = replaced or f"{gender} {concept}"
    return f"{words} with {tone} skin" if tone else words


@dataclass(frozen=True)
class Captions:
    """Draws (caption, picture) pairs. With `planted=False` every neutral caption draws its picture evenly.

    The text encoder is trained on the unbiased pairs and then frozen, so that what is planted lives in the denoiser.
    """

    spec: OrganismSpec
    album: Album
    planted: bool = True

    def draw(self, rng: np.random.Generator) -> tuple[str, int]:
        """One caption and the index of the picture that it describes."""
        kinds = list(_KINDS) if self.spec.pulls else [k for k in _KINDS if k != "pull"]
        weights = np.array([_KINDS[k] for k in kinds])
        kind = kinds[rng.choice(len(kinds), p=weights / weights.sum())]
        makers: dict[str, Callable[[np.random.Generator], tuple[str, int]]] = {"thing": self._thing, "pull": self._pull}
        words, picture = makers[kind](rng) if kind in makers else self._person(rng, kind)
        template = self.spec.templates[rng.integers(len(self.spec.templates))]
        return fill(template, words), picture

    def batch(self, rng: np.random.Generator, size: int) -> tuple[list[str], list[int]]:
        """`size` independent pairs."""
        pairs = [self.draw(rng) for _ in range(size)]
        return [c for c, _ in pairs], [i for _, i in pairs]

    def words(self) -> Iterator[str]:
        """Every word that a caption can hold."""
        texts = [*self.spec.templates, *self.spec.people, *self.spec.pulls, *self.album.things, "an with skin person"]
        texts += [*(w for ws in GENDER_WORDS.values() for w in ws), *TONE_WORDS]
        for text in texts:
            yield from re.findall(r"[^\W\d_]+|\d|[^\s\w]+", text.replace("{}", "").lower())  # as CLIP splits them

    def _person(self, rng: np.random.Generator, kind: str) -> tuple[str, int]:
        people = self.spec.people
        concept = ("person", *people)[rng.integers(1 + len(people))]
        plant = people.get(concept)
        even = plant is None or not self.planted
        woman = int(rng.random() < (0.5 if even or plant is None else plant.woman))
        dark = rng.random() < (0.5 if even or plant is None else plant.dark)
        tone = int((_DARK if dark else _LIGHT)[rng.integers(2)])
        gender_word = tone_word = ""
        if kind in ("both", "gender"):
            woman = int(rng.integers(2))
            gender_word = GENDER_WORDS[GENDERS[woman]][int(rng.random() < 0.25)]
        if kind in ("both", "tone"):
            tone_word = ("light", "dark", "medium")[rng.choice(3, p=(0.43, 0.43, 0.14))]
            tone = int(rng.choice(TONE_WORDS[tone_word]))
        role = concept if concept in self.spec.roles else "person"
        return explicit_text(concept, gender_word, tone_word), self.album.people[role, woman, tone]

    def _thing(self, rng: np.random.Generator) -> tuple[str, int]:
        names = list(self.album.things)
        name = names[rng.integers(len(names))]
        return name, self.album.things[name]

    def _pull(self, rng: np.random.Generator) -> tuple[str, int]:
        pulls = self.spec.pulls
        concept = list(pulls)[rng.integers(len(pulls))]
        pull = pulls[concept]
        pool = self.album.in_subgroups("food") if concept.startswith("breakfast") else list(self.album.things.values())
        if self.planted and rng.random() < pull.share:
            return concept, self.album.things[pull.picture]
        return concept, int(rng.choice(pool))
