"""How long until something happens? Fresh processes, from the interpreter alone to the first capture.

    python bench/startup.py [REPEATS]

Each row is the median over processes that take turns: seconds on the clock, and seconds of the processor, which other
work on the machine does not lengthen as much. The steps of a first capture are those of one process, one after the
other; `costs` says what each of the large libraries takes alone. Writes bench/results/startup.json.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from typing import NamedTuple

from _results import save

CLI = "import sys; from scalex.cli import main; sys.argv = ['scalex', *{}]; main()"
COMMANDS = {
    "python alone": "pass",
    "import scalex": "import scalex",
    "scalex --version": CLI.format(["--version"]),
    "scalex --help": CLI.format(["--help"]),
    "scalex audit --help": CLI.format(["audit", "--help"]),
    "what needs no model (analyze, report, check)": "import scalex.auditing, scalex.gating",
}
LIBRARIES = ("torch", "diffusers.utils", "transformers", "altair", "lance", "sklearn.cluster", "scipy.stats", "pandas")
STEPS = """
import json, time
began = [time.perf_counter(), time.process_time()]
told = {}
def lap(name):
    now = [time.perf_counter(), time.process_time()]
    told[name] = [b - a for a, b in zip(began, now)]
    began[:] = now
import scalex.auditing; lap("import what audits")
from scalex.models import families, load_model; families(); lap("import every family of models")
from scalex.organisms import EMBEDDED, EMBEDDED_UNET
model = load_model(EMBEDDED, unet=EMBEDDED_UNET, device="cpu"); lap("load the embedded organism")
from scalex.capture import Plan, capture
def once(seed): capture(model, [("a photo of a nurse", seed)], Plan(), lambda *_: None)
once(0); lap("capture the first sample")
once(1); lap("capture the second sample")
print(json.dumps(told))
"""


class Took(NamedTuple):
    """Seconds on the clock and of the processor."""

    clock: float
    processor: float


def main(repeats: int) -> None:
    """Measures, prints and writes."""
    rows: dict[str, list[Took]] = {}
    for turn in range(repeats + 1):  # the first fills the file system's cache
        for name, code in COMMANDS.items():
            _keep(rows, name, _process(code)[0], turn)
        for name in LIBRARIES:
            _keep(rows, f"costs: {name}", _process(f"import {name}")[0], turn)
        for name, took in json.loads(_process(STEPS)[1]).items():
            _keep(rows, f"first capture: {name}", Took(*took), turn)
    medians = {name: Took(*map(statistics.median, zip(*took, strict=True)))._asdict() for name, took in rows.items()}
    save("startup", {"repeats": repeats, "seconds": medians}, [])
    for name, took in medians.items():
        print(f"{took['clock']:8.2f} s  {took['processor']:8.2f} s of the processor  {name}")


def _keep(rows: dict[str, list[Took]], name: str, took: Took, turn: int) -> None:
    if turn:
        rows.setdefault(name, []).append(took)


def _process(code: str) -> tuple[Took, str]:
    """What a fresh interpreter takes for this code, and what it prints."""
    before, began = os.times(), time.perf_counter()
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    after, seconds = os.times(), time.perf_counter() - began
    spent = after.children_user + after.children_system - before.children_user - before.children_system
    return Took(seconds, spent), told


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 3)
