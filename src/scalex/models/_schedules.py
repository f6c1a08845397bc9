"""Noise schedules of both kinds, variance-preserving diffusion and flow matching: what a time means, and what x0 is."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from jaxtyping import Float

__all__ = ["clean_latent", "dynamic_shift", "flows", "mixture", "timesteps"]


def flows(scheduler: Any) -> bool:
    """Whether x_t = (1 - sigma) x0 + sigma noise, and the denoiser predicts noise - x0 (Lipman et al. 2023; Esser et
    al. 2024)."""
    config = scheduler.config
    flow = config.get("use_flow_sigmas") or config.get("prediction_type") == "flow_prediction"
    return bool(flow) or type(scheduler).__name__.startswith("FlowMatch")


def timesteps(scheduler: Any) -> int:
    """How many timesteps the model was trained with."""
    return int(scheduler.config.num_train_timesteps)


def mixture(scheduler: Any, at: Any) -> tuple[float, float]:
    """The weights of the clean latent and of the noise at a timestep; some samplers stop between those of training."""
    if flows(scheduler):
        sigma = float(at) / timesteps(scheduler)
        return 1 - sigma, sigma
    kept = float(np.interp(float(at), np.arange(len(scheduler.alphas_cumprod)), scheduler.alphas_cumprod.numpy()))
    return kept**0.5, (1 - kept) ** 0.5


def clean_latent(
    scheduler: Any,
    made: Any,
    prediction: Float[torch.Tensor, "n c h w"],
    noisy: Float[torch.Tensor, "n c h w"],
    at: Any,
) -> Float[torch.Tensor, "n c h w"]:
    """The predicted clean latent: the scheduler's own where it tells (LCM's boundary condition, clipping), else x0 from
    the prediction's type (Ho et al. 2020; Salimans and Ho 2022 for v; Lipman et al. 2023 for flows).

    Args:
        made: what the scheduler's step gave. noisy: what the denoiser saw at the timestep `at`.
    """
    for name in ("denoised", "pred_original_sample"):
        if getattr(made, name, None) is not None:
            return getattr(made, name)
    signal, noise = mixture(scheduler, at)
    if flows(scheduler):
        return noisy - noise * prediction
    if scheduler.config.prediction_type == "epsilon":
        return (noisy - noise * prediction) / signal
    if scheduler.config.prediction_type == "v_prediction":
        return signal * noisy - noise * prediction
    return prediction


def dynamic_shift(scheduler: Any, tokens: int, most: float) -> dict[str, float]:
    """What `set_timesteps` takes beside the steps: a shift that grows with the number of image tokens, where the
    schedule asks for it; as diffusers' `calculate_shift`.

    Args:
        most: the shift at the largest size, where the configuration names none.
    """
    config = scheduler.config
    if not config.get("use_dynamic_shifting"):
        return {}
    least, largest = config.get("base_image_seq_len", 256), config.get("max_image_seq_len", 4096)
    low, high = config.get("base_shift", 0.5), config.get("max_shift", most)
    return {"mu": low + (high - low) * (tokens - least) / (largest - least)}
