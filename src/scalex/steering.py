"""Directions to edits: what is added to, or taken from, the probe's value while pictures are made.

An *edit* takes the probe's value at a denoising step and gives the one that the forward goes on with. A *steer* gives
the edit of a batch of samples; whatever generates or captures takes one. `Push` adds multiples of a direction, `Erase`
takes a direction out, `together` joins several. `steer` puts them into a pipeline of diffusers.

Alpha counts in the direction's own length. That of an attribute is the mean difference between its variants, so alpha
1 goes from the first to the second (SCALEX, arXiv 2511.13750, and Haas et al. 2023, arXiv 2303.11073, steer so).
"""

from __future__ import annotations

import hashlib
import inspect
import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeAlias, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float

from scalex.capture import Edit, Probe, Sample, Steer
from scalex.direction_files import Direction, load_direction
from scalex.errors import ScalexError
from scalex.models import Model, around

__all__ = [
    "MOST",
    "Alpha",
    "Erase",
    "Push",
    "check_alphas",
    "check_steers",
    "edit_key",
    "shuffled_channels",
    "spread",
    "steer",
    "together",
]

MOST = 100.0
"""The greatest alpha, either way: far beyond what leaves a picture."""

Alpha: TypeAlias = int | float | Sequence[int | float] | Mapping[Sample, int | float]
"""One for all; or one for each image of a batch; or by sample."""

Values: TypeAlias = Float[torch.Tensor, "n c h w"]


@dataclass(frozen=True, eq=False)
class Push:
    """Adds alpha times a direction at the probe.

    Attributes:
        direction: flat, of the probe's width. alpha: in multiples of it: one for all, one for each image of the batch,
            or one by sample, 0 for those that are not named.
        steps: at which denoising steps, from 0; None for all. In a pipeline that begins midway, from where it begins.
        keep_norm: whether each sample's value keeps the length that it had (as Park et al. 2023, arXiv 2307.12868).

    Raises:
        ScalexError: an alpha is no number, or beyond `MOST`.
    """

    direction: Direction
    alpha: Alpha = 1.0
    steps: Collection[int] | None = None
    keep_norm: bool = False

    def __post_init__(self) -> None:
        check_alphas(self.alpha)

    def __call__(self, samples: Sequence[Sample]) -> Edit:
        """The edit of these samples. Where alpha is one for all, or by place, they need not be known."""
        return _at(self.steps, _Added(self.direction, _alphas(self.alpha, samples), self.keep_norm))

    def key(self, sample: Sample) -> str | None:
        """As `edit_key`; None where alphas go by place."""
        if not isinstance(self.alpha, int | float | Mapping):
            return None
        (alpha,) = _alphas(self.alpha, [sample])
        told = ("push", self.direction.digest, alpha, _told(self.steps), self.keep_norm)
        return repr(told) if alpha or self.keep_norm else ""


@dataclass(frozen=True, eq=False)
class Erase:
    """Takes a direction out at the probe: what every value has of it becomes that of `centre`.

    Attributes:
        direction: flat, of the probe's width; its length does not matter.
        centre: flat as the direction; the middle between its variants makes the value speak for neither. None is zero.
        steps: as for `Push`.
    """

    direction: Direction
    centre: Float[np.ndarray, "width"] | None = None
    steps: Collection[int] | None = None

    def __call__(self, samples: Sequence[Sample]) -> Edit:
        """The edit, the same for all samples."""
        vector = self.direction.vector.astype(np.float64)
        square = float(vector @ vector)
        at = 0.0 if self.centre is None else float(self.centre @ vector)

        def erased(value: Values, step: int) -> Values:
            own = pooled(value, self.direction) @ torch.as_tensor(vector, dtype=torch.float32, device=value.device)
            return _Added(self.direction, ((at - own) / max(square, 1e-30)).tolist(), False)(value, step)

        return _at(self.steps, erased)

    def key(self, sample: Sample) -> str:
        """As `edit_key`."""
        centre = b"" if self.centre is None else np.ascontiguousarray(self.centre, "<f8").tobytes()
        return repr(("erase", self.direction.digest, hashlib.sha256(centre).hexdigest()[:32], _told(self.steps)))


def together(*steers: Steer) -> Steer:
    """Several at once: each edit is given what the one before it gives.

    Args:
        steers: what is done, in this order: `Push`, `Erase`, or what others make.
    """
    return _Together(steers)


@dataclass(frozen=True, eq=False)
class _Together:
    steers: tuple[Steer, ...]

    def __call__(self, samples: Sequence[Sample]) -> Edit:
        edits = [steer(samples) for steer in self.steers]

        def edit(value: Values, step: int) -> Values:
            for one in edits:
                value = one(value, step)
            return value

        return edit

    def key(self, sample: Sample) -> str | None:
        keys = [edit_key(steer, sample) for steer in self.steers]
        return None if None in keys else "+".join(key for key in keys if key)


@runtime_checkable
class _Keyed(Protocol):
    def key(self, sample: Sample) -> str | None: ...


def edit_key(steer: Steer | None, sample: Sample) -> str | None:
    """All that determines the edit of a sample, in words; "" where it leaves a value as it is, None where it does not
    say: what is drawn under an edit of one's own that has no method `key` is not kept."""
    if steer is None:
        return ""
    return steer.key(sample) if isinstance(steer, _Keyed) else None


def _told(steps: Collection[int] | None) -> list[int] | None:
    return None if steps is None else sorted(set(steps))


def _at(steps: Collection[int] | None, edit: Edit) -> Edit:
    """The edit, at these steps alone."""
    if steps is None:
        return edit
    return lambda value, step: edit(value, step) if step in steps else value


# ---------------------------------------------------------------------------------------------------- adding


class _Added:
    """Adds alpha times a direction; leaves a value to the last bit where every alpha is 0."""

    def __init__(self, direction: Direction, alphas: Sequence[float], keep_norm: bool) -> None:
        self._direction, self._alphas, self._keep_norm = direction, tuple(alphas), keep_norm
        self._moved: dict[Any, torch.Tensor] = {}  # by shape and device: alphas times the direction

    def __call__(self, value: Values, step: int) -> Values:
        if not any(self._alphas):
            return value
        found = value.float() + self._delta(value)
        if self._keep_norm:
            lengths = [x.flatten(1).norm(dim=1).clamp(min=1e-12)[:, None, None, None] for x in (value.float(), found)]
            found = found * (lengths[0] / lengths[1])
        return found.to(value.dtype)

    def _delta(self, value: Values) -> Values:
        key = (tuple(value.shape), value.device)
        if key not in self._moved:
            n, repeats = len(value), len(value) // len(self._alphas)
            if repeats * len(self._alphas) != n:
                wrong = f"there are {len(self._alphas)} alphas for a batch of {n} images"
                raise ScalexError(wrong, "Give one alpha, or one for each image in the order of the pipeline's batch")
            alphas = torch.tensor(self._alphas * repeats, dtype=torch.float32, device=value.device)
            self._moved[key] = alphas[:, None, None, None] * spread(self._direction, value)
        return self._moved[key]


def spread(direction: Direction, value: Values) -> Float[torch.Tensor, "c h w"]:
    """A direction as a map over the picture, of the same shape as a probe's value: a pooled one is spread over space.

    Raises:
        ScalexError: it does not fit the value's width, or is a whole map of another size.
    """
    channels, rows, columns = value.shape[1:]
    vector = torch.as_tensor(direction.vector, dtype=torch.float32, device=value.device)
    grid = grid_of(direction, (channels, rows, columns))
    if grid is None:
        return vector.reshape(channels, rows, columns)
    cells = vector.reshape(1, channels, grid, grid)
    return torch.nn.functional.interpolate(cells, size=(rows, columns), mode="nearest")[0]


def shuffled_channels(direction: Direction, channels: int, rng: np.random.Generator) -> Float[np.ndarray, "width"]:
    """The same numbers, the maps of channels exchanged: as long, as uneven, and meaning nothing."""
    return np.asarray(direction.vector.reshape(channels, -1)[rng.permutation(channels)].ravel())


def pooled(value: Values, direction: Direction) -> Float[torch.Tensor, "n width"]:
    """A probe's value, pooled as the latents that a direction was found in."""
    channels, rows, columns = value.shape[1:]
    grid = grid_of(direction, (channels, rows, columns))
    if grid is None:
        return value.float().flatten(1)
    return torch.nn.functional.adaptive_avg_pool2d(value.float(), grid).flatten(1)


def grid_of(direction: Direction, shape: tuple[int, int, int]) -> int | None:
    """The side of the grid that a direction's latents were pooled to, 1 for a mean; None for a whole map.

    Raises:
        ScalexError: a probe of this shape gives no latents of the direction's width.
    """
    channels, rows, columns = shape
    width, pooling = len(direction.vector), direction.of.pooling
    if pooling.startswith("grid:") or pooling == "mean" or (not pooling and width == channels):
        grid = int(pooling[5:]) if pooling.startswith("grid:") else 1
        if width == channels * grid * grid:
            return grid
    elif width == channels * rows * columns:
        return None
    told = f"its pooling is {pooling}, " if pooling else ""
    wrong = f"direction {direction.name!r} is {width} wide ({told}but the probe gives {channels} x {rows} x {columns})"
    raise ScalexError(wrong, "Take a direction that was found at this probe, for pictures of this size if it is a map")


def check_alphas(alpha: Alpha) -> None:
    """Raises ScalexError where an alpha is no number, or beyond `MOST`."""
    for one in _numbers(alpha):
        if not math.isfinite(one) or abs(one) > MOST:
            way_out = f"It counts in the distance between the variants: from -{MOST:g} to {MOST:g}"
            raise ScalexError(f"alpha is {one}", way_out)


def _numbers(alpha: Alpha) -> list[float]:
    try:
        if isinstance(alpha, Mapping):
            return [float(value) for value in alpha.values()]
        return [float(value) for value in np.atleast_1d(np.asarray(alpha, dtype=np.float64))]
    except (TypeError, ValueError):
        raise ScalexError(f"alpha is {alpha!r}", "Give a number, or one for each image") from None


def _alphas(alpha: Alpha, samples: Sequence[Sample]) -> list[float]:
    if isinstance(alpha, Mapping):
        return [float(alpha.get(sample, 0.0)) for sample in samples]
    return _numbers(alpha)


# ---------------------------------------------------------------------------------------------------- fitting


def check_steers(direction: Direction, model: Model) -> None:
    """Raises ScalexError where a direction was found in another model, at another probe, or is of another width.

    What is not known of either fits: a direction need not say where it comes from, nor a pipeline that was put together
    in memory.
    """
    pairs = {"model": (direction.of.model[:12], model.fingerprint[:12]), "probe": (direction.of.probe, model.probe)}
    for what, (own, other) in pairs.items():
        if own and other and own != other:
            wrong = f"direction {direction.name!r} was found in another {what} ({own}, not {other})"
            raise ScalexError(wrong, f"Take one that was found in this {what}, or find it anew by an audit")
    grid_of(direction, model.probe_shape)


# ---------------------------------------------------------------------------------------------------- a user's pipeline


@contextmanager
def steer(
    pipe: Any,
    direction: Direction | Steer | str | Path | Sequence[Direction | Steer | str | Path],
    alpha: Alpha | Sequence[Alpha] = 1.0,
    *,
    steps: Collection[int] | None = None,
    keep_norm: bool = False,
    check: bool = True,
) -> Iterator[Any]:
    """Steers whatever a pipeline of diffusers generates between `with` and its end; then the pipeline is as it was.

        with scalex.steer(pipe, "man-to-woman.safetensors", 1.0):
            pipe("a photo of a nurse").images[0].save("nurse.png")

    With guidance, both forwards are steered alike. At alpha 0 pictures are those of the pipeline to the last bit. Each
    direction is added at the probe that it was found at; what does not say, at that of the first one that does.

    Args:
        pipe: a pipeline whose denoiser is of a family that scalex reads; may be offloaded.
        direction: a direction or the file of one; an edit (`Erase`, ...); or several of them.
        alpha: in multiples of the direction: one for all; of several directions one for each; of one direction also one
            for each image of the pipeline's batch. Edits have none.
        steps, keep_norm: as for `Push`.
        check: whether directions of another model are refused, by the fingerprint of the pipeline's files.

    Raises:
        ScalexError: a direction does not fit the pipeline, alpha is no number or beyond `MOST`, or the pipeline is
            compiled or of no family.
    """
    several: list[Any] = list(direction) if isinstance(direction, list | tuple) else [direction]
    alphas = _each(alpha, len(several), isinstance(direction, list | tuple))
    loaded = [load_direction(one) if isinstance(one, str | Path) else one for one in several]
    steers = [
        Push(one, own, steps, keep_norm) if isinstance(one, Direction) else one for one, own in zip(loaded, alphas)
    ]
    with ExitStack() as hooks:
        probes = [hooks.enter_context(probe) for probe in _probes(pipe, steers, check)]
        hooks.enter_context(_counted(probes))
        yield pipe


def _probes(pipe: Any, steers: Sequence[Steer], check: bool) -> list[Probe]:
    """A probe for each place that is steered, with all edits there."""
    told = [one.direction for one in steers if isinstance(one, Push | Erase)]
    first = next((direction.of.probe for direction in told if direction.of.probe), "")
    by_place: dict[str, list[Steer]] = {}
    for one in steers:
        own = one.direction.of.probe if isinstance(one, Push | Erase) else ""
        by_place.setdefault(own or first, []).append(one)
    found = []
    for place, edits in (by_place or {first: []}).items():
        model = around(pipe, probe=place or None, fingerprint=check)
        for one in edits:
            if isinstance(one, Push | Erase):
                check_steers(one.direction, model)
        found.append(Probe(model, together(*edits)(())))
    return found


def _each(alpha: Any, n: int, several: bool) -> list[Any]:
    """An alpha for each direction."""
    if not several or isinstance(alpha, int | float):
        return [alpha] * n
    if len(alpha) != n:
        raise ScalexError(f"there are {len(alpha)} alphas for {n} directions", "Give one for each, or one for all")
    return list(alpha)


@contextmanager
def _counted(probes: Sequence[Probe]) -> Iterator[None]:
    """Tells the probes at which denoising step each forward is: timesteps fall, until a new picture begins."""
    denoiser = probes[0].model.denoiser()
    names = list(inspect.signature(type(denoiser).forward).parameters)[1:]
    step, last = 0, math.inf

    def begin(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        nonlocal step, last
        at = float(torch.as_tensor({**dict(zip(names, args)), **kwargs}["timestep"]).flatten()[0])
        step = step + (at < last) if at <= last < math.inf else 0
        last = at
        for probe in probes:
            probe.begin(step)

    handle = denoiser.register_forward_pre_hook(begin, with_kwargs=True)
    try:
        yield
    finally:
        handle.remove()
