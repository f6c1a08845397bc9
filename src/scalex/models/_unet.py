"""Models whose denoiser is a U-Net of diffusers, probed at the output of its middle block."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float

from scalex.errors import ScalexError
from scalex.models._assembled import Assembled, Parts
from scalex.models._layout import Layout
from scalex.models.base import Condition, Options

__all__ = ["UNet", "check_unet"]


def check_unet(parts: Parts, layout: Layout, width: int) -> None:
    """That the U-Net fits the autoencoder, and texts that are so wide.

    Raises:
        ScalexError: it does not.
    """
    unet, where = parts.networks["unet"], layout.networks["unet"]
    channels = layout.config("vae").get("latent_channels", 4)
    if not unet.config.in_channels == unet.config.out_channels == channels:
        raise ScalexError(
            f"the U-Net in {where} takes {unet.config.in_channels} channels and gives {unet.config.out_channels}"
            f", but the model's latents have {channels}",
            "Use a text-to-image U-Net (not one for inpainting) of the same model",
        )
    if unet.config.cross_attention_dim != width:
        raise ScalexError(
            f"the U-Net in {where} reads texts {unet.config.cross_attention_dim} wide, but the text encoder "
            f"writes them {width} wide",
            "Use a U-Net of the same model",
        )


class UNet(Assembled):
    """A model whose denoiser is a `UNet2DConditionModel`."""

    def __init__(self, parts: Parts, layout: Layout, options: Options) -> None:
        super().__init__(parts, layout, options)
        self._read_at(options.probe)

    def _read_at(self, probe: str | None) -> None:
        self.probe = self._choose_probe(probe, "mid_block")
        self.probe_shape = self._probe_shape()

    @property
    def _unet(self) -> Any:
        return self._denoiser

    def probes(self) -> tuple[str, ...]:
        """The blocks of the way down, the middle, and those of the way up."""
        down, up = len(self._unet.down_blocks), len(self._unet.up_blocks)
        return (*(f"down_blocks.{i}" for i in range(down)), "mid_block", *(f"up_blocks.{i}" for i in range(up)))

    def _probe_shape(self) -> tuple[int, int, int]:
        """Of the probed block's output: so many channels, and as often halved as it and the blocks before it sample."""
        kind, _, number = self.probe.partition(".")
        channels, down, up = self._unet.config.block_out_channels, self._unet.down_blocks, self._unet.up_blocks
        place = int(number or 0)
        if kind == "down_blocks":
            down, up, width = down[: place + 1], up[:0], channels[place]
        elif kind == "up_blocks":
            up, width = up[: place + 1], channels[::-1][place]
        else:
            up, width = up[:0], channels[-1]
        halvings = sum(b.downsamplers is not None for b in down) - sum(b.upsamplers is not None for b in up)
        height, wide = (math.ceil(edge / 2**halvings) for edge in self.latent_shape[1:])
        return int(width), height, wide

    def read_probe(self, output: Any) -> Float[torch.Tensor, "n c h w"]:
        """A block of the way down gives what it hands across, too."""
        return output[0] if isinstance(output, tuple) else output

    def write_probe(self, output: Any, value: Float[torch.Tensor, "n c h w"]) -> Any:
        """In a block of the way down, what it hands across stays."""
        return (value, *output[1:]) if isinstance(output, tuple) else value

    def _takes_guidance(self) -> bool:
        return self._unet.config.time_cond_proj_dim is not None

    def _added(self, condition: Condition) -> Mapping[str, torch.Tensor] | None:
        """What the U-Net takes beside states of texts."""
        return None

    def predict(
        self,
        noisy: Float[torch.Tensor, "n c h w"],
        timestep: torch.Tensor | float | int,
        condition: Condition,
        guidance: float = 1.0,
    ) -> Float[torch.Tensor, "n c h w"]:
        """The U-Net's output, in the model's precision."""
        embedded = self._guidance_embedding(guidance).expand(len(noisy), -1) if self.embeds_guidance else None
        return self._unet(
            noisy.to(self.dtype),
            timestep,
            encoder_hidden_states=condition["states"],
            timestep_cond=embedded,
            added_cond_kwargs=self._added(condition),
            return_dict=False,
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
