"""Steering vectors: the directions that steer best, captured for the purpose, one for each concept.

An attribute's *own* direction for a concept, as a whole map, in the text reading of the *last* step: measured on the
embedded organism, that one is used at every step with the most effect (docs/steering.md). A mean over the map or a
direction that concepts share says as well who is a woman, but moves pictures far less.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from jaxtyping import Float

from scalex.capture import Plan, Progress
from scalex.direction_files import Direction, stamped, variant_direction
from scalex.engine import Fill, fill
from scalex.errors import ScalexError
from scalex.jobs import Job
from scalex.prompts import build_prompts
from scalex.records import Latents, Prompt
from scalex.store import Store
from scalex.wording import did_you_mean

__all__ = ["SteeringVector", "pair_of", "steering_plan", "steering_vectors"]


@dataclass(frozen=True, eq=False)
class SteeringVector:
    """What takes a concept from one variant to another.

    Attributes:
        direction: second variant minus first. values: these two.
        centre: the middle between them, where a latent speaks for neither; flat as the direction.
    """

    concept: str
    attribute: str
    values: tuple[str, str]
    direction: Direction
    centre: Float[np.ndarray, "width"]

    @cached_property
    def length(self) -> float:
        """The distance between the variants: the unit of alpha."""
        return float(np.linalg.norm(self.direction.vector))


def steering_plan(plan: Plan) -> Plan:
    """The plan that steering vectors are captured by, beside an audit's own."""
    return replace(plan, readings=("text",), keep={"text": "last"}, pooling="full", moments=0)


def pair_of(job: Job, attribute: str, values: Sequence[str] | None = None) -> tuple[str, str]:
    """The two values of an attribute to steer between: those given, or the only two that there are.

    Raises:
        ScalexError: the spec has no such attribute or value, or more values than two and none was chosen.
    """
    known = job.spec.attribute_values
    if attribute not in known:
        raise ScalexError(f"the spec has no attribute {attribute!r}", did_you_mean(attribute, known, "Attributes"))
    own = tuple(known[attribute])
    chosen = own if values is None else tuple(values)
    for value in chosen:
        if value not in own:
            raise ScalexError(f"attribute {attribute!r} has no value {value!r}", did_you_mean(value, own, "Values"))
    if len(chosen) != 2 or chosen[0] == chosen[1]:
        raise ScalexError(f"steering goes between two values of {attribute!r}, not {len(chosen)}", "Name two of them")
    return chosen[0], chosen[1]


def steering_vectors(
    job: Job,
    store: Store,
    attribute: str,
    values: Sequence[str] | None = None,
    *,
    concepts: Sequence[str] | None = None,
    seeds: Sequence[int] | None = None,
    progress: Progress | None = None,
    engine: Fill = fill,
) -> dict[str, SteeringVector]:
    """The steering vectors of concepts, by concept; what the store lacks is captured.

    Args:
        values: the two to steer between; may be left out where the attribute has but two.
        concepts: of the job's spec; None is all. seeds: None is the job's.
        progress: called with samples done and to do.

    Raises:
        ScalexError: there is no such attribute, value or concept, or as capturing and the store raise.
    """
    pair = pair_of(job, attribute, values)
    asked = [p for p in build_prompts(job.spec) if p.attribute == attribute and p.value in pair]
    known = list(dict.fromkeys(p.concept for p in asked))
    chosen = known if concepts is None else list(concepts)
    for concept in chosen:
        if concept not in known:
            raise ScalexError(f"the spec has no concept {concept!r}", did_you_mean(concept, known, "Concepts"))
    asked = [p for p in asked if p.concept in set(chosen)]
    plan = steering_plan(job.plan)
    recipe = plan.recipes(job.model)["text"]
    numbers = tuple(job.seeds if seeds is None else seeds)
    engine(store, job.model, asked, numbers, plan, progress)
    found: dict[str, SteeringVector] = {}
    for concept in chosen:  # one at a time: a whole map a seed is much to hold
        latents = store.read(recipe, _of(asked, concept), numbers)
        direction = stamped(variant_direction(latents, concept, attribute, pair), recipe)
        found[concept] = SteeringVector(concept, attribute, pair, direction, _centre(latents))
    return found


def _of(prompts: Sequence[Prompt], concept: str) -> list[Prompt]:
    return [p for p in prompts if p.concept == concept]


def _centre(latents: Latents) -> Float[np.ndarray, "width"]:
    """The mean over both variants, which are said as often."""
    return np.asarray(latents.values[:, :, -1].mean((0, 1), dtype=np.float64))
