"""Arrays beyond the budget lie in a file, hold the same numbers, and say where there is no room for them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from filler import RECIPE, WIDTH, samples, truth
from scalex import scratch
from scalex.errors import ScalexError
from scalex.records import Latents, Prompt
from scalex.store import Store

SMALL = "1e-6"  # GiB: about a thousand bytes


def test_the_budget_decides_where_an_array_lies(monkeypatch: pytest.MonkeyPatch) -> None:
    assert scratch.budget() == 2 << 30
    assert not isinstance(scratch.array((1000, 4), np.float32), np.memmap)
    monkeypatch.setenv("SCALEX_MEMORY", SMALL)
    assert not isinstance(scratch.array((10, 4), np.float32), np.memmap)
    assert isinstance(scratch.array((1000, 4), np.float32), np.memmap)


def test_what_is_let_go_is_still_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCALEX_MEMORY", SMALL)
    values = np.random.default_rng(0).normal(size=(5000, 8))
    held = scratch.array(values.shape, np.float64)
    for rows in scratch.blocks(held, 300):
        held[rows] = values[rows]
    scratch.let_go(held)
    np.testing.assert_array_equal(held, values)
    places = np.random.default_rng(1).integers(5000, size=700)
    taken = scratch.take(held, places)
    assert isinstance(taken, np.memmap)
    np.testing.assert_array_equal(taken, values[places])


def test_a_number_that_is_not_finite_is_seen_in_any_block(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scratch, "_BLOCK", 64)
    values = np.zeros((40, 4), np.float32)
    assert scratch.finite(values)
    values[39, 3] = np.nan
    assert not scratch.finite(values)


@pytest.mark.parametrize("said", ["much", "0", "-1", "nan", "inf"])
def test_a_budget_that_is_no_number_is_one_line(monkeypatch: pytest.MonkeyPatch, said: str) -> None:
    monkeypatch.setenv("SCALEX_MEMORY", said)
    with pytest.raises(ScalexError, match=f"SCALEX_MEMORY is '{said}'. Give the GiB"):
        scratch.budget()


def test_no_room_for_the_file_is_one_line() -> None:
    with pytest.raises(ScalexError, match="do not fit into the folder for temporary files") as refused:
        scratch.array((1 << 30, 1 << 20), np.float32)
    assert "TMPDIR" in str(refused.value)


def test_a_store_reads_into_a_file_what_is_beyond_the_budget(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, pairs = Store.open(tmp_path / "s"), samples(30, 4)
    store.write(RECIPE, pairs, truth(pairs))
    prompts = [Prompt(f"a photo of {i}", str(i), "{}") for i in (*range(30), 3)]  # one of them twice
    whole = store.read(RECIPE, prompts, range(4))
    monkeypatch.setenv("SCALEX_MEMORY", SMALL)
    filed = store.read(RECIPE, prompts, range(4))
    assert isinstance(filed.values, np.memmap)
    assert not isinstance(whole.values, np.memmap)
    np.testing.assert_array_equal(filed.values, whole.values)
    assert filed.of("3").shape == (2, 4, WIDTH)


def test_latents_in_a_file_are_checked_as_any(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCALEX_MEMORY", SMALL)
    values = scratch.array((40, 4, 1, 4), np.float32)
    values[:] = 0
    values[30, 2] = np.inf
    prompts = tuple(Prompt(str(i), str(i), "{}") for i in range(40))
    with pytest.raises(ScalexError, match="not finite"):
        Latents(values, prompts, (0, 1, 2, 3), (0,), "text")
