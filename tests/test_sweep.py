"""The sweep over probes: what it reads is what a capture at that probe reads, and it finds where a thing is shown."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from scalex import directions
from scalex.capture import Plan, capture
from scalex.errors import ScalexError
from scalex.jobs import Job, prepare
from scalex.models import load_model
from scalex.sweep import Sweep, probe_sweep
from scalex.trajectory import Everywhere
from tiny_families import save_family

SPEC: dict[str, Any] = {
    "concepts": ["farmer", "pilot", "nurse"],
    "attributes": {"gender": {"man": "man {}", "woman": "woman {}"}},
    "templates": ["a photo of a {}", "a picture of a {}"],
    "seeds": 6,
    "steps": 2,
    "guidance": 2.0,
    "analyses": ["defaults"],
}


@pytest.fixture(scope="module")
def job(tiny_folder: Callable[..., Path]) -> Job:
    return prepare(tiny_folder(), SPEC, device="cpu")


@pytest.fixture(scope="module")
def swept(job: Job) -> Sweep:
    return probe_sweep(job, concepts=2)


def test_every_probe_step_and_reading_has_a_row(job: Job, swept: Sweep) -> None:
    assert swept.concepts == ("farmer", "nurse")
    assert (swept.seeds, swept.samples) == (6, 2 * 2 * 2 * 6)
    table = swept.table
    assert len(table) == 2 * 2 * len(job.model.probes())
    assert table[["auc", "least"]].stack().between(0, 1).all()
    used = table[table.used]
    assert list(zip(used.reading, used.step, used.probe)) == [("text", 1, "mid_block"), ("picture", 2, "mid_block")]
    assert set(swept.best().reading) == {"text", "picture"}


@pytest.mark.parametrize("family", ["", "flux"])
def test_all_at_once_reads_what_each_probe_reads(family: str, tiny_folder: Callable[..., Path], tmp_path: Path) -> None:
    folder = save_family(family, tmp_path) if family else tiny_folder()
    plan = Plan(steps=2, guidance=2.0, keep="all", batch=3)
    samples = [("a nurse", 0), ("a nurse", 1), ("a pilot", 0), ("a pilot", 4)]
    model = load_model(folder, device="cpu", size=16)
    reader = Everywhere(model)
    together = collect(model, samples, plan, reader=reader)
    ends = np.cumsum([0, *reader.widths.values()])
    for i, name in enumerate(model.probes()):
        alone = collect(load_model(folder, device="cpu", size=16, probe=name), samples, plan)
        for key, value in alone.items():
            np.testing.assert_allclose(together[key][:, ends[i] : ends[i + 1]], value, rtol=1e-4, atol=1e-5)
    assert all(not module._forward_hooks for module in map(model.submodule, model.probes()))


def collect(model: Any, samples: list[tuple[str, int]], plan: Plan, **options: Any) -> dict[Any, np.ndarray]:
    found: dict[Any, np.ndarray] = {}
    capture(model, samples, plan, lambda r, b, v: found.update(((r, s), x) for s, x in zip(b, v)), **options)
    return found


def test_the_separability_is_that_of_an_audit_at_this_probe(job: Job, swept: Sweep) -> None:
    found = collect(job.model, job.samples, job.plan)
    aucs = []
    for concept in swept.concepts:
        texts = [[t.format(f"{v} {concept}") for t in job.spec.templates] for v in ("man", "woman")]
        variants = np.array([[[found["text", (t, s)][0] for s in job.seeds] for t in said] for said in texts])
        aucs.append(directions.separability(variants.astype(np.float64)).min())
    table = swept.table
    [row] = table[(table.reading == "text") & (table.step == 1) & (table.probe == "mid_block")].to_dict("records")
    assert row["auc"] == pytest.approx(np.mean(aucs))
    assert row["least"] == pytest.approx(np.min(aucs))


def test_the_best_probe_is_one_that_knows_the_text(swept: Sweep) -> None:
    """At the first step the first block of the way down has no attention to the text, and so can't show it."""
    first = swept.table[(swept.table.reading == "text") & (swept.table.step == 1)].set_index("probe")
    assert first.auc["down_blocks.0"] <= 0.5
    assert swept.best().set_index("reading").probe["text"] != "down_blocks.0"


def test_a_sweep_needs_variants(tiny_folder: Callable[..., Path]) -> None:
    bare = prepare(tiny_folder(), SPEC | {"attributes": {}, "analyses": ["clusters"]}, device="cpu")
    with pytest.raises(ScalexError, match=r"a sweep needs an attribute .*\. Add attributes"):
        probe_sweep(bare)


def test_another_probe_is_another_capture(tiny_folder: Callable[..., Path]) -> None:
    jobs = [prepare(tiny_folder(), SPEC, device="cpu", probe=probe) for probe in (None, "up_blocks.0")]
    recipes = [job.plan.recipes(job.model)["text"] for job in jobs]
    assert [recipe.probe for recipe in recipes] == ["mid_block", "up_blocks.0"]
