"""Clusters: what seeds reproduce, groups and their test, names of groups, the findings, the panel and the score."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from scipy.cluster.hierarchy import is_valid_linkage

from scalex import analyses
from scalex.analyses import _grouping, _points
from scalex.analyses._grouping import (
    NONE,
    best_overlaps,
    central,
    distinguishing,
    group,
    likeness,
    quality,
    structure,
)
from scalex.analyses._outcome import Outcome
from scalex.analyses._points import carried, reproduced, space
from scalex.analyses.clusters import EVERY, LEAST, explore, names_of, planted
from scalex.organisms import EMBEDDED
from scalex.organisms.readout import load_truth
from scalex.records import Finding, Latents, Prompt, Reading, Role, Rules
from scalex.report.parts.clusters import dendrogram_chart, map_chart, panel
from scalex.report.theme import inline_svg
from scalex.truth.clusters import Wording, score_subgroups, score_wordings, wordings

RULES = Rules(resamples=100, permutations=99)
Tables = dict[tuple[str, str], pd.DataFrame]


def blobs(
    rng: np.random.Generator, number: int, each: int, width: int, apart: float = 4.0
) -> tuple[np.ndarray, np.ndarray]:
    """Points around as many centres, and where they belong."""
    truth = np.repeat(np.arange(number), each)
    return apart * rng.normal(size=(number, width))[truth] + rng.normal(size=(len(truth), width)), truth


def made(
    names: Sequence[str],
    places: np.ndarray,
    rng: np.random.Generator,
    *,
    seeds: int = 8,
    templates: int = 1,
    noise: float = 1.0,
    texts: np.ndarray | None = None,
    role: Role = "word",
) -> Latents:
    """Latents of names at places, with noise that all names of a seed share and noise of their own."""
    n, width = places.shape
    shared = 3 * rng.normal(size=(1, 1, seeds, width))
    values = places[:, None, None] + noise * (shared + rng.normal(size=(n, templates, seeds, width)))
    prompts = tuple(Prompt(f"{name} {t}", name, str(t), role=role) for name in names for t in range(templates))
    flat = values.reshape(n * templates, seeds, 1, width).astype(np.float32)
    embedded = None if texts is None else np.repeat(texts, templates, 0).astype(np.float32)
    return Latents(flat, prompts, tuple(range(seeds)), (0,), "picture", embedded)


@pytest.fixture(scope="module")
def outcome() -> Outcome:
    case = planted(np.random.default_rng(0))
    return analyses.explore(["clusters"], case.latents, {}, RULES)


def of(outcome: Outcome, attribute: str, reading: Reading = "picture") -> list[Finding]:
    return [f for f in outcome.findings if f.attribute == attribute and f.reading == reading]


# ---------------------------------------------------------------------------------------------------- what reproduces


def _kept(by_seed: np.ndarray, seed: int = 0) -> np.ndarray:
    """An orthonormal basis of the directions whose coordinates are kept."""
    return np.linalg.qr(reproduced(by_seed, np.random.default_rng(seed)))[0]


def test_only_what_seeds_reproduce_is_kept() -> None:
    """Three directions of names, weaker than one direction of pure noise: the three are kept, and nothing else."""
    rng = np.random.default_rng(1)
    truth = np.linalg.qr(rng.normal(size=(40, 4)))[0].T
    signal = rng.normal(size=(120, 3)) @ (np.array([3.0, 2.5, 2.0])[:, None] * truth[:3])
    loud = 12 * rng.normal(size=(120, 8, 1)) * truth[3]
    by_seed = signal[:, None] + loud + 5 * rng.normal(size=(1, 8, 40)) + 0.5 * rng.normal(size=(120, 8, 40))
    kept = _kept(by_seed)
    assert kept.shape[1] == 3
    assert np.linalg.svd(kept.T @ truth[:3].T)[1] == pytest.approx(np.ones(3), abs=0.05)
    leading = np.linalg.svd(by_seed.mean(1) - by_seed.mean((0, 1)))[2][0]
    assert abs(leading @ truth[3]) > 0.9, "without normalisation and floor the noise would come first"


@pytest.mark.parametrize(("seeds", "names", "width"), [(4, 60, 30), (8, 60, 30), (9, 60, 30), (8, 20, 120)])
def test_of_pure_noise_hardly_anything_is_kept(seeds: int, names: int, width: int) -> None:
    """The floor is the greatest of 20 flips (of 3 there are with 4 seeds), so noise passes it once in 21 (in 4)."""
    rng = np.random.default_rng(seeds)
    spread = np.geomspace(1, 5, width)
    passed = sum(_kept(spread * rng.normal(size=(names, seeds, width))).size > 0 for _ in range(40))
    assert passed <= (20 if seeds == 4 else 7)  # P(more) < 0.003


def test_distances_are_counted_in_what_seeds_make_of_one_name() -> None:
    """Where single names vary twice as much, names that differ twice as much are as far apart."""
    rng = np.random.default_rng(2)
    scale = np.geomspace(1, 30, 12)
    places, noise = rng.normal(size=(200, 12)), rng.normal(size=(200, 8, 12))
    one, other = (s * (2 * places[:, None] + noise) for s in (np.ones(12), scale))
    angles = []
    for by_seed in (one, other):
        points = (by_seed.mean(1) - by_seed.mean((0, 1))) @ reproduced(by_seed, np.random.default_rng(0))
        points /= np.linalg.norm(points, axis=1, keepdims=True)
        angles.append(points @ points.T)
    assert np.corrcoef(angles[0].ravel(), angles[1].ravel())[0, 1] > 0.99


def test_latents_of_any_width_can_be_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond a width latents are projected at random, and cosines hardly change."""
    rng = np.random.default_rng(3)
    places = rng.normal(size=(80, 6)) @ rng.normal(size=(6, 400))
    by_seed = places[:, None] + rng.normal(size=(80, 8, 400))
    cosines = []
    for width in (2000, 200):
        monkeypatch.setattr(_points, "_WIDE", width)
        points = (by_seed.mean(1) - by_seed.mean((0, 1))) @ reproduced(by_seed, np.random.default_rng(0))
        assert points.shape == (80, 6)
        points /= np.linalg.norm(points, axis=1, keepdims=True)
        cosines.append((points @ points.T).ravel())
    assert np.corrcoef(*cosines)[0, 1] > 0.95


def test_the_greatest_spread_is_that_of_the_full_decomposition() -> None:
    for shape in ((12, 90), (60, 40), (300, 20)):
        values = np.random.default_rng(4).normal(size=shape)
        assert _points._greatest(values) == pytest.approx(np.linalg.svd(values)[1][0])
    assert _points._greatest(np.zeros((30, 30))) == 0


# ---------------------------------------------------------------------------------------------------- groups


@pytest.mark.parametrize("method", ["hdbscan", "k-means"])
def test_groups_are_found_without_their_number(method: _grouping.Method) -> None:
    points, truth = blobs(np.random.default_rng(3), 30, 8, 20)
    found = group(points, method)
    assert found.method == method
    assert found.number == 30
    assert likeness(found.labels, truth) > 0.98


def test_the_largest_group_comes_first_and_outliers_belong_to_none() -> None:
    rng = np.random.default_rng(4)
    sizes = (6, 20, 11)
    points = np.concatenate([np.eye(5)[i] + 0.05 * rng.normal(size=(n, 5)) for i, n in enumerate(sizes)])
    labels = group(np.concatenate([points, -np.eye(5)[3:]])).labels
    assert Counter(labels.tolist()) == {0: 20, 1: 11, 2: 6, NONE: 2}
    assert set(labels[6:26]) == {0}


def test_k_means_takes_over_where_hdbscan_finds_nothing() -> None:
    spread = np.eye(24)  # all as far from each other
    assert group(spread, "hdbscan").number == 0
    assert group(spread).method == "k-means"
    assert group(spread).number >= 2


@pytest.mark.parametrize("points", [np.ones((20, 3)), np.repeat(np.eye(2), 10, 0), np.zeros((12, 1))])
def test_points_that_coincide_are_no_trouble(points: np.ndarray) -> None:
    found = group(points)
    assert len(found.labels) == len(points)
    assert quality(points, found.labels) <= 1


def test_structure_is_seen_and_one_cloud_is_not_taken_for_it() -> None:
    rng = np.random.default_rng(6)
    points, _ = blobs(rng, 5, 9, 6)
    assert structure(points, rng, 99).p == 0.01
    clouds = [rng.normal(size=(45, 6)) * np.arange(1, 7) for _ in range(20)]
    assert sum(structure(cloud, rng, 99).p <= 0.05 for cloud in clouds) <= 4  # P(more) = 0.003


def test_a_test_that_has_seen_enough_stops() -> None:
    calls = []

    def grouped(points: np.ndarray) -> _grouping.Groups:
        calls.append(len(points))
        return _grouping.Groups(np.full(len(points), NONE), "hdbscan")

    assert structure(np.random.default_rng(7).normal(size=(30, 3)), np.random.default_rng(8), 99, grouped).p == 1
    assert len(calls) == 1 + 5


def _pairwise(first: Sequence[int], second: Sequence[int]) -> float:
    """The adjusted Rand index by counting pairs; whoever belongs to no group is with nobody."""

    def together(labels: Sequence[int]) -> np.ndarray:
        return np.array([a == b != NONE for a, b in combinations(labels, 2)])

    one, two = together(first), together(second)
    expected, most = one.sum() * two.sum() / len(one), (one.sum() + two.sum()) / 2
    return float(((one & two).sum() - expected) / (most - expected))


def test_likeness_and_overlaps_are_as_counted_by_hand() -> None:
    rng = np.random.default_rng(9)
    for _ in range(20):
        one, two = rng.integers(-1, 4, size=(2, 40))
        one[:4] = two[:4] = range(4)
        assert likeness(one, two) == pytest.approx(_pairwise(one.tolist(), two.tolist()))
        sets = [[set(np.flatnonzero(labels == k)) for k in range(4)] for labels in (one, two)]
        by_hand = [max(len(a & b) / len(a | b) for b in sets[1]) for a in sets[0]]
        assert best_overlaps(one, two) == pytest.approx(by_hand)
    assert best_overlaps(np.array([0, 0, 1]), np.full(3, NONE)).tolist() == [0, 0]


# ---------------------------------------------------------------------------------------------------- names of groups


def test_the_medoid_is_the_nearest_to_all_others() -> None:
    points, truth = blobs(np.random.default_rng(10), 3, 7, 4)
    for label, own in enumerate(central(points, truth, 3)):
        members = np.flatnonzero(truth == label)
        flat = points / np.linalg.norm(points, axis=1, keepdims=True)
        sums = {i: sum(math.dist(flat[i], flat[j]) for j in members) for i in members}
        assert own == sorted(sums, key=sums.__getitem__)[:3]


def test_distinguishing_words_are_those_of_the_formula() -> None:
    """Monroe, Colaresi and Quinn's z, written out anew for every word."""
    counts = np.random.default_rng(11).integers(0, 9, size=(4, 7)).astype(float)
    counts[:, 0] += 1  # no word that nobody says
    every = counts.sum(0) + (counts.sum(0) == 0)
    for group_, z in zip(counts, _grouping._log_odds(counts)):
        own, other = Counter(dict(enumerate(group_))), Counter(dict(enumerate(every - group_)))
        for word in range(7):
            alpha, total = every[word] / 4, every.sum() / 4
            ours = math.log((own[word] + alpha) / (own.total() + total - own[word] - alpha))
            theirs = math.log((other[word] + alpha) / (other.total() + total - other[word] - alpha))
            deviation = math.sqrt(1 / (own[word] + alpha) + 1 / (other[word] + alpha))
            assert z[word] == pytest.approx((ours - theirs) / deviation)


def test_distinguishing_words_are_said_by_more_than_one_of_the_group_and_rarely_by_others() -> None:
    texts = [f"a Red {x}" for x in ("box", "jar", "cup", "hat", "pen")] + [f"a blue {x}" for x in ("box", "jar", "cup")]
    texts += ["a hat", "a pen"]
    labels = np.array([0] * 5 + [1] * 3 + [NONE] * 2)
    assert distinguishing(texts * 2, np.tile(labels, 2)) == [["red"], ["blue"]]


@pytest.mark.parametrize("texts", [["木", "森", "林", "川"], ["!!", "??", "..", "--"], ["", " ", "a", "a"]])
def test_texts_without_words_and_in_other_scripts_have_no_words_or_their_own(texts: list[str]) -> None:
    assert distinguishing(texts, np.array([0, 0, 1, 1])) == [[], []]


# ---------------------------------------------------------------------------------------------------- findings


def test_every_cluster_has_a_row_and_the_whole_has_two(outcome: Outcome) -> None:
    rows = of(outcome, "cluster")
    assert sorted(f.value for f in rows) == ["blue", "green", "grey", "red"]
    assert all(f.target.split()[0] == f.value for f in rows), "a medoid is one of its cluster"
    assert all(f.unit == "stability" and f.estimate > 0.9 and f.verdict == "stable" for f in rows)
    assert all(f.reason.startswith("12 names; only the structure as a whole is tested") for f in rows)
    [whole] = of(outcome, "structure")
    assert whole.p == whole.q == 0.01
    assert whole.estimate > 0.9
    assert whole.reason.startswith("4 clusters by hdbscan; 0 of 48 names in none; silhouette ")
    [encoder] = of(outcome, "text encoder")
    assert encoder.verdict == "denoiser groups differently"
    assert encoder.estimate < 0.1
    assert "further from these than from the clusters of resamples" in encoder.reason


def test_the_tables_hold_map_tree_names_and_what_moved(outcome: Outcome) -> None:
    tables = {name.split("-")[2]: t for name, t in outcome.tables.items() if name.startswith("clusters-picture")}
    assert set(tables) == {"map", "links", "names", "text_names", "moved"}
    held = tables["map"]
    assert list(held.columns) == ["name", "role", "x", "y", "cluster", "text_cluster"]
    assert held.groupby("cluster")["name"].agg(lambda n: {x.split()[0] for x in n}).map(len).tolist() == [1] * 4
    assert held.groupby("text_cluster")["name"].agg(lambda n: {x.split()[1] for x in n}).map(len).tolist() == [1] * 3
    assert is_valid_linkage(tables["links"].to_numpy(float))
    assert tables["names"]["size"].tolist() == [12] * 4
    assert set(tables["text_names"]["words"]) == {"box", "jar", "cup"}
    moved = tables["moved"]
    assert moved["shared"].is_monotonic_increasing
    near = [row.split(", ")[0].split()[0] == name.split()[0] for row, name in zip(moved["near"], moved["name"])]
    assert all(near)


def test_where_denoiser_and_text_encoder_agree_it_is_said() -> None:
    points, truth = blobs(np.random.default_rng(11), 4, 12, 16)
    names = [f"n{k} {i}" for i, k in enumerate(truth)]
    found = explore(made(names, points, np.random.default_rng(12), texts=points), {}, RULES)
    assert [f.verdict for f in found.findings if f.attribute == "text encoder"] == ["groups alike"]


def test_clusters_that_seeds_do_not_bear_out_are_unstable() -> None:
    """Groups hardly further apart than the noise of their means: found at times, and not again."""
    points, truth = blobs(np.random.default_rng(13), 4, 14, 16, apart=0.9)
    latents = made([f"n{i}" for i in range(len(truth))], points, np.random.default_rng(14), seeds=4, noise=1.5)
    held = space(latents, names_of(latents), RULES)
    assert np.linalg.norm(held.by_seed.std(2)) > 0
    verdicts = [f.verdict for f in explore(latents, {}, RULES).findings if f.target == EVERY]
    assert "stable" not in verdicts


def test_what_is_both_concept_and_word_is_one_name() -> None:
    rng = np.random.default_rng(15)
    points = rng.normal(size=(3, 5))
    words = made(["cat", "dog", "cow"], points, rng)
    prompts = (*words.prompts, *(replace(p, role="concept") for p in words.prompts[:1]))
    both = replace(words, values=np.concatenate([words.values, words.values[:1]]), prompts=prompts)
    assert names_of(both) == (("cat", "concept"), ("dog", "word"), ("cow", "word"))


def test_templates_that_are_drawn_are_resampled_too() -> None:
    rng = np.random.default_rng(16)
    points, _ = blobs(rng, 2, 8, 6)
    names = [f"n{i}" for i in range(16)]
    for templates, ways in ((4, 1), (5, 5)):
        latents = made(names, points, rng, templates=templates)
        held = space(latents, names_of(latents), RULES)
        assert held.by_seed.shape[:3] == (16, ways, 8)
        assert held.by_seed.mean((1, 2)) == pytest.approx(held.every, abs=1e-4)


def test_clusters_that_hang_on_one_template_are_unstable_where_templates_are_drawn() -> None:
    """A resample of five templates lacks a given one in every third draw; four templates are fixed."""
    stability = {}
    for templates in (4, 5):
        points, _ = blobs(np.random.default_rng(27), 4, 12, 16, apart=60)
        latents = made([f"n{i}" for i in range(48)], 0 * points, np.random.default_rng(28), templates=templates)
        values = latents.values.reshape(48, templates, 8, 1, 16).copy()
        values[:, 0] += points[:, None, None].astype(np.float32)
        found = explore(replace(latents, values=values.reshape(latents.values.shape)), {}, RULES)
        [stability[templates]] = [f.estimate for f in found.findings if f.attribute == "structure"]
    assert stability[4] > 0.95
    assert stability[5] < 0.8


@pytest.mark.parametrize("number", [1, 2, LEAST - 1])
def test_too_few_names_are_said(number: int) -> None:
    latents = made(
        [f"n{i}" for i in range(number)], np.random.default_rng(17).normal(size=(number, 4)), np.random.default_rng(0)
    )
    [row] = explore(latents, {}, RULES).findings
    assert row.verdict == "no clusters"
    noun = "1 name" if number == 1 else f"{number} names"
    assert row.reason == f"{noun}: too few to cluster, {LEAST} are the least"


def test_names_that_do_not_differ_and_seeds_that_do_not_vary_are_said() -> None:
    names = [f"n{i}" for i in range(16)]
    same = made(names, np.zeros((16, 5)), np.random.default_rng(18))
    [row] = explore(same, {}, RULES).findings
    assert (row.verdict, row.reason) == ("no clusters", "the names differ by no more than seeds alone make")
    still = made(names, np.random.default_rng(19).normal(size=(16, 5)), np.random.default_rng(0), noise=0)
    [row] = explore(still, {}, RULES).findings
    assert (row.verdict, row.reason) == ("undecided", "the latents do not vary between seeds")


@pytest.mark.parametrize("texts", [None, np.ones((48, 6))])
def test_without_telling_text_embeddings_the_rest_is_found(texts: np.ndarray | None) -> None:
    points, truth = blobs(np.random.default_rng(20), 4, 12, 16)
    latents = made([f"n{k} {i}" for i, k in enumerate(truth)], points, np.random.default_rng(21), texts=texts)
    found = explore(latents, {}, RULES)
    [row] = [f for f in found.findings if f.attribute == "text encoder"]
    assert (row.verdict, row.reason) == ("undecided", "there are no text embeddings that tell the names apart")
    assert sum(f.attribute == "cluster" for f in found.findings) == 4
    assert set(found.tables) == {"map", "links", "names"}


def test_names_that_are_the_same_thing_twice_are_no_trouble() -> None:
    points, _ = blobs(np.random.default_rng(22), 4, 6, 10)
    latents = made([f"n{i}" for i in range(24)], points, np.random.default_rng(23))
    doubled = replace(
        latents,
        values=np.concatenate([latents.values] * 4),
        prompts=tuple(replace(p, concept=f"{p.concept}{x}") for x in "abcd" for p in latents.prompts),
    )
    found = explore(doubled, {}, RULES)
    assert all(math.isfinite(f.estimate) for f in found.findings if f.attribute != "text encoder")


def test_of_very_many_names_some_are_clustered_and_the_others_placed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_points, "MOST", 120)
    points, truth = blobs(np.random.default_rng(24), 5, 60, 12)
    names = [f"kind{k} {i}" for i, k in enumerate(truth)]
    latents = made(names, points, np.random.default_rng(25), texts=points)
    held = space(latents, names_of(latents), RULES)
    assert len(held.points) == 120
    table = explore(latents, {}, RULES).tables["map"]
    assert table["name"].tolist() == names
    assert likeness(table["cluster"].to_numpy(), truth) > 0.98
    assert likeness(table["text_cluster"].to_numpy(), truth) > 0.98
    assert np.isfinite(table[["x", "y"]].to_numpy()).all()


def test_it_is_said_where_a_sample_was_clustered(monkeypatch: pytest.MonkeyPatch) -> None:
    points, truth = blobs(np.random.default_rng(24), 5, 60, 12)
    latents = made([f"kind{k} {i}" for i, k in enumerate(truth)], points, np.random.default_rng(25), texts=points)
    said = "a random sample of 120 of 300 names was clustered, the others placed by it"
    assert not any(said in f.reason for f in explore(latents, {}, RULES).findings)
    monkeypatch.setattr(_points, "MOST", 120)
    assert all(said in f.reason for f in explore(latents, {}, RULES).findings)


def test_a_name_too_far_from_every_group_is_in_none_where_others_are() -> None:
    rng = np.random.default_rng(0)
    two = np.concatenate([[0.0, 0, 1] + 0.02 * rng.normal(size=(40, 3)), [1.0, 0, 0] + 0.02 * rng.normal(size=(40, 3))])
    known = np.repeat([0, 1], 40)
    every = np.concatenate([two, [[0, 0, 1], [1, 0, 0], [0, 1, 0.2]]])
    assert carried(every, np.arange(80), known)[80:].tolist() == [0, 1, 0]  # nobody is in none
    known[39] = NONE
    assert carried(every, np.arange(80), known)[80:].tolist() == [0, 1, NONE]


def test_placing_in_blocks_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    points, truth = blobs(np.random.default_rng(24), 5, 60, 12)
    names = [f"kind{k} {i}" for i, k in enumerate(truth)]
    latents = made(names, points, np.random.default_rng(25), texts=points)
    monkeypatch.setattr(_points, "MOST", 120)
    whole = explore(latents, {}, RULES).tables["map"]
    monkeypatch.setattr(_points, "_APIECE", 7)
    parts = explore(latents, {}, RULES).tables["map"]
    pd.testing.assert_frame_equal(whole, parts, rtol=1e-5)


def test_labels_are_carried_to_the_nearest_and_the_sample_keeps_its_own() -> None:
    angles = np.array([0.0, 0.1, 0.2, 0.3, 0.4, 2.0, 2.1, 2.2, 2.3, 2.4, 1.9, 0.05])
    every = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    known = np.array([0, 0, NONE, 0, 0] + [NONE] * 5)
    assert carried(every, np.arange(10), known).tolist() == [*known.tolist(), NONE, 0]


# ---------------------------------------------------------------------------------------------------- the report


def by_name(outcome: Outcome) -> Tables:
    parts = {name: name.split("-", 2) for name in outcome.tables}
    return {(p[1], p[2]): outcome.tables[name] for name, p in parts.items()}


def frame(rows: Sequence[Finding]) -> pd.DataFrame:
    return pd.DataFrame([{c: getattr(f, c) for c in Finding.columns()} for f in rows], columns=list(Finding.columns()))


def test_the_panel_says_what_was_found(outcome: Outcome) -> None:
    shown = panel(frame(outcome.findings), by_name(outcome), {})
    assert shown is not None
    assert shown.heading == "48 concepts fall into 4 groups, not those that the words alone would make"
    near = [replace(f, estimate=0.8) if f.attribute == "text encoder" else f for f in outcome.findings]
    alike = [replace(f, verdict="groups alike") if f.attribute == "text encoder" else f for f in outcome.findings]
    for rows, end in ((near, "groups, nearly those that"), (alike, "groups, those that")):
        other = panel(frame(rows), by_name(outcome), {})
        assert other is not None
        assert end in other.heading
    assert shown.paragraphs[0].startswith("What the picture shows: 4 groups, and 0 concepts that belong to none.")
    assert "4 of the groups come back" in shown.paragraphs[0]
    assert "stands with" in shown.paragraphs[1]
    assert [bool(f.folded) for f in shown.figures] == [False, False, True]
    groups, moved = shown.listings
    assert {row[2] for row in groups.rows} == {"red", "blue", "green", "grey"}
    assert len(moved.rows) == 12


def test_the_panel_of_no_clusters_claims_none() -> None:
    case = planted(np.random.default_rng(1000))
    nothing = analyses.explore(["clusters"], {"picture": case.null["picture"]}, {}, RULES)
    shown = panel(frame(nothing.findings), by_name(nothing), {})
    assert shown is not None
    assert shown.heading == "No groups of concepts stand out"
    assert "no groups are claimed" in shown.paragraphs[0]
    assert not shown.listings
    assert "group of" not in str(shown.figures[0].wide)


def test_the_panel_of_too_few_names_has_no_figures() -> None:
    latents = made(["a", "b"], np.zeros((2, 3)), np.random.default_rng(0))
    rows = explore(latents, {}, RULES).findings
    shown = panel(frame(rows), {}, {})
    assert shown is not None
    assert not shown.figures
    assert "2 names: too few to cluster" in shown.paragraphs[0]
    assert panel(frame(rows[:0]), {}, {}) is None


def test_charts_are_valid_follow_the_page_and_keep_names_inert(outcome: Outcome) -> None:
    tables = by_name(outcome)
    hostile = "</svg><script>alert(1)</script>"
    points = tables["picture", "map"].replace({"name": {tables["picture", "map"]["name"][0]: hostile}})
    groups = tables["picture", "names"].assign(medoid=[hostile, *tables["picture", "names"]["medoid"][1:]])
    for chart in (map_chart(points, groups), dendrogram_chart(points, tables["picture", "links"])):
        chart.to_dict()  # raises where it is no valid Vega-Lite
        svg = str(inline_svg(chart, "a chart"))
        assert not re.search('(fill|stroke)="#', svg)
        assert 'var(--third)"' in svg
        assert "<script" not in svg
        assert "alert(1)" in svg


def test_the_tree_has_a_colour_where_all_leaves_are_of_one_group(outcome: Outcome) -> None:
    tables = by_name(outcome)
    points, links = tables["picture", "map"], tables["picture", "links"]
    rows = pd.DataFrame(dendrogram_chart(points, links).datasets["links"])
    assert rows.groupby("link")["hue"].nunique().max() == 1
    hues = rows.drop_duplicates("link")["hue"].value_counts()
    assert sorted(hues) == [3, 11, 11, 11, 11], "12 leaves of a group join in 11 links, the 4 groups in 3"


# ---------------------------------------------------------------------------------------------------- the score

TRUTH = load_truth(EMBEDDED)
THINGS = {shown.name: shown.subgroup for shown in TRUTH.shown if shown.gender < 0}


def test_wordings_are_many_and_each_says_its_concept() -> None:
    said = wordings(TRUTH.spec, THINGS)
    counts = Counter(w.concept for w in said.values())
    assert len(counts) >= 40
    assert set(counts.values()) == {12}
    assert Counter(w.concept for w in said.values() if not w.adjective).most_common()[-1][1] == 10
    assert all(w.concept in text for text, w in said.items())
    assert said["a photo of a pilot with light skin"] == Wording("pilot", False)
    assert said["a calm pilot"] == Wording("pilot", True)


def _marks(shuffled: bool) -> dict[str, tuple[float, bool]]:
    rng = np.random.default_rng(26)
    points, truth = blobs(rng, 6, 10, 12)
    said = {f"text {i}": Wording(f"c{k}", i % 10 > 7) for i, k in enumerate(truth)}
    order = rng.permutation(60) if shuffled else np.arange(60)
    latents = made(list(said), points[order], rng, texts=rng.normal(size=(60, 5)), role="concept")
    things = {f"text {i}": f"s{k}" for i, k in enumerate(truth)}
    marks = [
        *score_wordings({"picture": latents, "text": replace(latents, reading="text")}, said),
        *score_subgroups({"picture": latents}, things, rng.normal(size=(60, 4))),
    ]
    return {m.name: (m.value, m.ok) for m in marks}


def test_the_score_reaches_its_marks_where_concepts_come_back_and_else_misses_them() -> None:
    right, wrong = _marks(shuffled=False), _marks(shuffled=True)
    name = "clusters: ARI with 6 concepts, 60 wordings, {} reading, {}"
    for reading in ("picture", "text"):
        for method in ("HDBSCAN", "k-means"):
            assert right[name.format(reading, method)] == (pytest.approx(1, abs=0.05), True)
            assert not wrong[name.format(reading, method)][1]
    assert right["clusters: ARI with 6 concepts, 48 wordings, no adjectives, picture reading, HDBSCAN"][0] > 0.95
    assert abs(right["clusters: ARI with 6 concepts, 60 wordings, text encoder, k-means"][0]) < 0.3
    assert right["clusters: ARI with 6 Unicode subgroups of 60 things, picture reading"][0] > 0.95
    assert abs(right["clusters: ARI with 6 Unicode subgroups of 60 things, pixels"][0]) < 0.3
