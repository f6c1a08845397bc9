"""The one hook at the probe, and trajectories from noise to pictures that are read there and can stop there."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, TypeAlias

import torch
from jaxtyping import Float, Float32

from scalex.models import Condition, Model, clean_latent, mixture
from scalex.plan import Steps

__all__ = ["Edit", "Everywhere", "Forward", "Probe", "Reader", "Walk", "look", "looking", "start_noise"]

_READING_NOISE = 1  # the stream of the noise that the picture reading adds; stream 0 is the trajectory's own


def _generator(seed: int, stream: int = 0) -> torch.Generator:
    if stream:
        seed = int.from_bytes(hashlib.sha256(f"{seed}/{stream}".encode()).digest()[:8], "big") >> 1
    return torch.Generator("cpu").manual_seed(seed)


def _draw(generator: torch.Generator, shape: Sequence[int]) -> Float32[torch.Tensor, "..."]:
    return torch.randn(tuple(shape), generator=generator, dtype=torch.float32)


def start_noise(seed: int, shape: Sequence[int], stream: int = 0) -> Float32[torch.Tensor, "..."]:
    """Gaussian noise of this shape on the CPU, which depends on seed, shape and stream alone.

    Stream 0 starts a trajectory, and a stochastic sampler's steps go on with the same generator, so that in fp32 a seed
    names the picture that `pipeline(text, generator=torch.Generator().manual_seed(seed))` gives in diffusers.
    """
    return _draw(_generator(seed, stream), shape)


def _sent(noise: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Noise on the device, without waiting for what the device is doing."""
    return noise.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else noise.to(device)


Forward: TypeAlias = Callable[[], torch.Tensor]
"""One call of the denoiser, made ready: gives its raw output."""


class _Stopped(Exception):
    """Ends a forward at the probe."""


Edit: TypeAlias = Callable[[Float[torch.Tensor, "n c h w"], int], Float[torch.Tensor, "n c h w"]]
"""Takes the probe's value and the denoising step, from 0; gives the value that the forward goes on with."""


class Probe:
    """The one hook at a model's probe: reads its value once a forward, edits it, and stops the forward there.

    It is on between `with` and its end, whatever happens there. `edit`, where given, is asked in every forward that is
    said to be at a step, and what it gives is what is read. `full` and `stopped` count samples.

    Raises:
        RuntimeError: in a forward the probe did not fire exactly once, or not with what the model says it gives.
    """

    def __init__(self, model: Model, edit: Edit | None = None) -> None:
        self.model, self._module, self._shape = model, model.probe_module(), model.probe_shape
        self._name = f"{model.probe} ({type(self._module).__name__})"
        self.edit = edit
        self._stop = False
        self._at: int | None = None
        self._seen: list[Any] = []
        self.full = self.stopped = 0

    def __enter__(self) -> Probe:
        self._handle = self._module.register_forward_hook(self._hook)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._handle.remove()

    def _hook(self, module: torch.nn.Module, inputs: Any, output: Any) -> Any:
        value = self.model.read_probe(output)
        if self.edit is not None and self._at is not None:
            value = self.edit(value, self._at)
            output = self.model.write_probe(output, value)
        self._seen.append(value)
        if self._stop:
            raise _Stopped
        return output

    def begin(self, at: int | None) -> None:
        """Says to what denoising step the forwards that follow belong, where somebody else runs them."""
        self._seen, self._stop, self._at = [], False, at

    def read(
        self, forward: Callable[[], torch.Tensor], at: int | None = None
    ) -> tuple[torch.Tensor, Float[torch.Tensor, "n c h w"]]:
        """Runs a whole forward; returns what it gives, and the probe's value.

        Args:
            at: the denoising step that it belongs to. None for one that belongs to none, and is never edited.
        """
        self.begin(at)
        output = forward()
        value = self._value()
        self.full += len(value)
        return output, value

    def stop(self, forward: Callable[[], torch.Tensor], at: int | None = None) -> Float[torch.Tensor, "n c h w"]:
        """Runs a forward as far as the probe and returns the probe's value. `at` as for `read`."""
        self._seen, self._stop, self._at = [], True, at
        try:
            forward()
        except _Stopped:
            value = self._value()
            self.stopped += len(value)
            return value
        raise RuntimeError(f"the forward did not stop at the probe {self._name}: {len(self._seen)} firings of its hook")

    def _value(self) -> torch.Tensor:
        if len(self._seen) != 1:
            raise RuntimeError(
                f"the hook at the probe {self._name} fired {len(self._seen)} times, not once, in a forward"
            )
        value = self._seen.pop()
        shape = tuple(getattr(value, "shape", ()))
        if shape[1:] != self._shape:
            raise RuntimeError(f"the probe {self._name} gave a value of shape {shape}, not (n, *{self._shape})")
        return value


class Everywhere:
    """In a probe's place: reads all that a model can be probed at, in one whole forward.

    A value is the means over each probe's map, side by side: (n, widths summed, 1, 1). `widths` has them by name, once
    a forward has been read. Nothing stops; `full` counts samples.
    """

    def __init__(self, model: Model) -> None:
        self._model, self._names = model, model.probes()
        self._seen: dict[str, torch.Tensor] = {}
        self.widths: dict[str, int] = {}
        self.full = self.stopped = 0

    def __enter__(self) -> Everywhere:
        modules = [self._model.submodule(name) for name in self._names]
        self._handles = [m.register_forward_hook(self._keeping(n)) for n, m in zip(self._names, modules)]
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for handle in self._handles:
            handle.remove()

    def _keeping(self, name: str) -> Callable[[torch.nn.Module, Any, Any], None]:
        def keep(module: torch.nn.Module, inputs: Any, output: Any) -> None:
            self._seen[name] = self._model.read_probe(output).float().mean((2, 3))

        return keep

    def read(
        self, forward: Callable[[], torch.Tensor], at: int | None = None
    ) -> tuple[torch.Tensor, Float[torch.Tensor, "n c 1 1"]]:
        """Runs a whole forward; returns what it gives, and all values."""
        self._seen = {}
        output = forward()
        found = [self._seen[name] for name in self._names]
        self.widths = {name: one.shape[1] for name, one in zip(self._names, found)}
        self.full += len(output)
        return output, torch.cat(found, dim=1)[..., None, None]

    def stop(self, forward: Callable[[], torch.Tensor], at: int | None = None) -> Float[torch.Tensor, "n c 1 1"]:
        """All values of a forward, which does not stop."""
        return self.read(forward)[1]


Reader: TypeAlias = Probe | Everywhere
"""What reads a forward."""


class Walk:
    """A batch of samples on their way from noise to pictures, in fp32 between the denoiser's calls."""

    def __init__(
        self,
        model: Model,
        probe: Reader,
        steps: Steps,
        seeds: Sequence[int],
        condition: Condition,
        empty: Condition | None,
    ) -> None:
        self._model, self._probe, self._steps, self._seeds = model, probe, steps, seeds
        self._condition, self._empty = condition, empty
        self._generators = [_generator(seed) for seed in seeds]
        self._scheduler = model.timed_scheduler(steps.asked)
        takes_noise = "generator" in inspect.signature(self._scheduler.step).parameters
        self._noise = {"generator": self._generators} if takes_noise else {}
        noise = torch.stack([_draw(g, (1, *model.latent_shape))[0] for g in self._generators])
        self.latents = _sent(noise, model.device) * getattr(self._scheduler, "init_noise_sigma", 1.0)
        self._index = 0

    def _input(self) -> tuple[torch.Tensor, torch.Tensor]:
        """What the denoiser sees at the present step, and the step's time."""
        at = self._scheduler.timesteps[self._index]
        scaled = getattr(self._scheduler, "scale_model_input", None)  # flow matching scales nothing
        return self.latents if scaled is None else scaled(self.latents, at), at

    def _forward(self, noisy: torch.Tensor, at: Any, condition: Condition) -> Forward:
        return lambda: self._model.predict(noisy, at, condition, self._steps.guidance)

    def forward(self) -> Forward:
        """The forward that the text reading of the present step is read in."""
        return self._forward(*self._input(), self._condition)

    def stop(self) -> torch.Tensor:
        """The text reading of the present step; the step itself is not made."""
        return self._probe.stop(self.forward(), self._index)

    def advance(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Makes one step. Returns the probe's value with the prompt, and the predicted clean latent."""
        noisy, at = self._input()
        if self._steps.doubled:
            assert self._empty is not None  # a doubled plan comes with one
            both = Condition.join([self._empty.expand(len(noisy)), self._condition])
            output, value = self._probe.read(self._forward(torch.cat([noisy, noisy]), at, both), self._index)
            without, prompted = output.float().chunk(2)
            prediction, value = without + self._steps.guidance * (prompted - without), value[len(noisy) :]
        else:
            output, value = self._probe.read(self._forward(noisy, at, self._condition), self._index)
            prediction = output.float()
        made = self._scheduler.step(prediction, at, self.latents, **self._noise)
        self.latents = made.prev_sample
        self._index += 1
        return value, clean_latent(self._scheduler, made, prediction, noisy, at)

    def looking(self, clean: torch.Tensor) -> Forward:
        """The forward that the picture reading of a clean latent is read in."""
        assert self._empty is not None  # a plan that reads pictures comes with one
        return looking(self._model, self._steps, self._scheduler, self._empty, clean, self._seeds)

    def look(self, clean: torch.Tensor) -> torch.Tensor:
        """The picture reading of a clean latent."""
        return self._probe.stop(self.looking(clean))


def look(
    model: Model,
    probe: Reader,
    steps: Steps,
    schedule: Any,
    empty: Condition,
    clean: Float[torch.Tensor, "n c h w"],
    seeds: Sequence[int],
) -> Float[torch.Tensor, "n _ _ _"]:
    """The picture reading of clean latents, wherever they come from: the probe's value in a stopped forward.

    Args:
        schedule: a scheduler of the model. empty: the condition of no text.
    """
    return probe.stop(looking(model, steps, schedule, empty, clean, seeds))


def looking(
    model: Model,
    steps: Steps,
    schedule: Any,
    empty: Condition,
    clean: Float[torch.Tensor, "n c h w"],
    seeds: Sequence[int],
) -> Forward:
    """The forward of `look`: each latent is noised to `steps.level` with the reading noise of its seed, which is the
    same for all pictures."""
    noise = torch.stack([start_noise(seed, model.latent_shape, _READING_NOISE) for seed in seeds])
    signal, share = mixture(schedule, steps.level)
    noisy = signal * clean + share * _sent(noise, clean.device)
    condition, at = empty.expand(len(clean)), torch.tensor(steps.level)
    return lambda: model.predict(noisy, at, condition, steps.guidance)
