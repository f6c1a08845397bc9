"""Where should a model be read? All of its blocks are read at once, at every step, and an attribute's variants held
apart by each: the block that tells them apart best is the probe to take.

Variants alone are captured ("a woman pilot", "a man pilot"), so that no neutral prompt's lean can choose the probe that
it is then read by.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from jaxtyping import Float32

from scalex import directions
from scalex.capture import Progress, Sample, capture
from scalex.errors import ScalexError
from scalex.jobs import Job
from scalex.records import Prompt, Reading
from scalex.trajectory import Everywhere

__all__ = ["CONCEPTS", "Sweep", "evenly", "probe_sweep", "some_concepts"]

CONCEPTS = 8
"""How many of the spec's concepts are asked about; the block that shows one shows the others."""

_AS_GOOD = 0.005  # of AUC


@dataclass(frozen=True)
class Sweep:
    """How well each block tells the variants of each attribute apart.

    Attributes:
        table: one row a reading, step (from 1), attribute and probe: `auc`, the mean over concepts of the AUC with
            which held-out seeds tell the two values apart that are most alike; `least`, that of the worst concept;
            `effect`, the mean distance between the same two along the held-out direction, in standard deviations (it
            goes on growing where AUC is 1); `width`, numbers a latent has; `used`, whether this is what the model is
            read at now.
        concepts, seeds: how many were asked. samples: that were captured.
    """

    table: pd.DataFrame
    concepts: tuple[str, ...]
    seeds: int
    samples: int

    def best(self) -> pd.DataFrame:
        """Per reading, at the step that it keeps: the probe of the largest AUC (the mean over attributes); of those
        within 0.005 of it, that of the largest effect."""
        kept = self.table[self.table.kept]
        mean = kept.groupby(["reading", "probe"], sort=False)[["auc", "least", "effect"]].mean().reset_index()
        near = mean[mean.auc >= mean.groupby("reading").auc.transform("max") - _AS_GOOD]
        return near.loc[near.groupby("reading", sort=False).effect.idxmax()].reset_index(drop=True)


def probe_sweep(
    job: Job, *, concepts: int = CONCEPTS, seeds: int | None = None, progress: Progress | None = None
) -> Sweep:
    """Reads every block of a model for the variants of some concepts.

    Args:
        job: a spec with attributes, and its model (see `scalex.jobs.prepare`).
        concepts: how many of its concepts, evenly from its list. seeds: how many; None is the spec's.

    Raises:
        ScalexError: the spec has no attributes, there are fewer than one `concepts`, or as `capture`.
    """
    chosen = some_concepts(job, concepts)
    prompts = [p for p in job.prompts if p.role == "concept" and p.attribute and p.concept in chosen]
    numbers = job.seeds[: seeds or len(job.seeds)]
    samples = list(dict.fromkeys((p.text, seed) for p in prompts for seed in numbers))
    plan = replace(job.plan, keep="all", pooling="mean")
    reader, held = Everywhere(job.model), _Held()
    capture(job.model, samples, plan, held.sink, progress, reader=reader)
    rows = [row for reading in plan.readings for row in _rows(job, reading, prompts, numbers, held, reader.widths)]
    return Sweep(pd.DataFrame(rows), tuple(chosen), len(numbers), len(samples))


def some_concepts(job: Job, n: int) -> list[str]:
    """So many concepts of those that have variants, evenly from the spec's list.

    Raises:
        ScalexError: n is less than one, the spec has no attributes, or none of its concepts is captured in variants.
    """
    if n < 1:
        raise ScalexError(f"a sweep over {n} concepts reads nothing", "Take at least one")
    if not job.spec.attributes:
        raise ScalexError("a sweep needs an attribute whose variants a probe is to tell apart", "Add attributes")
    known = list(dict.fromkeys(p.concept for p in job.prompts if p.role == "concept" and p.attribute))
    if not known:
        raise ScalexError("no analysis of the spec takes variants of its concepts", "Add defaults to analyses")
    return evenly(known, n)


def evenly(known: Sequence[str], n: int) -> list[str]:
    """So many, evenly from a list; all of a shorter one."""
    return [known[i] for i in np.unique(np.linspace(0, len(known) - 1, min(n, len(known))).round().astype(int))]


class _Held:
    """Latents by reading and sample."""

    def __init__(self) -> None:
        self.latents: dict[tuple[Reading, Sample], Float32[np.ndarray, "steps widths"]] = {}

    def sink(self, reading: Reading, batch: list[Sample], values: Float32[np.ndarray, "n steps widths"]) -> None:
        """Keeps a batch."""
        self.latents.update(((reading, sample), value) for sample, value in zip(batch, values, strict=True))


def _rows(
    job: Job,
    reading: Reading,
    prompts: Sequence[Prompt],
    seeds: Sequence[int],
    held: _Held,
    widths: dict[str, int],
) -> Iterator[dict[str, object]]:
    steps = job.plan.resolve(job.model)
    kept = steps.text if reading == "text" else steps.picture
    ends = np.cumsum([0, *widths.values()])
    for attribute, values in job.spec.attribute_values.items():
        by_concept = [
            _variants(prompts, concept, attribute, values, seeds, reading, held) for concept in _order(prompts)
        ]
        for k in range(steps.total):
            for i, (probe, width) in enumerate(widths.items()):
                each = [_apart(variants[..., k, ends[i] : ends[i + 1]]) for variants in by_concept]
                auc, effect = np.array(each).T
                yield {
                    "reading": reading,
                    "step": k + 1,
                    "attribute": attribute,
                    "probe": probe,
                    "auc": auc.mean(),
                    "least": auc.min(),
                    "effect": effect.mean(),
                    "width": width,
                    "kept": k == kept[-1],
                    "used": k == kept[-1] and probe == job.model.probe,
                }


def _order(prompts: Sequence[Prompt]) -> list[str]:
    return list(dict.fromkeys(p.concept for p in prompts))


def _variants(
    prompts: Sequence[Prompt],
    concept: str,
    attribute: str,
    values: Sequence[str],
    seeds: Sequence[int],
    reading: Reading,
    held: _Held,
) -> Float32[np.ndarray, "values templates seeds steps widths"]:
    texts = [[p.text for p in prompts if (p.concept, p.attribute, p.value) == (concept, attribute, v)] for v in values]
    return np.array([[[held.latents[reading, (t, s)] for s in seeds] for t in said] for said in texts])


def _apart(variants: Float32[np.ndarray, "values templates seeds width"]) -> tuple[float, float]:
    """AUC and effect of the two values that are most alike."""
    values = variants.astype(np.float64)
    return float(directions.separability(values).min()), _effect(values)


def _effect(variants: np.ndarray) -> float:
    """The least distance between two values along the direction of the other seeds, in standard deviations within
    (Cohen's d, held out)."""
    scores = directions.discriminants(variants, variants)
    n, least = len(variants), np.inf
    for u in range(n):
        for v in range(u):
            contrast = (scores[u] - scores[v]).reshape(n, -1)
            within = np.sqrt((contrast[u].var(ddof=1) + contrast[v].var(ddof=1)) / 2)
            apart = float(contrast[u].mean() - contrast[v].mean())
            least = min(least, apart / within if within > 0 else 0.0)
    return float(least)
