"""Mitigation: targets, doses, and pipelines of the embedded organism whose rates are brought to them."""

from __future__ import annotations

import csv
import itertools
import json
import math
import os
import warnings
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from diffusers import LCMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from PIL import Image

from scalex.capture import generate
from scalex.cli import main
from scalex.drawings import Drawings
from scalex.errors import ScalexError
from scalex.jobs import Job, prepare
from scalex.mitigation import (
    Curve,
    Dose,
    Evaluation,
    Mitigation,
    evaluate,
    fit,
    notes_of,
    refitted,
    save_grid,
    shares_of,
)
from scalex.mitigation._doses import alike, dose_at, every, some, uniform
from scalex.mitigation._fitting import _Climb, _remedy
from scalex.mitigation._reading import PictureReader
from scalex.organisms import EMBEDDED, EMBEDDED_UNET
from scalex.organisms.marks import Mark
from scalex.organisms.readout import Readout, load_truth
from scalex.scorers.exact import Exact
from scalex.steering import Push
from scalex.store import Store
from scalex.truth.mitigation import _marks

PAIR = ("man", "woman")
ROLES = ("pilot", "teacher", "student")
PILOT, TEACHER, SUSHI = "a photo of a pilot", "a photo of a teacher", "a photo of sushi"
FRESH = tuple(range(700, 716))


# ---------------------------------------------------------------------------------------------------- targets


@pytest.mark.parametrize(
    ("target", "shares"),
    [
        (0.5, {"pilot": 0.5, "teacher": 0.5}),
        ("0.25", {"pilot": 0.25, "teacher": 0.25}),
        ({"man": 0.3, "woman": 0.7}, {"pilot": 0.7, "teacher": 0.7}),
        ({"pilot": 0.1}, {"pilot": 0.1}),
        ({"teacher": {"man": 0.2, "woman": 0.8}, "pilot": 1}, {"teacher": 0.8, "pilot": 1.0}),
    ],
)
def test_a_target_is_a_share_or_shares_by_value_or_by_concept(target: Any, shares: dict[str, float]) -> None:
    assert shares_of(target, PAIR, ["pilot", "teacher"]) == pytest.approx(shares)


@pytest.mark.parametrize(
    ("target", "message"),
    [
        (1.2, "the target is 1.2. Shares are from 0 to 1"),
        (-0.1, "the target is -0.1"),
        (math.nan, "the target is nan"),
        ({"man": 0.5, "woman": 0.6}, "the target sums to 1.1"),
        ({"woman": 0.5}, "the target sums to 0.5"),
        ({"pilot": {"man": 0.5, "womn": 0.5}}, "the target of 'pilot' speaks of 'womn'. Did you mean 'woman'"),
        ({"pilot": "many"}, "the target of 'pilot' is 'many'"),
        ({"pilt": 0.5}, "no concept 'pilt'. Did you mean 'pilot'"),
        ({}, "the targets are empty"),
        ("none.csv", "there is no file of targets none.csv"),
    ],
)
def test_a_target_that_is_not_right_is_refused(target: Any, message: str) -> None:
    with pytest.raises(ScalexError, match=message):
        shares_of(target, PAIR, ["pilot", "teacher"])


def test_targets_come_from_a_table(tmp_path: Path) -> None:
    tables = {
        "both.csv": "concept,man,woman\npilot,0.9,0.1\nteacher,0.2,0.8\n",
        "second.csv": "job,year,woman\npilot,2015,0.1\nteacher,2015,0.8\n",
        "first.tsv": "concept\tman\npilot\t0.9\nteacher\t0.2\n",
    }
    for name, text in tables.items():
        (tmp_path / name).write_text(text)
        expected = {"pilot": 0.1, "teacher": 0.8}
        assert shares_of(tmp_path / name, PAIR, ["pilot", "teacher", "guest"]) == pytest.approx(expected)
    assert list(shares_of(tmp_path / "both.csv", PAIR, ["pilot", "guest"], ["pilot"])) == ["pilot"]
    with pytest.raises(ScalexError, match="there is no target for 'guest'"):
        shares_of(tmp_path / "both.csv", PAIR, ["pilot", "guest"], ["guest"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "has no column 'man' or 'woman', but nothing"),
        ("concept,share\npilot,0.5\n", "has no column 'man' or 'woman', but concept, share"),
        ("concept,woman\npilot,9.4\n", "line 2 of .* is 9.4"),
        ("concept,woman\npilot,\n", "line 2 of .* is ''"),
        ("concept,woman\npilot,0.5\npilot,0.6\n", "line 3 of .* names 'pilot' once more"),
    ],
)
def test_a_table_that_is_not_right_is_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "targets.csv").write_text(text)
    with pytest.raises(ScalexError, match=message):
        shares_of(tmp_path / "targets.csv", PAIR, ["pilot"])


def test_labour_shares_serve_as_targets(tmp_path: Path) -> None:
    """A public table, its percentages divided by 100: BLS 2015/16 in Winogender."""
    folder = Path(os.environ.get("SCALEX_REFERENCE", Path(__file__).parents[2] / "shared" / "reference"))
    if not (folder / "bls_occupations.tsv").is_file():
        pytest.skip("no reference tables: set SCALEX_REFERENCE to their folder")
    with (folder / "bls_occupations.tsv").open(newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    shares = {row["occupation"]: float(row["bls_pct_female"]) / 100 for row in rows}
    file = tmp_path / "labour.csv"
    file.write_text("concept,woman\n" + "".join(f"{name},{share}\n" for name, share in shares.items()))
    found = shares_of(file, PAIR, list(shares))
    assert found == pytest.approx(shares)
    assert found["accountant"] == pytest.approx(0.597)


# ---------------------------------------------------------------------------------------------------- doses


def curve(*rows: tuple[float, float, float, float]) -> Curve:
    """Rows of alpha, rate, kept, change; no doubt."""
    alphas, rates, kept, change = (tuple(map(float, column)) for column in zip(*rows))
    return Curve(alphas, rates, (0.0,) * len(rows), kept, change)


NURSES = curve((0, 0.1, 1, 0), (0.5, 0.5, 1, 0.5), (1, 0.9, 1, 1), (2, 1, 0.3, 2), (-1, 0, 1, 0.2))


def test_few_are_steered_strongly_and_the_others_not_at_all() -> None:
    """At alpha 1 half of the pictures must be steered; at 0.5 all of them, which changes as much and is less sure."""
    assert some(NURSES, 0.5, 0.9) == (Dose(1.0, pytest.approx(0.5)), Dose(0.0, pytest.approx(0.5)))
    assert NURSES.rate(some(NURSES, 0.5, 0.9)) == pytest.approx(0.5)


def test_every_picture_may_be_assigned_a_value_and_all_may_be_steered_alike() -> None:
    assert every(NURSES, 0.25, 0.0) == (Dose(2.0, pytest.approx(0.25)), Dose(-1.0, pytest.approx(0.75)))
    assert alike(NURSES, 0.7, 0.9) == (Dose(pytest.approx(0.75, abs=0.02), 1.0),)


def test_the_concept_comes_before_the_target() -> None:
    """At alpha 1 half of the concept is lost: with keep 0.9 no more than a fifth of the pictures may be steered."""
    lossy = curve((0, 0, 1, 0), (1, 1, 0.5, 1))
    doses = some(lossy, 0.5, 0.9)
    assert doses == (Dose(1.0, pytest.approx(0.2)), Dose(0.0, pytest.approx(0.8)))
    assert some(lossy, 0.5, 0.0)[0].share == pytest.approx(0.5)


def test_a_target_out_of_reach_is_approached() -> None:
    weak = curve((0, 1, 1, 0), (-1, 0.8, 1, 1))
    assert some(weak, 0.5, 0.9) == (Dose(-1.0, pytest.approx(1.0)),)


def test_no_mixture_of_two_alphas_is_better() -> None:
    """The linear programme against all pairs of alphas, on curves at random."""
    rng = np.random.default_rng(0)
    for _ in range(50):
        rates, change = np.sort(rng.random(4)), rng.random(4).cumsum()
        change[0], doubt = 0.0, rng.random(4) / 5
        drawn = Curve((0.0, 0.5, 1.0, 2.0), tuple(rates), tuple(doubt), (1.0,) * 4, tuple(change))
        target = float(rng.uniform(rates[0], rates[-1]))
        costs = change + rates * (1 - rates) + 3 * doubt
        pairs = [(i, j, (target - rates[i]) / (rates[j] - rates[i])) for i, j in itertools.combinations(range(4), 2)]
        best = min((1 - p) * costs[i] + p * costs[j] for i, j, p in pairs if 0 <= p <= 1)
        doses = some(drawn, target, 0.9)
        assert drawn.rate(doses) == pytest.approx(target, abs=1e-6)
        assert sum(d.share * costs[drawn.alphas.index(d.alpha)] for d in doses) == pytest.approx(best, abs=1e-6)


def test_consecutive_seeds_share_the_range_evenly_and_any_others_as_chance_does() -> None:
    for first in (0, 32, 1_500_000):
        drawn = [int(16 * uniform(PILOT, ("", seed))) for seed in range(first, first + 16)]
        assert sorted(drawn) == list(range(16))
    strided = np.array([uniform(PILOT, ("", 16 * i)) for i in range(2000)])
    assert np.abs(np.histogram(strided, 10, (0, 1))[0] - 200).max() < 60  # four standard deviations
    assert uniform(PILOT, ("", 7)) == uniform(PILOT, ("", 7)) != uniform(TEACHER, ("", 7))
    pairs = np.array([(uniform(PILOT, ("", s)), uniform(TEACHER, ("", s))) for s in range(2000)])
    assert abs(np.corrcoef(pairs.T)[0, 1]) < 0.1


def test_a_dose_is_given_to_its_share() -> None:
    doses = (Dose(2.0, 0.25), Dose(1.0, 0.25), Dose(0.0, 0.5))
    counts = Counter(dose_at(doses, u) for u in np.linspace(0, 1, 1000, endpoint=False))
    assert counts == {2.0: 250, 1.0: 250, 0.0: 500}
    assert dose_at(doses, 1.0) == 0.0


# ---------------------------------------------------------------------------------------------------- the organism


@pytest.fixture(scope="module")
def job() -> Job:
    asked = {"concepts": list(ROLES), "attributes": ["gender"], "templates": ["a photo of a {}"], "seeds": 10}
    return prepare(spec=asked, device="cpu")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return Store.open(tmp_path_factory.mktemp("mitigation") / "store")


@pytest.fixture(scope="module")
def fitted(job: Job, store: Store) -> Mitigation:
    return fit(job, store, "gender", 0.5, alphas=(1.0, 2.0))


@pytest.fixture(scope="module")
def readout(job: Job) -> Readout:
    return Readout(load_truth(EMBEDDED), job.model)


@pytest.fixture(scope="module")
def scorers(readout: Readout) -> list[Any]:
    return [Exact(readout, "gender", PAIR), Exact(readout, "concept", ROLES)]


@pytest.fixture(scope="module")
def measured(job: Job, fitted: Mitigation, scorers: list[Any]) -> Evaluation:
    return evaluate(job, fitted, seeds=FRESH, scorers=scorers)


def test_roles_of_one_gender_are_steered_and_others_left(fitted: Mitigation) -> None:
    pilot, teacher = fitted.remedies["pilot"], fitted.remedies["teacher"]
    assert max(d.alpha for d in pilot.doses) > 0 > min(d.alpha for d in teacher.doses)
    for remedy in (pilot, teacher):
        assert remedy.expected == pytest.approx(0.5, abs=0.01)
        assert 0.4 < remedy.touched < 0.75
    assert fitted.remedies["student"].touched < 0.4, "a student is planted at one half"
    assert fitted.values == PAIR
    assert fitted.made.steps == 4
    assert fitted.phrases == ("female", "male", "man", "woman")


def test_rates_reach_the_target_on_fresh_seeds_and_concepts_stay(measured: Evaluation) -> None:
    by = measured.table.set_index(["method", "concept"])
    for role in ("pilot", "teacher"):
        assert by.loc[("unsteered", role), "residual"] > 0.4
        assert by.loc[("mitigated", role), "residual"] < 0.2
        assert by.loc[("mitigated", role), "low"] < 0.5 < by.loc[("mitigated", role), "high"]
    summary = measured.summary.set_index("method")
    assert summary.loc["mitigated", "kept"] > 0.9
    assert summary.loc["unsteered", "change"] == summary.loc["unsteered", "touched"] == 0
    assert summary.loc["mitigated", "low"] <= summary.loc["mitigated", "residual"] <= summary.loc["mitigated", "high"]
    assert summary.loc["erased", "touched"] == 1
    assert summary.loc["rewritten", "residual"] < 0.25
    assert measured.readout == "exact readout"


def test_groups_say_who_pays(measured: Evaluation) -> None:
    """Pilots that were women already are hardly turned; half of the men are, and change most."""
    groups = measured.groups.set_index(["method", "concept", "value"])
    men = groups.loc[("mitigated", "pilot", "man")]
    assert 0.3 < men["turned"] < 0.7
    assert men["n"] >= 12
    assert (groups.loc["unsteered"]["turned"] == 0).all()
    counted = measured.groups.groupby(["method", "concept"])["n"].sum()
    assert (counted <= len(FRESH)).all()


def test_the_picture_reading_sees_about_the_same(
    job: Job, store: Store, fitted: Mitigation, measured: Evaluation
) -> None:
    seen = evaluate(job, fitted, store, seeds=FRESH, methods=("mitigated",))
    assert list(seen.summary["method"]) == ["unsteered", "mitigated"]
    both = [e.table.set_index(["method", "concept"])["rate"] for e in (seen, measured)]
    gone = (both[0] - both[1]).dropna().abs()
    assert len(gone) == 6
    assert gone.mean() < 0.15
    assert seen.readout == "picture reading"
    assert json.loads(seen.text)["summary"][1]["method"] == "mitigated"


def test_an_interrupted_mitigation_goes_on_and_a_done_one_draws_nothing(
    job: Job, store: Store, fitted: Mitigation, tmp_path: Path, forwards: list[int]
) -> None:
    """Stopped while it calibrates and while it evaluates, and resumed, against the same without a break."""
    whole = evaluate(job, fitted, store, seeds=FRESH[:8])
    asked: dict[str, Any] = {"alphas": (1.0, 2.0), "drawings": Drawings.open(tmp_path)}
    last = 0

    def breaking(done: int, total: int) -> None:
        nonlocal last
        last += 1
        if last % 4 == 0:
            raise KeyboardInterrupt

    forwards.clear()
    with pytest.raises(KeyboardInterrupt):
        fit(job, store, "gender", 0.5, **asked, progress=breaking)
    stopped, _ = sum(forwards), forwards.clear()
    resumed = fit(job, store, "gender", 0.5, **asked)
    assert stopped > 0
    assert stopped + sum(forwards) == 4 * 10 * sum(len(r.curve.alphas) - 1 for r in resumed.remedies.values())
    assert {c: (r.curve, r.doses) for c, r in resumed.remedies.items()} == {
        c: (r.curve, r.doses) for c, r in fitted.remedies.items()
    }
    with pytest.raises(KeyboardInterrupt):
        evaluate(job, resumed, store, seeds=FRESH[:8], drawings=asked["drawings"], progress=breaking)
    for _ in range(2):
        found = evaluate(job, resumed, store, seeds=FRESH[:8], drawings=asked["drawings"])
        assert found.text == whole.text
        forwards.clear()
        fit(job, store, "gender", 0.5, **asked)
        evaluate(job, resumed, store, seeds=FRESH[:8], drawings=asked["drawings"])
        assert forwards == []


def test_another_rule_needs_no_new_capture(fitted: Mitigation) -> None:
    other = refitted(fitted, "alike", 0.9)
    assert len(other.remedies["pilot"].doses) == 1
    assert other.made.rule == "alike"
    back = refitted(other, "some", 0.9)
    assert {c: r.doses for c, r in back.remedies.items()} == {c: r.doses for c, r in fitted.remedies.items()}


def test_what_cannot_be_told_apart_is_left_alone(job: Job, fitted: Mitigation) -> None:
    """Variants that are noise alone: nothing is steered, so nothing is drawn, and the reason is kept."""
    noise = np.random.default_rng(0).normal(size=(3, 1, 16, 20))
    reader = PictureReader(job.model, job.plan, tuple(range(16)), {"pilot": noise[:2]}, {"pilot": noise[2]})
    climb = _Climb(reader, {"pilot": (PILOT,)}, {}, {"pilot": 0.9}, 0.8, None)
    drawn = climb.curves([1.0, 2.0], both=False)["pilot"]
    assert drawn.alphas == (0.0,)
    assert climb.notes["pilot"].startswith("not expressed (AUC 0.")
    left = _remedy(0.9, drawn, climb.notes["pilot"], fitted.remedies["pilot"].vector, "some", 0.9)
    assert left.touched == 0
    assert next(iter(notes_of(replace(fitted, remedies={"pilot": left})))).startswith("pilot: not expressed")


# ---------------------------------------------------------------------------------------------------- prompts


@pytest.mark.parametrize(
    ("text", "concept"),
    [
        (PILOT, "pilot"),
        ("Pilot, oil on canvas", "pilot"),
        ("a photo of two pilots", None),
        ("a co-pilot", None),
        ("a woman pilot", None),
        ("a female teacher at school", None),
        ("a pilot and a teacher", None),
        (SUSHI, None),
    ],
)
def test_a_prompt_is_known_by_the_one_concept_that_it_names(fitted: Mitigation, text: str, concept: str | None) -> None:
    assert fitted.concept_of(text) == concept


def test_a_longer_concept_holds_a_shorter_one(fitted: Mitigation) -> None:
    remedy = fitted.remedies["pilot"]
    workers = replace(fitted, remedies={"worker": remedy, "factory worker": remedy}, texts={})
    assert workers.concept_of("a tired factory worker") == "factory worker"
    assert workers.concept_of("a worker") == "worker"
    assert workers.concept_of("a worker and a factory worker") is None


# ---------------------------------------------------------------------------------------------------- pipelines


@pytest.fixture
def pipe() -> Any:
    unet = UNet2DConditionModel.from_pretrained(EMBEDDED / EMBEDDED_UNET, dtype=torch.float32)
    scheduler = LCMScheduler.from_pretrained(EMBEDDED / EMBEDDED_UNET)
    made = StableDiffusionPipeline.from_pretrained(EMBEDDED, unet=unet, scheduler=scheduler, dtype=torch.float32)
    made.set_progress_bar_config(disable=True)
    return made


def called(pipe: Any, texts: str | list[str], generator: Any = None, **options: Any) -> np.ndarray:
    asked = {"num_inference_steps": 4, "guidance_scale": 1.0, "output_type": "np", **options}
    return np.asarray(pipe(texts, generator=generator, **asked).images)


def seeded(*seeds: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def own(job: Job, fitted: Mitigation, samples: list[tuple[str, int]]) -> np.ndarray:
    """Pictures of our own sampler."""
    found = []
    for text, seed in samples:
        concept = fitted.concept_of(text)
        push = Push(fitted.remedies[concept].vector.direction, fitted.alphas([(text, seed)])) if concept else None
        found.append(generate(job.model, [(text, seed)], job.plan, push)[0])
    return np.stack(found)


def touched(fitted: Mitigation, text: str, on: bool) -> int:
    """The first seed at which a prompt is steered, or is not."""
    return next(s for s in range(100) if bool(fitted.alphas([(text, s)])[text, s]) == on)


def test_a_pipeline_gives_the_pictures_of_our_own_sampler(pipe: Any, job: Job, fitted: Mitigation) -> None:
    texts = [PILOT, TEACHER, SUSHI, PILOT, TEACHER]
    seeds = [touched(fitted, PILOT, True), touched(fitted, TEACHER, True), 3]
    seeds += [touched(fitted, PILOT, False), touched(fitted, TEACHER, False)]
    plain = called(pipe, texts, seeded(*seeds))
    with fitted.apply(pipe) as same:
        assert same is pipe
        found = called(pipe, texts, seeded(*seeds))
    expected = own(job, fitted, list(zip(texts, seeds))) / 255.0
    assert np.abs(found - expected).max() < 0.02
    changed = np.abs(found - plain).max((1, 2, 3))
    assert (changed[:2] > 0.2).all()
    assert (changed[2:] == 0).all(), "what is not steered is the same to the last bit"


def test_a_call_of_unknown_prompts_is_the_plain_one(pipe: Any, fitted: Mitigation) -> None:
    plain = called(pipe, [SUSHI, "a woman pilot"], seeded(1, 2))
    with fitted.apply(pipe):
        assert np.array_equal(called(pipe, [SUSHI, "a woman pilot"], seeded(1, 2)), plain)
        assert not [m for m in pipe.unet.modules() if m._forward_hooks or m._forward_pre_hooks]


def test_a_pipeline_is_as_it_was_whatever_happens(pipe: Any, fitted: Mitigation) -> None:
    seed = touched(fitted, PILOT, True)
    plain = called(pipe, PILOT, seeded(seed))

    def broken(*args: Any) -> Any:
        raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"), fitted.apply(pipe):
        called(pipe, PILOT, seeded(seed), callback_on_step_end=broken)
    assert type(pipe) is StableDiffusionPipeline
    assert np.array_equal(called(pipe, PILOT, seeded(seed)), plain)
    for part in (pipe.unet, pipe.text_encoder, pipe.vae):
        assert not any(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in part.modules())


def test_several_pictures_a_prompt_are_each_of_their_own_seed(pipe: Any, fitted: Mitigation) -> None:
    seeds = (0, 1, 2, 3)
    with fitted.apply(pipe):
        twice = called(pipe, [PILOT, TEACHER], seeded(*seeds), num_images_per_prompt=2)
        single = called(pipe, [PILOT, PILOT, TEACHER, TEACHER], seeded(*seeds))
    assert np.array_equal(twice, single)


@pytest.mark.parametrize("way", ["one generator", "none", "one that has drawn", "latents"])
def test_without_a_seed_each_the_noise_tells_pictures_apart(pipe: Any, fitted: Mitigation, way: str) -> None:
    """About half of 12 pilots are steered, the same ones again, and the global generator is left as it is."""

    def draw() -> np.ndarray:
        torch.manual_seed(11)
        generator = torch.Generator().manual_seed(5)
        if way == "one that has drawn":
            torch.randn(3, generator=generator)
        given = None if way == "none" else generator
        noise = {"latents": torch.randn(12, *pipe_shape(pipe), generator=generator)} if way == "latents" else {}
        return called(pipe, PILOT, given, num_images_per_prompt=12, **noise)

    plain = draw()
    with fitted.apply(pipe):
        found, again = draw(), draw()
    assert np.array_equal(found, again)
    changed = np.abs(found - plain).max((1, 2, 3)) > 0
    assert 2 <= changed.sum() <= 11


def pipe_shape(pipe: Any) -> tuple[int, int, int]:
    return pipe.unet.config.in_channels, pipe.unet.config.sample_size, pipe.unet.config.sample_size


def test_a_generator_that_goes_on_draws_other_doses(pipe: Any, fitted: Mitigation) -> None:
    generator, steered = torch.Generator().manual_seed(touched(fitted, PILOT, True)), []
    copy = torch.Generator().manual_seed(generator.initial_seed())
    for _ in range(8):
        plain = called(pipe, PILOT, copy)
        with fitted.apply(pipe):
            steered.append(not np.array_equal(called(pipe, PILOT, generator), plain))
    assert steered[0]
    assert not all(steered)


def test_concepts_and_seeds_may_be_told(pipe: Any, fitted: Mitigation) -> None:
    seed = next(s for s in range(100) if fitted.alpha_of("pilot", "someone at work", s))
    plain = called(pipe, ["someone at work", PILOT], seeded(seed, seed))
    with fitted.apply(pipe, concepts=["pilot", None]):
        found = called(pipe, ["someone at work", PILOT], seeded(seed, seed))
    assert np.abs(found[0] - plain[0]).max() > 0.1
    assert np.array_equal(found[1], plain[1])
    on, off = touched(fitted, PILOT, True), touched(fitted, PILOT, False)
    with fitted.apply(pipe, seeds=[on, off]):
        found = called(pipe, [PILOT, PILOT], seeded(1, 1))
    assert np.abs(found[0] - found[1]).max() > 0.1
    for told, message in (({"concepts": ["pilot"]}, "1 concepts for 2 prompts"), ({"seeds": [1]}, "1 seeds for 2 pic")):
        with pytest.raises(ScalexError, match=message), fitted.apply(pipe, **told):
            called(pipe, [PILOT, PILOT], seeded(1, 1))
    with (
        pytest.raises(ScalexError, match=r"no concept 'pilt'. Did you mean 'pilot'"),
        fitted.apply(pipe, concepts=["pilt"]),
    ):
        pass


def test_guidance_steers_both_halves_and_other_settings_are_warned_of(pipe: Any, fitted: Mitigation) -> None:
    on, off = touched(fitted, PILOT, True), touched(fitted, PILOT, False)
    plain = called(pipe, [PILOT, PILOT], seeded(on, off), guidance_scale=2.0)
    with fitted.apply(pipe), warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        found = called(pipe, [PILOT, PILOT], seeded(on, off), guidance_scale=2.0)
        called(pipe, [PILOT, PILOT], seeded(on, off), num_inference_steps=3)
    assert np.abs(found[0] - plain[0]).max() > 0.2
    assert np.array_equal(found[1], plain[1])
    told = [str(w.message) for w in heard if "calibrated" in str(w.message)]
    assert told == [
        "the mitigation was calibrated with other settings: guidance 2, not 1. Rates may miss their targets"
    ]


def test_two_mitigations_work_one_inside_the_other(pipe: Any, fitted: Mitigation) -> None:
    parts = [replace(fitted, remedies={role: fitted.remedies[role]}) for role in ("pilot", "teacher")]
    seeds = (touched(fitted, PILOT, True), touched(fitted, TEACHER, True))
    with fitted.apply(pipe):
        expected = called(pipe, [PILOT, TEACHER], seeded(*seeds))
    with parts[0].apply(pipe), parts[1].apply(pipe):
        found = called(pipe, [PILOT, TEACHER], seeded(*seeds))
    np.testing.assert_allclose(found, expected, atol=1e-4)
    assert type(pipe) is StableDiffusionPipeline


def test_another_model_is_refused(fitted: Mitigation, pipe: Any, tiny_folder: Callable[..., Path]) -> None:
    other = StableDiffusionPipeline.from_pretrained(EMBEDDED)
    with pytest.raises(ScalexError, match="was found in another model"), fitted.apply(other):
        pass
    tiny = StableDiffusionPipeline.from_pretrained(tiny_folder())
    with pytest.raises(ScalexError, match="is 2304 wide"), fitted.apply(tiny, check=False):
        pass
    with pytest.raises(ScalexError, match="no pipeline of diffusers"), fitted.apply({}):
        pass


# ---------------------------------------------------------------------------------------------------- its folder


def test_a_mitigation_comes_back_as_it_was_saved(pipe: Any, fitted: Mitigation, tmp_path: Path) -> None:
    back = Mitigation.from_pretrained(fitted.save_pretrained(tmp_path / "fair"))
    samples = [(text, seed) for text in (PILOT, TEACHER, SUSHI) for seed in range(20)]
    assert back.alphas(samples) == fitted.alphas(samples)
    assert back.made == fitted.made
    again = back.save_pretrained(tmp_path / "again")
    for name in ("mitigation.json", "mitigation.safetensors"):
        assert (again / name).read_bytes() == (tmp_path / "fair" / name).read_bytes()
    found = []
    for one in (fitted, back):
        with one.apply(pipe):
            found.append(called(pipe, [PILOT, TEACHER], seeded(0, 1)))
    np.testing.assert_allclose(found[0], found[1], atol=1e-4)
    told = json.loads((again / "mitigation.json").read_text())
    of = told["concepts"]["pilot"]["of"]
    assert (of["probe"], of["pooling"], len(of["model"]), of["seeds"]) == ("mid_block", "full", 64, list(range(10)))
    assert told["concepts"]["pilot"]["texts"] == [PILOT]


def _with(key: str, value: Any) -> Callable[[dict[str, Any]], Any]:
    return lambda told: told.update({key: value})


def _nan(told: dict[str, Any]) -> None:
    told["concepts"]["pilot"]["doses"][0]["alpha"] = math.nan


def _too_much(told: dict[str, Any]) -> None:
    told["concepts"]["pilot"]["doses"][0]["share"] = 3.0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_with("format", "cake"), "holds no mitigation"),
        (_with("version", 9), "has format version 9, this scalex knows 1. Update scalex"),
        (_with("concepts", {}), "is damaged"),
        (_with("made", 3), "is damaged"),
        (_nan, "is damaged"),
        (_too_much, "is damaged"),
    ],
)
def test_a_folder_that_is_not_right_is_refused(
    fitted: Mitigation, tmp_path: Path, change: Callable[[dict[str, Any]], Any], message: str
) -> None:
    file = fitted.save_pretrained(tmp_path) / "mitigation.json"
    told = json.loads(file.read_text())
    change(told)
    file.write_text(json.dumps(told))
    with pytest.raises(ScalexError, match=message):
        Mitigation.from_pretrained(tmp_path)


def test_files_that_lack_or_are_torn_are_named(fitted: Mitigation, tmp_path: Path) -> None:
    with pytest.raises(ScalexError, match=r"holds no mitigation: it has no mitigation\.json"):
        Mitigation.from_pretrained(tmp_path)
    fitted.save_pretrained(tmp_path)
    (tmp_path / "mitigation.safetensors").write_bytes(b"torn")
    with pytest.raises(ScalexError, match="safetensors cannot be read, or is damaged"):
        Mitigation.from_pretrained(tmp_path)
    (tmp_path / "mitigation.json").write_text("{")
    with pytest.raises(ScalexError, match="json cannot be read, or is damaged"):
        Mitigation.from_pretrained(tmp_path)


def test_a_folder_without_permission_is_named(fitted: Mitigation, guarded: Path) -> None:
    with pytest.raises(ScalexError, match="cannot write to"):
        fitted.save_pretrained(guarded / "fair")


# ---------------------------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"target": 2}, "the target is 2"),
        ({"target": {"pilt": 0.5}}, "no concept 'pilt'"),
        ({"attribute": "hair"}, "no attribute 'hair'"),
        ({"values": ["man", "men"]}, "no value 'men'"),
        ({"concepts": ["cook"]}, "no concept 'cook'"),
        ({"alphas": [1.0, math.nan]}, "alphas are"),
        ({"alphas": []}, "alphas are"),
        ({"alphas": [-1.0]}, "alphas are"),
        ({"rule": "sum"}, "no rule 'sum'"),
        ({"keep": 1.5}, "keep is 1.5"),
        ({"seeds": [1, 2]}, "2 seeds cannot calibrate"),
    ],
)
def test_a_fit_that_is_not_right_is_refused(job: Job, store: Store, asked: dict[str, Any], message: str) -> None:
    told = {"attribute": "gender", "target": 0.5, **asked}
    with pytest.raises(ScalexError, match=message):
        Mitigation.fit(job, store, told.pop("attribute"), told.pop("target"), **told)


def test_an_evaluation_that_is_not_right_is_refused(
    job: Job, fitted: Mitigation, store: Store, readout: Readout
) -> None:
    tones = Exact(readout, "tone", ("light", "dark"))
    few, genders = Exact(readout, "concept", ("pilot",)), Exact(readout, "gender", PAIR)
    for asked, message in (
        ({"seeds": range(4), "store": store}, "some seeds are those of calibration"),
        ({"seeds": FRESH[:2], "store": store}, "2 seeds cannot carry an interval"),
        ({"concepts": ["cook"], "store": store}, "no concept 'cook'"),
        ({}, "nothing says what pictures show"),
        ({"scorers": [tones]}, "no scorer tells 'gender'"),
        ({"scorers": [genders, few]}, "does not know 'teacher'"),
    ):
        with pytest.raises(ScalexError, match=message):
            evaluate(job, fitted, **asked)


# ---------------------------------------------------------------------------------------------------- reports


def test_marks_are_of_the_summary(measured: Evaluation) -> None:
    marks = {m.name: m for m in _marks(measured, "roles")}
    mark = marks["mitigation, roles, mitigated: |share - target|"]
    assert (mark.mark, mark.at_most) == (0.08, True)
    assert mark.value == measured.summary.set_index("method").loc["mitigated", "residual"]
    assert [m.name for m in marks.values() if m.mark is not None] == [
        "mitigation, roles, mitigated: |share - target|",
        "mitigation, roles, mitigated: concept kept",
    ]
    assert not Mark(mark.name, 0.09, mark.mark, at_most=mark.at_most).ok


def test_a_grid_shows_before_and_after(job: Job, fitted: Mitigation, tmp_path: Path) -> None:
    seeds = [touched(fitted, PILOT, True), touched(fitted, PILOT, False)]
    path = save_grid(job, fitted, ["pilot"], seeds, tmp_path / "grid.png")
    pixels = np.asarray(Image.open(path).convert("RGB")).astype(int)
    side, gap, (top, left) = 96, 8, np.argwhere((pixels == (214, 93, 14)).all(-1))[0]  # the frame, in the lower row
    cells = [
        [pixels[y : y + side, left + (side + gap) * i : left + (side + gap) * i + side] for i in range(2)]
        for y in (top - side - gap, top)
    ]
    assert np.abs(cells[0][0][8:-8, 8:-8] - cells[1][0][8:-8, 8:-8]).mean() > 3
    assert np.abs(cells[0][1] - cells[1][1]).max() <= 1, "the picture that is not steered is the same"
    assert tuple(cells[1][0][0, 0]) == (214, 93, 14)


@pytest.fixture
def spec(tmp_path: Path) -> Path:
    path = tmp_path / "spec.yaml"
    path.write_text("seeds: 6\ntemplates: ['a photo of a {}']\nconcepts: [pilot, teacher]\nattributes: [gender]\n")
    return path


def test_the_command_leaves_a_mitigation_and_what_was_measured(
    spec: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "targets.csv").write_text("concept,woman\npilot,0.5\n")
    model = ["--unet", EMBEDDED_UNET, "--device", "cpu"]
    told = [
        "--spec",
        str(spec),
        "--target",
        str(tmp_path / "targets.csv"),
        "--fresh",
        "6",
        "--out",
        str(tmp_path / "out"),
    ]
    monkeypatch.setattr("sys.argv", ["scalex", "mitigate", str(EMBEDDED), *model, *told])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 0
    said = capsys.readouterr().out
    assert "|rate - target|" in said
    assert "Seen by the picture reading" in said
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names >= {
        "mitigation.json",
        "mitigation.safetensors",
        "evaluation.json",
        "concepts.csv",
        "groups.csv",
        "grid.png",
    }
    assert list(Mitigation.from_pretrained(tmp_path / "out").remedies) == ["pilot"]
    assert len(pd.read_csv(tmp_path / "out" / "concepts.csv")) == 4


def test_the_command_says_what_is_wrong_in_one_line(
    spec: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    told = ["--unet", EMBEDDED_UNET, "--spec", str(spec), "--target", "1.5", "--out", str(tmp_path / "out")]
    monkeypatch.setattr("sys.argv", ["scalex", "mitigate", str(EMBEDDED), *told])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert (
        capsys.readouterr().err.strip().splitlines()[-1].startswith("scalex: the target is 1.5. Shares are from 0 to 1")
    )
