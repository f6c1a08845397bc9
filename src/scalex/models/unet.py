"""Stable Diffusion 1.x and 2.x, their LCM and LoRA variants: a U-Net probed at the output of its middle block."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, final

import diffusers
import numpy as np
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from jaxtyping import Float, UInt8
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode
from transformers import CLIPTextModel, CLIPTokenizer

from scalex.errors import ScalexError
from scalex.models._files import config_file, digest, lora_file, quiet, read_json, resolve, weight_files
from scalex.models._parts import STEMS, fuse_lora, load_part, load_scheduler, read_advice
from scalex.models.base import Model, Options

__all__ = ["NAME", "PIPELINES", "StableDiffusion", "load"]

NAME = "stable-diffusion"
PIPELINES = ("StableDiffusionPipeline", "LatentConsistencyModelPipeline")


@dataclass(frozen=True)
class _Layout:
    """Which folders and files the parts of one model come from."""

    folder: Path
    unet: Path
    scheduler: Path
    advice: Path | None
    lora: Path | None

    @property
    def parts(self) -> dict[str, Path]:
        return {"unet": self.unet, "text_encoder": self.folder / "text_encoder", "vae": self.folder / "vae"}

    def fingerprint(self) -> str:
        """Of everything but the scheduler, which the sampler's digest speaks for."""
        files: dict[str, tuple[Path, ...]] = {
            role: (part / "config.json", *weight_files(part, STEMS[role])[0]) for role, part in self.parts.items()
        }
        kinds = ("*.json", "*.txt")
        files["tokenizer"] = tuple(sorted(p for kind in kinds for p in (self.folder / "tokenizer").glob(kind)))
        files["lora"] = (self.lora,) if self.lora else ()
        return digest(files)


def _find_layout(folder: Path, options: Options) -> _Layout:
    lora = lora_file(options.lora) if options.lora else None
    unet = _find_unet(folder, options.unet)
    near_lora = [lora.parent] if lora and Path(str(options.lora)).suffix != ".safetensors" else []
    near_unet = [unet, unet / "scheduler", unet.parent / "scheduler"] if options.unet else []
    scheduler = config_file([*near_lora, *near_unet, folder / "scheduler"], "scheduler_config.json")
    advice = config_file([*near_lora, unet if options.unet else folder], "scalex.json")
    return _Layout(folder, unet, scheduler or folder / "scheduler" / "scheduler_config.json", advice, lora)


def _find_unet(folder: Path, name: str | None) -> Path:
    """The U-Net's own folder: the model's, or that of another by subfolder, folder or hub id."""
    if name is None:
        return folder / "unet"
    found = folder / name if (folder / name).is_dir() else resolve(name)
    return found if (found / "config.json").is_file() else found / "unet"


def load(folder: Path, options: Options) -> Model:
    """A Stable Diffusion from a folder in diffusers' form. See `scalex.models.load_model`."""
    layout = _find_layout(folder, options)
    unet = load_part(UNet2DConditionModel, layout.unet, "unet", torch_dtype=options.dtype)
    encoder = load_part(CLIPTextModel, layout.folder / "text_encoder", "text_encoder", dtype=options.dtype)
    scheduler = load_scheduler(layout.scheduler, options.scheduler)
    _check_fit(unet, encoder, layout)
    if layout.lora:
        fuse_lora(unet, encoder, layout.lora, scheduler)
    return StableDiffusion(unet, encoder, _load_tokenizer(folder / "tokenizer"), scheduler, layout, options)


def _load_tokenizer(folder: Path) -> CLIPTokenizer:
    if not any((folder / name).is_file() for name in ("tokenizer.json", "vocab.json")):
        raise ScalexError(f"{folder} holds no CLIP tokenizer", "Download or save the model again")
    try:
        with quiet():
            return CLIPTokenizer.from_pretrained(folder, local_files_only=True)
    except Exception as error:  # a bare Exception is what the tokenizers library raises
        raise ScalexError(f"{folder} can't be loaded ({error})", "Download or save the model again") from error


def _check_fit(unet: Any, encoder: Any, layout: _Layout) -> None:
    channels = read_json(layout.folder / "vae" / "config.json").get("latent_channels", 4)
    if not unet.config.in_channels == unet.config.out_channels == channels:
        raise ScalexError(
            f"the U-Net in {layout.unet} takes {unet.config.in_channels} channels and gives {unet.config.out_channels}"
            f", but the model's latents have {channels}",
            "Use a text-to-image U-Net (not one for inpainting) of the same model",
        )
    if unet.config.cross_attention_dim != encoder.config.hidden_size:
        raise ScalexError(
            f"the U-Net in {layout.unet} reads texts {unet.config.cross_attention_dim} wide, but the text encoder "
            f"writes them {encoder.config.hidden_size} wide",
            "Use a U-Net of the same model",
        )


@final
class StableDiffusion(Model):
    """Stable Diffusion 1.x or 2.x. The autoencoder is loaded at its first use: a capture never needs it."""

    family = NAME
    probe = "mid_block"

    def __init__(
        self, unet: Any, encoder: Any, tokenizer: Any, scheduler: Any, layout: _Layout, options: Options
    ) -> None:
        self.device, self.dtype = options.device, options.dtype
        self.fingerprint = layout.fingerprint()
        self._unet, self._encoder = unet.to(options.device), encoder.to(options.device)
        self._tokenizer, self._scheduler, self._layout = tokenizer, scheduler, layout
        self._vae_config = read_json(layout.folder / "vae" / "config.json")
        self._scale = 2 ** (len(self._vae_config["block_out_channels"]) - 1)
        self.latent_shape = self._latent_shape(options.size)
        self.probe_shape = self._probe_shape()
        self.embeds_guidance = unet.config.time_cond_proj_dim is not None
        self._recommend(read_advice(layout.advice))

    def _latent_shape(self, size: int | None) -> tuple[int, int, int]:
        trained = self._unet.config.sample_size
        height, width = (trained, trained) if isinstance(trained, int) else trained
        if size is not None:
            if size < 1 or size % self._scale:
                raise ScalexError(f"pictures of {size} pixels are not to be had", f"Choose a multiple of {self._scale}")
            height = width = size // self._scale
        return self._unet.config.in_channels, height, width

    def _probe_shape(self) -> tuple[int, int, int]:
        halvings = sum(block.downsamplers is not None for block in self._unet.down_blocks)
        height, width = (math.ceil(side / 2**halvings) for side in self.latent_shape[1:])
        return self._unet.config.block_out_channels[-1], height, width

    def _recommend(self, advice: Mapping[str, float]) -> None:
        """Guidance 8.5 where it is distilled in (as diffusers' LCM pipeline), none for other LCMs, else 7.5."""
        consistent = self.embeds_guidance or isinstance(self._scheduler, diffusers.LCMScheduler)
        usual = 8.5 if self.embeds_guidance else 1.0 if consistent else 7.5
        self.default_guidance = float(advice.get("guidance", usual))
        self.default_steps = int(advice.get("steps", 4 if consistent else 25))

    def new_scheduler(self) -> Any:
        """A fresh scheduler of the model's (or the chosen) kind."""
        return type(self._scheduler).from_config(self._scheduler.config)

    @property
    def _length(self) -> int:
        return min(int(self._tokenizer.model_max_length), int(self._encoder.config.max_position_embeddings))

    def _tokens(self, texts: Sequence[str], truncate: bool) -> Any:
        padded = {"padding": "max_length", "max_length": self._length, "verbose": False}
        tokens = self._tokenizer(list(texts), truncation=truncate, **padded)
        for text, ids in zip(texts, tokens.input_ids):
            if len(ids) > self._length:
                wrong = f"a text has {len(ids) - 2} tokens, but the model takes {self._length - 2}: {text!r}"
                raise ScalexError(wrong, "Shorten it, or say truncate: true")
        return tokens

    def encode(self, texts: Sequence[str], truncate: bool = False) -> Float[torch.Tensor, "n length width"]:
        """The text encoder's last hidden states, as `StableDiffusionPipeline.encode_prompt` gives them."""
        return self._encoded(texts, truncate).last_hidden_state

    def embed(self, texts: Sequence[str], truncate: bool = False) -> Float[torch.Tensor, "n dim"]:
        """The last hidden state at the end of the text (CLIP's pooled output, before its projection), in fp32."""
        return self._encoded(texts, truncate).pooler_output.float()

    def _encoded(self, texts: Sequence[str], truncate: bool) -> Any:
        tokens = self._tokens(texts, truncate)
        masked = getattr(self._encoder.config, "use_attention_mask", False)
        mask = torch.tensor(tokens.attention_mask, device=self.device) if masked else None
        with torch.no_grad():
            return self._encoder(torch.tensor(tokens.input_ids, device=self.device), attention_mask=mask)

    def check_texts(self, texts: Sequence[str], truncate: bool = False) -> None:
        """The tokenizer's count alone."""
        self._tokens(list(dict.fromkeys(texts)), truncate)

    def unknown_words(self, texts: Sequence[str]) -> dict[str, list[str]]:
        """Words with an unknown piece, and words that are spelled out letter by letter: no part of them is known."""
        unknown = {}
        for word in dict.fromkeys(w for text in texts for w in re.findall(r"[^\W_]+", text)):
            pieces = self._tokenizer.tokenize(word)
            if self._tokenizer.unk_token in pieces or (word.isalpha() and len(pieces) >= len(word) > 1):
                unknown[word] = pieces
        return unknown

    def predict(
        self,
        noisy: Float[torch.Tensor, "n c h w"],
        timestep: torch.Tensor | float | int,
        condition: Float[torch.Tensor, "n length width"],
        guidance: float = 1.0,
    ) -> Float[torch.Tensor, "n c h w"]:
        """The U-Net's output, in the model's precision."""
        embedded = self._guidance_embedding(guidance).expand(len(noisy), -1) if self.embeds_guidance else None
        return self._unet(
            noisy.to(self.dtype), timestep, encoder_hidden_states=condition, timestep_cond=embedded, return_dict=False
        )[0]

    def _guidance_embedding(self, guidance: float) -> Float[torch.Tensor, "1 width"]:
        """Sinusoids of w = guidance - 1, the input of guided distillation (Meng et al. 2023; Luo et al. 2023, LCM)."""
        width = self._unet.config.time_cond_proj_dim
        half = width // 2
        rates = torch.exp(torch.arange(half) * -(math.log(10000.0) / (half - 1)))
        angles = (guidance - 1) * 1000.0 * rates
        sinusoids = torch.cat([angles.sin(), angles.cos()])
        padded = torch.nn.functional.pad(sinusoids, (0, width % 2))
        return padded[None].to(device=self.device, dtype=self.dtype)

    def probe_module(self) -> torch.nn.Module:
        """The U-Net's middle block."""
        return self._unet.mid_block

    @cached_property
    def _vae(self) -> Any:
        # In fp32 always: its fp16 overflows in some models, and pictures are few.
        return load_part(AutoencoderKL, self._layout.folder / "vae", "vae", torch_dtype=torch.float32).to(self.device)

    def decode(self, latents: Float[torch.Tensor, "n c h w"]) -> UInt8[np.ndarray, "n height width 3"]:
        """Pictures, rounded as diffusers' image processor rounds them."""
        clean = latents.to(self.device, torch.float32) / self._vae.config.scaling_factor
        with torch.no_grad():
            pictures = (self._vae.decode(clean, return_dict=False)[0] / 2 + 0.5).clamp(0, 1)
        return np.asarray((pictures * 255).round().to(torch.uint8).permute(0, 2, 3, 1).cpu())

    def encode_images(self, pictures: UInt8[np.ndarray, "n height width 3"]) -> Float[torch.Tensor, "n c h w"]:
        """Clean latents in fp32, scaled as the U-Net knows them."""
        values = torch.from_numpy(np.ascontiguousarray(pictures)).to(self.device, torch.float32)
        with torch.no_grad():
            posterior = self._vae.encode(values.permute(0, 3, 1, 2) / 127.5 - 1).latent_dist
        return posterior.mode() * self._vae.config.scaling_factor

    def flops(self) -> dict[str, int]:
        """Counted by torch's own counter over one sample; attention as plain matrix products on every device."""
        shape = (1, *self.latent_shape)
        condition = self.encode([""])
        full = _count(lambda: self.predict(torch.zeros(shape, device=self.device), 1, condition))
        name = type(self._unet).__name__
        after = sum(n for key, n in full.items() if re.fullmatch(rf"{name}\.(up_blocks\.\d+|conv_out)", key))
        with torch.device("meta"):
            decoder, clean = AutoencoderKL.from_config(self._vae_config), torch.zeros(shape)
        decode = _count(lambda: decoder.decode(clean, return_dict=False)[0])["Global"]
        text = _count(lambda: self.encode([""]))["Global"]
        return {"full": full["Global"], "stopped": full["Global"] - after, "decode": decode, "encode": text}


def _count(forward: Callable[[], torch.Tensor]) -> dict[str, int]:
    """Floating-point operations of a forward: in all ("Global") and by module."""
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        forward()
    return {"Global": 0} | {name: sum(by_op.values()) for name, by_op in counter.get_flop_counts().items()}
