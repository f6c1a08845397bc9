"""Discovery against the truth: are planted attributes among the directions that are found without any prompt for them?

Every method is given neutral prompts of people alone and asked for so many directions. These are held against what was
planted, gender and tone, as other seeds show it, in the same latents:

*|cos|*: the greatest of any direction with the attribute's own (the mean difference between its variants). *AUROC*:
the greatest with which any direction's activation, the projection of a sample, tells the variants of all roles apart
(either way round, and with no knowledge of the role). *Random* directions, as many, Gaussian with the covariance of the
same samples, say what the best of so many is worth.

*Moved*: the direction that is nearest to gender, turned towards women and as long as the planted one, is pushed at each
step while pictures of roles are drawn: by how much the exact readout's share of women grows from alpha -1 to 1, and how
many pictures still show their role.

One mark stands for all methods together, as it was fixed: gender by |cos| >= 0.6 or by AUROC >= 0.9. The figure is the
share that is reached of whichever is the nearer, so that 1 is the mark.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float
from sklearn.metrics import roc_auc_score

from scalex import discovery
from scalex.capture import generate
from scalex.direction_files import Direction, attribute_directions
from scalex.discovery import Material
from scalex.errors import ScalexError
from scalex.jobs import Job, prepare
from scalex.organisms.marks import Mark
from scalex.organisms.readout import Readout
from scalex.prompts import build_prompts
from scalex.records import Latents
from scalex.scorers.exact import Exact
from scalex.steering import Push
from scalex.store import Store
from scalex.truth._bed import Bed

__all__ = ["NAME", "Match", "matches", "score"]

NAME = "discovery"
TEMPLATES = ("a photo of a {}",)
N = 16  # directions of each method
_SEEDS, _HELD = 16, 8  # that directions are found with; others that they are held against
_ROLES = 12  # whose variants directions are held against
_ATTRIBUTES = {"gender": ("man", "woman"), "tone": ("light", "dark")}
_MARKED = "gender"
_DRAWN = 4  # pictures of each role, while a direction is pushed
_COSINE, _AUROC = 0.6, 0.9


@dataclass(frozen=True)
class Match:
    """How near directions come to an attribute: the best |cos| and the best AUROC, not always of the same direction.

    Attributes:
        nearest: the direction of the best |cos|, turned towards the second value, as long as what was planted.
    """

    cosine: float
    auroc: float
    nearest: Direction

    @property
    def reached(self) -> float:
        """Of the mark, by whichever figure is the nearer to its own."""
        return max(self.cosine / _COSINE, self.auroc / _AUROC)


def score(bed: Bed) -> Iterator[Mark]:
    """Directions of every method, held against gender and tone.

    Raises:
        ScalexError: as capturing raises.
    """
    people = list(bed.truth.spec.people)
    asked: dict[str, object] = {"templates": list(TEMPLATES), "attributes": [*_ATTRIBUTES], "analyses": ["defaults"]}
    job = prepare(spec=bed.spec(concepts=people, **asked | {"seeds": _SEEDS}))
    seen = discovery.material(job, Store.open(bed.store), progress=bed.progress)
    roles = list(bed.truth.spec.roles)[:_ROLES]
    held = _held(seen, job, roles)
    found: dict[str, Mapping[str, Match]] = {}
    for name in discovery.available():
        try:
            made = [one.direction for one in discovery.discover(seen, name, N)]
        except ScalexError as error:
            yield Mark(f"discovery, {name}: found nothing ({error.wrong})", math.nan)
            continue
        found[name] = matches(made, held)
    best = max((one[_MARKED].reached for one in found.values()), default=math.nan)
    what = f"|cos| / {_COSINE:g} or AUROC / {_AUROC:g}"
    yield Mark(f"discovery: {_MARKED} recovered by any method, the greater of {what}", best, 1.0)
    found["random directions"] = matches(_random(seen), held)
    pushed = _Pushed(bed, seen, roles)
    for name, one in found.items():
        for attribute, match in one.items():
            yield Mark(f"discovery, {name}, {attribute}: best |cos| of {N}", match.cosine)
            yield Mark(f"discovery, {name}, {attribute}: best AUROC of {N}", match.auroc)
        yield from pushed.marks(f"{name}, {_MARKED}: moved by the nearest", one[_MARKED].nearest)
    planted = next(iter(attribute_directions(held, _MARKED, _ATTRIBUTES[_MARKED])))
    yield from pushed.marks(f"{_MARKED}: moved by the planted direction itself", planted)


def matches(found: Sequence[Direction], held: Latents) -> dict[str, Match]:
    """How near the nearest of some directions comes to each attribute.

    Args:
        found: of maps, or of means over them. held: variants of roles, as maps.
    """
    units = np.stack([_as_map(d.vector.astype(np.float64), held.values.shape[-1]) for d in found])
    told: dict[str, Match] = {}
    for attribute, values in _ATTRIBUTES.items():
        planted = next(iter(attribute_directions(held, attribute, values))).vector
        cosines = _in_space_of(units, found, planted)
        best = int(np.abs(cosines).argmax())
        nearest = _as_long(found[best], float(np.sign(cosines[best])) * _length(planted), len(planted))
        variants = [_variants(held, attribute, value) @ units.T for value in values]
        labels = np.repeat([0, 1], [len(v) for v in variants])
        aurocs = [float(roc_auc_score(labels, along)) for along in np.concatenate(variants).T]
        told[attribute] = Match(abs(float(cosines[best])), max(max(a, 1 - a) for a in aurocs), nearest)
    return told


def _as_long(direction: Direction, length: float, width: int) -> Direction:
    """Of a length that it has once it is spread over the map."""
    cells = width // len(direction.vector)
    return replace(direction, vector=direction.vector * (length / cells**0.5 / _length(direction.vector)))


def _in_space_of(
    units: Float[np.ndarray, "n width"], found: Sequence[Direction], planted: Float[np.ndarray, "width"]
) -> Float[np.ndarray, "n"]:
    """Cosines with what was planted, in the latents that each direction is of: maps, or means."""
    cosines = []
    for unit, direction in zip(units, found):
        cells = len(planted) // len(direction.vector)
        own = _as_map(planted.reshape(-1, cells).mean(1), len(planted)) if cells > 1 else planted / _length(planted)
        cosines.append(float(unit @ own))
    return np.array(cosines)


def _as_map(vector: Float[np.ndarray, "own"], width: int) -> Float[np.ndarray, "width"]:
    """A direction of maps or of means, spread over the map, of length 1."""
    spread = np.repeat(vector, width // len(vector))
    return np.asarray(spread / _length(spread))


def _length(vector: Float[np.ndarray, "width"]) -> float:
    return max(float(np.linalg.norm(vector)), 1e-30)


def _held(seen: Material, job: Job, roles: Sequence[str]) -> Latents:
    """The variants of roles, drawn with seeds that nothing was found with."""
    chosen = set(roles)
    prompts = [p for p in build_prompts(job.spec) if p.concept in chosen and p.attribute in _ATTRIBUTES]
    last = seen.seeds[-1] + 1
    return replace(seen, prompts=tuple(prompts), seeds=tuple(range(last, last + _HELD))).latents()


def _variants(held: Latents, attribute: str, value: str) -> Float[np.ndarray, "samples width"]:
    own = [held.of(concept, attribute, value) for concept in held.concepts]
    return np.concatenate([one.reshape(-1, one.shape[-1]) for one in own]).astype(np.float64)


def _random(seen: Material) -> list[Direction]:
    """Gaussian directions with the covariance of samples within prompts."""
    values = seen.latents().values[:, :, -1].astype(np.float64)
    centred = (values - values.mean(1, keepdims=True)).reshape(-1, values.shape[-1])
    drawn = np.random.default_rng(0).normal(size=(N, len(centred))) @ centred
    step = seen.recipe().keep[-1]
    return [seen.direction(vector, "random", "random", step) for vector in drawn]


class _Pushed:
    """Pictures of roles, drawn while a direction is pushed, by the exact readout."""

    def __init__(self, bed: Bed, seen: Material, roles: Sequence[str]) -> None:
        self._seen, first = seen, seen.seeds[-1] + 1 + _HELD
        told = {p.concept: p.text for p in reversed(seen.prompts) if p.concept in set(roles)}
        self._names = [role for role in told for _ in range(_DRAWN)]
        self._samples = [(text, first + i) for text in told.values() for i in range(_DRAWN)]
        readout = Readout(bed.truth, seen.model)
        values = _ATTRIBUTES[_MARKED]
        self._people, self._roles = Exact(readout, _MARKED, values), Exact(readout, "concept", tuple(told))

    def marks(self, what: str, direction: Direction) -> Iterator[Mark]:
        """By how much the share of the second value grows, and how many pictures show their role."""
        model, plan = self._seen.model, self._seen.plan
        ends = [generate(model, self._samples, plan, Push(direction, alpha)) for alpha in (-1.0, 1.0)]
        low, high = (float(np.nanmean(self._people.score(pictures)[:, 1])) for pictures in ends)
        own = [self._roles.values.index(name) for name in self._names]
        kept = [self._roles.score(pictures)[np.arange(len(own)), own] for pictures in ends]
        yield Mark(f"discovery, {what}, alpha -1 to 1", high - low)
        yield Mark(f"discovery, {what}, role kept", float(np.mean(np.nan_to_num(kept))))
