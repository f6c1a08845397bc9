"""Stable Diffusion XL, its Turbo, LCM and LoRA variants: two text encoders, added conditions, a U-Net as ever."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, final

import diffusers
import torch
from diffusers import StableDiffusionXLPipeline, UNet2DConditionModel
from jaxtyping import Float

from scalex.models._assembled import Parts, load_parts
from scalex.models._layout import Layout, find_layout
from scalex.models._live import live
from scalex.models._unet import UNet, check_unet
from scalex.models.base import Condition, Model, Options

__all__ = ["NAME", "PIPELINES", "StableDiffusionXL", "around", "load"]

NAME = "stable-diffusion-xl"
PIPELINES = ("StableDiffusionXLPipeline",)


def load(folder: Path, options: Options) -> Model:
    """A Stable Diffusion XL from a folder in diffusers' form. See `scalex.models.load_model`."""
    layout = find_layout(folder, options, "unet", ("", "_2"))
    parts = load_parts(layout, options, StableDiffusionXLPipeline, UNet2DConditionModel)
    check_unet(parts, layout, sum(int(parts.networks[role].config.hidden_size) for role in layout.encoders))
    return StableDiffusionXL(parts, layout, options)


def around(pipe: Any, probe: str | None, fingerprint: bool) -> Model:
    """The model that a pipeline holds. See `scalex.models.around`."""
    return live(StableDiffusionXL, pipe, "unet", probe, fingerprint, ("", "_2"))


@final
class StableDiffusionXL(UNet):
    """Stable Diffusion XL (Podell et al. 2023, arXiv 2307.01952)."""

    family = NAME
    usual = (25, 5.0)

    def __init__(self, parts: Parts, layout: Layout, options: Options) -> None:
        if _is_turbo(parts.scheduler):
            self.consistent_steps = 1
        super().__init__(parts, layout, options)

    def _is_consistent(self) -> bool:
        return super()._is_consistent() or _is_turbo(self._scheduler)

    def _limits(self) -> Mapping[str, int]:
        return {role: int(tokenizer.model_max_length) for role, tokenizer in self._parts.tokenizers.items()}

    def encode(self, texts: Sequence[str], truncate: bool = False) -> Condition:
        """What `StableDiffusionXLPipeline.encode_prompt` gives: states of both encoders, and the second one's pooled
        output."""
        self.check_texts(texts, truncate)
        with torch.no_grad():
            states, _, pooled, _ = self._parts.pipeline.encode_prompt(
                list(texts), device=self.device, do_classifier_free_guidance=False
            )
        return Condition({"states": states, "pooled": pooled})

    def empty(self) -> Condition:
        """Zeros, where the pipeline takes these for no text (as the base model does)."""
        found = self.encode([""])
        if not self._parts.pipeline.config.force_zeros_for_empty_prompt:
            return found
        return Condition({name: torch.zeros_like(part) for name, part in found.parts.items()})

    def embed(self, texts: Sequence[str], truncate: bool = False) -> Float[torch.Tensor, "n dim"]:
        """The second encoder's pooled and projected output, in fp32."""
        return self.encode(texts, truncate)["pooled"].float()

    def _added(self, condition: Condition) -> Mapping[str, torch.Tensor]:
        """The pooled output; and original size, crop and target size: a whole picture of the model's size."""
        height, width = (side * self._scale for side in self.latent_shape[1:])
        sizes = torch.tensor([[height, width, 0, 0, height, width]], dtype=self.dtype, device=self.device)
        return {"text_embeds": condition["pooled"], "time_ids": sizes.expand(len(condition), -1)}


def _is_turbo(scheduler: Any) -> bool:
    """Whether it is the sampler that SDXL Turbo comes with (Sauer et al. 2023): ancestral, with trailing timesteps."""
    ancestral = isinstance(scheduler, diffusers.EulerAncestralDiscreteScheduler)
    return ancestral and bool(scheduler.config.get("timestep_spacing") == "trailing")
