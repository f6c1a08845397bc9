"""What do store and engine cost? The same samples captured barely, and by the engine into a store.

    python bench/overhead.py                 # a model of Stable Diffusion 1.5's size, and the organism
    python bench/overhead.py --device cuda

Text reading: the shortest forward that a capture can have, so that what is not forward weighs most. A fill asks what a
new store lacks, captures it batch by batch and writes each batch, which is on the disk before the next one begins.
Repeats are interleaved, and each row is their median. On a machine with other work their scatter may exceed the
overhead, so one more fill is profiled: the seconds inside store and engine against those of the rest of it. That is
what the mark is about; the table under it says what they are spent on. Writes bench/results/overhead-DEVICE.json; exit
code 1 where the mark is missed.
"""

from __future__ import annotations

import argparse
import cProfile
import json
import platform
import pstats
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, NamedTuple

import torch

import speed
from scalex.batches import batch_size
from scalex.capture import Plan, capture
from scalex.engine import fill
from scalex.models import Model
from scalex.organisms.marks import Mark
from scalex.prompts import samples
from scalex.records import Prompt
from scalex.store import Store

RESULTS = Path(__file__).parent / "results"
MOST = 0.03
BATCHES = {"sd15": 4, "organism": 8}  # captured in one repeat, of samples as many as suit the device
TEXTS = 4
PARTS = {  # of a fill, by module and function: what they are called here
    ("store.py", "missing"): "ask what is missing",
    ("store.py", "write"): "write",
    ("rows.py", "sample_rows"): "write: keys and checksums",
    ("table.py", "_create"): "write: create the table, once",
    ("table.py", "_merge_rows"): "write: insert by key (Lance)",
    ("table.py", "_flush"): "write: flush to the disk",
    ("table.py", "_merge_fragments"): "write: merge small files",
}


class Work(NamedTuple):
    """What is captured: every prompt at every seed."""

    model: Model
    prompts: list[Prompt]
    seeds: range
    plan: Plan


def main() -> int:
    """Measures and prints; returns the exit code."""
    asked = _asked()
    found: dict[str, Any] = {}
    for size in ("sd15", "organism"):
        made: AbstractContextManager[tuple[Model, Path]] = speed._model(size, asked.device)
        with made as (model, _):
            found[size] = _measured(_work(model, BATCHES[size]), asked.repeats)
            _print(size, found[size])
    mark = Mark("overhead of store and engine at Stable Diffusion 1.5's size", found["sd15"]["overhead"], MOST, True)
    told = {"device": _device(asked.device), "repeats": asked.repeats, **found, "marks": [mark.row()]}
    out = RESULTS / f"overhead-{asked.device}.json"
    out.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
    print(f"\n{'ok' if mark.ok else 'MISSED'}: {mark.name}: {mark.value:.2%} {mark.asked}")
    return int(not mark.ok)


def _asked() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--repeats", type=int, default=3)
    return parser.parse_args()


def _device(device: str) -> str:
    return (
        torch.cuda.get_device_name() if device == "cuda" else f"{platform.machine()}, {torch.get_num_threads()} threads"
    )


def _work(model: Model, batches: int) -> Work:
    plan = Plan(readings=("text",), guidance=1.0)
    prompts = [Prompt(f"a photo of a {word}", word, "a photo of a {}") for word in ("nurse", "cook", "judge", "pilot")]
    return Work(model, prompts, range(max(1, batches * batch_size(model, plan) // len(prompts))), plan)


def _measured(work: Work, repeats: int) -> dict[str, Any]:
    """Both ways in turn, and the profile of one more fill."""
    took: dict[str, list[float]] = {"bare": [], "filled": []}
    for turn in range(repeats + 1):  # the first warms up
        for name, way in (("bare", _bare), ("filled", _filled)):
            seconds = way(work)
            if turn:
                took[name].append(seconds)
    parts, whole = _profiled(work)
    own = parts["ask what is missing"] + parts["write"]
    n = len(work.prompts) * len(work.seeds)
    return {
        "samples": n,
        "batch": batch_size(work.model, work.plan),
        "precision": work.model.precision,
        "seconds": took,
        "ratio": statistics.median(took["filled"]) / statistics.median(took["bare"]),
        "overhead": own / (whole - own),
        "profile": {"whole": whole, **parts},
    }


def _bare(work: Work) -> float:
    some = samples(work.prompts, work.seeds)
    return _timed(lambda: capture(work.model, some, work.plan, lambda *_: None))


def _filled(work: Work) -> float:
    Path("runs").mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir="runs") as folder:  # on the disk that a run would use, not in memory
        return _timed(lambda: fill(Store.open(Path(folder) / "store"), *work))


def _timed(way: Callable[[], object]) -> float:
    began = time.perf_counter()
    way()
    return time.perf_counter() - began


def _profiled(work: Work) -> tuple[dict[str, float], float]:
    """Seconds of a fill by part, and in all."""
    profile = cProfile.Profile()
    profile.enable()
    whole = _filled(work)
    profile.disable()
    seen = {(Path(file).name, name): row[3] for (file, _, name), row in pstats.Stats(profile).stats.items()}  # type: ignore[attr-defined]
    return {label: seen.get(place, 0.0) for place, label in PARTS.items()}, whole


def _print(size: str, found: dict[str, Any]) -> None:
    print(f"\n{size}: {found['samples']} samples, batch {found['batch']}, {found['precision']}")
    print(f"  bare {statistics.median(found['seconds']['bare']):.3f} s, filled {found['ratio']:.3f} times as long")
    print(f"  inside store and engine {found['overhead']:.2%} of the rest")
    for label, seconds in found["profile"].items():
        print(f"    {seconds:8.3f} s  {label}")


if __name__ == "__main__":
    sys.exit(main())
