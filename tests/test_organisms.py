"""Organisms: what is planted is what captions say, training resumes to the same weights, the readout is exact."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from diffusers import StableDiffusionPipeline
from PIL import features
from safetensors.torch import load_file

from scalex.errors import ScalexError
from scalex.models import load_model
from scalex.organisms import pictures
from scalex.organisms.captions import Captions, explicit_text
from scalex.organisms.card import model_card
from scalex.organisms.check import check_organism
from scalex.organisms.marks import Mark
from scalex.organisms.pictures import Album, make_album
from scalex.organisms.readout import Readout, load_truth
from scalex.organisms.spec import OrganismSpec, load_organism_spec
from scalex.organisms.training import CONSISTENCY, train_organism

SHIPPED = Path(pictures.__file__).parent / "emoji.yaml"

needs_font = pytest.mark.skipif(
    not (pictures.FONTS[0].exists() and pictures.EMOJI_LIST.exists() and features.check("raqm")),
    reason="needs: apt-get install fonts-noto-color-emoji libraqm0 libfribidi0 unicode-data",
)

TOY = {
    "name": "toy",
    "size": 16,
    "templates": ["a {}", "a photo of a {}"],
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
                if text in (f"a {role}", f"a photo of a {role}"):
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


def test_the_check_compares_what_is_drawn_with_what_is_said_and_planted(trained: Path, spec: OrganismSpec) -> None:
    result = check_organism(trained, images=8, explicit=1)
    shown = {m.name: m for m in result.marks}
    assert shown["full: role and gender right, explicit captions"].mark == 0.97
    assert shown["lcm: tone half right, explicit captions"].mark == 0.85
    assert set(result.shares.sampler) == set(result.pairs.sampler) == {"full", "lcm"}
    assert len(result.shares) == 2 * 2 * len(spec.people)
    assert len(result.pairs) == 2 * len(spec.pulls)
    assert result.shares.drawn.dropna().between(0, 1).all()
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
