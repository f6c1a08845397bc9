"""Fixtures that several test files share: tiny real pipelines, saved once, and a folder without permission."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from scalex.models import Model, load_model
from tiny import tiny_pipeline


@pytest.fixture(scope="session", autouse=True)
def _no_cache() -> None:
    """A test meets what it makes itself; workers and commands that it starts inherit that."""
    os.environ["SCALEX_CACHE"] = ""


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """`tiny_pipeline` with the same arguments, each pipeline saved once. Not to be written to."""
    made: dict[str, Path] = {}

    def make(**changes: Any) -> Path:
        key = repr(sorted(changes.items()))
        if key not in made:
            made[key] = tiny_pipeline(tmp_path_factory.mktemp("tiny"), **changes)
        return made[key]

    return make


@pytest.fixture(scope="session")
def ddim(tiny_folder: Callable[..., Path]) -> Model:
    """A tiny Stable Diffusion with DDIM, on the CPU in fp32."""
    return load_model(tiny_folder(), device="cpu")


@pytest.fixture(scope="session")
def lcm(tiny_folder: Callable[..., Path]) -> Model:
    """A tiny latent consistency model (guidance not distilled in), on the CPU in fp32."""
    return load_model(tiny_folder(scheduler="lcm"), device="cpu")


@pytest.fixture
def forwards(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many whole forwards each use of the probe took, as long as it took any."""
    from scalex.capture import Probe

    counted: list[int] = []
    leave = Probe.__exit__

    def counting(probe: Probe, *args: Any) -> None:
        counted.extend([probe.full] if probe.full else [])
        leave(probe, *args)

    monkeypatch.setattr(Probe, "__exit__", counting)
    return counted


@pytest.fixture
def guarded() -> Iterator[Path]:
    """A folder that the process may not write to, even when the tests run as root."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o555)
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    yield folder
    if root:
        os.seteuid(0)
    folder.chmod(0o755)
    shutil.rmtree(folder)
