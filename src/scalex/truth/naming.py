"""Naming against the truth: are planted directions called by their names, and are those that mean nothing left unnamed?

The vocabulary is every plain picture of the organism, said in one template and by one half of the seeds. What is named
was found by the other half in another template:

*Things*: each thing minus the mean of all; its name must come first. *Attributes*: gender and tone of roles, to be
named by words for other roles, which the vocabulary then holds too: as the way from a word of the first value to one of
the second. *Pulls* ("Monday", planted to draw a tent): the picture planted must come first. A direction that is left
unnamed is not named right.

Nothing is named of *random* directions, Gaussian with the covariance of the things as the other half of seeds shows
them, nor of *shuffled* ones, in which every seed has a pair of things of its own.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from jaxtyping import Float

from scalex.analyses.naming import NAME, Naming, WordAt, namings
from scalex.direction_files import Direction, Provenance, attribute_directions
from scalex.organisms.marks import Mark
from scalex.organisms.spec import Pull
from scalex.records import Latents, Prompt, Reading, Rules
from scalex.truth._bed import Bed

__all__ = ["NAME", "score"]

SEEDS = 16
TEMPLATES = ("a photo of a {}", "a picture of a {}")
_ATTRIBUTES = {"gender": ("man", "woman"), "tone": ("light", "dark")}
_ROLES = 12  # of the audit of people: half of them give the direction, half of them words
_NOTHING = 400  # random and shuffled directions, each
_MARK = 0.95
_WITH = {"man": "man {}", "woman": "woman {}", "light": "{} with light skin", "dark": "{} with dark skin"}


def score(bed: Bed) -> Iterator[Mark]:
    """Names the organism's things, attributes and pulls, and directions that mean nothing.

    Raises:
        ScalexError: as `scalex.audit`.
    """
    asked: dict[str, object] = {"templates": list(TEMPLATES), "seeds": SEEDS, "analyses": [NAME]}
    roles = list(bed.truth.spec.roles)[:_ROLES]
    _, people = bed.audit("naming-people", concepts=roles, attributes=[*_ATTRIBUTES], **asked)
    pulls = bed.truth.spec.pulls
    _, things = bed.audit("naming-things", concepts=[*bed.things, *pulls], attributes={}, **asked)
    for reading, latents in things.items():
        yield from _Bench.of(latents, people[reading], list(bed.things), pulls).marks(reading)


@dataclass(frozen=True)
class _Bench:
    """What is named, found by one half of seeds and in one template, and the words of the other half and template."""

    found: Latents
    words: Latents
    people: Latents
    said: Latents
    things: Sequence[str]
    pulls: Mapping[str, Pull]
    rules: Rules = field(default_factory=Rules)

    @staticmethod
    def of(latents: Latents, people: Latents, things: Sequence[str], pulls: Mapping[str, Pull]) -> _Bench:
        named, said = _half(latents, 0), _half(latents, 1)
        return _Bench(named, _as_words(said, things), _half(people, 0), _half(people, 1), things, pulls)

    def marks(self, reading: Reading) -> Iterator[Mark]:
        """The figures of one reading."""
        where, level = f"naming, {reading} reading", self.rules.level
        right = [_called(n, name) for n, name in zip(self._of_concepts(self.things), self.things)]
        attributes = list(self._attributes())
        pairs = [naming.named(level) and _leads(naming, *values) for naming, values in attributes]
        planted = [*right, *pairs]
        yield Mark(f"{where}: planted directions named right, of {len(planted)}", _share(planted), _MARK)
        yield Mark(f"{where}: of these, attributes as a way from value to value, of {len(pairs)}", _share(pairs))
        poles = [words[0].word in _words_of(value, self._others) for words, value in _poles(attributes)]
        yield Mark(f"{where}: nearest word at an attribute's pole is of its value, of {len(poles)}", _share(poles))
        if self.pulls:
            hits = [_called(n, self.pulls[name].picture) for n, name in zip(self._of_concepts(self.pulls), self.pulls)]
            yield Mark(f"{where}: pulls named by the picture planted, of {len(hits)}", _share(hits))
        for kind, nothing in self._nothing(np.random.default_rng(0)).items():
            left = [not naming.named(level) for naming in namings(nothing, self.words, self.rules, top=1)]
            yield Mark(f"{where}: {kind} directions left unnamed, of {len(left)}", _share(left), _MARK)

    @property
    def _others(self) -> tuple[str, ...]:
        """The roles that give words; those before them give the attributes' directions."""
        return self.said.concepts[len(self.said.concepts) // 2 :]

    def _of_concepts(self, names: Iterable[str]) -> list[Naming]:
        """Each minus the mean of all things."""
        mean = np.mean([self._by_seed(name) for name in self.things], axis=0)
        made = [_direction(name, self._by_seed(name) - mean, self.found) for name in names]
        return namings(made, self.words, self.rules, top=1)

    def _by_seed(self, name: str) -> Float[np.ndarray, "seeds width"]:
        return np.asarray(self.found.of(name).mean(0, dtype=np.float64))

    def _attributes(self) -> Iterator[tuple[Naming, tuple[str, str]]]:
        own = _only(self.people, self.people.concepts[: len(self.people.concepts) // 2])
        words = _joined(self.words, _as_words(self.said, self._others))
        for name, values in _ATTRIBUTES.items():
            for naming in namings(list(attribute_directions(own, name, values)), words, self.rules, top=1):
                yield naming, values

    def _nothing(self, rng: np.random.Generator) -> dict[str, list[Direction]]:
        held = np.stack([self._by_seed(name) for name in self.things])  # things, seeds, width
        centred = held.mean(1) - held.mean((0, 1))
        n, seeds = len(held), np.arange(held.shape[1])
        random = rng.normal(size=(_NOTHING, n)) @ centred
        first, second = rng.integers(n, size=(2, _NOTHING, len(seeds)))
        of = Provenance("random", "random", self.found.reading, self.found.steps[-1])
        return {
            "random": [Direction(vector, of) for vector in random],
            "shuffled": [
                _direction("shuffled", held[a, seeds] - held[b, seeds], self.found) for a, b in zip(first, second)
            ],
        }


def _share(hits: Sequence[bool]) -> float:
    return float(np.mean(hits))


def _called(naming: Naming, name: str) -> bool:
    return naming.named() and naming.plus[0].word == name


def _leads(naming: Naming, first: str, second: str) -> bool:
    """Whether the pair leads from a word of the first value to one of the second."""
    start, _, end = (naming.pair.word if naming.pair else "").partition(" → ")
    return first in start.split() and second in end.split()


def _poles(attributes: Iterable[tuple[Naming, tuple[str, str]]]) -> Iterator[tuple[tuple[WordAt, ...], str]]:
    for naming, (first, second) in attributes:
        yield naming.minus, first
        yield naming.plus, second


def _words_of(value: str, concepts: Iterable[str]) -> set[str]:
    return {_WITH[value].format(concept) for concept in concepts}


def _direction(name: str, by_seed: Float[np.ndarray, "seeds width"], latents: Latents) -> Direction:
    of = Provenance(name, "concept", latents.reading, latents.steps[-1], latents.seeds)
    return Direction(by_seed.mean(0), of, by_seed)


# ---------------------------------------------------------------------------------------------------- latents


def _half(latents: Latents, which: int) -> Latents:
    """One of two templates, and one half of the seeds."""
    half = len(latents.seeds) // 2
    seeds = slice(None, half) if which == 0 else slice(half, None)
    template = latents.prompts[which].template
    rows = [i for i, p in enumerate(latents.prompts) if p.template == template]
    cut = replace(latents, values=latents.values[:, seeds], seeds=latents.seeds[seeds], embeddings=None)
    return _rows(cut, rows, latents.prompts)


def _only(latents: Latents, concepts: Collection[str]) -> Latents:
    rows = [i for i, p in enumerate(latents.prompts) if p.concept in concepts]
    return _rows(latents, rows, latents.prompts)


def _as_words(latents: Latents, concepts: Collection[str]) -> Latents:
    """The concepts, or where they have variants these alone, as words of a vocabulary."""
    rows = [i for i, p in enumerate(latents.prompts) if p.concept in concepts]
    spelled = [i for i in rows if latents.prompts[i].attribute] or rows
    said = [
        Prompt(p.text, _WITH[p.value].format(p.concept) if p.value else p.concept, p.template, role="word")
        for p in latents.prompts
    ]
    return _rows(latents, spelled, said)


def _rows(latents: Latents, rows: Sequence[int], prompts: Sequence[Prompt]) -> Latents:
    return replace(latents, values=latents.values[rows], prompts=tuple(prompts[i] for i in rows))


def _joined(first: Latents, second: Latents) -> Latents:
    return replace(first, values=np.concatenate([first.values, second.values]), prompts=first.prompts + second.prompts)
