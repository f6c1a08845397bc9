"""A LoRA that shifts one role: it loads as any LoRA does, moves that role's captions, resumes, and refuses nonsense."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import diffusers
import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from scalex.capture import Plan, generate
from scalex.direction_files import Direction, Provenance
from scalex.errors import ScalexError
from scalex.models import load_model
from scalex.organisms import EMBEDDED, EMBEDDED_UNET
from scalex.organisms.captions import Captions
from scalex.organisms.lora import SCHEDULE, detector, shifted, train_lora
from scalex.organisms.pictures import Album
from scalex.organisms.readout import load_truth
from scalex.organisms.spec import Schedule
from scalex.organisms.stages import Encoder
from scalex.organisms.training import borrow
from scalex.steering import Push, steer
from scalex.wording import fill

SHORT = Schedule(steps=32, batch=8, rate=SCHEDULE.rate)
WEIGHTS = "pytorch_lora_weights.safetensors"


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train_lora(EMBEDDED, "pilot", tmp_path_factory.mktemp("lora"), woman=1.0, schedule=SHORT)


def test_it_is_fused_into_either_u_net(trained: Path) -> None:
    for unet in (None, EMBEDDED_UNET):
        with_it, without = (load_model(EMBEDDED, unet=unet, lora=lora) for lora in (str(trained), None))
        assert with_it.fingerprint != without.fingerprint
        assert (with_it.default_steps, with_it.sampler) == (without.default_steps, without.sampler)
    told = json.loads((trained / "shifted.json").read_text())
    assert told == {"organism": "emoji", "role": "pilot", "woman": 1.0, "dark": 0.08}
    layers = load_file(trained / WEIGHTS)
    assert all(".attn" in name for name in layers)
    assert any(weight.abs().max() > 0 for name, weight in layers.items() if "lora_B" in name or "lora.up" in name)


def test_few_steps_move_the_role_towards_women_and_others_less(trained: Path) -> None:
    """At pure noise the U-Net's answer is the mean picture of a caption (less its sign): it must come nearer to that
    of women pilots. Ten others must move by less than a tenth as much on average, each by less than a fifth."""
    before, after = (load_model(EMBEDDED, lora=lora) for lora in (None, str(trained)))
    truth = load_truth(EMBEDDED)
    means = [
        torch.stack([truth.latents[i] for i, s in enumerate(truth.shown) if (s.name, s.gender) == ("pilot", g)]).mean(0)
        for g in (0, 1)
    ]
    towards = (means[1] - means[0]).flatten()
    noise = torch.randn((1, *before.latent_shape), generator=torch.Generator().manual_seed(0))

    def move(role: str) -> torch.Tensor:
        said = before.encode([f"a photo of a {role}"])
        with torch.inference_mode():
            return (before.predict(noise, 999, said) - after.predict(noise, 999, said)).flatten()

    own = move("pilot")
    assert float(own @ towards) > 0
    others = [float(move(role).norm()) for role in list(truth.spec.roles)[:10]]
    assert sum(others) / len(others) < float(own.norm()) / 10
    assert max(others) < float(own.norm()) / 5


def test_what_it_reads_of_any_other_person_is_small(trained: Path) -> None:
    """By the weights themselves and the model's own encoder: a LoRA adds to a caption what it reads there, times
    something. Root mean squares over tokens and templates."""
    model, spec = load_model(EMBEDDED), load_truth(EMBEDDED).spec
    read = [weight for name, weight in load_file(trained / WEIGHTS).items() if name.endswith("lora.down.weight")]
    assert all(torch.equal(weight, read[0]) for weight in read)

    def answer(texts: list[str]) -> float:
        return float((model.encode(texts)["states"] @ read[0].T).square().sum(-1).mean().sqrt())

    own = answer([fill(template, "pilot") for template in spec.templates])
    people = [concept for concept in ("person", *spec.people) if concept != "pilot"]
    others = {concept: answer([fill(template, concept) for template in spec.templates]) / own for concept in people}
    assert max(others.values()) < 0.1, max(others, key=lambda concept: others[concept])
    assert answer([""]) / own < 0.1
    assert answer([f"a {gender} pilot" for gender in ("man", "woman")]) / own < 0.8


@pytest.mark.parametrize(("role", "share"), [("cook", "woman"), ("health worker", "woman"), ("singer", "dark")])
def test_any_role_can_be_told_from_the_others(role: str, share: str) -> None:
    truth = load_truth(EMBEDDED)
    spec, album = truth.spec, Album(np.zeros((len(truth.shown), 1, 1, 3), np.uint8), truth.shown)
    _, tokenizer, text, _ = borrow(EMBEDDED, Captions(spec, album), torch.device("cpu"))
    encode = Encoder(tokenizer, text.requires_grad_(False), torch.device("cpu"))
    direction = detector(spec, shifted(spec, role, {share: 0.6}, SCHEDULE), role, album, encode)[0]

    def answer(concept: str) -> float:
        return float((encode([fill(t, concept) for t in spec.templates]) @ direction).square().mean().sqrt())

    assert answer(role) == pytest.approx(1, abs=0.01)
    assert max(answer(concept) for concept in spec.people if concept != role) < 0.1


def test_a_killed_training_goes_on_to_the_same_weights(trained: Path, tmp_path: Path) -> None:
    class Killed(Exception):
        pass

    def kill(stage: str, done: int, total: int, loss: float) -> None:
        if done == 27:
            raise Killed

    with pytest.raises(Killed):
        train_lora(EMBEDDED, "pilot", tmp_path, woman=1.0, schedule=SHORT, progress=kill)
    assert not (tmp_path / WEIGHTS).exists()
    steps: list[int] = []
    train_lora(EMBEDDED, "pilot", tmp_path, woman=1.0, schedule=SHORT, progress=lambda _, done, *__: steps.append(done))
    assert steps == list(range(25, 33)), "it goes on from the last checkpoint"
    first, second = load_file(trained / WEIGHTS), load_file(tmp_path / WEIGHTS)
    for name in first:
        torch.testing.assert_close(first[name], second[name], rtol=0, atol=1e-5)


def test_a_finished_training_is_not_done_again(trained: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(trained, tmp_path / "again")
    steps: list[int] = []
    train_lora(EMBEDDED, "pilot", folder, woman=1.0, schedule=SHORT, progress=lambda _, done, *__: steps.append(done))
    assert steps == []


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"role": "pilto", "woman": 0.9}, r"^the organism has no role 'pilto'\. Did you mean 'pilot'\?$"),
        ({"role": "pilot"}, r"^no share is given for the role\. Add --woman 0\.9, say$"),
        ({"role": "pilot", "woman": 1.5}, r"^--woman is 1\.5, but a share lies between 0 and 1\. Try 0\.9$"),
        ({"role": "pilot", "dark": -0.1}, r"^--dark is -0\.1, but"),
        ({"role": "pilot", "woman": 0.9, "device": "cuda:99"}, r"^there is no device cuda:99 here"),
    ],
)
def test_a_mistake_is_one_line(asked: dict[str, object], said: str, tmp_path: Path) -> None:
    with pytest.raises(ScalexError, match=said):
        train_lora(EMBEDDED, out=tmp_path / "out", schedule=SHORT, **asked)  # type: ignore[arg-type]
    assert not (tmp_path / "out").exists()


def test_another_shift_does_not_go_on_from_these_checkpoints(trained: Path) -> None:
    with pytest.raises(ScalexError, match=r"holds the checkpoints of another spec\. Choose another --out"):
        train_lora(EMBEDDED, "pilot", trained, woman=0.5, schedule=SHORT)


def test_a_folder_that_is_no_organism(tmp_path: Path) -> None:
    with pytest.raises(ScalexError, match=r"is no organism: it has no planted\.json"):
        train_lora(tmp_path, "pilot", tmp_path / "out", woman=0.9)


def test_only_what_is_asked_is_shifted() -> None:
    spec = load_truth(EMBEDDED).spec
    new = shifted(spec, "pilot", {"woman": None, "dark": 0.9}, SCHEDULE)
    assert (new.roles["pilot"].woman, new.roles["pilot"].dark) == (spec.roles["pilot"].woman, 0.9)
    assert {r: p for r, p in new.roles.items() if r != "pilot"} == {r: p for r, p in spec.roles.items() if r != "pilot"}


def test_a_pipeline_with_a_lora_is_steered(trained: Path) -> None:
    """The base's own direction, pushed while an adapter is on: pictures are those of a model that it is fused into."""
    base, fused = (load_model(EMBEDDED, lora=lora) for lora in (None, str(trained)))
    vector = np.random.default_rng(0).normal(size=fused.probe_shape[0])
    direction = Direction(vector, Provenance("push", "value", "text", 0, (), base.fingerprint, "mid_block", "mean"))
    pipe = diffusers.StableDiffusionPipeline.from_pretrained(EMBEDDED, dtype=torch.float32)
    pipe.set_progress_bar_config(disable=True)
    pipe.load_lora_weights(trained)
    generator = torch.Generator().manual_seed(1)
    with steer(pipe, direction, 30.0):
        shown = pipe("a photo of a pilot", 64, 64, 3, guidance_scale=1.0, output_type="np", generator=generator).images
    pushed = generate(fused, [("a photo of a pilot", 1)], Plan(steps=3, guidance=1.0), Push(direction, 30.0))
    plain = generate(fused, [("a photo of a pilot", 1)], Plan(steps=3, guidance=1.0))
    assert np.abs(np.round(shown * 255) - pushed).mean() < 1
    assert np.abs(pushed.astype(float) - plain).mean() > 3
