"""Where scalex keeps what it can always make again: conditions of texts, what forwards cost, what suits a device."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

__all__ = ["cache_folder", "counted"]


def cache_folder(name: str) -> Path | None:
    """A folder in the cache: `~/.cache/scalex`, or the folder that SCALEX_CACHE names. None where that is empty: then
    nothing is cached. The folder need not exist."""
    place = os.environ.get("SCALEX_CACHE")
    if place == "":
        return None
    return (Path(place).expanduser() if place else Path.home() / ".cache" / "scalex") / name


def counted(name: str, key: Sequence[str], count: Callable[[], Mapping[str, int]]) -> dict[str, int]:
    """Numbers that are dear to count, kept by all that determines them. Where the disk refuses, they are not kept."""
    root, named = cache_folder(name), hashlib.sha256(json.dumps(list(key)).encode()).hexdigest()[:32]
    path = root / f"{named}.json" if root else None
    if path is not None:
        with suppress(OSError, ValueError, AttributeError):  # none, or damaged: counted anew, and replaced
            return {str(what): int(value) for what, value in json.loads(path.read_text(encoding="utf-8")).items()}
    found = dict(count())
    if path is not None:
        with suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            draft = path.with_suffix(f".{secrets.token_hex(4)}.tmp")
            draft.write_text(json.dumps(found), encoding="utf-8")
            draft.replace(path)
    return found
