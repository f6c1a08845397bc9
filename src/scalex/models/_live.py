"""Models made around a pipeline that is loaded already, whatever it was loaded from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

import torch

from scalex.errors import ScalexError
from scalex.models._assembled import Assembled, Parts
from scalex.models._layout import Layout
from scalex.models.base import Model, Options

__all__ = ["live"]

M = TypeVar("M", bound=Assembled)


@dataclass(frozen=True)
class _Live(Layout):
    """The layout of a pipeline's components: configurations are theirs, and folders where they were loaded from."""

    components: Mapping[str, Any]
    checked: bool

    def config(self, role: str) -> dict[str, Any]:
        return dict(self.components[role].config)

    def fingerprint(self) -> str:
        """Of the files behind the components; empty where some of them are not known, or where none is asked for."""
        known = all((part / "config.json").is_file() for part in self.networks.values())
        if not self.checked or not known or not all(part.is_dir() for part in self.tokenizers.values()):
            return ""
        return _digest(tuple(self.networks.items()), tuple(self.tokenizers.items()))


@lru_cache(maxsize=8)
def _digest(networks: tuple[tuple[str, Path], ...], tokenizers: tuple[tuple[str, Path], ...]) -> str:
    """Files are read once a process."""
    layout = Layout(Path(), "", dict(networks), dict(tokenizers), {}, Path(), None, None)
    try:
        return layout.fingerprint()
    except ScalexError:  # such as weights that were loaded from pickles
        return ""


def live(
    kind: type[M], pipe: Any, denoiser: str, probe: str | None, checked: bool, encoders: Sequence[str] = ("",)
) -> M:
    """A model of this kind around a pipeline. Nothing of the pipeline is changed.

    Args:
        denoiser: its role, "unet" or "transformer". encoders: suffixes as for `find_layout`. checked: whether the files
            are read for the fingerprint.

    Raises:
        ScalexError: the pipeline has not all of its parts, or no such probe, or is compiled where it is probed.
    """
    components = dict(pipe.components)
    here = [suffix for suffix in encoders if components.get(f"text_encoder{suffix}") is not None]
    roles = [denoiser, *(f"text_encoder{suffix}" for suffix in here), "vae"]
    words = [f"tokenizer{suffix}" for suffix in here]
    for role in (*roles, *words):
        if components.get(role) is None:
            raise ScalexError(f"the pipeline has no {role}", "Load it whole")
    layout = _Live(
        Path(str(pipe.config.get("_name_or_path", ""))),
        denoiser,
        {role: _folder(components[role]) for role in roles},
        {role: _folder(components[role]) for role in words},
        {role: type(components[role]).__name__ for role in (*roles, *words)},
        Path(),
        None,
        None,
        components,
        checked,
    )
    networks = {role: components[role] for role in roles if role != "vae"}
    parts = Parts(networks, {role: components[role] for role in words}, components["scheduler"], pipe)
    where = torch.device(pipe._execution_device)
    options = Options(where, networks[denoiser].dtype, probe=probe, offload=False)
    model = kind(parts, layout, options)
    model.__dict__["_vae"] = components["vae"]
    _check_hooks_fire(model, pipe)
    return model


def _folder(component: Any) -> Path:
    """Where a component was loaded from."""
    config = getattr(component, "config", None)
    told = getattr(component, "name_or_path", None) or getattr(config, "_name_or_path", None)
    return Path(str(told or "in memory"))


def _check_hooks_fire(model: Model, pipe: Any) -> None:
    """Raises ScalexError where a hook at the probe would not be heard, since what it lies in was compiled."""
    denoiser, name = model.denoiser(), model.probe
    above = ["", *(name[:i] for i, letter in enumerate(name) if letter == "."), name]
    for part in above:
        module = denoiser.get_submodule(part)
        if type(module).__name__ == "OptimizedModule" or getattr(module, "_compiled_call_impl", None) is not None:
            what = ".".join(filter(None, (f"{type(pipe).__name__}'s {type(denoiser).__name__}", part)))
            way_out = "Steer a pipeline that is not compiled: its own module is `_orig_mod` of the compiled one"
            raise ScalexError(f"{what} is compiled (torch.compile), and hooks inside it are not heard", way_out)
