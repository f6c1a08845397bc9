"""What is installed, what is missing, and the command that mends it."""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

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
    """Looks at the device, the optional packages and the system packages."""
    return [*_device(), *_packages(), *_pictures(), _space()]


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
