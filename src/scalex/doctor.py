"""What is installed, what is missing, and the command that mends it."""

from __future__ import annotations

import importlib.util
import platform
import shutil
import tempfile
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

from scalex import scratch
from scalex.caches import cache_folder
from scalex.errors import ScalexError

__all__ = ["Finding", "examine"]


class Finding(NamedTuple):
    """One thing that was looked for."""

    name: str
    ok: bool
    found: str
    way_out: str = ""


_EXTRAS = {
    "peft": ("peft>=0.15", "LoRA checkpoints"),
    "emoji": ("emoji>=2.14", "training organisms"),
    "ray": ("ray>=2.60", "clusters"),
    "obstore": ("obstore>=0.9", "stores in object stores"),
}


def examine() -> list[Finding]:
    """Looks at versions, the device, optional packages, the system's packages, and the environment."""
    return [_scalex(), *_device(), *_packages(), *_pictures(), _space(), _cache(), _memory()]


def _scalex() -> Finding:
    return Finding("scalex", True, f"{version('scalex-diffusion')}, Python {platform.python_version()}")


def _device() -> Iterator[Finding]:
    import torch

    yield Finding("torch", True, torch.__version__)
    if torch.cuda.is_available():
        yield Finding("device", True, torch.cuda.get_device_name(0))
    else:
        yield Finding("device", True, f"cpu, {torch.get_num_threads()} threads (no CUDA device)")


def _packages() -> Iterator[Finding]:
    for module, (package, purpose) in _EXTRAS.items():
        there = importlib.util.find_spec(module) is not None
        way_out = "" if there else f"For {purpose}: pip install '{package}'"
        yield Finding(module, there, "installed" if there else "not installed", way_out)


def _pictures() -> Iterator[Finding]:
    from PIL import features

    from scalex.organisms.pictures import EMOJI_LIST, FONTS

    font = next((p for p in FONTS if p.exists()), None)
    install = "For training organisms: apt-get install"
    yield Finding(
        "emoji font", font is not None, str(font or "not found"), "" if font else f"{install} fonts-noto-color-emoji"
    )
    raqm = bool(features.check("raqm"))
    yield Finding("raqm", raqm, "in Pillow" if raqm else "not found", "" if raqm else f"{install} libraqm0 libfribidi0")
    listed = EMOJI_LIST.exists()
    yield Finding("Unicode list", listed, str(EMOJI_LIST), "" if listed else f"{install} unicode-data")


def _space() -> Finding:
    free = shutil.disk_usage(Path.cwd()).free
    return Finding("disk", free > 1e9, f"{free / 1e9:.1f} GB free here", "" if free > 1e9 else "Free some space")


def _cache() -> Finding:
    folder = cache_folder("")
    return Finding("cache", True, "off: SCALEX_CACHE is empty" if folder is None else str(folder))


def _memory() -> Finding:
    try:
        held = scratch.budget() / 2**30
    except ScalexError as error:
        return Finding("memory", False, error.wrong, error.way_out)
    return Finding("memory", True, f"arrays up to {held:g} GiB, larger ones in files in {tempfile.gettempdir()}")
