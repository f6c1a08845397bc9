"""Calibration: each concept goes up the alphas on some seeds, and its doses are chosen from what is seen there."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeAlias

import numpy as np

from scalex import directions, stats
from scalex.capture import Progress, Sample
from scalex.drawings import Drawings
from scalex.engine import Fill, fill
from scalex.errors import ScalexError
from scalex.jobs import Job
from scalex.mitigation._doses import RULES, Curve, Dose
from scalex.mitigation._mitigation import Made, Mitigation, Remedy
from scalex.mitigation._reading import PictureReader, prompts_of, reader_of
from scalex.mitigation._targets import Target, shares_of
from scalex.prompts import concepts_of
from scalex.steering import MOST, Push
from scalex.steering_vectors import SteeringVector, pair_of, steering_vectors
from scalex.store import Store
from scalex.wording import SLOT, did_you_mean

__all__ = ["ALPHAS", "fit", "refitted"]

ALPHAS = (0.5, 0.7, 1.0, 1.4, 2.0)
"""Strengths that are tried, the least first; a concept stops where nearly all its pictures have turned."""

_TURNED = 0.97
_EVEN = 0.02  # a rate as near to the target as that needs no steering
_MISSED = 0.05  # an expected rate as far from the target as that is said to be out of reach
UNEXPRESSED = "not expressed"


def fit(
    job: Job,
    store: Store,
    attribute: str,
    target: Target,
    *,
    values: Sequence[str] | None = None,
    concepts: Sequence[str] | None = None,
    seeds: Sequence[int] | None = None,
    alphas: Sequence[float] = ALPHAS,
    keep: float = 0.9,
    rule: str = "some",
    drawings: Drawings | None = None,
    progress: Progress | None = None,
    engine: Fill = fill,
) -> Mitigation:
    """Calibrates a mitigation: how much each concept is to be steered how often, so that its rate is the target.

    Rates are those of the picture reading, corrected by what it says of the variants (Rogan and Gladen 1978). Variants
    and unsteered samples are captured into the store, steered ones kept in `drawings`, where there are any.

    Args:
        job: model, concepts, templates, steps and guidance. target: see `scalex.mitigation.Target`.
        values: the two of the attribute; may be left out where it has but two.
        concepts: of the job's spec; None for all, or for those of the table of targets.
        seeds: of calibration; None is the job's. alphas: strengths to try, above 0.
        keep: the share of pictures still showing the concept, of those that show it unsteered, that must be left.
        rule: which doses are chosen of a curve: "some", "every" or "alike" (see `scalex.mitigation.RULES`).
        drawings: where steered samples are found again. progress: called with samples done and to do, capture after
            capture.

    Raises:
        ScalexError: the target, a concept, a value, an alpha or the rule is not right, or there are too few seeds.
    """
    pair = pair_of(job, attribute, values)
    shares = shares_of(target, pair, concepts_of(job.spec), concepts)
    strengths, numbers = _strengths(alphas), tuple(job.seeds if seeds is None else seeds)
    if rule not in RULES:
        raise ScalexError(f"there is no rule {rule!r}", did_you_mean(rule, RULES, "Rules"))
    if not 0 <= keep <= 1:
        raise ScalexError(f"keep is {keep}", "Give the share of pictures whose concept must be left, from 0 to 1")
    if len(numbers) < stats.MIN_SEEDS:
        raise ScalexError(f"{len(numbers)} seeds cannot calibrate", f"Use at least {stats.MIN_SEEDS} seeds")
    vectors = steering_vectors(
        job, store, attribute, pair, concepts=list(shares), seeds=numbers, progress=progress, engine=engine
    )
    reader = reader_of(job, store, attribute, pair, list(shares), numbers, progress, engine, drawings)
    texts = _texts(job, attribute, pair, list(shares))
    climb = _Climb(reader, texts, vectors, shares, job.spec.rules.floor, progress)
    curves = climb.curves(strengths, both=rule == "every")
    remedies = {c: _remedy(shares[c], curves[c], climb.notes.get(c, ""), _slim(vectors[c]), rule, keep) for c in shares}
    return Mitigation(attribute, pair, remedies, texts, _phrases(job, attribute), _made(job, numbers, keep, rule))


def refitted(mitigation: Mitigation, rule: str, keep: float) -> Mitigation:
    """The same curves under another rule: nothing is captured."""
    unexpressed = {c: r.note if r.note.startswith(UNEXPRESSED) else "" for c, r in mitigation.remedies.items()}
    remedies = {
        c: _remedy(r.target, r.curve, unexpressed[c], r.vector, rule, keep) for c, r in mitigation.remedies.items()
    }
    return replace(mitigation, remedies=remedies, made=replace(mitigation.made, rule=rule, keep=keep))


def _strengths(alphas: Sequence[float]) -> list[float]:
    found = sorted(float(alpha) for alpha in alphas)
    if not found or not all(math.isfinite(a) and 0 < a <= MOST for a in found) or len(set(found)) < len(found):
        raise ScalexError(f"alphas are {list(alphas)}", f"Give some numbers above 0, at most {MOST:g}, each once")
    return found


def _texts(job: Job, attribute: str, pair: tuple[str, str], concepts: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """The neutral prompts of each concept, in the order of the templates."""
    found: dict[str, tuple[str, ...]] = dict.fromkeys(concepts, ())
    for p in prompts_of(job, attribute, pair, concepts):
        found[p.concept] += () if p.attribute else (p.text,)
    return found


def _phrases(job: Job, attribute: str) -> tuple[str, ...]:
    """What a prompt says that asks for a value itself: "woman", "with dark skin"."""
    patterns = job.spec.attributes[attribute].values()
    said = [text for p in patterns for text in (p.pattern, p.person, p.also) if text]
    words = [" ".join(text.replace(SLOT, " ").split()) for text in said]
    return tuple(sorted({word for word in words if word}))


def _made(job: Job, seeds: tuple[int, ...], keep: float, rule: str) -> Made:
    steps = job.plan.resolve(job.model)
    guidance = steps.guidance if steps.doubled or job.model.embeds_guidance else 1.0
    return Made(steps.asked, float(guidance), seeds, keep, rule)


def _slim(vector: SteeringVector) -> SteeringVector:
    """Without what each seed alone gave: a whole map a seed is much to hold."""
    return replace(vector, direction=replace(vector.direction, by_seed=None))


def _remedy(target: float, curve: Curve, note: str, vector: SteeringVector, rule: str, keep: float) -> Remedy:
    if note or abs(curve.rates[0] - target) <= _EVEN:
        return Remedy(target, (Dose(0.0, 1.0),), curve, vector, note or "as the target already")
    doses = RULES[rule](curve, target, keep)
    away = abs(curve.rate(doses) - target)
    return Remedy(target, doses, curve, vector, "out of reach" if away > _MISSED else "")


_Row: TypeAlias = tuple[float, float, float, float, float]
"""Alpha, rate, doubt, kept, change: a point of a curve."""


@dataclass
class _Climb:
    """All concepts on their way up the alphas.

    Attributes:
        notes: by concept why it is not steered. signs: by concept which way.
    """

    reader: PictureReader
    texts: Mapping[str, tuple[str, ...]]
    vectors: Mapping[str, SteeringVector]
    targets: Mapping[str, float]
    floor: float
    progress: Progress | None
    notes: dict[str, str] = field(default_factory=dict)
    signs: dict[str, float] = field(default_factory=dict)

    def curves(self, strengths: Sequence[float], both: bool) -> dict[str, Curve]:
        """The curve of each concept. With `both`, one alpha away from the target is on it, too."""
        rates = {c: self.reader.rate(c, self.reader.plain[c])[0] for c in self.texts}
        self.signs = {c: 1.0 if rates[c] < self.targets[c] else -1.0 for c in self.texts}
        rows = {c: [(0.0, *self._seen(c, self.reader.plain[c]))] for c in self.texts}
        going = [c for c in self.texts if self._expressed(c)]
        if both:
            self._climb(rows, going, {c: -self.signs[c] for c in going})
        for strength in strengths:
            self._climb(rows, going, {c: self.signs[c] * strength for c in going})
            going = [c for c in going if not self._is_done(rows[c], self.signs[c])]
        return {c: Curve(*(tuple(map(float, column)) for column in zip(*rows[c], strict=True))) for c in rows}

    def _expressed(self, concept: str) -> bool:
        """Whether the variants' pictures can be told apart: else there is nothing to steer along."""
        apart = float(directions.separability(self.reader.variants[concept], "lda").min())
        if apart < self.floor:
            self.notes[concept] = f"{UNEXPRESSED} (AUC {apart:.2f})"
        return concept not in self.notes

    def _is_done(self, rows: Sequence[_Row], sign: float) -> bool:
        """Nearly all have turned; or half of the pictures are not the concept's any more, which midway may pass."""
        alpha, rate, doubt, kept, _ = max(rows, key=lambda row: sign * row[0])
        turned = (rate if sign > 0 else 1 - rate) >= _TURNED and doubt <= 1 - _TURNED
        return turned or (abs(alpha) >= 1 and kept < rows[0][3] / 2)

    def _climb(
        self,
        rows: dict[str, list[_Row]],
        going: Sequence[str],
        alphas: Mapping[str, float],
    ) -> None:
        """One more row for each concept that goes on."""
        done, total = 0, sum(len(self.texts[c]) for c in going) * len(self.reader.seeds)
        for concept in going:
            asked = self._samples(concept)
            steered = self.reader.read(asked, Push(self.vectors[concept].direction, alphas[concept]))
            latents = steered.reshape(self.reader.plain[concept].shape)
            rows[concept].append((alphas[concept], *self._seen(concept, latents)))
            done += len(asked)
            if self.progress:
                self.progress(done, total)

    def _samples(self, concept: str) -> list[Sample]:
        return [(text, seed) for text in self.texts[concept] for seed in self.reader.seeds]

    def _seen(self, concept: str, latents: np.ndarray) -> tuple[float, float, float, float]:
        """Rate of the second value, doubt of it, share that shows the concept, and change."""
        reader, flat = self.reader, latents.reshape(-1, latents.shape[-1])
        rate, doubt = reader.rate(concept, latents, up=self.signs[concept] > 0)
        kept = float(reader.is_concept(concept, flat).mean())
        moved = np.linalg.norm(latents - reader.plain[concept], axis=-1).mean() / max(reader.distance(concept), 1e-12)
        return rate, doubt, kept, float(moved)
