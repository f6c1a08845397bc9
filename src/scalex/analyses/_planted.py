"""Data with a known answer: what an analysis, ours or another's, is tested on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from scalex.records import Finding, Latents, Prompt, Reading

__all__ = ["Plan", "Planted", "attributes_of", "leaning", "planted"]

Shares = Mapping[str, float]
Plan = Mapping[str, Mapping[str, Shares]]
"""Concept -> attribute -> value -> share. All concepts have the same attributes and values, in the same order."""


@dataclass(frozen=True)
class Planted:
    """Latents with a known answer: what an analysis' `planted(rng)` gives.

    Attributes:
        latents: of every reading that the analysis takes. attributes: their values by attribute.
        wrong: what in the findings contradicts what was planted, in words; empty where all is right.
        null: the same prompts and seeds with nothing planted. claims: how many of the findings claim something; on
            `null` that is a false alarm.
    """

    latents: Mapping[Reading, Latents]
    attributes: Mapping[str, Sequence[str]]
    wrong: Callable[[Sequence[Finding]], list[str]]
    null: Mapping[Reading, Latents]
    claims: Callable[[Sequence[Finding]], int]


def attributes_of(plan: Plan) -> dict[str, tuple[str, ...]]:
    """The attributes of a plan, and their values in order."""
    return {attribute: tuple(shares) for attribute, shares in next(iter(plan.values())).items()}


def planted(
    plan: Plan,
    rng: np.random.Generator,
    *,
    n_seeds: int = 32,
    n_templates: int = 2,
    width: int = 48,
    separation: float = 6.0,
    aside: float = 2.0,
    alike: float = 0.5,
    mixed: bool = False,
    reading: Reading = "picture",
) -> Latents:
    """Latents of every concept and its variants, in which each concept shows each value with the planted share.

    A latent is the concept, plus the values it shows, plus noise of its seed (shared by all prompts), plus noise of
    its own.

    Args:
        separation: distance of two values in standard deviations of a sample's own noise; 0 for a model that ignores
        them.
        aside: how far the neutral prompt lies from all mixtures of its variants, in the same unit.
        alike: share of samples in which all templates of a seed show the same value.
        mixed: the neutral prompt is the mixture of its values in every sample; else each sample draws one value.
    """
    shared = rng.normal(size=(n_seeds, width))
    prompts: list[Prompt] = []
    rows: list[Float[np.ndarray, "templates seeds width"]] = []
    for concept, attributes in plan.items():
        base, axes = 3 * rng.normal(size=width), iter(_units(1 + sum(map(len, attributes.values())), width, rng))
        off = aside * next(axes)
        places = {a: separation / np.sqrt(2) * np.stack([next(axes) for _ in s]) for a, s in attributes.items()}
        for attribute, value in _cells(attributes):
            latent = base + shared + rng.normal(size=(n_templates, n_seeds, width)) + (0 if attribute else off)
            for a, shares in attributes.items():
                wanted = {v: float(v == value) for v in shares} if a == attribute else shares
                latent = latent + _shown(wanted, (n_templates, n_seeds), alike, mixed, rng) @ places[a]
            rows.append(latent)
            prompts += [Prompt(f"{value} {concept} {t}", concept, str(t), attribute, value) for t in range(n_templates)]
    values = np.concatenate(rows)[:, :, None].astype(np.float32)
    return Latents(values, tuple(prompts), tuple(range(n_seeds)), (0,), reading)


def _cells(attributes: Mapping[str, Shares]) -> Iterator[tuple[str, str]]:
    yield "", ""
    yield from ((attribute, value) for attribute, shares in attributes.items() for value in shares)


def _units(n: int, width: int, rng: np.random.Generator) -> Float[np.ndarray, "n width"]:
    """Orthonormal directions."""
    return np.asarray(np.linalg.qr(rng.normal(size=(width, n)))[0].T)


def _shown(
    shares: Shares, shape: tuple[int, int], alike: float, mixed: bool, rng: np.random.Generator
) -> Float[np.ndarray, "templates seeds values"]:
    """How much each sample shows each value: the shares themselves, or all of one value."""
    p = np.array(list(shares.values()))
    if mixed:
        return np.broadcast_to(p, (*shape, len(p)))
    same = np.where(rng.random(shape[1]) < alike, 1, 0)
    u = np.where(same, rng.random(shape[1]), rng.random(shape))
    drawn = np.minimum((u[..., None] >= np.cumsum(p)).sum(-1), len(p) - 1)
    return np.asarray(np.eye(len(p))[drawn])


def leaning(
    rng: np.random.Generator, readings: Sequence[Reading], told: Mapping[str, str], *, apart: bool = False
) -> Planted:
    """A plan of three concepts that lean to man, to neither and to woman, as analyses of attributes are tested on.

    Args:
        told: by concept what the verdict of its `woman` row must start with.
        apart: whether the readings differ: the text reading then holds every concept for even.
    """
    shares = {"pilot": 0.05, "farmer": 0.5, "nurse": 0.95}
    even = dict.fromkeys(shares, 0.5)
    plans = {r: even if apart and r == "text" else shares for r in readings}

    def latents(plans: Mapping[Reading, Mapping[str, float]]) -> dict[Reading, Latents]:
        full = {r: {c: {"gender": {"man": 1 - p, "woman": p}} for c, p in plan.items()} for r, plan in plans.items()}
        return {r: planted(plan, rng, n_seeds=96, reading=r) for r, plan in full.items()}

    def wrong(found: Sequence[Finding]) -> list[str]:
        rows = [f for f in found if f.value == "woman" and f.target in told]
        return [f"{f.target}: {f.verdict}" for f in rows if not f.verdict.startswith(told[f.target])]

    def claims(found: Sequence[Finding]) -> int:
        return sum(f.verdict.startswith(("leans", "picture")) for f in found)

    return Planted(latents(plans), {"gender": ("man", "woman")}, wrong, latents(dict.fromkeys(readings, even)), claims)
