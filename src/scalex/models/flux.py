"""FLUX.1 dev and schnell: double blocks of text and image, then single ones, by flow matching; guidance is an input."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, final

import numpy as np
import torch
from diffusers import FluxPipeline, FluxTransformer2DModel
from jaxtyping import Float

from scalex.models._assembled import load_parts
from scalex.models._layout import find_layout
from scalex.models._live import live
from scalex.models._schedules import dynamic_shift
from scalex.models._transformer import Transformer
from scalex.models.base import Condition, Model, Options

__all__ = ["NAME", "PIPELINES", "Flux", "around", "load"]

NAME = "flux"
PIPELINES = ("FluxPipeline",)

_SIDE = 128  # of the latent of a picture of 1,024 pixels, which the pipeline makes by default
_T5_LENGTH = 512  # as the pipeline takes it


def load(folder: Path, options: Options) -> Model:
    """A FLUX from a folder in diffusers' form. See `scalex.models.load_model`."""
    layout = find_layout(folder, options, "transformer", ("", "_2"))
    return Flux(load_parts(layout, options, FluxPipeline, FluxTransformer2DModel, flow=True), layout, options)


def around(pipe: Any, probe: str | None, fingerprint: bool) -> Model:
    """The model that a pipeline holds. See `scalex.models.around`."""
    return live(Flux, pipe, "transformer", probe, fingerprint, ("", "_2"))


@final
class Flux(Transformer):
    """FLUX.1 (Black Forest Labs 2024). Latents are kept as maps and packed two by two into tokens for the forward."""

    family = NAME
    block_lists = ("transformer_blocks", "single_transformer_blocks")
    image_at = 1

    def _takes_guidance(self) -> bool:
        return bool(self._denoiser.config.guidance_embeds)

    def _recommend(self, advice: Mapping[str, float]) -> None:
        """As its pipeline and card: dev takes 28 steps at guidance 3.5, schnell 4 steps and none."""
        steps, guidance = (28, 3.5) if self.embeds_guidance else (4, 1.0)
        self.default_guidance = float(advice.get("guidance", guidance))
        self.default_steps = int(advice.get("steps", steps))

    def _patch(self) -> int:
        return 2

    def _channels(self) -> int:
        return int(self._denoiser.config.in_channels) // 4

    def _trained_size(self) -> tuple[int, int]:
        return _SIDE, _SIDE

    def _limits(self) -> Mapping[str, int]:
        # CLIP gives the pooled output alone, and the pipeline cuts there what T5 reads whole.
        return {"tokenizer_2": _T5_LENGTH}

    def timed_scheduler(self, steps: int) -> Any:
        """Set to so many steps from pure noise; shifted by the size of the picture where the schedule asks for it."""
        scheduler = self.new_scheduler()
        _, rows, columns = self.probe_shape
        shift = dynamic_shift(scheduler, rows * columns, 1.15)
        if scheduler.config.get("use_flow_sigmas"):
            scheduler.set_timesteps(steps, **shift)
        else:
            scheduler.set_timesteps(sigmas=np.linspace(1.0, 1 / steps, steps), **shift)
        return scheduler

    def encode(self, texts: Sequence[str], truncate: bool = False) -> Condition:
        """What `FluxPipeline.encode_prompt` gives: T5's states and CLIP's pooled output."""
        self.check_texts(texts, truncate)
        with torch.no_grad():
            states, pooled, _ = self._parts.pipeline.encode_prompt(
                list(texts), None, device=self.device, max_sequence_length=_T5_LENGTH
            )
        return Condition({"states": states, "pooled": pooled})

    def embed(self, texts: Sequence[str], truncate: bool = False) -> Float[torch.Tensor, "n dim"]:
        """CLIP's pooled output, in fp32."""
        return self.encode(texts, truncate)["pooled"].float()

    def predict(
        self,
        noisy: Float[torch.Tensor, "n c h w"],
        timestep: torch.Tensor | float | int,
        condition: Condition,
        guidance: float = 1.0,
    ) -> Float[torch.Tensor, "n c h w"]:
        """The predicted velocity, noise less clean latent."""
        n, rows, columns = len(noisy), *self.probe_shape[1:]
        states, at = condition["states"], {"device": self.device, "dtype": self.dtype}
        scale = torch.full((n,), guidance, dtype=torch.float32, device=self.device) if self.embeds_guidance else None
        tokens = self._denoiser(
            FluxPipeline._pack_latents(noisy.to(self.dtype), n, noisy.shape[1], 2 * rows, 2 * columns),
            timestep=self._times(timestep, n).to(self.dtype) / 1000,
            guidance=scale,
            encoder_hidden_states=states,
            pooled_projections=condition["pooled"],
            txt_ids=torch.zeros(states.shape[1], 3, **at),
            img_ids=FluxPipeline._prepare_latent_image_ids(n, rows, columns, **at),
            return_dict=False,
        )[0]
        return FluxPipeline._unpack_latents(tokens, 2 * rows * self._scale, 2 * columns * self._scale, self._scale)
