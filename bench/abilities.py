"""How true are the other abilities? Scores the embedded organism on each of them; the table goes to docs/truth.md.

    python bench/abilities.py                # all: about 40,000 samples, a quarter of an hour on two idle cores
    python bench/abilities.py naming ...     # some; the others' rows stay as they were

Leans and rates have a bench of their own (`bench/truth.py`). Writes bench/results/abilities.json, the table, and its
headlines in the README. Exit code 1 where a mark is missed.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from _tables import write_tables
from scalex.truth import available, score_organism

RESULTS = Path(__file__).parent / "results" / "abilities.json"
OUT = Path("runs/score-abilities")


def main(names: list[str]) -> int:
    """Scores each of the named abilities, all where none is named; returns the exit code."""
    held: dict[str, list[dict[str, Any]]] = json.loads(RESULTS.read_text("utf-8")) if RESULTS.exists() else {}
    for name in names or list(available()):
        held[name] = [mark.row() for mark in score_organism(None, OUT, only=[name])]
        RESULTS.write_text(json.dumps(dict(sorted(held.items())), indent=1) + "\n", encoding="utf-8")
    rows = [row for name in sorted(held) for row in held[name]]
    print(write_tables("abilities", {"embedded": rows}))
    return int(not all(row["ok"] for row in rows))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
