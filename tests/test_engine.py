"""Filling a store: only what is missing is captured, once for both readings; an interruption keeps what was written."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from scalex.capture import Plan, capture
from scalex.engine import fill
from scalex.errors import ScalexError
from scalex.models import Model
from scalex.records import Prompt
from scalex.store import Store
from tiny import interrupting

PROMPTS = tuple(
    Prompt(template.format(a), concept, template)
    for concept, a in (("nurse", "a nurse"), ("pilot", "a pilot"))
    for template in ("a photo of {}", "a picture of {}")
)
SEEDS = (0, 1, 2)
PLAN = Plan(steps=2, guidance=1.0, batch=4)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(tmp_path / "store")


def test_the_store_holds_what_was_captured(store: Store, ddim: Model) -> None:
    told: list[tuple[int, int]] = []
    filled = fill(store, ddim, PROMPTS, SEEDS, PLAN, lambda done, total: told.append((done, total)))
    assert (filled.asked, filled.captured, filled.texts, filled.full, filled.stopped) == (12, 12, 5, 24, 12)
    assert told == [(0, 12), (4, 12), (8, 12), (12, 12)]
    sample = (PROMPTS[3].text, 2)
    captured: dict[str, np.ndarray] = {}
    capture(ddim, [sample], PLAN, lambda reading, batch, values: captured.update({reading: values[0]}))
    for reading, recipe in filled.recipes.items():
        latents = store.read(recipe, PROMPTS, SEEDS)
        np.testing.assert_allclose(latents.values[3, 2], captured[reading], rtol=1e-5, atol=1e-5)


def test_a_second_run_captures_only_what_is_missing(store: Store, ddim: Model) -> None:
    fill(store, ddim, PROMPTS, SEEDS, PLAN)
    again = fill(store, ddim, PROMPTS, SEEDS, PLAN)
    assert (again.asked, again.captured, again.full, again.stopped, again.texts) == (12, 0, 0, 0, 0)
    more = fill(store, ddim, [*PROMPTS, Prompt("a man", "man", "{}")], (*SEEDS, 3), PLAN)
    assert (more.asked, more.captured) == (20, 8)


def test_one_missing_reading_is_captured_alone(store: Store, ddim: Model) -> None:
    fill(store, ddim, PROMPTS[:2], SEEDS, Plan(readings=("text",), steps=2, guidance=1.0))
    both = fill(store, ddim, PROMPTS, SEEDS, PLAN)
    assert (both.captured, both.full, both.stopped) == (12, 24, 12)
    assert [row.rows for row in store.recipes()] == [12, 12]


def test_prompts_of_one_text_are_captured_once(store: Store, ddim: Model) -> None:
    twice = (PROMPTS[0], Prompt(PROMPTS[0].text, "carer", "{}"))
    filled = fill(store, ddim, twice, (0, 0, 1), PLAN)
    assert (filled.asked, filled.captured) == (2, 2)
    values = store.read(filled.recipes["text"], twice, (0, 1)).values
    np.testing.assert_array_equal(values[0], values[1])


def test_an_interruption_keeps_what_was_written_and_says_how_to_go_on(store: Store, ddim: Model) -> None:
    said = "interrupted: 8 of 12 samples were captured and are kept. Run the same command again to go on from there"
    with interrupting(ddim, lambda n: n > 2 * 3), pytest.raises(ScalexError, match=said):  # in the third batch
        fill(store, ddim, PROMPTS, SEEDS, PLAN)
    assert len(ddim.probe_module()._forward_hooks) == 0
    assert [row.rows for row in store.recipes()] == [8, 8]
    assert fill(store, ddim, PROMPTS, SEEDS, PLAN).captured == 4


def test_the_cost_is_that_of_the_forwards(store: Store, ddim: Model) -> None:
    filled, each = fill(store, ddim, PROMPTS, SEEDS, PLAN), ddim.flops()
    assert filled.flops(ddim) == 24 * each["full"] + 12 * each["stopped"] + 5 * each["encode"]
    assert filled.seconds > 0


def test_a_device_that_fails_midway_is_said_and_nothing_is_lost(store: Store, ddim: Model) -> None:
    """As CUDA says it when a GPU falls off the bus."""
    calls: list[int] = []

    def fail(module: torch.nn.Module, inputs: object) -> None:
        calls.append(1)
        if len(calls) > 6:
            raise torch.AcceleratorError("CUDA error: unspecified launch failure\nCUDA kernel errors might be ...")

    handle = ddim._unet.conv_in.register_forward_pre_hook(fail)  # type: ignore[attr-defined]
    said = (
        r"cpu failed \(CUDA error: unspecified launch failure\): 8 of 12 samples were captured and are kept\. Run the"
    )
    try:
        with pytest.raises(ScalexError, match=said):
            fill(store, ddim, PROMPTS, SEEDS, PLAN)
    finally:
        handle.remove()
    assert fill(store, ddim, PROMPTS, SEEDS, PLAN).captured == 4
