"""PixArt alpha and sigma: a transformer that attends to T5's states of the text, on a noise schedule of diffusion."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, final

import torch
from diffusers import PixArtAlphaPipeline, PixArtSigmaPipeline, PixArtTransformer2DModel
from jaxtyping import Float

from scalex.models._assembled import load_parts
from scalex.models._files import read_json
from scalex.models._layout import find_layout
from scalex.models._live import live
from scalex.models._transformer import MaskedTexts
from scalex.models.base import Condition, Model, Options

__all__ = ["NAME", "PIPELINES", "PixArt", "around", "load"]

NAME = "pixart"
PIPELINES = ("PixArtAlphaPipeline", "PixArtSigmaPipeline")

_LENGTHS = {PixArtAlphaPipeline: 120, PixArtSigmaPipeline: 300}  # tokens, as either pipeline takes them


def load(folder: Path, options: Options) -> Model:
    """A PixArt from a folder in diffusers' form. See `scalex.models.load_model`."""
    layout = find_layout(folder, options, "transformer")
    alpha = read_json(folder / "model_index.json").get("_class_name") == PIPELINES[0]
    pipeline = PixArtAlphaPipeline if alpha else PixArtSigmaPipeline
    return PixArt(load_parts(layout, options, pipeline, PixArtTransformer2DModel), layout, options)


def around(pipe: Any, probe: str | None, fingerprint: bool) -> Model:
    """The model that a pipeline holds. See `scalex.models.around`."""
    return live(PixArt, pipe, "transformer", probe, fingerprint)


@final
class PixArt(MaskedTexts):
    """PixArt alpha (Chen et al. 2023, arXiv 2310.00426) and sigma (2024, arXiv 2403.04692)."""

    family = NAME
    usual = (20, 4.5)

    def _limits(self) -> Mapping[str, int]:
        return {"tokenizer": _LENGTHS[type(self._parts.pipeline)]}

    def predict(
        self,
        noisy: Float[torch.Tensor, "n c h w"],
        timestep: torch.Tensor | float | int,
        condition: Condition,
        guidance: float = 1.0,
    ) -> Float[torch.Tensor, "n c h w"]:
        """The predicted noise; what the transformer says of its variance is left out, as the pipeline leaves it."""
        output = self._denoiser(
            noisy.to(self.dtype),
            encoder_hidden_states=condition["states"],
            encoder_attention_mask=condition["mask"],
            timestep=self._times(timestep, len(noisy)),
            added_cond_kwargs=self._added(len(noisy)),
            return_dict=False,
        )[0]
        return output[:, : noisy.shape[1]]

    def _added(self, n: int) -> dict[str, Any]:
        """Size and shape of the picture, where the model takes them (alpha at 1,024 pixels)."""
        if not self._denoiser.config.use_additional_conditions:
            return {"resolution": None, "aspect_ratio": None}
        sides = [float(side * self._scale) for side in self.latent_shape[1:]]
        at = {"dtype": self.dtype, "device": self.device}
        ratio = torch.tensor([sides[0] / sides[1]], **at)
        return {"resolution": torch.tensor(sides, **at).repeat(n, 1), "aspect_ratio": ratio.repeat(n, 1)}
