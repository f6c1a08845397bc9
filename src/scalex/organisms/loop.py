"""One training loop for every stage: seeded by step, resumable after a kill, logged."""

from __future__ import annotations

import io
import json
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from scalex.disk import disk_errors, sync
from scalex.errors import ScalexError
from scalex.organisms.spec import Schedule

__all__ = ["Progress", "StageOutlook", "Trainee", "run_stage", "saving", "try_stage"]

_TRIED = 2  # steps that an outlook takes of each stage; the first is slow

Progress = Callable[[str, int, int, float], None]
"""Called with (stage, steps done, steps in all, running loss)."""

LossOf = Callable[[np.random.Generator, torch.Generator], Tensor]
"""The loss of one batch, drawn from the step's own generators."""


@dataclass(frozen=True)
class Trainee:
    """What one stage trains: `modules` are saved under their names; `averages` maps an averaged copy to its source."""

    name: str
    modules: dict[str, nn.Module]
    averages: dict[str, str]
    loss: LossOf
    decay: float = 0.999


def run_stage(
    trainee: Trainee, schedule: Schedule, seed: int, folder: Path, progress: Progress, checkpoint_every: int = 250
) -> None:
    """Trains until `schedule.steps`, from the last checkpoint in `folder` if there is one.

    Step i draws from generators seeded by (seed, stage, i) alone, so a resumed run takes the steps that an
    uninterrupted one would have taken.

    Raises:
        ScalexError: the disk is full, or `folder` cannot be written to. The last checkpoint stays.
    """
    trained, optimizer = _optimizer(trainee, schedule)
    cycle = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=schedule.rate, total_steps=schedule.steps + 1, pct_start=min(0.1, 200 / schedule.steps)
    )
    state: dict[str, Any] = {"optimizer": optimizer, "cycle": cycle, **trainee.modules}
    path = folder / f"{trainee.name}.pt"
    done = _load(path, state)
    smooth, began = float("nan"), time.monotonic()
    for step in range(done, schedule.steps):
        loss = _step(trainee, trained, optimizer, seed, step)
        cycle.step()
        _average(trainee, step)
        smooth = loss if math.isnan(smooth) else 0.98 * smooth + 0.02 * loss
        progress(trainee.name, step + 1, schedule.steps, smooth)
        if (step + 1) % checkpoint_every == 0 or step + 1 == schedule.steps:
            seconds = round(time.monotonic() - began, 1)
            with saving(folder):
                _save(path, state, step + 1)
                _log(folder, stage=trainee.name, step=step + 1, loss=round(smooth, 5), seconds=seconds)


class StageOutlook(NamedTuple):
    """What a stage will still take: its steps to go and the samples of each, seconds here, and bytes of checkpoint."""

    stage: str
    steps: int
    batch: int
    seconds: float
    bytes: int


def try_stage(trainee: Trainee, schedule: Schedule, seed: int, folder: Path) -> StageOutlook:
    """What `run_stage` would take, from its log in `folder` and a few steps that leave nothing but other weights."""
    trained, optimizer = _optimizer(trainee, schedule)
    seconds = []
    for step in range(_TRIED):
        began = time.perf_counter()
        _step(trainee, trained, optimizer, seed, step)
        seconds.append(time.perf_counter() - began)
    tensors = [*(t for m in trainee.modules.values() for t in m.state_dict().values()), *trained, *trained]
    to_go = max(0, schedule.steps - _logged(folder, trainee.name))
    held = sum(t.numel() * t.element_size() for t in tensors)
    return StageOutlook(trainee.name, to_go, schedule.batch, to_go * min(seconds), held)


def _logged(folder: Path, stage: str) -> int:
    """The steps of a stage that its last checkpoint holds, as its log says."""
    log = folder / "train.jsonl"
    rows = map(json.loads, log.read_text(encoding="utf-8").splitlines()) if log.is_file() else ()
    return max((int(row["step"]) for row in rows if row["stage"] == stage), default=0)


def _optimizer(trainee: Trainee, schedule: Schedule) -> tuple[list[nn.Parameter], torch.optim.Optimizer]:
    """The weights that are trained, averages aside, and what trains them."""
    some = (m for n, m in trainee.modules.items() if n not in trainee.averages)
    trained = [p for m in some for p in m.parameters() if p.requires_grad]
    return trained, torch.optim.AdamW(trained, lr=schedule.rate, weight_decay=1e-3, betas=(0.9, 0.99))


def _step(
    trainee: Trainee, trained: list[nn.Parameter], optimizer: torch.optim.Optimizer, seed: int, step: int
) -> float:
    """One step; its loss."""
    loss = trainee.loss(*_generators(seed, trainee.name, step))
    loss.backward()
    nn.utils.clip_grad_norm_(trained, 1.0)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return float(loss.item())


@contextmanager
def saving(folder: Path) -> Iterator[None]:
    """Turns what a disk refuses into one clear line; what lies in `folder` already stays, and training resumes from it.

    Raises:
        ScalexError: the disk is full, `folder` cannot be written to, or a file is in its way.
    """
    try:
        with disk_errors(folder, option="--out"):
            try:
                yield
            except SafetensorError as error:  # no OSError, but its text holds the number that `disk_errors` reads
                raise RuntimeError(str(error)) from error
    except OSError as error:
        wrong = f"cannot write to {folder}: {error.strerror or error}"
        raise ScalexError(wrong, "Name another folder with --out") from error


def _generators(seed: int, stage: str, step: int) -> tuple[np.random.Generator, torch.Generator]:
    rng = np.random.default_rng([seed, *stage.encode(), step])
    return rng, torch.Generator().manual_seed(int(rng.integers(2**62)))


@torch.no_grad()
def _average(trainee: Trainee, step: int) -> None:
    decay = min(trainee.decay, (step + 1) / (step + 10))
    for target, source in trainee.averages.items():
        sources = list(trainee.modules[source].parameters())
        torch._foreach_lerp_(list(trainee.modules[target].parameters()), sources, 1 - decay)


def _save(path: Path, state: dict[str, Any], step: int) -> None:
    """Writes a whole checkpoint or none: the one before stays until the new one is on the disk."""
    partial, whole = path.with_suffix(".partial"), io.BytesIO()
    # Through memory, since torch.save into a file says nothing of a full disk but "unexpected pos 704 vs 598".
    torch.save({"step": step, **{n: s.state_dict() for n, s in state.items()}}, whole)
    try:
        partial.write_bytes(whole.getbuffer())
        sync([partial])
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _load(path: Path, state: dict[str, Any]) -> int:
    if not path.exists():
        return 0
    saved = torch.load(path, weights_only=True, map_location="cpu")
    for name, thing in state.items():
        thing.load_state_dict(saved[name])
    return int(saved["step"])


def _log(folder: Path, **row: Any) -> None:
    with (folder / "train.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")
