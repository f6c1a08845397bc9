"""The short benchmarks one after the other, and one table of all marks: a quarter of an hour on two cores.

    make bench

What takes longer is not run but shown as it was last measured, with its date: bench/truth.py, bench/abilities.py,
bench/efficiency.py, bench/nearest.py, and the largest sizes of bench/speed.py and bench/size.py.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from _results import RESULTS

HERE = Path(__file__).parent
SHORT = [
    ["startup.py"],
    ["speed.py", "--size", "organism"],
    ["speed.py", "--size", "sd15", "--repeats", "2"],
    ["overhead.py"],
    ["workers.py"],
    ["size.py", "--most", "100000"],
]


def main() -> int:
    """Runs and prints; returns the exit code: 1 where a script broke, or a mark is missed."""
    began, broken = time.time(), []
    for script, *options in SHORT:
        print(f"\n== bench/{script} {' '.join(options)}", flush=True)
        code = subprocess.run([sys.executable, str(HERE / script), *options], check=False).returncode
        broken += [script] if code not in (0, 1) else []  # 1 says that a mark is missed
    rows = list(_rows())
    print(f"\n{'':7}{'measured':11} {'value':>10} {'mark':8} name")
    for day, row in rows:
        said = "ok" if row["ok"] else "MISSED"
        print(f"{said:7}{day:11} {row['value']:>10.4g} {row['mark'] or '':8} {row['name']}")
    missed = sum(not row["ok"] for _, row in rows)
    print(f"\n{len(rows)} marks, {missed} missed; {time.time() - began:.0f} s")
    if broken:
        print(f"broken: {', '.join(broken)}")
    return int(bool(broken or missed))


def _rows() -> Iterator[tuple[str, dict[str, Any]]]:
    """The day, and each figure that has a mark, its name after the file's (and an organism's)."""
    for file in sorted(RESULTS.glob("*.json")):
        told = json.loads(file.read_text(encoding="utf-8"))
        for title, day, rows in _groups(told):
            for row in rows:
                if isinstance(row, dict) and row.get("mark"):
                    own = row["name"].startswith(file.stem)
                    yield day[:10], {**row, "name": row["name"] if own else f"{file.stem}{title}: {row['name']}"}


def _groups(told: dict[str, Any], title: str = "") -> Iterator[tuple[str, str, list[Any]]]:
    """Lists of figures, with what they are of, and the day."""
    if "marks" in told:
        yield title, str(told.get("date", "")), told["marks"]
        return
    for name, part in told.items():
        if isinstance(part, list):
            yield f"{title}, {name}", "", part
        elif isinstance(part, dict):
            yield from _groups(part, f"{title}, {name}")


if __name__ == "__main__":
    sys.exit(main())
