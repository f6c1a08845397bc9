"""The engine of several processes: real workers, killed for real; nothing is lost, nothing is done for ever."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from crew import PLAN, PROMPTS, SEEDS, TOTAL, all_there, damaged
from scalex.engine import Processes, fill
from scalex.engine._work import Unit
from scalex.engine._worker import Post, serve
from scalex.errors import ScalexError
from scalex.models import Model, load_model
from scalex.store import Store


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(tmp_path / "store")


@pytest.fixture
def engine() -> Iterator[Processes]:
    with Processes(1) as one:
        yield one


def test_two_workers_store_what_one_process_stores_to_the_last_bit(tmp_path: Path, ddim: Model) -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        here = Store.open(tmp_path / "here")
        alone = fill(here, ddim, PROMPTS, SEEDS, PLAN)
    finally:
        torch.set_num_threads(threads)
    there = Store.open(tmp_path / "there")
    told: list[tuple[int, int]] = []
    with Processes(2) as engine:
        filled = engine.fill(there, ddim, PROMPTS, SEEDS, PLAN, lambda *done: told.append(done))
        pids = [hand.process.pid for hand in engine._crew]
        again = engine.fill(there, ddim, PROMPTS, (*SEEDS, 12), PLAN)
        assert [hand.process.pid for hand in engine._crew] == pids  # they go on
    assert (filled.captured, filled.full, filled.stopped) == (TOTAL, alone.full, alone.stopped)
    assert (again.captured, again.asked) == (len(PROMPTS), TOTAL + len(PROMPTS))
    assert told[0] == (0, TOTAL)
    assert told[-1] == (TOTAL, TOTAL)
    for reading, recipe in filled.recipes.items():
        expected = here.read(alone.recipes[reading], PROMPTS, SEEDS).values
        np.testing.assert_array_equal(there.read(recipe, PROMPTS, SEEDS).values, expected)


def test_a_worker_that_is_killed_is_replaced_and_its_unit_done_again(
    store: Store, ddim: Model, engine: Processes
) -> None:
    killed: list[int] = []

    def kill_once(done: int, total: int) -> None:
        if done >= 4 and not killed:
            killed.append(engine._crew[0].process.pid or 0)
            os.kill(killed[0], signal.SIGKILL)

    filled = engine.fill(store, ddim, PROMPTS, SEEDS, PLAN, kill_once)
    assert killed
    assert engine._crew[0].process.pid != killed[0]
    assert all_there(store, filled)
    assert [row.rows for row in store.recipes()] == [TOTAL, TOTAL]


def test_a_unit_that_workers_die_of_is_set_aside_and_the_rest_is_done(
    store: Store, ddim: Model, engine: Processes
) -> None:
    poison = PROMPTS[0].text

    def kill(done: int, total: int) -> None:
        unit = engine._crew[0].unit if engine._crew else None
        if unit and unit.samples[0] == (poison, 0) and engine._crew[0].process.is_alive():
            os.kill(engine._crew[0].process.pid or 0, signal.SIGKILL)

    with pytest.raises(ScalexError) as caught:
        engine.fill(store, ddim, PROMPTS, SEEDS, PLAN, kill)
    said = str(caught.value)
    assert f"of {TOTAL} samples could not be captured, all others are kept: 8 samples from {poison!r} on" in said
    assert "3 workers died of it: killed by SIGKILL" in said
    assert "run the same command again" in said
    assert not [hand for hand in engine._crew if hand.unit]
    engine.fill(store, ddim, PROMPTS[1:], SEEDS, PLAN)
    filled = engine.fill(store, ddim, PROMPTS, SEEDS, PLAN)  # nobody kills now
    assert all_there(store, filled)


def test_a_sample_that_cannot_be_captured_is_named_and_all_others_are_kept(
    store: Store, tiny_folder: Callable[..., Path], tmp_path: Path, engine: Processes
) -> None:
    folder = damaged(tiny_folder(), tmp_path / "damaged")
    with pytest.raises(ScalexError) as caught:
        engine.fill(store, load_model(folder, device="cpu"), PROMPTS, SEEDS[:3], PLAN)
    assert str(caught.value).startswith(
        "3 of 12 samples could not be captured, all others are kept: prompt 'a photo of a pilot', seed 0 (and 2 more): "
        "the text reading of prompt 'a photo of a pilot', seed 0, is not finite in fp32"
    )
    assert [row.rows for row in store.recipes()] == [9, 9]


def test_an_interruption_ends_the_workers_and_keeps_what_was_written(
    store: Store, ddim: Model, engine: Processes
) -> None:
    crew = []

    def interrupt(done: int, total: int) -> None:
        if done >= 4:
            crew.extend(engine._crew)
            raise KeyboardInterrupt

    with pytest.raises(ScalexError, match=rf"interrupted: \d+ of {TOTAL} samples were captured and are kept. Run the"):
        engine.fill(store, ddim, PROMPTS, SEEDS, PLAN, interrupt)
    assert [hand.process.is_alive() for hand in crew] == [False]
    assert min(row.rows for row in store.recipes()) >= 4


def test_workers_that_never_begin_are_not_replaced_for_ever(
    store: Store, ddim: Model, engine: Processes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("scalex.engine.processes._serve", _die)
    with pytest.raises(ScalexError, match=r"3 workers died before they began: exit code 7\. Use fewer with --workers"):
        engine.fill(store, ddim, PROMPTS, SEEDS, PLAN)


def _die(*_: object) -> None:
    os._exit(7)


def test_a_model_that_changed_meanwhile_is_not_captured(
    store: Store, tiny_folder: Callable[..., Path], engine: Processes
) -> None:
    model = load_model(tiny_folder(), device="cpu")
    model.fingerprint = "another"
    with pytest.raises(ScalexError, match=r"has changed since the run began\. Run the same again"):
        engine.fill(store, model, PROMPTS, SEEDS, PLAN)


def test_a_worker_whose_device_is_lost_says_so_as_its_last(
    store: Store, ddim: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lose(*_: object) -> None:
        raise RuntimeError("CUDA error: unspecified launch failure\nCompile with TORCH_USE_CUDA_DSA")

    monkeypatch.setattr("scalex.engine._worker.run_unit", lose)
    words: list[tuple[str, object]] = []
    unit = Unit(("text",), ((PROMPTS[0].text, 0),))
    post = Post(ddim.source, ddim.fingerprint, store.address, "cpu")
    serve(post, lambda: (unit, PLAN), lambda *word: words.append(word))
    assert words == [("began", None), ("died", "RuntimeError: CUDA error: unspecified launch failure")]


def test_workers_are_counted() -> None:
    with pytest.raises(ScalexError, match=r"0 workers can't do anything\. Name at least one with --workers"):
        Processes(0)
