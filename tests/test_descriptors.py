"""Descriptors: the numbers, got in other ways too; the reference; bad input; what the report says; the marks."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from scalex import analyses
from scalex.analyses import descriptors
from scalex.analyses._regression import cosine_scores, fit
from scalex.analyses._weat import groups_of, weat
from scalex.errors import ScalexError
from scalex.organisms import EMBEDDED
from scalex.organisms.readout import load_truth
from scalex.records import Finding, Latents, Prompt, Role, Rules
from scalex.report.heatmap import Cell, Heat, drawn, seriated
from scalex.report.parts import descriptors as part
from scalex.report.parts import panels
from scalex.report.theme import inline_svg
from scalex.stats import resampling_plan
from scalex.truth.descriptors import marks

RULES = Rules(resamples=300, permutations=999)
GENDER = {"gender": ("man", "woman")}
TONES = {"tone": ("light", "medium", "dark")}
Look = Mapping[tuple[Role, str, str, str], Any]


def latents(look: Look, *, seeds: int = 24, noise: float = 1.0, rng: int = 0, templates: int = 2) -> Latents:
    """Latents whose mean is given, with noise that all prompts of a seed share, and noise of their own."""
    draw = np.random.default_rng(rng)
    shared = 5 + 3 * draw.normal(size=(seeds, 12))
    rows, prompts = [], []
    for (role, name, attribute, value), mean in look.items():
        rows.append(shared + np.asarray(mean, float) + noise * draw.normal(size=(templates, seeds, 12)))
        prompts += [
            Prompt(f"{role} {name} {value} {t}", name, str(t), attribute, value, role) for t in range(templates)
        ]
    values = np.concatenate(rows)[:, :, None]
    return Latents(values, tuple(prompts), tuple(range(seeds)), (0,), "picture")


def axis(i: int, length: float = 1.0) -> Any:
    """A vector of so great a length along one of twelve directions."""
    return length * np.eye(12)[i]


def world(**descriptor: Any) -> dict[tuple[Role, str, str, str], Any]:
    """Descriptors around a person; man and woman lie 8 apart along the first direction."""
    return {
        **{("concept", name, "", ""): mean for name, mean in descriptor.items()},
        ("reference", "person", "", ""): axis(0, 0),
        ("reference", "person", "gender", "man"): axis(0, -4),
        ("reference", "person", "gender", "woman"): axis(0, 4),
    }


def found(look: Look, attributes: Mapping[str, Sequence[str]] = GENDER, **how: Any) -> dict[tuple[str, str], Finding]:
    rows = analyses.run(["descriptors"], {"picture": latents(look, **how)}, attributes, RULES)
    return {(f.target, f.value): f for f in rows}


def effects(x: Latents, attributes: Mapping[str, Sequence[str]] = GENDER) -> pd.DataFrame:
    return descriptors.explore(x, attributes, RULES).tables["effects"].set_index(["target", "value"])


# ---------------------------------------------------------------------------------------------------- numbers


def test_a_pull_is_the_ratio_of_products_over_different_seeds() -> None:
    rng = np.random.default_rng(0)
    step, along = rng.normal(1, 2, (2, 7, 5)), rng.normal(2, 1, (2, 7, 5))
    x, w = step.mean(0), along.mean(0)
    pairs = list(itertools.permutations(range(7), 2))
    above, below = (np.mean([a[r] @ b[s] for r, s in pairs]) for a, b in ((x, w), (w, w)))
    fitted = fit(step, along)
    assert fitted is not None
    assert fitted.pull.mean() == pytest.approx(above / below)
    own = np.mean([x[r] @ x[s] for r, s in pairs])
    assert cosine_scores(step, fitted).mean() == pytest.approx(above / math.sqrt(own * below))


def numbers(step: np.ndarray, along: np.ndarray, beside: Sequence[np.ndarray]) -> np.ndarray:
    fitted = fit(step, along, beside)
    assert fitted is not None
    return np.array([fitted.pull.mean(), fitted.left.mean(), cosine_scores(step, fitted).mean()])


def test_scores_spread_as_leaving_a_seed_out_says() -> None:
    rng = np.random.default_rng(1)
    step, along, other = rng.normal(1, 1, (1, 40, 6)), rng.normal(2, 1, (1, 40, 6)), rng.normal(0, 1, (1, 40, 6))
    other += axis(0, 4)[:6] + 1
    for beside in ([], [other]):
        without = np.array(
            [
                numbers(*(np.delete(x, s, 1) for x in (step, along)), [np.delete(x, s, 1) for x in beside])
                for s in range(40)
            ]
        )
        error = np.sqrt(39 / 40 * ((without - without.mean(0)) ** 2).sum(0))
        fitted = fit(step, along, beside)
        assert fitted is not None
        for scores, e in zip((fitted.pull, fitted.left, cosine_scores(step, fitted)), error):
            assert scores.mean(0).std(ddof=1) / math.sqrt(40) == pytest.approx(e, rel=0.12)


def test_other_attributes_are_held_fixed_as_least_squares_does() -> None:
    rng = np.random.default_rng(2)
    step, along, *beside = (np.broadcast_to(rng.normal(size=8), (2, 6, 8)) for _ in range(4))
    every = np.stack([x[0, 0] for x in (along, *beside)])
    fitted = fit(step, along, beside)
    assert fitted is not None
    assert fitted.coefficients == pytest.approx(np.linalg.lstsq(every.T, step[0, 0])[0])
    rest = along[0, 0] - every[1:].T @ np.linalg.lstsq(every[1:].T, along[0, 0])[0]
    assert fitted.left.mean() == pytest.approx(rest @ rest)
    cosine = step[0, 0] @ rest / np.linalg.norm(step[0, 0]) / np.linalg.norm(rest)
    assert cosine_scores(step, fitted).mean() == pytest.approx(cosine)
    assert fit(step, along, [along]) is None
    assert fit(step, along, [along + 0.01 * beside[0]]) is None
    assert fit(step, 0 * along) is None


def test_shared_noise_does_not_feign_an_alignment() -> None:
    """Both differences carry the noise of the reference: their plain product holds its variance, 2 of 16 + 4 here."""
    plain, freed = [], []
    look: Look = {
        ("concept", "calm", "", ""): axis(1, 1),
        ("identity", "nurse", "", ""): axis(2, 4),
        ("reference", "person", "", ""): axis(0, 0),
    }
    for i in range(200):
        x = latents(look, seeds=12, noise=2, rng=i)
        person = x.of("person", role="reference")
        step, along = x.of("calm") - person, x.of("nurse", role="identity") - person
        a, b = step.mean((0, 1)), along.mean((0, 1))
        plain.append(a @ b / (b @ b))
        freed.append(numbers(step, along, [])[0])
    assert np.mean(plain) > 0.06
    assert abs(np.mean(freed)) < 0.04


def test_intervals_hold_the_true_pull() -> None:
    held = 0
    for i in range(100):
        row = found(world(bossy=axis(0, 2) + axis(1, 3)), rng=i)["bossy", "woman"]
        held += row.low <= 0.5 <= row.high
    assert held >= 88  # P(fewer than 88 of 100 at 95 %) = 0.001


def test_the_pull_ranks_by_amount_and_the_cosine_by_purity() -> None:
    x = latents(world(bossy=axis(0, 3), shy=axis(0, 1.5), loud=axis(0, 1.5) + axis(1, 6)), seeds=96)
    rows = effects(x)
    assert rows["pull"].to_numpy() == pytest.approx([0.75, 0.375, 0.375], abs=0.08)
    assert rows["cosine"].to_numpy() == pytest.approx([1, 1, 1.5 / math.hypot(1.5, 6)], abs=0.08)
    assert (rows["cosine_low"] <= rows["cosine"]).all()
    assert (rows["cosine"] <= rows["cosine_high"]).all()
    assert (rows["cosine_high"] <= 1).all()


def test_a_word_that_moves_nothing_has_no_cosine_and_goes_neither_way() -> None:
    x = latents(world(calm=axis(0, 0), bossy=axis(0, 3)), seeds=96)
    assert math.isnan(effects(x).loc[("calm", "woman"), "cosine"])
    assert found(world(calm=axis(0, 0), bossy=axis(0, 3)), seeds=96)["calm", "woman"].verdict == "neither"


def slanted() -> dict[tuple[Role, str, str, str], Any]:
    """Light and dark lie in good part along man and woman; "wealthy" draws light skin and nothing else."""
    dark = axis(0, 3) + axis(1, 3)
    tones = {("reference", "person", "tone", v): side * dark for v, side in (("light", -1), ("dark", 1))}
    return {**world(wealthy=-0.6 * dark, bossy=axis(0, 3)), **tones}


def test_a_word_of_one_attribute_is_not_taken_for_one_of_another() -> None:
    tones = {"tone": ("light", "dark")}
    assert found(slanted(), seeds=64)["wealthy", "woman"].verdict == "goes with man"  # nobody asked for tone
    rows = found(slanted(), {**GENDER, **tones}, seeds=64)
    assert rows["wealthy", "woman"].verdict == "neither"
    assert rows["wealthy", "dark"].verdict == "goes with light"
    assert rows["wealthy", "dark"].estimate == pytest.approx(-0.6, abs=0.1)
    assert rows["bossy", "woman"].estimate == pytest.approx(0.75, abs=0.1)
    assert rows["bossy", "dark"].verdict == "neither"


def test_an_attribute_that_is_not_expressed_is_not_held_fixed() -> None:
    silent = {("reference", "person", "tone", v): axis(0, 0) for v in ("light", "dark")}
    rows = found({**world(bossy=axis(0, 3)), **silent}, {**GENDER, "tone": ("light", "dark")})
    assert rows["bossy", "woman"].estimate == found(world(bossy=axis(0, 3)))["bossy", "woman"].estimate
    assert rows["bossy", "dark"].verdict == "not expressed"


# ---------------------------------------------------------------------------------------------------- sensitivity


def moved(x: Latents) -> pd.DataFrame:
    return descriptors.explore(x, GENDER, RULES).tables["sensitivity"].set_index(["target", "choice"])


def spoken(**descriptor: Any) -> dict[tuple[Role, str, str, str], Any]:
    """The world with variants of the descriptors, which differ as those of the person do."""
    look = world(**descriptor)
    for name, mean in descriptor.items():
        look |= {("concept", name, "gender", v): mean + axis(0, at) for v, at in (("man", -4), ("woman", 4))}
    return look


def test_a_pull_that_depends_on_the_template_is_found() -> None:
    look = world(bossy=axis(1), calm=axis(2))
    x = latents(look, seeds=48)
    here = np.array([(p.concept, p.template) == ("bossy", "1") for p in x.prompts])
    x = replace(x, values=x.values + np.where(here[:, None, None, None], axis(0, 4), 0))
    told = moved(x)
    row = told.loc[("bossy", "template")]
    assert row["verdict"] == "depends on the template"
    assert row["change"] == pytest.approx(1.0, abs=0.15), "half of the 8 between man and woman is a pull of 1"
    assert told.loc[("calm", "template"), "verdict"] == "robust"
    assert set(told.index.get_level_values("choice")) == {"template", "seeds"}, "no variants, so the reference stays"


def test_a_pull_that_depends_on_the_reference_is_found() -> None:
    """All descriptors lie to the side of women: of their own mean they go nowhere."""
    told = moved(latents(spoken(bossy=axis(0, 3), calm=axis(0, 3)), seeds=48))
    for name in ("bossy", "calm"):
        assert told.loc[(name, "reference"), "verdict"] == "depends on the reference"
        assert told.loc[(name, "reference"), "change"] == pytest.approx(-0.75, abs=0.15)
        assert "differs: from the mean of all descriptors" in told.loc[(name, "reference"), "reason"]
    even = moved(latents(spoken(bossy=axis(0, 3), calm=axis(0, -3)), seeds=96))
    assert set(even["verdict"]) == {"robust"}


def test_pulls_that_move_with_nothing_are_seldom_said_to() -> None:
    """Settings differ by noise alone: 30 audits, each at 5 % in two families."""
    looks = [latents(spoken(bossy=axis(0, 1), calm=axis(0, -1)), rng=100 + k, noise=3.0) for k in range(30)]
    claims = sum(bool(moved(x)["verdict"].str.startswith("depends").any()) for x in looks)
    assert claims <= 7  # P(more than 7 of 30 at 10 %) = 0.01


# ---------------------------------------------------------------------------------------------------- identities


def test_two_values_are_one_contrast() -> None:
    rows = found(world(bossy=axis(0, 3), brave=axis(0, -3)))
    assert set(rows) == {("bossy", "woman"), ("brave", "woman")}
    assert rows["bossy", "woman"].verdict == "goes with woman"
    assert rows["brave", "woman"].verdict == "goes with man"
    assert rows["brave", "woman"].reason.startswith("q ")


def test_many_values_have_a_row_each() -> None:
    tones = {("reference", "person", "tone", v): axis(i, 6) for i, v in enumerate(TONES["tone"])}
    look = {**world(poor=axis(2, 4) - axis(0, 2) - axis(1, 2)), **tones}
    rows = found(look, TONES)
    assert [rows["poor", v].verdict for v in TONES["tone"]] == [
        "goes against light",
        "goes against medium",
        "goes with dark",
    ]
    assert rows["poor", "dark"].estimate == pytest.approx(1, abs=0.15)


def test_a_listed_identity_is_held_against_the_reference() -> None:
    look = {**world(caring=axis(5, 3), bossy=axis(0, 3)), ("identity", "nurse", "", ""): axis(5, 6)}
    rows = found(look, {})
    assert rows["caring", "nurse"].verdict == "goes with nurse"
    assert rows["caring", "nurse"].attribute == "identities"
    assert rows["caring", "nurse"].estimate == pytest.approx(0.5, abs=0.1)
    assert rows["bossy", "nurse"].verdict == "neither"


def test_a_reference_that_is_half_the_identity_does_not_hide_it() -> None:
    """Single samples cannot tell "man" from a person who is a man half of the time with an AUC above 0.75."""
    rng, look = np.random.default_rng(0), {**world(bossy=axis(0, 4)), ("identity", "man", "", ""): axis(0, -4)}
    x = latents(look, seeds=64)
    values = x.values.copy()
    for i, p in enumerate(x.prompts):
        if p.role == "reference" and not p.value:
            values[i, :, 0, 0] += 8 * rng.integers(0, 2, 64) - 4
    rows = analyses.run(["descriptors"], {"picture": replace(x, values=values)}, {}, RULES)
    assert 0.65 < rows[0].separability < 0.8
    assert rows[0].verdict == "goes against man"


def test_what_the_model_does_not_express_gets_no_number() -> None:
    look = {**world(bossy=axis(0, 3)), ("reference", "person", "gender", "woman"): axis(0, -4)}
    words = {("concept", f"{w} person", "", ""): axis(0, 3) for w in ("gentle", "caring", "kind", "loyal")}
    row = found({**look, **words})["bossy", "woman"]
    assert row.verdict == "not expressed"
    assert math.isnan(row.estimate)
    assert "the floor is 0.8" in row.reason


# ---------------------------------------------------------------------------------------------------- no reference


def centred(**descriptor: Any) -> dict[tuple[Role, str, str, str], Any]:
    """No reference: descriptors with their variants, 8 apart, and two identities."""
    variants = {
        ("concept", name, "gender", value): np.asarray(mean) * 0 + axis(0, side)
        for name, mean in descriptor.items()
        for value, side in (("man", -4), ("woman", 4))
    }
    neutral: dict[tuple[Role, str, str, str], Any] = {("concept", n, "", ""): m for n, m in descriptor.items()}
    return {**neutral, **variants, ("identity", "nurse", "", ""): axis(3, 4), ("identity", "pilot", "", ""): axis(4, 4)}


def test_without_a_reference_everything_is_centred_on_its_mean() -> None:
    rows = found(
        centred(bossy=axis(0, 6), brave=axis(0, 2), kind=axis(0, 4) + axis(3, 3), bold=axis(0, 4) + axis(4, 3))
    )
    assert rows["bossy", "woman"].verdict == "goes with woman"
    assert rows["brave", "woman"].verdict == "goes with man"  # less than the mean of the four
    assert rows["bossy", "woman"].estimate == pytest.approx(0.5, abs=0.12)
    assert rows["kind", "nurse"].verdict == "goes with nurse"
    assert rows["kind", "pilot"].verdict == "goes against pilot"


def test_one_descriptor_without_a_reference_is_its_own_mean() -> None:
    row = found({k: v for k, v in centred(bossy=axis(0, 3)).items() if k[0] == "concept"})["bossy", "woman"]
    assert row.verdict == "undecided"
    assert row.reason.startswith("it is the only descriptor, and its own mean: name a `reference`")
    assert math.isnan(row.estimate)


def test_one_identity_without_a_reference_is_its_own_mean() -> None:
    look = {k: v for k, v in centred(bossy=axis(0, 3), brave=axis(0, 1)).items() if k[1] != "pilot"}
    row = found(look, {})["bossy", "nurse"]
    assert row.verdict == "undecided"
    assert row.reason.startswith("it is the only identity, and its own mean: name a `reference`")


# ---------------------------------------------------------------------------------------------------- bad input


def test_nobody_to_hold_descriptors_against() -> None:
    row = found(world(bossy=axis(0, 3)), {})["bossy", ""]
    assert row.verdict == "undecided"
    assert row.reason.startswith("there is no identity to hold it against: add `attributes` or `identities`")


def test_a_descriptor_that_reads_like_the_reference() -> None:
    x = latents(world(bossy=axis(0, 3), person=axis(0, 0)))
    values = x.values.copy()
    copied = [i for i, p in enumerate(x.prompts) if p.concept == "person" and p.role == "concept"]
    values[copied] = values[[i for i, p in enumerate(x.prompts) if p.role == "reference" and not p.value]]
    rows = analyses.run(["descriptors"], {"picture": replace(x, values=values)}, GENDER, RULES)
    row = next(f for f in rows if f.target == "person")
    assert row.verdict == "undecided"
    assert row.reason.startswith("it is the reference's like")


def test_directions_that_are_the_same_in_every_seed_give_no_interval() -> None:
    row = found(world(bossy=axis(0, 3)), noise=0)["bossy", "woman"]
    assert row.estimate == pytest.approx(0.75)
    assert math.isnan(row.low)
    assert math.isnan(row.p)
    assert row.verdict == "undecided"
    assert row.reason.startswith("there is no interval")


def test_a_concept_that_was_captured_twice_is_named() -> None:
    x = latents(world(brave=axis(0, 1), bossy=axis(0, 3)))
    twice = [i for i, p in enumerate(x.prompts) if p.concept == "bossy"]
    doubled = replace(
        x, values=np.concatenate([x.values, x.values[twice]]), prompts=(*x.prompts, *(x.prompts[i] for i in twice))
    )
    with pytest.raises(ScalexError, match="'bossy' was captured in 4 prompts, and others in 2") as error:
        descriptors.explore(doubled, GENDER, RULES)
    assert error.value.way_out == "Name each concept and identity once"


def test_an_attribute_of_one_value_is_no_comparison() -> None:
    with pytest.raises(ScalexError, match="attribute 'gender' has 1 value"):
        descriptors.explore(latents(world(bossy=axis(0, 3))), {"gender": ("man",)}, RULES)


# ---------------------------------------------------------------------------------------------------- groups


def test_words_are_grouped_by_the_vocabulary_that_holds_most_of_them() -> None:
    groups = groups_of(["gentle person", "caring person", "bold person", "nurse", "no such word"])
    assert groups["adjectives: warmth"] == {"gentle person", "caring person"}
    assert groups["adjectives: agency"] == {"bold person"}
    assert all(name.startswith("adjectives: ") for name in groups)
    assert groups_of(["no such word"]) == {}


def test_weat_is_caliskans_d_and_its_test_divides_the_words() -> None:
    rng = np.random.default_rng(3)
    pulls = np.array([0.9, 0.7, 0.8, 0.2, 0.1, -0.2, 0.6, -0.4, 0.0])
    scores = pulls[:, None, None] + rng.normal(0, 0.1, (9, 2, 24))
    scores += (pulls - scores.mean((1, 2)))[:, None, None]
    inside = np.arange(9) < 4
    plan = resampling_plan(2, 24, 300, np.random.default_rng(0), 999)
    result = weat(scores, inside, plan, RULES)
    assert result is not None
    apart = pulls[inside].mean() - pulls[~inside].mean()
    assert result.estimate == pytest.approx(apart / pulls.std(ddof=1))
    divided = [pulls[list(some)].mean() - np.delete(pulls, some).mean() for some in itertools.combinations(range(9), 4)]
    assert result.p == pytest.approx(min(1, 2 * np.mean(np.array(divided) >= apart - 1e-9)))
    assert result.low < result.estimate < result.high


def test_the_interval_of_weat_spreads_as_leaving_a_seed_out_says() -> None:
    rng = np.random.default_rng(4)
    scores = np.linspace(-1, 1, 10)[:, None, None] + rng.normal(0, 0.5, (10, 1, 40))
    inside = np.arange(10) >= 5
    plan = resampling_plan(1, 40, 2000, np.random.default_rng(0), 999)

    def d(x: np.ndarray) -> float:
        pulls = x.mean((1, 2))
        return float((pulls[inside].mean() - pulls[~inside].mean()) / pulls.std(ddof=1))

    without = np.array([d(np.delete(scores, s, 2)) for s in range(40)])
    error = math.sqrt(39 / 40 * ((without - without.mean()) ** 2).sum())
    result = weat(scores, inside, plan, RULES)
    assert result is not None
    assert result.high - result.low == pytest.approx(2 * 2.02 * error, rel=0.15)


def test_few_words_make_no_group() -> None:
    plan = resampling_plan(1, 24, 300, np.random.default_rng(0), 999)
    scores = np.random.default_rng(0).normal(size=(9, 1, 24))
    assert weat(scores, np.arange(9) < 3, plan, RULES) is None
    assert weat(np.ones((9, 1, 24)), np.arange(9) < 4, plan, RULES) is None


def test_a_group_that_goes_one_way_is_a_finding() -> None:
    warm, bold = ["gentle", "caring", "kind", "loyal", "tender"], ["bold", "daring", "brave", "driven", "fearless"]
    look = {f"{w} person": axis(0, 3) for w in warm} | {f"{w} person": axis(0, -3) for w in bold}
    rows = found(world(**look))
    row = rows["adjectives: warmth", "woman"]
    assert row.unit == "WEAT d"
    assert row.verdict == "goes with woman"
    assert "5 words against 5" in row.reason
    assert rows["adjectives: agency", "woman"].verdict == "goes with man"
    even = found(world(**{w: axis(1, 3) for w in look}))["adjectives: warmth", "woman"]
    assert even.verdict == "undecided"
    assert even.reason.startswith("as far apart as words divided by chance")


# ---------------------------------------------------------------------------------------------------- heat map


def test_what_is_alike_lies_side_by_side() -> None:
    rng = np.random.default_rng(0)
    block = np.repeat([[1.0, 1, -1], [-1, 0, 1], [0, -1, -1]], 4, axis=0) + rng.normal(0, 0.05, (12, 3))
    mixed = rng.permutation(12)
    order = mixed[seriated(block[mixed])] // 4
    assert len(list(itertools.groupby(order))) == 3
    assert list(seriated(np.array([[0.1], [0.9], [-0.5]]))) == [1, 0, 2]


def test_a_heat_map_shows_every_cell_and_follows_the_page() -> None:
    at = {("bossy", "woman"): 0.8, ("bossy", "nurse"): math.nan, ("brave", "woman"): -0.3, ("brave", "nurse"): 0.0}
    cells = [Cell(row, column, x, x > 0.5, f"{row} {column}") for (row, column), x in at.items()]
    svg = str(inline_svg(drawn(cells, Heat.ordered(cells, 60), 500), "a map"))
    assert svg.count("<title>") == 4
    assert all(said in svg for said in (">+0.80<", ">−0.30<", ">–<", ">0.00<", "bossy nurse"))
    assert 'fill="var(--second)"' in svg
    assert 'fill="var(--first)"' in svg


def test_of_many_rows_the_furthest_are_kept() -> None:
    cells = [Cell(f"w{i}", "woman", i / 10, False, "") for i in range(10)]
    assert list(Heat.ordered(cells, 3).rows) == ["w9", "w8", "w7"]


# ---------------------------------------------------------------------------------------------------- report


def told(look: Look, attributes: Mapping[str, Sequence[str]] = GENDER, **more: Any) -> Any:
    x = latents(look)
    outcome = analyses.explore(["descriptors"], {"picture": x, "text": replace(x, reading="text")}, attributes, RULES)
    frame = pd.DataFrame([asdict(f) for f in outcome.findings], columns=list(Finding.columns()))
    spec = {"attributes": {a: {v: v for v in values} for a, values in attributes.items()}, "reference": "person"}
    made = panels(frame, outcome.tables, {"model": "m", "spec": spec, **more})
    return made[0][1] if made else None


def test_the_heading_says_who_goes_with_whom() -> None:
    look = {
        "bossy person": axis(0, 3),
        "caring person": axis(0, 2),
        "brave person": axis(0, -3),
        "calm person": axis(0, 0),
    }
    panel = told(world(**look))
    assert panel.heading == "Bossy and caring go with woman, brave with man"
    assert "Of 4 descriptors, held against man or woman: 2 go with woman (bossy and caring)" in panel.paragraphs[0]
    assert panel.listings[0].heading == "Man or woman: both ends of the ranking"
    assert [row[0] for row in panel.listings[0].rows] == ["bossy", "caring", "calm", "brave"]
    assert panel.figures[0].narrow
    assert panel.figures[1].folded
    assert "“person”" in panel.notes[0]


def test_the_heading_where_nothing_is_sure() -> None:
    assert told(world(calm=axis(0, 0), quiet=axis(1, 2))).heading == "No descriptor goes with an identity beyond doubt"
    silent = {**world(bossy=axis(0, 3)), ("reference", "person", "gender", "woman"): axis(0, -4)}
    heading = "Nothing can be said of descriptors: the model does not express the identities"
    assert told(silent).heading == heading
    assert told(silent).listings == ()


def test_no_panel_where_nobody_was_asked_about() -> None:
    assert told(world(bossy=axis(0, 3)), {}) is None


def test_words_and_picture_that_part_are_named() -> None:
    one, other = latents(world(bossy=axis(0, 3), calm=axis(1, 2))), latents(world(bossy=axis(0, -3), calm=axis(1, 2)))
    both = {"picture": one, "text": replace(other, reading="text")}
    frame = pd.DataFrame([asdict(f) for f in analyses.run(["descriptors"], both, GENDER, RULES)])
    panel = part.panel(frame, {}, {"model": "m", "spec": {"attributes": {"gender": {"man": "", "woman": ""}}}})
    assert panel is not None
    said = "Words and picture part: bossy goes with man by the words and goes with woman in pictures."
    assert said in panel.paragraphs


# ---------------------------------------------------------------------------------------------------- truth


def test_marks_are_of_the_pull_by_the_picture() -> None:
    spec = load_truth(EMBEDDED).spec
    people = {f"{a} person": p for a, p in spec.adjectives.items()}
    x = latents(world(**{name: axis(0, 8 * (p.woman - 0.5)) for name, p in people.items()}), seeds=64)
    outcome = analyses.explore(["descriptors"], {"picture": x}, GENDER, RULES)
    frame = pd.DataFrame([asdict(f) for f in outcome.findings])
    table = outcome.tables["descriptors-picture-effects"]
    made = {m.name: m for m in marks(frame, {"picture": table}, people)}
    mark = made["descriptors, gender, picture reading: Spearman of pull with planted, 14 adjectives"]
    assert mark.mark == 0.9
    assert mark.value > 0.97
    assert made["descriptors, gender, picture reading: said to go to the planted side, share of 14"].value == 1
    assert (
        made["descriptors, gender, picture reading: planted evenly and said to go to a side, share of 16"].value < 0.2
    )
    lost = table.assign(pull=table["pull"].where(table["target"] != "bossy person"))
    [worse] = [m for m in marks(frame, {"picture": lost}, people) if m.name == mark.name]
    assert not worse.ok


def test_what_changes_much_more_than_the_identity_is_not_compared() -> None:
    """A role whose pictures are of another kind has no pull, whatever falls along the direction of the identity."""
    case = descriptors.planted(np.random.default_rng(0))
    x = case.latents["picture"]
    gap = (
        x.of("person", "gender", "woman", role="reference") - x.of("person", "gender", "man", role="reference")
    ).mean((0, 1))
    other = np.random.default_rng(1).normal(size=gap.shape)
    other *= 5 * np.linalg.norm(gap) / np.linalg.norm(other)
    moved = np.array([(p.role, p.concept) == ("concept", "calm") for p in x.prompts])
    far = replace(x, values=x.values + np.where(moved[:, None, None, None], other, 0).astype(np.float32))
    rows = analyses.run(["descriptors"], {"picture": far}, case.attributes, Rules(resamples=200, permutations=199))
    told = {f.target: f for f in rows if f.value == "woman" and f.unit == "pull"}
    assert told["calm"].verdict == "not comparable"
    assert "times as much as the identity does (at most 3)" in told["calm"].reason
    assert math.isnan(told["calm"].estimate)
    assert told["bossy"].verdict == "goes with woman"


def test_the_heat_map_leaves_out_what_is_not_comparable() -> None:
    case = descriptors.planted(np.random.default_rng(0))
    rows = analyses.run(["descriptors"], case.latents, case.attributes, Rules(resamples=200, permutations=199))
    frame = pd.DataFrame([asdict(f) for f in rows])
    far = (frame["target"] == "calm") & (frame["reading"] == "picture")
    moot = {"verdict": "not comparable", "estimate": math.nan, "low": math.nan, "high": math.nan}
    [(_, whole)] = panels(frame, {}, {})
    [(_, less)] = panels(frame.assign(**{k: frame[k].where(~far, v) for k, v in moot.items()}), {}, {})
    shown = [["calm" in figure.wide for figure in panel.figures] for panel in (whole, less)]
    assert shown == [[True, True], [False, True]], "first the picture reading, then the text reading"
