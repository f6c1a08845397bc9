"""Clusters: which concepts and words lie together, found without asking, and what the text encoder groups otherwise.

Every name is one point: the mean of its latents over templates and seeds, less the mean over names, in units of what
seeds alone make of one name, on the axes that seeds reproduce (see `_points`). Points are alike by their cosines.
HDBSCAN groups them, k-means where it finds no group. A cluster is called by its medoid and by the words that its
members hold more often than others.

Whether there are clusters at all is tested once a reading, against one normal cloud, and nothing else is claimed where
that test is not passed. How sure they are is told by resampling seeds: the mean adjusted Rand index with the whole
solution, and for each cluster the mean Jaccard index with the most similar cluster of each resample (Hennig 2007,
Computational Statistics and Data Analysis 52: 258-271, whose bound of a stable one is 0.75).

Of more than 4,000 names a random sample is clustered, resampled and mapped, and each other name goes where most of its
five nearest sampled names are, unless it is too far from them. Findings then say so.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple, TypeAlias

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from scalex import directions, stats
from scalex.analyses import _grouping as grouping
from scalex.analyses._cluster_tables import map_of, moved, named, tree
from scalex.analyses._grouping import NONE, Groups
from scalex.analyses._outcome import Outcome
from scalex.analyses._planted import Planted
from scalex.analyses._points import Name, Space, space
from scalex.analyses._rows import blank, join, unvaried
from scalex.records import Finding, Latents, Prompt, Reading, Role, Rules

__all__ = [
    "APART",
    "EMBEDDINGS",
    "EVERY",
    "LEAST",
    "MEANS",
    "NAME",
    "READINGS",
    "ROLES",
    "VARIANTS",
    "STABLE",
    "conclude",
    "explore",
    "likened",
    "names_of",
    "planted",
]

NAME = "clusters"
READINGS: tuple[Reading, ...] = ("text", "picture")
ROLES: tuple[Role, ...] = ("concept", "word")
VARIANTS: tuple[Role, ...] = ()
EMBEDDINGS = True
MEANS = True

APART = "their groups have no names in common that could be matched"
EVERY = "all names"  # the target of the rows that speak of the clustering as a whole
LEAST = 12  # names: four clusters of the least size
STABLE = 0.75  # from which mean Jaccard index, or mean adjusted Rand index, on clusters count as stable
_TREE = 300  # names in a tree
_RESAMPLES = 50
_TESTED = 1000  # names in the test of structure

Labels: TypeAlias = Int[np.ndarray, "points"]


class _Found(NamedTuple):
    """The clusters of the sampled names, those of the text encoder (None where there are none), and of resamples."""

    groups: Groups
    texts: Groups | None
    again: list[Labels]


def explore(latents: Latents, attributes: Mapping[str, Sequence[str]], rules: Rules) -> Outcome:
    """Clusters of all concepts and words in one reading.

    Findings: a row a cluster (target: its medoid, value: its words, estimate: its stability), one of the structure as a
    whole (estimate: mean adjusted Rand index of resamples; p: of the test), one against the text encoder (estimate:
    adjusted Rand index with the clusters of its embeddings).

    Tables: `map` (name, role, x, y, cluster, text_cluster; -1 for none), `links` (of up to 300 names), and where there
    are clusters `names` and `text_names` (cluster, medoid, members, words, size, ...) and `moved` (see `moved`).

    Raises:
        ScalexError: fewer than four seeds.
    """
    names = names_of(latents)
    whole = blank(NAME, latents, EVERY, "structure", "agreement", latents.n_templates)
    if len(names) < LEAST:
        count = f"{len(names)} name{'s' * (len(names) != 1)}"
        return Outcome([_nothing(whole, f"{count}: too few to cluster, {LEAST} are the least")], {})
    plan, held = directions.plan_of(latents, rules), space(latents, names, rules)
    if not held.points.shape[1]:
        return Outcome([_nothing(whole, "the names differ by no more than seeds alone make")], {})
    if np.ptp(held.by_seed, axis=2).max() <= 1e-6 * np.abs(held.by_seed).max():
        return Outcome([unvaried(whole)], {})
    return _clustered(held, plan, whole, rules)


def names_of(latents: Latents) -> tuple[Name, ...]:
    """Concepts and words, each once: what is both is a concept."""
    roles: dict[str, Role] = {}
    for role in ROLES:
        roles |= {name: role for name in latents.named(role) if name not in roles}
    return tuple(roles.items())


def conclude(finding: Finding, attributes: Mapping[str, Sequence[str]], rules: Rules) -> Finding:
    """The finding as it is: a reading holds one test, so its q is its p, and the verdict was known with it."""
    return finding


def likened(first: Mapping[str, pd.DataFrame], second: Mapping[str, pd.DataFrame]) -> Iterator[str]:
    """How alike the clusters of two models are, by their tables: a sentence a reading. This is no test."""
    for reading in READINGS:
        maps = [tables.get(f"{NAME}-{reading}-map") for tables in (first, second)]
        if maps[0] is None or maps[1] is None:
            continue
        both = maps[0][["name", "cluster"]].merge(maps[1][["name", "cluster"]], on="name")
        if (both[["cluster_x", "cluster_y"]] > NONE).any().all():
            index = grouping.likeness(both.cluster_x.to_numpy(), both.cluster_y.to_numpy())
            told = f"an adjusted Rand index of {index:.2f} (1: alike, 0: as by chance)"
            yield f"Clusters in the {reading} reading: A and B group the {len(both)} names that both hold with {told}."


# ---------------------------------------------------------------------------------------------------- clusters


def _clustered(held: Space, plan: stats.ResamplingPlan, whole: Finding, rules: Rules) -> Outcome:
    groups = grouping.group(held.points)
    texts = grouping.group(held.texts[held.sample]) if held.texts.shape[1] else None
    some = held.points[:: math.ceil(len(held.points) / _TESTED)]
    draws = math.ceil(5 / (1 - rules.level)) - 1  # 99 at 95 %
    tested = grouping.structure(some, np.random.default_rng(rules.seed), draws)
    tables = {"map": map_of(held, groups, texts, rules.seed)}
    tables |= {"links": tree(held.points)} if len(held.names) <= _TREE else {}
    whole = replace(whole, p=tested.p, reason=join(_sampled(held), whole.reason))
    if tested.p > 1 - rules.level or groups.number < 2:
        reason = f"one normal cloud of the same covariance groups as well (silhouette {tested.quality:.2f})"
        return Outcome([_nothing(whole, join(reason, whole.reason))], tables)
    found = _Found(groups, texts, _resampled(held, groups, plan))
    own = named(held, held.points, groups, tables["map"]["cluster"].to_numpy())
    tables["names"] = own.assign(**_stability(found, rules.level))
    if texts is not None:
        tables["names"]["text_overlap"] = grouping.best_overlaps(groups.labels, texts.labels)
        tables["text_names"] = named(held, held.texts[held.sample], texts, tables["map"]["text_cluster"].to_numpy())
        tables["moved"] = moved(held, groups, texts)
    rows = [_whole_row(whole, found, tested, rules.level), _text_row(whole, found, rules.level)]
    return Outcome([*_cluster_rows(whole, tables["names"]), *rows], tables)


def _sampled(held: Space) -> str:
    """What is said where not all names were clustered; nothing where they were."""
    if len(held.sample) == len(held.names):
        return ""
    return (
        f"a random sample of {len(held.sample):,} of {len(held.names):,} names was clustered, the others placed by it"
    )


def _resampled(held: Space, groups: Groups, plan: stats.ResamplingPlan) -> list[Labels]:
    """The clusters that every resample of seeds (and of templates, where they are drawn) would have given."""
    n_groups = groups.number if groups.method == "k-means" else None
    found = []
    for seeds, templates in zip(plan.seed_counts[:_RESAMPLES], plan.template_counts[:_RESAMPLES]):
        ways = templates / plan.n_templates if held.by_seed.shape[1] > 1 else np.ones(1)
        points = np.einsum("nwsa,w,s->na", held.by_seed, ways, seeds / plan.n_seeds, optimize=True)
        found.append(grouping.group(points, groups.method, n_groups).labels)
    return found


def _stability(found: _Found, level: float) -> dict[str, Float[np.ndarray, "clusters"]]:
    """For each cluster the mean Jaccard index with the most similar cluster of each resample, and its range."""
    draws = np.stack([grouping.best_overlaps(found.groups.labels, labels) for labels in found.again])
    mean = draws.mean(0)
    low, high = _range(draws, level, mean)
    return {"stability": mean, "low": low, "high": high}


def _range(
    draws: Float[np.ndarray, "draws *rest"], level: float, estimate: Float[np.ndarray, "*rest"]
) -> tuple[Float[np.ndarray, "*rest"], Float[np.ndarray, "*rest"]]:
    """Where the middle part of the draws lies, widened to hold the estimate where it lies outside."""
    low, high = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2], axis=0)
    return np.asarray(np.minimum(low, estimate)), np.asarray(np.maximum(high, estimate))


# ---------------------------------------------------------------------------------------------------- rows


def _nothing(row: Finding, reason: str) -> Finding:
    return replace(row, verdict="no clusters", reason=reason)


def _numbers(row: Finding, estimate: float, draws: Sequence[float], level: float) -> Finding:
    low, high = _range(np.array(draws), level, np.array(estimate))
    return replace(row, estimate=estimate, low=float(low), high=float(high))


def _said(stability: float) -> str:
    return "stable" if stability >= STABLE else "unstable"


def _whole_row(row: Finding, found: _Found, tested: grouping.Structure, level: float) -> Finding:
    """How alike the clusters of resamples are to those of all seeds."""
    labels = found.groups.labels
    alike = [grouping.likeness(labels, again) for again in found.again]
    how = f"{found.groups.number} clusters by {found.groups.method}"
    apart = f"{int((labels == NONE).sum())} of {len(labels)} names in none"
    beyond = f"silhouette {tested.quality:.2f}, beyond that of one normal cloud"
    row = _numbers(row, float(np.mean(alike)), alike, level)
    return replace(row, verdict=_said(row.estimate), reason=join(how, apart, beyond, row.reason))


def _cluster_rows(whole: Finding, clusters: pd.DataFrame) -> list[Finding]:
    untested = "only the structure as a whole is tested"
    return [
        replace(
            whole,
            target=row["medoid"],
            attribute="cluster",
            value=row["words"],
            estimate=row["stability"],
            unit="stability",
            low=row["low"],
            high=row["high"],
            p=math.nan,
            verdict=_said(row["stability"]),
            reason=join(f"{row['size']} names", untested, whole.reason),
        )
        for row in clusters.to_dict("records")
    ]


def _text_row(row: Finding, found: _Found, level: float) -> Finding:
    """How alike the clusters are to those of the text encoder. They differ where resamples are more like each other."""
    row = replace(row, attribute="text encoder", p=math.nan)
    if found.texts is None:
        return replace(row, verdict="undecided", reason="there are no text embeddings that tell the names apart")
    own = [grouping.likeness(found.groups.labels, again) for again in found.again]
    across = [grouping.likeness(found.texts.labels, again) for again in found.again]
    row = _numbers(row, grouping.likeness(found.texts.labels, found.groups.labels), across, level)
    differ = row.high < np.quantile(own, (1 - level) / 2)
    verdict = "denoiser groups differently" if differ else "groups alike"
    what = (
        "further from these than from the clusters of resamples" if differ else "no further from these than resamples"
    )
    how = f"{found.texts.number} clusters of the text encoder's embeddings by {found.texts.method}"
    return replace(row, verdict=verdict, reason=join(how, what, row.reason))


# ---------------------------------------------------------------------------------------------------- known answer

_KINDS = ("red", "blue", "green", "grey")
_SHAPES = ("box", "jar", "cup")


def planted(rng: np.random.Generator) -> Planted:
    """Names that the denoiser groups by the first of their words, and the text encoder by the second.

    Nothing planted: the names differ as much, in a way that seeds reproduce, but they lie in one normal cloud.
    """
    names = [f"{kind} {shape} {i}" for kind in _KINDS for shape in _SHAPES for i in range(4)]
    kinds = np.array([_KINDS.index(name.split()[0]) for name in names])
    shapes = np.array([_SHAPES.index(name.split()[1]) for name in names])
    embeddings = (4 * rng.normal(size=(len(_SHAPES), 8)))[shapes] + rng.normal(size=(len(names), 8))
    centres, cloud = 4 * rng.normal(size=(len(_KINDS), 24)), rng.normal(size=(len(names), 24))
    noise = rng.normal(size=(8, 24)) + rng.normal(size=(len(names), 8, 24))
    prompts = tuple(Prompt(f"a {name}", name, "a {}", role="word") for name in names)

    def latents(places: Float[np.ndarray, "names width"]) -> dict[Reading, Latents]:
        values, texts = (places[:, None] + noise)[:, :, None].astype(np.float32), embeddings.astype(np.float32)
        return {r: Latents(values, prompts, tuple(range(8)), (0,), r, texts) for r in READINGS}

    def wrong(found: Sequence[Finding]) -> list[str]:
        return [missed for r in READINGS for missed in _missed([f for f in found if f.reading == r])]

    def claims(found: Sequence[Finding]) -> int:
        return sum(f.attribute == "cluster" for f in found)

    return Planted(latents(centres[kinds] + cloud), {}, wrong, latents(2 * cloud), claims)


def _missed(rows: Sequence[Finding]) -> list[str]:
    """What one reading's findings miss of what was planted."""
    said = {f.attribute: f.verdict for f in rows if f.target == EVERY}
    asked = {"structure": "stable", "text encoder": "denoiser groups differently"}
    missed = [f"{what}: {said.get(what)}" for what, verdict in asked.items() if said.get(what) != verdict]
    stable = sorted(f.value for f in rows if f.attribute == "cluster" and f.verdict == "stable")
    return missed + ([] if stable == sorted(_KINDS) else [f"stable clusters: {stable}"])
