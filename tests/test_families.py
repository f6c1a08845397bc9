"""One contract for every family of models, on tiny random pipelines of diffusers' real classes."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch

from scalex.capture import CaptureStats, Plan, Probe, capture, generate, start_noise
from scalex.direction_files import Direction, Provenance
from scalex.errors import ScalexError
from scalex.models import Condition, Model, around, families, load_model, mixture
from scalex.records import Reading
from scalex.steering import Push, steer
from scalex.trajectory import Walk
from tiny import tiny_pipeline
from tiny_families import FAMILIES, save_family

TEXT = "a photo of a nurse"
SAMPLES = [(text, seed) for text in (TEXT, "a man pilot") for seed in (0, 1, 5)]
SIZES = {"SanaPipeline": 32}  # pixels that a pipeline takes; 16 the others
NAMES = ["stable-diffusion", *FAMILIES]
# What a pipeline is called with beside the text, so that it draws the text as it is, at the tiny size.
CALLS: dict[str, dict[str, Any]] = {
    "pixart": {"use_resolution_binning": False, "clean_caption": False},
    "sana": {"use_resolution_binning": False, "clean_caption": False, "complex_human_instruction": None},
}

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # of schedulers

Found = dict[Reading, dict[tuple[str, int], np.ndarray]]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The pipeline of a family, saved once."""
    made: dict[str, Path] = {}

    def folder(name: str) -> Path:
        if name not in made:
            where = tmp_path_factory.mktemp(name)
            made[name] = tiny_pipeline(where) if name == NAMES[0] else save_family(name, where)
        return made[name]

    return folder


@pytest.fixture(params=NAMES)
def family(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def folder(family: str, folders: Callable[[str], Path]) -> Path:
    return folders(family)


def load(folder: Path, **options: Any) -> Model:
    size = SIZES.get(json.loads((folder / "model_index.json").read_text())["_class_name"], 16)
    return load_model(folder, device="cpu", size=size, **options)


def pipeline(folder: Path, **parts: None) -> Any:
    pipe = diffusers.DiffusionPipeline.from_pretrained(folder, **parts)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def called(pipe: Any, family: str, text: str, seed: int, guidance: float, output: str, steps: int = 3) -> Any:
    """What a whole pipeline call gives."""
    size = SIZES.get(type(pipe).__name__, 16)
    own = CALLS.get(family, {}) | {"height": size, "width": size, "num_inference_steps": steps}
    generator = torch.Generator().manual_seed(seed)
    return pipe(text, guidance_scale=guidance, output_type=output, generator=generator, **own).images


def plain_hook(pipe: Any, model: Model) -> list[torch.Tensor]:
    """All that a plain hook at the probe sees, as maps."""
    seen: list[torch.Tensor] = []
    denoiser = pipe.unet if hasattr(pipe, "unet") else pipe.transformer
    module = denoiser.get_submodule(model.probe)
    module.register_forward_hook(lambda module, inputs, output: seen.append(model.read_probe(output)))
    return seen


def collect(model: Model, samples: Sequence[tuple[str, int]], plan: Plan) -> tuple[Found, CaptureStats]:
    found: Found = {}

    def sink(reading: Reading, batch: list[tuple[str, int]], values: np.ndarray) -> None:
        found.setdefault(reading, {}).update(zip(batch, values, strict=True))

    return found, capture(model, samples, plan, sink)


def test_every_family_is_under_this_contract() -> None:
    assert set(families()) == set(NAMES)


@pytest.mark.parametrize("guidance", [1.0, 3.0])
def test_the_text_reading_is_that_of_a_whole_pipeline_call(family: str, folder: Path, guidance: float) -> None:
    model, pipe = load(folder), pipeline(folder)
    seen = plain_hook(pipe, model)
    called(pipe, family, TEXT, 5, guidance, "latent")
    expected = np.stack([value[-1].numpy().ravel() for value in seen])  # the half with the prompt comes second
    plan = Plan(readings=("text",), steps=3, guidance=guidance, keep="all", pooling="full")
    found, _ = collect(model, SAMPLES, plan)
    np.testing.assert_allclose(found["text"][TEXT, 5], expected, rtol=1e-4, atol=1e-5)


def test_pictures_are_those_of_the_pipeline_for_the_same_seed(family: str, folder: Path) -> None:
    model = load(folder)
    expected = called(pipeline(folder), family, TEXT, 1, 3.0, "np")[0]
    [picture] = generate(model, [(TEXT, 1)], Plan(steps=3, guidance=3.0))
    assert np.abs(picture.astype(float) - np.round(expected * 255)).max() <= 1


def test_the_picture_reading_is_that_of_plain_formulas(folder: Path) -> None:
    """With one step the clean latent is x0 of the first forward, whatever the sampler."""
    model, level = load(folder), 150
    plan = Plan(readings=("picture",), steps=1, guidance=1.0, level=level, pooling="full")
    found, stats = collect(model, [(TEXT, 2)], plan)
    scheduler = model.timed_scheduler(1)
    at = scheduler.timesteps[0]
    start = start_noise(2, (1, *model.latent_shape)) * getattr(scheduler, "init_noise_sigma", 1.0)
    seen = model_input = start
    if hasattr(scheduler, "scale_model_input"):
        model_input = scheduler.scale_model_input(start, at)
    with torch.no_grad():
        output = model.predict(model_input, at, model.encode([TEXT]), 1.0).float()
    clean = x0(scheduler, seen, model_input, output, at)
    signal, share = mixture(scheduler, level)
    noisy = signal * clean + share * start_noise(2, model.latent_shape, stream=1)
    with Probe(model) as probe, torch.no_grad():
        expected = probe.stop(lambda: model.predict(noisy, level, model.empty(), 1.0))
    np.testing.assert_allclose(found["picture"][TEXT, 2][0], expected.numpy().ravel(), rtol=1e-4, atol=1e-5)
    assert (stats.full, stats.stopped) == (1, 1)


def x0(scheduler: Any, latent: torch.Tensor, seen: torch.Tensor, output: torch.Tensor, at: Any) -> torch.Tensor:
    """The clean latent by the formulas of the papers."""
    if isinstance(scheduler, diffusers.EulerDiscreteScheduler):  # x = x0 + sigma * noise
        return latent - scheduler.sigmas[0] * output
    if hasattr(scheduler, "alphas_cumprod") and scheduler.config.prediction_type == "epsilon":
        kept = scheduler.alphas_cumprod[int(at)]
        return (seen - (1 - kept).sqrt() * output) / kept.sqrt()
    return seen - float(at) / 1000 * output  # flow matching


def test_a_forward_stops_at_the_probe(folder: Path) -> None:
    """No later block runs at the last step, nor anything else that comes after the probe."""
    model = load(folder)
    later = model.probes()[model.probes().index(model.probe) + 1 :]
    denoiser = model._denoiser  # type: ignore[attr-defined]
    ran: list[str] = []
    for name in (*later, *(name for name in ("conv_out", "proj_out", "norm_out") if hasattr(denoiser, name))):
        denoiser.get_submodule(name).register_forward_pre_hook(lambda module, inputs, name=name: ran.append(name))
    assert later
    _, stats = collect(model, SAMPLES[:2], Plan(readings=("text",), steps=3, guidance=1.0))
    assert (stats.full, stats.stopped, ran) == (0, 2, [])
    collect(model, SAMPLES[:1], Plan(readings=("picture",), steps=1, guidance=1.0))
    assert set(later) <= set(ran)


def test_neither_batch_nor_order_changes_a_latent(folder: Path) -> None:
    model = load(folder)
    plan = {"steps": 2, "guidance": 2.0, "pooling": "full"}
    whole, _ = collect(model, SAMPLES, Plan(batch=6, **plan))
    for reading, found in collect(model, SAMPLES[::-1], Plan(batch=1, **plan))[0].items():
        for sample, latent in found.items():
            np.testing.assert_allclose(whole[reading][sample], latent, rtol=1e-5, atol=1e-5)


def test_steering_off_changes_nothing_and_on_it_does(folder: Path) -> None:
    model = load(folder)
    condition, noisy = model.encode([TEXT]), start_noise(0, (1, *model.latent_shape))
    push, found = start_noise(1, model.probe_shape), {}
    for name, edit in (("off", None), ("nothing", lambda value, _: value), ("on", lambda value, _: value + push)):
        with Probe(model, edit) as probe, torch.no_grad():
            found[name], _ = probe.read(lambda: model.predict(noisy, 500, condition, 1.0), at=0)
    torch.testing.assert_close(found["nothing"], found["off"], rtol=0, atol=0)
    assert (found["on"] - found["off"]).abs().max() > 1e-3


def test_every_block_may_be_the_probe(folder: Path) -> None:
    names = load(folder).probes()
    assert len(set(names)) == len(names) >= 3
    recipes, reached = set(), []
    for name in names:
        model = load(folder, probe=name)
        plan = Plan(readings=("text",), steps=2, guidance=1.0, pooling="full")
        found, _ = collect(model, SAMPLES[:1], plan)
        assert found["text"][SAMPLES[0]].shape == (1, int(np.prod(model.probe_shape)))
        recipes.add(plan.recipes(model)["text"])
        reached.append(model.flops()["stopped"])
    assert len(recipes) == len(names)
    assert reached == sorted(reached)
    with pytest.raises(ScalexError, match=r"has no probe 'middle'\."):
        load(folder, probe="middle")


def test_a_model_at_another_probe_is_one_that_was_loaded_there(folder: Path) -> None:
    model, plan = load(folder), Plan(readings=("text",), steps=2, guidance=1.0, pooling="full")
    probe = next(name for name in model.probes() if name != model.probe)
    own, flops = model.probe, model.flops()["stopped"]
    moved, loaded = model.at(probe), load(folder, probe=probe)
    assert (moved.probe, moved.probe_shape, moved.source) == (probe, loaded.probe_shape, loaded.source)
    assert moved.flops() == loaded.flops()
    found, expected = (collect(one, SAMPLES, plan)[0]["text"] for one in (moved, loaded))
    for sample, value in expected.items():
        np.testing.assert_array_equal(found[sample], value)
    assert (model.probe, model.flops()["stopped"]) == (own, flops)
    assert next(moved.denoiser().parameters()) is next(model.denoiser().parameters())
    with pytest.raises(ScalexError, match="has no probe 'nowhere'"):
        model.at("nowhere")


@pytest.mark.parametrize("guidance", [1.0, 3.0])
def test_nothing_of_a_walk_stays_behind_on_the_cpu(folder: Path, guidance: float) -> None:
    """As on a GPU, with a device that every machine has: tensors without content, which mix with those of the CPU as
    little as those of a GPU do. Steering and exchanged values are of the walk."""
    model, samples = load(folder), SAMPLES[:2]
    twin, _ = model._on_paper()  # type: ignore[attr-defined]  # its denoiser lies on that device
    texts = (model.encode([text for text, _ in samples]), model.empty())
    condition, empty = (Condition({k: v.to("meta") for k, v in of.parts.items()}) for of in texts)
    vector = np.ones(model.probe_shape[0], np.float32)
    push = Push(Direction(vector, Provenance("", "own", "text", 0, pooling="mean")), [1.0, -0.5])
    plan = Plan(steps=3, guidance=guidance)
    steps = plan.resolve(model)
    with Probe(twin, push(samples)) as probe, torch.inference_mode():
        walk = Walk(twin, probe, steps, [seed for _, seed in samples], condition, empty)
        value, clean = walk.advance()
        stopped, seen = walk.stop(), walk.look(clean)
        walk.advance()
    pooled = [replace(plan, pooling=pooling).pool(twin)(stopped) for pooling in ("mean", "grid:1", "full")]
    assert {str(x.device) for x in (value, clean, stopped, seen, walk.latents, *pooled)} == {"meta"}


def test_operations_and_texts(folder: Path) -> None:
    model = load(folder)
    flops = model.flops()
    assert 0 < flops["stopped"] < flops["full"]
    assert min(flops.values()) > 0
    with pytest.raises(ScalexError, match=r"a text has \d+ tokens, but the model takes \d+: .* Shorten it, or say"):
        model.check_texts(["nurse " * 600])
    assert len(model.encode(["nurse " * 600, TEXT], truncate=True)) == 2
    assert model.unknown_words([TEXT]) == {}
    assert set(model.unknown_words(["a nurse xylophone"])) == {"xylophone"}
    embedded = model.embed([TEXT, "a man pilot", TEXT])
    assert embedded.dtype == torch.float32
    torch.testing.assert_close(embedded[0], embedded[2])
    assert (embedded[0] - embedded[1]).abs().max() > 1e-4


def test_images_go_through_the_autoencoder_and_back(folder: Path) -> None:
    model = load(folder)
    latents = start_noise(0, (2, *model.latent_shape)) * 0.5
    encoded = model.encode_images(model.decode(latents))
    assert encoded.shape == latents.shape
    assert torch.isfinite(encoded).all()


def test_the_fingerprint_knows_every_part(family: str, folder: Path, tmp_path: Path) -> None:
    model, same = load(folder), load(folder)
    assert model.fingerprint == same.fingerprint
    if family != NAMES[0]:
        copied = save_family(family, tmp_path / "same")
        assert load(copied).fingerprint == model.fingerprint
        for part in copied.glob("text_encoder*"):
            weights = next(part.glob("*.safetensors"))
            data = bytearray(weights.read_bytes())
            data[-3] ^= 1
            weights.write_bytes(data)
            changed = load(copied).fingerprint
            assert changed != model.fingerprint
            data[-3] ^= 1
            weights.write_bytes(data)


# ------------------------------------------------------------------------------------------------- of some families


def test_turbo_takes_one_step_without_guidance(tmp_path: Path) -> None:
    model = load(save_family("stable-diffusion-xl", tmp_path, turbo=True))
    assert (model.default_steps, model.default_guidance) == (1, 1.0)


def test_stable_diffusion_xl_takes_zeros_for_no_text_where_its_pipeline_does(folders: Callable[[str], Path]) -> None:
    model = load(folders("stable-diffusion-xl"))
    assert not any(part.any() for part in model.empty().parts.values())
    assert all(part.any() for part in model.encode([""]).parts.values())


def test_stable_diffusion_3_does_without_t5(tmp_path: Path) -> None:
    folder = save_family("stable-diffusion-3", tmp_path, t5=False)
    model, pipe = load(folder), pipeline(folder, text_encoder_3=None, tokenizer_3=None)
    seen = plain_hook(pipe, model)
    called(pipe, "", TEXT, 0, 1.0, "latent", steps=1)
    found, _ = collect(model, [(TEXT, 0)], Plan(readings=("text",), steps=1, guidance=1.0, pooling="full"))
    np.testing.assert_allclose(found["text"][TEXT, 0], seen[0][-1:].numpy().reshape(1, -1), rtol=1e-4, atol=1e-5)


def test_schnell_takes_four_steps_and_no_guidance(tmp_path: Path) -> None:
    model = load(save_family("flux", tmp_path, guided=False))
    assert (model.default_steps, model.default_guidance, model.embeds_guidance) == (4, 1.0, False)


def test_flux_takes_its_guidance_as_an_input(folders: Callable[[str], Path]) -> None:
    model = load(folders("flux"))
    assert (model.default_steps, model.default_guidance, model.embeds_guidance) == (28, 3.5, True)
    _, stats = collect(model, SAMPLES[:1], Plan(readings=("text",), steps=3, keep="last"))
    assert (stats.full, stats.stopped) == (2, 1)


def test_a_schedule_of_the_other_kind_is_refused(folders: Callable[[str], Path]) -> None:
    with pytest.raises(ScalexError, match="DDIMScheduler has no noise schedule of the flow matching kind"):
        load(folders("stable-diffusion-3"), scheduler="DDIMScheduler")
    with pytest.raises(
        ScalexError, match="FlowMatchEulerDiscreteScheduler has no noise schedule of the diffusion kind"
    ):
        load(folders("pixart"), scheduler="FlowMatchEulerDiscreteScheduler")


def test_an_index_that_names_a_strange_encoder_is_refused(tmp_path: Path) -> None:
    folder = save_family("pixart", tmp_path)
    index = folder / "model_index.json"
    index.write_text(index.read_text().replace("T5EncoderModel", "os"))
    with pytest.raises(ScalexError, match="names no text_encoder that transformers has: 'os'"):
        load(folder)


def test_another_denoiser_of_a_transformer_family(folders: Callable[[str], Path], tmp_path: Path) -> None:
    other = save_family("sana", tmp_path)
    assert load(folders("sana"), unet=str(other)).fingerprint == load(folders("sana")).fingerprint
    assert load(folders("sana"), unet=str(other / "transformer")).fingerprint == load(other).fingerprint


def precisions(model: Model, names: Sequence[str]) -> set[torch.dtype]:
    return {p.dtype for name in names for p in model.submodule(name).parameters()}


def test_weights_behind_the_probe_are_not_touched_until_a_forward_comes_to_them(folder: Path) -> None:
    """They stay as they lie on the disk: in fp32, where the model runs in bf16."""
    model, text = load(folder, dtype="bf16"), Plan(readings=("text",), steps=2, guidance=1.0)
    at = model.probes().index(model.probe)
    before, later = model.probes()[: at + 1], model.probes()[at + 1 :]
    first, _ = collect(model, SAMPLES, text)
    kept = precisions(model, later)
    assert precisions(model, before) == {torch.bfloat16}
    needed = model.weights()
    assert needed["stopped"] < needed["full"]
    whole, _ = collect(model, SAMPLES, Plan(steps=2, guidance=1.0))
    assert (kept, precisions(model, later)) == ({torch.float32}, {torch.bfloat16})
    for sample, latent in first["text"].items():
        np.testing.assert_array_equal(whole["text"][sample], latent)


def test_the_precision_is_that_of_diffusers_own_loading(folder: Path) -> None:
    """A weight that is brought to bf16 late is the weight that diffusers loads in bf16."""
    model = load(folder, dtype="bf16")
    collect(model, SAMPLES[:1], Plan(steps=1, guidance=1.0))
    denoiser = model._denoiser  # type: ignore[attr-defined]
    plain = type(denoiser).from_pretrained(model._layout.networks[model._layout.denoiser], torch_dtype=torch.bfloat16)  # type: ignore[attr-defined]
    for name, weight in plain.state_dict().items():
        torch.testing.assert_close(denoiser.state_dict()[name], weight, rtol=0, atol=0)


def test_streamed_weights_give_the_same_and_stay_where_they_were(folder: Path) -> None:
    """accelerate streams to the CPU, too: its layers then hold nothing between two uses."""
    plan = Plan(steps=2, guidance=2.0, pooling="full")
    resident, _ = collect(load(folder), SAMPLES, plan)
    model = load(folder, offload=True)
    streamed, _ = collect(model, SAMPLES, plan)
    weights = [p for network in model._parts.networks.values() for p in network.parameters()]  # type: ignore[attr-defined]
    away = sum(p.numel() for p in weights if p.device.type == "meta")
    assert away > 0.8 * sum(p.numel() for p in weights), "accelerate keeps single tensors of some blocks"
    for reading, found in resident.items():
        for sample, latent in found.items():
            np.testing.assert_array_equal(streamed[reading][sample], latent)
    assert model.flops() == load(folder).flops()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch's own compiler
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a compiler: apt-get install g++")
def test_compiled_blocks_read_the_same_and_stop_at_the_probe(folders: Callable[[str], Path]) -> None:
    plan = Plan(steps=2, guidance=1.0, pooling="full", batch=6)
    plain, told = collect(load(folders("stable-diffusion")), SAMPLES, plan)
    compiled, stats = collect(load(folders("stable-diffusion"), compile=True), SAMPLES, plan)
    assert (stats.full, stats.stopped) == (told.full, told.stopped)
    for reading, found in plain.items():
        for sample, latent in found.items():
            np.testing.assert_allclose(compiled[reading][sample], latent, rtol=1e-4, atol=1e-4)


def test_conditions_that_were_kept_on_the_disk_give_the_same(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SCALEX_CACHE", str(tmp_path))
    plan = Plan(steps=2, guidance=2.0, pooling="full")
    first, told = collect(load(folder), SAMPLES, plan)
    again, stats = collect(load(folder), SAMPLES, plan)
    assert (told.texts, stats.texts) == (3, 0)
    for reading, found in first.items():
        for sample, latent in found.items():
            np.testing.assert_array_equal(again[reading][sample], latent)


def test_a_live_pipeline_is_steered_as_a_generation_is(family: str, folder: Path) -> None:
    """Alpha 0 is the plain pipeline to the last bit, another alpha is `generate`'s, and then all is as before."""
    model, pipe = load(folder), pipeline(folder)
    push = start_noise(1, model.probe_shape[:1]).numpy().astype(np.float64)
    direction = Direction(push, Provenance("push", "value", "text", 0, (), model.fingerprint, model.probe, "mean"))
    plain = called(pipe, family, TEXT, 1, 3.0, "np")
    with steer(pipe, direction, 0.0):
        off = called(pipe, family, TEXT, 1, 3.0, "np")
    with steer(pipe, direction, 5.0):
        on = called(pipe, family, TEXT, 1, 3.0, "np")
    after = called(pipe, family, TEXT, 1, 3.0, "np")
    own = generate(model, [(TEXT, 1)], Plan(steps=3, guidance=3.0), Push(direction, 5.0))
    assert np.array_equal(plain, off)
    assert np.array_equal(plain, after)
    assert np.abs(own[0] - np.round(on[0] * 255)).max() <= 1
    assert np.abs(on - plain).max() > 0.01
    assert not any(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in around(pipe).denoiser().modules())
