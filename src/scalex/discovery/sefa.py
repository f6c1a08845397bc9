"""Closed-form factorisation of the weights that read the probe (SeFa, Shen and Zhou 2021, arXiv 2007.06600).

A direction n moves a layer of weights A by A n, whatever the sample. Those that move it most are the eigenvectors of
A^T A of the greatest eigenvalues: no sample is drawn and nothing is trained. SeFa takes the first layer that reads a
GAN's latent code. Here it is the first layers that read the probe's value: in a U-Net those of the next block's first
ResNet (of the channels that come from the probe alone, and not over a skip connection), in a transformer the next
block's queries, keys, values and first layer of the MLP.

What is approximate: a norm stands before these layers. That it takes the mean out (over a group of channels, or over
all) and its own weights are counted in; that it divides by a standard deviation, what a timestep adds to it, and the
nonlinearity behind it depend on the sample, and are left out. Each layer counts alike: its matrix has Frobenius norm 1.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from jaxtyping import Float

from scalex.discovery import Found, Material, check_count
from scalex.discovery._titles import oriented
from scalex.errors import ScalexError
from scalex.models import Model

__all__ = ["NAME", "SHARE", "discover", "readers"]

NAME = "sefa"
SHARE = "what the layers that read the probe give, over directions of length 1"
_BLOCK = ("attn1", "attn")  # of a transformer's block, and there queries, keys and values
_MLP = ("ff.net.0.proj", "ff.conv_inverted", "proj_mlp")


def discover(seen: Material, n: int, rng: np.random.Generator) -> list[Found]:
    """The first n directions, of channels: the same at every step. Nothing is drawn or captured.

    Raises:
        ScalexError: there are fewer, or it is not known what reads the probe.
    """
    channels = seen.model.probe_shape[0]
    check_count(n, channels, f"channels at {seen.model.probe}")
    matrices = [matrix / np.linalg.norm(matrix) for matrix in readers(seen.model).values()]
    _, lengths, axes = np.linalg.svd(np.concatenate(matrices), full_matrices=False)
    shares = lengths**2 / (lengths**2).sum()
    check_count(n, len(axes), "directions that those layers read")
    step = seen.recipe().keep[-1]
    return [
        Found(seen.direction(axis, f"{NAME} {i}", NAME, step, "mean"), float(share))
        for i, (axis, share) in enumerate(zip(oriented(axes[:n]), shares), start=1)
    ]


def readers(model: Model) -> dict[str, Float[np.ndarray, "outputs channels"]]:
    """The first layers that read the probe, by name: what each gives of a value that is the same all over the map.

    Raises:
        ScalexError: it is not known what reads the probe.
    """
    probes, denoiser = model.probes(), model.denoiser()
    place = probes.index(model.probe) + 1
    following = probes[place] if place < len(probes) else ""
    block = denoiser.get_submodule(following) if following else denoiser
    found = {".".join(filter(None, (following, name))): a for name, a in _of(block, model.probe_shape[0])}
    if not found:
        wrong = f"it is not known which layers read the probe {model.probe} of a {type(denoiser).__name__}"
        raise ScalexError(wrong, "Take another method, such as pca or jacobian")
    return found


def _of(block: torch.nn.Module, channels: int) -> Iterator[tuple[str, Float[np.ndarray, "outputs channels"]]]:
    """The layers of a block, or of what follows the last one."""
    if hasattr(block, "resnets"):
        yield from _resnet(block.resnets[0], channels)
    elif hasattr(block, "conv_norm_out"):
        yield "conv_out", _matrix(block.conv_out) @ _normed(block.conv_norm_out, block.conv_out.in_channels)
    elif hasattr(block, "transformer_blocks"):  # the whole denoiser
        yield from _linear(block, ["proj_out"], channels)
    else:
        names = [f"{attention}.to_{part}" for attention in _BLOCK for part in "qkv"]
        yield from _linear(block, [*names, *_MLP], channels)


def _resnet(resnet: Any, channels: int) -> Iterator[tuple[str, Float[np.ndarray, "outputs channels"]]]:
    """Of channels that are joined, the probe's come first."""
    normed = _normed(resnet.norm1, resnet.conv1.in_channels)
    yield "resnets.0.conv1", (_matrix(resnet.conv1) @ normed)[:, :channels]
    if resnet.conv_shortcut is not None:
        yield "resnets.0.conv_shortcut", _matrix(resnet.conv_shortcut)[:, :channels]


def _linear(block: Any, names: list[str], channels: int) -> Iterator[tuple[str, Float[np.ndarray, "outputs channels"]]]:
    """Linear layers behind a norm over all channels, whose weights (where it has any) come from the timestep."""
    known = dict(block.named_modules())
    centring = np.eye(channels) - 1 / channels
    for name in names:
        if name in known and _matrix(known[name]).shape[1] == channels:
            yield name, _matrix(known[name]) @ centring


def _matrix(layer: Any) -> Float[np.ndarray, "outputs inputs"]:
    """A layer's weights; a convolution's summed over its window, as a value that is the same all over the map meets
    them away from the edge."""
    weight = layer.weight.detach().float().cpu().numpy().astype(np.float64)
    return np.asarray(weight.reshape(*weight.shape[:2], -1).sum(-1))


def _normed(norm: Any, channels: int) -> Float[np.ndarray, "channels channels"]:
    """What a norm over groups of channels makes of a change, but for its division by the standard deviation."""
    group = channels // norm.num_groups
    centring = np.kron(np.eye(norm.num_groups), np.eye(group) - 1 / group)
    return np.asarray(norm.weight.detach().float().cpu().numpy().astype(np.float64)[:, None] * centring)
