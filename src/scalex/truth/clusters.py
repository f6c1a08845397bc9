"""Clusters against the truth: do concepts come back from many wordings of each, without being told?

Every wording is a name of its own, said as it is. The wordings of a concept differ in template, in what they say of
gender and skin, and in adjectives; nothing tells the analysis which belong together. The mark is the adjusted Rand
index of its clusters with the concepts: for HDBSCAN, and for k-means that is told how many concepts there are. What
k-means finds that chooses the number itself stands beside it.

Unicode's own subgroups of plain pictures ("food-fruit") are reported beside what the pixels themselves give, which is
all that a model of pictures could know of them: they group by meaning, not by look.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from scalex.analyses._grouping import group, likeness
from scalex.analyses._points import Name, Space, principal, space
from scalex.analyses.clusters import names_of
from scalex.organisms.captions import GENDER_WORDS, TONE_WORDS, explicit_text
from scalex.organisms.marks import Mark
from scalex.organisms.spec import OrganismSpec
from scalex.records import Latents, Reading, Rules
from scalex.truth._bed import Bed
from scalex.wording import fill

__all__ = ["NAME", "Wording", "score", "score_subgroups", "score_wordings", "wordings"]

NAME = "clusters"
_SEEDS, _THING_SEEDS = 8, 16
_TEMPLATES = ("a photo of a {}", "a picture of a {}")  # those of the other scores, so that captures are shared
_MARK = 0.95


class Wording(NamedTuple):
    """What a text speaks of, and whether it says an adjective with it, which the organism was never trained on."""

    concept: str
    adjective: bool


def score(bed: Bed) -> Iterator[Mark]:
    """Adjusted Rand indices of clusters with concepts, under marks, and with Unicode subgroups, without."""
    said = wordings(bed.truth.spec, bed.things)
    asked = {"attributes": {}, "analyses": [NAME]}
    _, found = bed.audit(NAME, concepts=list(said), templates=["{}"], seeds=_SEEDS, **asked)
    yield from score_wordings(found, said)
    things = {"concepts": list(bed.things), "templates": _TEMPLATES, "seeds": _THING_SEEDS}
    _, found = bed.audit(f"{NAME}-things", **things, **asked)
    yield from score_subgroups(found, bed.things, _pixels(bed))


def wordings(spec: OrganismSpec, things: Mapping[str, str]) -> dict[str, Wording]:
    """The texts: every role, and the first thing of every subgroup, each in 12 wordings.

    Ten of a role are with and without gender and tone, ten of a thing are templates with and without their article. Two
    more say it with an adjective.
    """
    firsts = {subgroup: thing for thing, subgroup in reversed(list(things.items()))}
    even = [a for a, planted in spec.adjectives.items() if planted.woman == planted.dark == 0.5]
    said: dict[str, Wording] = {}
    for concept in (*spec.roles, *firsts.values()):
        plain = _of_role(spec, concept) if concept in spec.roles else _of_thing(spec, concept)
        said |= {text: Wording(concept, False) for text in plain}
        adjectives = [fill(t, f"{a} {concept}") for t, a in zip(spec.templates, even[::2])]
        said |= {text: Wording(concept, True) for text in adjectives[:2]}
    return said


def _of_role(spec: OrganismSpec, concept: str) -> list[str]:
    tones = [tone for tone in ("", *TONE_WORDS) if tone != "medium"]
    forms = [explicit_text(concept, gender, tone) for gender in ("", *GENDER_WORDS) for tone in tones]
    return [fill(spec.templates[i % len(spec.templates)], form) for i, form in enumerate([*forms, concept])]


def _of_thing(spec: OrganismSpec, concept: str) -> list[str]:
    full = [fill(template, concept) for template in spec.templates]
    return [*full, *(text.removeprefix("a ").removeprefix("an ") for text in full)]


def score_wordings(found: Mapping[Reading, Latents], said: Mapping[str, Wording]) -> Iterator[Mark]:
    """How well clusters of wordings are the concepts: for both readings and methods, and for the text encoder."""
    plain = tuple(text for text, wording in said.items() if not wording.adjective)
    for what, texts, mark in (("wordings", tuple(said), _MARK), ("wordings, no adjectives", plain, None)):
        concepts = [said[text].concept for text in texts]
        name = f"clusters: ARI with {len(set(concepts))} concepts, {len(texts)} {what}"
        spaces = {reading: _space(latents, texts) for reading, latents in found.items()}
        for reading, held in spaces.items():
            yield from _against(f"{name}, {reading} reading", held.points, concepts, mark)
        yield from _against(f"{name}, text encoder", next(iter(spaces.values())).texts, concepts, None)


def _against(
    name: str, points: Float[np.ndarray, "texts axes"], concepts: Sequence[str], mark: float | None
) -> Iterator[Mark]:
    number = len(set(concepts))
    yield Mark(f"{name}, HDBSCAN", _agreement(group(points, "hdbscan").labels, concepts), mark)
    yield Mark(f"{name}, k-means", _agreement(group(points, "k-means", number).labels, concepts), mark)
    yield Mark(f"{name}, k-means by silhouette", _agreement(group(points, "k-means").labels, concepts))


def score_subgroups(
    found: Mapping[Reading, Latents], things: Mapping[str, str], pixels: Float[np.ndarray, "things pixels"]
) -> Iterator[Mark]:
    """How well as many clusters as there are Unicode subgroups are these, for readings, text encoder and pixels."""
    spaces = {reading: _space(latents, tuple(things)) for reading, latents in found.items()}
    points = {f"{reading} reading": held.points for reading, held in spaces.items()}
    points |= {"text encoder": next(iter(spaces.values())).texts, "pixels": pixels}
    subgroups = list(things.values())
    for what, of in points.items():
        labels = group(of, "k-means", len(set(subgroups))).labels
        name = f"clusters: ARI with {len(set(subgroups))} Unicode subgroups of {len(things)} things, {what}"
        yield Mark(name, _agreement(labels, subgroups))


def _space(latents: Latents, texts: Sequence[str]) -> Space:
    chosen = set(texts)
    names: tuple[Name, ...] = tuple(name for name in names_of(latents) if name[0] in chosen)
    return space(latents, names, Rules())


def _agreement(labels: Int[np.ndarray, "texts"], truth: Sequence[str]) -> float:
    return likeness(labels, np.unique(truth, return_inverse=True)[1])


def _pixels(bed: Bed) -> Float[np.ndarray, "things pixels"]:
    """The pictures themselves, as the organism's autoencoder holds them, on their principal axes."""
    rows = [i for i, shown in enumerate(bed.truth.shown) if shown.gender < 0]
    flat = bed.truth.latents[rows].flatten(1).numpy().astype(np.float64)
    flat -= flat.mean(0)
    return np.asarray(flat @ principal(flat)[0].T)
