"""The organism's networks: ordinary `diffusers` and `transformers` classes, small."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from diffusers import AutoencoderKL, DDIMScheduler, LCMScheduler, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from scalex.organisms.spec import OrganismSpec

__all__ = ["make_denoiser", "make_scheduler", "make_text_encoder", "make_tokenizer", "make_vae"]

_SPECIAL = ["<|startoftext|>", "<|endoftext|>"]

# Stable Diffusion's noise schedule, but ending in pure noise (Lin et al. 2023, arXiv 2305.08891). Its own end keeps 7 %
# of the picture, enough to tell skin tones apart, and sampling, which starts from pure noise, then draws other shares
# than those of the training captions. The velocity is predicted, as in SD 2: at high noise the clean latent then
# follows from the output without dividing by a small number.
_NOISE = {
    "num_train_timesteps": 1000,
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "prediction_type": "v_prediction",
    "clip_sample": False,
    "set_alpha_to_one": False,
    "steps_offset": 1,
    "rescale_betas_zero_snr": True,
}


def make_scheduler(consistency: bool = False) -> Any:
    """The sampler saved with the model: DDIM, or the consistency sampler for the distilled U-Net."""
    if consistency:
        return LCMScheduler(**_NOISE, original_inference_steps=50)
    return DDIMScheduler(**_NOISE, timestep_spacing="trailing")


def make_vae(spec: OrganismSpec) -> Any:
    """A variational autoencoder: (3, size, size) -> (latent_channels, size / 2**k, size / 2**k)."""
    widths = spec.network.vae
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * len(widths),
        up_block_types=("UpDecoderBlock2D",) * len(widths),
        block_out_channels=widths,
        latent_channels=spec.network.latent_channels,
        norm_num_groups=8,
        layers_per_block=1,
        sample_size=spec.size,
        mid_block_add_attention=False,
    )


def make_tokenizer(spec: OrganismSpec, words: Iterable[str]) -> Any:
    """A CLIP tokenizer whose byte-pair merges rebuild every given word whole, the same at every call."""
    from tokenizers import Tokenizer, models, trainers

    whole = sorted(set(words))
    bpe = Tokenizer(models.BPE(end_of_word_suffix="</w>", unk_token=_SPECIAL[1]))
    trainer = trainers.BpeTrainer(
        vocab_size=20_000, min_frequency=1, special_tokens=_SPECIAL, end_of_word_suffix="</w>", show_progress=False
    )
    bpe.train_from_iterator(whole, trainer)
    with tempfile.TemporaryDirectory() as folder:
        vocab, merges = bpe.model.save(folder)
        # The trainer numbers single letters in no fixed order, which would give resumed runs other numbers.
        first = [*_SPECIAL, *(f"{word}</w>" for word in whole)]
        pieces = dict.fromkeys([*first, *sorted(json.loads(Path(vocab).read_text(encoding="utf-8")))])
        Path(vocab).write_text(json.dumps({piece: i for i, piece in enumerate(pieces)}), encoding="utf-8")
        return CLIPTokenizer(
            vocab=str(Path(vocab)),
            merges=str(Path(merges)),
            model_max_length=spec.network.tokens,
            pad_token=_SPECIAL[1],
        )


def make_text_encoder(spec: OrganismSpec, tokenizer: Any) -> Any:
    """A CLIP text transformer, pooled at the end-of-text token."""
    width = spec.network.text_width
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=width,
            intermediate_size=4 * width,
            num_hidden_layers=spec.network.text_layers,
            num_attention_heads=4,
            max_position_embeddings=spec.network.tokens,
            projection_dim=width,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


def make_denoiser(spec: OrganismSpec) -> Any:
    """A conditional U-Net. The prompt enters by cross-attention at every resolution but the first."""
    widths, deep = spec.network.unet, len(spec.network.unet) - 1
    return UNet2DConditionModel(
        sample_size=spec.size // 2 ** (len(spec.network.vae) - 1),
        in_channels=spec.network.latent_channels,
        out_channels=spec.network.latent_channels,
        down_block_types=("DownBlock2D",) + ("CrossAttnDownBlock2D",) * deep,
        up_block_types=("CrossAttnUpBlock2D",) * deep + ("UpBlock2D",),
        block_out_channels=widths,
        layers_per_block=1,
        cross_attention_dim=spec.network.text_width,
        attention_head_dim=spec.network.heads,
        norm_num_groups=16,
    )
