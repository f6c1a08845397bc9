"""Stable Diffusion 3 and 3.5: a transformer of text and image together, by flow matching, with up to three encoders."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, final

import torch
from diffusers import SD3Transformer2DModel, StableDiffusion3Pipeline
from jaxtyping import Float

from scalex.models._assembled import load_parts
from scalex.models._layout import find_layout
from scalex.models._live import live
from scalex.models._schedules import dynamic_shift
from scalex.models._transformer import Transformer
from scalex.models.base import Condition, Model, Options

__all__ = ["NAME", "PIPELINES", "StableDiffusion3", "around", "load"]

NAME = "stable-diffusion-3"
PIPELINES = ("StableDiffusion3Pipeline",)

_T5_LENGTH = 256  # as the pipeline takes it


def load(folder: Path, options: Options) -> Model:
    """A Stable Diffusion 3 from a folder in diffusers' form. See `scalex.models.load_model`."""
    layout = find_layout(folder, options, "transformer", ("", "_2", "_3"))
    parts = load_parts(layout, options, StableDiffusion3Pipeline, SD3Transformer2DModel, flow=True)
    return StableDiffusion3(parts, layout, options)


def around(pipe: Any, probe: str | None, fingerprint: bool) -> Model:
    """The model that a pipeline holds. See `scalex.models.around`."""
    return live(StableDiffusion3, pipe, "transformer", probe, fingerprint, ("", "_2", "_3"))


@final
class StableDiffusion3(Transformer):
    """Stable Diffusion 3 (Esser et al. 2024, arXiv 2403.03206). Without its third encoder, T5, it takes zeros."""

    family = NAME
    usual = (28, 7.0)
    image_at = 1

    def _limits(self) -> Mapping[str, int]:
        tokenizers = self._parts.tokenizers
        return {
            role: _T5_LENGTH if role.endswith("_3") else int(tokenizer.model_max_length)
            for role, tokenizer in tokenizers.items()
        }

    def timed_scheduler(self, steps: int) -> Any:
        """Set to so many steps; shifted by the size of the picture where the schedule asks for it."""
        scheduler = self.new_scheduler()
        _, rows, columns = self.probe_shape
        scheduler.set_timesteps(steps, **dynamic_shift(scheduler, rows * columns, 1.16))
        return scheduler

    def encode(self, texts: Sequence[str], truncate: bool = False) -> Condition:
        """What `StableDiffusion3Pipeline.encode_prompt` gives: states of all encoders, and pooled outputs of two."""
        self.check_texts(texts, truncate)
        asked = list(texts)
        with torch.no_grad():
            states, _, pooled, _ = self._parts.pipeline.encode_prompt(
                asked, asked, asked, device=self.device, do_classifier_free_guidance=False
            )
        return Condition({"states": states, "pooled": pooled})

    def embed(self, texts: Sequence[str], truncate: bool = False) -> Float[torch.Tensor, "n dim"]:
        """The pooled and projected outputs of both CLIP encoders, in fp32."""
        return self.encode(texts, truncate)["pooled"].float()

    def predict(
        self,
        noisy: Float[torch.Tensor, "n c h w"],
        timestep: torch.Tensor | float | int,
        condition: Condition,
        guidance: float = 1.0,
    ) -> Float[torch.Tensor, "n c h w"]:
        """The predicted velocity, noise less clean latent."""
        return self._denoiser(
            noisy.to(self.dtype),
            timestep=self._times(timestep, len(noisy)),
            encoder_hidden_states=condition["states"],
            pooled_projections=condition["pooled"],
            return_dict=False,
        )[0]
