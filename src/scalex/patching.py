"""Which block carries an attribute into the picture? Its value is exchanged, and the picture tells how far it follows.

Telling variants apart is not carrying them: a block can say who is a woman while other ways around it draw her. So the
picture of one variant ("a man nurse") is drawn with one block's value, at every step, taken from the other variant's
run from the same noise ("a woman nurse"), and nothing else. How far the picture goes towards the other one is what
passes through that block: about the most that a push there, as long as the variants are apart, can be expected to do.
After the first step the other run's value also knows the picture that is coming there.

Interchange interventions: Vig et al. 2020 (arXiv 2004.12265), Geiger et al. 2021 (arXiv 2106.02997); in text-to-image
models Basu et al. 2024 (arXiv 2310.13730) restore single layers so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float

from scalex import stats
from scalex.batches import Batches, batch_size
from scalex.capture import Probe, Progress, check_finite, exact_inference
from scalex.errors import ScalexError
from scalex.jobs import Job
from scalex.models import Model
from scalex.plan import Plan
from scalex.sweep import CONCEPTS, some_concepts
from scalex.texts import Texts
from scalex.trajectory import Walk
from scalex.wording import did_you_mean

__all__ = ["Carried", "Pair", "carried", "exchanged"]

SEEDS = 8
"""How many of the spec's seeds."""

_AS_MUCH = 0.05


class Pair(NamedTuple):
    """Two texts from the same noise: what is drawn, and whose values are put in."""

    text: str
    other: str
    seed: int


@dataclass(frozen=True)
class Carried:
    """How much of an attribute each block carries.

    Attributes:
        table: one row an attribute and probe, in the order of the forward: `first` and `second`, the values; `carries`,
            the share of the way from the picture of the first to that of the second (1 is all of it), with `low` and
            `high`; and `aside`, how far the picture leaves that way (root mean square; 1 is its length).
        by_concept: the same for each concept alone: `attribute`, `first`, `second`, `probe`, `concept` and `carries`.
        concepts, seeds: how many were asked. samples: pictures that were drawn.
    """

    table: pd.DataFrame
    by_concept: pd.DataFrame
    concepts: tuple[str, ...]
    seeds: int
    samples: int

    def most(self) -> pd.DataFrame:
        """Per attribute and values the block that carries most: of those within 0.05 of it, the first."""
        sides = ["attribute", "first", "second"]
        most = self.table.groupby(sides, sort=False).carries.transform("max")
        return self.table[self.table.carries >= most - _AS_MUCH].groupby(sides, sort=False).head(1)


def carried(
    job: Job,
    *,
    probes: Sequence[str] | None = None,
    concepts: int = CONCEPTS,
    seeds: int | None = None,
    progress: Progress | None = None,
) -> Carried:
    """Exchanges every block's value between the variants of some concepts.

    Of an attribute with more values than two, the first is held against each other one. The first template is asked.

    Args:
        job: a spec with attributes, and its model (see `scalex.jobs.prepare`).
        probes: None is all that the model has. concepts: how many of the spec's, evenly from its list.
        seeds: how many; None is the spec's, at most 8. progress: called with pictures done and to do.

    Raises:
        ScalexError: the spec has no attributes, there is no such probe, or as `generate`.
    """
    known = job.model.probes()
    asked = tuple(known if probes is None else probes)
    for probe in asked:
        if probe not in known:
            raise ScalexError(f"the model has no probe {probe!r}", did_you_mean(probe, known, "Probes"))
    chosen, numbers = some_concepts(job, concepts), job.seeds[: seeds or min(SEEDS, len(job.seeds))]
    rng = np.random.default_rng(job.spec.rules.seed)
    resampling = stats.resampling_plan(len(chosen), len(numbers), job.spec.rules.resamples, rng)
    sides = [
        (attribute, values[0], second)
        for attribute, values in job.spec.attribute_values.items()
        for second in values[1:]
    ]
    pairs = [pair for side in sides for concept in chosen for pair in _pairs(job, concept, side, numbers)]
    found = exchanged(job.model, pairs, job.plan, asked, progress)
    each = np.concatenate([_ways(ends) for ends in found])
    each = each.reshape(len(sides), len(chosen), len(numbers), len(asked), 3)
    cells = [
        (dict(zip(("attribute", "first", "second", "probe"), (*side, probe))), part[:, :, i])
        for side, part in zip(sides, each)
        for i, probe in enumerate(asked)
    ]
    table = pd.DataFrame([told | _row(part, resampling, job) for told, part in cells])
    alone = pd.DataFrame([row for told, part in cells for row in _alone(told, chosen, part)])
    return Carried(table, alone, tuple(chosen), len(numbers), len(pairs) * (len(asked) + 2))


def exchanged(
    model: Model, pairs: Sequence[Pair], plan: Plan, probes: Sequence[str], progress: Progress | None = None
) -> Iterator[Float[np.ndarray, "pictures pairs c h w"]]:
    """The clean latents that pairs end with, batch by batch: those of the other text, those of the text itself, and
    those of the text with each probe's value taken from the other one's run, at every step.

    Raises:
        ScalexError: as `scalex.capture.generate`.
    """
    steps, n = replace(plan.resolve(model), text=(), picture=()), len(probes) + 2
    model.make_ready(whole=True)
    batches = Batches(model, replace(plan, batch=max(1, batch_size(model, plan) // n)))
    texts = Texts(model, [text for pair in pairs for text in (pair.other, pair.text)], plan.truncate, steps.doubled)

    def work(batch: list[Pair]) -> Float[np.ndarray, "pictures pairs c h w"]:
        rows = [pair.other for pair in batch] + [pair.text for pair in batch] * (n - 1)
        condition = texts.of(rows)
        walk = Walk(model, probe, steps, [pair.seed for pair in batch] * n, condition, texts.empty)
        for _ in range(steps.total):
            walk.advance()
        return np.asarray(walk.latents.float().cpu()).reshape(n, len(batch), *model.latent_shape)

    done = 0
    with Probe(model) as probe, exact_inference(model), _exchanging(model, probes, 1 + steps.doubled):
        for batch, ends in batches.run(pairs, work):
            drawn = [(pair.text, pair.seed) for pair in batch]
            check_finite(np.swapaxes(ends, 0, 1), drawn, "picture with exchanged values", model)
            texts.release([text for pair in batch for text in (pair.other, pair.text)])
            done += len(batch) * n
            if progress:
                progress(done, len(pairs) * n)
            yield ends


# ---------------------------------------------------------------------------------------------------- parts


@contextmanager
def _exchanging(model: Model, probes: Sequence[str], runs: int) -> Iterator[None]:
    """While this lasts, a batch is `len(probes) + 2` equal parts, and in the part of a probe its value is that which
    the first part has there. The second part is left alone.

    Args:
        runs: how often a forward holds the batch: twice with guidance.
    """
    with ExitStack() as hooks:
        for i, probe in enumerate(probes):
            hook = _exchange(model, (runs, len(probes) + 2, -1), i + 2)
            hooks.callback(model.submodule(probe).register_forward_hook(hook).remove)
        yield


def _exchange(model: Model, parts: tuple[int, int, int], own: int) -> Callable[[torch.nn.Module, Any, Any], Any]:
    def exchange(module: torch.nn.Module, inputs: Any, output: Any) -> Any:
        value = model.read_probe(output).clone()
        by_part = value.unflatten(0, parts)
        by_part[:, own] = by_part[:, 0]
        return model.write_probe(output, value)

    return exchange


def _pairs(job: Job, concept: str, side: tuple[str, str, str], seeds: Sequence[int]) -> list[Pair]:
    """A concept's variants, once a seed.

    Args:
        side: the attribute, its first value and its second.
    """
    attribute, *values = side
    first, second = (_text(job, concept, attribute, value) for value in values)
    return [Pair(first, second, seed) for seed in seeds]


def _text(job: Job, concept: str, attribute: str, value: str) -> str:
    """The variant's prompt in the first template."""
    return next(p.text for p in job.prompts if (p.concept, p.attribute, p.value) == (concept, attribute, value))


def _ways(ends: Float[np.ndarray, "pictures pairs c h w"]) -> Float[np.ndarray, "pairs probes 3"]:
    """Of each pair and probe: the product of move and way, the square of the way, and the square of the move."""
    other, own, *patched = ends.reshape(*ends.shape[:2], -1).astype(np.float64)
    way, moves = other - own, np.stack(patched, axis=1) - own[:, None]
    square = np.broadcast_to((way**2).sum(-1)[:, None], moves.shape[:2])
    return np.stack([(moves * way[:, None]).sum(-1), square, (moves**2).sum(-1)], axis=-1)


def _alone(
    told: dict[str, str], concepts: Sequence[str], ways: Float[np.ndarray, "concepts seeds 3"]
) -> list[dict[str, Any]]:
    return [told | {"concept": concept, "carries": _share(one)} for concept, one in zip(concepts, ways, strict=True)]


def _row(ways: Float[np.ndarray, "concepts seeds 3"], resampling: stats.ResamplingPlan, job: Job) -> dict[str, float]:
    """A ratio of means over concepts and seeds, by its linearised scores."""
    along, square, moved = np.moveaxis(ways, -1, 0)
    share = _share(ways)
    if np.isnan(share):
        return dict.fromkeys(("carries", "low", "high", "aside"), share)
    scores = share + (along - share * square) / square.mean()
    low, high = stats.bootstrap_interval(resampling, scores, job.spec.rules.level)
    on = np.divide(along**2, square, out=np.zeros_like(along), where=square > 0)
    aside = np.sqrt(max(0.0, float((moved - on).mean())) / square.mean())
    return {"carries": share, "low": low, "high": high, "aside": float(aside)}


def _share(ways: Float[np.ndarray, "*some 3"]) -> float:
    """Of the way, that the moves go in all; NaN where the pictures are the same."""
    along, square = ways[..., 0].sum(), ways[..., 1].sum()
    return float(along / square) if square > 0 else float("nan")
