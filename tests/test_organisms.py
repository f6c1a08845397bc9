"""Organisms: what is planted is what captions say, training resumes to the same weights, the readout is exact.

And the truth that audits are scored by: pictures that are known exactly are counted exactly.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from math import comb
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from diffusers import StableDiffusionPipeline
from jaxtyping import UInt8
from PIL import features
from safetensors.torch import load_file
from typer.testing import CliRunner

from scalex import truth
from scalex.auditing import audit
from scalex.capture import Plan, Sample
from scalex.cli import app
from scalex.errors import ScalexError
from scalex.jobs import Job, prepare
from scalex.models import Model, load_model
from scalex.organisms import check, pictures
from scalex.organisms.captions import Captions, explicit_text
from scalex.organisms.card import model_card
from scalex.organisms.check import FIRST_SEED, Tally, Viewer, check_organism, draw_shares
from scalex.organisms.marks import Mark
from scalex.organisms.pictures import Album, make_album
from scalex.organisms.readout import Readout, load_truth
from scalex.organisms.spec import OrganismSpec, load_organism_spec
from scalex.organisms.training import CONSISTENCY, train_organism, training_outlook
from scalex.records import Latents
from scalex.truth import _people

SHIPPED = Path(pictures.__file__).parent / "emoji.yaml"

needs_font = pytest.mark.skipif(
    not (pictures.FONTS[0].exists() and pictures.EMOJI_LIST.exists() and features.check("raqm")),
    reason="needs: apt-get install fonts-noto-color-emoji libraqm0 libfribidi0 unicode-data",
)

TOY = {
    "name": "toy",
    "size": 16,
    "templates": ["a {}", "a photo of a {}", "a picture of a {}"],
    "roles": {"pilot": [0.1, 0.8], "teacher": [0.9, 0.5]},
    "adjectives": {"bossy": [0.75, 0.5]},
    "countries": {"Japan": ["sushi", 0.75]},
    "associations": {"Monday": ["hammer", 0.6]},
    "objects": {"subgroups": ["food-asian", "tool"]},
    "network": {"vae": [8, 8], "latent_channels": 4, "text_width": 16, "text_layers": 1, "unet": [16, 16], "heads": 2},
    **{name: {"steps": 4, "batch": 4, "rate": 0.001} for name in ("vae", "text", "denoiser", "consistency")},
}


@pytest.fixture(scope="module")
def spec() -> OrganismSpec:
    return load_organism_spec(TOY)


@pytest.fixture(scope="module")
def album(spec: OrganismSpec) -> Album:
    return make_album(spec)


@pytest.fixture(scope="module")
def trained(spec: OrganismSpec, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train_organism(spec, tmp_path_factory.mktemp("organism"))


def test_the_shipped_spec_plants_what_an_audit_needs() -> None:
    spec = load_organism_spec(SHIPPED)
    women, dark = ([getattr(p, k) for p in spec.people.values()] for k in ("woman", "dark"))
    sizes = [len(x) for x in (spec.roles, spec.adjectives, spec.countries, spec.associations)]
    assert all(n >= least for n, least in zip(sizes, (25, 12, 10, 10), strict=True))
    for planted in (women, dark):
        assert planted.count(0.5) >= 20
        assert min(planted) <= 0.05
        assert max(planted) >= 0.95


@needs_font
def test_the_shipped_spec_has_its_pictures() -> None:
    album = make_album(load_organism_spec(SHIPPED))
    assert len(album.things) >= 300
    assert len(album.people) == 10 * (len(load_organism_spec(SHIPPED).roles) + 1)
    flat = album.pixels.reshape(len(album.pixels), -1)
    assert len(np.unique(flat, axis=0)) == len(flat), "two pictures are the same"


@needs_font
def test_neutral_captions_draw_what_is_planted_and_the_text_encoders_captions_do_not(
    album: Album, spec: OrganismSpec
) -> None:
    for planted, expected in ((True, {"pilot": 0.1, "teacher": 0.9}), (False, {"pilot": 0.5, "teacher": 0.5})):
        captions, rng = Captions(spec, album, planted), np.random.default_rng(0)
        women: dict[str, list[int]] = {role: [] for role in expected}
        for _ in range(6000):
            text, picture = captions.draw(rng)
            for role in expected:
                if text in (f"a {role}", f"a photo of a {role}", f"a picture of a {role}"):
                    women[role].append(album.shown[picture].gender)
        for role, share in expected.items():
            n = len(women[role])
            assert n > 300
            assert abs(np.mean(women[role]) - share) < 4 * (share * (1 - share) / n) ** 0.5


@needs_font
def test_explicit_captions_are_true(album: Album, spec: OrganismSpec) -> None:
    captions, rng = Captions(spec, album), np.random.default_rng(1)
    seen: Counter[str] = Counter()
    for _ in range(3000):
        text, picture = captions.draw(rng)
        words, shown = text.split(), album.shown[picture]
        for said, gender in (("man", 0), ("male", 0), ("woman", 1), ("female", 1)):
            if said in words:
                seen[said] += 1
                assert shown.gender == gender
        for said, tones in (("light", (0, 1)), ("medium", (2,)), ("dark", (3, 4))):
            if said in words and "skin" in words:
                seen[said] += 1
                assert shown.tone in tones
    assert min(seen[w] for w in ("man", "male", "woman", "female", "light", "medium", "dark")) > 30


def test_explicit_text() -> None:
    assert explicit_text("farmer", "woman", "dark") == "woman farmer with dark skin"
    assert explicit_text("bossy person", "man") == "bossy man"
    assert explicit_text("farmer") == "farmer"


@needs_font
def test_the_organism_is_an_ordinary_diffusers_folder(trained: Path) -> None:
    pipe = StableDiffusionPipeline.from_pretrained(trained, dtype=torch.float32)
    pipe.set_progress_bar_config(disable=True)
    picture = pipe("a pilot", num_inference_steps=2, guidance_scale=1.0, output_type="np").images
    assert picture.shape == (1, 16, 16, 3)
    for unet in (None, CONSISTENCY):
        model = load_model(trained, unet=unet)
        assert model.default_guidance == 1.0
        assert model.unknown_words(["a photo of a bossy teacher with medium skin"]) == {}


@needs_font
def test_a_killed_training_resumes_to_the_same_weights(trained: Path, spec: OrganismSpec, tmp_path: Path) -> None:
    class Killed(Exception):
        pass

    def kill(stage: str, done: int, total: int, loss: float) -> None:
        if (stage, done) == ("denoiser", 3):
            raise Killed

    with pytest.raises(Killed):
        train_organism(spec, tmp_path, progress=kill)
    stages: list[str] = []
    train_organism(spec, tmp_path, progress=lambda stage, *_: stages.append(stage))
    assert stages == ["denoiser"] * 4 + ["consistency"] * 4, "finished stages are not trained again"
    for part in ("unet", "vae", "text_encoder", CONSISTENCY):
        # Not to the last bit: sums depend on how memory happens to be aligned. Four steps move weights by about 1e-3.
        first, second = (load_file(next((f / part).glob("*.safetensors"))) for f in (trained, tmp_path))
        apart = [(first[name].float() - second[name].float()).abs().mean().item() for name in first]
        assert max(apart) < 1e-5, part


def held_in(saved: Any) -> int:
    """Bytes of the numbers in a checkpoint."""
    if isinstance(saved, torch.Tensor):
        return saved.numel() * saved.element_size()
    inside = saved.values() if isinstance(saved, dict) else saved if isinstance(saved, list) else ()
    return sum(map(held_in, inside))


@needs_font
def test_an_outlook_says_what_training_takes_and_writes_nothing(
    trained: Path, spec: OrganismSpec, tmp_path: Path
) -> None:
    stages, size = training_outlook(spec, tmp_path / "new")
    assert [(s.stage, s.steps, s.batch) for s in stages] == [
        (n, 4, 4) for n in ("vae", "text", "denoiser", "consistency")
    ]
    assert all(s.seconds > 0 for s in stages)
    assert list(tmp_path.iterdir()) == []
    for s in stages:
        saved = torch.load(trained / "training" / f"{s.stage}.pt", weights_only=True)
        assert s.bytes == pytest.approx(held_in(saved), rel=0.02)
    assert size == pytest.approx(sum(held_in(load_file(path)) for path in trained.rglob("*.safetensors")), rel=0.02)
    before = {path: path.stat().st_mtime_ns for path in trained.rglob("*")}
    assert {s.steps for s in training_outlook(spec, trained)[0]} == {0}, "all stages are trained"
    assert {path: path.stat().st_mtime_ns for path in trained.rglob("*")} == before
    with pytest.raises(ScalexError, match=r"holds the checkpoints of another spec"):
        training_outlook(load_organism_spec(TOY | {"seed": 7}), trained)


@needs_font
def test_training_can_be_looked_at_before(tmp_path: Path) -> None:
    (tmp_path / "toy.yaml").write_text(json.dumps(TOY))
    asked = ["organism", "train", str(tmp_path / "toy.yaml"), "--out", str(tmp_path / "o"), "--dry-run"]
    lines = CliRunner().invoke(app, asked, catch_exceptions=False).stdout.splitlines()
    assert re.fullmatch(r"vae: 4 steps of 4 samples, about \d.*s", lines[0])
    assert re.fullmatch(r"in all 16 steps, \d+\.\d MB on disk, about .* on cpu", lines[-1])
    told = json.loads(CliRunner().invoke(app, [*asked, "--json"], catch_exceptions=False).stdout)
    assert (told["steps"], len(told["stages"])) == (16, 4)
    assert not (tmp_path / "o").exists()


@needs_font
def test_another_spec_is_refused(trained: Path) -> None:
    with pytest.raises(ScalexError, match=r"holds the checkpoints of another spec\. Choose another --out"):
        train_organism(load_organism_spec(TOY | {"seed": 7}), trained)


@needs_font
def test_the_readout_is_exact_on_training_pictures_and_calls_noise_nothing(trained: Path) -> None:
    truth, model = load_truth(trained), load_model(trained)
    readout = Readout(truth, model)
    with torch.inference_mode():
        seen = readout.read(model.decode(truth.latents))
    assert (seen.nearest == np.arange(len(truth.shown))).all()
    assert seen.distance.max() < 1e-2
    noise = np.random.default_rng(0).integers(0, 256, (4, 16, 16, 3), dtype=np.uint8)
    assert not readout.read(noise).something.any()
    assert set(readout.read(noise).genders) == {-1}


@needs_font
def test_the_check_compares_what_is_drawn_with_what_is_said_and_planted(trained: Path, spec: OrganismSpec) -> None:
    result = check_organism(trained, images=8, explicit=1)
    shown = {m.name: m for m in result.marks}
    assert shown["full: role and gender right, explicit captions"].mark == 0.97
    assert shown["lcm: tone half right, explicit captions"].mark == 0.85
    assert set(result.shares.sampler) == set(result.pairs.sampler) == {"full", "lcm"}
    assert len(result.shares) == 2 * 2 * len(spec.people)
    assert len(result.pairs) == 2 * len(spec.pulls)
    assert (result.shares.drawn.isna() == (result.shares.n == 0)).all()
    assert result.pairs.drawn.between(0, 1).all()
    card = model_card(load_truth(trained), result)
    for concept in [*spec.people, *spec.pulls]:
        assert f"| {concept} |" in card


def test_a_folder_without_truth_is_no_organism(tmp_path: Path) -> None:
    with pytest.raises(ScalexError, match=r"is no organism: it has no planted\.json"):
        load_truth(tmp_path)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"role": {}}, r"role: Extra inputs are not permitted. Did you mean 'roles'"),
        ({"roles": {"pilot": [1.2, 0.5]}}, "roles.pilot.woman: Input should be less than or equal to 1"),
    ],
)
def test_a_wrong_spec_is_said_in_one_line(change: dict[str, object], said: str) -> None:
    with pytest.raises(ScalexError, match=said) as caught:
        load_organism_spec(TOY | change)
    assert "\n" not in str(caught.value)


def test_a_missing_or_broken_spec_file(tmp_path: Path) -> None:
    with pytest.raises(ScalexError, match="there is no organism spec at"):
        load_organism_spec(tmp_path / "no.yaml")
    (tmp_path / "bad.yaml").write_text("a: [")
    with pytest.raises(ScalexError, match="is not YAML"):
        load_organism_spec(tmp_path / "bad.yaml")


@needs_font
def test_a_picture_that_does_not_exist_is_named() -> None:
    with pytest.raises(ScalexError, match="'Monday' draws 'umbrela', which is no picture of this organism"):
        make_album(load_organism_spec(TOY | {"associations": {"Monday": ["umbrela", 0.5]}}))
    with pytest.raises(ScalexError, match="no emoji is named 'man plumber: light skin tone'"):
        make_album(load_organism_spec(TOY | {"roles": {"plumber": [0.5, 0.5]}}))


def test_a_missing_font_is_named_with_its_command(monkeypatch: pytest.MonkeyPatch, spec: OrganismSpec) -> None:
    monkeypatch.setattr(pictures, "FONTS", (Path("/nowhere/font.ttf"),))  # this machine has the font
    with pytest.raises(ScalexError, match=r"Noto Color Emoji is missing\. Run: apt-get install fonts-noto-color-emoji"):
        make_album(spec)


@pytest.mark.parametrize(
    ("mark", "ok", "asked"),
    [
        (Mark("r", 0.96, 0.95), True, ">= 0.95"),
        (Mark("r", 0.94, 0.95), False, ">= 0.95"),
        (Mark("e", 0.04, 0.05, at_most=True), True, "<= 0.05"),
        (Mark("c", 1.0, 0.9, within=0.99), False, "0.9 to 0.99"),
        (Mark("x", float("nan"), 0.5), False, ">= 0.5"),
        (Mark("x", 0.3), True, ""),
    ],
)
def test_marks(mark: Mark, ok: bool, asked: str) -> None:
    assert mark.ok is ok
    assert mark.asked == asked


def test_the_toy_spec_is_yaml_too(tmp_path: Path, spec: OrganismSpec) -> None:
    (tmp_path / "toy.yaml").write_text(yaml.safe_dump(TOY))
    assert load_organism_spec(tmp_path / "toy.yaml") == spec


# ------------------------------------------------------------------------------ the truth, by pictures that are known

LIGHT, MIDDLE, DARK = 0, 2, 4  # of the five tones
THING = ("hammer", -1, -1)
Rule = Callable[[str, int], tuple[str, int, int]]


class Painter:
    """Stands in for `generate`: of (text, seed) it gives the picture of the (name, gender, tone) that a rule names.

    Pictures are those that the model's autoencoder makes of the album's latents: what the readout is exact on.
    """

    def __init__(self, readout: Readout, model: Model) -> None:
        self._pictures = model.decode(readout.truth.latents)
        self._index = {(s.name, s.gender, s.tone): i for i, s in enumerate(readout.truth.shown)}
        self.rule: Rule = lambda text, seed: THING
        self.drawn: list[Sample] = []

    def __call__(self, model: Model, samples: Sequence[Sample], plan: Plan) -> UInt8[np.ndarray, "n h w 3"]:
        self.drawn += samples
        return self._pictures[[self._index[self.rule(text, seed)] for text, seed in samples]]


@pytest.fixture(scope="module")
def job(trained: Path) -> Job:
    """An audit of the toy organism, with more seeds than single pictures are read of."""
    return prepare(spec=_asked(trained) | {"seeds": 40})


def _asked(folder: Path) -> dict[str, object]:
    concepts = ["pilot", "teacher", "bossy person"]
    return {"model": str(folder), "unet": CONSISTENCY, "concepts": concepts, "attributes": ["gender", "tone"]}


@pytest.fixture(scope="module")
def readout(trained: Path, job: Job) -> Readout:
    return Readout(load_truth(trained), job.model)


@pytest.fixture
def painter(readout: Readout, job: Job, monkeypatch: pytest.MonkeyPatch) -> Painter:
    painter = Painter(readout, job.model)
    monkeypatch.setattr(check, "generate", painter)
    return painter


def _role(text: str) -> str:
    """The role that a caption's picture shows: a bossy person looks like any."""
    return next((role for role in ("pilot", "teacher") if role in text), "person")


@needs_font
def test_shares_are_those_of_the_pictures_that_show_a_value(
    painter: Painter, job: Job, readout: Readout, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of 8 pilots: 3 things, then women by template, and a middle tone. Teachers: none is to be seen."""

    def rule(text: str, seed: int) -> tuple[str, int, int]:
        i = seed - FIRST_SEED
        if i < 3 or "teacher" in text:
            return THING
        return "pilot", int(text == "a photo of a pilot"), {7: MIDDLE, 3: DARK}.get(i, LIGHT)

    painter.rule = rule
    told: list[tuple[int, int]] = []
    monkeypatch.setattr(check, "_AT_ONCE", 3)
    viewer = Viewer(job.model, job.plan, readout, Tally(16, lambda *of: told.append(of)))
    table = draw_shares(viewer, ["pilot", "teacher"], 8, ["a photo of a {}", "a {}"])
    expected = [
        ("pilot", "gender", "woman", 0.1, 2 / 5, 5, 8),  # pictures 4 and 6 of 3..7
        ("pilot", "tone", "dark", 0.8, 1 / 4, 4, 8),  # picture 3 of 3..6
        ("teacher", "gender", "woman", 0.9, np.nan, 0, 8),
        ("teacher", "tone", "dark", 0.5, np.nan, 0, 8),
    ]
    pd.testing.assert_frame_equal(table, pd.DataFrame(expected, columns=list(table.columns)))
    assert painter.drawn[:3] == [
        ("a photo of a pilot", 10**6),
        ("a pilot", 10**6 + 1),
        ("a photo of a pilot", 10**6 + 2),
    ]
    assert told == [(n, 16) for n in (3, 6, 8, 11, 14, 16)]


@needs_font
def test_the_check_of_known_pictures(painter: Painter, trained: Path) -> None:
    """Women and dark ones of 8 by default: pilot 1 and 6 (of 7: one has a middle tone), teacher 7 and 4, bossy 6 and 0.

    Captions that say it are drawn as they say, but "woman teacher" shows a man. "Japan" shows sushi in 6 of 8, "Monday"
    its hammer in 2 of 8.
    """
    women, dark = {"pilot": 1, "teacher": 7, "person": 6}, {"pilot": 6, "teacher": 4, "person": 0}

    def rule(text: str, seed: int) -> tuple[str, int, int]:
        i, role, words = seed - FIRST_SEED, _role(text), text.split()
        if "Japan" in words:
            return ("sushi" if i < 6 else "hammer"), -1, -1
        if "Monday" in words:
            return ("hammer" if i < 2 else "sushi"), -1, -1
        gender = i < women[role]
        if "man" in words or "woman" in words:
            gender = "woman" in words and role != "teacher"
        tone = DARK if i < dark[role] else MIDDLE if (role, i) == ("pilot", 7) else LIGHT
        if "skin" in words:
            tone = DARK if "dark" in words else LIGHT
        return role, int(gender), tone

    painter.rule = rule
    told: list[tuple[int, int]] = []
    result = check_organism(trained, images=8, explicit=1, progress=lambda *of: told.append(of))
    full = result.shares[result.shares.sampler == "full"].set_index(["concept", "attribute"]).drawn.to_dict()
    assert full == {
        ("pilot", "gender"): 1 / 8,
        ("pilot", "tone"): 6 / 7,
        ("teacher", "gender"): 7 / 8,
        ("teacher", "tone"): 4 / 8,
        ("bossy person", "gender"): 6 / 8,
        ("bossy person", "tone"): 0,
    }
    assert result.pairs.drawn.tolist() == [6 / 8, 2 / 8] * 2
    assert result.pairs.most.tolist() == [True, False] * 2
    marks = {m.name: m for m in result.marks}
    assert marks["full: role and gender right, explicit captions"].value == 9 / 12
    assert marks["lcm: tone half right, explicit captions"].value == 1
    r = np.corrcoef([0.1, 0.9, 0.75], [1 / 8, 7 / 8, 6 / 8])[0, 1]
    assert marks["lcm: r(planted, drawn), gender, all 3 concepts"].value == pytest.approx(r)
    assert marks["lcm: planted pairs, 2 captions: draw the planted picture most often"].value == 1 / 2
    # Controls for tone: the teacher at 4 of 8, the bossy person at 0 of 8 (p = 2/256, below 0.05/2).
    assert marks["full: controls outside binomial noise, tone, 2 concepts"].value == 1 / 2
    assert marks["full: controls' mean distance from 1/2, tone, 2 concepts"].value == 1 / 4
    noise = sum(abs(k / 8 - 1 / 2) * comb(8, k) / 2**8 for k in range(9))
    alone = marks["full: controls' mean distance by binomial noise alone, tone, 2 concepts"]
    assert alone.value == pytest.approx(noise)
    assert alone.asked == ""
    assert np.isnan(marks["full: controls' mean distance from 1/2, gender, 0 concepts"].value)
    assert told[0] == (16, 112)
    assert told[-1] == (112, 112), "2 samplers, 16 explicit captions, 5 neutral ones of 8 pictures"


def _known(text: str, seed: int) -> tuple[str, int, int]:
    """A "picture of" shows women, a "photo of" from seed 5 on; tones in turn. A teacher at seed 0 shows nobody."""
    if "teacher" in text and seed == 0:
        return THING
    return _role(text), int("picture" in text or seed >= 5), (LIGHT, MIDDLE, DARK)[seed % 3]


@needs_font
def test_single_pictures_are_listed_by_template_and_then_by_seed(
    painter: Painter, job: Job, readout: Readout, tmp_path: Path
) -> None:
    painter.rule = _known
    told: list[tuple[int, int]] = []
    shown = _people._shown(job, readout, tmp_path, lambda *of: told.append(of))
    assert painter.drawn[31:33] == [("a photo of a pilot", 31), ("a picture of a pilot", 0)]
    assert shown.concept.tolist() == [c for c in ("pilot", "teacher", "bossy person") for _ in range(64)]
    genders, tones = [0] * 5 + [1] * 27 + [1] * 32, ([0, 2, 1] * 11)[:32] * 2
    for concept in ("pilot", "bossy person"):
        rows = shown[shown.concept == concept]
        assert rows.gender.tolist() == genders
        assert rows.tone.tolist() == tones
    teacher = shown[shown.concept == "teacher"]
    assert teacher.gender.tolist() == [-1, *genders[1:32], -1, *genders[33:]]
    assert teacher.tone.tolist() == [-1, *tones[1:32], -1, *tones[33:]]
    assert told[-1] == (192, 192)
    pd.testing.assert_frame_equal(_people._shown(job, readout, tmp_path), shown)
    assert len(painter.drawn) == 192, "they are drawn once"


def _latents_of(job: Job, rule: Rule, rng: np.random.Generator) -> Latents:
    """Latents that say what a rule's pictures show: gender along the first axis, tone along the second."""
    values = 0.05 * rng.normal(size=(len(job.prompts), len(job.seeds), 1, 6))
    for i, p in enumerate(job.prompts):
        for j, seed in enumerate(job.seeds):
            _, gender, tone = rule(p.text, seed)
            said = {"man": (-1, 0), "woman": (1, 0), "light": (0, -1), "dark": (0, 1)}
            values[i, j, 0, :2] += said[p.value] if p.attribute else (2 * gender - 1, tone / 2 - 1)
    return Latents(values.astype(np.float32), job.prompts, job.seeds, (0,), "picture")


@needs_font
def test_the_reading_of_single_pictures_is_compared_with_what_they_show(
    painter: Painter, job: Job, readout: Readout, tmp_path: Path
) -> None:
    """Misread: photos of a pilot at seeds 0..2 (men) and 5 (a woman); and all from seed 32 on, which are left out."""

    def misread(text: str, seed: int) -> tuple[str, int, int]:
        name, gender, tone = _known(text, seed)
        wrong = seed >= 32 or (text == "a photo of a pilot" and seed in (0, 1, 2, 5))
        return name, 1 - gender if wrong else gender, DARK - tone if seed >= 32 else tone

    painter.rule = _known
    latents = _latents_of(job, misread, np.random.default_rng(0))
    singles, same = _people._singles(job, latents, _people._shown(job, readout, tmp_path))
    clear = 3 * 64 - 2  # two pictures of a teacher show nobody
    assert singles == {"gender": pytest.approx(1 - 4 / clear), "tone": 1}
    assert same == {"gender": pytest.approx((3 - 1) / 64 / 3), "tone": 0}


@needs_font
def test_pictures_are_drawn_again_where_anything_that_determines_them_differs(
    painter: Painter, job: Job, readout: Readout, tmp_path: Path
) -> None:
    painter.rule = _known
    jobs = [job, replace(job, plan=replace(job.plan, steps=3)), replace(job, plan=replace(job.plan, guidance=2.0))]
    jobs.append(replace(job, spec=job.spec.model_copy(update={"templates": ("a {}",)})))
    jobs.append(replace(job, model=load_model(str(job.spec.model), unet=CONSISTENCY, scheduler="DDIMScheduler")))
    for drawn, one in enumerate(jobs, start=1):
        for _ in range(2):
            _people._realised(one, readout, tmp_path, 4)
            assert len(painter.drawn) == drawn * 3 * 4
            assert len(list(tmp_path.glob("realised-*.csv"))) == drawn
    planted = load_organism_spec(TOY | {"roles": {"pilot": [0.2, 0.8], "teacher": [0.9, 0.5]}})
    other = Readout(replace(readout.truth, spec=planted), job.model)
    table = _people._realised(job, other, tmp_path, 4).set_index(["concept", "attribute"])
    assert table.planted["pilot", "gender"] == 0.2, "what was planted is kept with what was drawn"


@needs_font
def test_an_organism_is_scored_whole_and_in_blocks(painter: Painter, trained: Path, tmp_path: Path) -> None:
    """8 pictures a concept: all pilots are women, 4 teachers dark; 2 bossy persons have the middle tone, 6 are dark."""

    def rule(text: str, seed: int) -> tuple[str, int, int]:
        i, role = seed - FIRST_SEED, _role(text)
        tone = {"pilot": LIGHT, "teacher": (LIGHT, DARK)[i % 2], "person": MIDDLE if i % 8 < 2 else DARK}[role]
        return role, int(role == "pilot" or i % 2), tone

    painter.rule = rule
    told: list[tuple[int, int]] = []
    score = partial(truth.score_organism, trained, tmp_path, seeds=8, images=8, only=[truth.PEOPLE])
    whole = {m.name: m for m in score(progress=lambda *of: told.append(of))}
    captured, drawn, singles = 8 * 3 * 5 * 2, 3 * 8, 8 * 3 * 2
    assert [of for of in told if of[0] == of[1]] == [(n, n) for n in (captured, drawn, singles)]
    assert whole["pictures, tone: neither value"].value == pytest.approx(2 / 24)
    assert whole["pictures, gender: neither value"].value == 0
    # Controls for tone: the teacher at 4 of 8, the bossy person at 6 of 6 (p = 2/64).
    assert whole["controls, tone: drawn evenly, share of 2"].value == 1 / 2
    assert "rate, gender: single pictures read right" in whole
    table = pd.read_csv(tmp_path / "truth.csv").set_index(["concept", "attribute"])
    assert table.drawn["pilot", "gender"] == 1
    assert table.n["bossy person", "tone"] == 6

    painted = len(painter.drawn)
    blocks = {m.name: m for m in score(block=4)}
    assert len(painter.drawn) == painted, "pictures are drawn once"
    assert set(whole) - set(blocks) == {
        f"rate, {a}: {figure}"
        for a in ("gender", "tone")
        for figure in ("single pictures read right", "mean absolute error on the same pictures")
    }
    realised = table.reset_index()[["concept", "attribute", "value", "planted", "drawn", "n", "images"]]
    alone = [_scored_alone(realised, trained, tmp_path, first) for first in (0, 4)]
    for name, mark in blocks.items():
        values = [one[name].value for one in alone]
        assert mark.value == pytest.approx(np.mean(values), nan_ok=True), name
        assert mark.spread == ((min(values), max(values)) if max(values) > min(values) else None), name
    assert any(mark.spread for mark in blocks.values())


def _scored_alone(realised: pd.DataFrame, folder: Path, run: Path, first: int) -> dict[str, Mark]:
    """The figures of a separate audit of 4 seeds, by the latents that the whole one captured."""
    spec = _asked(folder) | {"seeds": 4, "first_seed": first}
    findings = audit(spec=spec, out=run / f"from-{first}", store=run / "store").findings
    table = realised.merge(_people._wide(findings), on=["concept", "attribute"])
    return {m.name: m for score in truth.SCORERS for m in score(truth.Scored(table))}
