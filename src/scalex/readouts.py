"""What reads pictures of a job, by name: as a command says it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from scalex.capture import Progress
from scalex.engine import fill
from scalex.errors import ScalexError
from scalex.jobs import Job
from scalex.organisms import EMBEDDED
from scalex.prompts import build_prompts
from scalex.records import Latents
from scalex.scorers import AttributeScorer, Readouts, readouts_of
from scalex.scorers.exact import exact_readouts
from scalex.scorers.function import Function, named_function
from scalex.scorers.image_classification import image_classification
from scalex.scorers.picture_reading import picture_readouts
from scalex.scorers.zero_shot import zero_shot_readouts
from scalex.store import Store

__all__ = ["folder_of", "learned_readings", "named_readouts"]

_LEARNED = 16  # seeds that the picture reading learns from


def named_readouts(
    name: str,
    job: Job,
    latents: Callable[[], Latents],
    *,
    without: Sequence[int] = (),
    attributes: Sequence[str] = (),
) -> Readouts:
    """The scorers that a name stands for.

    Args:
        name: "picture" (the model's own reading), "exact" (of an organism), "clip:FOLDER", "classifier:FOLDER" or
            "package.module:function".
        latents: gives the picture reading that "picture" learns from; is called for that alone.
        without: seeds of the pictures, which it must not learn from. attributes: that are asked for.

    Raises:
        ScalexError: there is no such scorer, or it does not fit the job.
    """
    kind, _, rest = name.partition(":")
    if name == "picture":
        return picture_readouts(job.model, job.plan, latents(), without=without, rules=job.spec.rules)
    if name == "exact":
        return exact_readouts(folder_of(job), job.model)
    if kind == "clip" and rest:
        return zero_shot_readouts(rest, _Words(job), device=str(job.model.device))
    if kind == "classifier" and rest:
        return readouts_of(_classifiers(rest, job, attributes))
    if rest:
        return readouts_of([_function(name, job, attributes)])
    raise ScalexError(f"there is no scorer {name!r}", "Scorers: picture, exact, clip:, classifier:, module:function")


def learned_readings(
    job: Job, concepts: Collection[str], store: Store | None, progress: Progress | None = None
) -> Latents:
    """What the picture reading learns from where there is no run: these concepts and their variants in the first
    template, on 16 seeds that the job does not have. What the store lacks is captured.

    Raises:
        ScalexError: there is no store, or as capturing and the store raise.
    """
    if store is None:
        raise ScalexError("the picture reading has no store to learn from", "Give one, or name another scorer")
    own = [p for p in build_prompts(job.spec) if p.role == "concept" and p.concept in concepts]
    first = [p for p in own if p.template == own[0].template]
    seeds = range(max(job.seeds) + 1, max(job.seeds) + 1 + _LEARNED)
    plan = replace(job.plan, readings=("picture",), keep={"picture": "last"}, moments=0)
    fill(store, job.model, first, seeds, plan, progress)
    return store.read(plan.recipes(job.model)["picture"], first, seeds)


def folder_of(job: Job) -> Path:
    """Where the model of a job lies, if that is a folder."""
    return Path(job.spec.model) if job.spec.model else EMBEDDED


class _Words:
    """What a model of pictures and texts is asked of: the audit's own prompts."""

    def __init__(self, job: Job) -> None:
        self._prompts = build_prompts(job.spec)

    def __call__(self, concept: str, attribute: str) -> Mapping[str, Sequence[str]]:
        found: dict[str, list[str]] = {}
        for p in self._prompts:
            if attribute == "concept" and not p.attribute:
                found.setdefault(p.concept, []).append(p.text)
            elif p.concept == concept and p.attribute == attribute:
                found.setdefault(p.value, []).append(p.text)
        return found


def _classifiers(folder: str, job: Job, attributes: Sequence[str]) -> list[AttributeScorer]:
    """A scorer of each attribute whose values are all among the classifier's labels: of those that are asked for, of
    one at least."""
    found: list[AttributeScorer] = []
    lacking: ScalexError | None = None
    for attribute, values in job.spec.attribute_values.items():
        try:
            found.append(image_classification(folder, attribute, tuple(values), device=str(job.model.device)))
        except ScalexError as error:
            lacking = error
            if attribute in attributes:
                raise
    if lacking and not found:
        raise lacking
    return found


def _function(name: str, job: Job, attributes: Sequence[str]) -> AttributeScorer:
    """A user's function; it tells one attribute, the one that is tried."""
    chosen = list(attributes) or list(job.spec.attribute_values)
    if len(chosen) != 1:
        raise ScalexError(f"{name} tells one attribute, and {len(chosen)} are to be tried", "Name one with --attribute")
    values = tuple(job.spec.attribute_values[chosen[0]])
    return Function(named_function(name), chosen[0], values, name)
