"""Loading models: what they say of themselves, fingerprints, other parts for them, and every foreseeable mistake."""

from __future__ import annotations

import errno
import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import diffusers
import httpx
import numpy as np
import pytest
import torch
from diffusers import LatentConsistencyModelPipeline, StableDiffusionPipeline
from diffusers.image_processor import VaeImageProcessor
from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, RemoteEntryNotFoundError, RepositoryNotFoundError
from peft import LoraConfig, get_peft_model_state_dict
from safetensors.torch import load_file, save_file

from scalex.capture import Plan, capture
from scalex.errors import ScalexError
from scalex.models import Family, Model, families, load_model
from scalex.models._files import resolve
from tiny import save_unet, tiny_pipeline, tiny_unet

WEIGHTS = "diffusion_pytorch_model.safetensors"


@pytest.fixture
def folder(tmp_path: Path, tiny_folder: Callable[..., Path]) -> Path:
    """A tiny pipeline that a test may change."""
    return Path(shutil.copytree(tiny_folder(), tmp_path / "model"))


def edit(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def read(path: Path) -> dict[str, torch.Tensor]:
    """Copies of the weights: those that safetensors gives live in the file."""
    return {name: value.clone() for name, value in load_file(path).items()}


def refused(said: str, source: str | Path, **options: Any) -> None:
    with pytest.raises(ScalexError, match=said) as caught:
        load_model(source, **({"device": "cpu"} | options))
    assert "\n" not in str(caught.value)


# ------------------------------------------------------------------------------------------------- what a model says
def test_a_model_says_what_it_is(ddim: Model, lcm: Model) -> None:
    assert (ddim.family, ddim.probe, ddim.precision, ddim.device.type) == (
        "stable-diffusion",
        "mid_block",
        "fp32",
        "cpu",
    )
    assert (ddim.latent_shape, ddim.probe_shape) == ((4, 8, 8), (64, 4, 4))
    assert (ddim.default_guidance, ddim.default_steps) == (7.5, 25)
    assert (lcm.default_guidance, lcm.default_steps, lcm.embeds_guidance) == (1.0, 4, False)
    assert ddim.new_scheduler() is not ddim.new_scheduler()


def test_encoding_is_that_of_the_pipeline(ddim: Model, tiny_folder: Callable[..., Path]) -> None:
    texts = ["a photo of a nurse", "", "a dark farmer with light skin"]
    pipe = StableDiffusionPipeline.from_pretrained(tiny_folder(), safety_checker=None)
    expected, _ = pipe.encode_prompt(texts, "cpu", 1, False)
    torch.testing.assert_close(ddim.encode(texts)["states"], expected, rtol=1e-6, atol=1e-6)


def test_pictures_and_latents(ddim: Model, tiny_folder: Callable[..., Path]) -> None:
    vae = diffusers.AutoencoderKL.from_pretrained(tiny_folder() / "vae")
    pictures = np.random.default_rng(0).integers(0, 256, (2, 16, 16, 3), dtype=np.uint8)
    values = VaeImageProcessor(vae_scale_factor=2).preprocess(pictures / 255.0).float()
    with torch.no_grad():
        expected = vae.encode(values).latent_dist.mode() * vae.config.scaling_factor
        decoded = vae.decode(expected / vae.config.scaling_factor).sample
    latents = ddim.encode_images(pictures)
    torch.testing.assert_close(latents, expected, rtol=1e-5, atol=1e-6)
    shown = VaeImageProcessor(vae_scale_factor=2).postprocess(decoded, output_type="np")
    assert np.abs(ddim.decode(latents) / 255 - shown).max() < 1.01 / 255


def test_a_capture_never_loads_the_autoencoder(folder: Path) -> None:
    model = load_model(folder, device="cpu")
    (folder / "vae" / WEIGHTS).unlink()
    capture(model, [("a nurse", 0)], Plan(), lambda reading, batch, values: None)
    with pytest.raises(ScalexError, match="vae holds no safetensors weights"):
        model.decode(torch.zeros(1, *model.latent_shape))


def test_words_that_the_tokenizer_does_not_know(ddim: Model) -> None:
    found = ddim.unknown_words(["a photo of a nurse", "a zebra pilots, 2", "a fop"])
    assert list(found) == ["zebra", "pilots", "2", "fop"]
    assert found["fop"] == ["f", "o", "<|endoftext|>"]


def test_the_guidance_embedding_is_that_of_diffusers(tiny_folder: Callable[..., Path]) -> None:
    for width in (16, 17):
        model: Any = load_model(tiny_folder(scheduler="lcm", time_cond_proj_dim=width), device="cpu")
        reference = LatentConsistencyModelPipeline.get_guidance_scale_embedding
        expected = reference(None, torch.tensor([7.5 - 1]), embedding_dim=width)
        torch.testing.assert_close(model._guidance_embedding(7.5), expected, rtol=1e-5, atol=1e-5)


def test_stable_diffusion_2(tmp_path: Path) -> None:
    changes = {"use_linear_projection": True, "attention_head_dim": (4, 8), "upcast_attention": True, "sample_size": 12}
    model = load_model(tiny_pipeline(tmp_path, prediction="v_prediction", **changes), device="cpu")
    assert (model.latent_shape, model.probe_shape) == ((4, 12, 12), (64, 6, 6))
    found: list[np.ndarray] = []
    capture(model, [("a nurse", 0)], Plan(), lambda reading, batch, values: found.append(values))
    assert [v.shape for v in found] == [(1, 1, 64)] * 2


def test_the_size_of_pictures_may_be_chosen(tiny_folder: Callable[..., Path]) -> None:
    model = load_model(tiny_folder(), device="cpu", size=22)
    assert (model.latent_shape, model.probe_shape) == ((4, 11, 11), (64, 6, 6))
    value: list[np.ndarray] = []
    capture(model, [("a nurse", 0)], Plan(readings=("text",)), lambda reading, batch, values: value.append(values))
    assert model.decode(torch.zeros(1, 4, 11, 11)).shape == (1, 22, 22, 3)
    refused("pictures of 15 pixels are not to be had. Choose a multiple of 2", tiny_folder(), size=15)


def test_what_a_model_recommends(folder: Path) -> None:
    (folder / "scalex.json").write_text('{"guidance": 1.5, "steps": 6}')
    model = load_model(folder, device="cpu")
    assert (model.default_guidance, model.default_steps) == (1.5, 6)
    (folder / "scalex.json").write_text('{"guidance": "high"}')
    refused("scalex.json says guidance: 'high'. It may say guidance and steps", folder)


def test_an_old_scheduler_is_corrected_as_the_pipeline_corrects_it(folder: Path) -> None:
    edit(folder / "scheduler" / "scheduler_config.json", clip_sample=True, steps_offset=0)
    with pytest.warns(FutureWarning, match="outdated|clip_sample"):
        pipe = StableDiffusionPipeline.from_pretrained(folder, safety_checker=None)
    ours = load_model(folder, device="cpu").new_scheduler().config
    assert {k: ours[k] for k in ("clip_sample", "steps_offset")} == {"clip_sample": False, "steps_offset": 1}
    assert {k: v for k, v in ours.items() if k[0] != "_"} == {
        k: v for k, v in pipe.scheduler.config.items() if k[0] != "_"
    }


# ----------------------------------------------------------------------------------------------------- the fingerprint
def fingerprint(folder: Path, **options: Any) -> str:
    return load_model(folder, device="cpu", **options).fingerprint


def test_the_fingerprint_knows_neither_folder_nor_time_nor_version(
    folder: Path, tiny_folder: Callable[..., Path]
) -> None:
    os.utime(folder / "unet" / WEIGHTS, (0, 0))
    edit(folder / "unet" / "config.json", _name_or_path="elsewhere", _diffusers_version="9.9")
    edit(folder / "text_encoder" / "config.json", transformers_version="9.9")
    (folder / "README.md").write_text("A stray file")
    shutil.copy(folder / "unet" / WEIGHTS, folder / "unet" / "diffusion_pytorch_model.fp16.safetensors")
    edit(folder / "scheduler" / "scheduler_config.json", beta_end=0.013)
    assert fingerprint(folder) == fingerprint(tiny_folder())


@pytest.mark.parametrize("part", ["unet", "vae", "text_encoder"])
def test_the_fingerprint_knows_every_weight(part: str, folder: Path, tiny_folder: Callable[..., Path]) -> None:
    path = next((folder / part).glob("*.safetensors"))
    weights = read(path)
    next(iter(weights.values())).view(-1)[0] += 1e-6
    save_file(weights, path, {"format": "pt"})
    assert fingerprint(folder) != fingerprint(tiny_folder())


def test_the_fingerprint_knows_configuration_and_tokenizer(folder: Path, tiny_folder: Callable[..., Path]) -> None:
    found = [fingerprint(tiny_folder())]
    edit(folder / "unet" / "config.json", norm_eps=1e-6)
    found.append(fingerprint(folder))
    edit(folder / "tokenizer" / "tokenizer_config.json", model_max_length=11)
    found.append(fingerprint(folder))
    assert len(set(found)) == 3


def test_the_sampler_is_known_by_what_its_scheduler_does(folder: Path, ddim: Model) -> None:
    path = folder / "scheduler" / "scheduler_config.json"
    edit(path, _diffusers_version="9.9")
    assert load_model(folder, device="cpu").sampler == ddim.sampler
    edit(path, beta_end=0.013)
    changed = load_model(folder, device="cpu").sampler
    assert changed != ddim.sampler
    assert load_model(folder, device="cpu", scheduler="PNDMScheduler").sampler.startswith("PNDMScheduler-")


# ----------------------------------------------------------------------------------------------------- other parts
def test_another_unet_brings_its_scheduler(folder: Path, tmp_path: Path, ddim: Model, lcm: Model) -> None:
    save_unet(folder / "lcm")
    (folder / "lcm" / "scalex.json").write_text('{"guidance": 2.0}')
    by_subfolder = load_model(folder, device="cpu", unet="lcm")
    by_path = load_model(folder, device="cpu", unet=str(folder / "lcm"))
    assert by_subfolder.fingerprint == by_path.fingerprint != ddim.fingerprint
    assert by_subfolder.sampler == lcm.sampler
    assert by_subfolder.default_guidance == 2.0
    other = tiny_pipeline(tmp_path / "other", scheduler="lcm", seed=5)
    by_pipeline = load_model(folder, device="cpu", unet=str(other))
    assert (by_pipeline.sampler, by_pipeline.default_guidance) == (lcm.sampler, 1.0)
    noisy, condition = torch.ones(1, 4, 8, 8), by_pipeline.encode(["a nurse"])
    unet = diffusers.UNet2DConditionModel.from_pretrained(other / "unet").eval()
    with torch.no_grad():
        torch.testing.assert_close(by_pipeline.predict(noisy, 5, condition), unet(noisy, 5, condition["states"]).sample)


def test_another_unet_without_a_scheduler_takes_that_of_the_model(folder: Path, tmp_path: Path, ddim: Model) -> None:
    alone = save_unet(tmp_path / "alone" / "unet", scheduler=None)
    for name in (alone, alone.parent):
        assert load_model(folder, device="cpu", unet=str(name)).sampler == ddim.sampler


def test_a_unet_of_another_model_is_refused(folder: Path, tmp_path: Path) -> None:
    wide = save_unet(tmp_path / "wide", cross_attention_dim=48)
    refused("reads texts 48 wide, but the text encoder writes them 32 wide", folder, unet=str(wide))
    inpainting = save_unet(tmp_path / "inpainting", in_channels=9)
    refused("takes 9 channels and gives 4, but the model's latents have 4", folder, unet=str(inpainting))


def save_lora(folder: Path, name: str = "pytorch_lora_weights.safetensors", **changes: Any) -> Path:
    unet = tiny_unet(**changes)
    unet.add_adapter(LoraConfig(r=2, lora_alpha=4, target_modules=["to_q", "to_v"], init_lora_weights=False))
    layers = get_peft_model_state_dict(unet)
    StableDiffusionPipeline.save_lora_weights(folder, unet_lora_layers=layers, weight_name=name)
    return folder


def test_a_lora_is_fused(folder: Path, tmp_path: Path, ddim: Model) -> None:
    lora = save_lora(tmp_path / "lora")
    model = load_model(folder, device="cpu", lora=str(lora))
    pipe = StableDiffusionPipeline.from_pretrained(folder, safety_checker=None)
    pipe.load_lora_weights(lora)
    noisy, condition = torch.ones(1, 4, 8, 8), model.encode(["a nurse"])
    with torch.no_grad():
        expected = pipe.unet(noisy, 5, condition["states"]).sample
    torch.testing.assert_close(model.predict(noisy, 5, condition), expected, rtol=1e-4, atol=1e-5)
    assert (model.predict(noisy, 5, condition) - ddim.predict(noisy, 5, condition)).abs().max() > 1e-3
    assert not any("lora" in name for name, _ in model.probe_module().named_modules())
    assert model.fingerprint not in (ddim.fingerprint, fingerprint(folder, lora=str(save_lora(tmp_path / "second"))))
    by_file = lora / "pytorch_lora_weights.safetensors"
    assert fingerprint(folder, lora=str(by_file)) == model.fingerprint


def test_a_lora_may_bring_its_scheduler(folder: Path, tmp_path: Path, lcm: Model) -> None:
    lora = save_lora(tmp_path / "lora", "lcm.safetensors")
    lcm.new_scheduler().save_pretrained(lora)
    model = load_model(folder, device="cpu", lora=str(lora))
    assert (model.sampler, model.default_guidance) == (lcm.sampler, 1.0)


def test_loras_that_are_refused(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "pickle").mkdir()
    torch.save({}, tmp_path / "pickle" / "lora.bin")
    refused("holds its weights as a pickle \\(lora.bin\\)", folder, lora=str(tmp_path / "pickle"))
    refused("lora.bin is not a safetensors file", folder, lora=str(tmp_path / "pickle" / "lora.bin"))
    big = save_lora(tmp_path / "big", block_out_channels=(32, 128))
    refused("does not fit the model .* Use a LoRA made for it", folder, lora=str(big))
    two = save_lora(tmp_path / "two", "a.safetensors")
    refused(
        "two holds 2 safetensors files. Name the LoRA's file itself", folder, lora=str(save_lora(two, "b.safetensors"))
    )
    save_file({"something": torch.ones(2)}, tmp_path / "foreign.safetensors")
    refused(
        "foreign.safetensors (does not fit|changes no layer of) the model",
        folder,
        lora=str(tmp_path / "foreign.safetensors"),
    )
    monkeypatch.setitem(sys.modules, "peft", None)
    refused("needs the package peft. Install it: pip install 'peft>=0.15'", folder, lora=str(big))


# ------------------------------------------------------------------------------------------------------ the families
def test_every_family_keeps_the_contract() -> None:
    found = families()
    assert "stable-diffusion" in found
    assert all(isinstance(family, Family) and family.PIPELINES for family in found.values())
    pipelines = [p for family in found.values() for p in family.PIPELINES]
    assert len(pipelines) == len(set(pipelines))


def test_another_package_adds_a_family(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "strange.py").write_text(
        "from scalex.models.unet import load as load_unet\n"
        "NAME, PIPELINES = 'strange', ('StrangePipeline',)\n"
        "def load(folder, options):\n    return load_unet(folder, options)\n"
    )
    info = tmp_path / "strange-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: strange\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[scalex.families]\nstrange = strange\n")
    edit(folder / "model_index.json", _class_name="StrangePipeline")
    refused("holds a StrangePipeline, which no family of scalex reads. It reads StableDiffusionPipeline, ", folder)
    monkeypatch.syspath_prepend(tmp_path)
    families.cache_clear()
    assert load_model(folder, device="cpu").latent_shape == (4, 8, 8)
    families.cache_clear()


# ------------------------------------------------------------------------------------------------------- the mistakes
def test_no_such_folder_and_no_hub(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    refused("no folder nobody/nothing here and the hub can't be reached. Check the name", "nobody/nothing")
    refused("no folder nobody/unet here and the hub can't be reached", folder, unet="nobody/unet")
    refused("no folder a/b/c here. Give a folder in diffusers' form, or a hub id", "a/b/c")
    refused("no folder my model here. Give a folder", "my model")


@pytest.mark.parametrize(
    ("cause", "said"),
    [(RepositoryNotFoundError, "has no model of that name"), (GatedRepoError, "accepted its licence")],
)
def test_what_the_hub_says_is_passed_on(cause: type[Exception], said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def download(*args: Any, **options: Any) -> str:
        raise OSError("the libraries' long story") from cause.__new__(cause)

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    with pytest.raises(ScalexError, match=said):
        resolve("nobody/nothing")


def raised(kind: type[BaseException], text: str = "the libraries' long story") -> BaseException:
    """An error of the hub's client as if it had answered: its constructor wants the answer itself."""
    error = kind.__new__(kind, text)
    error.args = (text,)
    return error


def xet_error() -> RuntimeError:
    return RuntimeError("Data processing error: I/O error: No space left on device (os error 28)")


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (
            raised(RemoteEntryNotFoundError),
            r"nobody/nothing is no diffusion model: the hub has no model_index\.json of it\. Give one that has",
        ),
        (
            OSError(errno.ENOSPC, "No space left on device"),
            r"disk full at .*hub while nobody/nothing was downloaded\. Free space, or set HF_HOME",
        ),
        (xet_error(), r"disk full at .*hub"),
        (ConnectionResetError(errno.ECONNRESET, "Connection reset by peer"), r"can't be reached\. Check the name and"),
        (TimeoutError("timed out"), r"can't be reached\. Check the name and the connection"),
        (httpx.ConnectTimeout("timed out"), r"can't be reached\. Check the name and the connection"),
        (
            raised(HfHubHTTPError, "500 Server Error: try later.\nRequest ID: 7"),
            r"no folder nobody/nothing here and its download from the hub failed \(500 Server Error: try later\)\. Try",
        ),
        (OSError(errno.EIO, "Input/output error"), r"failed \(\[Errno 5\] Input/output error\)"),
        (ValueError(), r"its download from the hub failed \(ValueError\)\. Try again, or give the folder of a model"),
    ],
)
@pytest.mark.parametrize(
    ("pipeline", "hub"),
    [(True, "diffusers.DiffusionPipeline.download"), (False, "huggingface_hub.snapshot_download")],
)
def test_why_a_download_failed(
    error: BaseException, said: str, pipeline: bool, hub: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def download(*args: Any, **options: Any) -> str:
        raise error

    monkeypatch.setattr(hub, download)
    with pytest.raises(ScalexError, match=said) as caught:
        resolve("nobody/nothing", pipeline=pipeline)
    assert "\n" not in str(caught.value)


def test_a_folder_that_is_no_diffusion_model(tmp_path: Path, folder: Path) -> None:
    (tmp_path / "empty").mkdir()
    refused("is no diffusion model: it is empty. Give one that has a model_index.json", tmp_path / "empty")
    refused("is no diffusion model: it holds a single UNet2DConditionModel", folder / "unet")
    refused("is no diffusion model: it holds a single CLIPTextModel", folder / "text_encoder")
    refused("is no diffusion model: it holds tokenizer.json, tokenizer_config.json", folder / "tokenizer")
    refused("is a file, but a model is a folder .*from_single_file", folder / "unet" / WEIGHTS)
    (folder / "model_index.json").write_text("{")
    refused("model_index.json can't be read as JSON", folder)


@pytest.mark.parametrize("part", ["unet", "vae", "text_encoder"])
def test_pickles_are_refused(part: str, folder: Path) -> None:
    path = next((folder / part).glob("*.safetensors"))
    torch.save(load_file(path), path.with_suffix(".bin"))
    path.unlink()
    refused(f"{part} holds its weights as a pickle .* can run code when it is loaded. Convert it", folder)


def test_damaged_models(folder: Path) -> None:
    path = folder / "unet" / WEIGHTS
    whole = path.read_bytes()
    weights = read(path)
    path.write_bytes(whole[: len(whole) // 2])
    refused("unet can't be loaded .*Download or save the model again", folder)
    lost = dict(list(weights.items())[1:])
    save_file(lost, path, {"format": "pt"})
    refused(f"the weights in .*unet lack 1 tensors, such as {next(iter(weights))}", folder)
    path.unlink()
    refused("unet holds no safetensors weights \\(found: config.json\\)", folder)
    path.write_bytes(whole)
    shutil.rmtree(folder / "text_encoder")
    refused("text_encoder/config.json is missing. The model's folder is not whole", folder)


def test_a_model_without_tokenizer_or_scheduler(folder: Path) -> None:
    (folder / "scheduler" / "scheduler_config.json").unlink()
    refused("scheduler_config.json is missing", folder)
    (folder / "scheduler" / "scheduler_config.json").write_text('{"_class_name": "NoScheduler"}')
    another = "Try another: `scheduler: {0}` in the spec, or `--scheduler {0}`"
    refused(f"diffusers has no scheduler NoScheduler. {another.format('DDIMScheduler')}", folder)
    flow = "FlowMatchEulerDiscreteScheduler"
    wrong = f"{flow} has no noise schedule of the diffusion kind"
    refused(f"{wrong}. {another.format('DDIMScheduler')}", folder, scheduler=flow)
    path = folder / "tokenizer" / "tokenizer.json"
    path.write_text(path.read_text().replace("nurse</w>", "nurze</w>"))
    refused(
        "tokenizer can't be loaded .*nurse</w>.*Download or save the model again", folder, scheduler="DDIMScheduler"
    )
    shutil.rmtree(folder / "tokenizer")
    refused("tokenizer holds no CLIPTokenizer", folder, scheduler="DDIMScheduler")


def test_only_the_fp16_variant_is_there(folder: Path) -> None:
    before = fingerprint(folder)
    for part in ("unet", "vae", "text_encoder"):
        path = next((folder / part).glob("*.safetensors"))
        path.rename(path.with_name(path.name.replace(".safetensors", ".fp16.safetensors")))
    model = load_model(folder, device="cpu")
    assert model.decode(torch.zeros(1, *model.latent_shape)).shape == (1, 16, 16, 3)
    assert model.fingerprint != before


def test_devices_and_precisions(folder: Path) -> None:
    refused("there is no device cuda:99 here. Leave the device out, or name cpu", folder, device="cuda:99")
    refused("there is no device gpu here", folder, device="gpu")
    refused("unknown precision fp8. Choose one of fp32, bf16, fp16", folder, dtype="fp8")
    refused("fp16 has no fast arithmetic on a CPU. Use precision fp32 or bf16, or a GPU", folder, dtype="fp16")
    assert load_model(folder, device="cpu", dtype=torch.bfloat16).precision == "bf16"
