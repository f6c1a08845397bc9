"""The network of a sparse autoencoder: what it switches on for a vector, and what each latent adds to it.

    f(x) = S(W_enc (x - b_dec) + b_enc),    x^ = b_dec + f(x) W_dec

S keeps the k greatest of each vector (TopK: Gao et al. 2024, arXiv 2406.04093), or what lies above a threshold that
lets k through on the average (BatchTopK: Bussmann et al. 2024, arXiv 2412.06410), and never what is negative. Rows of
W_dec have length 1, so that an activation is a length at the probe, in the units of latents.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal, TypeAlias, get_args

import torch
from jaxtyping import Float

from scalex.errors import ScalexError

__all__ = ["KINDS", "Kind", "SparseAutoencoder", "batch_top_k", "top_k"]

Kind: TypeAlias = Literal["topk", "batchtopk"]
KINDS: tuple[Kind, ...] = get_args(Kind)


@dataclass(frozen=True, eq=False)
class SparseAutoencoder:
    """A trained sparse autoencoder, in the units of the vectors that it was trained on.

    Attributes:
        encoder, encoder_bias, decoder, bias: W_enc, b_enc, W_dec and b_dec (the pre-bias, too), in float32.
        kind: of sparsity. k: latents that are on, of each vector or on the average.
        threshold: of "batchtopk": what lies above it is on. 0 for "topk".
        prefixes: of a matryoshka dictionary: how many first latents make a dictionary of their own; ends with all.
    """

    encoder: Float[torch.Tensor, "width latents"]
    encoder_bias: Float[torch.Tensor, "latents"]
    decoder: Float[torch.Tensor, "latents width"]
    bias: Float[torch.Tensor, "width"]
    kind: Kind
    k: int
    threshold: float = 0.0
    prefixes: tuple[int, ...] = ()

    @property
    def width(self) -> int:
        """Of the vectors."""
        return int(self.encoder.shape[0])

    @property
    def latents(self) -> int:
        """How many there are."""
        return int(self.encoder.shape[1])

    @cached_property
    def digest(self) -> str:
        """32 hexadecimal digits that name what it does to a vector."""
        parts = (self.encoder, self.encoder_bias, self.decoder, self.bias)
        told = hashlib.sha256(repr((self.kind, self.k, self.threshold)).encode())
        for part in parts:
            told.update(part.detach().float().cpu().contiguous().numpy().tobytes())
        return told.hexdigest()[:32]

    def encode(self, x: Float[torch.Tensor, "*n width"]) -> Float[torch.Tensor, "*n latents"]:
        """The activation of each latent: 0 where it is off."""
        before = (x - self.bias) @ self.encoder + self.encoder_bias
        if self.kind == "topk":
            return top_k(before, self.k)
        return torch.where(before > self.threshold, before, 0.0).relu()

    def decode(self, activations: Float[torch.Tensor, "*n latents"]) -> Float[torch.Tensor, "*n width"]:
        """What activations stand for."""
        return activations @ self.decoder + self.bias

    def contribution(
        self, x: Float[torch.Tensor, "*n width"], latents: Sequence[int]
    ) -> Float[torch.Tensor, "*n width"]:
        """What these latents add to a vector: the sum of their activations times their rows of the decoder.

        Raises:
            ScalexError: there is no such latent.
        """
        chosen = self.check_latents(latents)
        return self.encode(x)[..., chosen] @ self.decoder[chosen]

    def check_latents(self, latents: Sequence[int]) -> list[int]:
        """These latents, each once.

        Raises:
            ScalexError: there is no such latent.
        """
        for one in latents:
            if not 0 <= one < self.latents:
                raise ScalexError(f"there is no latent {one}", f"They are numbered 0..{self.latents - 1}")
        return list(dict.fromkeys(latents))

    def to(self, device: torch.device | str) -> SparseAutoencoder:
        """The same on a device."""
        parts = {name: getattr(self, name).to(device) for name in ("encoder", "encoder_bias", "decoder", "bias")}
        return replace(self, **parts)


def top_k(before: Float[torch.Tensor, "*n latents"], k: int) -> Float[torch.Tensor, "*n latents"]:
    """The k greatest of each row, of them those above 0; else 0."""
    kept = before.topk(min(k, before.shape[-1]), dim=-1)
    return torch.zeros_like(before).scatter(-1, kept.indices, kept.values.relu())


def batch_top_k(before: Float[torch.Tensor, "n latents"], k: int) -> Float[torch.Tensor, "n latents"]:
    """The n * k greatest of a whole batch, of them those above 0; else 0."""
    flat = before.flatten()
    kept = flat.topk(min(k * len(before), len(flat)))
    return torch.zeros_like(flat).scatter(0, kept.indices, kept.values.relu()).reshape(before.shape)
