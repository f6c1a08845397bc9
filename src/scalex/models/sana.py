"""Sana: a transformer of linear attention on very small latents, by flow matching; its texts are read by Gemma."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, final

import torch
from diffusers import AutoencoderDC, SanaPipeline, SanaTransformer2DModel
from jaxtyping import Float

from scalex.models._assembled import load_parts
from scalex.models._layout import find_layout
from scalex.models._live import live
from scalex.models._transformer import MaskedTexts
from scalex.models.base import Condition, Model, Options

__all__ = ["NAME", "PIPELINES", "Sana", "around", "load"]

NAME = "sana"
PIPELINES = ("SanaPipeline",)

_LENGTH = 300  # tokens, as the pipeline takes them


def load(folder: Path, options: Options) -> Model:
    """A Sana from a folder in diffusers' form. See `scalex.models.load_model`."""
    layout = find_layout(folder, options, "transformer")
    return Sana(load_parts(layout, options, SanaPipeline, SanaTransformer2DModel, flow=True), layout, options)


def around(pipe: Any, probe: str | None, fingerprint: bool) -> Model:
    """The model that a pipeline holds. See `scalex.models.around`."""
    return live(Sana, pipe, "transformer", probe, fingerprint)


@final
class Sana(MaskedTexts):
    """Sana (Xie et al. 2024, arXiv 2410.10629). Texts go in as they are, without the instruction that its pipeline puts
    before them to have them embellished: an audit asks what a prompt means, not what it is rewritten to."""

    family = NAME
    usual = (20, 4.5)

    def _vae_kind(self) -> Any:
        return AutoencoderDC

    def _limits(self) -> Mapping[str, int]:
        return {"tokenizer": _LENGTH}

    def predict(
        self,
        noisy: Float[torch.Tensor, "n c h w"],
        timestep: torch.Tensor | float | int,
        condition: Condition,
        guidance: float = 1.0,
    ) -> Float[torch.Tensor, "n c h w"]:
        """The predicted velocity, noise less clean latent."""
        output = self._denoiser(
            noisy.to(self.dtype),
            encoder_hidden_states=condition["states"].to(self.dtype),
            encoder_attention_mask=condition["mask"],
            timestep=self._times(timestep, len(noisy)) * self._denoiser.config.timestep_scale,
            return_dict=False,
        )[0]
        return output[:, : noisy.shape[1]]
