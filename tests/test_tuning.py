"""The batch size that suits a device."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from scalex import tuning
from scalex.batches import batch_size
from scalex.capture import Plan
from scalex.models import Model, load_model
from scalex.tuning import search, tuned

PLAN = Plan(readings=("text",), steps=1, guidance=1.0)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SCALEX_CACHE", str(tmp_path))
    return tmp_path / "batches"


@contextmanager
def device(model: Model, monkeypatch: pytest.MonkeyPatch, rates: Callable[[int], float]) -> Iterator[list[int]]:
    """A clock by which batches of a size are so fast; gives the sizes that were tried."""
    tried: list[int] = []

    def rate(model: Model, plan: Plan, size: int) -> float:
        tried.append(size)
        return rates(size)

    with monkeypatch.context() as patched:
        patched.setattr(tuning, "_rate", rate)
        yield tried


def test_the_smallest_size_that_its_double_does_not_beat(ddim: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    usual = batch_size(ddim, PLAN)
    with device(ddim, monkeypatch, lambda size: float(min(size, usual // 2))) as tried:
        assert search(ddim, PLAN) == usual // 2, "the double of it is no faster"
    assert tried == [usual // 4, usual // 2, usual]
    with device(ddim, monkeypatch, lambda size: 0.0 if size > usual // 4 else 1.0):
        assert search(ddim, PLAN) == usual // 4, "memory ran out"
    with device(ddim, monkeypatch, float):
        assert search(ddim, PLAN) == 512


def test_a_size_that_does_not_fit_has_no_rate(ddim: Model) -> None:
    def check(module: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        if len(inputs[0]) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")

    handle = ddim._unet.conv_in.register_forward_pre_hook(check)  # type: ignore[attr-defined]
    try:
        assert tuning._rate(ddim, PLAN, 4) == 0
        assert tuning._rate(ddim, PLAN, 2) > 0
    finally:
        handle.remove()


def test_what_was_found_is_remembered_by_all_that_it_depends_on(
    cache: Path, ddim: Model, monkeypatch: pytest.MonkeyPatch, tiny_folder: Callable[..., Path]
) -> None:
    much = 400 * batch_size(ddim, PLAN)
    with device(ddim, monkeypatch, lambda size: 1.0) as tried:
        found = tuned(ddim, PLAN, much)
        assert found == replace(PLAN, batch=batch_size(ddim, PLAN) // 4)
        assert tuned(ddim, PLAN, 1) == found, "remembered, however little is to be done"
        assert len(tried) == 2
        tuned(ddim, replace(PLAN, steps=2, keep="last"), much)
        tuned(load_model(tiny_folder(), device="cpu", dtype="bf16"), PLAN, much)
        assert (len(tried), len(list(cache.iterdir()))) == (6, 3)
    said = json.loads(next(cache.iterdir()).read_text())
    assert said["device"] == "cpu"


def test_little_work_a_size_of_ones_own_and_no_cache_are_left_alone(
    cache: Path, ddim: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    much = 400 * batch_size(ddim, PLAN)
    with device(ddim, monkeypatch, lambda size: 1.0) as tried:
        assert tuned(ddim, PLAN, much - 1) == PLAN
        assert tuned(ddim, replace(PLAN, batch=7), much).batch == 7
        monkeypatch.setenv("SCALEX_CACHE", "")
        assert tuned(ddim, PLAN, much) == PLAN
    assert tried == []


def test_a_damaged_memory_is_made_anew(cache: Path, ddim: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    much = 400 * batch_size(ddim, PLAN)
    with device(ddim, monkeypatch, lambda size: 1.0) as tried:
        for said in ("", "[]", '{"batch": 0}', '{"batch": "big"}'):
            found = tuned(ddim, PLAN, much)
            next(cache.iterdir()).write_text(said)
            assert found.batch == batch_size(ddim, PLAN) // 4
    assert len(tried) == 2 * 4
