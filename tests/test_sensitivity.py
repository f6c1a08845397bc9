"""How far findings move with template, wording, seeds, step and reference: the numbers, the verdicts and the panel."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace

import numpy as np
import pandas as pd
import pytest
from scipy.stats import kstest

from scalex import analyses, stats
from scalex.analyses import defaults, sensitivity
from scalex.analyses._departures import Held, departing
from scalex.analyses._planted import planted
from scalex.analyses.defaults import lean_scores
from scalex.errors import ScalexError
from scalex.prompts import build_prompts, load_spec
from scalex.records import Finding, Latents, LeanDirection, Prompt, Reading, Rules
from scalex.report import parts

RULES = Rules(resamples=500, permutations=1999)
ATTRIBUTES = {"gender": ("man", "woman")}
BLANK = Finding(
    "sensitivity", "picture", "c", "gender", "template", math.nan, "lean difference", *[math.nan] * 5, "", "", 64, 3
)
EVEN = {c: {"gender": {"man": 0.5, "woman": 0.5}} for c in ("pilot", "nurse")}


def latents(n_seeds: int = 64, n_templates: int = 2, seed: int = 0, *, mixed: bool = True) -> Latents:
    rng = np.random.default_rng(seed)
    return planted(EVEN, rng, n_seeds=n_seeds, n_templates=n_templates, mixed=mixed, reading="picture")


def every(x: Latents) -> list[Finding]:
    return analyses.run(["sensitivity"], {"picture": x}, ATTRIBUTES, RULES)


def run(x: Latents, kind: str = "lean") -> dict[tuple[str, str], Finding]:
    return {(f.target, f.value): f for f in every(x) if f.unit == f"{kind} difference"}


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
    quiet, loud = 0.001 * rng.normal(size=(2, 64)), rng.normal(size=64)
    loud = 0.38 * (loud - loud.mean()) / loud.std()
    named = zip(("a", "b", "loud"), (quiet[0], quiet[1] + 0.02, loud))
    held = [Held(name, scores[:, None], np.zeros(1), mark=i) for i, (name, scores) in enumerate(named)]
    plan = stats.resampling_plan(3, 64, 500, rng, 1999)
    row = departing(BLANK, "template", held, plan, 0.1, RULES)
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


# ---------------------------------------------------------------------------------------------------- shares, weights


def drawn(shares: Mapping[str, float], seed: int, *, n_seeds: int = 64, reading: Reading = "picture") -> Latents:
    """One concept per template's share of women, all else alike."""
    plan = {c: {"gender": {"man": 1 - p, "woman": p}} for c, p in shares.items()}
    return planted(plan, np.random.default_rng(seed), n_seeds=n_seeds, reading=reading)


def test_a_share_that_depends_on_the_template_is_found() -> None:
    x = drawn({"nurse": 0.2, "pilot": 0.2}, 0)
    moved = drawn({"nurse": 0.8, "pilot": 0.8}, 0)
    here = np.array([(p.concept, p.template, p.value) == ("nurse", "1", "") for p in x.prompts])
    found = run(replace(x, values=np.where(here[:, None, None, None], moved.values, x.values)), "share")
    assert found["nurse", "template"].verdict == "depends on the template"
    assert found["nurse", "template"].estimate == pytest.approx(0.6, abs=0.2)
    assert found["pilot", "template"].verdict == "undecided"
    assert math.isnan(found["nurse", "seeds"].p)


def test_a_share_by_another_wording_is_classified_by_it() -> None:
    """In the other wording "woman" draws men and "man" women: the share turns over."""
    x = drawn({"nurse": 0.9}, 1)
    rows = [i for i, p in enumerate(x.prompts) if p.attribute]
    swap = {"man": "woman", "woman": "man"}
    other = [replace(x.prompts[i], role="wording", value=swap[x.prompts[i].value]) for i in rows]
    both = replace(x, values=np.concatenate([x.values, x.values[rows]]), prompts=(*x.prompts, *other))
    row = run(both, "share")["nurse", "wording"]
    assert row.verdict == "depends on the wording"
    assert row.estimate == pytest.approx(-0.8, abs=0.15)


def test_shares_belong_to_pictures() -> None:
    text = analyses.run(["sensitivity"], {"text": drawn({"nurse": 0.5}, 2, reading="text")}, ATTRIBUTES, RULES)
    assert {f.unit for f in text} == {"lean difference"}


def test_seeds_that_are_all_called_alike_still_leave_an_interval() -> None:
    row = run(drawn({"nurse": 1.0}, 3, n_seeds=32), "share")["nurse", "template"]
    assert row.estimate == pytest.approx(0, abs=0.05)
    assert row.high - row.low > 0.11, "32 seeds of one kind each: 95 % of at least -0.06 to 0.06"


@pytest.mark.parametrize(("share", "separation"), [(0.5, 6.0), (0.97, 6.0), (0.9, 3.5)])
def test_intervals_of_share_differences_cover_and_tests_keep_their_level(share: float, separation: float) -> None:
    """Nothing is planted between templates, nor between halves of the seeds."""
    inside: dict[str, list[bool]] = {"template": [], "seeds": []}
    small, n = 0, 120
    plan = {"nurse": {"gender": {"man": 1 - share, "woman": share}}}
    for k in range(n):
        x = planted(plan, np.random.default_rng(k), n_seeds=24, separation=separation)
        for f in sensitivity.analyse(x, ATTRIBUTES, Rules(resamples=100, permutations=499)):
            if f.unit == "share difference":
                inside[f.value].append(f.low <= 0 <= f.high)
                small += f.p <= 0.05
    assert all(sum(held) >= 0.9 * n for held in inside.values())  # P(fewer than 108 of 120 at 95 %) = 0.01
    assert small <= 12  # P(more than 12 of 120 at 5 %) = 0.01


def test_of_many_values_the_one_that_moves_most_is_told() -> None:
    ages = ("young", "adult", "old")
    x, other = (
        planted({"nurse": {"age": dict(zip(ages, s))}}, np.random.default_rng(4), n_seeds=96)
        for s in ((0.6, 0.3, 0.1), (0.1, 0.3, 0.6))
    )
    here = np.array([(p.template, p.value) == ("1", "") for p in x.prompts])
    x = replace(x, values=np.where(here[:, None, None, None], other.values, x.values))
    found = analyses.run(["sensitivity"], {"picture": x}, {"age": ages}, RULES)
    rows = {f.unit: f for f in found if f.value == "template"}
    assert set(rows) == {"weight difference", "share difference"}
    for row in rows.values():
        assert row.verdict == "depends on the template"
        assert "'1', old (+" in row.reason or "'1', young (-" in row.reason
        assert abs(row.estimate) == pytest.approx(0.5, abs=0.2)


# ---------------------------------------------------------------------------------------------------- reference

NAMES = ("pilot", "nurse", "cook", "judge", "clerk")


def one_axis(aside: float, seed: int, *, n_seeds: int = 48, names: Sequence[str] = NAMES) -> Latents:
    """All concepts have one direction of gender; pilot's own goes astray, and its neutral prompt lies so far along the
    part that the others lack."""
    rng = np.random.default_rng(seed)
    shared = rng.normal(size=(n_seeds, 24))
    gender, astray = 6 * np.eye(24)[:2]
    place = {"": 0.0, "man": -0.5, "woman": 0.5}
    prompts, rows = [], []
    for name in names:
        along = gender + (astray if name == "pilot" else 0)
        for value, at in place.items():
            off = aside * astray if name == "pilot" and not value else 0
            rows.append(shared + at * along + off + rng.normal(size=(2, n_seeds, 24)))
            said = [(f"{value} {name} {t}", name, str(t), "gender" * bool(value), value) for t in range(2)]
            prompts += [Prompt(*one) for one in said]
    values = np.concatenate(rows)[:, :, None].astype(np.float32)
    return Latents(values, tuple(prompts), tuple(range(n_seeds)), (0,), "picture")


def test_a_lean_that_depends_on_the_reference_is_found() -> None:
    """Half of pilot's own direction is its alone: along it the lean is 0.4 / 2, along that of the others 0."""
    found = run(one_axis(0.4, 0))
    row = found["pilot", "reference"]
    assert row.verdict == "depends on the reference"
    assert row.estimate == pytest.approx(-0.2, abs=0.06)
    assert row.reason.endswith("differs: the direction of the others (-0.20)")
    assert {found[name, "reference"].verdict for name in NAMES[1:]} == {"robust"}


def test_the_reference_is_tested_at_its_level() -> None:
    """Concepts whose directions differ, though not in what the neutral prompt shows: no more small p than uniform.

    Fewer there are: where directions are alike the first order cancels, and the jackknife counts what is left twice.
    """
    rules, p = Rules(resamples=50, permutations=499), []
    for seed in range(150):
        x = replace(one_axis(0.0, seed, n_seeds=24, names=NAMES[:3]), reading="text")
        p += [f.p for f in sensitivity.analyse(x, ATTRIBUTES, rules) if (f.target, f.value) == ("pilot", "reference")]
    assert kstest(p, "uniform", alternative="greater").pvalue > 0.01


def test_a_direction_of_others_that_does_not_tell_the_variants_apart_has_no_lean() -> None:
    names = ("pilot", "nurse", "cook")
    plan = {c: {"gender": {"man": 0.5, "woman": 0.5}} for c in names}
    x = planted(plan, np.random.default_rng(5), mixed=True, width=400)  # each concept has a direction of its own
    found = run(x)
    assert {found[c, "reference"].verdict for c in names} == {"not expressed"}
    assert ("nurse", "reference") not in run(latents()), "one other concept is no shared direction"


def test_many_sure_references_do_not_let_doubtful_templates_pass() -> None:
    rows = [replace(BLANK, value=v, p=p) for v, p in [("template", 0.04)] + [("reference", 0.0001)] * 40]
    rows = [replace(row, target=str(i), low=-1.0, high=1.0) for i, row in enumerate(rows)]
    spare = [replace(BLANK, target=f"t{i}", p=0.9, low=-1.0, high=1.0) for i in range(9)]
    told = analyses._corrected([*rows, *spare], ATTRIBUTES, sensitivity.family)
    assert told[0].q == pytest.approx(0.4)
    assert told[1].q == pytest.approx(0.0001)


def test_the_lean_is_that_of_the_direction_asked_for() -> None:
    x = one_axis(0.4, 1)
    alone = [replace(x, values=x.values[t::2], prompts=x.prompts[t::2]) for t in range(2)]
    leans = [defaults.analyse(one, ATTRIBUTES, replace(RULES, lean_direction="lda"))[0].estimate for one in alone]
    found = analyses.run(["sensitivity"], {"picture": x}, ATTRIBUTES, replace(RULES, lean_direction="lda"))
    [row] = [f for f in found if (f.unit, f.target, f.value) == ("lean difference", "pilot", "template")]
    assert row.estimate == pytest.approx(leans[1] - leans[0])


@pytest.mark.parametrize(
    ("direction", "other", "apart"),
    [
        ("pooled", "the direction of the others", -0.2),
        ("shared", "its own direction", 0.2),
    ],
)
def test_the_reference_is_another_than_the_direction_asked_for(
    direction: LeanDirection, other: str, apart: float
) -> None:
    rules = replace(RULES, lean_direction=direction)
    found = analyses.run(["sensitivity"], {"picture": one_axis(0.4, 0)}, ATTRIBUTES, rules)
    [row] = [f for f in found if (f.target, f.value) == ("pilot", "reference")]
    assert row.verdict == "depends on the reference"
    assert row.estimate == pytest.approx(apart, abs=0.06)
    assert f"differs: {other} (" in row.reason


# ---------------------------------------------------------------------------------------------------- spec, panel


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
    panel = panel_of(every(with_other_wording(latents(n_seeds=128), 0.5)))
    assert panel.heading == "2 of 4 findings depend on how they are asked for: nurse"
    assert panel.paragraphs[0].startswith(
        "Of 2 leans, 0 are robust whatever is chosen, 1 depends on a choice and 1 is und"
    )
    counted, depending, each = panel.listings
    assert [row[:2] for row in counted.rows] == [
        ("2 leans", "template"),
        ("2 leans", "wording"),
        ("2 leans", "seeds"),
        ("2 shares", "template"),
        ("2 shares", "wording"),
        ("2 shares", "seeds"),
    ]
    assert {row[:3] for row in depending.rows} == {
        ("nurse", f"{kind}, gender", "wording") for kind in ("lean", "share")
    }
    assert {row[5] for row in depending.rows} == {"other wording"}
    assert each.folded == "All 4 findings and their verdicts"
    assert each.columns == ("Concept", "Finding", "template", "wording", "seeds")
    assert ("nurse", "lean, gender", "robust", "depends", "robust") in each.rows


def test_the_panel_of_leans_that_depend_on_nothing() -> None:
    quiet = panel_of(list(run(latents(n_seeds=128)).values()))
    assert quiet.heading == "No finding is shown to hang on template"
    assert len(quiet.listings) == 2
