"""Models whose denoiser is a transformer: the image's tokens are read after one of its blocks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float

from scalex.models._assembled import Assembled, Parts
from scalex.models._layout import Layout
from scalex.models.base import Condition, Options

__all__ = ["MaskedTexts", "Transformer"]


class Transformer(Assembled):
    """A model whose denoiser is a transformer. Its probe is the block in the middle, until a sweep finds a better one
    (`scalex probe-sweep`); its value is the tokens of the image as a map, (width, rows, columns)."""

    block_lists: Sequence[str] = ("transformer_blocks",)
    image_at: int | None = None  # where a block gives texts and image both: which of these is the image

    def __init__(self, parts: Parts, layout: Layout, options: Options) -> None:
        super().__init__(parts, layout, options)
        self._read_at(options.probe)

    def _read_at(self, probe: str | None) -> None:
        known = self.probes()
        self.probe = self._choose_probe(probe, known[(len(known) - 1) // 2])
        config = self._denoiser.config
        patch = self._patch()
        _, height, width = self.latent_shape
        channels = int(config.num_attention_heads * config.attention_head_dim)
        self.probe_shape = channels, height // patch, width // patch

    def _patch(self) -> int:
        """How many cells of the latent a token is wide."""
        return int(self._denoiser.config.patch_size)

    @property
    def _multiple(self) -> int:
        return self._scale * self._patch()

    def _takes_guidance(self) -> bool:
        return False

    def probes(self) -> tuple[str, ...]:
        """All blocks."""
        return tuple(f"{name}.{i}" for name in self.block_lists for i in range(len(getattr(self._denoiser, name))))

    def read_probe(self, output: Any) -> Float[torch.Tensor, "n c h w"]:
        """The image's tokens, laid out as the picture; in a row, where it is of another size than the model's."""
        tokens = output if self.image_at is None else output[self.image_at]
        rows, columns = self.probe_shape[1:]
        sides = (rows, columns) if rows * columns == tokens.shape[1] else (tokens.shape[1], 1)
        return tokens.transpose(1, 2).unflatten(2, sides)

    def write_probe(self, output: Any, value: Float[torch.Tensor, "n c h w"]) -> Any:
        """The texts' tokens, where a block gives them, stay."""
        tokens = value.flatten(2).transpose(1, 2)
        if self.image_at is None:
            return tokens
        return tuple(tokens if i == self.image_at else part for i, part in enumerate(output))

    def _times(self, timestep: torch.Tensor | float | int, n: int) -> torch.Tensor:
        """The timestep for each of n samples, (n,), on the device."""
        return torch.as_tensor(timestep, device=self.device).reshape(1).expand(n)


class MaskedTexts(Transformer):
    """A transformer that attends to the states of one encoder, and to those alone that are the text's."""

    def encode(self, texts: Sequence[str], truncate: bool = False) -> Condition:
        """What the pipeline's `encode_prompt` gives: the encoder's states, and which of them are the text's."""
        self.check_texts(texts, truncate)
        with torch.no_grad():
            states, mask, _, _ = self._parts.pipeline.encode_prompt(
                list(texts), do_classifier_free_guidance=False, device=self.device
            )
        return Condition({"states": states, "mask": mask})

    def embed(self, texts: Sequence[str], truncate: bool = False) -> Float[torch.Tensor, "n dim"]:
        """The mean of the states over the text, in fp32: the encoder has no pooled output."""
        condition = self.encode(texts, truncate)
        weights = condition["mask"].to(torch.float32)[..., None]
        return (condition["states"].float() * weights).sum(1) / weights.sum(1).clamp(min=1)
