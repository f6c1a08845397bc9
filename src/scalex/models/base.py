"""The one convention that every family of models is brought to. Nothing downstream knows where a model came from."""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, final, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, UInt8

from scalex.errors import ScalexError
from scalex.models._files import public

__all__ = ["PRECISIONS", "Condition", "Family", "Lively", "Model", "Options", "Source", "choose_device", "choose_dtype"]

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True, eq=False)
class Condition:
    """What a denoiser takes of some texts: tensors by name, each (n, ...)."""

    parts: Mapping[str, torch.Tensor]

    def __len__(self) -> int:
        return len(next(iter(self.parts.values())))

    def __getitem__(self, name: str) -> torch.Tensor:
        return self.parts[name]

    def rows(self) -> list[Condition]:
        """That of each text alone."""
        return [Condition({name: part[i : i + 1] for name, part in self.parts.items()}) for i in range(len(self))]

    def expand(self, n: int) -> Condition:
        """That of one text, n times, without a copy."""
        return Condition({name: part.expand(n, *part.shape[1:]) for name, part in self.parts.items()})

    @classmethod
    def join(cls, several: Sequence[Condition]) -> Condition:
        """Those of several, one after the other."""
        return cls({name: torch.cat([one[name] for one in several]) for name in several[0].parts})


class Model(ABC):
    """A text-to-image diffusion model whose denoiser can be read at its probe.

    Attributes:
        family: the name of the family that loaded it.
        fingerprint: sha256 of the content of weights and configurations (the sampler's aside: see `sampler`).
        device, dtype: where and in what precision the denoiser and the text encoder run.
        latent_shape: (channels, height, width) of the noise and of the clean latent.
        probe: the name of the probed module. probe_shape: (channels, height, width) of its output.
        default_guidance, default_steps: as the model recommends in its `scalex.json`, else by its kind.
        source: how it was loaded.
        embeds_guidance: the denoiser takes the guidance as an input (guided distillation): one forward is enough.
    """

    family: str
    fingerprint: str
    device: torch.device
    dtype: torch.dtype
    latent_shape: tuple[int, int, int]
    probe: str
    probe_shape: tuple[int, int, int]
    default_guidance: float
    default_steps: int
    embeds_guidance: bool
    source: Source

    def __repr__(self) -> str:
        """The family, the weights, where it is read and where it runs."""
        return f"<{self.family} model {self.fingerprint[:12]}, read at {self.probe}, {self.precision} on {self.device}>"

    @abstractmethod
    def new_scheduler(self) -> Any:
        """A fresh `diffusers` scheduler, of the diffusion kind or for flow matching."""

    def timed_scheduler(self, steps: int) -> Any:
        """A fresh scheduler that is set to so many steps, as the model's pipeline sets it.

        Timesteps stay on the CPU: schedulers look them up, which would wait for the device at every step.

        Raises:
            ValueError: the sampler can't make so many steps.
        """
        scheduler = self.new_scheduler()
        scheduler.set_timesteps(steps)
        return scheduler

    @abstractmethod
    def encode(self, texts: Sequence[str], truncate: bool = False) -> Condition:
        """The condition of texts.

        Raises:
            ScalexError: a text is longer than the model takes, and `truncate` is off.
        """

    def empty(self) -> Condition:
        """The condition of no text, as guidance and the picture reading take it."""
        return self.encode([""])

    @abstractmethod
    def embed(self, texts: Sequence[str], truncate: bool = False) -> Float[torch.Tensor, "n dim"]:
        """The text encoder's pooled embedding of each text: what the words say before any denoising.

        Raises:
            ScalexError: as `encode`.
        """

    @abstractmethod
    def check_texts(self, texts: Sequence[str], truncate: bool = False) -> None:
        """Raises what `encode` would raise of these texts, without encoding them."""

    @abstractmethod
    def unknown_words(self, texts: Sequence[str]) -> dict[str, list[str]]:
        """The words that the tokenizer does not know, each with the pieces it breaks it into."""

    @abstractmethod
    def predict(
        self,
        noisy: Float[torch.Tensor, "n c h w"],
        timestep: torch.Tensor | float | int,
        condition: Condition,
        guidance: float = 1.0,
    ) -> Float[torch.Tensor, "n c h w"]:
        """The denoiser's raw output. `guidance` matters only where the denoiser takes it as an input."""

    @abstractmethod
    def probes(self) -> tuple[str, ...]:
        """The names of the modules that can be probed, in the order in which the forward comes to them."""

    @abstractmethod
    def at(self, probe: str) -> Model:
        """The same model, with the same weights in memory, read at another of its probes.

        Raises:
            ScalexError: there is no such probe.
        """

    @abstractmethod
    def submodule(self, probe: str) -> torch.nn.Module:
        """The module of one of `probes`."""

    @abstractmethod
    def denoiser(self) -> torch.nn.Module:
        """The network whose forwards make the steps."""

    @final
    def probe_module(self) -> torch.nn.Module:
        """The module whose output is read and steered."""
        return self.submodule(self.probe)

    def read_probe(self, output: Any) -> Float[torch.Tensor, "n c h w"]:
        """The probe's value, as a map over the picture, from what its module gives."""
        return output

    def write_probe(self, output: Any, value: Float[torch.Tensor, "n c h w"]) -> Any:
        """What the probe's module would give with this value in place of its own."""
        return value

    @abstractmethod
    def decode(self, latents: Float[torch.Tensor, "n c h w"]) -> UInt8[np.ndarray, "n height width 3"]:
        """Pictures of clean latents."""

    @abstractmethod
    def encode_images(self, pictures: UInt8[np.ndarray, "n height width 3"]) -> Float[torch.Tensor, "n c h w"]:
        """Clean latents of pictures: the mode of the autoencoder's posterior."""

    @abstractmethod
    def flops(self) -> dict[str, int]:
        """Floating-point operations per sample: `full` and `stopped` forward, `decode`, and `encode` per text."""

    @abstractmethod
    def weights(self) -> dict[str, int]:
        """Bytes of the weights behind each of these, in the model's precision."""

    def make_ready(self, whole: bool) -> None:  # noqa: B027  # most models are always ready
        """Said before forwards: whether any of them is whole, or all stop at the probe."""

    @final
    @property
    def precision(self) -> str:
        """The dtype by its short name."""
        return next(name for name, dtype in PRECISIONS.items() if dtype == self.dtype)

    @final
    @property
    def sampler(self) -> str:
        """The scheduler's class and a digest of its configuration."""
        scheduler = self.new_scheduler()
        config = json.dumps(public(dict(scheduler.config)), sort_keys=True, default=str)
        return f"{type(scheduler).__name__}-{hashlib.sha256(config.encode()).hexdigest()[:12]}"


@dataclass(frozen=True)
class Source:
    """How a model was loaded: what another process needs to load the same. Arguments of `scalex.models.load_model`."""

    path_or_id: str
    unet: str | None
    lora: str | None
    scheduler: str | None
    dtype: str
    size: int | None
    probe: str | None
    compile: bool
    offload: bool | None


@dataclass(frozen=True)
class Options:
    """How to load a model: other parts for it (`unet`: another denoiser), where it runs, the pictures' size in pixels,
    the module to probe, whether its denoiser is compiled, and whether weights stay in the CPU's memory and are streamed
    to the device (None: where they do not fit there)."""

    device: torch.device
    dtype: torch.dtype
    unet: str | None = None
    lora: str | None = None
    scheduler: str | None = None
    size: int | None = None
    probe: str | None = None
    compile: bool = False
    offload: bool | None = None


@runtime_checkable
class Family(Protocol):
    """What a module of this folder (or an entry point of the group `scalex.families`) offers."""

    NAME: str
    PIPELINES: tuple[str, ...]

    def load(self, folder: Path, options: Options) -> Model:
        """The model in a folder of diffusers' form whose pipeline class is one of `PIPELINES`."""


@runtime_checkable
class Lively(Protocol):
    """What a family offers beside, where it can also be made around a pipeline that is loaded already."""

    def around(self, pipe: Any, probe: str | None, fingerprint: bool) -> Model:
        """The model that a pipeline holds; nothing of it is changed. As `scalex.models.around`."""


def choose_device(device: str | torch.device | None) -> torch.device:
    """The named device, or the best there is.

    Raises:
        ScalexError: there is no such device.
    """
    if device is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(device)
        torch.empty(1, device=chosen)
    except (RuntimeError, AssertionError, NotImplementedError):
        raise ScalexError(f"there is no device {device!s} here", "Leave the device out, or name cpu") from None
    return chosen


def choose_dtype(dtype: str | torch.dtype | None, device: torch.device) -> torch.dtype:
    """The named precision, or the usual one of the device: fp16 on CUDA, fp32 elsewhere.

    Raises:
        ScalexError: an unknown precision, or one that the device has no arithmetic for.
    """
    if dtype is None:
        return torch.float16 if device.type == "cuda" else torch.float32
    chosen = PRECISIONS.get(dtype) if isinstance(dtype, str) else dtype
    if chosen not in PRECISIONS.values():
        raise ScalexError(f"unknown precision {dtype!s}", f"Choose one of {', '.join(PRECISIONS)}")
    if chosen == torch.float16 and device.type == "cpu":
        raise ScalexError("fp16 has no fast arithmetic on a CPU", "Use precision fp32 or bf16, or a GPU")
    emulated = device.type == "cuda" and not torch.cuda.is_bf16_supported(including_emulation=False)
    if chosen == torch.bfloat16 and emulated:
        raise ScalexError("this GPU has no bf16 arithmetic", "Use precision fp16 or fp32")
    return chosen
