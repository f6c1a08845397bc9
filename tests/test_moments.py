"""Moments in place of samples: exact merges, whole blocks, nothing counted twice, and analyses that take them."""

from __future__ import annotations

import functools
from dataclasses import replace
from pathlib import Path
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

import scalex
from filler import RECIPE, WIDTH, samples, truth
from scalex.auditing import latents_of
from scalex.capture import Plan
from scalex.cli import main
from scalex.direction_files import Direction, Provenance, check_fits, stamped
from scalex.engine import Processes, fill
from scalex.engine._work import cut
from scalex.errors import ScalexError
from scalex.jobs import prepare
from scalex.models import Model
from scalex.moments import Gathering, Moments
from scalex.naming import name_run
from scalex.nearest import nearest
from scalex.outlook import outlook
from scalex.records import Prompt, Recipe
from scalex.store import Store
from tiny import interrupting

KEPT = replace(RECIPE, moments=4)
PROMPTS = [Prompt(f"a photo of {i}", str(i), "a photo of {}") for i in range(3)]
SEEDS = range(8)
PLAN = Plan(steps=2, guidance=1.0, batch=3, moments=4)  # batches end within blocks
WORDS = tuple(Prompt(f"a photo of a {word}", word, "a photo of a {}") for word in ("nurse", "pilot"))
numbers = st.floats(-1e4, 1e4, width=32)


# The moments themselves


@given(
    arrays.arrays(np.float64, st.tuples(st.integers(1, 40), st.just(3)), elements=numbers),
    st.lists(st.integers(1, 39), max_size=6),
    st.randoms(),
)
def test_parts_merged_in_any_order_are_the_moments_of_all(values: np.ndarray, cuts: list[int], random: Random) -> None:
    parts = [part for part in np.split(values, sorted({c for c in cuts if c < len(values)})) if len(part)]
    random.shuffle(parts)
    merged = functools.reduce(Moments.merged, map(Moments.of, parts))
    scale = np.abs(values).max(initial=1.0)
    assert merged.count == len(values)
    np.testing.assert_allclose(merged.mean, values.mean(0), rtol=0, atol=1e-13 * scale)
    np.testing.assert_allclose(merged.m2, ((values - values.mean(0)) ** 2).sum(0), rtol=1e-12, atol=1e-12 * scale**2)


def test_a_small_spread_around_a_large_mean_survives_merging() -> None:
    values = 1e6 + np.random.default_rng(0).normal(size=(4096, 5))
    merged = functools.reduce(Moments.merged, map(Moments.of, np.split(values, 64)))
    np.testing.assert_allclose(merged.variance, values.var(0, ddof=1), rtol=1e-9)


def test_the_variance_of_one_sample_is_unknown() -> None:
    assert np.isnan(Moments.of(np.ones((1, 3))).variance).all()


@settings(max_examples=30)
@given(st.permutations(samples(3, 8)), st.integers(1, 9))
def test_blocks_are_given_away_whole_whatever_the_order_and_the_batches(
    order: list[tuple[str, int]], size: int
) -> None:
    given_away: dict[tuple[str, int], Moments] = {}
    gathering = Gathering(4, lambda blocks, moments: given_away.update(zip(blocks, moments, strict=True)))
    twice = [*order, *order[:5]]
    for start in range(0, len(twice), size):
        batch = twice[start : start + size]
        gathering.add(batch, truth(batch))
    assert sorted(given_away) == [(f"a photo of {i}", first) for i in range(3) for first in (0, 4)]
    for (text, first), found in given_away.items():
        known = truth([(text, first + i) for i in range(4)]).astype(np.float64)
        assert found.count == 4
        np.testing.assert_allclose(found.mean, known.mean(0), rtol=1e-12)
        np.testing.assert_allclose(found.m2, ((known - known.mean(0)) ** 2).sum(0), rtol=1e-9)


# In a store


def filled(path: Path) -> Store:
    store = Store.open(path)
    pairs = samples(3, 8)
    assert store.write(KEPT, pairs, truth(pairs)) == 6
    return store


def test_a_store_gives_means_of_blocks_and_the_moments_of_all_seeds(tmp_path: Path) -> None:
    store, known = filled(tmp_path / "s"), truth(samples(3, 8)).reshape(3, 8, 2, WIDTH)
    latents = store.read(KEPT, PROMPTS, SEEDS)
    np.testing.assert_allclose(latents.values, known.reshape(3, 2, 4, 2, WIDTH).mean(2), rtol=1e-6)
    assert (latents.seeds, latents.block, latents.n_seeds) == ((0, 4), 4, 8)
    plain = Store.open(tmp_path / "plain")
    plain.write(RECIPE, samples(3, 8), truth(samples(3, 8)))
    for held, recipe in ((store, KEPT), (plain, RECIPE)):
        found = held.moments(recipe, PROMPTS, SEEDS)
        assert found.count == 8
        np.testing.assert_allclose(found.mean, known.mean(1), rtol=1e-6)
        np.testing.assert_allclose(found.variance, known.var(1, ddof=1), rtol=1e-5)


def test_a_store_of_moments_holds_a_row_a_block_and_is_checked_as_any(tmp_path: Path) -> None:
    store = filled(tmp_path / "s")
    (stored,), (health,) = store.recipes(), store.verify()
    assert (stored.recipe, stored.rows, health.ok, health.rows) == (KEPT, 6, True, 6)
    store.gc()
    assert Store.open(tmp_path / "s", create=False).read(KEPT, PROMPTS[:1], SEEDS).values.shape == (1, 2, 2, WIDTH)


def test_what_is_missing_are_whole_blocks_and_nothing_is_counted_twice(tmp_path: Path) -> None:
    store, first = Store.open(tmp_path / "s"), samples(1, 4)
    store.write(KEPT, first, truth(first))
    for asked in (samples(1, 8), samples(1, 8) * 2):
        assert store.missing(KEPT, asked) == [("a photo of 0", seed) for seed in range(4, 8)]
    other = truth(first) + 1
    assert store.write(KEPT, first, other) == 0
    np.testing.assert_allclose(store.moments(KEPT, PROMPTS[:1], range(4)).mean[0], truth(first).mean(0), rtol=1e-6)


def test_a_block_that_is_not_whole_is_refused(tmp_path: Path) -> None:
    store, some = Store.open(tmp_path / "s"), samples(1, 6)
    wrong = r"of the block of seeds 4 to 7 of 'a photo of 0' only 2 are asked for\. Moments are kept by whole blocks"
    with pytest.raises(ScalexError, match=wrong):
        store.missing(KEPT, some)
    with pytest.raises(ScalexError, match=wrong):
        store.write(KEPT, some, truth(some))
    assert store.recipes() == []


def test_moments_of_half_precision_are_kept_in_single(tmp_path: Path) -> None:
    store, pairs = Store.open(tmp_path / "s"), samples(1, 4)
    recipe = replace(KEPT, dtype="fp16")
    wide = truth(pairs) * 1000  # its m2 is beyond float16
    store.write(recipe, pairs, wide)
    np.testing.assert_allclose(store.moments(recipe, PROMPTS[:1], range(4)).variance[0], wide.var(0, ddof=1), rtol=1e-5)


def test_recipes_without_moments_keep_the_names_that_they_had() -> None:
    assert RECIPE.id == Recipe(**RECIPE.to_dict()).id == "e9f441e6b00e04ce"
    assert "moments" not in RECIPE.to_dict()
    assert KEPT.id != RECIPE.id
    assert KEPT.to_dict()["moments"] == 4


# Captured


def test_captured_moments_are_those_of_the_samples(tmp_path: Path, ddim: Model) -> None:
    plain, kept = Store.open(tmp_path / "plain"), Store.open(tmp_path / "kept")
    whole = fill(plain, ddim, WORDS, SEEDS, replace(PLAN, moments=0))
    running = fill(kept, ddim, WORDS, SEEDS, PLAN)
    for reading, recipe in running.recipes.items():
        known = plain.read(whole.recipes[reading], WORDS, SEEDS).values.astype(np.float64)
        found = kept.moments(recipe, WORDS, SEEDS)
        np.testing.assert_allclose(found.mean, known.mean(1), rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(found.variance, known.var(1, ddof=1), rtol=1e-3, atol=1e-7)
    assert fill(kept, ddim, WORDS, SEEDS, PLAN).captured == 0
    assert fill(kept, ddim, WORDS, range(12), PLAN).captured == 8


def test_an_interruption_keeps_whole_blocks_and_counts_no_others(tmp_path: Path, ddim: Model) -> None:
    store = Store.open(tmp_path / "s")

    pressed = interrupting(ddim, lambda n: n > 2 * 3)  # in the third batch, when six samples are there
    with pressed, pytest.raises(ScalexError, match=r"interrupted: 4 of 16 samples were captured and are kept"):
        fill(store, ddim, WORDS, SEEDS, PLAN)
    assert [stored.rows for stored in store.recipes()] == [1, 1]
    assert fill(store, ddim, WORDS, SEEDS, PLAN).captured == 12


def test_units_hold_whole_blocks() -> None:
    groups = {("text",): samples(2, 8)}
    assert [len(unit.samples) for unit in cut(groups, 6, 4)] == [4, 4, 4, 4]
    assert [len(unit.samples) for unit in cut(groups, 3, 8)] == [8, 8]
    assert [len(unit.samples) for unit in cut(groups, 6)] == [6, 6, 4]


def test_workers_store_the_same_moments(tmp_path: Path, ddim: Model) -> None:
    here, there = Store.open(tmp_path / "here"), Store.open(tmp_path / "there")
    alone = fill(here, ddim, WORDS, SEEDS, PLAN)
    with Processes(2) as engine:
        filled = engine.fill(there, ddim, WORDS, SEEDS, replace(PLAN, batch=1))
    assert filled.captured == 16
    for recipe in alone.recipes.values():
        a, b = here.moments(recipe, WORDS, SEEDS), there.moments(recipe, WORDS, SEEDS)
        np.testing.assert_allclose(a.mean, b.mean, rtol=1e-4, atol=1e-5)


def test_a_direction_learned_from_blocks_is_not_held_against_single_seeds() -> None:
    of = Provenance("d", "concept", "text", 0, (0, 4))
    learned = stamped(Direction(np.ones(2 * WIDTH), of, np.ones((2, 2 * WIDTH))), KEPT)
    check_fits(learned, KEPT, 2 * WIDTH)
    wrong = "was learned from moments of 4 seeds, and the latents are of single seeds"
    with pytest.raises(ScalexError, match=wrong):
        check_fits(learned, RECIPE, 2 * WIDTH)
    check_fits(replace(learned, by_seed=None), RECIPE, 2 * WIDTH)  # nothing of it is told apart by seeds


# Audits

SPEC = {
    "seeds": 16,
    "moments": 4,
    "templates": ["a photo of a {}"],
    "concepts": ["Monday", "mechanic", "teacher"],
    "words": ["dog", "cat", "pizza", "car", "guitar", "tent", "rocket", "apple", "fish", "book", "clock", "hat"],
    "attributes": {},
    "readings": ["text"],
    "analyses": "all",
    "resamples": 200,
    "permutations": 199,
}


def test_an_audit_of_moments_runs_the_analyses_that_take_means(tmp_path: Path) -> None:
    done = scalex.audit(spec=SPEC, out=tmp_path / "run")
    assert set(done.findings.analysis) == {"associations", "clusters"}  # naming has no attribute to name
    assert set(done.findings.n_seeds) == {16}
    assert done.findings.reason.str.contains("seeds by their means over blocks of 4").all()
    latents = latents_of(done)["text"]
    assert (latents.block, latents.seeds) == (4, (0, 4, 8, 12))
    assert "moments of blocks of 4" in done.report.read_text()
    named = name_run(done.folder, concept="dog", top=2)[0]
    assert (named.direction.of.seeds, named.plus[0].word) == ((0, 4, 8, 12), "dog")
    assert nearest(done.folder, concept="dog", top=2)[0].n_words == 15
    plain = scalex.audit(spec={**SPEC, "moments": None, "analyses": ["associations"]}, out=tmp_path / "plain")
    both = [run.findings.query("analysis == 'associations'").set_index("target") for run in (done, plain)]
    assert both[0].value.to_dict() == both[1].value.to_dict()  # the same words are nearest
    sizes = [sum(f.stat().st_size for f in (tmp_path / n / "store").rglob("data/*")) for n in ("run", "plain")]
    assert sizes[0] < 0.75 * sizes[1]  # two numbers for four


def test_a_dry_run_counts_the_bytes_of_moments(tmp_path: Path) -> None:
    plain, kept = (prepare(spec={**SPEC, "moments": m, "analyses": ["clusters"]}) for m in (None, 4))
    held = [outlook(job, tmp_path / "run") for job in (plain, kept)]
    assert held[0].samples == held[1].samples
    assert 1.8 < held[0].bytes / held[1].bytes < 2.2


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"analyses": ["rates"]}, "analysis 'rates' takes single seeds, and moments keep the means of 4 alone"),
        ({"seeds": 18}, "`moments` is 4, but `seeds` is 18 and `first_seed` 0. Give both in multiples of 4"),
        ({"first_seed": 2}, "`moments` is 4, but `seeds` is 16 and `first_seed` 2"),
        ({"moments": 8}, "so that 16 seeds are 2 blocks. An interval needs 4: take 32 seeds or smaller blocks"),
        ({"keep": "moments"}, "`keep` says which steps are kept. For moments write `moments: 8` beside it"),
    ],
)
def test_what_moments_cannot_do_is_said_before_anything_is_captured(change: dict[str, object], said: str) -> None:
    attributes = {"attributes": ["gender"]} if "analyses" in change else {}
    with pytest.raises(ScalexError) as refused:
        prepare(spec={**SPEC, **attributes, **change})
    assert said in str(refused.value)


def test_the_command_line_takes_moments(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = ["discover-associations", "--concepts", "Monday", "--words", "a dog,a cat", "--seeds", "8"]
    monkeypatch.setattr("sys.argv", ["scalex", *arguments, "--moments", "4", "--dry-run"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert "so that 8 seeds are 2 blocks" in capsys.readouterr().err
