"""Tiny real pipelines of every family but the first, with random weights: diffusers' own classes, saved as any are."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import diffusers
import torch
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    Gemma2Config,
    Gemma2Model,
    GemmaTokenizer,
    T5Config,
    T5EncoderModel,
    T5Tokenizer,
)

from tiny import WORDS, tiny_tokenizer, tiny_unet

__all__ = ["FAMILIES", "save_family"]

_NOISE = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}


def _clip(projected: bool = False, width: int = 32) -> Any:
    tokenizer = tiny_tokenizer()
    config = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=64,
        num_hidden_layers=3,
        num_attention_heads=4,
        projection_dim=width,
        max_position_embeddings=tokenizer.model_max_length,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return (CLIPTextModelWithProjection if projected else CLIPTextModel)(config)


def _t5() -> tuple[T5EncoderModel, T5Tokenizer]:
    pieces = ["▁", *(f"▁{word}" for word in WORDS), *"abcdefghijklmnopqrstuvwxyz"]
    vocabulary = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", -100.0), *((piece, -len(pieces) / 9) for piece in pieces)]
    tokenizer = T5Tokenizer(vocab=vocabulary, extra_ids=0, model_max_length=512)
    config = T5Config(vocab_size=len(tokenizer), d_model=32, d_kv=8, d_ff=64, num_layers=2, num_heads=4)
    return T5EncoderModel(config), tokenizer


def _gemma() -> tuple[Gemma2Model, GemmaTokenizer]:
    letters = sorted({letter for word in WORDS for letter in word})
    vocabulary = {"<pad>": 0, "<eos>": 1, "<bos>": 2, "<unk>": 3, "<mask>": 4, "▁": 5}
    vocabulary |= {letter: 6 + i for i, letter in enumerate(letters)}
    merges = []
    for word in WORDS:  # one chain of merges a word: letters from left to right
        for i in range(2, len(word) + 1):
            if word[:i] not in vocabulary:
                vocabulary[word[:i]] = len(vocabulary)
                merges.append((word[: i - 1], word[i - 1]))
    tokenizer = GemmaTokenizer(vocab=vocabulary, merges=merges, model_max_length=512)
    tokenizer.padding_side = "right"
    config = Gemma2Config(
        vocab_size=len(vocabulary),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
        sliding_window=64,
    )
    return Gemma2Model(config), tokenizer


def _kl(channels: int = 4, **changes: Any) -> diffusers.AutoencoderKL:
    return diffusers.AutoencoderKL(
        block_out_channels=(8, 16),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        latent_channels=channels,
        norm_num_groups=4,
        sample_size=16,
        **changes,
    )


def _sdxl(turbo: bool = False) -> dict[str, Any]:
    changes = {"addition_embed_type": "text_time", "addition_time_embed_dim": 4, "cross_attention_dim": 64}
    unet = tiny_unet(**changes, projection_class_embeddings_input_dim=4 * 6 + 32)
    ancestral = diffusers.EulerAncestralDiscreteScheduler(**_NOISE, timestep_spacing="trailing")
    return {
        "text_encoder": _clip(),
        "text_encoder_2": _clip(projected=True),
        "tokenizer": tiny_tokenizer(),
        "tokenizer_2": tiny_tokenizer(),
        "unet": unet,
        "vae": _kl(),
        "scheduler": ancestral if turbo else diffusers.EulerDiscreteScheduler(**_NOISE, steps_offset=1),
    }


def _sd3(t5: bool = True) -> dict[str, Any]:
    encoder, tokenizer = _t5() if t5 else (None, None)
    transformer = diffusers.SD3Transformer2DModel(
        sample_size=8,
        patch_size=2,
        in_channels=4,
        num_layers=4,
        attention_head_dim=8,
        num_attention_heads=4,
        joint_attention_dim=32,
        caption_projection_dim=32,
        pooled_projection_dim=32,
        out_channels=4,
        pos_embed_max_size=8,
    )
    return {
        "text_encoder": _clip(projected=True, width=16),
        "text_encoder_2": _clip(projected=True, width=16),
        "text_encoder_3": encoder,
        "tokenizer": tiny_tokenizer(),
        "tokenizer_2": tiny_tokenizer(),
        "tokenizer_3": tokenizer,
        "transformer": transformer,
        "vae": _kl(shift_factor=0.06, scaling_factor=1.5, use_quant_conv=False, use_post_quant_conv=False),
        "scheduler": diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0),
    }


def _flux(guided: bool = True) -> dict[str, Any]:
    encoder, tokenizer = _t5()
    transformer = diffusers.FluxTransformer2DModel(
        patch_size=1,
        in_channels=16,
        num_layers=2,
        num_single_layers=3,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=32,
        pooled_projection_dim=32,
        axes_dims_rope=(4, 4, 8),
        guidance_embeds=guided,
    )
    return {
        "text_encoder": _clip(),
        "tokenizer": tiny_tokenizer(),
        "text_encoder_2": encoder,
        "tokenizer_2": tokenizer,
        "transformer": transformer,
        "vae": _kl(shift_factor=0.06, scaling_factor=1.5, use_quant_conv=False, use_post_quant_conv=False),
        "scheduler": diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0, use_dynamic_shifting=guided),
    }


def _pixart() -> dict[str, Any]:
    encoder, tokenizer = _t5()
    transformer = diffusers.PixArtTransformer2DModel(
        sample_size=8,
        num_layers=3,
        patch_size=2,
        attention_head_dim=8,
        num_attention_heads=4,
        in_channels=4,
        out_channels=8,
        cross_attention_dim=32,
        caption_channels=32,
        use_additional_conditions=False,
    )
    return {
        "tokenizer": tokenizer,
        "text_encoder": encoder,
        "vae": _kl(),
        "transformer": transformer,
        "scheduler": diffusers.DPMSolverMultistepScheduler(**_NOISE, algorithm_type="dpmsolver++"),
    }


def _sana() -> dict[str, Any]:
    encoder, tokenizer = _gemma()
    transformer = diffusers.SanaTransformer2DModel(
        patch_size=1,
        in_channels=4,
        out_channels=4,
        num_layers=3,
        num_attention_heads=2,
        attention_head_dim=16,
        num_cross_attention_heads=2,
        cross_attention_head_dim=16,
        cross_attention_dim=32,
        caption_channels=32,
        sample_size=8,
    )
    vae = diffusers.AutoencoderDC(
        in_channels=3,
        latent_channels=4,
        attention_head_dim=2,
        encoder_block_types=("ResBlock", "EfficientViTBlock"),
        decoder_block_types=("ResBlock", "EfficientViTBlock"),
        encoder_block_out_channels=(8, 8),
        decoder_block_out_channels=(8, 8),
        encoder_qkv_multiscales=((), (5,)),
        decoder_qkv_multiscales=((), (5,)),
        encoder_layers_per_block=(1, 1),
        decoder_layers_per_block=(1, 1),
        downsample_block_type="conv",
        upsample_block_type="interpolate",
        decoder_norm_types="rms_norm",
        decoder_act_fns="silu",
        scaling_factor=0.41407,
    )
    flow = {"prediction_type": "flow_prediction", "use_flow_sigmas": True, "flow_shift": 3.0}
    return {
        "tokenizer": tokenizer,
        "text_encoder": encoder,
        "vae": vae,
        "transformer": transformer,
        "scheduler": diffusers.DPMSolverMultistepScheduler(**flow, algorithm_type="dpmsolver++"),
    }


FAMILIES: dict[str, tuple[str, Callable[..., dict[str, Any]]]] = {
    "stable-diffusion-xl": ("StableDiffusionXLPipeline", _sdxl),
    "stable-diffusion-3": ("StableDiffusion3Pipeline", _sd3),
    "flux": ("FluxPipeline", _flux),
    "pixart": ("PixArtSigmaPipeline", _pixart),
    "sana": ("SanaPipeline", _sana),
}
"""By family: the pipeline's class, and what builds its parts."""


def save_family(name: str, folder: Path, **changes: Any) -> Path:
    """Saves a tiny random pipeline of a family to `folder` and returns the folder. The same arguments give the same
    weights. Pictures are 16 x 16 pixels, latents 4 x 8 x 8."""
    torch.manual_seed(0)
    pipeline, build = FAMILIES[name]
    kind = getattr(diffusers, pipeline)
    parts = build(**changes)
    for part in parts.values():
        if isinstance(part, torch.nn.Module):
            part.eval()
            _shake(part)
    optional = {name: None for name in inspect.signature(kind.__init__).parameters if name in kind._optional_components}
    kind(**optional | parts).save_pretrained(folder)
    return folder


def _shake(part: torch.nn.Module) -> None:
    """Weights that begin at zero (gates, output layers) would make every test pass."""
    with torch.no_grad():
        for parameter in part.parameters():
            if not parameter.any():
                torch.nn.init.normal_(parameter, std=0.1)
