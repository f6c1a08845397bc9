"""How far a lean moves with template, wording, seeds and step: the numbers, the verdicts and the panel."""

from __future__ import annotations

import math
from dataclasses import asdict, replace

import numpy as np
import pandas as pd
import pytest

from scalex import analyses, stats
from scalex.analyses import sensitivity
from scalex.analyses._planted import planted
from scalex.analyses.defaults import lean_scores
from scalex.errors import ScalexError
from scalex.prompts import build_prompts, load_spec
from scalex.records import Finding, Latents, Rules
from scalex.report import parts

RULES = Rules(resamples=500, permutations=1999)
ATTRIBUTES = {"gender": ("man", "woman")}
EVEN = {c: {"gender": {"man": 0.5, "woman": 0.5}} for c in ("pilot", "nurse")}


def latents(n_seeds: int = 64, n_templates: int = 2, seed: int = 0) -> Latents:
    rng = np.random.default_rng(seed)
    return planted(EVEN, rng, n_seeds=n_seeds, n_templates=n_templates, mixed=True, reading="picture")


def run(x: Latents) -> dict[tuple[str, str], Finding]:
    return {(f.target, f.value): f for f in analyses.run(["sensitivity"], {"picture": x}, ATTRIBUTES, RULES)}


def with_other_wording(x: Latents, apart: float) -> Latents:
    """The same variants again in the role of another wording, those of nurse moved along man -> woman."""
    rows = [i for i, p in enumerate(x.prompts) if p.attribute]
    prompts = [replace(x.prompts[i], role="wording") for i in rows]
    values = x.values[rows].copy()
    gap = (x.of("nurse", "gender", "woman") - x.of("nurse", "gender", "man")).mean((0, 1))
    values[[p.concept == "nurse" for p in prompts]] += (apart * gap).astype(np.float32)
    return replace(x, values=np.concatenate([x.values, values]), prompts=(*x.prompts, *prompts))


def test_the_template_row_is_the_difference_of_leans_estimated_apart() -> None:
    x = latents()
    leans = [
        lean_scores(
            x.of("nurse")[[t]].astype(float),
            *(x.of("nurse", "gender", v)[[t]].astype(float) for v in ATTRIBUTES["gender"]),
        ).mean()
        for t in range(2)
    ]
    row = run(x)["nurse", "template"]
    assert row.estimate == pytest.approx(leans[1] - leans[0])
    assert row.low < row.estimate < row.high


def test_of_many_templates_the_one_that_differs_most_is_named_and_paid_for() -> None:
    x = latents(n_templates=3)
    gap = (x.of("nurse", "gender", "woman") - x.of("nurse", "gender", "man")).mean((0, 1))
    moved = np.array([(p.concept, p.template, p.attribute) == ("nurse", "2", "") for p in x.prompts])
    values = x.values + np.where(moved[:, None, None, None], 0.4 * gap, 0).astype(np.float32)
    row = run(replace(x, values=values))["nurse", "template"]
    assert row.verdict == "depends on the template"
    assert "'2'" in row.reason
    assert row.estimate == pytest.approx(0.4, abs=0.1)
    assert row.p == pytest.approx(3 / 2000), "the smallest p of a sign-flip test, times three settings"


def test_robust_asks_it_of_every_setting() -> None:
    """The setting with the smallest p lies inside the margin, another one's interval does not: that is not robust."""
    rng = np.random.default_rng(0)
    quiet, loud = 0.001 * rng.normal(size=(2, 1, 64)), rng.normal(size=(1, 64))
    loud = 0.38 * (loud - loud.mean()) / loud.std()
    held = [sensitivity._Setting(n, s) for n, s in zip(("a", "b", "loud"), (quiet[0], quiet[1] + 0.02, loud))]
    plan = stats.resampling_plan(3, 64, 500, rng, 1999)
    blank = Finding(
        "sensitivity", "picture", "c", "gender", "template", math.nan, "lean difference", *[math.nan] * 5, "", "", 64, 3
    )
    row = sensitivity._row(blank, held, plan, RULES)
    assert row.low <= -0.1 or row.high >= 0.1
    assert sensitivity.conclude(replace(row, q=1.0), ATTRIBUTES, RULES).verdict == "undecided"


def test_another_wording_counts_only_where_it_was_captured() -> None:
    x = latents()
    assert {choice for _, choice in run(x)} == {"template", "seeds"}
    found = run(with_other_wording(x, 0.5))
    assert found["nurse", "wording"].verdict == "depends on the wording"
    assert found["nurse", "wording"].estimate == pytest.approx(-0.5, abs=0.1)
    assert found["pilot", "wording"].verdict == "undecided"
    assert found["pilot", "wording"].reason == "all settings gave the same latents: they read the same"


def test_kept_steps_are_compared() -> None:
    x = latents()
    later = latents(seed=1)
    both = replace(x, values=np.concatenate([later.values, x.values], axis=2), steps=(0, 3))
    assert "step 4" in run(both)["nurse", "step"].reason


def test_halves_of_the_seeds_are_never_said_to_depend() -> None:
    rows = [f for key, f in run(latents(n_seeds=8, seed=3)).items() if key[1] == "seeds"]
    assert {f.verdict for f in rows} <= {"robust", "undecided"}
    assert all(math.isnan(f.p) and f.low < f.high for f in rows)


def test_what_is_not_expressed_has_no_sensitivity() -> None:
    rng = np.random.default_rng(0)
    x = planted(EVEN, rng, n_seeds=32, separation=0.0, reading="picture")
    assert {f.verdict for f in run(x).values()} == {"not expressed"}


def test_attributes_of_many_values_are_left_out() -> None:
    plan = {"nurse": {"age": {"young": 0.4, "adult": 0.3, "old": 0.3}}}
    x = planted(plan, np.random.default_rng(0))
    assert analyses.run(["sensitivity"], {"picture": x}, {"age": ("young", "adult", "old")}, RULES) == []


def test_the_other_wording_is_said_of_concepts_alone() -> None:
    spec = load_spec({"concepts": ["bossy person"], "attributes": ["gender", "tone"], "templates": ["a {}"]})
    said = [(p.text, p.value, p.role) for p in build_prompts(spec, ("wording", "reference"))]
    assert said[:2] == [("a male bossy person", "man", "wording"), ("a female bossy person", "woman", "wording")]
    assert {role for *_, role in said[2:]} == {"reference"}
    assert load_spec(spec.to_dict()) == spec


def test_another_wording_needs_a_slot() -> None:
    values = {"man": {"pattern": "man {}", "also": "male"}, "woman": "woman {}"}
    with pytest.raises(ScalexError, match=r"`attributes\.gender\.man\.also` is 'male', but needs exactly one \{\}"):
        load_spec({"concepts": ["nurse"], "attributes": {"gender": values}})


def panel_of(found: list[Finding]) -> parts.Panel:
    frame = pd.DataFrame([asdict(f) for f in found])
    [(name, panel)] = parts.panels(frame, {}, {})
    assert name == "sensitivity"
    return panel


def test_the_panel_counts_verdicts_and_names_what_depends() -> None:
    panel = panel_of(list(run(with_other_wording(latents(n_seeds=128), 0.5)).values()))
    assert panel.heading == "1 of 2 leans depends on how it is asked for: nurse"
    counted, depending = panel.listings
    assert [row[0] for row in counted.rows] == [
        "another template around the concept", "another wording of the values", "the other half of the seeds",
    ]  # fmt: skip
    assert [row[0] for row in depending.rows] == ["nurse"]
    quiet = panel_of(list(run(latents(n_seeds=128)).values()))
    assert quiet.heading == "No lean is shown to hang on template, wording or step"
    assert len(quiet.listings) == 1
    assert sensitivity.NAME == "sensitivity"
