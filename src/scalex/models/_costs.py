"""What a forward costs, and what it comes to. Of a network on torch's meta device, nothing is computed for it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

__all__ = ["operations", "untouched"]


class _Enough(Exception):
    """Ends a forward."""


def _run(forward: Callable[[], Any], until: torch.nn.Module | None) -> None:
    """A forward, or its part up to the end of a module."""

    def stop(*_: Any) -> None:
        raise _Enough

    handle = until.register_forward_hook(stop) if until is not None else None
    try:
        with torch.no_grad(), suppress(_Enough):
            forward()
    finally:
        if handle is not None:
            handle.remove()


def operations(forward: Callable[[], Any], until: torch.nn.Module | None = None) -> int:
    """Floating-point operations of a forward, or of its part up to the end of a module."""
    counter = FlopCounterMode(display=False)
    with sdpa_kernel(SDPBackend.MATH), counter:
        _run(forward, until)
    return int(counter.get_total_flops())


def untouched(
    forward: Callable[[], Any], modules: Iterable[torch.nn.Module], until: torch.nn.Module
) -> list[torch.nn.Module]:
    """Those of some modules that a forward does not come to before the end of `until`."""
    left = list(modules)
    handles = [module.register_forward_pre_hook(lambda used, _: left.remove(used)) for module in list(left)]
    try:
        _run(forward, until)
    finally:
        for handle in handles:
            handle.remove()
    return left
