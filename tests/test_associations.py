"""Associations: exact q over blocks, what the text explains, words in the wake of others, and everything odd."""

from __future__ import annotations

import json
import math
import tracemalloc
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from scalex import analyses, scratch, stats
from scalex.analyses import _frame as frames
from scalex.analyses import _pairs as pairs
from scalex.analyses import associations
from scalex.cli import app
from scalex.cli.audits import _source
from scalex.errors import ScalexError
from scalex.records import Finding, Latents, Prompt, Role, Rules
from scalex.report import render
from scalex.report.parts import associations as part
from scalex.truth.associations import marks

RULES = Rules(resamples=500, permutations=199)


def made(
    means: Mapping[str, np.ndarray],
    texts: Mapping[str, np.ndarray],
    targets: Sequence[str],
    *,
    noise: float = 1.0,
    n_seeds: int = 12,
    seed: int = 0,
    words: bool = True,
) -> Latents:
    """Latents with these means, noise that all prompts of a seed share, and as much of their own."""
    rng = np.random.default_rng(seed)
    width = len(next(iter(means.values())))
    shared = rng.normal(size=(n_seeds, width))
    names: list[tuple[str, Role]] = [(t, "concept") for t in targets]
    names += [(w, "word" if words else "concept") for w in means if w not in targets]
    prompts = tuple(Prompt(f"{n} {t}", n, t, role=role) for n, role in names for t in ("a", "b"))
    values = [means[n] + shared + noise * rng.normal(size=(n_seeds, width)) for n, _ in names for _ in range(2)]
    embeddings = np.array([texts[n] for n, _ in names for _ in range(2)], dtype=np.float32)
    return Latents(np.array(values)[:, :, None], prompts, tuple(range(n_seeds)), (0,), "picture", embeddings)


def unrelated(n: int = 80, width: int = 48, seed: int = 1) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    rng = np.random.default_rng(seed)
    names = ["Monday", *(f"thing {i}" for i in range(n))]
    return {k: 2 * rng.normal(size=width) for k in names}, {k: rng.normal(size=16) for k in names}


def found(latents: Latents) -> list[Finding]:
    return analyses.run(["associations"], {"picture": latents}, {}, RULES)


def ranked(latents: Latents, **asked: Any) -> tuple[frames.Side, frames.Side, pairs.Explained, pairs.Ranked]:
    targets, words, _ = frames.sides(latents, frames.frame_of(latents, "word"), "word")
    usual = pairs.explained(targets, words)
    assert usual is not None
    return targets, words, usual, pairs.rank(targets, words, usual, **{"most": 5, "alpha": 0.05, **asked})


def null(seed: int) -> Latents:
    return associations.planted(np.random.default_rng(seed)).null["text"]


# ---------------------------------------------------------------------------------------------------- exact q


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5])
def test_q_of_kept_p_is_that_of_all_wherever_it_is_at_most_the_cutoff(share: float) -> None:
    rng = np.random.default_rng(3)
    p = np.where(rng.random(5000) < share, rng.random(5000) ** 8 * 1e-3, rng.random(5000))
    p[100:140] = p[100]  # ties
    cutoff = 0.05
    whole, kept = stats.benjamini_hochberg(p), p[p <= cutoff]
    q = pairs.corrected(kept, p, len(p))
    exact = whole <= cutoff
    np.testing.assert_allclose(q[exact], whole[exact], rtol=1e-12)
    assert (q[~exact] >= whole[~exact] * (1 - 1e-12)).all()
    assert ((q <= cutoff) == exact).all()
    assert share == 0 or exact.sum() > 10


def test_q_of_nothing_kept_is_one_and_of_the_unknown_unknown() -> None:
    q = pairs.corrected(np.empty(0), np.array([0.3, np.nan]), 10)
    assert q[0] == 1
    assert math.isnan(q[1])


@pytest.mark.parametrize("cutoff", ["all p are kept", "only small p are kept"])
def test_blocks_change_nothing_and_q_is_that_of_the_whole_matrix(monkeypatch: pytest.MonkeyPatch, cutoff: str) -> None:
    latents = associations.planted(np.random.default_rng(0)).latents["text"]
    targets, words, usual, whole = ranked(latents)
    monkeypatch.setattr(pairs, "_BLOCK", 130)  # two targets at a time
    if cutoff == "only small p are kept":
        monkeypatch.setattr(pairs, "_SAMPLE", 1)
    parts = pairs.rank(targets, words, usual, most=5, alpha=0.05)
    assert len(list(pairs.blocks(targets, words))) == 5
    every = [pairs._upper(pairs._within_rows(usual.standardised(b)), 1.0) for b in pairs.blocks(targets, words)]
    p = np.concatenate(every)
    q = dict(zip(p, stats.benjamini_hochberg(p)))
    small = whole.q <= 0.05
    assert len(p) == parts.tests == 600
    assert small.sum() == 2
    np.testing.assert_array_equal(parts.words, whole.words)
    np.testing.assert_allclose(parts.q[small], [q[x] for x in whole.p[small]], rtol=1e-9)
    np.testing.assert_allclose(parts.q[small], whole.q[small], rtol=1e-9)
    assert parts.beyond == whole.beyond == sum(x <= 0.05 for x in q.values())
    assert ((parts.q > 0.05) == ~small).all()


def test_memory_does_not_grow_with_the_number_of_targets() -> None:
    """20,000 words, of few directions: what is held at once is a block, and the p up to the cutoff."""
    rng = np.random.default_rng(0)

    def side(n: int) -> frames.Side:
        groups = rng.normal(size=(n, 4, 8)).astype(np.float32) + 3 * rng.normal(size=(n, 1, 8)).astype(np.float32)
        text = rng.normal(size=(n, 8)).astype(np.float32)
        text /= np.linalg.norm(text, axis=1, keepdims=True)
        size = np.linalg.norm(groups.mean(1), axis=1).astype(np.float64)
        return frames.Side(tuple(map(str, rng.integers(1 << 60, size=n))), groups, size, np.full(n, 0.9), text)

    words, peaks = side(20_000), []
    for n in (120, 360):
        targets = side(n)
        usual = pairs.Explained(np.array([-1.0, 1.0]), np.array([0.0, 0.1]), np.zeros(2), np.array([0.4, 0.4]))
        tracemalloc.start()
        result = pairs.rank(targets, words, usual, most=10, alpha=0.05)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert result.tests == n * 20_000
    held = 8 * 0.05 * 20_000 * 240  # bytes of p that 240 more targets keep
    assert peaks[1] - peaks[0] < 8 * held
    assert peaks[1] < 20 * 8 * pairs._BLOCK


def test_latents_in_a_file_and_words_in_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    latents = associations.planted(np.random.default_rng(0)).latents["text"]
    whole = associations.explore(latents, {}, RULES)
    monkeypatch.setenv("SCALEX_MEMORY", "1e-6")  # no more than 1 KiB
    monkeypatch.setattr(scratch, "_BLOCK", 5000)
    monkeypatch.setattr(frames, "_HELD", 3 * 2 * 16 * 64)  # three names at a time
    parts = associations.explore(replace(latents, values=filed(latents.values)), {}, RULES)
    sides = frames.sides(latents, frames.frame_of(latents, "word"), "word")
    assert all(isinstance(side.groups, np.memmap) for side in sides[:2])
    for one, other in zip(whole.findings, parts.findings, strict=True):
        assert (one.target, one.value, one.verdict) == (other.target, other.value, other.verdict)
        assert other.estimate == pytest.approx(one.estimate, rel=1e-5)
        assert other.q == pytest.approx(one.q, rel=1e-3)
    for name, table in whole.tables.items():
        pd.testing.assert_frame_equal(parts.tables[name], table, rtol=1e-4, atol=1e-6)


def filed(values: np.ndarray) -> np.ndarray:
    held = scratch.array(values.shape, values.dtype)
    assert isinstance(held, np.memmap)
    held[:] = values
    return held


def test_groups_are_means_of_standardised_latents() -> None:
    """Means first and standardised then is the same as the other way round."""
    latents = associations.planted(np.random.default_rng(0)).latents["text"]
    frame = frames.frame_of(latents, "word")
    targets, words, _ = frames.sides(latents, frame, "word")
    for side, role in ((targets, "concept"), (words, "word")):
        for i, name in enumerate(side.names):
            known = frame.latents(latents, name, role).mean(0)  # every seed is a group of its own
            np.testing.assert_allclose(side.groups[i], known, rtol=1e-5, atol=1e-6)
            assert side.size[i] == pytest.approx(np.linalg.norm(known.mean(0)))


def test_more_words_than_numbers_have_the_same_spread() -> None:
    means = np.random.default_rng(0).normal(size=(300, 20)) * np.linspace(3, 0.1, 20)
    variance, axes = frames._spread(means)
    _, root, right = np.linalg.svd(means, full_matrices=False)
    np.testing.assert_allclose(variance, root**2 / 300)
    np.testing.assert_allclose(np.abs((axes * right.T).sum(0)), 1)
    np.testing.assert_allclose(frames._spread(means[:10])[0], np.linalg.svd(means[:10])[1] ** 2 / 10)


def test_memory_does_not_grow_with_the_number_of_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCALEX_MEMORY", "1e-6")
    monkeypatch.setattr(scratch, "_BLOCK", 1 << 19)
    monkeypatch.setattr(frames, "_HELD", 1 << 16)
    monkeypatch.setattr(frames, "_LEARNED", 64)
    rng, peaks = np.random.default_rng(0), []
    for n in (500, 4000):
        values = filed(rng.normal(size=(n + 4, 4, 1, 512)).astype(np.float32))
        texts = filed(rng.normal(size=(n + 4, 256)).astype(np.float32))
        prompts = tuple(Prompt(str(i), str(i), "{}", role="concept" if i < 4 else "word") for i in range(n + 4))
        latents = Latents(values, prompts, tuple(range(4)), (0,), "text", texts)
        tracemalloc.start()
        targets, words, _ = frames.sides(latents, frames.frame_of(latents, "word"), "word")
        found = sum(int(np.isfinite(block.raw).sum()) for block in pairs.blocks(targets, words))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert found == 4 * n
    each_word = 4 * 512 * 4  # bytes of its groups, if they were held
    assert peaks[1] - peaks[0] < 3500 * each_word / 10


# ---------------------------------------------------------------------------------------------------- the numbers


def test_p_is_uniform_where_nothing_is_planted() -> None:
    """40 draws of 600 pairs, which are not independent: four standard errors of the share at 0.01 are 28 % of it."""
    p = []
    for seed in range(40):
        targets, words, usual, _ = ranked(null(seed))
        p += [pairs._upper(pairs._within_rows(usual.standardised(b)), 1.0) for b in pairs.blocks(targets, words)]
    small = [(np.concatenate(p) <= x).mean() / x for x in (0.1, 0.01, 0.001)]
    assert np.allclose(small[:2], 1, atol=0.28)
    assert small[2] < 2


def test_alignment_is_freed_of_noise() -> None:
    """A cosine of 0.8 under noise that takes a quarter of it away. (One draw scatters by 0.16 around it.)"""
    means, texts = unrelated(200, 24)
    word = means["thing 0"]
    other = means["Monday"] - (means["Monday"] @ word) / (word @ word) * word
    means["Monday"] = 0.8 * word + 0.6 * other / np.linalg.norm(other) * np.linalg.norm(word)
    seen, freed = [], []
    for seed in range(40):
        latents = made(means, texts, ["Monday"], noise=6.0, seed=seed)
        targets, words, _ = frames.sides(latents, frames.frame_of(latents, "word"), "word")
        seen.append(targets.raw(words)[0, 0])
        freed.append(targets.alignment(words)[0, 0])
    assert np.mean(seen) < 0.65
    assert np.mean(freed) == pytest.approx(0.8, abs=0.08)


def test_noise_that_two_prompts_share_does_not_align_them() -> None:
    means, texts = unrelated(200, 24)
    aligned = []
    for seed in range(10):
        latents = made(means, texts, ["Monday"], noise=6.0, seed=seed)
        values = latents.values.copy()
        values[2:4] += values[:2] - means["Monday"][None, None, None]  # "thing 0" has the noise of "Monday", too
        targets, words, _ = frames.sides(latents, frames.frame_of(latents, "word"), "word")
        same = replace(latents, values=values)
        target, word, _ = frames.sides(same, frames.frame_of(same, "word"), "word")
        aligned.append(target.raw(word)[0, 0] - targets.raw(words)[0, 0])
    assert abs(np.mean(aligned)) < 0.1


def test_the_uncertainty_of_a_surprise_is_what_other_seeds_show() -> None:
    rng = np.random.default_rng(5)
    t, w = (3 * rng.normal(size=32) for _ in range(2))
    w += t
    drawn, told = [], []
    for _ in range(300):
        noise = rng.normal(size=(2, 2, 12, 32)) * 4 + rng.normal(size=(12, 32))
        scores = associations.surprise_scores(t + noise[0], w + noise[1], 0.1)
        drawn.append(scores.mean())
        told.append(scores.mean(0).std(ddof=1) / math.sqrt(12))
    true = t @ w / math.sqrt((t @ t) * (w @ w)) - 0.1
    assert np.mean(drawn) == pytest.approx(true, abs=3 * np.std(drawn) / math.sqrt(300) + 0.02)
    assert np.mean(told) == pytest.approx(np.std(drawn), rel=0.25)


def test_what_similar_texts_explain_is_no_surprise() -> None:
    means, texts = unrelated()
    rng = np.random.default_rng(2)
    told = 2 * rng.normal(size=(16, 48))
    means = {k: m + texts[k] @ told for k, m in means.items()}
    texts["Monday"] = texts["thing 3"] + 0.1 * rng.normal(size=16)
    means["Monday"] = 2 * rng.normal(size=48) + texts["Monday"] @ told
    [row] = found(made(means, texts, ["Monday"]))
    assert row.verdict == "does not stand out"
    odd = {k: rng.normal(size=16) if k == "Monday" else v for k, v in texts.items()}
    row = found(made(means, odd, ["Monday"]))[0]
    assert (row.value, row.verdict) == ("thing 3", "stands out")


def test_a_word_near_a_stronger_one_goes_with_it() -> None:
    means, texts = unrelated(200)
    rng = np.random.default_rng(4)
    means["thing 1"] = means["thing 0"] + 0.8 * means["thing 1"]  # camping, near a tent
    means["Monday"] = 3 * means["thing 0"] + means["Monday"]
    rows = {f.value: f for f in found(made(means, texts, ["Monday"]))}
    assert rows["thing 0"].verdict == "stands out"
    assert rows["thing 1"].verdict == "goes with thing 0"
    assert "it is near thing 0" in rows["thing 1"].reason
    means["Monday"] = 3 * means["thing 0"] + 3 * means["thing 2"] + rng.normal(size=48)
    rows = {f.value: f for f in found(made(means, texts, ["Monday"]))}
    assert rows["thing 0"].verdict == rows["thing 2"].verdict == "stands out"


def test_what_all_targets_have_in_common_stands_out_for_none() -> None:
    """Persons all look like "thing 7"; one of them also like "thing 0"."""
    rng = np.random.default_rng(6)
    means, texts = unrelated()
    people = [f"person {i}" for i in range(6)]
    means |= {p: 2 * rng.normal(size=48) + 4 * means["thing 7"] for p in people}
    texts |= {p: rng.normal(size=16) for p in people}
    means["person 0"] += 2 * means["thing 0"]
    del means["Monday"]
    latents = made(means, texts, people)
    out = [(f.target, f.value) for f in found(latents) if f.verdict == "stands out"]
    assert ("person 0", "thing 0") in out
    assert not [pair for pair in out if "thing 7" in pair]
    tables = analyses.explore(["associations"], {"picture": latents}, {}, RULES).tables
    assert tables["associations-picture-shared"]["word"][0] == "thing 7"
    said = part._common(own(tables))
    assert said.startswith("What all concepts have in common was taken away from each first: in the pictures it is ")
    assert "“thing 7”" in said


def test_targets_that_have_nothing_in_common_lose_nothing() -> None:
    means, texts = unrelated()
    frame = frames.frame_of(made(means, texts, ["Monday"]), "word")
    assert not frame.shared.any()
    parts = [frames._beyond_chance(1.0, alone, 5) for alone in (1.0, 1.2, 0.2)]
    assert parts == [0.0, 0.0, 1.0]


def test_intervals_are_widened_for_having_been_picked() -> None:
    means, texts = unrelated()
    means["Monday"] = 3 * means["thing 0"] + means["Monday"]
    latents = made(means, texts, ["Monday"], noise=4)
    [row] = [f for f in found(latents) if f.value == "thing 0"]
    frame = frames.frame_of(latents, "word")
    scores = associations.surprise_scores(
        frame.latents(latents, "Monday", "concept"), frame.latents(latents, "thing 0", "word"), 0.0
    )
    plain = stats.bootstrap_interval(associations.directions.plan_of(latents, RULES), scores, RULES.level)
    assert row.high - row.low > 1.2 * (plain.high - plain.low)
    assert "80 pairs tested" in row.reason


def test_concepts_are_held_against_each_other_where_there_are_no_words() -> None:
    means, texts = unrelated(60)
    means["thing 1"] = 4 * means["Monday"] + means["thing 1"]
    rows = found(made(means, texts, ["Monday"], words=False))
    assert all(f.target != f.value for f in rows)
    best = {f.target: f for f in rows if "rank 1 of" in f.reason}
    assert len(best) == 61
    assert (best["Monday"].value, best["thing 1"].value) == ("thing 1", "Monday")
    assert best["Monday"].verdict == "stands out"


def test_a_word_is_not_held_against_itself_or_the_same_text() -> None:
    means, texts = unrelated()
    means |= {"monday": means["Monday"], "MON.": means["Monday"]}
    texts |= {"monday": 2 * texts["thing 5"], "MON.": texts["Monday"]}
    rows = found(made(means, texts, ["Monday"]))
    assert not {"monday", "MON."} & {f.value for f in rows}
    assert "80 pairs tested" in rows[0].reason


# ---------------------------------------------------------------------------------------------------- odd input


@pytest.mark.parametrize("n", [1, 2, 7])
def test_few_words_give_a_reason_and_no_number(n: int) -> None:
    means, texts = unrelated(n)
    [row] = found(made(means, texts, ["Monday"]))
    assert row.verdict == "undecided"
    assert math.isnan(row.estimate)
    assert "are too few to say how words scatter: use more than 8" in row.reason


def test_a_target_that_seeds_do_not_agree_on_is_undecided() -> None:
    means, texts = unrelated()
    centre = np.mean([m for k, m in means.items() if k != "Monday"], axis=0)
    [row] = found(made(means | {"Monday": centre}, texts, ["Monday"], noise=3))
    assert row.verdict == "undecided"
    assert row.reason.startswith("seeds hardly agree on it (repeatability 0.")


def test_missing_embeddings_are_named() -> None:
    means, texts = unrelated()
    bare = replace(made(means, texts, ["Monday"]), embeddings=None)
    with pytest.raises(ScalexError, match=r"^no text embeddings were kept with these latents\."):
        found(bare)


def test_embeddings_that_are_all_the_same_explain_nothing() -> None:
    means, _ = unrelated()
    means["Monday"] = 3 * means["thing 0"] + means["Monday"]
    rows = found(made(means, dict.fromkeys(means, np.ones(16)), ["Monday"]))
    assert (rows[0].value, rows[0].verdict) == ("thing 0", "stands out")
    assert "text similarity +0.00" in rows[0].reason


def test_seeds_that_are_all_the_same_leave_it_undecided() -> None:
    means, texts = unrelated()
    means["Monday"] = 3 * means["thing 0"] + means["Monday"]
    latents = made(means, texts, ["Monday"], noise=0)
    flat = replace(latents, values=np.repeat(latents.values[:, :1], 12, axis=1))
    rows = found(flat)
    assert (rows[0].value, rows[0].verdict) == ("thing 0", "undecided")
    assert rows[0].reason.startswith("the latents do not vary between seeds")


def test_no_more_is_reported_than_the_strongest(monkeypatch: pytest.MonkeyPatch) -> None:
    means, texts = unrelated(200)
    means["Monday"] = 3 * means["thing 0"] + 3 * means["thing 2"] + means["Monday"]
    latents = made(means, texts, ["Monday"])
    assert {"thing 0", "thing 2"} <= {f.value for f in found(latents)}
    monkeypatch.setattr(associations, "_ALL", 1)
    assert len(found(latents)) == 1


# ---------------------------------------------------------------------------------------------------- report


@pytest.fixture(scope="module")
def outcome() -> tuple[pd.DataFrame, dict[str, pd.DataFrame]]:
    case = associations.planted(np.random.default_rng(0))
    latents = {"text": case.null["text"], "picture": case.latents["picture"]}
    made_ = analyses.explore(["associations"], latents, {}, RULES)
    return pd.DataFrame([asdict(f) for f in made_.findings]), dict(made_.tables)


def own(tables: Mapping[str, pd.DataFrame]) -> dict[tuple[str, str], pd.DataFrame]:
    return {(k.split("-")[1], k.split("-")[2]): t for k, t in tables.items()}


def test_the_panel_says_it_in_words(outcome: tuple[pd.DataFrame, dict[str, pd.DataFrame]]) -> None:
    findings, tables = outcome
    shown = part.panel(findings, own(tables), {})
    assert shown is not None
    assert shown.heading == "Pictures of “Friday” come near “thing 7”; of “Monday”, near “thing 3”"
    assert shown.paragraphs[0].startswith("What the picture shows: 2 of 10 concepts come near a word, of 60 that")
    assert "All 600 pairs were tested" in shown.paragraphs[0]
    assert shown.paragraphs[1] == (
        "Words and pictures share 0 associations. Only the pictures have: Friday → thing 7 and Monday → thing 3."
    )
    assert len(shown.figures) == 2
    assert all(f.wide and f.narrow for f in shown.figures)
    assert "Friday → thing 7" in shown.figures[1].wide
    assert [row[:2] for row in shown.listings[0].rows] == [("Friday", "thing 7"), ("Monday", "thing 3")]


def test_the_panel_does_not_claim_what_does_not_stand_out(
    outcome: tuple[pd.DataFrame, dict[str, pd.DataFrame]],
) -> None:
    findings, tables = outcome
    text = findings[findings["reading"] == "text"]
    shown = part.panel(text, own(tables), {})
    assert shown is not None
    assert shown.heading == "No word stands out for any of 10 concepts"
    assert part.panel(text.assign(value=""), {}, {}) is None


def test_the_page_is_headed_by_it(outcome: tuple[pd.DataFrame, dict[str, pd.DataFrame]], tmp_path: Path) -> None:
    findings, tables = outcome
    page = render(findings, {"model": "m"}, {}, tmp_path / "r.html", tables).read_text(encoding="utf-8")
    assert "<h1>Pictures of “Friday” come near “thing 7”" in page
    assert "no findings" not in page


# ---------------------------------------------------------------------------------------------------- score, command


def test_marks_count_what_is_right() -> None:
    planted = {"Monday": "tent", "breakfast in Japan": "sushi"}
    ranking = pd.DataFrame(
        {"target": ["Monday", "Monday", "breakfast in Japan"], "word": ["tent", "cat", "rice"], "rank": [1, 2, 1]}
    )
    findings = pd.DataFrame(
        {
            "reading": ["text"] * 3,
            "target": ["Monday", "Monday", "breakfast in Japan"],
            "value": ["tent", "cat", "sushi"],
            "verdict": ["stands out", "stands out", "does not stand out"],
        }
    )
    got = {
        m.name.partition(": ")[2]: (m.value, m.mark) for m in marks(findings, {"text": ranking}, planted, ["Monday"])
    }
    assert got == {
        "planted pair at rank 1": (0.5, 0.95),
        "unlisted pairs found": (1.0, 0.95),
        "precision of what stands out": (0.5, 0.9),
        "recall of planted pairs": (0.5, None),
    }
    nothing = findings.assign(verdict="undecided")
    [precision] = [m for m in marks(nothing, {"text": ranking}, planted, []) if "precision" in m.name]
    assert not precision.ok


def test_an_option_names_a_file_a_vocabulary_or_texts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("words").write_text("tent\n")
    assert _source("words", alone=False) == {"file": "words"}
    assert _source("gone.csv", alone=True) == {"file": "gone.csv"}
    assert _source("objects", alone=True) == {"vocabulary": "objects"}
    assert _source("Monday,breakfast in St. Ives,", alone=False) == ["Monday", "breakfast in St. Ives"]
    assert _source("Monday", alone=True) == ["Monday"]
    assert _source("Monday", alone=False) == {"vocabulary": "Monday"}


def test_one_command_discovers(tmp_path: Path) -> None:
    words = "tent,teapot,trophy,octopus,pineapple,parrot,snail,anchor,mushroom,cactus,bicycle,banana"
    asked = ["discover-associations", "--concepts", "Monday", "--words", words, "--seeds", "4", "--out", str(tmp_path)]
    done = CliRunner().invoke(app, asked)
    assert done.exit_code == 0, done.output
    assert "associations stand out" in done.output
    found_ = pd.read_parquet(tmp_path / "findings.parquet")
    assert set(found_["analysis"]) == {"associations"}
    assert set(found_["target"]) == {"Monday"}
    assert (tmp_path / "report.html").is_file()
    assert json.loads((tmp_path / "manifest.json").read_text())["n_prompts"] == 26  # nothing but concept and words


def test_a_vocabulary_that_is_not_there_is_one_line() -> None:
    done = CliRunner().invoke(app, ["discover-associations", "--words", "objcts"])
    assert isinstance(done.exception, ScalexError)
    assert str(done.exception).startswith("there is no vocabulary 'objcts'. Did you mean 'objects'?")
