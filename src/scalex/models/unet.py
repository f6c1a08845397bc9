"""Stable Diffusion 1.x and 2.x, their LCM and LoRA variants: a U-Net probed at the output of its middle block."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, final

import torch
from diffusers import StableDiffusionPipeline, UNet2DConditionModel
from jaxtyping import Float

from scalex.models._assembled import load_parts
from scalex.models._layout import find_layout
from scalex.models._live import live
from scalex.models._unet import UNet, check_unet
from scalex.models.base import Condition, Model, Options

__all__ = ["NAME", "PIPELINES", "StableDiffusion", "around", "load"]

NAME = "stable-diffusion"
PIPELINES = ("StableDiffusionPipeline", "LatentConsistencyModelPipeline")


def load(folder: Path, options: Options) -> Model:
    """A Stable Diffusion from a folder in diffusers' form. See `scalex.models.load_model`."""
    layout = find_layout(folder, options, "unet")
    parts = load_parts(layout, options, StableDiffusionPipeline, UNet2DConditionModel)
    check_unet(parts, layout, int(parts.networks["text_encoder"].config.hidden_size))
    return StableDiffusion(parts, layout, options)


def around(pipe: Any, probe: str | None, fingerprint: bool) -> Model:
    """The model that a pipeline holds. See `scalex.models.around`."""
    return live(StableDiffusion, pipe, "unet", probe, fingerprint)


@final
class StableDiffusion(UNet):
    """Stable Diffusion 1.x or 2.x."""

    family = NAME

    @property
    def _encoder(self) -> Any:
        return self._parts.networks["text_encoder"]

    def _limits(self) -> Mapping[str, int]:
        tokenizer = self._parts.tokenizers["tokenizer"]
        most = int(self._encoder.config.max_position_embeddings)
        return {"tokenizer": min(int(tokenizer.model_max_length), most)}

    def encode(self, texts: Sequence[str], truncate: bool = False) -> Condition:
        """The text encoder's last hidden states, as `StableDiffusionPipeline.encode_prompt` gives them."""
        return Condition({"states": self._encoded(texts, truncate).last_hidden_state})

    def embed(self, texts: Sequence[str], truncate: bool = False) -> Float[torch.Tensor, "n dim"]:
        """The last hidden state at the end of the text (CLIP's pooled output, before its projection), in fp32."""
        return self._encoded(texts, truncate).pooler_output.float()

    def _encoded(self, texts: Sequence[str], truncate: bool) -> Any:
        self.check_texts(texts, truncate)
        [(role, length)] = self._limits().items()
        padded = {"padding": "max_length", "max_length": length, "verbose": False}
        tokens = self._parts.tokenizers[role](list(texts), truncation=True, **padded)
        masked = getattr(self._encoder.config, "use_attention_mask", False)
        mask = torch.tensor(tokens.attention_mask, device=self.device) if masked else None
        with torch.no_grad():
            return self._encoder(torch.tensor(tokens.input_ids, device=self.device), attention_mask=mask)
