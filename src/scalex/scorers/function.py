"""A user's own Python as a scorer."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8

from scalex.errors import ScalexError

__all__ = ["Function", "named_function"]


@dataclass(frozen=True)
class Function:
    """A callable that is given pictures, uint8 (n, height, width, 3), and gives shares, (n, values); of two values it
    may give the share of the second alone, (n,)."""

    call: Callable[..., Any]
    attribute: str
    values: tuple[str, ...]
    name: str = "own scorer"

    def score(self, pictures: UInt8[np.ndarray, "n height width 3"]) -> Float[np.ndarray, "..."]:
        """What the callable gives, as an array; `scalex.scorers.scored` holds it against what it must be."""
        given = np.asarray(self.call(pictures), dtype=np.float64)
        second = given.ndim == 1 and len(self.values) == 2
        return np.stack([1 - given, given], axis=1) if second else given


def named_function(name: str) -> Callable[..., Any]:
    """The callable that "package.module:function" names.

    Raises:
        ScalexError: it cannot be imported, or is no callable.
    """
    module, colon, attribute = name.partition(":")
    try:
        found = getattr(importlib.import_module(module), attribute) if colon else None
    except (ImportError, AttributeError, ValueError) as error:
        raise ScalexError(f"{name} cannot be imported: {error}", "Name it as package.module:function") from error
    if not callable(found):
        raise ScalexError(f"{name} names no function", "Name it as package.module:function")
    return found  # type: ignore[no-any-return]
