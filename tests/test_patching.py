"""Exchanging a block's value: it is the hook that it says, and it finds the block that carries a thing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from scalex.capture import Edit, Plan, Sample, capture, generate
from scalex.errors import ScalexError
from scalex.jobs import Job, prepare
from scalex.models import load_model
from scalex.organisms import EMBEDDED_SPEC
from scalex.patching import Pair, carried, exchanged
from tiny_families import save_family

SPEC: dict[str, Any] = {
    "concepts": ["farmer", "pilot", "nurse"],
    "attributes": {"age": {"young": "young {}", "man": "man {}", "old": "old {}"}},
    "templates": ["a photo of a {}", "a picture of a {}"],
    "seeds": 6,
    "steps": 2,
    "guidance": 2.0,
    "analyses": ["defaults"],
}
PAIRS = [Pair("a photo of a farmer", "a photo of an old farmer", seed) for seed in (3, 8, 5)]


@pytest.fixture(scope="module")
def job(tiny_folder: Callable[..., Path]) -> Job:
    return prepare(tiny_folder(), SPEC, device="cpu")


def _taken(folder: Path, probe: str, plan: Plan) -> np.ndarray:
    """Pictures with a probe's value taken from the other text's own run, by capture and steering, which know nothing
    of exchanging."""
    model = load_model(folder, device="cpu", size=16, probe=probe)
    held: dict[Sample, np.ndarray] = {}
    whole = replace(plan, readings=("text",), keep="all", pooling="full")
    capture(model, [(p.other, p.seed) for p in PAIRS], whole, lambda _, b, v: held.update(zip(b, v)))

    def steer(samples: Sequence[Sample]) -> Edit:
        values = torch.tensor(np.array([held[PAIRS[0].other, seed] for _, seed in samples]))
        return lambda value, step: values[:, step].reshape(value.shape)

    return generate(model, [(p.text, p.seed) for p in PAIRS], plan, steer)


@pytest.mark.parametrize("family", ["", "flux"])
def test_a_picture_is_that_of_a_steered_one_with_the_others_values(
    family: str, tiny_folder: Callable[..., Path], tmp_path: Path
) -> None:
    folder = save_family(family, tmp_path) if family else tiny_folder()
    model, plan = load_model(folder, device="cpu", size=16), Plan(steps=2, guidance=1.0)
    probes = model.probes()
    ends = np.concatenate(list(exchanged(model, PAIRS, plan, probes)), axis=1)
    pictures = [model.decode(torch.tensor(part)).astype(int) for part in ends]
    for i, samples in enumerate(([(p.other, p.seed) for p in PAIRS], [(p.text, p.seed) for p in PAIRS])):
        assert np.abs(pictures[i] - generate(model, samples, plan)).max() <= 1
    for probe, picture in zip(probes, pictures[2:], strict=True):
        assert np.abs(picture - _taken(folder, probe, plan)).max() <= 1, probe
    assert all(not model.submodule(name)._forward_hooks for name in probes)


def test_batches_change_nothing_and_guidance_exchanges_both_runs(job: Job) -> None:
    probes, plan = job.model.probes(), job.plan
    assert plan.resolve(job.model).doubled
    together, alone = (
        np.concatenate(list(exchanged(job.model, PAIRS, replace(plan, batch=n), probes)), axis=1) for n in (1000, 1)
    )
    np.testing.assert_allclose(together, alone, rtol=1e-4, atol=1e-4)
    plain = np.concatenate(list(exchanged(job.model, PAIRS, plan, [])), axis=1)
    np.testing.assert_allclose(plain, together[:2], rtol=1e-4, atol=1e-4)


def test_what_no_text_reaches_any_more_carries_all(job: Job) -> None:
    """Nothing of the prompt enters after the last block, so its value from the other run is the other run."""
    found, told = carried(job, concepts=2, seeds=4), list[tuple[int, int]]()
    table = found.table.set_index(["second", "probe"])
    last = job.model.probes()[-1]
    for second in ("man", "old"):
        assert table.carries[second, last] == pytest.approx(1, abs=1e-4)
        assert table.aside[second, last] == pytest.approx(0, abs=1e-2)
    assert list(table.index) == [(second, probe) for second in ("man", "old") for probe in job.model.probes()]
    assert set(found.table["first"]) == {"young"}
    alone = found.by_concept[found.by_concept.probe == last].set_index(["second", "concept"])
    assert alone.carries.to_numpy() == pytest.approx(np.ones(4), abs=1e-4)
    assert list(alone.index) == [(second, concept) for second in ("man", "old") for concept in found.concepts]
    assert found.concepts == ("farmer", "nurse")
    assert found.samples == 2 * 2 * 4 * (2 + len(job.model.probes()))
    assert (found.table.low.isna() | (found.table.low <= found.table.carries)).all()
    again = carried(job, concepts=2, seeds=4, progress=lambda *n: told.append(n), probes=[last])
    assert told[-1] == (again.samples, again.samples)
    assert list(again.table.probe.unique()) == [last]


def test_the_same_picture_has_no_way(tiny_folder: Callable[..., Path]) -> None:
    same = SPEC | {"attributes": {"age": {"old": "old {}", "aged": "old  {}"}}}
    job = prepare(tiny_folder(), same, device="cpu")
    assert carried(job, concepts=1, seeds=4).table.carries.isna().all()


def test_unknown_probes_and_specs_without_attributes_are_one_line(job: Job, tiny_folder: Callable[..., Path]) -> None:
    with pytest.raises(ScalexError, match=r"no probe 'mid_blok'.*mid_block"):
        carried(job, probes=["mid_blok"])
    bare = prepare(tiny_folder(), SPEC | {"attributes": {}, "analyses": ["associations"], "words": ["red"]})
    with pytest.raises(ScalexError, match="attribute"):
        carried(bare)


def test_on_the_organism_the_middle_block_carries_gender_and_hardly_tone() -> None:
    """As the exact readout says of the same exchange (`python bench/patching.py`)."""
    job = prepare(spec=EMBEDDED_SPEC, device="cpu")
    found = carried(job, concepts=4, seeds=4)
    at = found.table.set_index(["attribute", "probe"]).carries
    assert at["gender", "mid_block"] > 0.6
    assert at["tone", "mid_block"] < 0.4
    assert at["tone", "up_blocks.0"] > 0.9
    assert found.most().set_index("attribute").probe["tone"] == "up_blocks.0"
