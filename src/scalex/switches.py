"""Switches: edits that take away what latents of a sparse autoencoder add at the probe.

A latent is switched off by taking away what it adds, f_i(x) d_i, and nothing else: what the dictionary does not explain
stays in place. (RecSAE does so in recommenders; Marks et al. 2024, arXiv 2403.19647, for why the error is kept.)
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
import torch
from jaxtyping import Float

from scalex.capture import Edit, Sample
from scalex.discovery.sparse_autoencoder import Origin, SparseAutoencoder
from scalex.errors import ScalexError
from scalex.models import Model
from scalex.steering import MOST

__all__ = ["Ablate", "check_switches", "random_latents"]

Values: TypeAlias = Float[torch.Tensor, "n c h w"]


@dataclass(frozen=True, eq=False)
class Ablate:
    """Switches latents of a sparse autoencoder off at the probe, where it was trained: at each position of the map, in
    each cell of a grid, or in the mean over the map. Where no latent is named, or none is on, the value stays as it is.

    Attributes:
        of: where the autoencoder comes from; its pooling says what it reads. steps: as for `Push`.
        scale: what the latents are multiplied by: 0 switches them off, less than 0 turns them round (SAeUron, Cywiński
            and Deja 2025, arXiv 2501.18052, does so to unlearn), more than 1 makes them stronger.

    Raises:
        ScalexError: there is no such latent, or the scale is no number or beyond 100.
    """

    sae: SparseAutoencoder
    latents: Sequence[int]
    of: Origin = field(default_factory=Origin)
    steps: Collection[int] | None = None
    scale: float = 0.0

    def __post_init__(self) -> None:
        self.sae.check_latents(self.latents)
        if not abs(self.scale) <= MOST:
            raise ScalexError(f"the scale of latents is {self.scale}", f"0 is off; from -{MOST:g} to {MOST:g}")

    def __call__(self, samples: Sequence[Sample]) -> Edit:
        """The edit, the same for all samples."""

        def off(value: Values, step: int) -> Values:
            if not self.latents or self.scale == 1 or (self.steps is not None and step not in self.steps):
                return value
            return (value.float() - (1 - self.scale) * self._added(value)).to(value.dtype)

        return off

    def key(self, sample: Sample) -> str:
        """As `scalex.steering.edit_key`."""
        if not self.latents or self.scale == 1:
            return ""
        steps = None if self.steps is None else sorted(set(self.steps))
        return repr(("ablate", self.sae.digest, sorted(set(self.latents)), self.of.grid, steps, self.scale))

    def _added(self, value: Values) -> Values:
        """What the latents add to a value, as a map of its shape."""
        grid, size = self.of.grid, value.shape[2:]
        if value.shape[1] != self.sae.width:
            wrong = f"the sparse autoencoder is {self.sae.width} wide, and the probe gives {value.shape[1]} channels"
            raise ScalexError(wrong, "Train one at this probe")
        cells = value.float() if grid is None else torch.nn.functional.adaptive_avg_pool2d(value.float(), grid)
        vectors = cells.movedim(1, -1)
        added = self.sae.to(value.device).contribution(vectors, self.latents).movedim(-1, 1)
        return added if grid is None else torch.nn.functional.interpolate(added, size=size, mode="nearest")


def check_switches(sae: SparseAutoencoder, of: Origin, model: Model) -> None:
    """Raises ScalexError where a sparse autoencoder is of another model, probe or width. What is not known fits."""
    for what, own, other in (("model", of.model[:12], model.fingerprint[:12]), ("probe", of.probe, model.probe)):
        if own and other and own != other:
            wrong = f"the sparse autoencoder was trained on another {what} ({own}, not {other})"
            raise ScalexError(wrong, f"Train one on this {what}")
    if sae.width != model.probe_shape[0]:
        wrong = f"the sparse autoencoder is {sae.width} wide, and the probe gives {model.probe_shape[0]} channels"
        raise ScalexError(wrong, "Train one at this probe")


def random_latents(density: Float[np.ndarray, "latents"], chosen: Sequence[int], rng: np.random.Generator) -> list[int]:
    """As many other latents, each drawn among the ten that are on about as often as one that was chosen.

    Raises:
        ScalexError: there are not as many others.
    """
    left = [i for i in range(len(density)) if i not in set(chosen) and density[i] > 0]
    if len(left) < len(chosen):
        raise ScalexError(f"there are {len(left)} other latents for {len(chosen)} chosen ones", "Choose fewer")
    found: list[int] = []
    for one in chosen:
        near = sorted(left, key=lambda other: abs(density[other] - density[one]))[:10]
        found.append(int(rng.choice(near)))
        left.remove(found[-1])
    return found
