"""Options that many commands share, declared once: a command `taking` some is given their values together."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import wraps
from typing import TYPE_CHECKING, Any, TypeAlias

from scalex.cli import _options as options
from scalex.errors import ScalexError

if TYPE_CHECKING:
    from pathlib import Path

    from scalex.jobs import Job

__all__ = ["CREW", "JOB", "LOOKS", "Given", "job_of", "keys_of", "kept_step", "loading_of", "numbers", "taking"]

Given: TypeAlias = dict[str, Any]
"""Values of options by name."""

_KEYS = (
    "seeds",
    "first_seed",
    "moments",
    "steps",
    "unet",
    "lora",
    "scheduler",
    "probe",
    "lean_direction",
)  # named as in a spec
_LOADING = ("device", "batch", "compile", "offload")

JOB = {
    "spec": options.SpecOpt,
    "store": options.StoreOpt,
    "seeds": options.SeedsOpt,
    "steps": options.StepsOpt,
    "unet": options.UnetOpt,
    "lora": options.LoraOpt,
    "scheduler": options.SchedulerOpt,
    "probe": options.ProbeOpt,
    "dtype": options.DtypeOpt,
    "device": options.DeviceOpt,
    "batch": options.BatchOpt,
    "compile": options.CompileOpt,
    "offload": options.OffloadOpt,
}
"""What is asked of which model, and how it runs."""

CREW = {
    "first_seed": options.FirstSeedOpt,
    "workers": options.WorkersOpt,
    "engine": options.EngineOpt,
    "address": options.AddressOpt,
}
"""What captures an audit, and at which seeds."""

LOOKS = {
    "moments": options.MomentsOpt,
    "precision": options.PrecisionOpt,
    "budget": options.BudgetOpt,
    "lean_direction": options.LeanDirectionOpt,
    "analysis": options.AnalysisOpt,
}
"""What is kept, how far seeds go, and what is analysed."""


def taking(*groups: dict[str, Any], without: tuple[str, ...] = ()) -> Callable[[Callable[..., None]], Any]:
    """Adds groups of options to those of a command, before `json_` where it is the last. The command is given their
    values as `given`, by name; without the option they are None, or False."""
    added = {name: option for group in groups for name, option in group.items() if name not in without}
    more = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=_default(name), annotation=option)
        for name, option in added.items()
    ]

    def add(command: Callable[..., None]) -> Any:
        signature = inspect.signature(command, eval_str=True)
        own = [
            p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in signature.parameters.values() if p.name != "given"
        ]
        last = [p for p in own if p.name == "json_"]
        whole = [*(p for p in own if p not in last), *more, *last]

        @wraps(command)
        def called(**values: Any) -> None:
            command(**{p.name: values[p.name] for p in own}, given={name: values[name] for name in added})

        del called.__wrapped__  # its signature is not this one's
        called.__signature__ = signature.replace(parameters=whole)  # type: ignore[attr-defined]
        called.__annotations__ = {p.name: p.annotation for p in whole} | {"return": None}
        return called

    return add


def _default(name: str) -> bool | None:
    return False if name == "compile" else None


def keys_of(given: Given) -> Given:
    """The options that replace keys of the spec."""
    renamed = {"precision": given.get("dtype"), "width": given.get("precision"), "budget": given.get("budget")}
    chosen = given.get("analysis")
    asked = {"analyses": "all" if chosen and "all" in chosen else chosen}
    return {name: given.get(name) for name in _KEYS} | renamed | asked


def loading_of(given: Given) -> Given:
    """The options that say where and how the model runs."""
    return {name: given[name] for name in _LOADING if name in given}


def job_of(model: str | Path | None, given: Given, **keys: Any) -> Job:
    """The job that options ask for, its model loaded.

    Args:
        keys: of the spec, before the options'.
    """
    from scalex.jobs import prepare

    return prepare(model, given["spec"], **loading_of(given), **{**keys_of(given), **keys})


def kept_step(text: str) -> str | int:
    """A denoising step as `--keep` names it."""
    return int(text) if text.lstrip("-").isdigit() else text


def numbers(text: str, option: str) -> tuple[float, ...]:
    """Numbers with commas between them."""
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise ScalexError(
            f"{option} {text} is not understood", "Write numbers with commas between, as -1,0,1"
        ) from None
