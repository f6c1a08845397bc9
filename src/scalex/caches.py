"""Where scalex keeps what it can always make again: conditions of texts, and what suits a device."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["cache_folder"]


def cache_folder(name: str) -> Path | None:
    """A folder in the cache: `~/.cache/scalex`, or the folder that SCALEX_CACHE names. None where that is empty: then
    nothing is cached. The folder need not exist."""
    place = os.environ.get("SCALEX_CACHE")
    if place == "":
        return None
    return (Path(place).expanduser() if place else Path.home() / ".cache" / "scalex") / name
