"""What was drawn under edits: kept once, found again to the last bit, and drawn where nobody can say what it is."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from scalex.capture import Plan, capture, generate
from scalex.direction_files import Direction, Provenance
from scalex.drawings import FILE, Drawings
from scalex.errors import ScalexError
from scalex.models import Model, load_model
from scalex.steering import Erase, Push, edit_key, together

PLAN = Plan(steps=2, guidance=1.0, batch=2)
SAMPLES = [("a nurse", seed) for seed in range(5)]


@pytest.fixture(scope="module")
def model(tiny_folder: Callable[..., Path]) -> Model:
    return load_model(tiny_folder(scheduler="lcm"), device="cpu")


def along(model: Model, seed: int = 0) -> Direction:
    vector = np.random.default_rng(seed).normal(size=model.probe_shape[0])
    return Direction(vector, Provenance(f"direction {seed}", "given", "picture", 0, pooling="mean"))


def test_what_was_drawn_is_not_drawn_again(model: Model, tmp_path: Path, forwards: list[int]) -> None:
    push, drawings = Push(along(model), 2.0), Drawings.open(tmp_path)
    first = drawings.pictures(model, SAMPLES, PLAN, push)
    np.testing.assert_array_equal(first, generate(model, SAMPLES, PLAN, push))
    assert forwards == [10, 10]
    np.testing.assert_array_equal(Drawings.open(tmp_path).pictures(model, SAMPLES[::-1], PLAN, push), first[::-1])
    assert forwards == [10, 10]
    more = drawings.pictures(model, [*SAMPLES, ("a nurse", 9)], PLAN, push)
    np.testing.assert_array_equal(more[:5], first)
    assert forwards == [10, 10, 2]


def test_latents_are_those_of_a_capture(model: Model, tmp_path: Path, forwards: list[int]) -> None:
    push, found = Push(along(model), 2.0), {}
    capture(model, SAMPLES, replace(PLAN, readings=("picture",)), lambda _, b, v: found.update(zip(b, v)), steer=push)
    for _ in range(2):
        latents = Drawings.open(tmp_path).latents(model, SAMPLES, PLAN, push)
        np.testing.assert_array_equal(latents, np.stack([found[sample] for sample in SAMPLES]))
    assert forwards == [10, 10]


@pytest.mark.parametrize("ended", [KeyboardInterrupt, RuntimeError])
@pytest.mark.parametrize("what", ["pictures", "latents"])
def test_an_interruption_loses_a_batch_at_most(
    model: Model, tmp_path: Path, forwards: list[int], what: str, ended: type[BaseException]
) -> None:
    push, batches = Push(along(model), 2.0), 0

    def breaking(samples: Any) -> Any:
        nonlocal batches
        batches += 1
        if batches == 3:
            raise ended
        return push(samples)

    class Breaking:
        key = staticmethod(push.key)
        __call__ = staticmethod(breaking)

    whole = getattr(Drawings(), what)(model, SAMPLES, PLAN, push)
    with pytest.raises(ended):
        getattr(Drawings.open(tmp_path), what)(model, SAMPLES, PLAN, Breaking())
    forwards.clear()
    resumed = getattr(Drawings.open(tmp_path), what)(model, SAMPLES, PLAN, push)
    np.testing.assert_array_equal(resumed, whole)
    assert forwards == [2], "two batches of two were kept, and one sample was left"


def others(model: Model) -> Iterator[tuple[Any, Plan]]:
    push = Push(along(model), 2.0)
    yield from ((one, PLAN) for one in (None, Push(along(model, 1), 2.0), Push(along(model), 2.5)))
    yield from ((one, PLAN) for one in (replace(push, steps=[1]), replace(push, keep_norm=True), Erase(along(model))))
    yield from ((together(push, one), PLAN) for one in (push, Erase(along(model), np.ones(model.probe_shape[0]))))
    yield from ((push, replace(PLAN, **changed)) for changed in ({"steps": 3}, {"guidance": 2.0}))


def test_whatever_determines_a_picture_is_told_apart(model: Model, tmp_path: Path, forwards: list[int]) -> None:
    drawings, samples = Drawings.open(tmp_path), SAMPLES[:1]
    drawings.pictures(model, samples, PLAN, Push(along(model), 2.0))
    for n, (steer, plan) in enumerate(others(model), start=2):
        np.testing.assert_array_equal(
            drawings.pictures(model, samples, plan, steer), generate(model, samples, plan, steer)
        )
        assert len(forwards) == 2 * n - 1, steer


def test_edits_say_what_they_are(model: Model) -> None:
    sample, other = SAMPLES[:2]
    each = Push(along(model), {sample: 1.0})
    assert edit_key(each, other) == "", "it is left as it is"
    assert edit_key(each, sample) == edit_key(Push(along(model), 1), sample) != ""
    assert edit_key(together(each, Push(along(model), 0.0)), sample) == edit_key(each, sample)
    unknown = [Push(along(model), [1.0, 2.0]), lambda samples: lambda value, step: value]
    assert [edit_key(together(each, one), sample) for one in unknown] == [None, None]


def test_an_edit_that_does_not_say_what_it_is_is_drawn_every_time(
    model: Model, tmp_path: Path, forwards: list[int]
) -> None:
    for alpha in (1.0, 3.0):
        push = Push(along(model), alpha)
        drawn = Drawings.open(tmp_path).pictures(model, SAMPLES, PLAN, lambda samples, push=push: push(samples))
        np.testing.assert_array_equal(drawn, generate(model, SAMPLES, PLAN, push))
    assert not (tmp_path / FILE).exists()


def test_alphas_by_place_stay_in_their_places(model: Model, tmp_path: Path) -> None:
    push = Push(along(model), [0.0, 3.0])
    twice = [("a nurse", 1), ("a nurse", 1)]
    drawn = Drawings.open(tmp_path).pictures(model, twice, PLAN, push)
    np.testing.assert_array_equal(drawn, generate(model, twice, PLAN, push))
    assert (drawn[0] != drawn[1]).any()


def test_no_file_keeps_nothing(model: Model, forwards: list[int]) -> None:
    for _ in range(2):
        Drawings().pictures(model, SAMPLES, PLAN)
    assert forwards == [10, 10]


def test_a_file_that_is_not_right_is_named(model: Model, tmp_path: Path) -> None:
    Drawings.open(tmp_path).pictures(model, SAMPLES[:1], PLAN)
    with sqlite3.connect(tmp_path / FILE) as connection:
        connection.execute("PRAGMA user_version = 7")
    connection.close()
    with pytest.raises(ScalexError, match="has format version 7, and this scalex knows version 1"):
        Drawings.open(tmp_path)
    (tmp_path / FILE).write_bytes(b"no database" * 100)
    with pytest.raises(ScalexError, match=f"{FILE} is damaged. Delete it: what it holds is drawn again"):
        Drawings.open(tmp_path)


def test_a_folder_without_permission_is_named(model: Model, guarded: Path) -> None:
    with pytest.raises(ScalexError, match=r"cannot write to .*Give yourself write permission"):
        Drawings.open(guarded / "run").pictures(model, SAMPLES[:1], PLAN)
