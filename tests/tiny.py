"""Tiny real pipelines with random weights: Stable Diffusion's own classes, saved as any diffusers folder is."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, DDIMScheduler, LCMScheduler, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

__all__ = ["WORDS", "interrupting", "save_unet", "tiny_pipeline", "tiny_tokenizer", "tiny_unet"]

WORDS = (
    "a",
    "photo",
    "picture",
    "of",
    "an",
    "farmer",
    "pilot",
    "nurse",
    "woman",
    "man",
    "with",
    "light",
    "dark",
    "skin",
)
LENGTH = 12


def _merge(pieces: list[str], merges: list[tuple[str, str]]) -> list[str]:
    """Byte-pair encoding as the tokenizer does it: the earliest merge first."""
    for pair in merges:
        joined: list[str] = []
        for piece in pieces:
            if joined and (joined[-1], piece) == pair:
                joined[-1] += piece
            else:
                joined.append(piece)
        pieces = joined
    return pieces


def tiny_tokenizer(words: Iterable[str] = WORDS, length: int = LENGTH) -> CLIPTokenizer:
    """A CLIP tokenizer that knows each of `words` as one piece, and nothing else but single letters of those words."""
    merges: list[tuple[str, str]] = []
    pieces: dict[str, None] = {}
    for word in words:
        letters = [*word[:-1], word[-1] + "</w>"]
        pieces.update(dict.fromkeys(letters))
        rest = _merge(letters, merges)
        while len(rest) > 1:
            merges.append((rest[0], rest[1]))
            rest = [rest[0] + rest[1], *rest[2:]]
            pieces[rest[0]] = None
    vocabulary = ["<|startoftext|>", "<|endoftext|>", *pieces]
    return CLIPTokenizer(vocab={p: i for i, p in enumerate(vocabulary)}, merges=merges, model_max_length=length)


def tiny_unet(**changes: Any) -> UNet2DConditionModel:
    """A U-Net of two levels, 4 x 8 x 8 latents, whose middle block gives 64 x 4 x 4."""
    config: dict[str, Any] = {
        "sample_size": 8,
        "block_out_channels": (32, 64),
        "layers_per_block": 1,
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
        "cross_attention_dim": 32,
        "attention_head_dim": 8,
        "norm_num_groups": 8,
    }
    return UNet2DConditionModel(**(config | changes)).eval()


def _scheduler(kind: str, prediction: str) -> DDIMScheduler | LCMScheduler:
    noise = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "prediction_type": prediction}
    if kind == "lcm":
        # At the usual scaling of 10 the boundary condition is the identity to six digits, and tests would not see it.
        return LCMScheduler(**noise, steps_offset=1, timestep_scaling=0.002)
    return DDIMScheduler(**noise, clip_sample=False, set_alpha_to_one=False, steps_offset=1)


def _text_encoder(tokenizer: CLIPTokenizer) -> CLIPTextModel:
    config = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=tokenizer.model_max_length,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return CLIPTextModel(config).eval()


def _autoencoder() -> AutoencoderKL:
    return AutoencoderKL(
        block_out_channels=(8, 16),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        latent_channels=4,
        norm_num_groups=4,
        sample_size=16,
    ).eval()


def save_unet(folder: Path, seed: int = 7, scheduler: str | None = "lcm", **changes: Any) -> Path:
    """Another U-Net for a tiny pipeline, with a scheduler of its own beside it where one is named."""
    torch.manual_seed(seed)
    tiny_unet(**changes).save_pretrained(folder)
    if scheduler is not None:
        _scheduler(scheduler, "epsilon").save_pretrained(folder)
    return folder


@contextmanager
def interrupting(model: Any, when: Callable[[int], bool]) -> Iterator[None]:
    """Ctrl-C in the forward of a model's probe that `when` tells by its number, from 1."""
    counter = count(1)

    def press(module: Any, inputs: Any) -> None:
        if when(next(counter)):
            raise KeyboardInterrupt

    handle = model.probe_module().register_forward_pre_hook(press)
    try:
        yield
    finally:
        handle.remove()


def tiny_pipeline(
    folder: Path, *, scheduler: str = "ddim", prediction: str = "epsilon", seed: int = 0, **unet: Any
) -> Path:
    """Saves a tiny random Stable Diffusion to `folder` in diffusers' form (safetensors) and returns the folder.

    The same arguments give the same weights. Pictures are 16 x 16 pixels.
    """
    torch.manual_seed(seed)
    tokenizer = tiny_tokenizer()
    _text_encoder(tokenizer).save_pretrained(folder / "text_encoder")
    tokenizer.save_pretrained(folder / "tokenizer")
    tiny_unet(**unet).save_pretrained(folder / "unet")
    _autoencoder().save_pretrained(folder / "vae")
    _scheduler(scheduler, prediction).save_pretrained(folder / "scheduler")
    parts = {
        "scheduler": ["diffusers", "LCMScheduler" if scheduler == "lcm" else "DDIMScheduler"],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"],
        "safety_checker": [None, None],
        "feature_extractor": [None, None],
    }
    index = {"_class_name": "StableDiffusionPipeline", "_diffusers_version": "0.42.1", "requires_safety_checker": False}
    (folder / "model_index.json").write_text(json.dumps(index | parts))
    return folder
