"""What do store and engine cost? The same samples captured barely, and by the engine into a store.

    python bench/overhead.py                 # a model of Stable Diffusion 1.5's size, and the organism
    python bench/overhead.py --device cuda

Text reading: the shortest forward that a capture can have, so that what is not forward weighs most. A fill asks what a
new store lacks, captures it batch by batch, and writes each batch to the disk beside the next ones. Repeats are
interleaved, and each row is their median. Their scatter may exceed the overhead, so the calls of one more fill are
timed: the seconds inside store and engine against those of the rest of it, as if none of them went on beside a forward.
That is what the mark is about; the table under it says what they are spent on. Writes
bench/results/overhead-DEVICE.json; exit code 1 where the mark is missed.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import scalex.store
import speed
from _results import save
from scalex.batches import batch_size
from scalex.capture import Plan, capture
from scalex.engine import fill
from scalex.keeping import OnDisk
from scalex.models import Model
from scalex.organisms.marks import Mark
from scalex.prompts import samples
from scalex.records import Prompt
from scalex.store import Store
from scalex.table import SampleTable

MOST = 0.03
BATCHES = {"sd15": 4, "organism": 8}  # captured in one repeat, of samples as many as suit the device
TEXTS = 4
PARTS = {  # of a fill: what these calls are for
    (Store, "missing"): "ask what is missing",
    (Store, "write"): "write",
    (scalex.store, "sample_rows"): "write: keys and checksums",
    (OnDisk, "create"): "write: create the table, once",
    (SampleTable, "_merge_rows"): "write: insert by key (Lance)",
    (OnDisk, "flush"): "write: flush to the disk",
    (SampleTable, "_merge_fragments"): "write: merge small files",
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
    print()
    save(f"overhead-{asked.device}", {"repeats": asked.repeats, **found}, [mark], asked.device)
    return int(not mark.ok)


def _asked() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--repeats", type=int, default=3)
    return parser.parse_args()


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
    """Seconds of a fill by part, in whichever thread, and in all."""
    spent = dict.fromkeys(PARTS.values(), 0.0)
    with ExitStack() as patches:
        for (owner, name), label in PARTS.items():
            patches.enter_context(mock.patch.object(owner, name, _counting(getattr(owner, name), label, spent)))
        whole = _filled(work)
    return spent, whole


def _counting(call: Callable[..., Any], label: str, spent: dict[str, float]) -> Callable[..., Any]:
    def timed(*given: Any, **named: Any) -> Any:
        began = time.perf_counter()
        try:
            return call(*given, **named)
        finally:
            spent[label] += time.perf_counter() - began

    return timed


def _print(size: str, found: dict[str, Any]) -> None:
    print(f"\n{size}: {found['samples']} samples, batch {found['batch']}, {found['precision']}")
    print(f"  bare {statistics.median(found['seconds']['bare']):.3f} s, filled {found['ratio']:.3f} times as long")
    print(f"  inside store and engine {found['overhead']:.2%} of the rest")
    for label, seconds in found["profile"].items():
        print(f"    {seconds:8.3f} s  {label}")


if __name__ == "__main__":
    sys.exit(main())
