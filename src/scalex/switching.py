"""Switching off in a job: the latents of a sparse autoencoder or directions that are named, tried on its prompts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from scalex.ablation import Ablation, Scorers, ablate
from scalex.capture import Progress, Steer
from scalex.direction_files import load_direction
from scalex.discovery.sparse_autoencoder import Trained, best_latents, open_trained
from scalex.drawings import Drawings
from scalex.errors import ScalexError
from scalex.jobs import Job
from scalex.organisms.readout import PLANTED
from scalex.readouts import folder_of, learned_readings, named_readouts
from scalex.records import Latents, Prompt
from scalex.scorers import AttributeScorer
from scalex.steering import Erase, check_steers
from scalex.store import Store
from scalex.switches import Ablate, check_switches, random_latents
from scalex.wording import did_you_mean

__all__ = ["switch_off"]

_CONCEPTS = 8  # that are tried by default


def switch_off(
    job: Job,
    folder: str | Path | None = None,
    *,
    latents: Sequence[int] = (),
    attribute: str | None = None,
    value: str | None = None,
    top: int = 5,
    scale: float = 0.0,
    directions: Sequence[str | Path] = (),
    concepts: Sequence[str] | None = None,
    scorers: str | Sequence[AttributeScorer] | Scorers | None = None,
    store: Store | None = None,
    drawings: Drawings | None = None,
    capturing: Progress | None = None,
    progress: Progress | None = None,
) -> Ablation:
    """Switches off what is named and says what leaves and what stays, beside as many random latents.

    Tried on the neutral prompts of concepts and, where an attribute is named, on those that say its values.

    Args:
        folder: of a sparse autoencoder, whose latents are meant. latents: by number; none for the `top` ones whose
            activation tells `value` of `attribute` best from its other values.
        scale: what latents are multiplied by, as for `Ablate`. directions: files of directions to erase, too.
        concepts: of the job's spec; None is the first eight.
        scorers: what reads the pictures: by name, as for `scalex.validate`, or as for `ablate`. None is the exact
            readout of an organism, and nothing for other models.
        store: where "picture" keeps what it learns from: the first template's prompts of concepts, on 16 seeds more.
        drawings: as for `ablate`. capturing: called with samples captured to learn from, and to do. progress: with
            pictures done and to do.

    Raises:
        ScalexError: nothing is named, what is named is not there or does not fit the model, "picture" has no store, or
            as `ablate`.
    """
    off: dict[str, Steer] = {}
    if folder is not None:
        off |= _latents_off(job, open_trained(folder), _named(latents, attribute, value, top), scale)
    off |= _erased(job, directions)
    prompts = _tried(job, attribute, concepts)
    if not off:
        raise ScalexError("there is nothing to switch off", "Name latents of an autoencoder, or directions")
    if scorers is None and (folder_of(job) / PLANTED).is_file():
        scorers = "exact"
    if isinstance(scorers, str):
        chosen, asked = {p.concept for p in prompts}, [attribute] if attribute else []
        scorers = _read_by(scorers, job, asked, lambda: learned_readings(job, chosen, store, capturing))
    how: dict[str, Any] = {"rules": job.spec.rules, "drawings": drawings, "progress": progress}
    return ablate(job.model, prompts, job.seeds, job.plan, off, scorers or (), **how)


def _erased(job: Job, files: Sequence[str | Path]) -> dict[str, Steer]:
    """The directions of files, taken out."""
    found: dict[str, Steer] = {}
    for direction in map(load_direction, files):
        check_steers(direction, job.model)
        found[direction.name] = Erase(direction)
    return found


def _read_by(name: str, job: Job, attributes: Sequence[str], latents: Callable[[], Latents]) -> Scorers:
    """The scorers that a name stands for, of all that the spec knows of a concept."""
    readouts = named_readouts(name, job, latents, without=job.seeds, attributes=attributes)

    @cache
    def of(concept: str) -> list[AttributeScorer]:
        asked = {name: tuple(values) for name, values in job.spec.attribute_values.items()} | {"concept": (concept,)}
        found = (readouts(concept, attribute, values) for attribute, values in asked.items())
        return [scorer for scorer in found if scorer is not None]

    return of


class _Choice(NamedTuple):
    """Which latents to switch off."""

    latents: Sequence[int]
    attribute: str
    value: str
    top: int

    def of(self, trained: Trained) -> tuple[list[int], str]:
        """Their numbers, and what to call them."""
        if self.latents:
            return trained.sae.check_latents(self.latents), f"latents {', '.join(map(str, self.latents))}"
        chosen = best_latents(trained, self.attribute, self.value, self.top)
        return chosen, f"{len(chosen)} latents of {self.attribute}={self.value}"


def _named(latents: Sequence[int], attribute: str | None, value: str | None, top: int) -> _Choice:
    if not latents and not (attribute and value):
        raise ScalexError("no latents are named", "Give --latent, or --attribute and --value to find them")
    return _Choice(latents, attribute or "", value or "", top)


def _latents_off(job: Job, trained: Trained, choice: _Choice, scale: float) -> dict[str, Steer]:
    """The latents that were named or found, and as many random ones."""
    check_switches(trained.sae, trained.of, job.model)
    chosen, name = choice.of(trained)
    told = trained.table.drop_duplicates("latent").set_index("latent")["density"]
    density = told.reindex(range(trained.sae.latents)).fillna(0.0).to_numpy(np.float64)
    turned = f" x {scale:g}" if scale else ""
    found: dict[str, Steer] = {f"{name}{turned}": Ablate(trained.sae, chosen, trained.of, scale=scale)}
    if density.any():
        others = random_latents(density, chosen, np.random.default_rng(job.spec.rules.seed))
        found[f"{len(others)} random latents{turned}"] = Ablate(trained.sae, others, trained.of, scale=scale)
    return found


def _tried(job: Job, attribute: str | None, concepts: Sequence[str] | None) -> list[Prompt]:
    """The prompts in their first template: of each concept the neutral one, then the attribute's variants."""
    own = [p for p in job.prompts if p.role == "concept" and p.attribute in ("", attribute)]
    known = list(dict.fromkeys(p.concept for p in own))
    chosen = known[:_CONCEPTS] if concepts is None else list(concepts)
    for concept in chosen:
        if concept not in known:
            raise ScalexError(f"the spec has no concept {concept!r}", did_you_mean(concept, known, "Concepts"))
    if attribute is not None and attribute not in job.spec.attribute_values:
        way_out = did_you_mean(attribute, job.spec.attribute_values, "Attributes")
        raise ScalexError(f"the spec has no attribute {attribute!r}", way_out)
    first = [p for p in own if p.template == own[0].template and p.concept in chosen]
    return sorted({p.text: p for p in first}.values(), key=lambda p: (chosen.index(p.concept), p.attribute, p.value))
