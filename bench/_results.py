"""How every script of this folder leaves its results: one JSON file with date, machine and marks."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import diffusers
import torch

from scalex.organisms.marks import Mark

__all__ = ["RESULTS", "machine", "save", "say"]

RESULTS = Path(__file__).parent / "results"


def save(name: str, told: Mapping[str, Any], marks: Sequence[Mark], device: str = "cpu") -> None:
    """Writes results/NAME.json, and prints each mark."""
    whole = {**machine(device), **told, "marks": [mark.row() for mark in marks]}
    (RESULTS / f"{name}.json").write_text(json.dumps(whole, indent=1) + "\n", encoding="utf-8")
    say(marks)


def say(marks: Sequence[Mark]) -> None:
    """Prints each mark."""
    for mark in marks:
        print(f"  {'ok    ' if mark.ok else 'MISSED'} {mark.name}: {mark.value:.4g} {mark.asked}")


def machine(device: str = "cpu") -> dict[str, Any]:
    """When and where this was measured, with what, and how busy the machine was with other things."""
    cuda = device.startswith("cuda")
    cpu = f"{platform.machine()}, {len(os.sched_getaffinity(0))} cores, {torch.get_num_threads()} threads"
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "device": torch.cuda.get_device_name(device) if cuda else cpu,
        "load": os.getloadavg()[0],
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "diffusers": diffusers.__version__,
        },
    }
